"""The categories of both accounts of time, whole numbers that keep their sum, and the account averaged over stages.

Model
-----
Whole nanoseconds are divided by the largest-remainder rule::

    share_i = floor(total * w_i / sum(w)),  the rest goes one each to the largest remainders, ties to the first

The average over stages gives what a transfer or a kernel takes longer to its kind::

    imbalance, contention, latency of a stage are divided among kinds in proportion to the sums of that column over the
    stage's rows of own kernels and of transfers that its lanes wait for; each lane counts as often as it stands for

Rows that run at the same time count once in the account, and all of them in these proportions: the categories of a
stage are exact, their division among kinds is not where groups of a lane wait for different things at a time. Transfers
that nobody waits for (`p2p`) and work for other stages (`foreign`) are in none of the three. A transfer on a stream
counts in proportion to the time in which its lane waits for it.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sim.engine.trace import KINDS, PASS_KINDS, Trace
from sim.results.exposed import exposed_pieces

__all__ = [
    "CATEGORIES",
    "CATEGORY_WORDS",
    "COMMUNICATION_CATEGORIES",
    "COMPUTE_CATEGORIES",
    "SLOWDOWNS",
    "apportion",
    "apportion_each",
    "categories_by_kind",
    "empty_account",
]

IntArray = NDArray[np.int64]
_MOST_PRODUCT = 2**62
"""Products below fit 64 bits."""

COMPUTE_CATEGORIES = ("attention", "dense_ffn", "expert", "other_compute", "optimizer")
"""Categories of kernels that a rank runs for its own stage."""

COMMUNICATION_CATEGORIES = ("tp", "ep_dispatch", "ep_combine", "ep_moves", "pp", "dp", "cp")
"""Transfers, as they would be alone and without latency and imbalance."""

SLOWDOWNS = ("imbalance", "contention", "latency")
"""What a kernel or a transfer takes longer. By kind: `imbalance_expert`, `contention_ep_dispatch`, `latency_tp`, ..."""

CATEGORIES = (*COMPUTE_CATEGORIES, *COMMUNICATION_CATEGORIES, *SLOWDOWNS, "stalled", "foreign", "idle")
"""All categories of both accounts, in the order in which they are printed."""

CATEGORY_WORDS = {
    "attention": "attention",
    "dense_ffn": "dense FFN",
    "expert": "own experts",
    "other_compute": "other compute",
    "optimizer": "optimizer",
    "tp": "TP collectives",
    "ep_dispatch": "EP dispatch",
    "ep_combine": "EP combine",
    "ep_moves": "moves of experts",
    "pp": "PP transfers",
    "dp": "DP collectives",
    "cp": "CP exchange",
    "imbalance": "imbalance",
    "contention": "contention",
    "latency": "latency",
    "stalled": "stalled",
    "foreign": "experts of other stages",
    "idle": "idle",
}
"""Category -> what sentences call it."""

if set(CATEGORY_WORDS) != set(CATEGORIES):
    raise RuntimeError("every category of the account needs its words")
if {*COMPUTE_CATEGORIES, *COMMUNICATION_CATEGORIES} != set(KINDS) - set(PASS_KINDS):
    raise RuntimeError("every kind of row needs its category of the account")


def empty_account() -> dict[str, int]:
    """Return an account of nothing."""
    return dict.fromkeys(CATEGORIES, 0)


def apportion(total: int, weights: Sequence[int]) -> list[int]:
    """Divide `total` in proportion to `weights` into whole numbers that sum to it.

    >>> apportion(10, [1, 1, 1])
    [4, 3, 3]
    >>> apportion(5, [0, 0])
    [5, 0]
    """
    whole = sum(weights)
    if whole == 0:
        return [total] + [0] * (len(weights) - 1)
    shares = [total * weight // whole for weight in weights]
    remainders = [total * weight % whole for weight in weights]
    order = sorted(range(len(weights)), key=lambda i: (-remainders[i], i))
    for i in order[: total - sum(shares)]:
        shares[i] += 1
    return shares


def apportion_each(totals: IntArray, weights: IntArray) -> IntArray:
    """Return what `apportion` makes of each of `totals` [N] with its column of `weights` [K, N]. Shape [K, N].

    >>> apportion_each(np.array([10, 5, 7]), np.array([[1, 0, 2], [1, 0, 1], [1, 0, 0]]))
    array([[4, 5, 5],
           [3, 0, 2],
           [3, 0, 0]])
    """
    if not totals.size:
        return weights.copy()
    if int(totals.max()) * int(weights.max()) >= _MOST_PRODUCT or weights.min() < 0:  # neither is usual
        each = zip(totals.tolist(), weights.T.tolist(), strict=True)
        return np.array([apportion(total, of_column) for total, of_column in each], dtype=np.int64).T
    whole = weights.sum(axis=0)
    shares, remainders = np.divmod(totals * weights, np.maximum(whole, 1))
    left = totals - shares.sum(axis=0)
    rank = np.argsort(np.argsort(-remainders, axis=0, kind="stable"), axis=0, kind="stable")
    shares += rank < left
    shares[:, whole == 0] = 0
    shares[0, whole == 0] = totals[whole == 0]
    return shares


def categories_by_kind(trace: Trace, stages: Sequence[Mapping[str, int]]) -> dict[str, float]:
    """Return seconds by category, averaged over stages, that sum to the step time.

    Parameters
    ----------
    trace
        What happened.
    stages
        Account of each stage of it, in nanoseconds.
    """
    total: dict[str, float] = {}
    share_s = 1e-9 / max(1, len(stages))
    for stage, account in enumerate(stages):
        for category, ns in account.items():
            if category not in SLOWDOWNS:
                total[category] = total.get(category, 0.0) + ns * share_s
                continue
            sums = _by_kind(trace, stage, f"{category}_ns") if ns else {}
            whole = sum(sums.values())
            for kind, weight in sums.items():
                name = f"{category}_{kind}"
                total[name] = total.get(name, 0.0) + ns * share_s * weight / whole
    return total


def _by_kind(trace: Trace, stage: int, column: str) -> dict[str, float]:
    """Return the kinds of a stage's rows that have any of a column, with its sum over lanes."""
    sums: NDArray[np.float64] = np.zeros(len(KINDS))
    for lane, count in trace.num_of.items():
        rows = np.concatenate([trace.rows(stream, stage=stage, lane=lane) for stream in ("compute", "comm")])
        spent = trace.ints(column)[rows]
        sums += count * np.bincount(trace.ints("kind")[rows], weights=spent, minlength=len(KINDS))
        exposed = exposed_pieces(trace, stage, lane)
        lasted_ns = trace.ints("end_ns")[exposed.rows] - trace.ints("start_ns")[exposed.rows]
        shares = trace.ints(column)[exposed.rows] * (exposed.end_ns - exposed.start_ns) / lasted_ns
        sums += count * np.bincount(trace.ints("kind")[exposed.rows], weights=shares, minlength=len(KINDS))
    return {kind: value for kind, value in zip(KINDS, sums.tolist(), strict=True) if value}
