"""Throughput, latency, bubble and FLOP use, each defined once.

Model
-----
    step_time_s           first start to last end
    latency_s             mean over batches of last end - first start of a batch's passes
    tokens_per_s          tokens of all batches / step time, whatever becomes of their copies: see dropped_fraction
    dropped_fraction      copies of tokens that no expert computes / copies routed
    rerouted_fraction     copies that another expert than their own computes / copies routed
    steady_tokens_per_s   slope over batches: tokens of all but the first / (end of the last batch - end of the first)
    bubble_fraction       no pass open and not computing for others, over the step time, mean over stages
    stall_fraction        pass open, own compute idle: transfers, latency, contention, imbalance, waiting
    uncovered_s           a pass open and no kernel running, whatever the path is: what a profiler calls exposed
    foreign_fraction      computing for other stages
    mfu                   model FLOPs / (step time * peak of all GPUs); attention counted in full, as Megatron does,
                          and experts by the copies that are not dropped
    mfu_causal            the same with the half of the scores that a causal mask leaves
    hfu                   as mfu, with the FLOPs that are computed again (Korthikanti et al. 2022, equation 8)
    bubble_fraction_published_form   (cost - work) / cost: cost is the longest stage's own span, work the time in passes
                          of the stage that sets the pace, which is the stage with the most of it

References
----------
Narayanan et al. 2021, section 5.1 (FLOPs). Qi et al. 2024, "Zero bubble pipeline parallelism", section 5 (published
form).
"""

from dataclasses import dataclass

import numpy as np

from sim.engine.trace import KINDS, Trace
from sim.results.accounts import COMPUTE_CATEGORIES
from sim.results.exposed import uncovered_ns
from sim.results.path import exposed_communication_ns

