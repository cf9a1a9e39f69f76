"""Rows of tables, and the files that they are written to: CSV, JSON, Parquet."""

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sim.errors import InvalidValueError

__all__ = ["TABLES", "check_table", "write_table"]

Row = Mapping[str, Any]
_HINT: Final = "Install moesim[parquet], or write .csv or .json."


def check_table(path: Path) -> None:
    """Refuse a file of a kind that cannot be written here.

    Raises
    ------
    InvalidValueError
        It is a Parquet file, and what writes such files is not installed.
    """
    if path.suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401, PLC0415  # optional, and slow to import
        except ImportError:
            rule = "be a table that can be written here"
            raise InvalidValueError("--output", rule, f"{path}, for which pyarrow is missing", _HINT) from None


def write_table(rows: Sequence[Row], path: Path) -> None:
    """Write rows as the file's suffix says; the columns are all names of all rows, in the order in which they occur."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    TABLES[path.suffix](rows, columns, path)


# ---- private -----------------------------------------------------------------------------------------------------


def _write_csv(rows: Iterable[Row], columns: Sequence[str], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)


def _cell(value: object) -> object:
    """Return a value as CSV has it: nothing for none, JSON for lists and mappings, whose commas would be cells."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else value


def _write_json(rows: Iterable[Row], columns: Sequence[str], path: Path) -> None:
    del columns
    with path.open("w", encoding="utf-8") as stream:
        lead = "[\n"
        for row in rows:
            stream.write(lead + json.dumps(row, ensure_ascii=False, allow_nan=False))
            lead = ",\n"
        stream.write("[]\n" if lead == "[\n" else "\n]\n")


def _write_parquet(rows: Iterable[Row], columns: Sequence[str], path: Path) -> None:
    import pyarrow as pa  # noqa: PLC0415  # optional, and slow to import
    import pyarrow.parquet as pq  # noqa: PLC0415

    listed = list(rows)
    table = {name: pa.array(_alike([row.get(name) for row in listed])) for name in columns}
    pq.write_table(pa.table(table), path)


def _alike(values: list[Any]) -> list[Any]:
    """Return the values of a column of one kind: texts, where they are of several kinds or no plain values."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float}:
        return values if len(kinds) < 2 else [None if value is None else float(value) for value in values]
    if len(kinds) == 1 and kinds <= {bool, str}:
        return values
    return [None if value is None else str(_cell(value)) for value in values]


TABLES: Final[dict[str, Callable[[Iterable[Row], Sequence[str], Path], None]]] = {
    ".csv": _write_csv,
    ".json": _write_json,
    ".parquet": _write_parquet,
}
"""Suffix of a table's file -> what writes it."""
