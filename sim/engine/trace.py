"""The record of a run: columns, not objects, a row for each span.

Streams
-------
- `pass`: a pass of a lane from opening to close (kind F, B, W; O for what follows the last pass). Its rows span others.
  F and B that run at the same time are two rows.
- `compute`: kernels of the lane's own passes. `rank` is the slowest rank, whose times the row shows.
- `comm`: a transfer that the lane waits for; a row per group.
- `async`: a transfer that the lane has started on a stream, next to whatever the lane runs; a row per group.
- `await`: the time in which the lane waits for such transfers; of their kind.
- `p2p`: a transfer to another stage that nobody on the sending side waits for.
- `foreign`: an expert kernel of another stage's pass on a rank of this stage.

Contention is what a transfer takes beyond its time alone, and a kernel beyond its time at full speed.

Each row but those of `pass` and `await` splits its duration: base + imbalance + contention + latency = end - start.
`released_by` is the row that it waited for last (-1: none). Missing numbers (a rank for a transfer, a layer for the
optimizer) are -1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "KINDS", "PASS_KINDS", "STREAMS", "LinkUse", "Trace"]

KINDS = (
    "attention",
    "dense_ffn",
    "expert",
    "other_compute",
    "optimizer",
    "tp",
    "ep_dispatch",
    "ep_combine",
    "ep_moves",
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

STREAMS = ("pass", "compute", "comm", "p2p", "foreign", "async", "await")
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

_STREAM_CODE = {stream: code for code, stream in enumerate(STREAMS)}
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
    bottleneck_s: NDArray[np.float64] | None = None
    """Time in which each link was full, and so the bottleneck of a transfer; None without the timeline. [L]."""
    hottest: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    """Of each class of links the one that carried the most for its capacity, hottest first; maybe none. Shape [H]."""
    hot_edges_ns: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
    """Edges of the bins of `hot_utilisation`. Shape [B + 1]."""
    hot_utilisation: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    """Mean load of the hottest links in each bin, 0 to 1. Shape [B, H]."""

    @classmethod
    def unknown(
        cls, capacity_bytes_per_s: NDArray[np.float64], names: Sequence[str], kinds: Sequence[str]
    ) -> "LinkUse":
        """Return what links carried where nobody has added it up: NaN, and no timeline.

        >>> LinkUse.unknown(np.ones(2), ["a", "b"], ["wire", "wire"]).num_bytes
        array([nan, nan])
        """
        unknown, kinds_once = np.full(capacity_bytes_per_s.size, np.nan), tuple(dict.fromkeys(kinds))
        return cls(
            num_bytes=unknown,
            busy_s=unknown,
            time_ns=np.zeros(0, dtype=np.int64),
            utilisation=np.zeros((0, len(kinds_once))),
            kinds=kinds_once,
            names=tuple(names),
            link_kinds=tuple(kinds),
            capacity_bytes_per_s=capacity_bytes_per_s,
        )


@dataclass(frozen=True, slots=True, weakref_slot=True, kw_only=True, eq=False)
class Trace:
    """What happened, in columns of equal length.

    Of equivalent lanes the rows are those of the lane that ran (`lane_of`): `trace["bytes"]` counts that lane once.
    `unfolded`, `arrays`, `to_pandas` and the saved file have the rows of all.
    """

    columns: dict[str, NDArray[np.int64] | NDArray[np.float64]]
    """Column by name; `stream` and `kind` hold positions in `STREAMS` and `KINDS`. Each of shape [N]."""
    num_stages: int
    num_lanes: int
    """Lanes of each stage."""
    lane_ranks: NDArray[np.intp]
    """Ranks of each lane. Shape [stages, lanes, lane_size]."""
    link_use: LinkUse
    """What the links carried."""
    lane_of: NDArray[np.intp] | None = None
    """The lane whose rows are those of each lane too, for equivalent lanes run once; None: its own. Shape [lanes]."""
    joint_rows: NDArray[np.int64] | None = None
    """Rows of transfers that lanes make together. Shape [J]."""
    _known_rows: dict[tuple[str, int | None, int | None], NDArray[np.intp]] = field(
        default_factory=dict, init=False, repr=False
    )

    def __len__(self) -> int:
        return int(self.columns["start_ns"].size)

    def __getitem__(self, column: str) -> Column:
        """Return a column of the lanes that ran; `stream` and `kind` as text."""
        if column == "stream":
            return np.array(STREAMS)[self.columns[column]]
        if column == "kind":
            return np.array(KINDS)[self.columns[column]]
        return self.columns[column]

    def ints(self, column: str) -> NDArray[np.int64]:
        """Return an integer column as it is stored."""
        return self.columns[column].astype(np.int64, copy=False)

    def rows(self, stream: str, *, stage: int | None = None, lane: int | None = None) -> NDArray[np.intp]:
        """Return the numbers of the rows of a stream (of a stage, of a lane or the lane that ran for it); no copy."""
        ran = lane if lane is None or self.lane_of is None else int(self.lane_of[lane])
        key = (stream, stage, ran)
        known = self._known_rows.get(key)
        if known is None:
            known = self._known_rows[key] = self._find_rows(*key)
        return known

    @property
    def num_of(self) -> dict[int, int]:
        """Return the lanes that have rows, ascending, and how many lanes those stand for."""
        of = np.arange(self.num_lanes) if self.lane_of is None else self.lane_of
        lanes, counts = np.unique(of, return_counts=True)
        return dict(zip(lanes.tolist(), counts.tolist(), strict=True))

    @property
    def num_folded(self) -> int:
        """Return the lanes of all stages that were not run, for they are equivalent to another lane."""
        return self.num_stages * (self.num_lanes - len(self.num_of))

    @property
    def start_ns(self) -> int:
        """Start of the earliest span; 0 for a trace without spans."""
        return int(self.columns["start_ns"].min()) if len(self) else 0

    @property
    def end_ns(self) -> int:
        """End of the latest span; 0 for a trace without spans."""
        return int(self.columns["end_ns"].max()) if len(self) else 0

    @property
    def step_ns(self) -> int:
        """First start to last end."""
        return self.end_ns - self.start_ns

    def unfolded(self) -> "Trace":
        """Return the trace with rows of all lanes: of those that were not run, with their own ranks.

        The bytes of a joint row stay where they are counted; groups keep the numbers of the lane that ran.
        """
        if self.lane_of is None:
            return self
        tables, size = [self.columns], len(self)
        for lane, runs in enumerate(self.lane_of.tolist()):
            if lane != runs:
                tables.append(self._rows_of_like(lane, runs, size))
                size += int(tables[-1]["lane"].size)
        columns = {name: np.concatenate([table[name] for table in tables]) for name in self.columns}
        return replace(self, columns=columns, lane_of=None)

    def arrays(self) -> dict[str, Column]:
        """Return all columns, of all lanes, with `stream` and `kind` as text, as they are saved."""
        trace = self.unfolded()
        return {name: trace[name] for name in COLUMNS}

    def to_pandas(self) -> "pd.DataFrame":
        """Return the trace as a pandas table (pandas is an extra: `pip install moesim[pandas]`)."""
        try:
            import pandas as pd  # noqa: PLC0415  # optional, and slow to import
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("to_pandas needs pandas: pip install 'moesim[pandas]'") from error

        return pd.DataFrame(self.arrays())

    # ---- private -------------------------------------------------------------------------------------------------

    def _find_rows(self, stream: str, stage: int | None, lane: int | None) -> NDArray[np.intp]:
        """Return the rows of a stream, found among those of the stream in the stage, and these among all of it."""
        if stage is None and lane is None:
            return np.flatnonzero(self.columns["stream"] == _STREAM_CODE[stream])
        around = self.rows(stream) if lane is None else self.rows(stream, stage=stage)
        column, wanted = ("stage", stage) if lane is None else ("lane", lane)
        return around[np.flatnonzero(self.ints(column)[around] == wanted)]

    def _rows_of_like(self, lane: int, runs: int, first: int) -> dict[str, NDArray[np.int64] | NDArray[np.float64]]:
        """Return the rows of `runs` as those of `lane`, to be numbered from `first` on."""
        rows = np.flatnonzero(self.columns["lane"] == runs)
        copied = {name: column[rows] for name, column in self.columns.items()}
        number = np.full(len(self), -1)
        number[rows] = first + np.arange(rows.size)
        ranks = np.arange(-1, int(self.lane_ranks.max()) + 1)  # the first stands for no rank
        ranks[self.lane_ranks[:, runs] + 1] = self.lane_ranks[:, lane]
        by = copied["released_by"].astype(np.int64)
        copied["lane"] = np.full(rows.size, lane)
        copied["rank"] = ranks[copied["rank"].astype(np.int64) + 1]
        copied["released_by"] = np.where((by >= 0) & (number[by] >= 0), number[by], by)
        if self.joint_rows is not None:
            copied["bytes"] = np.where(np.isin(rows, self.joint_rows), 0.0, copied["bytes"])
        return copied
