"""The operations of a measured job, from a table: one row for each operation of each worker and step.

Format
------
CSV with a header; lines with `#` are comments. Columns `dp_rank`, `stage`, `step`, `optype`, `start_ms` and
`duration_ms`; `mb_id` (microbatch, -1: none) may be left out, and other columns are named in a warning. Names of
operations are those of ByteDance's traces (Lin et al., "Understanding Stragglers in Large Model Training Using What-if
Analysis", OSDI 2025).
"""

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError
from sim.scenario.file_bytes import read_input_text

__all__ = ["BACKWARD", "COMPUTE", "EMBEDDING_REDUCE", "FORWARD", "OPERATION_KINDS", "Operations", "read_operations"]

FORWARD: Final = "forward-compute"
BACKWARD: Final = "backward-compute"
EMBEDDING_REDUCE: Final = "embedding-grads-all-reduce"

OPERATION_KINDS: Final[dict[str, str]] = {
    FORWARD: "other_compute",
    BACKWARD: "other_compute",
    "forward-send": "pp",
    "forward-recv": "pp",
    "backward-send": "pp",
    "backward-recv": "pp",
    "params-all-gather": "dp",
    "grads-reduce-scatter": "dp",
    "layernorm-grads-all-reduce": "tp",
    EMBEDDING_REDUCE: "dp",
    "gc": "other_compute",
    "optimizer-clip-main-grad": "optimizer",
    "optimizer": "optimizer",
}
"""Name of an operation -> kind of its row in a trace."""

COMPUTE: Final = (FORWARD, BACKWARD, "gc", "optimizer")
"""Operations that a worker runs alone; all others wait for other workers."""

_MAX_BYTES: Final = 1 << 28
_MAX_ROWS: Final = 5_000_000
_NEEDED: Final = ("dp_rank", "stage", "step", "optype", "start_ms", "duration_ms")
_KNOWN: Final = (*_NEEDED, "mb_id", "seq_id", "mc")
_MOST_MS: Final = 1e10
"""115 days."""
_MOST_COUNT: Final = 1 << 20
_HINT: Final = f"Columns are {', '.join(_NEEDED)}, and mb_id where passes have microbatches."


