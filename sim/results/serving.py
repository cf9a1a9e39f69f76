"""What users of a server see: time to the first token, time of each further token, latency, goodput, and checks.

Model
-----
    ttft       first token - arrival                         queue and computation of the prompt
    queue      start of the first step that computes tokens of a request - arrival
    latency    last token - arrival
    tpot       (last token - first token) / (tokens - 1)     of a request; requests of one token have none
    itl        time between two steps that bring a request tokens: one each, or several with speculative decoding
    goodput    requests that meet every promise / duration
    duration   first arrival to last token
    user rate  1 / mean of tpot

Percentiles are linear between the two nearest values (numpy's default); those of `itl` are weighted by tokens.
Requests of the warm-up are left out of all that is of requests, and not out of rates of tokens.

Whether an open system keeps up is judged by its queue: the mean number of waiting requests in the second, third and
fourth quarter of the time in which requests arrive. It falls behind where these grow from quarter to quarter, by more
than a request and half of what they were.

Checks of every run: the integral of the number of requests in the system over time is the sum of their latencies
(Little's law); every block is free at the end; tokens computed are those requested, less those found in the cache, and
those computed again after a preemption; each rank admits requests in the order in which it received them (vLLM).

References
----------
Little, "A proof for the queuing formula L = lambda W", 1961. Zhong et al., "DistServe", 2024, arXiv 2401.09670
(goodput).
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ServedRequests", "ServingSteps", "check_serving", "metrics_of_serving"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
_QUANTITIES = ("ttft", "tpot", "itl", "e2e_latency", "queue")
_PERCENTILES = (50, 90, 99)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ServedRequests:
    """What happened to each request, in the order of arrival; times in ns. Each of shape [N]."""

    arrival_ns: Ints
    scheduled_ns: Ints
    """Start of the first step that computes tokens of the request."""
    first_ns: Ints
    """First token."""
    end_ns: Ints
    """Last token."""
    prompt_tokens: Ints
    output_tokens: Ints
    cached_tokens: Ints
    """Tokens of the prompt that were found in the cache when it was first admitted."""
    rank: Ints
    """Data-parallel rank that served it."""
    num_preemptions: Ints
    """How often it was preempted."""

    @property
    def latency_ns(self) -> Ints:
        """Time from arrival to the last token."""
        return self.end_ns - self.arrival_ns

    @property
    def tpot_s(self) -> Floats:
        """Mean time of each token after the first; NaN for requests of one token."""
        further = self.output_tokens - 1
        times = np.full(len(further), np.nan)
        has_more = further > 0
        times[has_more] = (self.end_ns - self.first_ns)[has_more] / further[has_more] / 1e9
        return times


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ServingSteps:
    """The steps of all groups, and what was counted over the run."""

    start_ns: Ints
    end_ns: Ints
    group: Ints
    num_prefill_tokens: Ints
    num_decodes: Ints
    num_running: Ints
    num_waiting: Ints
    blocks_used: Ints
    largest_batch: Ints
    """Columns of the steps. Each of shape [S]."""
    token_gaps_ns: Mapping[int, int]
    """Time between two steps that bring a request tokens -> how often."""
    num_computed: int
    """Tokens that were computed, without drafts that were not kept."""
    num_blocks: int
    """KV blocks of a rank."""
    max_blocks_used: int
    """Most blocks in use on one rank."""
    blocks_left: Sequence[int]
    """Free blocks of each rank at the end."""
    num_preemptions: int
    """Preemptions of all ranks."""


def metrics_of_serving(
    served: ServedRequests,
    steps: ServingSteps,
    *,
    num_gpus: int,
    slo_s: Mapping[str, float],
    num_warmup: int = 0,
    count_every: int = 1,
    is_open: bool = True,
) -> dict[str, float | int | bool]:
    """Return the metrics by name; a quantity that no request has is left out."""
    kept = slice(min(num_warmup, len(served.arrival_ns) - 1), None, count_every)
    first_ns, last_ns = int(served.arrival_ns.min()), int(served.end_ns.max())
    duration_s = max(1, last_ns - first_ns) / 1e9
    ttft_s, latency_s = (served.first_ns - served.arrival_ns)[kept] / 1e9, served.latency_ns[kept] / 1e9
    tpot_s, queue_s = served.tpot_s[kept], (served.scheduled_ns - served.arrival_ns)[kept] / 1e9
    tpot_s = tpot_s[~np.isnan(tpot_s)]
    metrics: dict[str, float | int | bool] = {}
    for name, values in (("ttft", ttft_s), ("tpot", tpot_s), ("e2e_latency", latency_s), ("queue", queue_s)):
        metrics |= _summary(name, values)
    metrics |= _weighted_summary("itl", steps.token_gaps_ns)
    outputs = int(served.output_tokens.sum())
    total = outputs + int(served.prompt_tokens.sum())
    met = _meets(served, slo_s)
    busy_ns = np.maximum(steps.end_ns - steps.start_ns, 1)
    num_groups = int(steps.group.max(initial=0)) + 1
    num_ranks = len(steps.blocks_left)
    metrics |= {
        "output_tokens_per_s": outputs / duration_s,
        "total_tokens_per_s": total / duration_s,
        "output_tokens_per_s_per_gpu": outputs / duration_s / num_gpus,
        "total_tokens_per_s_per_gpu": total / duration_s / num_gpus,
        "requests_per_s": len(met) / duration_s,
        "goodput_requests_per_s": int(met.sum()) / duration_s,
        "slo_attainment": float(met[kept].mean()),
        "num_requests": len(ttft_s),
        "num_preemptions": steps.num_preemptions,
        "prefix_hit_fraction": float(served.cached_tokens.sum() / served.prompt_tokens.sum()),
        "kv_blocks": steps.num_blocks,
        "kv_use_mean": float(
            np.average(steps.blocks_used, weights=busy_ns) * num_groups / num_ranks / steps.num_blocks
        ),
        "kv_use_max": steps.max_blocks_used / steps.num_blocks,
        "running_mean": float(np.average(steps.num_running, weights=busy_ns) * num_groups),
        "waiting_mean": float(np.average(steps.num_waiting, weights=busy_ns) * num_groups),
        "waiting_max": int(steps.num_waiting.max()),
        "largest_batch": int(steps.largest_batch.max()),
        "num_steps": len(steps.start_ns),
        "is_stable": not is_open or _keeps_up(served, steps),
        "step_time_s": duration_s,
        "num_gpus": num_gpus,
    }
    if tpot_s.size and tpot_s.mean() > 0:
        metrics["tokens_per_s_per_user"] = float(1.0 / tpot_s.mean())
    return metrics


def check_serving(served: ServedRequests, steps: ServingSteps, *, is_fcfs: bool, is_decode: bool) -> list[str]:
    """Return the checks that a run fails, which no run may."""
    failed = []
    if _area_in_system_ns(served) != int(served.latency_ns.sum()):
        failed.append("the integral of requests in the system is not the sum of their latencies")
    if any(left != steps.num_blocks for left in steps.blocks_left):
        failed.append(f"blocks are not all free at the end: {list(steps.blocks_left)[:8]} of {steps.num_blocks}")
    asked_for = served.output_tokens if is_decode else served.prompt_tokens + served.output_tokens - 1
    needed = int((asked_for - served.cached_tokens).sum())
    if steps.num_computed < needed or (not steps.num_preemptions and steps.num_computed != needed):
        failed.append(f"{steps.num_computed} tokens were computed, and {needed} were needed")
    times = np.stack([served.arrival_ns, served.scheduled_ns, served.first_ns, served.end_ns])
    if (np.diff(times, axis=0) < 0).any():
        failed.append("a request was scheduled, answered or ended before what comes first")
    for rank in np.unique(served.rank) if is_fcfs else ():
        of_rank = served.rank == rank
        order = np.argsort(served.arrival_ns[of_rank], kind="stable")
        if (np.diff(served.scheduled_ns[of_rank][order]) < 0).any():
            failed.append(f"rank {rank} did not admit requests first come, first served")
    return failed


# ---- private -----------------------------------------------------------------------------------------------------


def _summary(name: str, values: Floats) -> dict[str, float | int | bool]:
    if not values.size:
        return {}
    percentiles = np.percentile(values, _PERCENTILES)
    return {f"{name}_mean_s": float(values.mean())} | {
        f"{name}_p{percent}_s": float(value) for percent, value in zip(_PERCENTILES, percentiles, strict=True)
    }


def _weighted_summary(name: str, counts: Mapping[int, int]) -> dict[str, float | int | bool]:
    """Return mean and percentiles of values in ns, each as often as it is counted."""
    if not counts:
        return {}
    values, weights = (np.array(part) for part in zip(*sorted(counts.items()), strict=True))
    ends = np.cumsum(weights)
    total = int(ends[-1])
    found: dict[str, float | int | bool] = {f"{name}_mean_s": float((values * weights).sum() / total / 1e9)}
    for percent in _PERCENTILES:
        place = (total - 1) * percent / 100
        low, high = (int(np.searchsorted(ends, position, side="right")) for position in (int(place), -(-place // 1)))
        share = place - int(place)
        found[f"{name}_p{percent}_s"] = float((values[low] * (1 - share) + values[high] * share) / 1e9)
    return found


def _meets(served: ServedRequests, slo_s: Mapping[str, float]) -> NDArray[np.bool_]:
    """Return which requests meet every promise; a request of one token has no tpot to break."""
    met = np.ones(len(served.arrival_ns), dtype=bool)
    if "ttft" in slo_s:
        met &= (served.first_ns - served.arrival_ns) / 1e9 <= slo_s["ttft"]
    if "latency" in slo_s:
        met &= served.latency_ns / 1e9 <= slo_s["latency"]
    if "tpot" in slo_s:
        met &= ~(served.tpot_s > slo_s["tpot"])
    return met


def _keeps_up(served: ServedRequests, steps: ServingSteps) -> bool:
    """Return whether the queue does not grow while requests arrive."""
    first_ns, last_ns = int(served.arrival_ns.min()), int(served.arrival_ns.max())
    if last_ns <= first_ns:
        return True
    edges = np.linspace(first_ns, last_ns, 5)
    begin, end = np.minimum(served.arrival_ns, served.scheduled_ns), served.scheduled_ns
    means = [
        float(np.clip(np.minimum(end, high) - np.maximum(begin, low), 0, None).sum() / (high - low))
        for low, high in itertools.pairwise(edges.tolist())
    ]
    del steps
    _, second, third, fourth = means
    return not (second < third < fourth and fourth > 1.0 + 1.5 * second)


def _area_in_system_ns(served: ServedRequests) -> int:
    """Return the integral of the number of requests in the system over time."""
    times = np.concatenate([served.arrival_ns, served.end_ns])
    changes = np.repeat([1, -1], len(served.arrival_ns))
    order = np.argsort(times, kind="stable")
    number = np.cumsum(changes[order])
    return int((number[:-1] * np.diff(times[order])).sum())
