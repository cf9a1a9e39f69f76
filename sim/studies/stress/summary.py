"""Means and intervals over seeds, and what a slowdown is made of.

Model
-----
    interval      mean -+ t(0.975, n - 1) * standard deviation / sqrt(n)       n seeds
    slowdown      step time / step time of the smallest skew under the first remedy
    its parts     differences of the account of time from that of the same reference; they sum to the difference in step

The account is averaged over stages and seeds: compute (all own kernels and those for other stages), dispatch, combine,
moves of experts, other transfers by their axis, each with its latency, with what its slowest rank takes over the mean,
and with its contention, which is told apart as well; waiting (stalled), bubble (idle).
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from statistics import fmean, stdev
from typing import Any, Final

from sim.results.by_kind import LONGER
from sim.results.parts import COMMUNICATION_PARTS, COMPUTE_PARTS, PARTS
from sim.run.imbalance_bound import IMBALANCE_BOUND
from sim.studies.stress.grid import Grid
from sim.studies.stress.point import Done

__all__ = ["FAMILIES", "mean_and_interval", "summarise"]

_WITH_INTERVALS: Final = (
    "step_time_s",
    "tokens_per_s",
    "bubble_fraction",
    "stall_fraction",
    "imbalance_max_over_mean",
    IMBALANCE_BOUND,
)

_OF_KIND: Final = {
    **dict.fromkeys(COMPUTE_PARTS, "compute"),
    **{kind: kind.removeprefix("ep_") for kind in COMMUNICATION_PARTS},
}
_OF_PART: Final = {
    **_OF_KIND,
    **{f"{part}_{kind}": family for part in LONGER for kind, family in _OF_KIND.items()},
    "foreign": "compute",
    "stalled": "waiting",
    "idle": "bubble",
}
FAMILIES: Final = ("compute", "dispatch", "combine", "moves", "tp", "pp", "dp", "cp", "waiting", "bubble")
"""Parts of a slowdown."""

if set(_OF_PART.values()) != set(FAMILIES) or not set(PARTS) - set(LONGER) <= set(_OF_PART):
    raise RuntimeError("every part of the account needs its part of the slowdown")


def summarise(grid: Grid, done: Sequence[Done]) -> list[dict[str, Any]]:
    """Return a row for each skew and remedy, in that order."""
    cells: dict[tuple[float, str], list[Done]] = {}
    for point, one in zip(grid.points, done, strict=True):
        cells.setdefault((point.skew, point.remedy), []).append(one)
    rows = [_row(skew, remedy, ran) for (skew, remedy), ran in cells.items()]
    for row in rows:
        row["is_comparison"] = row["remedy"] in grid.comparisons
        row["changes_nothing"] = not grid.changes[row["remedy"]]
    reference = rows[0]
    for row in rows:
        row["slowdown"], row["slowdown_s"], row["contention_added_s"] = None, {}, None
        if row["step_time_s"] is not None and reference["step_time_s"] is not None:
            row["slowdown"] = row["step_time_s"] / reference["step_time_s"]
            row["slowdown_s"] = {name: row["parts_s"][name] - reference["parts_s"][name] for name in FAMILIES}
            row["contention_added_s"] = sum(row["contention_s"].values()) - sum(reference["contention_s"].values())
    return rows


def mean_and_interval(values: Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    """Return the mean, and where it lies with 95 % confidence; None of one value.

    >>> mean, (low, high) = mean_and_interval([1.0, 3.0])
    >>> mean, round(low, 3), round(high, 3)
    (2.0, -10.706, 14.706)
    """
    mean = fmean(values)
    if len(values) < 2:
        return mean, None
    half = _student_quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return mean, (mean - half, mean + half)


@lru_cache(maxsize=128)
def _student_quantile(degrees: int) -> float:
    """Return the 0.975 quantile of Student's t distribution with 1, 2, ... degrees of freedom.

    >>> [round(_student_quantile(degrees), 3) for degrees in (1, 2, 10, 99)]
    [12.706, 4.303, 2.228, 1.984]
    """
    from scipy.special import stdtrit  # noqa: PLC0415  # the import takes 0.15 s, and most commands need no interval

    return float(stdtrit(degrees, 0.975))


def _row(skew: float, remedy: str, done: Sequence[Done]) -> dict[str, Any]:
    ran = [one for one in done if one.problem is None]
    row: dict[str, Any] = {"skew": skew, "remedy": remedy, "num_seeds": len(ran)}
    row["problem"] = next((one.problem for one in done if one.problem is not None), None)
    for name in _WITH_INTERVALS:
        values = [one.values[name] for one in ran if name in one.values]
        row[name], row[f"{name}_interval"] = mean_and_interval(values) if values else (None, None)
    row["step_times_s"] = [one.values.get("step_time_s") for one in done]  # in the order of the seeds
    row["weights_bytes_per_gpu"] = max((one.values.get("weights", 0.0) for one in ran), default=None)
    row["peak_bytes_per_gpu"] = max((one.values.get("total", 0.0) for one in ran), default=None)
    row["capacity_bytes_per_gpu"] = min((one.values.get("capacity_bytes", 0.0) for one in ran), default=None)
    fits = [bool(one.values["fits"]) for one in ran if "fits" in one.values]
    row["fits"] = all(fits) if fits else None
    routed = sum(one.tokens["routed"] for one in ran)
    for name in ("dropped", "padded", "rerouted"):
        row[f"{name}_fraction"] = sum(one.tokens[name] for one in ran) / routed if routed else 0.0
    row["parts_s"] = _families([one.parts_s for one in ran])
    row["contention_s"] = _families([_contention(one.parts_s) for one in ran])
    return row


def _families(accounts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean account by family."""
    total = dict.fromkeys(FAMILIES, 0.0)
    for account in accounts:
        for part, time_s in account.items():
            total[_OF_PART[part]] += time_s / len(accounts)
    return total


def _contention(account: Mapping[str, float]) -> dict[str, float]:
    return {part: time_s for part, time_s in account.items() if part.startswith("contention_")}
