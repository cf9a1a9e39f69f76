"""The record of a run: columns, not objects, a row for each span.

Streams
-------
- `pass`: a pass of a lane from opening to close (kind F, B, W; O for what follows the last pass). Its rows span others.
- `compute`: kernels of the lane's own passes. `rank` is the slowest rank, whose times the row shows.
- `comm`: a transfer that the lane waits for; one row per group.
- `p2p`: a transfer to another stage that nobody on the sending side waits for.
- `foreign`: an expert kernel of another stage's pass on a rank of this stage.

Each row but those of `pass` splits its duration: base + imbalance + contention + latency = end - start. `released_by`
is the row that it waited for last (-1: none). Missing numbers (a rank for a transfer, a layer for the optimizer) are
-1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "KINDS", "PASS_KINDS", "STREAMS", "LinkUse", "Recorder", "Trace"]

KINDS = (
    "attention",
    "dense_ffn",
    "expert",
    "other_compute",
    "optimizer",
    "tp",
    "ep_dispatch",
    "ep_combine",
    "pp",
    "dp",
    "cp",
    "F",
    "B",
    "W",
    "O",
)
"""Kinds of rows. Their order breaks ties between rows that end at one time."""

PASS_KINDS = ("F", "B", "W", "O")
"""Kinds of rows on the stream `pass`."""

STREAMS = ("pass", "compute", "comm", "p2p", "foreign")
"""Streams of a lane."""

COLUMNS = (
    "stage",
    "lane",
    "rank",
    "group",
    "stream",
    "kind",
    "microbatch",
    "chunk",
    "layer",
    "start_ns",
    "end_ns",
    "bytes",
    "flops",
    "released_by",
    "base_ns",
    "imbalance_ns",
    "contention_ns",
    "latency_ns",
)
"""Columns of a trace, in order."""

_KIND_CODE = {kind: code for code, kind in enumerate(KINDS)}
_STREAM_CODE = {stream: code for code, stream in enumerate(STREAMS)}
_FLOATS = ("bytes", "flops")
_EXACT = 2.0**53  # whole numbers below it are exact as floats
Column = NDArray[np.int64] | NDArray[np.float64] | NDArray[np.str_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinkUse:
    """What the links carried."""

    num_bytes: NDArray[np.float64]
    """Bytes through each link. Shape [L]."""
    busy_s: NDArray[np.float64]
    """Time during which each link carried anything. Shape [L]."""
    time_ns: NDArray[np.int64]
    """When the load changed. Shape [C]."""
    utilisation: NDArray[np.float64]
    """Load of the busiest link of each kind from then on, 0 to 1. Shape [C, kinds]."""
    kinds: tuple[str, ...]
    """Kinds of links."""
    names: tuple[str, ...]
    """Name of each link. Length L."""
    link_kinds: tuple[str, ...]
    """Kind of each link. Length L."""
    capacity_bytes_per_s: NDArray[np.float64]
    """Capacity of each link. Shape [L]."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trace:
    """What happened, in columns of equal length."""

    columns: dict[str, NDArray[np.int64] | NDArray[np.float64]]
    """Column by name; `stream` and `kind` hold positions in `STREAMS` and `KINDS`. Each of shape [N]."""
    num_stages: int
    """Pipeline stages."""
    num_lanes: int
    """Lanes of each stage."""
    lane_ranks: NDArray[np.intp]
    """Ranks of each lane. Shape [stages, lanes, lane_size]."""
    link_use: LinkUse
    """What the links carried."""

    def __len__(self) -> int:
        return int(self.columns["start_ns"].size)

    def __getitem__(self, column: str) -> Column:
        """Return a column; `stream` and `kind` as text."""
        if column == "stream":
            return np.array(STREAMS)[self.columns[column]]
        if column == "kind":
            return np.array(KINDS)[self.columns[column]]
        return self.columns[column]

    def ints(self, column: str) -> NDArray[np.int64]:
        """Return an integer column as it is stored."""
        return self.columns[column].astype(np.int64, copy=False)

    def rows(self, stream: str, *, stage: int | None = None, lane: int | None = None) -> NDArray[np.intp]:
        """Return the numbers of the rows of a stream (of a stage, of a lane)."""
        chosen = self.columns["stream"] == _STREAM_CODE[stream]
        if stage is not None:
            chosen &= self.columns["stage"] == stage
        if lane is not None:
            chosen &= self.columns["lane"] == lane
        return np.flatnonzero(chosen)

    @property
    def start_ns(self) -> int:
        """First start."""
        return int(self.columns["start_ns"].min()) if len(self) else 0

    @property
    def end_ns(self) -> int:
        """Last end."""
        return int(self.columns["end_ns"].max()) if len(self) else 0

    @property
    def step_ns(self) -> int:
        """First start to last end."""
        return self.end_ns - self.start_ns

    def arrays(self) -> dict[str, Column]:
        """Return all columns with `stream` and `kind` as text, as they are saved."""
        return {name: self[name] for name in COLUMNS}

    def to_pandas(self) -> "pd.DataFrame":
        """Return the trace as a pandas table (pandas is an extra: `pip install moesim[pandas]`)."""
        try:
            import pandas as pd  # noqa: PLC0415  # optional, and slow to import
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("to_pandas needs pandas: pip install 'moesim[pandas]'") from error

        return pd.DataFrame(self.arrays())


