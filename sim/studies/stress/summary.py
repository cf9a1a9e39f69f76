"""Means and intervals over seeds, and what a slowdown is made of.

Model
-----
    interval      mean -+ t(0.975, n - 1) * standard deviation / sqrt(n)       n seeds
    slowdown      step time / step time of the first skew under the first remedy
    its parts     differences of the account of time from that of the same reference; they sum to the difference in step

The account is averaged over stages and seeds: compute (all own kernels and those for other stages), dispatch, combine,
each with what its slowest rank takes over the mean; waiting (stalled), bubble (idle), other.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any, Final

from sim.results.parts import COMPUTE_PARTS
from sim.studies.stress.grid import OTHER_ROUTING, Grid
from sim.studies.stress.point import Done

__all__ = ["FAMILIES", "mean_and_interval", "summarise"]

_STUDENT: Final = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""0.975 quantile of Student's t with 1, 2, ... degrees of freedom."""
_NORMAL: Final = 1.96

_OF_PART: Final = {
    **dict.fromkeys((*COMPUTE_PARTS, "foreign"), "compute"),
    **{f"imbalance_{part}": "compute" for part in COMPUTE_PARTS},
    **dict.fromkeys(("ep_dispatch", "imbalance_ep_dispatch"), "dispatch"),
    **dict.fromkeys(("ep_combine", "imbalance_ep_combine"), "combine"),
    "stalled": "waiting",
    "idle": "bubble",
}
FAMILIES: Final = ("compute", "dispatch", "combine", "waiting", "bubble", "other")
"""Parts of a slowdown."""


def summarise(grid: Grid, done: Sequence[Done]) -> list[dict[str, Any]]:
    """Return a row for each skew and remedy, in that order."""
    cells: dict[tuple[float, str], list[Done]] = {}
    for point, one in zip(grid.points, done, strict=True):
        cells.setdefault((point.skew, point.remedy), []).append(one)
    rows = [_row(skew, remedy, ran) for (skew, remedy), ran in cells.items()]
    for row in rows:
        row["is_other_routing"] = bool(OTHER_ROUTING & set(grid.changes[row["remedy"]]))
        row["changes_nothing"] = not grid.changes[row["remedy"]]
    reference = rows[0]
    for row in rows:
        row["slowdown"], row["slowdown_s"] = None, {}
        if row["step_time_s"] is not None and reference["step_time_s"] is not None:
            row["slowdown"] = row["step_time_s"] / reference["step_time_s"]
            row["slowdown_s"] = {name: row["parts_s"][name] - reference["parts_s"][name] for name in FAMILIES}
    return rows


def mean_and_interval(values: Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    """Return the mean, and where it lies with 95 % confidence; None of one value.

    >>> mean_and_interval([1.0, 3.0])
    (2.0, (-10.706, 14.706))
    """
    mean = fmean(values)
    if len(values) < 2:
        return mean, None
    freedom = len(values) - 1
    quantile = _STUDENT[freedom - 1] if freedom <= len(_STUDENT) else _NORMAL + 2.5 / freedom
    half = quantile * stdev(values) / math.sqrt(len(values))
    return mean, (mean - half, mean + half)


def _row(skew: float, remedy: str, done: Sequence[Done]) -> dict[str, Any]:
    ran = [one for one in done if one.problem is None]
    row: dict[str, Any] = {"skew": skew, "remedy": remedy, "num_seeds": len(ran)}
    row["problem"] = next((one.problem for one in done if one.problem is not None), None)
    for name in ("step_time_s", "tokens_per_s", "bubble_fraction", "stall_fraction", "imbalance_max_over_mean"):
        values = [one.values[name] for one in ran if name in one.values]
        row[name], row[f"{name}_interval"] = mean_and_interval(values) if values else (None, None)
    row["step_times_s"] = [one.values.get("step_time_s") for one in done]  # in the order of the seeds
    row["weights_bytes_per_gpu"] = max((one.values.get("weights", 0.0) for one in ran), default=None)
    row["peak_bytes_per_gpu"] = max((one.values.get("total", 0.0) for one in ran), default=None)
    fits = [bool(one.values["fits"]) for one in ran if "fits" in one.values]
    row["fits"] = all(fits) if fits else None
    routed = sum(one.tokens["routed"] for one in ran)
    for name in ("dropped", "padded", "rerouted"):
        row[f"{name}_fraction"] = sum(one.tokens[name] for one in ran) / routed if routed else 0.0
    row["parts_s"] = _families([one.parts_s for one in ran])
    return row


def _families(accounts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean account by family."""
    total = dict.fromkeys(FAMILIES, 0.0)
    for account in accounts:
        for part, time_s in account.items():
            total[_OF_PART.get(part, "other")] += time_s / len(accounts)
    return total
