"""How each moment of a stage is spent: one stacked strip of compute by kind, foreign work and waiting by cause.

Model
-----
The bins of a stage begin and end where its passes do, so that a pass is one column; bins that would be narrower than 6
pixels are joined. The height of a category in a bin is its share of the bin in the stages account
(`sim.results.stages`), from the bottom: own kernels, foreign work, what the stage waits for, idle.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sim.engine.trace import Trace
from sim.results.accounts import COMMUNICATION_CATEGORIES, COMPUTE_CATEGORIES, SLOWDOWNS
from sim.results.stages import spent_over_time

__all__ = ["STACKED", "WAITING", "Spent", "spent_in", "spent_is_clearer"]

WAITING: Final = (*COMMUNICATION_CATEGORIES, *SLOWDOWNS, "stalled")
"""Categories in which a pass is open and its compute waits."""
STACKED: Final = (*COMPUTE_CATEGORIES, "foreign", *WAITING, "idle")
"""Categories of the strip from the bottom."""

_LEAST_BIN_PX: Final = 6.0
_NARROW_PX: Final = 4.0
"""Kernels and transfers of at most this median width are a barcode: the strip replaces them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spent:
    """The cells of the strips of some stages: a category in a bin, with its place in the height of the strip."""

    category: NDArray[np.int64]
    """Position in `STACKED`. Shape [C]."""
    stage: NDArray[np.int64]
    """Stage of each cell. Shape [C]."""
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    """Times of the bin of each cell. Shape [C]."""
    top: NDArray[np.float64]
    """Upper edge in the strip, 0 (top) to 1. Shape [C]."""
    height: NDArray[np.float64]
    """Share of the bin. Shape [C]."""

    @property
    def categories(self) -> list[str]:
        """Categories that have cells, from the bottom."""
        return [STACKED[code] for code in np.unique(self.category).tolist()]


def spent_is_clearer(trace: Trace, window_ns: tuple[int, int], width_px: float, *, lane: int) -> bool:
    """Tell whether kernels and transfers would be too narrow to be read in a window that is so wide."""
    rows = np.concatenate([trace.rows(stream, lane=lane) for stream in ("compute", "comm")])
    start, end = trace.ints("start_ns")[rows], trace.ints("end_ns")[rows]
    lasted = (end - start)[(start < window_ns[1]) & (end > window_ns[0]) & (end > start)]
    if lasted.size == 0 or trace.rows("pass", lane=lane).size == 0:
        return False
    return float(np.median(lasted)) * width_px / (window_ns[1] - window_ns[0]) <= _NARROW_PX


def spent_in(trace: Trace, window_ns: tuple[int, int], stages: Sequence[int], *, lane: int, width_px: float) -> Spent:
    """Return the strips of stages in a window."""
    columns: list[tuple[NDArray[Any], ...]] = []
    for stage in stages:
        edges = _edges_ns(trace, window_ns, stage, lane, width_px)
        spent = spent_over_time(trace, stage, lane, edges)
        shares = np.stack([spent[category] for category in STACKED]) / np.diff(edges)
        below = np.cumsum(shares, axis=0)
        code, position = np.nonzero(shares > 0)
        place = np.full(code.size, stage), edges[position], edges[position + 1]
        columns.append((code, *place, 1 - below[code, position], shares[code, position]))
    joined = [np.concatenate(parts) for parts in zip(*columns, strict=True)]
    code, stage_of, start, end = (column.astype(np.int64) for column in joined[:4])
    return Spent(category=code, stage=stage_of, start_ns=start, end_ns=end, top=joined[4], height=joined[5])


# ---- private -----------------------------------------------------------------------------------------------------


def _edges_ns(trace: Trace, window_ns: tuple[int, int], stage: int, lane: int, width_px: float) -> NDArray[np.int64]:
    """Return the edges of the bins of a stage: where passes begin and end, none nearer than the least width."""
    low, high = window_ns
    passes = trace.rows("pass", stage=stage, lane=lane)
    edges = np.union1d(trace.ints("start_ns")[passes], trace.ints("end_ns")[passes])
    least_ns = _LEAST_BIN_PX * (high - low) / width_px
    kept = [low]
    for edge in edges[(edges > low) & (edges < high)].tolist():
        if edge - kept[-1] >= least_ns:
            kept.append(edge)
    if high - kept[-1] < least_ns and len(kept) > 1:
        kept.pop()
    return np.array([*kept, high], dtype=np.int64)
