"""How a command fails: one message on standard error, and with `--json` an object on standard output."""

import json
import sys
from contextlib import suppress

from sim.errors import MoesimError

__all__ = ["report"]


def report(error: MoesimError, *, as_json: bool) -> None:
    """Write the error's message, and with `as_json` its parts."""
    with suppress(OSError):  # the exit code tells all the same
        print(f"moesim: {error}", file=sys.stderr)  # noqa: T201  # the command's output
    if as_json:
        print(json.dumps({"error": error.as_dict()}, ensure_ascii=False))  # noqa: T201  # the command's output
