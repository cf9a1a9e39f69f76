"""Standard output that fails in words: a reader that has gone ends the command in silence, a full disk with a message.

Either stream may be closed by who starts the command. Without standard output nothing is run; without standard error
messages are dropped, for Python would print them on standard output.

Click and rich end a command with exit code 1 when a pipe is closed, which is that of a failed check. So the stream
raises errors of its own, which they leave alone.
"""

import errno
import os
import sys
from typing import Any, TextIO, cast

from sim.errors import OutputError

__all__ = ["ReaderGoneError", "check_stdout", "guard_stdout", "open_stderr", "settle_stderr", "silence_stdout"]

_STDERR = 2
_NAME = "standard output"
"""The file of an `OutputError` about it."""


class ReaderGoneError(Exception):
    """Nobody reads standard output any more."""


class _Guarded:
    """A text stream that turns errors of the system into those of the command; all else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text, or say why it cannot be written."""
        try:
            return self._stream.write(text)
        except OSError as error:
            raise _told(error) from None

    def flush(self) -> None:
        """Flush, or say why what was written cannot be."""
        try:
            self._stream.flush()
        except OSError as error:
            raise _told(error) from None

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the stream has
        return getattr(self._stream, name)


def check_stdout() -> None:
    """Refuse a standard output that is closed, or open for reading alone.

    Raises
    ------
    OutputError
        Nothing can be written there.
    """
    try:
        if sys.stdout is not None and not sys.stdout.closed:  # None: closed when the interpreter started
            os.write(sys.stdout.fileno(), b"")
            return
    except ValueError:  # no file, so not one that can be closed
        return
    except OSError as error:
        if error.errno != errno.EBADF:
            return  # found out, and told, where something is written
    raise OutputError(file=_NAME, reason="it is closed", hint="Leave it open, or send it to a file.")


def open_stderr() -> None:
    """Give messages somewhere to go where standard error is closed, for else they would stand on standard output."""
    if sys.stderr is not None:
        return
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != _STDERR:
        os.dup2(nowhere, _STDERR)
    sys.stderr = open(_STDERR, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  # a number; open to the end


def guard_stdout() -> None:
    """Let all that is printed from now on fail in words."""
    sys.stdout = cast("TextIO", _Guarded(sys.stdout))


def silence_stdout() -> None:
    """Point standard output elsewhere, so that what is left in its buffer is dropped without a word at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def settle_stderr() -> None:
    """Drop what standard error cannot take, for at exit Python would make an exit code of its own of it."""
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STDERR)
    except ValueError:  # closed
        return


# ---- private -----------------------------------------------------------------------------------------------------


def _told(error: OSError) -> Exception:
    if isinstance(error, BrokenPipeError):
        return ReaderGoneError()
    return OutputError(file=_NAME, reason=error.strerror or str(error), hint="Make room, or write somewhere else.")
