"""The file that a path which leads nowhere was most likely meant for."""

import os
from itertools import islice
from pathlib import Path
from typing import Final

from sim.errors import nearest_name, shown

__all__ = ["near_file"]

_SUFFIXES: Final = (".yaml", ".yml")
_MAX_LOOKED_AT: Final = 10_000
"""So many files of a folder are looked at."""


def near_file(path: Path) -> str:
    """Return the hint that names a scenario file in the same folder with nearly the same name; empty if there is none.

    Case and the suffix do not count.
    """
    try:
        with os.scandir(path.parent) as entries:
            names = sorted(
                entry.name for entry in islice(entries, _MAX_LOOKED_AT) if entry.name.lower().endswith(_SUFFIXES)
            )
    except (OSError, ValueError):
        return ""
    by_stem = {_stem(name): name for name in reversed(names)}
    near = nearest_name(_stem(path.name), by_stem, cutoff=0.75)
    return f"Did you mean `{shown(by_stem[near])}`, in the same folder?" if near else ""


def _stem(name: str) -> str:
    """Return a file's name without suffix and case."""
    return name.lower().removesuffix(".yaml").removesuffix(".yml")
