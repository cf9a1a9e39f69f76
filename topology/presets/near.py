"""The preset that a misspelt name was most likely meant for."""

import difflib
from collections.abc import Iterable

__all__ = ["near_preset"]

_MIN_PART = 3
"""Letters and digits from which on a text counts as a part of a name."""


def near_preset(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the known name that is nearest: neither case nor punctuation counts, and a part of it will do.

    Parameters
    ----------
    name
        What was written.
    known
        The names of the presets; of equally near names the first is returned.
    cutoff
        Similarity, from 0 to 1, that a name must have which neither equals nor contains the written name.

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
    nearest = parts or difflib.get_close_matches(letters, by_letters, n=1, cutoff=cutoff)
    return by_letters[nearest[0]] if nearest else None


def _letters(name: str) -> str:
    """Return the letters and digits of a name, all small."""
    return "".join(c for c in name.lower() if c.isalnum())
