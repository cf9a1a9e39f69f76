"""A table of published figures: a CSV file with a row for each figure of a scenario, named by `published_table`.

Model
-----
The first line that is no comment names the columns. A column is a field of a figure in `published` (`value`, `name`,
`apart`, ...), or a dotted key of the scenario, whose cells make the figure's `set`. Cells of texts are taken as they
are, all others in their YAML form, as `--set` takes a value: `3566.5 ms`, `1024`, `true`, `[2, 3, 3, 2]`. An empty cell
leaves the scenario as it is, or takes what `published_table` says of all rows. Lines that start with `#` are comments.

A file of a thousand rows is read in a tenth of the time that the same figures would take in YAML.
"""

import csv
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

from sim.errors import InvalidValueError, did_you_mean
from sim.scenario.claims_section import PublishedSpec, PublishedTableSpec
from sim.scenario.file_bytes import read_input_text
from sim.scenario.yaml_file import parse_yaml_value

__all__ = ["read_table"]

_MAX_BYTES: Final = 1 << 22
"""The largest table that is read."""
_TEXTS: Final = ("name", "metric", "source", "system", "group", "apart", "note")
"""Fields of a figure whose cells are texts, not YAML."""
_FIELDS: Final = tuple(field for field in PublishedSpec.model_fields if field != "set")
"""Fields of a figure that a column may give."""
_HINT: Final = "Write a line of columns, such as value,parallel.tp, and a line for each figure, such as 3.5 s,4."

Row = dict[str, Any]


def read_table(path: Path, spec: PublishedTableSpec) -> tuple[list[Row], list[int]]:
    """Return the figures of a table, as `published` lists them, and the line of each.

    Raises
    ------
    InvalidValueError
        The file cannot be read, or a column, a row or a cell is refused; what a figure says is not checked here.
    """
    text = read_input_text(path, _MAX_BYTES, field="the table", hint=_HINT)
    common = {key: value for key, value in spec.model_dump(exclude={"file"}).items() if value is not None}
    columns: list[str] = []
    rows, lines = list[Row](), list[int]()
    for line, cells in _lines_of(text, path):
        if not columns:
            columns = _checked_columns(cells, path, line)
            continue
        if len(cells) != len(columns):
            rule, hint = f"have {len(columns)} cells, as the columns are", "Put a cell with a comma in double quotes."
            raise _refusal((path, line), "the row", rule, f"{len(cells)} cells", hint)
        rows.append(common | _figure(columns, cells, path, line))
        lines.append(line)
    if not rows:
        raise _refusal((path, None), "the table", "have a row", "none", _HINT)
    return rows, lines


# ---- private -----------------------------------------------------------------------------------------------------


def _lines_of(text: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of each line that is neither empty nor a comment."""
    reader = csv.reader(_without_comments(text.splitlines(keepends=True)), strict=True)
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                yield reader.line_num, stripped
    except csv.Error as error:
        raise _refusal((path, reader.line_num), "the table", "be CSV", str(error), "Check its quotes.") from None


def _without_comments(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines, comments as empty lines, so that they keep their numbers."""
    for line in lines:
        yield "\n" if line.startswith("#") else line


def _checked_columns(cells: list[str], path: Path, line: int) -> list[str]:
    """Return the names of the columns, each of which must be a field of a figure or a dotted key."""
    for i, name in enumerate(cells):
        if name in cells[:i]:
            raise _refusal((path, line), "the column", "stand once", f"{name} again", "Remove one of the two.")
        if name not in _FIELDS and "." not in name:
            rule, hint = "be a field of a published figure or a dotted key", did_you_mean(name, list(_FIELDS))
            raise _refusal((path, line), "the column", rule, name or "an empty name", hint)
    if "value" not in cells:
        raise _refusal((path, line), "the columns", "have one named value", ", ".join(cells), _HINT)
    return cells


def _figure(columns: list[str], cells: list[str], path: Path, line: int) -> Row:
    """Return the figure of a row."""
    figure: Row = {}
    changes: Row = {}
    for column, cell in zip(columns, cells, strict=True):
        if not cell:
            continue
        try:
            value = cell if column in _TEXTS else _value(cell)
        except InvalidValueError as error:
            raise _refusal((path, line), column, error.rule, cell, error.hint) from None
        (figure if column in _FIELDS else changes)[column] = value
    return figure | ({"set": changes} if changes else {})


@cache
def _value(cell: str) -> Any:  # noqa: ANN401 - a YAML value is of any type
    """Return the value of a cell; the same cells stand in many rows."""
    return parse_yaml_value(cell)


def _refusal(place: tuple[Path, int | None], field: str, rule: str, value: str, hint: str) -> InvalidValueError:
    file, line = place
    return InvalidValueError(file=str(file), line=line, field=field, rule=rule, value=value, hint=hint)
