"""A trace as named arrays, as they are saved, and the trace of such arrays again, each column checked.

Format
------
The columns are `Trace.arrays`, the rows of all lanes, with `stream` and `kind` as text. What a trace has but for
columns is `lane_arrays`: `num_stages`, `num_lanes`, `num_rows` (the rows of lanes that ran, which come first),
`lane_ranks`, `lane_of` and `joint_rows` where lanes are folded, and the fields of `LinkUse` as `link_*`.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sim.engine.trace import COLUMNS, KINDS, STREAMS, LinkUse, Trace

__all__ = ["lane_arrays", "trace_of_arrays"]

Arrays = Mapping[str, NDArray[Any]]

_TEXTS: Final[Mapping[str, tuple[str, ...]]] = {"stream": STREAMS, "kind": KINDS}
"""Columns of text -> the words that they may have."""
_NAMES: Final = ("names", "kinds", "link_kinds")
"""Fields of `LinkUse` that are texts."""
_FLOATS: Final = ("bytes", "flops")
_PARTS: Final = ("base_ns", "imbalance_ns", "contention_ns", "latency_ns")
_UNDIVIDED: Final = (STREAMS.index("pass"), STREAMS.index("await"))
"""Streams whose rows do not divide their duration into parts."""


def lane_arrays(trace: Trace) -> dict[str, NDArray[Any]]:
    """Return the arrays of a trace that are no columns."""
    arrays: dict[str, NDArray[Any]] = {
        "num_stages": np.array(trace.num_stages),
        "num_lanes": np.array(trace.num_lanes),
        "num_rows": np.array(len(trace)),
        "lane_ranks": trace.lane_ranks,
    }
    if trace.lane_of is not None:
        arrays["lane_of"] = trace.lane_of
        if trace.joint_rows is not None:
            arrays["joint_rows"] = trace.joint_rows
    for item in fields(LinkUse):
        value = getattr(trace.link_use, item.name)
        if value is not None:
            arrays[f"link_{item.name}"] = np.array(value, dtype=np.str_) if item.name in _NAMES else value
    return arrays


def trace_of_arrays(columns: Arrays, lanes: Arrays) -> Trace:
    """Return the trace of `Trace.arrays` and `lane_arrays`.

    Raises
    ------
    KeyError
        An array is missing.
    ValueError
        A column is not as long as others, of another type, or has a value that no trace has; the message names it.

    Examples
    --------
    >>> trace_of_arrays({"stage": np.zeros(2)}, {"num_rows": np.array(2)})
    Traceback (most recent call last):
    ValueError: column stage of type float64
    """
    num_rows = int(lanes["num_rows"].item())  # the rows of lanes that did not run come after
    table = {name: _column(name, columns, num_rows) for name in COLUMNS}
    num_stages, num_lanes = (int(lanes[name].item()) for name in ("num_stages", "num_lanes"))
    _check_values(table, num_stages, num_lanes)
    if lanes["lane_ranks"].shape[:2] != (num_stages, num_lanes):
        raise ValueError(f"lane_ranks of shape {lanes['lane_ranks'].shape}, not of {num_stages} stages")
    of_links: dict[str, Any] = {
        item.name: tuple(lanes[f"link_{item.name}"].tolist()) if item.name in _NAMES else lanes[f"link_{item.name}"]
        for item in fields(LinkUse)
        if f"link_{item.name}" in lanes
    }
    return Trace(
        columns=table,
        num_stages=num_stages,
        num_lanes=num_lanes,
        lane_ranks=lanes["lane_ranks"],
        lane_of=lanes.get("lane_of"),
        joint_rows=lanes.get("joint_rows"),
        link_use=LinkUse(**of_links),
    )


# ---- private -----------------------------------------------------------------------------------------------------


def _column(name: str, columns: Arrays, num_rows: int) -> NDArray[Any]:
    """Return a column as a trace stores it, of the first `num_rows` rows."""
    if name not in columns:
        raise ValueError(f"no column {name}")
    column = columns[name]
    if column.ndim != 1 or not 0 <= num_rows <= column.size:
        raise ValueError(f"column {name} of shape {column.shape}, not of {num_rows:,} rows or more")
    wanted = "U" if name in _TEXTS else "f" if name in _FLOATS else "iu"
    if column.dtype.kind not in wanted:
        raise ValueError(f"column {name} of type {column.dtype}")
    rows = column[:num_rows]
    return _codes(name, rows) if name in _TEXTS else rows


def _codes(name: str, texts: NDArray[Any]) -> NDArray[np.int64]:
    """Return the position of each text in the words of its column."""
    unique, inverse = np.unique(texts, return_inverse=True)
    words = _TEXTS[name]
    unknown = [str(text) for text in unique if str(text) not in words]
    if unknown:
        raise ValueError(f"{name} {unknown[0]}, which this version does not know")
    return np.array([words.index(str(text)) for text in unique], dtype=np.int64)[inverse.ravel()]


def _check_values(table: Arrays, num_stages: int, num_lanes: int) -> None:
    """Refuse rows that no run has."""
    size = table["start_ns"].size
    for name, most in (("stage", num_stages), ("lane", num_lanes), ("released_by", size)):
        least = -1 if name == "released_by" else 0
        if size and not least <= int(table[name].min()) <= int(table[name].max()) < most:
            raise ValueError(f"column {name} with values outside of {least} to {most - 1:,}")
    took_ns = table["end_ns"] - table["start_ns"]
    if size and int(took_ns.min()) < 0:
        raise ValueError("rows that end before they start")
    divided = ~np.isin(table["stream"], _UNDIVIDED)
    if not np.array_equal(np.sum([table[name][divided] for name in _PARTS], axis=0), took_ns[divided]):
        raise ValueError("rows whose parts do not sum to their duration")
    for name in _FLOATS:
        if not np.isfinite(table[name]).all():
            raise ValueError(f"column {name} with a number that is not finite")
