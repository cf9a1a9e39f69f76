"""The command line: `moesim run`, `timeline`, `explain`, `list`, `schema`, `init`.

Errors of usage, input, simulation and output end a command with one message on standard error and their exit code;
with `--json` the same words stand as an object on standard output.
"""

import sys

__all__ = ["INTERRUPTED", "main"]

INTERRUPTED = 130
"""Exit code of an interrupted command."""


def main() -> None:
    """Run the command that the arguments name, and end with its exit code."""
    try:
        code = _run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    if code == INTERRUPTED:
        print("interrupted", file=sys.stderr)  # noqa: T201  # the command's own last word
    sys.exit(code)


def _run() -> int:
    """Run the command and return its exit code."""
    from sim.cli.app import app  # noqa: PLC0415  # typer is imported when the command runs, not with the package
    from sim.cli.failing import report  # noqa: PLC0415
    from sim.cli.stdout import STANDARD_OUTPUT, ReaderGoneError, guard_stdout, silence_stdout  # noqa: PLC0415
    from sim.cli.usage import USAGE_ERROR, usage_error  # noqa: PLC0415
    from sim.errors import MoesimError, OutputError, SimulationError, out_of_memory  # noqa: PLC0415

    as_json = any(word == "--json" or word.startswith("--json=") for word in sys.argv[1:])
    guard_stdout()
    try:
        # Without arguments the app prints its help and ends by itself.
        code = app(prog_name="moesim", standalone_mode=len(sys.argv) < 2)
        sys.stdout.flush()
    except ReaderGoneError:  # nobody is left to tell
        silence_stdout()
        return 0
    except MoesimError as error:
        if isinstance(error, OutputError) and error.file == STANDARD_OUTPUT:
            silence_stdout()
        report(error, as_json=as_json)
        return error.exit_code
    except MemoryError:
        report(out_of_memory(), as_json=as_json)
        return SimulationError.exit_code
    except USAGE_ERROR as error:
        report(refused := usage_error(error), as_json=as_json)
        return refused.exit_code
    return code if isinstance(code, int) else 0  # typer makes 130 of an interrupt
