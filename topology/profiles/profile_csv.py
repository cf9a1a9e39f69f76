"""A device profile as a CSV file: one measured kernel a line.

Columns: `operation`, `format`, the sizes of the operation's shape, `time_us`, and if wanted `kernel` (which library or
kernel was measured; the first of an operation and format is the default) and `source`. A size that the operation does
not have stays empty. Lines that begin with `#` are comments.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError, did_you_mean, shown
from topology.profiles.formats import FORMATS
from topology.profiles.operations import OPERATIONS

__all__ = ["COLUMNS", "MAX_PROFILE_BYTES", "MAX_PROFILE_ROWS", "MeasuredRows", "parse_profile"]

MAX_PROFILE_BYTES = 8 << 20
"""Largest profile file; the bundled ones have 0.2 MB."""
MAX_PROFILE_ROWS = 50_000
"""Most rows: each estimate looks at all rows of its operation."""
_LARGEST = 1e12
"""Largest size and, in microseconds, longest time of a kernel."""

_SHAPE_COLUMNS = tuple(dict.fromkeys(name for operation in OPERATIONS.values() for name in operation.fields))
COLUMNS = ("operation", "format", "kernel", *_SHAPE_COLUMNS, "time_us", "source")
"""All columns that a profile may have, in the order of the bundled files."""
_REQUIRED = ("operation", "format", "time_us")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRows:
    """Measured times of one operation in one format by one kernel."""

    operation: str
    """A name of `OPERATIONS`."""
    format: str
    """A name of `FORMATS`."""
    kernel: str
    """Library or kernel; empty where the file has no such column."""
    shapes: dict[str, NDArray[np.float64]]
    """Sizes by field, each of shape [N]."""
    time_s: NDArray[np.float64]
    """Measured times. Shape [N]."""


def parse_profile(text: str, file: str | None = None) -> list[MeasuredRows]:
    r"""Return the rows of a profile, grouped by operation, format and kernel in the order in which these come.

    Raises
    ------
    InvalidValueError
        A column, operation or format is unknown, a size or a time is missing or no number above 0, or there is no row.

    Examples
    --------
    >>> rows = parse_profile("operation,format,m,n,k,time_us\ngemm,bf16,4096,8192,8192,788\n")
    >>> rows[0].operation, rows[0].shapes["m"].tolist(), float(rows[0].time_s[0])
    ('gemm', [4096.0], 0.000788)
    """
    reader = _Reader(file)
    groups: dict[tuple[str, str, str], list[list[float]]] = {}
    num_rows = -1  # the first line names the columns
    for line, text_of_line in enumerate(text.splitlines(), 1):
        if not text_of_line.strip() or text_of_line.startswith("#"):
            continue
        # A cell in quotes holds no line break: no column needs one.
        cells = next(csv.reader([text_of_line])) if '"' in text_of_line else text_of_line.split(",")
        num_rows += 1
        if num_rows == 0:
            reader.read_header(line, [cell.strip() for cell in cells])
            continue
        if num_rows > MAX_PROFILE_ROWS:
            raise reader.refusal(line, "the profile", f"have at most {MAX_PROFILE_ROWS} rows", "more", "Thin it out.")
        key, numbers = reader.row(line, cells)
        groups.setdefault(key, []).append(numbers)
    if not groups:
        hint = "Write a line such as gemm,bf16,4096,8192,8192,788 under operation,format,m,n,k,time_us."
        raise reader.refusal(None, "the profile", "have a measured row", "none", hint)
    return [_group(key, numbers) for key, numbers in groups.items()]


def _group(key: tuple[str, str, str], numbers: list[list[float]]) -> MeasuredRows:
    """Return the rows of one table, sizes that were left out filled in row by row."""
    operation, columns = OPERATIONS[key[0]], np.array(numbers, dtype=np.float64).T
    given = dict(zip(operation.fields, columns[1:], strict=True))
    certain = {name: sizes for name, sizes in given.items() if not np.isnan(sizes).any()}
    for name in operation.fields:
        if name not in certain:
            filled = operation.complete(certain)[name]
            certain[name] = np.where(np.isnan(given[name]), filled, given[name])
    return MeasuredRows(operation=key[0], format=key[1], kernel=key[2], shapes=certain, time_s=columns[0] * 1e-6)


class _Reader:
    """Checks of one file."""

    def __init__(self, file: str | None) -> None:
        self._file = file
        self._header: Sequence[str] = ()
        self._positions: dict[str, int] = {}
        self._columns: dict[str, tuple[list[int | None], list[int]]] = {}

    def read_header(self, line: int, cells: Sequence[str]) -> None:
        """Take the names of the columns."""
        for name in cells:
            if name not in COLUMNS:
                raise self.refusal(line, "a column", "be known", shown(name), did_you_mean(name, COLUMNS))
            if cells.count(name) > 1:
                raise self.refusal(line, f"column {name}", "stand once", "twice", "Remove one of them.")
        for name in _REQUIRED:
            if name not in cells:
                hint = f"The first line names the columns: {', '.join(_REQUIRED)}, and the sizes of the shapes."
                raise self.refusal(line, f"column {name}", "be given", "nothing", hint)
        self._header = cells
        self._positions = {name: i for i, name in enumerate(cells)}

    def row(self, line: int, cells: Sequence[str]) -> tuple[tuple[str, str, str], list[float]]:
        """Return operation, format and kernel of a row, and its time with the sizes of the operation's fields."""
        if len(cells) != len(self._header):
            rule = f"have {len(self._header)} cells, as many as the first line"
            raise self.refusal(line, "a row", rule, len(cells), "Separate the cells by commas.")
        at = self._positions
        name, fmt = cells[at["operation"]].strip(), cells[at["format"]].strip()
        if name not in OPERATIONS:
            raise self.refusal(line, "operation", "be known", shown(name), did_you_mean(name, OPERATIONS))
        if fmt not in FORMATS:
            raise self.refusal(line, "format", "be known", shown(fmt), did_you_mean(fmt, FORMATS))
        operation = OPERATIONS[name]
        if name not in self._columns:
            others = [i for column, i in at.items() if column in _SHAPE_COLUMNS and column not in operation.fields]
            self._columns[name] = [at.get(field) for field in operation.fields], others
        own, others = self._columns[name]
        for i in others:
            if cells[i] and cells[i].strip():
                hint = f"{name} has {', '.join(operation.fields)}."
                raise self.refusal(line, self._header[i], f"stay empty with operation {name}", shown(cells[i]), hint)
        numbers = [self._number(line, "time_us", cells[at["time_us"]])]
        for field, position in zip(operation.fields, own, strict=True):
            cell = "" if position is None else cells[position]
            is_left_out = field in operation.optional and not cell.strip()
            numbers.append(math.nan if is_left_out else self._number(line, field, cell))
        return (name, fmt, cells[at["kernel"]].strip() if "kernel" in at else ""), numbers

    def _number(self, line: int, column: str, cell: str) -> float:
        try:
            number = float(cell)
        except ValueError:
            number = math.nan
        if column == "causal" and number in {0.0, 1.0}:
            return number
        if not 0 < number <= _LARGEST or column == "causal":
            rule = "be 0 or 1" if column == "causal" else f"be a number above 0 and up to {_LARGEST:g}"
            raise self.refusal(line, column, rule, shown(cell.strip() or "nothing"), "Write a plain number.")
        return number

    def refusal(self, line: int | None, field: str, rule: str, value: object, hint: str) -> InvalidValueError:
        return InvalidValueError(file=self._file, line=line, field=field, rule=rule, value=value, hint=hint)