__all__ = ["RunQuantities", "metrics_of", "stage_compute_max_over_mean"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunQuantities:
    """The amount of work of a run, which the metrics need beyond the run's trace."""

    num_gpus: int
    """GPUs of the mesh."""
    batch_tokens: int
    """Tokens of one batch over all replicas."""
    batches: int
    """Batches of the run, one after another."""
    microbatches: int
    """Microbatches of a batch and pipeline."""
    model_flops: float
    """FLOPs of the run by parameters and full attention, without recomputation."""
    model_flops_causal: float
    """FLOPs of the run by parameters and causal attention, without recomputation."""
    recomputed_flops: float = 0.0
    """FLOPs of layers or attention that are computed again in the backward pass, full attention."""
    peak_flops_per_s: float
    """Dense peak of the compute type, of all GPUs."""
    num_params: int
    """Parameters of the model."""
    num_active_params: int
    """Parameters that a token meets."""
    num_params_per_gpu: int
    """Most parameters on one GPU."""
    imbalance_max_over_mean: float
    """Busiest rank's expert tokens over the mean."""
    dropped_fraction: float = 0.0
    """Copies of tokens that no expert computes, over those routed."""
    rerouted_fraction: float = 0.0
    """Copies of tokens that another expert than their own computes, over those routed."""


def metrics_of(trace: Trace, stages_ns: list[dict[str, int]], quantities: RunQuantities) -> dict[str, float | int]:
    """Return the contract's metrics by name."""
    step_s = trace.step_ns / 1e9
    batch_starts, batch_ends = _batch_times_ns(trace, quantities)
    tokens = quantities.batch_tokens * quantities.batches
    exposed = exposed_communication_ns(trace)
    idle = np.mean([stage["idle"] for stage in stages_ns])
    foreign = np.mean([stage["foreign"] for stage in stages_ns])
    own = np.mean([sum(stage[category] for category in COMPUTE_CATEGORIES) for stage in stages_ns])
    span_ns = (quantities.batches - 1) and batch_ends[-1] - batch_ends[0]
    steady = quantities.batch_tokens * (quantities.batches - 1) / (span_ns / 1e9) if span_ns > 0 else tokens / step_s
    return {
        "step_time_s": step_s,
        "latency_s": float((batch_ends - batch_starts).mean()) / 1e9,
        "tokens_per_s": tokens / step_s,
        "steady_tokens_per_s": steady,
        "tokens_per_s_per_gpu": tokens / step_s / quantities.num_gpus,
        "bubble_fraction": float(idle) / trace.step_ns,
        "stall_fraction": float(trace.step_ns - idle - foreign - own) / trace.step_ns,
        "foreign_fraction": float(foreign) / trace.step_ns,
        "bubble_fraction_published_form": _published_bubble(trace),
        "mfu": quantities.model_flops / (step_s * quantities.peak_flops_per_s),
        "mfu_causal": quantities.model_flops_causal / (step_s * quantities.peak_flops_per_s),
        "hfu": (quantities.model_flops + quantities.recomputed_flops) / (step_s * quantities.peak_flops_per_s),
        "model_flops_per_s_per_gpu": quantities.model_flops / step_s / quantities.num_gpus,
        "exposed_communication_s": sum(exposed.values()) / 1e9,
        "exposed_communication_fraction": sum(exposed.values()) / trace.step_ns,
        "uncovered_s": uncovered_ns(trace) / 1e9,
        "exposed_tp_s": exposed["tp"] / 1e9,
        "exposed_tp_fraction": exposed["tp"] / trace.step_ns,
        "exposed_ep_s": (exposed["ep_dispatch"] + exposed["ep_combine"]) / 1e9,
        "exposed_ep_fraction": (exposed["ep_dispatch"] + exposed["ep_combine"]) / trace.step_ns,
        "exposed_ep_moves_s": exposed["ep_moves"] / 1e9,
        "exposed_pp_s": exposed["pp"] / 1e9,
        "exposed_pp_fraction": exposed["pp"] / trace.step_ns,
        "exposed_dp_s": exposed["dp"] / 1e9,
        "exposed_cp_s": exposed["cp"] / 1e9,
        "tp_fraction": _share(stages_ns, ("tp",)),
        "ep_fraction": _share(stages_ns, ("ep_dispatch", "ep_combine")),
        "pp_fraction": _waited_for_stages_ns(trace) / trace.step_ns,
        "imbalance_max_over_mean": quantities.imbalance_max_over_mean,
        "dropped_fraction": quantities.dropped_fraction,
        "rerouted_fraction": quantities.rerouted_fraction,
        "stage_compute_max_over_mean": stage_compute_max_over_mean(stages_ns),
        "num_params": quantities.num_params,
        "num_active_params": quantities.num_active_params,
        "num_params_per_gpu": quantities.num_params_per_gpu,
        "num_gpus": quantities.num_gpus,
    }


def stage_compute_max_over_mean(stages_ns: list[dict[str, int]]) -> float:
    """Return the busiest stage's own compute over the mean of the stages.

    >>> stage_compute_max_over_mean([{**dict.fromkeys(COMPUTE_CATEGORIES, 0), "expert": t} for t in (1, 3)])
    1.5
    """
    own = [sum(stage[category] for category in COMPUTE_CATEGORIES) for stage in stages_ns]
    return max(own) * len(own) / sum(own) if sum(own) else 1.0


def _share(stages_ns: list[dict[str, int]], categories: tuple[str, ...]) -> float:
    """Return the share of categories in the step time, mean over stages."""
    return sum(stage[category] for stage in stages_ns for category in categories) / sum(
        sum(stage.values()) for stage in stages_ns
    )


def _waited_for_stages_ns(trace: Trace) -> float:
    """Return the time that a stage waits for a transfer of another stage which is under way, mean over stages."""
    kinds, released_by = trace.ints("kind"), trace.ints("released_by")
    start, end = trace.ints("start_ns"), trace.ints("end_ns")
    waited = 0
    for stage in range(trace.num_stages):
        for lane, count in trace.num_of.items():
            rows = np.concatenate([trace.rows(stream, stage=stage, lane=lane) for stream in ("compute", "comm")])
            rows = rows[np.argsort(start[rows], kind="stable")]
            reached = np.concatenate([[trace.start_ns], np.maximum.accumulate(end[rows])])[:-1]
            cause = released_by[rows]
            waits = (cause >= 0) & (kinds[cause] == KINDS.index("pp"))
            lasted = np.minimum(start[rows] - reached, end[cause] - start[cause])[waits]
            waited += count * int(np.maximum(lasted, 0).sum())
    return waited / (trace.num_stages * sum(trace.num_of.values()))


def _batch_times_ns(trace: Trace, quantities: RunQuantities) -> tuple[np.ndarray, np.ndarray]:
    """Return first start and last end of each batch's passes. Each of shape [batches]."""
    rows = trace.rows("pass")
    microbatch = trace.ints("microbatch")[rows]
    rows, microbatch = rows[microbatch >= 0], microbatch[microbatch >= 0]
    batch = microbatch // quantities.microbatches
    starts = np.full(quantities.batches, np.iinfo(np.int64).max)
    ends = np.zeros(quantities.batches, dtype=np.int64)
    np.minimum.at(starts, batch, trace.ints("start_ns")[rows])
    np.maximum.at(ends, batch, trace.ints("end_ns")[rows])
    if quantities.batches == 1:
        return np.array([trace.start_ns]), np.array([trace.end_ns])
    return starts, ends


def _published_bubble(trace: Trace) -> float:
    """Return (cost - work) / cost: the longest own span of a stage, and the most time in passes; of lane 0.

    What a lighter stage waits for the stage that sets the pace is no bubble of the schedule.
    """
    cost = work = 0
    for stage in range(trace.num_stages):
        rows = trace.rows("pass", stage=stage, lane=0)
        rows = rows[trace.ints("microbatch")[rows] >= 0]  # what follows the last pass is no pass of the schedule
        start, end = trace.ints("start_ns")[rows], trace.ints("end_ns")[rows]
        if rows.size:
            reached = np.maximum.accumulate(np.concatenate([[start.min()], end[:-1]]))  # by those that closed before
            in_passes = np.maximum(end - np.maximum(start, reached), 0)
            cost, work = max(cost, int(end.max() - start.min())), max(work, int(in_passes.sum()))
    return (cost - work) / cost if cost else 0.0
