"""Every schedule of the table: every pass once, no deadlock, memory within its limit, never better than its work."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schedule_runs import durations, make, max_in_flight, run_order, split_step

from sim.errors import InvalidValueError
from workloads.schedules import (
    CHUNK_ORDERS,
    CUSTOM,
    SCHEDULES,
    ChunkLayout,
    FixedOrder,
    Pair,
    Pass,
    Pipeline,
    ScheduleKind,
    StageTimes,
    build_pipeline_order,
    build_schedule,
    schedule_kind_of,
    schedule_names,
)
from workloads.schedules.list_scheduler import ListScheduler, Rule
from workloads.schedules.schedule_search import longest_span_ns

EVERY_SCHEDULE = pytest.mark.parametrize("kind", SCHEDULES)
FEW = settings(max_examples=30)  # of each of the table's schedules
STAGES, MICROBATCHES, CHUNKS = st.integers(1, 7), st.integers(1, 16), st.integers(1, 4)
TIMES = st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(0, 20))
TIMES_OR_NONE = st.tuples(*[st.sampled_from([0, 0, 1, 2, 20])] * 3)


def legal(kind, p, m):
    """Return a pipeline that the schedule takes, near the one drawn."""
    p = p + p % 2 if SCHEDULES[kind].layout_on(2).num_copies == 2 else p
    return (p, 2 * p + 2 * (m // 4)) if SCHEDULES[kind].pairs else (p, m)


def drain(schedule: FixedOrder, num_stages: int) -> list[list[Pass]]:
    """Ask until nothing is left."""
    return [list(iter(lambda stage=stage: schedule.next_pass(stage, 0), None)) for stage in range(num_stages)]


# --- every schedule ------------------------------------------------------------------------------------------------


@EVERY_SCHEDULE
@FEW
@given(p=STAGES, m=MICROBATCHES, v=CHUNKS)
def test_every_pass_runs_once_on_every_stage(kind, p, m, v):
    p, m = legal(kind, p, m)
    pipeline_order = make(kind, p, m, v=v)
    copies, chunks = SCHEDULES[kind].layout_on(2).num_copies, pipeline_order.layout.num_chunks
    assert len(pipeline_order.order) == p
    for steps in pipeline_order.order:
        counted = Counter(pass_ for step in steps for pass_ in split_step(step))
        assert set(counted.values()) == {1}
        forward = {(pass_.microbatch, pass_.chunk) for pass_ in counted if pass_.kind == "F"}
        assert {pass_.microbatch for pass_ in counted} == set(range(m))
        assert len(forward) == m * chunks // copies
        assert forward == {(pass_.microbatch, pass_.chunk) for pass_ in counted if pass_.kind == "B"}
        weights = {(pass_.microbatch, pass_.chunk) for pass_ in counted if pass_.kind == "W"}
        assert weights <= forward
        if not SCHEDULES[kind].splits_backward:
            assert not weights
        elif not SCHEDULES[kind].pairs:
            assert weights == forward


@EVERY_SCHEDULE
@FEW
@given(p=STAGES, m=MICROBATCHES, v=CHUNKS, times=TIMES, hop=st.integers(0, 5))
def test_a_schedule_never_deadlocks_and_never_beats_its_own_work(kind, *, p, m, v, times, hop):
    """The order is run with times that it was not made for, too."""
    p, m = legal(kind, p, m)
    pipeline_order = make(kind, p, m, v=v)
    spans = run_order(kind, pipeline_order.order, durations(pipeline_order.order, times), v=v, hop=hop)
    of_chunks = sum(times) * pipeline_order.layout.num_chunks / SCHEDULES[kind].layout_on(2).num_copies
    end = max(stage[-1][1] for stage in spans)
    assert end >= m * of_chunks
    assert end >= p * (times[0] + times[1]) + 2 * (p - 1) * hop
    for stage in spans:
        assert all(before[1] <= after[0] for before, after in pairwise(stage))


@EVERY_SCHEDULE
@FEW
@given(p=STAGES, m=MICROBATCHES, v=CHUNKS, times=TIMES, hop=st.integers(0, 5))
def test_activations_are_never_negative_and_stay_within_the_stated_number(kind, *, p, m, v, times, hop):
    p, m = legal(kind, p, m)
    pipeline_order = make(kind, p, m, v=v, times=times, hop=hop, share=1.0)
    bound = SCHEDULES[kind].max_in_flight(Pipeline(num_stages=p, num_microbatches=m, num_chunks=v))
    assert max_in_flight(pipeline_order.order, weight_share=1.0) <= bound + 1e-6


@EVERY_SCHEDULE
@pytest.mark.parametrize("p", [2, 3, 8, 9, 16])
@pytest.mark.parametrize("v", [1, 2])
def test_a_long_run_of_equal_passes_reaches_the_stated_number_of_activations(kind, p, v):
    """The stated number is what memory must be planned for, and not merely a bound."""
    p, m = legal(kind, p, 4 * p)
    bound = SCHEDULES[kind].max_in_flight(Pipeline(num_stages=p, num_microbatches=m, num_chunks=v))
    assert max_in_flight(make(kind, p, m, v=v, times=(2, 2, 2), share=1.0).order, weight_share=1.0) == bound


@pytest.mark.parametrize("kind", ["zb_1p", "zb_2p", "zb_v"])
@FEW
@given(p=STAGES, m=MICROBATCHES, times=TIMES, share=st.one_of(st.floats(0, 1), st.floats(1, 2), st.floats(1, 20)))
def test_automatic_schedules_keep_their_limit_for_any_share_of_w(kind, *, p, m, times, share):
    """A limit without room for F of each chunk and what B takes more is exceeded by no more than the latter."""
    limit, more = SCHEDULES[kind].max_in_flight(Pipeline(num_stages=p, num_microbatches=m)), max(0.0, share - 1)
    most = limit if SCHEDULES[kind].num_chunks + more <= limit else limit + more
    assert max_in_flight(make(kind, p, m, times=times, share=share).order, weight_share=share) <= most + 1e-6


@pytest.mark.parametrize("kind", ["zb_1p", "zb_2p", "zb_v"])
@FEW
@given(p=STAGES, m=MICROBATCHES, times=TIMES_OR_NONE, hop=st.integers(0, 1), share=st.floats(0, 2))
def test_automatic_schedules_take_passes_that_take_no_time(kind, *, p, m, times, hop, share):
    order = make(kind, p, m, times=times, hop=hop, share=share).order
    spans = run_order(kind, order, durations(order, times), hop=hop)
    assert [len(stage) for stage in spans] == [3 * m * SCHEDULES[kind].num_chunks] * p


def assert_no_longer_than_its_rivals(p, m, times, hop, share=0.4):
    """Hold ZB-1p against ZB-H1, and ZB-2p against ZB-1p and ZB-H2, by the longest span of the list executor."""
    spans = {}
    for kind in ("zb_h1", "zb_h2", "zb_1p", "zb_2p"):
        order = make(kind, p, m, times=times, hop=hop, share=share).order
        spans[kind] = max(
            stage[-1][1] - stage[0][0] for stage in run_order(kind, order, durations(order, times), hop=hop)
        )
    assert spans["zb_1p"] <= spans["zb_h1"]
    assert spans["zb_2p"] <= min(spans["zb_1p"], spans["zb_h2"])


@FEW
@given(p=STAGES, m=MICROBATCHES, times=TIMES_OR_NONE, hop=st.integers(0, 5), share=st.floats(0, 1))
def test_an_automatic_schedule_is_no_longer_than_a_delayed_one_of_its_memory(*, p, m, times, hop, share):
    assert_no_longer_than_its_rivals(p, m, times, hop, share)


@pytest.mark.parametrize(("p", "m"), [(16, 50), (32, 256), (64, 256)])
def test_nor_is_it_where_the_pipeline_is_long(p, m):
    """Few rules are simulated in full there; the times are those of a published case, in us."""
    assert_no_longer_than_its_rivals(p, m, (10402, 10248, 7698), 460)


@FEW
@given(p=st.integers(1, 5), m=st.integers(1, 40), times=TIMES, chunks=st.sampled_from([1, 2]), near=st.integers(-9, 9))
def test_a_run_is_abandoned_only_where_its_order_is_no_shorter(*, p, m, times, chunks, near):
    """The whole run is the oracle."""
    stage = StageTimes(forward_ns=times[0], backward_ns=times[1], weight_ns=times[2])
    pipeline = Pipeline(num_stages=p, num_microbatches=m, times=(stage,) * p)
    layout = ChunkLayout(kind="row" if chunks == 1 else "vee", num_stages=p, num_chunks=chunks)
    kinds = tuple((kind, chunk) for kind in "BF" for chunk in range(chunks))
    rule = Rule(priority=kinds, max_lead=(2 * p,) * p, min_gap=0.5)
    whole = ListScheduler(pipeline, layout, rule, max_in_flight=chunks * p)
    bound = whole.longest_span_ns + near
    bounded = ListScheduler(pipeline, layout, rule, max_in_flight=chunks * p, shorter_than_ns=bound)
    if bounded.is_abandoned:
        assert bound <= bounded.longest_span_ns <= whole.longest_span_ns
    else:
        assert bounded.order() == whole.order()


@EVERY_SCHEDULE
@FEW
@given(p=STAGES, m=MICROBATCHES)
def test_a_schedule_answers_with_its_list_and_then_with_nothing(kind, p, m):
    p, m = legal(kind, p, m)
    pipeline_order = make(kind, p, m)
    schedule = pipeline_order.schedule()
    assert drain(schedule, p) == pipeline_order.order
    assert schedule.next_pass(0, 10) is None


@pytest.mark.parametrize("kind", ["gpipe", "1f1b", "zb_h1", "zb_2p"])
@FEW
@given(p=STAGES, m=MICROBATCHES)
def test_forward_alone_streams_the_microbatches_in_order(kind, p, m):
    """(m + p - 1) F: the pipeline is filled once."""
    passes = drain(build_schedule(kind, num_stages=p, num_microbatches=m, forward=True), p)
    assert passes == [[Pass("F", i) for i in range(m)]] * p
    assert max(stage[-1][1] for stage in run_order(kind, passes, lambda *_: 3)) == 3 * (m + p - 1)


@EVERY_SCHEDULE
@FEW
@given(p=STAGES, m=MICROBATCHES, v=CHUNKS)
def test_forward_alone_of_any_schedule_ends(kind, p, m, v):
    p, m = legal(kind, p, m)
    pipeline_order = make(kind, p, m, v=v).forward()
    spans = run_order(kind, pipeline_order.order, lambda *_: 1, v=v)
    assert [len(stage) for stage in spans] == [
        m * pipeline_order.layout.num_chunks // SCHEDULES[kind].layout_on(2).num_copies
    ] * p


@EVERY_SCHEDULE
@FEW
@given(p=STAGES, m=MICROBATCHES, times=TIMES, factor=st.integers(2, 9))
def test_passes_k_times_as_long_end_k_times_as_late(kind, *, p, m, times, factor):
    p, m = legal(kind, p, m)
    order = make(kind, p, m).order
    slower = tuple(factor * time for time in times)
    spans, later = (run_order(kind, order, durations(order, each)) for each in (times, slower))
    assert later == [[(factor * start, factor * end) for start, end in stage] for stage in spans]


# --- shapes --------------------------------------------------------------------------------------------------------


@FEW
@given(p=STAGES, m=MICROBATCHES)
def test_1f1b_alternates_between_warm_up_and_drain(p, m):
    for stage, order in enumerate(make("1f1b", p, m).order):
        warm_up = min(m, p - stage - 1)
        kinds = "".join(pass_.kind for pass_ in order)
        assert kinds == "F" * warm_up + "FB" * (m - warm_up) + "B" * warm_up


@FEW
@given(p=STAGES, m=MICROBATCHES)
def test_interleaved_with_one_chunk_and_a_multiple_of_p_runs_as_long_as_1f1b(p, m):
    orders = [make(kind, p, m * p).order for kind in ("interleaved", "1f1b")]
    ends = [max(s[-1][1] for s in run_order("1f1b", order, durations(order, (3, 5, 0)))) for order in orders]
    assert ends[0] == ends[1]


@FEW
@given(p=STAGES, groups=st.integers(2, 4), v=CHUNKS)
def test_interleaving_keeps_the_activations_that_korthikanti_et_al_state(p, groups, v):
    """Korthikanti et al. 2022, section 4.2.3: p (1 + (p - 1) / (p v)) microbatches, for m a multiple of p over p."""
    pipeline = Pipeline(num_stages=p, num_microbatches=groups * p, num_chunks=v)
    assert SCHEDULES["interleaved"].max_in_flight(pipeline) / v == pytest.approx(p * (1 + (p - 1) / (p * v)))


@FEW
@given(
    p=st.integers(1, 5),
    m=st.integers(1, 60),
    chunks=st.sampled_from([1, 2]),
    draw=st.randoms(use_true_random=False),
    share=st.sampled_from([0.0, 0.4, 1.0]),
    hop=st.integers(0, 3),
)
def test_a_period_that_is_repeated_gives_what_simulating_it_gives(*, p, m, chunks, draw, share, hop):
    """The slow way, all passes simulated, is the oracle of the repeated one."""
    kinds = [(kind, chunk) for kind in "FB" for chunk in range(chunks)]
    draw.shuffle(kinds)
    rule = Rule(
        priority=tuple(kinds), max_lead=tuple(draw.randint(1, 2 * p) for _ in range(p)), min_gap=draw.choice([0.0, 0.7])
    )
    times = tuple(
        StageTimes(forward_ns=draw.randint(1, 4), backward_ns=draw.randint(1, 4), weight_ns=draw.randint(0, 4))
        for _ in range(p)
    )
    pipeline = Pipeline(num_stages=p, num_microbatches=m, times=times, hop_ns=hop, weight_share=share)
    layout = ChunkLayout(kind="row" if chunks == 1 else "vee", num_stages=p, num_chunks=chunks)
    quick, slow = (
        ListScheduler(pipeline, layout, rule, max_in_flight=chunks * p, repeats=repeats) for repeats in (True, False)
    )
    assert quick.order() == slow.order()
    assert quick.longest_span_ns == slow.longest_span_ns >= quick.max_work_ns


@pytest.mark.parametrize("kind", ["1f1b", "interleaved", "zb_h2", "zb_v", "v_min"])
@FEW
@given(p=STAGES, m=MICROBATCHES, times=TIMES, hop=st.integers(0, 5))
def test_the_longest_span_of_an_order_is_that_of_the_list_executor(kind, *, p, m, times, hop):
    """Apart from the factor of the chunks, which both share out."""
    pipeline_order = make(kind, p, m, v=2)
    chunks = pipeline_order.layout.num_chunks
    stage = StageTimes(forward_ns=times[0], backward_ns=times[1], weight_ns=times[2])
    pipeline = Pipeline(num_stages=p, num_microbatches=m, num_chunks=2, times=(stage,) * p, hop_ns=hop)

    def take(_, step):
        return times["FBW".index(step.kind)]

    spans = run_order(kind, pipeline_order.order, take, v=2, hop=hop * chunks)
    expected = max(of_stage[-1][1] - of_stage[0][0] for of_stage in spans)
    assert longest_span_ns(pipeline_order.order, pipeline, pipeline_order.layout) == expected


@pytest.mark.parametrize("kind", ["zb_v", "zb_1p", "zb_2p"])
def test_of_many_alike_microbatches_most_are_repeated_and_not_simulated(kind, monkeypatch):
    schedules = []

    def made(*args, **kwargs):
        schedules.append(ListScheduler(*args, **kwargs))
        return schedules[-1]

    monkeypatch.setattr("workloads.schedules.schedule_search.ListScheduler", made)
    pipeline_order = make(kind, 4, 2000)
    num_passes = sum(map(len, pipeline_order.order))
    assert all(schedule.num_simulated < num_passes / 10 for schedule in schedules)


# --- the table -----------------------------------------------------------------------------------------------------


def test_a_schedule_that_is_entered_in_the_table_alone_is_known_and_runs(monkeypatch):
    """The layout gives its number of chunks; the first line of its docstring is its summary."""

    def last_first(pipeline):
        """Last first: the backward passes in reverse.

        Nothing else of this text is shown.
        """
        numbers = range(pipeline.num_microbatches)
        passes = [Pass("F", i) for i in numbers] + [Pass("B", i) for i in reversed(numbers)]
        return [list(passes) for _ in range(pipeline.num_stages)]

    monkeypatch.setitem(SCHEDULES, "last_first", ScheduleKind(build=last_first))
    entry = schedule_kind_of("last_first")
    assert "last_first" in schedule_names()
    assert (entry.num_chunks, entry.summary) == (1, "Last first: the backward passes in reverse.")
    order = make("last_first", 2, 3).order
    assert [pass_.microbatch for pass_ in order[1]] == [0, 1, 2, 2, 1, 0]
    assert len(run_order("last_first", order, lambda *_: 1)[0]) == 6


def test_custom_takes_any_number_of_chunks_only_round_robin():
    """`parallel.vpp` need not be given: one chunk in a row is the default."""
    kinds = {chunk_order: schedule_kind_of(CUSTOM, chunk_order) for chunk_order in CHUNK_ORDERS}
    accepted = {name: [v for v in (1, 2, 3) if kind.accepts_num_chunks(v)] for name, kind in kinds.items()}
    assert accepted == {"round_robin": [1, 2, 3], "vee": [1, 2], "both_ways": [1, 2]}
    assert not any(kind.needs_num_chunks for kind in kinds.values())
    assert [kind.layout_on(4).kind for kind in kinds.values()] == ["row", "vee", "both_ways"]


def test_the_page_of_schedules_has_every_schedule():
    page = (Path(__file__).parents[2] / "docs" / "schedules.md").read_text(encoding="utf-8")
    assert [name for name in schedule_names() if f"`{name}`" not in page] == []


# --- refusals ------------------------------------------------------------------------------------------------------


def test_an_unknown_schedule_is_refused():
    with pytest.raises(InvalidValueError) as refusal:
        build_schedule("2f2b", num_stages=2, num_microbatches=2)
    assert str(refusal.value) == f"schedule.kind must be one of {', '.join(SCHEDULES)}, got 2f2b. Use 1f1b."


@pytest.mark.parametrize(
    ("kind", "p", "m", "v", "says"),
    [
        ("chimera", 3, 6, 1, "parallel.pp must be even for chimera, got 3"),
        ("dualpipe", 3, 6, 1, "parallel.pp must be even for dualpipe, got 3"),
        (
            "dualpipe",
            2,
            5,
            1,
            "workload.microbatches must be even and at least 4, twice the stages, for dualpipe, got 5",
        ),
        ("dualpipe_v", 3, 5, 1, "workload.microbatches must be at least 6, twice the stages, for dualpipe_v, got 5"),
        ("1f1b", 2, 4, 2, "parallel.vpp must be 1 for 1f1b, got 2"),
        ("zb_v", 2, 4, 3, "parallel.vpp must be 2 for zb_v, got 3"),
        ("gpipe", 0, 4, 1, "parallel.pp must be at least 1, got 0"),
    ],
)
def test_a_pipeline_that_is_none_for_a_schedule_is_refused(kind, p, m, v, says):
    with pytest.raises(InvalidValueError, match=says):
        build_pipeline_order(kind, Pipeline(num_stages=p, num_microbatches=m, num_chunks=v))


# --- passes in pairs -------------------------------------------------------------------------------------------------


PAIRED = pytest.mark.parametrize("kind", [kind for kind in SCHEDULES if SCHEDULES[kind].can_pair])


@PAIRED
@FEW
@given(p=STAGES, m=MICROBATCHES, v=CHUNKS, times=TIMES, hop=st.integers(0, 5))
def test_pairs_run_the_same_passes_and_never_deadlock(kind, *, p, m, v, times, hop):
    """As many passes of each stage, each once; F and B of a pair are of different microbatches or chunks."""
    plain = make(kind, p, m, v=v)
    pipeline = Pipeline(num_stages=p, num_microbatches=m, num_chunks=plain.layout.num_chunks, pairs=True)
    order = build_pipeline_order(kind, pipeline).order
    for steps, others in zip(order, plain.order, strict=True):
        assert Counter(pass_ for step in steps for pass_ in split_step(step)) == Counter(others)
        assert all(len({pass_[1:] for pass_ in split_step(step)}) == len(split_step(step)) for step in steps)
    spans = run_order(kind, order, durations(order, times), v=v, hop=hop)
    assert [len(stage) for stage in spans] == [len(steps) for steps in order]
    assert max_in_flight(order, weight_share=1.0) <= SCHEDULES[kind].max_in_flight(pipeline)


def test_the_pairs_of_one_stage_are_those_of_megatron_core():
    """Four microbatches: F0, then B0 with F1, B1 with F2, B2 with F3, then B3 (combined_1f1b.py, no pipelining)."""
    steps = build_pipeline_order("1f1b", Pipeline(num_stages=1, num_microbatches=4, pairs=True)).order[0]
    assert steps == [Pass("F", 0), *(Pair("FB", i + 1, 0, i, 0) for i in range(3)), Pass("B", 3)]


def test_an_interleaved_stage_warms_up_with_one_pass_more():
    """Stage 1 of 2 with 2 chunks: 2 (p - i - 1) + (v - 1) p + 1 = 3 forward passes before the first pair."""
    steps = build_pipeline_order(
        "interleaved", Pipeline(num_stages=2, num_microbatches=4, num_chunks=2, pairs=True)
    ).order[1]
    assert [step.kind for step in steps] == ["F"] * 3 + ["FB"] * 5 + ["B"] * 3


def test_the_executor_itself_finds_a_deadlock():
    """Stage 1 wants F1 first, which stage 0 runs after B0, which waits for stage 1."""
    order = [[Pass("F", 0), Pass("B", 0), Pass("F", 1)], [Pass("F", 1), Pass("F", 0), Pass("B", 0)]]
    with pytest.raises(RuntimeError, match="deadlock"):
        run_order("1f1b", order, lambda *_: 1)
