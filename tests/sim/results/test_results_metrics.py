"""Metrics on traces worked out by hand. The bubble of whole pipelines is in `test_engine_pipeline`."""

from dataclasses import replace

import pytest
from handtraces import build_trace, passes, row

from sim.results.accounts import empty_account
from sim.results.metrics import RunQuantities, metrics_of, stage_compute_max_over_mean
from sim.results.stages import stages_ns

QUANTITIES = RunQuantities(
    num_gpus=4,
    batch_tokens=1000,
    batches=1,
    microbatches=2,
    model_flops=6e3,
    model_flops_causal=5e3,
    recomputed_flops=1e3,
    peak_flops_per_s=1e12,
    num_params=70,
    num_active_params=30,
    num_params_per_gpu=20,
    imbalance_max_over_mean=1.25,
)


def metrics_of_trace(trace, **changes):
    return metrics_of(trace, stages_ns(trace), replace(QUANTITIES, **changes))


# Three batches of two microbatches on two stages: batch ends at 40, 60 and 100 ns.
BATCHES = [
    *passes("F0 0-10, F1 10-20, F2 20-30, F3 30-40, F4 50-60, F5 60-70"),
    *passes("F0 20-30, F1 30-40, F2 40-50, F3 50-60, F4 60-70, F5 90-100", stage=1),
]


def test_steady_throughput_is_the_slope_over_batches():
    metrics = metrics_of_trace(build_trace(*BATCHES, num_stages=2), batches=3)
    assert metrics["steady_tokens_per_s"] == pytest.approx(2 * 1000 / (60e-9), rel=1e-12)
    assert metrics["tokens_per_s"] == pytest.approx(3 * 1000 / 100e-9, rel=1e-12)
    assert metrics["tokens_per_s_per_gpu"] == pytest.approx(3 * 1000 / 100e-9 / 4, rel=1e-12)


def test_latency_is_the_mean_over_batches_from_first_start_to_last_end():
    metrics = metrics_of_trace(build_trace(*BATCHES, num_stages=2), batches=3)
    assert metrics["latency_s"] == pytest.approx(((40 - 0) + (60 - 20) + (100 - 50)) / 3 * 1e-9, rel=1e-12)


def test_one_batch_has_the_latency_and_the_slope_of_the_whole_step():
    trace = build_trace(*passes("F0 0-10, F1 10-20, B0 20-40, B1 40-60, O 60-70"))
    metrics = metrics_of_trace(trace)
    assert metrics["latency_s"] == metrics["step_time_s"] == 70e-9
    assert metrics["steady_tokens_per_s"] == metrics["tokens_per_s"] == pytest.approx(1000 / 70e-9, rel=1e-12)


def test_the_published_form_takes_the_longest_own_span_and_the_passes_of_the_slowest_stage():
    # Stage 0 spans 60 with 40 of passes, stage 1 spans 50 with 45: (60 - 45) / 60.
    trace = build_trace(*passes("F0 0-20, B0 40-60"), *passes("F0 10-30, B0 35-60", stage=1), num_stages=2)
    assert metrics_of_trace(trace)["bubble_fraction_published_form"] == pytest.approx(15 / 60, rel=1e-12)


def test_a_stage_that_starts_late_and_never_waits_has_no_published_bubble():
    # ZB-H2's point: idle before its first pass is not in the stage's own span.
    trace = build_trace(*passes("F0 0-10"), *passes("F0 10-30, B0 30-60", stage=1), num_stages=2)
    metrics = metrics_of_trace(trace)
    assert metrics["bubble_fraction_published_form"] == 0.0
    assert metrics["bubble_fraction"] == pytest.approx((50 + 10) / 2 / 60, rel=1e-12)


def test_idle_stalled_foreign_and_own_compute_fill_the_step():
    trace = build_trace(
        *passes("F0 0-30"),
        row("compute", "expert", 0, 10),
        row("comm", "tp", 10, 20),
        row("foreign", "expert", 40, 45, stage=0),
        row("compute", "expert", 30, 50, stage=1),
        *passes("F0 30-50", stage=1),
        num_stages=2,
    )
    # Stage 0: 10 own, 10 tp, 10 stalled, 5 foreign, 15 idle. Stage 1: 30 idle, 20 own. Step 50.
    metrics = metrics_of_trace(trace)
    assert metrics["bubble_fraction"] == pytest.approx((15 + 30) / 2 / 50)
    assert metrics["stall_fraction"] == pytest.approx((10 + 10) / 2 / 50)
    assert metrics["foreign_fraction"] == pytest.approx(5 / 2 / 50)
    assert metrics["tp_fraction"] == pytest.approx(10 / 100)
    assert metrics["stage_compute_max_over_mean"] == pytest.approx(20 / 15)


def test_flop_use_is_flops_over_step_time_and_peak():
    trace = build_trace(row("compute", "expert", 0, 10, flops=3e3), row("compute", "attention", 10, 20, flops=4e3))
    metrics = metrics_of_trace(trace)
    # 20 ns at 1e12 FLOP/s are 20,000 FLOPs.
    assert (metrics["mfu"], metrics["mfu_causal"], metrics["hfu"]) == pytest.approx((0.3, 0.25, 0.35), rel=1e-12)
    assert metrics["model_flops_per_s_per_gpu"] == pytest.approx(6e3 / 20e-9 / 4, rel=1e-12)


def test_exposed_communication_is_what_lies_on_the_path():
    trace = build_trace(
        row("compute", "expert", 0, 10),
        row("comm", "ep_dispatch", 10, 14, released_by=0, latency_ns=1),
        row("comm", "ep_combine", 14, 20, released_by=1),
        row("p2p", "pp", 20, 22, released_by=2),
        row("comm", "tp", 22, 30, released_by=3, contention_ns=5),
        row("comm", "dp", 30, 40, released_by=4),
    )
    metrics = metrics_of_trace(trace)
    exposed = [metrics[f"exposed_{kind}_s"] for kind in ("ep", "pp", "tp", "dp", "communication")]
    assert exposed == pytest.approx([10e-9, 2e-9, 8e-9, 10e-9, 30e-9], rel=1e-12)
    assert metrics["exposed_communication_fraction"] == pytest.approx(30 / 40)


def test_uncovered_time_is_that_of_open_passes_in_which_no_kernel_runs():
    """Kernels 0-10 and 12-20 of two passes 0-16 and 8-25, with a transfer all the time: 10-12 and 20-25."""
    trace = build_trace(
        row("compute", "expert", 0, 10),
        row("compute", "attention", 12, 20),
        row("async", "ep_dispatch", 0, 25),
        row("pass", "F", 0, 16),
        row("pass", "B", 8, 25),
    )
    assert metrics_of_trace(trace)["uncovered_s"] == pytest.approx(7e-9, rel=1e-12)


def test_facts_of_the_model_are_handed_on():
    metrics = metrics_of_trace(build_trace(row("compute", "expert", 0, 10)))
    names = ("num_gpus", "num_params", "num_active_params", "num_params_per_gpu", "imbalance_max_over_mean")
    assert [metrics[name] for name in names] == [4, 70, 30, 20, 1.25]


def test_stages_that_compute_nothing_are_balanced():
    assert stage_compute_max_over_mean([empty_account(), empty_account()]) == 1.0
