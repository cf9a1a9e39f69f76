"""A recorded trace of routing: tokens per layer and expert, of one microbatch or several.

Model
-----
    CSV      columns layer, expert, tokens, and microbatch where there are several; in any order, a line each
    NPZ      one array `tokens` [microbatches, layers, experts] or [layers, experts]
    Parquet  the columns of CSV; needs the extra `parquet` (pandas and pyarrow)

Numbers of layers, experts and microbatches begin at 0; what is not listed is 0. Each layer has tokens in each
microbatch.
"""

import csv
import io
import zipfile
import zlib
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError

__all__ = ["read_routing_trace"]

_MAX_BYTES: Final = 1 << 28
_MAX_CELLS: Final = 10**8
"""A recording has no more counts, so that numbers of layers cannot ask for all memory."""
_COLUMNS: Final = ("layer", "expert", "tokens")


def read_routing_trace(path: Path) -> NDArray[np.float64]:
    """Return tokens [microbatches, layers, experts].

    Raises
    ------
    InvalidValueError
        The file cannot be read, or is no such recording.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise _error(path, "be at most 256 MiB large", "a larger file", "Record fewer microbatches.")
        match path.suffix.lower():
            case ".npz":
                tokens = _from_npz(path)
            case ".csv":
                tokens = _from_csv(path)
            case ".parquet":
                tokens = _from_parquet(path)
            case other:
                raise _error(path, "end in .csv, .npz or .parquet", other or "no ending", "Rename or convert it.")
    except OSError as error:
        raise _error(path, "be readable", error.strerror or "an error", "Check path and permissions.") from None
    if tokens.size == 0 or not np.isfinite(tokens).all() or (tokens < 0).any():
        raise _error(path, "have finite tokens of at least 0", "others, or none", "Correct them.")
    empty = np.argwhere(tokens.sum(axis=2) == 0)
    if empty.size:
        microbatch, layer = empty[0].tolist()
        value = f"none in layer {layer} of microbatch {microbatch}"
        raise _error(path, "have tokens in every layer and microbatch", value, "Leave dense layers out.")
    return tokens


# ---- private -----------------------------------------------------------------------------------------------------


def _from_npz(path: Path) -> NDArray[np.float64]:
    """Return the array `tokens`; what its header says is checked before anything is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            if "tokens" not in names:
                raise _error(path, "have an array `tokens`", ", ".join(names) or "none", "Name it tokens.")
            member = archive.namelist()[names.index("tokens")]
            with archive.open(member) as stream:
                _check_header(path, stream)
            with archive.open(member) as stream:
                tokens = np.asarray(np.lib.format.read_array(stream, allow_pickle=False), dtype=float)
    except InvalidValueError:
        raise
    except (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):  # RuntimeError: it is encrypted
        raise _error(path, "be an NPZ file of numbers", "something else", "Write it with numpy.savez.") from None
    return tokens if tokens.ndim == 3 else tokens[None]


def _check_header(path: Path, stream: IO[bytes]) -> None:
    """Refuse an array that holds no real numbers, of another number of dims, or with too many counts."""
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(stream)
    if version not in read:  # later ones are of arrays with named fields
        raise _error(path, "have tokens that are real numbers", "named fields", "Write them as integers.")
    shape, _, dtype = read[version](stream)
    if dtype.kind not in "iuf":
        raise _error(path, "have tokens that are real numbers", f"dtype {dtype}"[:80], "Write them as integers.")
    if len(shape) not in {2, 3}:
        rule = "have tokens [layers, experts] or [microbatches, layers, experts]"
        raise _error(path, rule, f"{len(shape)} dims", "Reshape them.")
    if min(shape) < 0 or prod(shape) > _MAX_CELLS:
        raise _error(path, f"have at most {_MAX_CELLS:,} counts", f"{prod(shape):,}", "Record fewer microbatches.")


def _from_csv(path: Path) -> NDArray[np.float64]:
    try:
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))
    except (UnicodeDecodeError, csv.Error):
        raise _error(path, "be CSV in UTF-8", "something else", "Save it as CSV.") from None
    head = [name.strip() for name in rows[0]] if rows else []
    names = (*_COLUMNS, "microbatch") if "microbatch" in head else _COLUMNS
    if not set(names) <= set(head):
        raise _error(path, f"have columns {', '.join(_COLUMNS)}", ", ".join(head) or "none", "Name them so.")
    places = [head.index(name) for name in names]
    values = []
    for line, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        try:
            values.append([float(row[place]) for place in places])
        except (ValueError, IndexError):
            raise _error(path, "have numbers in every line", f"line {line}", "Correct it.") from None
    return _filled(path, np.array(values, dtype=float).reshape(-1, len(names)))


def _from_parquet(path: Path) -> NDArray[np.float64]:
    hint = "Install moesim[parquet], or write it as CSV or NPZ."
    try:
        import pandas as pd  # noqa: PLC0415  # optional, and slow to import
    except ImportError:
        raise _error(path, "be read by pandas", "no pandas", hint) from None
    try:
        frame = pd.read_parquet(path)
    except ImportError:
        raise _error(path, "be read by pandas with pyarrow", "neither pyarrow nor fastparquet", hint) from None
    except Exception as error:  # readers raise errors of their own libraries
        raise _error(path, "be a Parquet file", str(error)[:200], "Write it with pandas.") from None
    names: Sequence[str] = (*_COLUMNS, "microbatch") if "microbatch" in frame.columns else _COLUMNS
    if not set(names) <= set(frame.columns):
        raise _error(path, f"have columns {', '.join(_COLUMNS)}", ", ".join(map(str, frame.columns)), "Name them so.")
    return _filled(path, np.asarray(frame[list(names)].to_numpy(), dtype=float))


def _filled(path: Path, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return tokens by microbatch, layer and expert from rows of layer, expert, tokens [, microbatch]."""
    places = rows[:, [3, 0, 1]] if rows.shape[1] == 4 else np.insert(rows[:, [0, 1]], 0, 0, axis=1)
    whole = np.isfinite(places).all() and (places >= 0).all() and (places == np.floor(places)).all()
    if not len(rows) or not whole:
        raise _error(path, "number layers, experts and microbatches from 0", "other numbers, or none", "Correct them.")
    shape = places.max(axis=0) + 1
    if shape.prod() > _MAX_CELLS:
        raise _error(path, f"have at most {_MAX_CELLS:,} counts", f"{shape.prod():,.0f}", "Correct the numbers.")
    tokens = np.zeros(shape.astype(int))
    np.add.at(tokens, tuple(places.astype(int).T), rows[:, 2])
    return tokens


def _error(path: Path, rule: str, value: str, hint: str) -> InvalidValueError:
    return InvalidValueError(file=str(path), field="the file", rule=rule, value=value, hint=hint)
