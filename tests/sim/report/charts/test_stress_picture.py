"""The picture of a stress test: what it must not hide, and the odd ones that must be drawn all the same."""

from pathlib import Path

import matplotlib.figure
import pytest

from sim.report.charts.stress import draw_stress
from sim.studies.stress.summary import FAMILIES


def row(skew, remedy, *, fits=True, step_s=1e-3):
    """Return what the picture reads of a row."""
    return {
        "skew": skew, "remedy": remedy, "step_time_s": step_s, "useful_tokens_per_s": 1e6, "lost_fraction": 0.0,
        "imbalance_max_over_mean": 2.0, "imbalance_bound_max_over_mean": 1.5,
        "fits": fits, "parts_s": dict.fromkeys(FAMILIES, 1e-4),
    }  # fmt: skip


def data_of(rows, remedies=("nothing",)):
    """Return the JSON of a stress test."""
    return {
        "scenario": "small", "routing": "zipf", "conclusion": ["Said.", "Said again."],
        "remedies": [{"name": name, "plan": "outdated" if "outdated" in name else None} for name in remedies],
        "rows": rows, "expert_tokens": {"skew": 1.0, "tokens": [[3, 1], [2, 2]]},
    }  # fmt: skip


@pytest.fixture
def drawn(monkeypatch, tmp_path: Path):
    """Draw, and return the figure that was saved."""
    saved: list[matplotlib.figure.Figure] = []
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda figure, *_, **__: saved.append(figure))

    def draw(data) -> matplotlib.figure.Figure:
        draw_stress(data, tmp_path / "stress.png")
        return saved[-1]

    return draw


def texts(figure) -> list[str]:
    """Return all texts of a figure's legends and panels."""
    legends = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return legends + [text.get_text().strip() for panel in figure.axes for text in panel.texts]


def test_what_does_not_fit_is_marked(drawn):
    """At its points, on its bar and in the legend; nothing is where all fit."""
    said = texts(drawn(data_of([row(0, "nothing"), row(1, "nothing", fits=False)])))
    assert "does not fit into memory" in said
    assert "nothing  × does not fit" in said
    assert not any("not fit" in text for text in texts(drawn(data_of([row(0, "nothing"), row(1, "nothing")]))))


def test_remedies_are_named_where_they_are_drawn(drawn):
    said = texts(drawn(data_of([row(1, name) for name in ("nothing", "greedy")], ("nothing", "greedy"))))
    assert said.count("greedy") == 2  # in the legend and on its bar


def test_an_outdated_plan_has_the_colour_of_its_remedy_and_a_dashed_line(drawn):
    names = ("nothing", "EPLB", "EPLB, outdated plan", "greedy")
    panel = drawn(data_of([row(1, name) for name in names], names)).axes[0]
    looks = {line.get_label(): (line.get_color(), line.get_linestyle()) for line in panel.lines}
    assert looks["EPLB"][0] == looks["EPLB, outdated plan"][0] != looks["greedy"][0]
    assert [looks[name][1] for name in names] == ["-", "-", "--", "-"]


def test_four_panels_answer_in_words(drawn):
    titles = [panel.get_title(loc="left").partition("?")[0] for panel in drawn(data_of([row(1, "nothing")])).axes]
    assert titles == ["how fast", "at what loss", "why", "where"]


def test_a_panel_of_nothing_says_so(drawn):
    assert texts(drawn(data_of([row(1, "nothing")]))).count("none anywhere") == 1  # dropped or rerouted


@pytest.mark.parametrize("rows", [[], [row(0, "nothing", step_s=None)]], ids=["no rows", "nothing ran"])
def test_a_test_of_which_nothing_ran_is_drawn(drawn, rows):
    assert len(drawn(data_of(rows)).axes) == 4
