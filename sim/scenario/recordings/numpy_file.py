"""The arrays of a NumPy file: what their headers say is checked before anything is unpacked.

An archive of 100 KB can hold zeros that unpack to gigabytes. The sizes in the headers of all arrays that are read are
summed first; the sum has a limit. Arrays of objects, which NumPy could only read by running code, are refused.
"""

import io
import lzma
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable
from math import prod
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError
from sim.scenario.recordings.recording import refusal

__all__ = ["MAX_UNPACKED_BYTES", "UNREADABLE", "check_unpacked", "npy_array", "npz_arrays", "open_archive"]

MAX_UNPACKED_BYTES: Final = 1 << 28
"""The arrays of a file that are read have no more bytes together, unpacked."""
_MAX_MEMBERS: Final = 10_000
_ENTRY: Final = b"PK\x01\x02"
"""Start of an entry in the directory of an archive."""
_MAX_HEADER_BYTES: Final = 1 << 16
_NUMBERS: Final = "iuf"
"""Kinds of NumPy's dtypes that are real numbers."""
UNREADABLE: Final = (
    ValueError,
    EOFError,
    RuntimeError,
    OSError,
    OverflowError,
    MemoryError,
    TypeError,
    KeyError,
    IndexError,
    SyntaxError,
    NotImplementedError,
    RecursionError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    tokenize.TokenError,
)
"""What zipfile, zlib and NumPy raise on files that are damaged or encrypted."""

Array = NDArray[Any]


class _Header(NamedTuple):
    """The header of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    num_bytes: int


def npz_arrays(
    path: Path,
    content: bytes,
    wanted: Callable[[Iterable[str]], Iterable[str]],
    *,
    has_texts: bool = False,
    most_bytes: int = MAX_UNPACKED_BYTES,
    hint: str = "Write it with numpy.savez.",
) -> dict[str, Array]:
    """Return the arrays of an NPZ file by name.

    Parameters
    ----------
    path, content
        The file, for errors, and its bytes.
    wanted
        Names of the arrays in the file -> names of the arrays that are read.
    has_texts
        Whether arrays may hold texts, and not numbers alone.
    most_bytes
        The limit of the arrays that are read, unpacked.
    hint
        What to do where the file is damaged.

    Raises
    ------
    InvalidValueError
        The file is damaged, or its arrays are too large or hold no numbers.
    """
    kinds = _NUMBERS + "U" if has_texts else _NUMBERS
    try:
        with warnings.catch_warnings(action="ignore"):  # on headers of Python 2 and of odd types
            return _arrays_of(path, open_archive(path, content), wanted, kinds, most_bytes)
    except InvalidValueError:
        raise
    except UNREADABLE:
        raise refusal(path, "be an NPZ file of numbers", "something else", hint) from None


def npy_array(path: Path, content: bytes) -> Array:
    """Return the array of an NPY file.

    Raises
    ------
    InvalidValueError
        The file is damaged, or its array is too large or holds no numbers.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            check_unpacked(path, _header(path, "the array", io.BytesIO(content)).num_bytes)
            return _array(path, io.BytesIO(content))
    except InvalidValueError:
        raise
    except UNREADABLE:
        raise refusal(path, "be an NPY file of numbers", "something else", "Write it with numpy.save.") from None


def open_archive(path: Path, content: bytes) -> zipfile.ZipFile:
    """Return a ZIP archive with a limited number of members, packed in a way that unpacks piece by piece.

    Raises
    ------
    InvalidValueError
        The archive has too many members, or members packed in another way.
    """
    if content.count(_ENTRY) > _MAX_MEMBERS:
        raise refusal(path, f"have at most {_MAX_MEMBERS:,} arrays", "more", "Stack layers and steps in one array.")
    archive = zipfile.ZipFile(io.BytesIO(content))
    for member in archive.infolist():
        if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise refusal(path, "be stored or deflated", "another compression", "Write it with numpy.savez.")
    return archive


def check_unpacked(path: Path, num_bytes: int, most_bytes: int = MAX_UNPACKED_BYTES) -> None:
    """Refuse arrays that are too large, before they are unpacked.

    Raises
    ------
    InvalidValueError
        They are.
    """
    if num_bytes > most_bytes:
        rule = f"unpack to at most {most_bytes >> 20} MiB"
        raise refusal(path, rule, f"{num_bytes / (1 << 20):,.0f} MiB", "Record fewer steps, or sum them.")


# ---- private -----------------------------------------------------------------------------------------------------


def _arrays_of(
    path: Path,
    archive: zipfile.ZipFile,
    wanted: Callable[[Iterable[str]], Iterable[str]],
    kinds: str,
    most_bytes: int,
) -> dict[str, Array]:
    """Return the wanted arrays of an archive, the headers of all of them read first."""
    members = {name.removesuffix(".npy"): name for name in archive.namelist()}
    names, num_bytes, arrays = list(wanted(members)), 0, dict[str, Array]()
    for name in names:
        with archive.open(members[name]) as stream:
            num_bytes += _header(path, name, stream, kinds).num_bytes
    check_unpacked(path, num_bytes, most_bytes)
    for name in names:
        with archive.open(members[name]) as stream:
            arrays[name] = _array(path, stream)
    return arrays


def _header(path: Path, name: str, stream: IO[bytes], kinds: str = _NUMBERS) -> _Header:
    """Return the header of an array; refuse an array of another kind than `kinds`, letters of NumPy's dtypes."""
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(stream)
    rule, hint = f"have real numbers in {name}", "Write them as integers."
    if version not in read:  # later ones are of arrays with named fields
        raise refusal(path, rule, "named fields", hint)
    shape, _, dtype = read[version](stream, max_header_size=_MAX_HEADER_BYTES)
    if dtype.kind not in kinds:
        raise refusal(path, rule, f"dtype {dtype}"[:80], hint)
    if min(shape, default=0) < 0:
        raise refusal(path, f"have an array {name} of a shape", "a negative size", "Write it with NumPy.")
    return _Header(shape, dtype, prod(shape) * dtype.itemsize)


def _array(path: Path, stream: IO[bytes]) -> Array:
    array = np.lib.format.read_array(stream, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise refusal(path, "hold an array", "something else", "Write it with NumPy.")
    return array
