"""Paths as the command line takes them."""

from pathlib import Path

from sim.errors import InvalidValueError

__all__ = ["named_path"]


def named_path(field: str, text: str, hint: str) -> Path:
    """Return the path of an option, with a `~` at its start replaced; an empty text would be the folder we are in."""
    if not text.strip():
        raise InvalidValueError(field=field, rule="be a path", value="an empty text", hint=hint)
    try:
        return Path(text).expanduser()
    except RuntimeError:  # nobody of that name
        return Path(text)
