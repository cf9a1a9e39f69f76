"""Schedules: every pass once, no deadlock, activations within the stated number, makespans of theory.

A list executor, written here and only for this, runs each stage's passes in order as soon as their inputs exist.
"""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.errors import WorkloadError
from workloads.schedules import SCHEDULES, FixedOrder, Pass, build_schedule

EVERY_SCHEDULE = pytest.mark.parametrize("kind", SCHEDULES)
STAGES, MICROBATCHES = st.integers(1, 8), st.integers(1, 16)
TIMES = st.tuples(st.integers(1, 20), st.integers(1, 20))
# Activations that stage i of p keeps at most, of m microbatches.
IN_FLIGHT = {"gpipe": lambda p, i, m: m, "1f1b": lambda p, i, m: min(m, p - i)}


def inputs_of(stage: int, one: Pass, num_stages: int) -> list[tuple[int, Pass]]:
    """Return the passes that must have ended; chunk c of stage i is virtual stage c p + i."""
    if one.kind == "W":
        return [(stage, one._replace(kind="B"))]
    step = -1 if one.kind == "F" else 1
    chunk, neighbour = divmod(one.chunk * num_stages + stage + step, num_stages)
    own = [] if one.kind == "F" else [(stage, one._replace(kind="F"))]
    return [*own, (neighbour, one._replace(chunk=chunk))]


def run_passes(passes: list[list[Pass]], times: dict[str, int]) -> dict[tuple[int, Pass], int]:
    """Return when each pass ends; raise where no stage can go on."""
    exist = {(stage, one) for stage, order in enumerate(passes) for one in order}
    ends: dict[tuple[int, Pass], int] = {}
    position, free_at = [0] * len(passes), [0] * len(passes)
    while len(ends) < len(exist):
        before = len(ends)
        for stage, order in enumerate(passes):
            while position[stage] < len(order):
                one = order[position[stage]]
                needed = [item for item in inputs_of(stage, one, len(passes)) if item in exist]
                if not all(item in ends for item in needed):
                    break
                start = max([free_at[stage], *(ends[item] for item in needed)])
                ends[stage, one] = free_at[stage] = start + times[one.kind]
                position[stage] += 1
        if len(ends) == before:
            raise RuntimeError(f"deadlock: stages wait at {position}")
    return ends


def drain(schedule: FixedOrder, num_stages: int) -> list[list[Pass]]:
    """Ask until nothing is left."""
    return [list(iter(lambda stage=stage: schedule.next_pass(stage, 0), None)) for stage in range(num_stages)]


# --- every schedule ------------------------------------------------------------------------------------------------


@EVERY_SCHEDULE
@given(p=STAGES, m=MICROBATCHES)
def test_every_pass_runs_once_on_every_stage(kind, p, m):
    passes = SCHEDULES[kind](p, m)
    assert len(passes) == p
    for order in passes:
        counted = Counter(order)
        assert set(counted.values()) == {1}
        chunks = {one.chunk for one in order}
        kinds = {one.kind for one in order}
        assert {"F", "B"} <= kinds <= {"F", "B", "W"}
        assert len(counted) == len(kinds) * m * len(chunks)
        assert {one.microbatch for one in order} == set(range(m))


@EVERY_SCHEDULE
@given(p=STAGES, m=MICROBATCHES, times=TIMES)
def test_a_schedule_never_deadlocks_and_never_beats_its_own_work(kind, p, m, times):
    forward, backward = times
    passes = SCHEDULES[kind](p, m)
    duration = {"F": forward, "B": backward, "W": backward}
    ends = run_passes(passes, duration)
    for order in passes:
        assert max(ends.values()) >= sum(duration[one.kind] for one in order)
    first_to_last_and_back = p * (forward + backward)
    assert max(ends.values()) >= first_to_last_and_back


@EVERY_SCHEDULE
@given(p=STAGES, m=MICROBATCHES)
def test_activations_in_flight_stay_within_the_stated_number(kind, p, m):
    for stage, order in enumerate(SCHEDULES[kind](p, m)):
        in_flight = peak = 0
        for one in order:
            in_flight += {"F": 1, "B": -1, "W": 0}[one.kind]
            peak = max(peak, in_flight)
            assert in_flight >= 0
        assert in_flight == 0
        stated = IN_FLIGHT.get(kind, lambda p, i, m: m)(p, stage, m)
        assert peak <= stated
        if kind in IN_FLIGHT:
            assert peak == stated  # the bound is reached: it is what memory must be planned for


@EVERY_SCHEDULE
@given(p=STAGES, m=MICROBATCHES)
def test_a_schedule_answers_with_its_list_and_then_with_nothing(kind, p, m):
    schedule = build_schedule(kind, num_stages=p, num_microbatches=m)
    assert drain(schedule, p) == SCHEDULES[kind](p, m)
    assert schedule.next_pass(0, 10) is None


@EVERY_SCHEDULE
@given(p=STAGES, m=MICROBATCHES)
def test_forward_alone_streams_the_microbatches_in_order(kind, p, m):
    """(m + p - 1) F: the pipeline is filled once."""
    passes = drain(build_schedule(kind, num_stages=p, num_microbatches=m, forward=True), p)
    assert passes == [[Pass("F", i) for i in range(m)]] * p
    assert max(run_passes(passes, {"F": 3}).values()) == 3 * (m + p - 1)


# --- theory --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gpipe", "1f1b"])
@given(p=STAGES, m=MICROBATCHES, times=TIMES)
def test_gpipe_and_1f1b_take_m_plus_p_minus_1_pairs_of_passes(kind, p, m, times):
    """Huang et al. 2019, section 2; Narayanan et al. 2021, section 2.2: bubble (p - 1)(F + B)."""
    ends = run_passes(SCHEDULES[kind](p, m), dict(zip("FB", times, strict=True)))
    assert max(ends.values()) == (m + p - 1) * sum(times)


@given(p=STAGES, m=MICROBATCHES)
def test_1f1b_alternates_between_warm_up_and_drain(p, m):
    for stage, order in enumerate(SCHEDULES["1f1b"](p, m)):
        warm_up = min(m, p - stage - 1)
        kinds = "".join(one.kind for one in order)
        assert kinds == "F" * warm_up + "FB" * (m - warm_up) + "B" * warm_up


@EVERY_SCHEDULE
@given(p=STAGES, m=MICROBATCHES, times=TIMES, factor=st.integers(2, 9))
def test_passes_k_times_as_long_end_k_times_as_late(kind, p, m, times, factor):
    passes = SCHEDULES[kind](p, m)
    durations = {"F": times[0], "B": times[1], "W": times[1]}
    slower = {name: factor * duration for name, duration in durations.items()}
    ends, later = run_passes(passes, durations), run_passes(passes, slower)
    assert later == {item: factor * end for item, end in ends.items()}


# --- refusals ------------------------------------------------------------------------------------------------------


def test_an_unknown_schedule_is_refused():
    with pytest.raises(WorkloadError) as refusal:
        build_schedule("2f2b", num_stages=2, num_microbatches=2)
    assert str(refusal.value) == f"schedule: kind must be one of {', '.join(SCHEDULES)}, got 2f2b. Use 1f1b."


def test_the_executor_itself_finds_a_deadlock():
    """Stage 1 wants F1 first, which stage 0 runs after B0, which waits for stage 1."""
    with pytest.raises(RuntimeError, match="deadlock"):
        run_passes(
            [[Pass("F", 0), Pass("B", 0), Pass("F", 1)], [Pass("F", 1), Pass("F", 0), Pass("B", 0)]], {"F": 1, "B": 1}
        )
