"""The command line: `moesim run`, `timeline`, `explain`, `list`, `schema`, `init`.

Errors of input, simulation and output end a command with one message on standard error and their exit code; with
`--json` the same words stand as an object on standard output.
"""

import os
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command that the arguments name, and end with its exit code."""
    from sim.cli.app import app  # noqa: PLC0415  # typer is imported when the command runs, not with the package
    from sim.cli.failing import report  # noqa: PLC0415
    from sim.errors import MoesimError  # noqa: PLC0415

    try:
        app()
    except MoesimError as error:
        report(error, as_json="--json" in sys.argv[1:])
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)  # noqa: T201  # the command's own last word
        sys.exit(130)
    except BrokenPipeError:
        # The reader has gone: nobody is left to tell. Point stdout elsewhere so that the exit flush is silent too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
