"""Several runs on one axis: every pass of the window is one bar, in the line of its stage, in its colour."""

import re

import pytest
from report_traces import make_trace

from sim.engine.recorder import Recorder
from sim.errors import InvalidValueError
from sim.report.palette import PASS_KIND_COLOURS
from sim.report.timeline.runs import ShownRun, draw_runs


def pipeline(num_stages, *, passes=3, length=1000):
    """Return a run in which stage s begins s passes later, all passes of one length; a B follows each F."""
    recorder = Recorder()
    for stage in range(num_stages):
        for number in range(passes):
            for half, kind in enumerate("FB"):
                start = (stage + 2 * number + half) * length
                place = {"stage": stage, "lane": 0, "stream": "pass", "kind": kind, "released_by": -1}
                recorder.add(**place, microbatch=number, chunk=0, start_ns=start, end_ns=start + length)
    return make_trace(recorder, num_stages=num_stages)


def drawn(path):
    """Return the groups of bars of an SVG: name -> their paths."""
    text = path.read_text("utf-8")
    groups = {}
    for match in re.finditer(r'<g id="(moesim-run:[^"]*)">(.*?)</g>\s*(?=<g id|</g>)', text, re.DOTALL):
        groups.setdefault(match[1], []).extend(re.findall(r"<path[^>]*>", match[2]))
    return groups


@pytest.mark.parametrize("num_stages", [1, 4, 64])
def test_every_pass_is_a_bar(tmp_path, num_stages):
    """As many bars as passes, for up to 64 stages."""
    draw_runs([ShownRun(name="a", trace=pipeline(num_stages))], tmp_path / "a.svg", title="t")
    assert len(drawn(tmp_path / "a.svg")["moesim-run:a"]) == 6 * num_stages


def test_a_window_shows_the_passes_that_touch_it(tmp_path):
    run = ShownRun(name="a", trace=pipeline(2))
    draw_runs([run], tmp_path / "a.svg", title="t", window_ns=(1500, 2500))
    assert len(drawn(tmp_path / "a.svg")["moesim-run:a"]) == 4


def test_runs_share_an_axis(tmp_path):
    """The bars of a run of twice the length are twice as wide."""
    runs = [ShownRun(name="a", trace=pipeline(1)), ShownRun(name="b", trace=pipeline(1, length=2000))]
    draw_runs(runs, tmp_path / "a.svg", title="t")
    groups = drawn(tmp_path / "a.svg")
    widths = {}
    for name in "ab":
        xs = [float(x) for x in re.findall(r"[ML] ([\d.]+) ", groups[f"moesim-run:{name}"][0])]
        widths[name] = max(xs) - min(xs)
    assert widths["b"] == pytest.approx(2 * widths["a"], rel=0.02)


def test_the_colour_is_the_kind_where_that_is_chosen(tmp_path):
    draw_runs([ShownRun(name="a", trace=pipeline(2))], tmp_path / "a.svg", title="t", colour="kind")
    text = " ".join(drawn(tmp_path / "a.svg")["moesim-run:a"])
    assert set(re.findall(r"fill: (#\w{6})", text)) == {PASS_KIND_COLOURS["F"], PASS_KIND_COLOURS["B"]}


def test_what_cannot_be_drawn_is_refused(tmp_path):
    run = ShownRun(name="a", trace=pipeline(1))
    with pytest.raises(InvalidValueError, match="colour must be one of microbatch, kind"):
        draw_runs([run], tmp_path / "a.svg", title="t", colour="hue")
    with pytest.raises(InvalidValueError, match="window must end after it starts"):
        draw_runs([run], tmp_path / "a.svg", title="t", window_ns=(5, 5))


def test_a_long_name_is_cut_to_two_lines(tmp_path):
    name = "a name of a run that is far too long for the margin at the left and goes on"
    draw_runs([ShownRun(name=name, trace=pipeline(1))], tmp_path / "a.svg", title="t")
    assert "…" in (tmp_path / "a.svg").read_text("utf-8")
