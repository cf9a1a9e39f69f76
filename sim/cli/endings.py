"""How a command ends: with an exit code, and with one message on standard error where it fails.

A command that succeeds ends with 0, a command that is interrupted with 130, and a command that fails with the exit code
of its error (`sim.errors`). With `--json` the parts of the error also stand as an object on standard output.

A stream that cannot be written ends a command in three ways:

- The reader of standard output has gone (a closed pipe): the command ends with 0, without a message.
- Standard output is closed or the disk is full: the command ends with a message and 4. A closed standard output is
  found before the command runs, so that nothing is computed that could not be printed.
- Standard error cannot be written: messages are dropped, and the exit code stays as it is.
"""

import errno
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TextIO, cast

from sim.errors import MoesimError, OutputError, out_of_memory

__all__ = ["main"]

_INTERRUPTED: Final = 130
"""Exit code of a command that was interrupted."""
_STDOUT: Final = "standard output"
"""Name of the file in an `OutputError` about standard output."""


def main() -> None:
    """Run the command that the arguments name, and end the program with the command's exit code."""
    if sys.stderr is None:  # standard error was closed at the start: Python would print messages on standard output
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115  # stays open until the program ends
    code = _INTERRUPTED
    try:
        code = _run()
    except KeyboardInterrupt:
        pass
    except MoesimError as error:
        code = error.exit_code
        _report(error)
    except MemoryError:
        code = out_of_memory().exit_code
        _report(out_of_memory())
    if code == _INTERRUPTED:
        _print_message("interrupted")
    _drop_unwritten(sys.stdout)
    _drop_unwritten(sys.stderr)
    sys.exit(code)


def _run() -> int:
    """Run the command and return its exit code."""
    if not os.environ.get("COLUMNS", "").strip("0 "):  # a width of 0 is unknown
        os.environ.pop("COLUMNS", None)
    if _is_closed(sys.stdout):
        raise OutputError(file=_STDOUT, reason="it is closed", hint="Leave it open, or send it to a file.")
    sys.stdout = cast("TextIO", _GuardedStream(sys.stdout))
    logger = logging.getLogger("sim")
    logger.addHandler(_Notices())
    logger.setLevel(logging.INFO)
    from sim.cli.app import app  # noqa: PLC0415  # an interrupt may come while the commands are imported
    from sim.cli.usage import USAGE_ERROR, usage_error  # noqa: PLC0415

    try:
        # Without arguments the app prints its help and ends the program.
        code = app(prog_name="moesim", standalone_mode=len(sys.argv) < 2)
    except USAGE_ERROR as error:
        raise usage_error(error) from None
    sys.stdout.flush()
    return code if isinstance(code, int) else 0  # typer returns 130 where a command is interrupted


def _report(error: MoesimError) -> None:
    """Print the message of an error, and with `--json` its parts; a command whose reader has gone says nothing."""
    if error.exit_code == 0:
        return
    _print_message(f"moesim: {error}")
    if any(word == "--json" or word.startswith("--json=") for word in sys.argv[1:]):
        import json  # noqa: PLC0415  # only where it is printed

        with suppress(OSError, OutputError):  # the message stands on standard error
            print(json.dumps({"error": error.as_dict()}, ensure_ascii=False), flush=True)  # noqa: T201


def _print_message(message: str) -> None:
    with suppress(OSError):  # the exit code says that the command failed
        print(message, file=sys.stderr)  # noqa: T201


class _Notices(logging.Handler):
    """What the simulator says before a long step: a line on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the line."""
        _print_message(record.getMessage())


# ---- streams -----------------------------------------------------------------------------------------------------


class _ReaderGoneError(OutputError):
    """The reader of standard output has gone, as `head` does when it has seen enough."""

    exit_code = 0


class _GuardedStream:
    """A text stream whose errors are those of moesim.

    typer and rich would end the command on an `OSError` of a closed pipe with exit code 1, which means a failed check.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text, or raise why it cannot be written."""
        with _stdout_errors():
            return self._stream.write(text)

    def flush(self) -> None:
        """Write what is buffered, or raise why it cannot be written."""
        with _stdout_errors():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # any attribute of the stream
        return getattr(self._stream, name)


@contextmanager
def _stdout_errors() -> Iterator[None]:
    """Raise an `OSError` of standard output as an error of moesim."""
    try:
        yield
    except OSError as error:
        kind = _ReaderGoneError if isinstance(error, BrokenPipeError) else OutputError
        reason = error.strerror or str(error)
        raise kind(file=_STDOUT, reason=reason, hint="Make room, or write somewhere else.") from None


def _is_closed(stream: TextIO | None) -> bool:
    """Return whether a stream is closed, or open for reading alone."""
    if stream is None or stream.closed:
        return True
    try:
        os.write(stream.fileno(), b"")
    except OSError as error:  # a stream without a file, as in tests, is not closed
        return error.errno == errno.EBADF
    return False


def _drop_unwritten(stream: TextIO | None) -> None:
    """Drop the buffered text of a stream that cannot be written: at exit Python would turn it into an exit code."""
    with suppress(OSError, ValueError):
        if stream is None:
            return
        try:
            stream.flush()
        except (OSError, OutputError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
