"""The content of input files: never a wait without end, never more bytes than a limit.

A scenario file (`read_bytes`) may be a pipe (`/dev/stdin`, `<(...)`, a FIFO). A pipe is read until its writer closes
it, as long as somebody writes: a pipe without a writer, or whose writer is silent, is given up. A terminal may take its
time.

Every other input file passes one gate, `read_input`, whichever key or option names the file: recordings of routing,
files of machines, schedules, results, kept points. The file must be a regular file (no pipe, device or folder) of a
limited size. `parse_json` reads JSON of such a file: finite numbers, and a limited depth.
"""

import codecs
import errno
import json
import os
import re
import select
import stat
from pathlib import Path
from typing import Any, Final, NoReturn

from sim.errors import InvalidValueError

__all__ = ["kind_of_file", "parse_json", "read_bytes", "read_input", "read_input_text"]

_UNWRITTEN_S: Final = 2.0
"""So long a pipe may be without a writer."""
_SILENT_S: Final = 10.0
"""So long a writer may write nothing."""
_STEP_S: Final = 0.05

_KINDS: Final = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)
"""Kinds of files that are no regular files, with their names."""
_MIB: Final = 1 << 20
_BRACKET: Final = re.compile(r"[\[\]{}]")
_MAX_JSON_DEPTH: Final = 100
"""The deepest nesting of JSON that is read; a result of `moesim run` has fewer than 10 levels."""


def read_bytes(path: Path, limit_bytes: int) -> bytes:
    """Return the content of a file, up to a limit.

    Raises
    ------
    TimeoutError
        The file is a pipe from which nothing comes.
    OSError, ValueError
        The file cannot be opened or read.
    """
    if not hasattr(os, "O_NONBLOCK") or stat.S_ISREG(path.stat().st_mode):
        with path.open("rb") as stream:
            return stream.read(limit_bytes)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        if os.isatty(descriptor):
            os.set_blocking(descriptor, True)
        return _read_pipe(descriptor, limit_bytes)
    finally:
        os.close(descriptor)


def read_input(
    path: Path, limit_bytes: int, *, field: str = "the file", hint: str = "Check the path.", too_large: str = ""
) -> bytes:
    """Return the content of a regular file.

    Parameters
    ----------
    path
        The file; links are followed.
    limit_bytes
        Largest size.
    field, hint
        What the errors name as wrong, and what they advise.
    too_large
        What the error advises where the file is too large; empty: `hint`.

    Raises
    ------
    InvalidValueError
        The file is no regular file, cannot be read, or is too large.
    """

    def refuse(rule: str, value: str, advice: str = hint) -> NoReturn:
        raise InvalidValueError(file=str(path), field=field, rule=rule, value=value, hint=advice) from None

    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        refuse("exist and be readable", "no such file")
    except OSError as error:
        refuse("be a regular file that can be read", error.strerror or "an error")
    except ValueError:
        refuse("be a path that can be opened", str(path))
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            refuse("be a regular file", _kind(mode), "Write it into a file, and name that file.")
        with open(descriptor, "rb", closefd=False) as stream:
            content = stream.read(limit_bytes + 1)
    except OSError as error:
        refuse("be readable", error.strerror or "an error")
    finally:
        os.close(descriptor)
    if len(content) > limit_bytes:
        size = f"{limit_bytes // _MIB} MiB" if limit_bytes >= _MIB else f"{limit_bytes >> 10} KiB"
        refuse(f"be at most {size} large", "a larger file", too_large or hint)
    return content


def read_input_text(
    path: Path, limit_bytes: int, *, field: str = "the file", hint: str = "Check the path.", too_large: str = ""
) -> str:
    """Return the text of a regular file in UTF-8, or in UTF-16 with its mark, as `>` of PowerShell writes a file.

    The parameters are those of `read_input`.

    Raises
    ------
    InvalidValueError
        The file is refused by `read_input`, or is no such text.
    """
    content = read_input(path, limit_bytes, field=field, hint=hint, too_large=too_large)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return content.decode("utf-16")
        except UnicodeDecodeError:
            pass  # refused below: its first byte is none of UTF-8
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, value = content[: error.start].count(b"\n") + 1, f"byte 0x{content[error.start]:02x}"
        raise InvalidValueError(
            file=str(path), line=line, field=field, rule="be UTF-8 text", value=value, hint="Save it as UTF-8."
        ) from None


def kind_of_file(path: Path) -> str | None:
    """Return what stands at a path where it is no regular file, such as "a pipe"; None where it is one.

    >>> kind_of_file(Path("."))
    'a directory'
    """
    mode = path.stat().st_mode
    return None if stat.S_ISREG(mode) else _kind(mode)


def _kind(mode: int) -> str:
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "another kind of file")


def parse_json(text: str, *, finite: bool = True) -> Any:  # noqa: ANN401  # a JSON value is of any type
    """Return the value of a JSON text whose nesting is at most 100 levels deep.

    Parameters
    ----------
    text
        The JSON.
    finite
        Whether all numbers must be finite; some writers of JSON write `Infinity`.

    Raises
    ------
    ValueError
        The text is no such JSON; the message says why, in a few words.

    Examples
    --------
    >>> parse_json('{"a": [1, 2.5]}')
    {'a': [1, 2.5]}
    >>> parse_json('{"a": NaN}')
    Traceback (most recent call last):
    ValueError: NaN, which is not finite
    """
    if _depth(text) > _MAX_JSON_DEPTH:
        raise ValueError(f"JSON of more than {_MAX_JSON_DEPTH} levels")
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite) if finite else json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"no valid JSON (line {error.lineno})") from None
    except RecursionError:
        raise ValueError(f"JSON of more than {_MAX_JSON_DEPTH} levels") from None


def _depth(text: str) -> int:
    """Return the nesting of a JSON text; 0 where there are few brackets."""
    if text.count("[") + text.count("{") <= _MAX_JSON_DEPTH:
        return 0
    outside_strings = text.replace("\\\\", "").replace('\\"', "").split('"')[::2]
    depth = most = 0
    for bracket in _BRACKET.finditer("".join(outside_strings)):
        depth += 1 if bracket[0] in "[{" else -1
        most = max(most, depth)
        if most > _MAX_JSON_DEPTH:
            break
    return most


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name}, which is not finite")


def _finite(text: str) -> float:
    """Return a number of JSON; `1e999` is not finite."""
    number = float(text)
    if number in {float("inf"), float("-inf")}:
        raise ValueError(f"{text[:20]}, which is not finite")
    return number


def _read_pipe(descriptor: int, limit_bytes: int) -> bytes:
    """Return what comes out of a pipe until its end, up to a limit."""
    content, waited_s = b"", 0.0
    while len(content) < limit_bytes:
        is_ready = bool(select.select([descriptor], [], [], _STEP_S)[0])
        piece = _piece(descriptor, limit_bytes - len(content))
        if piece:
            content, waited_s = content + piece, 0.0
            continue
        if piece is not None and (is_ready or content):
            break  # its end
        waited_s += _STEP_S
        if piece is None and waited_s > _SILENT_S:
            raise TimeoutError(errno.ETIMEDOUT, f"a pipe into which nothing was written for {_SILENT_S:g} s")
        if piece is not None and waited_s > _UNWRITTEN_S:
            raise TimeoutError(errno.ETIMEDOUT, "a pipe that nobody writes to")
    return content


def _piece(descriptor: int, limit_bytes: int) -> bytes | None:
    """Return what can be read now; nothing at the end or without a writer, None where a writer is silent."""
    try:
        return os.read(descriptor, limit_bytes)
    except BlockingIOError:
        return None
