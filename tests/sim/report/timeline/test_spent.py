"""The stacked strip is the stages account over time: by hand, and summed up; the margin sums to 100 %."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_traces import record

from sim.report.files import stage_notes
from sim.report.palette import CATEGORY_COLOURS
from sim.report.timeline.spent import STACKED, spent_in, spent_is_clearer
from sim.results.accounts import CATEGORIES
from sim.results.stages import spent_over_time, stages_ns
from sim.run.simulate import simulate_scenario
from sim.scenario.load import load_scenario


def shares(spent, stage, start_ns):
    """Return category -> share of the bin that begins at `start_ns`."""
    here = (spent.stage == stage) & (spent.start_ns == start_ns)
    names = [STACKED[code] for code in spent.category[here].tolist()]
    return dict(zip(names, spent.height[here].tolist(), strict=True))


def test_a_pass_is_a_column_of_what_it_spends_its_time_on(every_stream):
    """F: 1 ms of attention, 1 ms of TP, then 1 ms of which both ranks compute 0.3 ms for others, 0.3 ms on the mean."""
    spent = spent_in(every_stream, (0, 7_500_001), [0, 1], lane=0, width_px=1000)
    column = shares(spent, 0, 0)
    assert sum(column.values()) == pytest.approx(1)
    assert column["attention"] == pytest.approx(1 / 3)
    assert column["foreign"] == pytest.approx(0.1)
    assert column["stalled"] == pytest.approx(0.7 / 3)
    assert column["tp"] + column["latency"] == pytest.approx(1 / 3)
    assert shares(spent, 0, 3_000_000) == {"expert": 1}
    assert shares(spent, 0, 6_500_000) == {"idle": 1}


def test_every_stage_has_one_strip_without_holes(every_stream):
    """The cells of a bin fill its height, and the bins of a stage fill the window."""
    window_ns = 500_000, 6_200_000
    spent = spent_in(every_stream, window_ns, [0, 1], lane=0, width_px=1000)
    for stage in (0, 1):
        bins = {}
        for i in np.flatnonzero(spent.stage == stage):
            bins.setdefault((int(spent.start_ns[i]), int(spent.end_ns[i])), []).append(spent.height[i])
        edges = sorted(bins)
        assert (edges[0][0], edges[-1][1]) == window_ns
        assert all(a[1] == b[0] for a, b in pairwise(edges))
        assert [sum(heights) for heights in bins.values()] == pytest.approx([1.0] * len(bins))


def test_bins_are_as_wide_as_can_be_seen():
    """100 passes of 10 ns in 60 pixels: ten bins."""
    rows = [("pass", "F", at, at + 10) for at in range(0, 1000, 10)]
    spent = spent_in(record(rows), (0, 1000), [0], lane=0, width_px=60)
    assert np.unique(spent.start_ns).tolist() == list(range(0, 1000, 100))


@pytest.mark.parametrize("schedule", ["1f1b", "dualpipe"])
def test_bins_sum_to_the_account_of_the_stages(schedule):
    """Of foreign work, transfers on streams and overlapping passes; each bin sums to its length."""
    changes = ["claims=[]", "alternatives=[]", "rivals=[]", "workload.microbatches=8", "cluster.num_nodes=4"]
    changes += ["parallel.strategy=EP32_TP8_PP4", f"schedule.kind={schedule}"]
    trace = simulate_scenario(load_scenario("ep64_tp16_pp4_training", overrides=changes)).run.trace
    edges = np.unique(np.linspace(trace.start_ns, trace.end_ns, 38).astype(np.int64))
    for stage, account in enumerate(stages_ns(trace)):
        spent = spent_over_time(trace, stage, 0, edges)
        assert sum(spent.values()) == pytest.approx(np.diff(edges))
        assert {category: bins.sum() for category, bins in spent.items()} == pytest.approx(account, abs=2)


def test_the_strip_replaces_what_is_too_narrow_to_be_read(every_stream, one_pass):
    """Kernels of 1 ms: 133 pixels of a thousand, 2.7 of twenty; without kernels there is nothing to stack."""
    window_ns = 0, 7_500_001
    assert not spent_is_clearer(every_stream, window_ns, 1000, lane=0)
    assert spent_is_clearer(every_stream, window_ns, 20, lane=0)
    assert not spent_is_clearer(one_pass, (0, 1), 20, lane=0)


@given(st.lists(st.integers(0, 10**9), min_size=len(CATEGORIES), max_size=len(CATEGORIES)).filter(any))
def test_the_margin_sums_to_100_percent(times):
    (note,) = stage_notes([dict(zip(CATEGORIES, times, strict=True))])
    tenths = [round(10 * float(part.split()[1])) for part in note.split(", ")]
    assert sum(tenths) == 1000
    assert note.startswith("compute ")
    assert note.split(", ")[-1].startswith("idle ")


def test_every_category_has_a_colour_and_a_place_in_the_strip():
    assert set(CATEGORY_COLOURS) == set(CATEGORIES) == set(STACKED)
