"""The peak of memory on traces worked out by hand."""

import numpy as np
import pytest
from handtraces import build_trace, passes

from sim.results.memory import MEMORY_COMPONENTS, ChunkMemory, StageMemory, memory_of

OF_CHUNK = ("activations", "expert_activations", "weight_pass", "logits", "kv_cache")


def sizes(**given):
    """Return a stage of one chunk."""
    chunk = ChunkMemory(**{name: size for name, size in given.items() if name in OF_CHUNK})
    return StageMemory(**{name: size for name, size in given.items() if name not in OF_CHUNK}, chunks=(chunk,))


def peak_of(trace, *stages, microbatches=4):
    memory = memory_of(trace, stages, capacity_bytes=1000.0, microbatches=microbatches)
    return memory, {part: size for part, size in memory["peak_bytes_per_gpu"].items() if size}


def test_activations_live_from_the_opening_of_f_to_the_close_of_b():
    # Alive: 1 from 0, 2 from 10, 3 from 20; B0 closes at 40, when F3 opens: still 3.
    trace = build_trace(*passes("F0 0-10, F1 10-20, F2 20-30, B0 30-40, F3 40-50, B1 50-60, B2 60-70, B3 70-80"))
    memory, peak = peak_of(trace, sizes(activations=100.0, weights=50.0))
    assert peak == {"weights": 50, "activations": 300, "total": 350}
    assert memory["peak_time_s"] == 20e-9


@pytest.mark.parametrize(
    ("schedule", "alive"),
    [
        ("F0 0-1, B0 1-2, F1 2-3, B1 3-4", 1),
        ("F0 0-1, F1 1-2, B1 2-3, B0 3-4", 2),
        ("F0 0-1, F1 1-2, B0 2-3, B1 3-4", 2),
    ],
)
def test_the_schedule_decides_how_many_microbatches_are_in_flight(schedule, alive):
    _, peak = peak_of(build_trace(*passes(schedule)), sizes(activations=7.0))
    assert peak["activations"] == 7 * alive


def test_a_forward_pass_keeps_activations_while_it_is_open():
    _, peak = peak_of(build_trace(*passes("F0 0-10, F1 10-20, F2 20-30")), sizes(activations=9.0))
    assert peak["activations"] == 9


def test_the_kv_cache_of_a_batch_stays_until_the_batch_has_left_the_pipeline():
    # Batches of two microbatches. Batch 0 leaves stage 1 at 60; F2 and F3 open on stage 0 at 20 and 30: four alive.
    trace = build_trace(
        *passes("F0 0-10, F1 10-20, F2 20-30, F3 30-40, F4 60-70, F5 70-80"),
        *passes("F0 10-15, F1 40-60, F2 60-70, F3 70-80, F4 80-90, F5 90-95", stage=1),
        num_stages=2,
    )
    both = sizes(kv_cache=10.0)
    memory, peak = peak_of(trace, both, sizes(), microbatches=2)
    assert peak["kv_cache"] == 40
    assert (memory["peak_stage"], memory["peak_time_s"]) == (0, 30e-9)


def test_the_peak_is_that_of_the_fullest_stage_with_its_own_parts():
    trace = build_trace(*passes("F0 0-10, B0 30-40"), *passes("F0 10-20, B0 20-30", stage=1), num_stages=2)
    first = sizes(weights=100.0, gradients=10.0, optimizer=30.0, activations=20.0)
    last = sizes(weights=90.0, buffers=5.0, logits=80.0, activations=20.0)
    memory, peak = peak_of(trace, first, last)
    assert memory["peak_stage"] == 1
    assert peak == {"weights": 90, "buffers": 5, "logits": 80, "activations": 20, "total": 195}


def test_of_equal_stages_the_first_is_named():
    trace = build_trace(*passes("F0 0-10"), *passes("F0 10-20", stage=1), num_stages=2)
    memory, _ = peak_of(trace, sizes(weights=1.0), sizes(weights=1.0))
    assert memory["peak_stage"] == 0


@pytest.mark.parametrize(("weights", "fits"), [(999.0, True), (1000.0, True), (1001.0, False)])
def test_memory_fits_up_to_its_capacity(weights, fits):
    memory, _ = peak_of(build_trace(*passes("F0 0-10")), sizes(weights=weights))
    assert memory["fits"] is fits
    assert memory["peak_fraction"] == weights / 1000


