"""What `moesim validate` prints and draws."""

import io

import pytest

from sim.report.charts.ranking import draw_rankings
from sim.report.charts.validation import draw_validation
from sim.report.console.tables import make_console
from sim.report.console.validation import print_validation

ROW = {
    "suite": "wires", "case": "ring", "system": "h100", "set": {"workload.bytes": "1 MiB"},
    "metric": "step_time_s", "unit": "s", "published": 0.001, "modelled": 0.0011, "error_pct": 10.0,
    "source": "a paper, table 1", "tolerance_pct": 15.0, "within": True, "at_most": False, "note": "bytes are logical",
}  # fmt: skip
FAILED = ROW | {"case": "tree", "modelled": None, "error_pct": None, "within": False, "problem": "it never ends"}
APART = ROW | {"system": "a100", "modelled": 0.002, "error_pct": 100.0, "within": False, "reason": "unknown hardware"}
SUMMARY = {
    "median_pct": 10.0,
    "signed_median_pct": -7.0,
    "p90_pct": 10.0,
    "worst_pct": 10.0,
    "num_rows": 2,
    "num_within": 1,
}
SUITE = {
    "title": "Collectives", **SUMMARY, "num_fitted_constants": 3, "systems": {"h100": SUMMARY},
    "left_out": {"h100": {"median_pct": 21.0, "p90_pct": 32.0, "fitted": SUMMARY}}, "skipped": ["cluster.yaml"],
}  # fmt: skip
DATA = {"rows": [ROW, FAILED], "apart": [APART], "suites": {"wires": SUITE}, "over_all": SUMMARY}


def printed(data):
    """Return what is printed, with one space for several."""
    target = io.StringIO()
    print_validation(data, make_console(target), written={"picture": "out/validate.png"})
    return " ".join(target.getvalue().split())


@pytest.mark.parametrize(
    "words",
    [
        "WIRES Collectives · 1 of 2 within their tolerance",
        "ring, bytes 1 MiB step_time_s 1 ms 1.1 ms +10.0 % 15.0 % ✓",
        "tree, bytes 1 MiB step_time_s 1 ms no value – 15.0 % ✗",
        "✗ tree, bytes 1 MiB: it never ends",
        "WIRES: ERRORS of |error| · 3 fitted constants",
        "h100 10.0 % -7.00 % 10.0 % 10.0 % 2 1",
        "h100 21.0 % 10.0 % 32.0 % 10.0 %",
        "ring, bytes 1 MiB: unknown hardware",
        "ring, tree: a paper, table 1",
        "ring, tree: bytes are logical",
        "cluster.yaml",
        "out/validate.png",
    ],
)
def test_each_part_is_printed(words):
    """Figures, problems, errors per system, without a table, apart with their reason, sources, notes, files."""
    assert words in printed(DATA)


def test_several_suites_have_a_line_over_all():
    """One suite says it in its own table."""
    both = DATA | {"suites": {"wires": SUITE, "other": SUITE | {"systems": {}}}}
    assert "ALL SUITES" in printed(both)
    assert "ALL SUITES" not in printed(DATA)


@pytest.mark.parametrize("data", [DATA, DATA | {"rows": [], "apart": []}], ids=["figures", "none"])
def test_the_picture_is_drawn_whatever_there_is_to_show(tmp_path, data):
    """A figure without a modelled value is left out; the same bytes each time."""
    for name in ("a.png", "b.png"):
        draw_validation(data, tmp_path / name, title="Validation")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


GROUP = {
    "num": 3, "num_pairs": 3, "kendall_tau": 1 / 3, "kendall_tau_all": 1 / 3, "regret_pct": 12.5, "median_pct": 9.0,
    "suite": "wires", "system": "h100", "best_measured": "TP8", "best_modelled": "TP4",
    "measured_cost": [1.0, 1.125, 2.0], "modelled_cost": [1.5, 1.0, 1.8],
}  # fmt: skip
RANKING = {
    "num_groups": 1, "median_tau": 1 / 3, "worst_tau": 1 / 3, "median_regret_pct": 12.5, "worst_regret_pct": 12.5,
}  # fmt: skip
RANKED = DATA | {"suites": {"wires": SUITE | {"ranking": RANKING}}, "groups": {"one node": GROUP}}


def test_the_order_of_strategies_is_printed_with_tau_and_regret():
    """And the strategy that is modelled as best."""
    said = printed(RANKED)
    assert "WIRES: ORDER OF STRATEGIES 1 group · median tau 0.33 · regret 12.5 %, at worst 12.5 %" in said
    assert "one node 3 0.33 0.33 12.5 % TP4" in said
    assert "–" in printed(RANKED | {"groups": {"one node": GROUP | {"kendall_tau": None}}})


def test_the_picture_of_an_order_is_written(tmp_path):
    """A panel for a group."""
    draw_rankings(RANKED["groups"], tmp_path / "ranking.png")
    assert (tmp_path / "ranking.png").read_bytes().startswith(b"\x89PNG")


def test_halves_stand_below_their_system_and_the_worst_rows_have_their_time():
    """Shares of the step by category, the largest first; cases that run by name are named."""
    half = SUMMARY | {"num_rows": 1}
    suite = SUITE | {"systems": {"h100": SUMMARY | {"fitted": half, "scored": half | {"num_rows": 0}}}}
    worst = ROW | {"parts_s": {"attention": 0.0003, "dense_ffn": 0.0008}}
    said = printed(DATA | {"suites": {"wires": suite}, "worst": [worst], "by_name": {"training": ["long"]}})
    assert "h100 10.0 % -7.00 % 10.0 % 10.0 % 2 1 fitted 10.0 % -7.00 % 10.0 % 10.0 % 1 1" in said
    assert "scored" not in said
    assert "dense ffn 73 %, attention 27 %" in said
    assert "training: long" in said


def test_of_many_rows_the_worst_of_each_system_are_printed():
    """Sixty-one rows of two systems: three of each."""
    rows = [
        ROW | {"case": f"c{i}", "name": f"n{i}", "system": f"s{i % 2}", "error_pct": float(i), "published": 1.0 + i}
        for i in range(61)
    ]
    said = printed(DATA | {"rows": rows, "apart": []})
    assert "the 3 worst of each system are shown" in said
    shown = [i for i in range(61) if f"c{i}: n{i} " in said]
    assert shown == [55, 56, 57, 58, 59, 60]
