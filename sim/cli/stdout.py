"""Standard output that fails in words: a reader that has gone ends the command in silence, a full disk with a message.

Click and rich end a command with exit code 1 when a pipe is closed, which is that of a failed check. So the stream
raises errors of its own, which they leave alone.
"""

import os
import sys
from typing import Any, TextIO, cast

from sim.errors import OutputError

__all__ = ["STANDARD_OUTPUT", "ReaderGoneError", "guard_stdout", "silence_stdout"]


STANDARD_OUTPUT = "standard output"
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


def guard_stdout() -> None:
    """Let all that is printed from now on fail in words."""
    sys.stdout = cast("TextIO", _Guarded(sys.stdout))


def silence_stdout() -> None:
    """Point standard output elsewhere, so that what is left in its buffer is dropped without a word at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# ---- private -----------------------------------------------------------------------------------------------------


def _told(error: OSError) -> Exception:
    if isinstance(error, BrokenPipeError):
        return ReaderGoneError()
    return OutputError(
        file=STANDARD_OUTPUT, reason=error.strerror or str(error), cure="Make room, or write somewhere else."
    )
