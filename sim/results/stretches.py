"""The path of a step in stretches: consecutive kernels and transfers of one stage, in passes of one kind."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.engine.trace import Trace
from sim.results.path import path_rows

__all__ = ["Stretch", "path_stretches"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A piece of the path on one stage, in passes of one kind."""

    stage: int
    """Stage of the pipeline."""
    passes: str
    """The passes, such as `F3 to F7`; `outside of passes` before the first and after the last."""
    from_ns: int
    """Where it begins, after the start of the step."""
    to_ns: int
    """Where it ends."""
    largest: str
    """Kind of kernel or transfer that takes most of it."""
    num_rows: int
    """Kernels and transfers."""

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON, times in seconds."""
        return {
            "stage": self.stage,
            "passes": self.passes,
            "from_s": self.from_ns * 1e-9,
            "to_s": self.to_ns * 1e-9,
            "largest": self.largest,
        }


def path_stretches(trace: Trace) -> list[Stretch]:
    """Return the stretches of the path, first to last; waits between a release and a start are in none."""
    stages, kind_of = trace.ints("stage"), _pass_kinds(trace)
    found: list[Stretch] = []
    piece: list[tuple[int, int, int]] = []
    where: tuple[int, str] | None = None
    for row in reversed(path_rows(trace)):
        here = (int(stages[row[0]]), kind_of(row[0]))
        if piece and here != where:
            found.append(_stretch(trace, piece, where))
            piece = []
        piece.append(row)
        where = here
    if piece:
        found.append(_stretch(trace, piece, where))
    return found


# ---- private -----------------------------------------------------------------------------------------------------


def _pass_kinds(trace: Trace) -> Callable[[int], str]:
    """Return what tells the kind of the pass in which a row began, an empty text outside of passes."""
    stages, lanes, kinds = trace.ints("stage"), trace.ints("lane"), trace["kind"]
    start, end = trace.ints("start_ns"), trace.ints("end_ns")
    passes: dict[tuple[int, int], np.ndarray[Any, np.dtype[np.intp]]] = {}

    def kind_of(row: int) -> str:
        where = (int(stages[row]), int(lanes[row]))
        if where not in passes:
            rows = trace.rows("pass", stage=where[0], lane=where[1])
            passes[where] = rows[np.argsort(start[rows], kind="stable")]
        rows = passes[where]
        at = int(np.searchsorted(start[rows], start[row], side="right")) - 1
        return str(kinds[rows[at]]) if at >= 0 and start[row] < end[rows[at]] else ""

    return kind_of


def _stretch(trace: Trace, piece: list[tuple[int, int, int]], where: tuple[int, str] | None) -> Stretch:
    stage, kind = where or (0, "")
    microbatches = trace.ints("microbatch")[[row for row, _, _ in piece]]
    first, last = int(microbatches.min()), int(microbatches.max())
    spent: dict[str, int] = {}
    for row, begin, to in piece:
        name = str(trace["kind"][row])
        spent[name] = spent.get(name, 0) + to - begin
    passes = "outside of passes"
    if kind and first >= 0:
        passes = f"{kind}{first}" + (f" to {kind}{last}" if last > first else "")
    return Stretch(
        stage=stage,
        passes=passes,
        from_ns=piece[0][1] - trace.start_ns,
        to_ns=piece[-1][2] - trace.start_ns,
        largest=max(spent, key=lambda name: spent[name]),
        num_rows=len(piece),
    )
