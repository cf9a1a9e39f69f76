"""The stages account averaged over stages, with what a transfer or kernel takes longer given to its kind.

Model
-----
    imbalance, contention, latency of a stage are divided among kinds in proportion to the sums of that column over the
    stage's rows of own kernels and of transfers that its lanes wait for; each lane counts as often as it stands for

Rows that run at the same time count once in the account, and all of them in these proportions: the parts of a stage
are exact, what they are of is not where groups of a lane wait for different things at a time. Transfers that nobody
waits for (`p2p`) and work for other stages (`foreign`) are in none of the three.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sim.engine.trace import KINDS, Trace

__all__ = ["LONGER", "parts_by_kind"]

LONGER = ("imbalance", "contention", "latency")
"""Parts of the account that are divided by kind: `imbalance_expert`, `contention_ep_dispatch`, `latency_tp`, ..."""


def parts_by_kind(trace: Trace, stages: Sequence[Mapping[str, int]]) -> dict[str, float]:
    """Return seconds by part, averaged over stages, that sum to the step time.

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
        for part, ns in account.items():
            if part not in LONGER:
                total[part] = total.get(part, 0.0) + ns * share_s
                continue
            of_kinds = _by_kind(trace, stage, f"{part}_ns") if ns else {}
            whole = sum(of_kinds.values())
            for kind, weight in of_kinds.items():
                name = f"{part}_{kind}"
                total[name] = total.get(name, 0.0) + ns * share_s * weight / whole
    return total


def _by_kind(trace: Trace, stage: int, column: str) -> dict[str, float]:
    """Return the kinds of a stage's rows that have any of a column, with its sum over lanes."""
    sums: NDArray[np.float64] = np.zeros(len(KINDS))
    for lane, count in trace.num_of.items():
        rows = np.concatenate([trace.rows(stream, stage=stage, lane=lane) for stream in ("compute", "comm")])
        spent = trace.ints(column)[rows]
        sums += count * np.bincount(trace.ints("kind")[rows], weights=spent, minlength=len(KINDS))
    return {kind: value for kind, value in zip(KINDS, sums.tolist(), strict=True) if value}