class Recorder:
    """Collects rows while the engine runs."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, ...]] = []
        self._blocks: list[list[NDArray[np.int64] | NDArray[np.float64]]] = []
        self._end_ns: list[int] = []
        self._kind: list[int] = []

    def __len__(self) -> int:
        return len(self._end_ns)

    def add(
        self,
        *,
        stage: int,
        lane: int,
        stream: str,
        kind: str,
        start_ns: int,
        end_ns: int,
        released_by: int,
        rank: int = -1,
        group: int = -1,
        microbatch: int = -1,
        chunk: int = -1,
        layer: int = -1,
        num_bytes: float = 0.0,
        flops: float = 0.0,
        imbalance_ns: int = 0,
        contention_ns: int = 0,
        latency_ns: int = 0,
    ) -> int:
        """Append a row and return its number; base is what the other parts leave of the duration."""
        base_ns = end_ns - start_ns - imbalance_ns - contention_ns - latency_ns
        code = _KIND_CODE[kind]
        self._end_ns.append(end_ns)
        self._kind.append(code)
        self._rows.append(
            (
                stage,
                lane,
                rank,
                group,
                _STREAM_CODE[stream],
                code,
                microbatch,
                chunk,
                layer,
                start_ns,
                end_ns,
                num_bytes,
                flops,
                released_by,
                base_ns,
                imbalance_ns,
                contention_ns,
                latency_ns,
            )
        )
        return len(self._end_ns) - 1

    def add_kernels(
        self,
        *,
        stage: NDArray[np.int64],
        lane: NDArray[np.int64],
        rank: NDArray[np.intp],
        is_foreign: NDArray[np.bool_],
        kind: str,
        microbatch: int,
        chunk: int,
        layer: int,
        start_ns: NDArray[np.int64],
        end_ns: NDArray[np.int64],
        flops: NDArray[np.float64],
        released_by: NDArray[np.int64],
        imbalance_ns: NDArray[np.int64],
    ) -> int:
        """Append a row for each of several ranks (arrays of shape [R]) and return the number of the first."""
        first, size, code = len(self._end_ns), end_ns.size, _KIND_CODE[kind]
        stream = np.where(is_foreign, _STREAM_CODE["foreign"], _STREAM_CODE["compute"])
        none, nothing = np.full(size, -1), np.zeros(size, dtype=np.int64)
        one = nothing + 1
        self._flush()
        self._blocks.append(
            [
                stage,
                lane,
                rank,
                none,
                stream,
                one * code,
                one * microbatch,
                one * chunk,
                one * layer,
                start_ns,
                end_ns,
                np.zeros(size),
                flops,
                released_by,
                end_ns - start_ns - imbalance_ns,
                imbalance_ns,
                nothing,
                nothing,
            ]
        )
        self._end_ns.extend(end_ns.tolist())
        self._kind.extend([code] * size)
        return first

    def latest(self, rows: Sequence[int]) -> int:
        """Return the row that ended last; ties go by the order of kinds, then to the lowest number. -1 for none."""
        known = [row for row in rows if row >= 0]
        if len(known) < 2:
            return known[0] if known else -1
        return min(known, key=lambda row: (-self._end_ns[row], self._kind[row], row))

    def columns(self) -> dict[str, NDArray[np.int64] | NDArray[np.float64]]:
        """Return the columns of all rows so far."""
        self._flush()
        columns: dict[str, NDArray[np.int64] | NDArray[np.float64]] = {}
        for i, name in enumerate(COLUMNS):
            parts = [block[i] for block in self._blocks] or [np.zeros(0)]
            whole = np.concatenate(parts)
            columns[name] = whole.astype(np.float64) if name in _FLOATS else whole.astype(np.int64)
        return columns

    def _flush(self) -> None:
        """Turn the rows that were added one by one into a block."""
        if self._rows:
            table = np.array(self._rows, dtype=np.float64)
            if np.abs(table).max() < _EXACT:
                self._blocks.append(list(table.T))
            else:
                self._blocks.append([np.array(column) for column in zip(*self._rows, strict=True)])
            self._rows = []
