"""numba, which is optional: whether it is installed, and whether it can be imported.

To find out whether numba is installed takes no time. To import numba takes half a second, and fails where the installed
numpy is newer than numba allows.
"""

import importlib
import importlib.util
from functools import cache
from typing import Any

__all__ = ["NoNumbaError", "has_numba", "import_numba"]


class NoNumbaError(Exception):
    """numba cannot be used; the message says why."""


@cache
def has_numba() -> bool:
    """Tell whether numba is installed, without importing it."""
    return importlib.util.find_spec("numba") is not None


def import_numba() -> Any:  # noqa: ANN401  # a module without types
    """Return numba.

    Raises
    ------
    NoNumbaError
        numba is not installed, or cannot be imported.
    """
    why = _why_not()
    if why is not None:
        raise NoNumbaError(why)
    return importlib.import_module("numba")


@cache
def _why_not() -> str | None:
    """Return why numba cannot be used; None: it can."""
    if not has_numba():
        return "numba is not installed: pip install 'moesim[fast]'"
    try:
        importlib.import_module("numba").njit  # noqa: B018  # a folder of this name imports as well
    except Exception as error:  # whatever numba and its libraries raise while they are imported
        words = " ".join(str(error).split())
        return f"numba cannot be imported ({type(error).__name__}: {words}): pip install --upgrade 'moesim[fast]'"
    return None
