"""Which preset a name that is none was most likely meant for."""

import difflib
from collections.abc import Iterable

__all__ = ["near_preset"]

_MIN_PART = 3
"""So many letters and digits are taken as a part of a name."""


def near_preset(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the known name that is nearest: neither case nor punctuation counts, and a part of it will do.

    Parameters
    ----------
    name
        What was written.
    known
        The names there are, of which the first that is as near as any is returned.
    cutoff
        How alike a name must be spelt that is neither equal nor a part, from 0 to 1.

    Examples
    --------
    >>> clusters = ["dgx-a100", "dgx-h100", "gb200-nvl72"]
    >>> near_preset("DGX H100", clusters), near_preset("h100", clusters), near_preset("none", clusters)
    ('dgx-h100', 'dgx-h100', None)
    """
    by_letters = {_letters(other): other for other in known}
    letters = _letters(name[:100])
    if letters in by_letters:
        return by_letters[letters]
    parts = [other for other in by_letters if len(letters) >= _MIN_PART and letters in other]
    near = parts or difflib.get_close_matches(letters, by_letters, n=1, cutoff=cutoff)
    return by_letters[near[0]] if near else None


def _letters(name: str) -> str:
    """Return the letters and digits of a name, all small."""
    return "".join(c for c in name.lower() if c.isalnum())