@dataclass(frozen=True, kw_only=True, eq=False)
class Operations:
    """Operations by step, worker and start. All arrays have shape [N]."""

    dp_rank: NDArray[np.int64]
    stage: NDArray[np.int64]
    step: NDArray[np.int64]
    optype: NDArray[np.str_]
    """Name, a key of `OPERATION_KINDS`."""
    microbatch: NDArray[np.int64]
    """Microbatch; -1: none."""
    start_s: NDArray[np.float64]
    """Start after that of the step."""
    duration_s: NDArray[np.float64]
    warnings: tuple[str, ...] = ()
    """Columns that are not used."""

    def __len__(self) -> int:
        return int(self.start_s.size)

    @property
    def end_s(self) -> NDArray[np.float64]:
        """End of each."""
        return self.start_s + self.duration_s

    @property
    def num_stages(self) -> int:
        """Stages of the pipeline."""
        return int(self.stage.max()) + 1

    @property
    def num_replicas(self) -> int:
        """Data-parallel replicas."""
        return int(self.dp_rank.max()) + 1

    @property
    def steps(self) -> list[int]:
        """Numbers of the steps, ascending."""
        return [int(step) for step in np.unique(self.step)]

    def step_times_s(self, start_s: NDArray[np.float64], end_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return first start to last end of each step. Shape [steps]."""
        number = np.searchsorted(np.array(self.steps), self.step)
        first, last = np.full(number.max() + 1, np.inf), np.full(number.max() + 1, -np.inf)
        np.minimum.at(first, number, start_s)
        np.maximum.at(last, number, end_s)
        return last - first


def read_operations(path: Path) -> Operations:
    """Read a table of operations.

    Raises
    ------
    InvalidValueError
        The file is no such table: line, column and value are named.
    """
    text = read_input_text(path, _MAX_BYTES, hint=_HINT, too_large="Keep some of the steps.")
    lines = ((number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip())
    kept = [(number, line) for number, line in lines if not line.startswith("#")]
    if len(kept) < 2:  # a header and a row
        raise InvalidValueError(str(path), "have a header and rows", "one line" if kept else "no lines", _HINT)
    header = [name.strip() for name in _cells(path, *kept[0])]
    missing = [name for name in _NEEDED if name not in header]
    if missing:
        raise InvalidValueError(str(path), f"have a column {missing[0]}", ", ".join(header)[:80], _HINT)
    twice = [name for name in _KNOWN if header.count(name) > 1]
    if twice:
        raise InvalidValueError(str(path), "name each column once", f"{twice[0]} twice", _HINT)
    if len(kept) - 1 > _MAX_ROWS:
        raise InvalidValueError(str(path), f"have at most {_MAX_ROWS:,} rows", len(kept) - 1, "Keep some of the steps.")
    reader = _Rows(path, header)
    for number, line in kept[1:]:
        reader.add(number, _cells(path, number, line))
    unused = [name for name in header if name not in _KNOWN]
    return reader.operations(tuple(f"column {name} is not used" for name in unused))


def _cells(path: Path, number: int, line: str) -> list[str]:
    """Return the cells of a line; a quote that is not closed ends with its line."""
    try:
        return next(csv.reader([line]))
    except csv.Error as error:
        raise InvalidValueError(
            field="the row", rule="be CSV", value=str(error), hint=_HINT, file=str(path), line=number
        ) from None


class _Rows:
    """Rows as they are read, each checked."""

    def __init__(self, path: Path, header: list[str]) -> None:
        self._path, self._header = path, header
        self._place = {name: header.index(name) for name in header}
        self._counts: dict[str, list[int]] = {name: [] for name in ("dp_rank", "stage", "step", "mb_id")}
        self._times: dict[str, list[float]] = {"start_ms": [], "duration_ms": []}
        self._names: list[str] = []

    def add(self, line: int, cells: list[str]) -> None:
        """Add a row."""
        if len(cells) != len(self._header):
            self._refuse(line, "the row", f"have {len(self._header)} cells", str(len(cells)))
        for name, values in self._counts.items():
            values.append(self._count(line, name, cells) if name in self._place else -1)
        for name, times in self._times.items():
            times.append(self._time(line, name, cells))
        name = cells[self._place["optype"]].strip()
        if name not in OPERATION_KINDS:
            self._refuse(line, "optype", f"be one of {', '.join(OPERATION_KINDS)}", name[:40])
        self._names.append(name)

    def operations(self, warnings: tuple[str, ...]) -> Operations:
        """Return the rows by step, worker and start, each step from 0 on."""
        columns = {name: np.array(values, dtype=np.int64) for name, values in self._counts.items()}
        start_s, duration_s = (np.array(values) * 1e-3 for values in self._times.values())
        names = np.array(self._names)
        order = np.lexsort((names, start_s, columns["stage"], columns["dp_rank"], columns["step"]))
        step = columns["step"][order]
        number = np.unique(step, return_inverse=True)[1]
        first = np.full(number.max() + 1, np.inf)
        np.minimum.at(first, number, start_s[order])
        return Operations(
            dp_rank=columns["dp_rank"][order],
            stage=columns["stage"][order],
            step=step,
            optype=names[order],
            microbatch=columns["mb_id"][order],
            start_s=start_s[order] - first[number],
            duration_s=duration_s[order],
            warnings=warnings,
        )

    def _count(self, line: int, name: str, cells: list[str]) -> int:
        text, least = cells[self._place[name]].strip(), -1 if name == "mb_id" else 0
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value < _MOST_COUNT:
            self._refuse(line, name, f"be an integer of at least {least}, below {_MOST_COUNT:,}", text[:40])
        return value

    def _time(self, line: int, name: str, cells: list[str]) -> float:
        text = cells[self._place[name]].strip()
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        least = 0.0 if name == "duration_ms" else -_MOST_MS
        if not least <= value <= _MOST_MS:
            rule = "be a number of milliseconds" + (", at least 0" if name == "duration_ms" else "")
            self._refuse(line, name, rule, text[:40])
        return value

    def _refuse(self, line: int, field: str, rule: str, value: str) -> None:
        raise InvalidValueError(field=field, rule=rule, value=value, hint=_HINT, file=str(self._path), line=line)