def test_parts_sum_to_the_total():
    given = {name: float(i + 1) for i, name in enumerate(MEMORY_COMPONENTS)}
    memory, _ = peak_of(build_trace(*passes("F0 0-10, F1 10-20")), sizes(**given))
    peak = memory["peak_bytes_per_gpu"]
    assert set(peak) == {*MEMORY_COMPONENTS, "total"}
    assert sum(peak[part] for part in MEMORY_COMPONENTS) == peak["total"]


def test_the_end_of_the_step_holds_no_microbatch():
    _, peak = peak_of(build_trace(*passes("O 0-10")), sizes(weights=3.0, activations=50.0))
    assert peak == {"weights": 3, "total": 3}


def test_what_a_split_weight_pass_needs_stays_until_it_closes():
    """F0 0-10 takes 100; after B0 at 30 W keeps 60 of it, to which F1 adds 100 until W0 closes at 60."""
    trace = build_trace(*passes("F0 0-10, B0 20-30, F1 40-50, W0 50-60, B1 60-70, W1 70-80"))
    memory, peak = peak_of(trace, sizes(activations=100.0, weight_pass=60.0))
    assert peak["activations"] == 160
    assert memory["peak_time_s"] == 40e-9


def test_chunks_of_a_stage_have_activations_of_their_own():
    """A microbatch holds what it left in each chunk."""
    rows = [*passes("F0 0-10, B0 30-40", chunk=0), *passes("F0 10-20, B0 20-30", chunk=1)]
    chunks = (ChunkMemory(activations=5.0), ChunkMemory(activations=7.0))
    _, peak = peak_of(build_trace(*rows), StageMemory(chunks=chunks))
    assert peak["activations"] == 12


def test_chunks_that_are_not_told_apart_share_their_stage_evenly():
    """Two chunks of one stage's 12: the first alone holds 6."""
    rows = [*passes("F0 0-10, B0 30-40", chunk=0), *passes("F0 10-20, B0 20-30", chunk=1)]
    (course,) = peak_of(build_trace(*rows), sizes(activations=12.0))[0]["timeline"]
    assert course["varying_bytes"]["activations"] == [6, 12, 6, 0]


def test_the_hottest_rank_counts_the_tokens_in_flight_and_is_named():
    """Microbatch 0 gives the ranks 1 and 3 tokens, microbatch 1 3 and 2: in flight together 4 and 5, mean 4.5."""
    trace = build_trace(*passes("F0 0-10, F1 10-20, B1 20-30, B0 30-40"), lane_size=2)
    tokens = {(0, 0): {(0, 0): np.array([1, 3]), (1, 0): np.array([3, 2])}}
    memory = memory_of(
        trace, [sizes(expert_activations=90.0)], capacity_bytes=1e3, microbatches=2, expert_tokens=tokens
    )
    assert memory["peak_bytes_per_gpu"]["expert_activations"] == 2 * 90 * 5 / 4.5
    assert memory["peak_rank"] == 1


def test_the_timeline_rises_and_falls_with_the_microbatches_in_flight():
    """A point for each change, with what stays next to it."""
    trace = build_trace(*passes("F0 0-10, F1 10-20, B0 20-30, B1 30-40"))
    memory, _ = peak_of(trace, sizes(activations=8.0, weights=2.0))
    (course,) = memory["timeline"]
    assert course["held_bytes"] == {"weights": 2}
    assert dict(zip(course["time_s"], course["varying_bytes"]["activations"], strict=True)) == {
        0.0: 8,
        10e-9: 16,
        30e-9: 8,
        40e-9: 0,
    }


def test_a_long_timeline_keeps_its_peak():
    """Of 1,400 changes 200 points remain, each the highest of its piece."""
    text = ", ".join(f"F{i} {2 * i}-{2 * i + 1}" for i in range(700)) + ", "
    text += ", ".join(f"B{i} {1400 + 2 * i}-{1401 + 2 * i}" for i in range(700))
    memory, peak = peak_of(build_trace(*passes(text)), sizes(activations=3.0), microbatches=700)
    (course,) = memory["timeline"]
    assert len(course["time_s"]) == 200
    assert max(course["varying_bytes"]["activations"]) == peak["activations"] == 2100
