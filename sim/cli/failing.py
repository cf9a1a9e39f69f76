"""How a command fails: one message on standard error, and with `--json` an object on standard output."""

import json
import sys

from sim.errors import InputError, MoesimError

__all__ = ["report"]


def report(error: MoesimError, *, as_json: bool) -> None:
    """Write the error's message, and with `as_json` its parts."""
    print(f"moesim: {error}", file=sys.stderr)  # noqa: T201  # the command's output
    if as_json:
        parts = error.as_dict() if isinstance(error, InputError) else {"message": str(error)}
        print(json.dumps({"error": parts}, ensure_ascii=False))  # noqa: T201  # the command's output
