"""The picture read back: every span is a bar where it belongs, and the same run gives the same bytes."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from sim.engine.trace import STREAMS
from sim.errors import InvalidValueError
from sim.report.timeline.bars import default_window_ns, select_bars
from sim.report.timeline.picture import count_bars, draw_timeline
from sim.report.timeline.spent import spent_in
from sim.run.simulate import simulate_scenario
from sim.scenario.load import load_scenario

SVG = "{http://www.w3.org/2000/svg}"


def groups_of(path):
    """Return group name -> elements that draw, definitions left out."""
    found = {}
    for group in ET.parse(path).getroot().iter(f"{SVG}g"):
        if group.get("id", "").startswith("moesim"):
            assert group.get("id") not in found or group.get("id") == "moesim-legend"
            defined = {id(item) for defs in group.iter(f"{SVG}defs") for item in defs.iter()}
            drawn = [item for tag in ("path", "use") for item in group.iter(f"{SVG}{tag}")]
            found[group.get("id")] = [item for item in drawn if id(item) not in defined]
    return found


def drawn_bars(path):
    groups = groups_of(path)
    return {stream: len(groups.get(f"moesim:{stream}", [])) for stream in STREAMS}


WINDOWS = [None, (0, 7_500_001), (1_500_000, 3_100_000), (2_150_000, 2_160_000), (6_400_000, 90_000_000)]


@pytest.mark.parametrize("window_ns", WINDOWS)
def test_each_span_in_the_window_is_one_bar(every_stream, tmp_path, window_ns):
    draw_timeline(every_stream, tmp_path / "t.svg", title="t", window_ns=window_ns)
    low, high = window_ns or (0, 7_500_001)
    start, end = every_stream.ints("start_ns"), every_stream.ints("end_ns")
    touching = every_stream["stream"][(start < high) & (end > low)].tolist()
    expected = {stream: touching.count(stream) for stream in STREAMS}
    assert drawn_bars(tmp_path / "t.svg") == expected == count_bars(every_stream, window_ns)


def test_kernels_thinner_than_a_pixel_are_a_strip_and_no_barcode(tmp_path):
    """6,000 kernels of 0.4 us, one in 1.5 us: a single cell, of 24 % of the height of the strip."""
    from report_traces import record

    rows = [("pass", "F", 0, 10_000_000)]
    rows += [("compute", "expert", at, at + 400) for at in range(0, 9_000_000, 1_500)]
    draw_timeline(record(rows), tmp_path / "t.svg", title="t")
    assert drawn_bars(tmp_path / "t.svg") == {stream: int(stream == "pass") for stream in STREAMS}
    assert len(groups_of(tmp_path / "t.svg")["moesim-spent:expert"]) == 1
    spent = spent_in(record(rows), (0, 10_000_000), [0], lane=0, width_px=1000)
    assert dict(zip(spent.categories, spent.height.tolist(), strict=True)) == pytest.approx(
        {"expert": 0.24, "stalled": 0.76}
    )


def test_a_single_bar_is_one_element(one_pass, tmp_path):
    draw_timeline(one_pass, tmp_path / "t.svg", title="t")
    assert drawn_bars(tmp_path / "t.svg")["pass"] == 1


def test_a_bar_spans_its_share_of_the_width(every_stream, tmp_path):
    draw_timeline(every_stream, tmp_path / "t.svg", title="t", window_ns=(0, 6_000_000))
    groups = groups_of(tmp_path / "t.svg")
    ground = extent(groups["moesim-idle"][0])
    attention = extent(groups["moesim:compute"][0])
    scale = (ground[1] - ground[0]) / 6_000_000
    assert attention[0] == pytest.approx(ground[0], abs=0.01)
    assert attention[1] - attention[0] == pytest.approx(1_000_000 * scale, abs=0.01)


def extent(element, axis=0):
    """Return the least and the most of the coordinates."""
    x = [float(pair[axis]) for pair in re.findall(r"([-\d.]+) ([-\d.]+)", element.get("d"))]
    return min(x), max(x)


def test_transfers_at_one_time_share_the_height_of_their_strip(every_stream, tmp_path):
    draw_timeline(every_stream, tmp_path / "t.svg", title="t")
    upper, lower = (extent(bar, axis=1) for bar in groups_of(tmp_path / "t.svg")["moesim:comm"][:2])
    strip_pt = 11 * 72 / 100
    assert upper[1] == pytest.approx(lower[0], abs=0.01)
    assert [b - a for a, b in (upper, lower)] == pytest.approx([strip_pt / 2] * 2, abs=0.01)


def test_foreign_work_lies_at_the_height_of_its_rank(every_stream):
    bars = select_bars(every_stream, "foreign", (0, 10_000_000))
    assert bars.top.tolist() == [0.0, 0.5, 0.0, 0.5]
    assert bars.height.tolist() == [0.5] * 4


def test_stalls_are_drawn_apart_from_the_streams(every_stream, tmp_path):
    draw_timeline(every_stream, tmp_path / "t.svg", title="t")
    assert len(groups_of(tmp_path / "t.svg")["moesim-stalled"]) == 4  # foreign work divides each


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_the_same_run_gives_the_same_bytes(every_stream, tmp_path, suffix):
    paths = [tmp_path / f"{name}{suffix}" for name in ("a", "b")]
    for path in paths:
        draw_timeline(every_stream, path, title="t", subtitle="s", notes=["idle 1 %, stalled 2 %", "idle 0 %"])
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_settings_of_the_user_change_nothing(every_stream, tmp_path):
    import matplotlib as mpl

    draw_timeline(every_stream, tmp_path / "a.svg", title="t")
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9, "hatch.linewidth": 5, "savefig.dpi": 10}):
        draw_timeline(every_stream, tmp_path / "b.svg", title="t")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_the_image_is_90_pixels_per_stage_high(every_stream, one_pass, tmp_path):
    from PIL import Image

    sizes = []
    for name, trace in (("two", every_stream), ("one", one_pass)):
        draw_timeline(trace, tmp_path / f"{name}.png", title="t")
        with Image.open(tmp_path / f"{name}.png") as image:
            sizes.append(image.size)
    assert [width for width, _ in sizes] == [1600, 1600]
    assert abs(sizes[0][1] - sizes[1][1] - 90) <= 19


@pytest.mark.parametrize("name", ["t.gif", "t", "t.jpg"])
def test_another_suffix_is_refused_with_those_that_work(one_pass, tmp_path, name):
    with pytest.raises(InvalidValueError, match=r"\.png, \.svg or \.pdf"):
        draw_timeline(one_pass, tmp_path / name, title="t")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("key", "value"), [("lane", 1), ("lane", -1), ("window_ns", (5, 5)), ("window_ns", (5, 1))])
def test_what_the_run_does_not_have_is_refused(one_pass, tmp_path, key, value):
    with pytest.raises(InvalidValueError):
        draw_timeline(one_pass, tmp_path / "t.png", title="t", **{key: value})


def test_notes_must_be_one_per_stage(every_stream, tmp_path):
    with pytest.raises(ValueError, match="one for each stage"):
        draw_timeline(every_stream, tmp_path / "t.png", title="t", notes=["one"])


def test_an_empty_run_is_drawn(empty, tmp_path):
    draw_timeline(empty, tmp_path / "t.png", title="t")
    assert (tmp_path / "t.png").stat().st_size > 0


def test_a_title_is_neither_markup_nor_a_warning(one_pass, tmp_path):
    draw_timeline(one_pass, tmp_path / "t.png", title=r"$\frac{1} & <b> 流水线 _x", subtitle="$")


def test_a_long_run_is_shown_until_each_stage_has_ended_40_passes(long_run, tmp_path):
    assert default_window_ns(long_run) == (0, 41_000_000)
    draw_timeline(long_run, tmp_path / "t.svg", title="t")
    groups = groups_of(tmp_path / "t.svg")
    assert len(groups["moesim:pass"]) == 41 + 40
    assert len(groups["moesim-overview"]) == 200


def test_a_short_run_is_shown_whole(every_stream):
    assert default_window_ns(every_stream) == (0, 7_500_001)


def test_a_close_up_repeats_the_bars_of_its_window(tmp_path):
    from report_traces import record

    rows = [
        (stream, kind, at, at + 10)
        for at in range(0, 600, 10)
        for stream, kind in (("pass", "F"), ("compute", "expert"))
    ]
    draw_timeline(record(rows), tmp_path / "t.svg", title="t")
    groups = groups_of(tmp_path / "t.svg")
    assert len(groups["moesim:pass"]) == 60
    assert len(groups["moesim-closeup:pass"]) == len(groups["moesim-closeup:compute"]) == 2


@pytest.mark.parametrize(("strategy", "num_stages"), [("EP32_TP8_PP4", 2), ("EP8_TP8_PP4_SP", 1)])
def test_a_close_up_shows_two_stages_and_arrows_where_stages_compute_for_each_other(tmp_path, strategy, num_stages):
    """Tokens of a layer go to another stage after their dispatch, and come back to the combine behind it."""
    convention, sp = ("spanning", "false") if num_stages == 2 else ("megatron", "true")
    changes = [f"parallel.strategy={strategy}", f"parallel.convention={convention}", f"parallel.sp={sp}"]
    changes += ["claims=[]", "alternatives=[]", "rivals=[]", "cluster.num_nodes=4", "workload.microbatches=8"]
    trace = simulate_scenario(load_scenario("ep64_tp16_pp4_training", overrides=changes)).run.trace
    draw_timeline(trace, tmp_path / "t.svg", title="t")
    groups = groups_of(tmp_path / "t.svg")
    assert len(groups["moesim-closeup-idle"]) == num_stages
    assert ("moesim-arrow:there" in groups) == ("moesim-arrow:back" in groups) == (num_stages == 2)
    if num_stages == 2:
        there, back = (extent(groups[f"moesim-arrow:{way}"][0]) for way in ("there", "back"))
        assert there[0] < back[1]


def test_another_lane_is_another_picture(long_run):
    rows = select_bars(long_run, "pass", (0, 10_000_000), lane=1).row
    assert (long_run.ints("lane")[rows] == 1).all()
    assert count_bars(long_run, (0, 10_000_000), lane=1)["pass"] == 19


@pytest.mark.slow
def test_80_000_spans_are_drawn_as_few_artists(tmp_path, monkeypatch):
    """One artist for all spans of a strip: an artist for each span takes minutes."""
    from matplotlib.artist import Artist
    from report_traces import record

    trace = record(
        [("pass", "F", 0, 80_000_000)] + [("foreign", "expert", at, at + 900) for at in range(0, 80_000_000, 1_000)]
    )
    trace = replace(trace, columns=trace.columns | {"rank": np.zeros(len(trace), dtype=np.int64)})
    assert count_bars(trace)["foreign"] == 80_000
    made, make = [], Artist.__init__
    monkeypatch.setattr(Artist, "__init__", lambda artist: (made.append(artist), make(artist))[1])
    draw_timeline(trace, tmp_path / "t.png", title="t")
    assert len(made) < 1_000


def test_matplotlib_is_imported_by_pictures_alone():
    code = (
        "import sys, sim.report.console.run, sim.report.perfetto, sim.report.timeline.bars, sim.report.files; "
        "sys.exit('matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
