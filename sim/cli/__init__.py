"""The command line: `moesim run`, `timeline`, `explain`, `list`, `schema`, `init`.

Errors of usage, input, simulation and output end a command with one message on standard error and their exit code;
with `--json` the same words stand as an object on standard output.
"""

import os
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command that the arguments name, and end with its exit code."""
    from sim.cli.app import app  # noqa: PLC0415  # typer is imported when the command runs, not with the package
    from sim.cli.failing import report  # noqa: PLC0415
    from sim.cli.usage import USAGE_ERROR, usage_error  # noqa: PLC0415
    from sim.errors import MoesimError  # noqa: PLC0415

    as_json = any(word == "--json" or word.startswith("--json=") for word in sys.argv[1:])
    try:
        # Without arguments the app prints its help and ends by itself.
        code = app(prog_name="moesim", standalone_mode=len(sys.argv) < 2)
        sys.stdout.flush()
    except MoesimError as error:
        report(error, as_json=as_json)
        sys.exit(error.exit_code)
    except USAGE_ERROR as error:
        report(refused := usage_error(error), as_json=as_json)
        sys.exit(refused.exit_code)
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # The reader has gone: nobody is left to tell. Point stdout elsewhere so that the exit flush is silent too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    if code == 130:  # typer makes this of an interrupt
        print("interrupted", file=sys.stderr)  # noqa: T201  # the command's own last word
    sys.exit(code if isinstance(code, int) else 0)
