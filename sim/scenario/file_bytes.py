"""The bytes of a scenario file, whatever kind of file it is, without waiting for ever.

A regular file is read as it is. A pipe (`/dev/stdin`, `<(...)`, a FIFO) is read until its writer closes it, as long as
somebody writes: one without a writer, or whose writer is silent, is given up. A terminal may take its time.
"""

import errno
import os
import select
import stat
from pathlib import Path
from typing import Final

__all__ = ["read_bytes"]

_UNWRITTEN_S: Final = 2.0
"""So long a pipe may be without a writer."""
_SILENT_S: Final = 10.0
"""So long a writer may write nothing."""
_STEP_S: Final = 0.05


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
