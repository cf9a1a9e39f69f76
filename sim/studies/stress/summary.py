"""Means and intervals over seeds, and what a slowdown is made of.

Model
-----
    interval             mean -+ t(0.975, n - 1) * standard deviation / sqrt(n)       n seeds
    slowdown             step time / step time of the smallest skew under the first remedy
    parts of slowdown    differences of the account of time from that of the same reference; they sum to the difference
                         of the step times

    useful tokens/s      tokens/s (1 - lost), lost: the share of the token copies that no chosen expert computes

The account is averaged over stages and seeds. Its families are own kernels, foreign work, dispatch, combine, moves of
experts, other transfers by their axis, and what the account calls stalled and idle. A family includes latency,
imbalance and contention of its kernels or transfers; contention is also listed apart.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from statistics import fmean, stdev
from typing import Any, Final

from sim.results.accounts import CATEGORIES, COMMUNICATION_CATEGORIES, COMPUTE_CATEGORIES, SLOWDOWNS
from sim.run.imbalance_bound import IMBALANCE_BOUND
from sim.studies.stress.grid import Grid
from sim.studies.stress.points import PointResult

__all__ = ["FAMILIES", "mean_and_interval", "summarise"]

_WITH_INTERVALS: Final = (
    "step_time_s",
    "tokens_per_s",
    "bubble_fraction",
    "stall_fraction",
    "imbalance_max_over_mean",
    IMBALANCE_BOUND,
)

_FAMILY_OF_KIND: Final = {
    **dict.fromkeys(COMPUTE_CATEGORIES, "kernels"),
    **{kind: kind.removeprefix("ep_") for kind in COMMUNICATION_CATEGORIES},
}
_FAMILY_OF_CATEGORY: Final = {
    **_FAMILY_OF_KIND,
    **{f"{slowdown}_{kind}": family for slowdown in SLOWDOWNS for kind, family in _FAMILY_OF_KIND.items()},
    "foreign": "foreign",
    "stalled": "stalled",
    "idle": "idle",
}
FAMILIES: Final = ("kernels", "foreign", "dispatch", "combine", "moves", "tp", "pp", "dp", "cp", "stalled", "idle")
"""Families of categories of the account, which a slowdown is made of: each with its imbalance, contention, latency."""

if set(_FAMILY_OF_CATEGORY.values()) != set(FAMILIES) or not set(CATEGORIES) - set(SLOWDOWNS) <= set(
    _FAMILY_OF_CATEGORY
):
    raise RuntimeError("every category of the account needs a family")


def summarise(grid: Grid, results: Sequence[PointResult]) -> list[dict[str, Any]]:
    """Return a row for each skew and remedy, in the order of the grid."""
    cells: dict[tuple[float, str], list[PointResult]] = {}
    for point, result in zip(grid.points, results, strict=True):
        cells.setdefault((point.skew, point.remedy), []).append(result)
    rows = [_row(skew, remedy, of_seeds) for (skew, remedy), of_seeds in cells.items()]
    for row in rows:
        if grid.loads:
            row["load"] = grid.loads[row["skew"]]
        row["plan"] = grid.plans[row["remedy"]]
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
    """Return the mean and its 95 % confidence interval; a single value has no interval.

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


def _row(skew: float, remedy: str, results: Sequence[PointResult]) -> dict[str, Any]:
    """Return the row of one skew and remedy, from the results of all seeds."""
    ran = [result for result in results if result.problem is None]
    row: dict[str, Any] = {"skew": skew, "remedy": remedy, "num_seeds": len(ran)}
    row["problem"] = next((result.problem for result in results if result.problem is not None), None)
    for name in _WITH_INTERVALS:
        values = [result.values[name] for result in ran if name in result.values]
        row[name], row[f"{name}_interval"] = mean_and_interval(values) if values else (None, None)
    row["step_times_s"] = [result.values.get("step_time_s") for result in results]  # in the order of the seeds
    row["weights_bytes_per_gpu"] = max((result.values.get("weights", 0.0) for result in ran), default=None)
    row["peak_bytes_per_gpu"] = max((result.values.get("total", 0.0) for result in ran), default=None)
    row["capacity_bytes_per_gpu"] = min((result.values.get("capacity_bytes", 0.0) for result in ran), default=None)
    fits = [bool(result.values["fits"]) for result in ran if "fits" in result.values]
    row["fits"] = all(fits) if fits else None
    routed = sum(result.tokens["routed"] for result in ran)
    for name in ("dropped", "padded", "rerouted"):
        row[f"{name}_fraction"] = sum(result.tokens[name] for result in ran) / routed if routed else 0.0
    useful = [result.values["tokens_per_s"] * (1 - _lost_fraction(result)) for result in ran]
    row["useful_tokens_per_s"], row["useful_tokens_per_s_interval"] = (
        mean_and_interval(useful) if useful else (None, None)
    )
    row["lost_fraction"] = row["dropped_fraction"] + row["rerouted_fraction"]
    row["parts_s"] = _mean_by_family([result.parts_s for result in ran])
    row["contention_s"] = _mean_by_family([_contention(result.parts_s) for result in ran])
    return row


def _lost_fraction(result: PointResult) -> float:
    """Return the share of the token copies that the experts chosen by their tokens do not compute."""
    tokens = result.tokens
    return (tokens["dropped"] + tokens["rerouted"]) / tokens["routed"] if tokens["routed"] else 0.0


def _mean_by_family(accounts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of accounts, by family."""
    total = dict.fromkeys(FAMILIES, 0.0)
    for account in accounts:
        for category, time_s in account.items():
            total[_FAMILY_OF_CATEGORY[category]] += time_s / len(accounts)
    return total


def _contention(account: Mapping[str, float]) -> dict[str, float]:
    return {category: time_s for category, time_s in account.items() if category.startswith("contention_")}
