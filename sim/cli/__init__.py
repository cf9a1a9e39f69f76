"""The command line: `moesim run`, `validate`, `timeline`, `explain`, `list`, `schema`, `init`.

Errors of usage, input, simulation and output end a command with one message on standard error and their exit code;
with `--json` the same words stand as an object on standard output.
"""

import sys
from contextlib import suppress

__all__ = ["INTERRUPTED", "main"]

INTERRUPTED = 130
"""Exit code of an interrupted command."""


def main() -> None:
    """Run the command that the arguments name, and end with its exit code."""
    try:
        code = _run()
    except KeyboardInterrupt:
        code = INTERRUPTED
    if code == INTERRUPTED:
        with suppress(OSError):
            print("interrupted", file=sys.stderr)  # noqa: T201  # the command's own last word
    if sys.stderr is not None:
        from sim.cli.streams import settle_stderr  # noqa: PLC0415  # imported when the command runs

        settle_stderr()
    sys.exit(code)


def _run() -> int:
    """Run the command and return its exit code."""
    from sim.cli.failing import report  # noqa: PLC0415  # imported when the command runs, not with the package
    from sim.cli.streams import ReaderGoneError, check_stdout, guard_stdout, open_stderr, silence_stdout  # noqa: PLC0415
    from sim.errors import MoesimError, OutputError, SimulationError, out_of_memory  # noqa: PLC0415

    as_json = any(word == "--json" or word.startswith("--json=") for word in sys.argv[1:])
    open_stderr()
    try:
        check_stdout()
    except OutputError as error:  # nothing is done of which nobody could be told
        report(error, as_json=False)
        return error.exit_code
    guard_stdout()
    try:
        code = _command()
        sys.stdout.flush()
    except ReaderGoneError:  # nobody is left to tell
        silence_stdout()
        return 0
    except MoesimError as error:
        try:
            report(error, as_json=as_json)
            sys.stdout.flush()
        except (ReaderGoneError, OutputError):  # what was refused stands on standard error
            silence_stdout()
        return error.exit_code
    except MemoryError:
        report(out_of_memory(), as_json=as_json)
        return SimulationError.exit_code
    return code if isinstance(code, int) else 0  # typer makes 130 of an interrupt


def _command() -> object:
    """Run the command and return what it does; what typer refuses is refused in our words."""
    from sim.cli.app import app  # noqa: PLC0415  # see above
    from sim.cli.usage import USAGE_ERROR, usage_error  # noqa: PLC0415

    try:
        # Without arguments the app prints its help and ends by itself.
        return app(prog_name="moesim", standalone_mode=len(sys.argv) < 2)
    except USAGE_ERROR as error:
        raise usage_error(error) from None
