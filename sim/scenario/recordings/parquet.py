"""The rows of a Parquet file: the columns of a recording alone, the number of rows checked before they are read."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sim.errors import InvalidValueError
from sim.scenario.recordings.names import column_roles
from sim.scenario.recordings.recording import refusal

__all__ = ["parquet_rows"]

_MAX_ROWS: Final = 10**7
_MAX_BATCH_ROWS: Final = 1 << 16
_HINT: Final = "Install moesim[parquet], or write it as CSV or NPZ."


def parquet_rows(path: Path, content: bytes) -> tuple[list[str], Iterator[tuple[int, list[Any]]]]:
    """Return the names of the columns of a recording, and the number and cells of each row.

    Raises
    ------
    InvalidValueError
        There is no pyarrow, or the file is no Parquet file of a limited number of rows.
    """
    try:
        import pyarrow.parquet as pq  # noqa: PLC0415  # optional, and slow to import
    except ImportError:
        raise refusal(path, "be read by pyarrow", "no pyarrow", _HINT) from None
    try:
        file = pq.ParquetFile(io.BytesIO(content))
        num_rows, head = file.metadata.num_rows, list(file.schema_arrow.names)
    except Exception as error:  # readers raise errors of their own libraries
        raise refusal(path, "be a Parquet file", str(error)[:200], "Write it with pandas.") from None
    if num_rows > _MAX_ROWS:
        raise refusal(path, f"have at most {_MAX_ROWS:,} rows", f"{num_rows:,}", "Record fewer steps.")
    used = sorted(at for positions in column_roles(head).values() for at in positions)
    names = [head[at] for at in used] or head
    return names, _rows(path, file, names)


def _rows(path: Path, file: Any, names: list[str]) -> Iterator[tuple[int, list[Any]]]:  # noqa: ANN401  # of pyarrow
    """Yield the rows of a file, batch by batch."""
    number = 0
    try:
        for batch in file.iter_batches(batch_size=_MAX_BATCH_ROWS, columns=names):
            for cells in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                number += 1
                yield number, list(cells)
    except InvalidValueError:
        raise
    except Exception as error:  # readers raise errors of their own libraries
        raise refusal(path, "be a Parquet file", str(error)[:200], "Write it with pandas.") from None
