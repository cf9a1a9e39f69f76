"""The kernel as it is written, or compiled by numba, which is optional (`pip install moesim[fast]`).

The source is a subset of Python that runs interpreted as well, to the same bits; numba is imported only where compiling
is worth its time. What is compiled is kept on disk where there is a place for it, under a name that has a digest of all
files of the kernel in it: numba itself would look at one file alone, and not compile anew when another has changed.
"""

import hashlib
import inspect
import logging
import os
import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sim.engine.compiled import events, lanes, layout, loop, programs, ranks, sharing, transfers
from sim.engine.optional_numba import import_numba

__all__ = ["START_S", "RunKernel", "compiled_run", "is_kept", "is_loaded", "start_s", "why_not_kept"]

RunKernel = Callable[[NDArray[np.int64], NDArray[np.float64]], int]
"""The type of `loop.run`, interpreted or compiled."""
START_S: Final = {"kept": 1.5, "compiled": 36.0}
"""Time until the kernel runs: 0.5 s to import numba and load (0.4 to 1 s on another machine), or 22 to 24 s to compile
(on one core of an AMD EPYC), and half as much again: to begin too late costs less than to begin in vain."""
_LOGGER: Final = logging.getLogger(__name__)
"""Where a compilation is announced: commands print it on standard error, a program that imports `sim` may read it."""
_MODULES: Final[tuple[ModuleType, ...]] = (events, ranks, sharing, transfers, programs, lanes, loop)
"""Modules of the kernel, each after those that it calls."""


@cache
def is_kept() -> bool:
    """Tell whether the compiled kernel is kept on disk, without importing numba."""
    folder = _folder()
    return folder is not None and next(folder.glob(f"*{_name()}-*.nbi"), None) is not None


@cache
def compiled_run() -> RunKernel:
    """Return the kernel compiled by numba: the first call takes half a minute, or a second where it is kept on disk.

    Raises
    ------
    NoNumbaError
        numba is not installed, or cannot be imported.
    """
    numba = import_numba()
    if numba.config.DISABLE_JIT:  # `NUMBA_DISABLE_JIT=1`, for a debugger
        return loop.run
    if is_kept():
        try:
            return _compiled(numba, is_typed=False)
        except numba.core.errors.TypingError:  # kept on another processor
            pass
    unkept = why_not_kept()
    outcome = "it is kept for later runs" if unkept is None else f"it cannot be kept: {unkept}"
    _LOGGER.info("compiling the engine's kernel, about 25 s; %s", outcome)
    return _compiled(numba, is_typed=True)


def why_not_kept() -> str | None:
    """Return why no compiled kernel can be kept on disk; None: it can."""
    if _folder() is not None:
        return None
    return "no folder for it can be written. Name a folder in the variable NUMBA_CACHE_DIR"


def is_loaded() -> bool:
    """Tell whether the kernel is ready in this process."""
    return compiled_run.cache_info().currsize > 0


def start_s() -> float:
    """Return about how long it takes until the kernel runs in this process."""
    if is_loaded():
        return 0.0
    return START_S["kept" if is_kept() else "compiled"]


# ---- private ------------------------------------------------------------------------------------------------------


def _compiled(numba: Any, *, is_typed: bool) -> RunKernel:  # noqa: ANN401  # a module
    """Return the compiled kernel; without types only one that was kept can be had, and its parts are not compiled."""
    space: dict[str, Any] = {}
    for module in _MODULES:
        space |= vars(module)
    pointer = numba.types.CPointer  # an array is seven arguments of each call, and its indices may be negative
    types = {"m": pointer(numba.int64), "f": pointer(numba.float64), float: numba.float64}
    options = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "_nrt": False}
    for function in (function for module in _MODULES for function in module.FUNCTIONS):
        signature = (_signature(function, types, numba.int64),) if is_typed else ()
        space[function.__name__] = numba.njit(*signature, **options)(
            FunctionType(function.__code__, space, function.__name__)
        )
    entry = FunctionType(loop.run_arrays.__code__, space, _name())
    entry.__qualname__ = _name()  # which names the files
    arrays = (numba.int64[::1], numba.float64[::1])
    kernel: RunKernel
    try:
        kernel = numba.njit(arrays, cache=True)(entry)
    except (RuntimeError, OSError):  # no place to keep it: a read-only install without a home, or a full disk
        kernel = numba.njit(arrays)(entry)
    return kernel


def _signature(function: Callable[..., Any], types: dict[Any, Any], whole: Any) -> tuple[Any, ...]:  # noqa: ANN401
    """Return the types of the arguments of a function: compiled once for whole numbers, and not for each constant."""
    parameters = inspect.signature(function).parameters.values()
    return tuple(types.get(parameter.name, types.get(parameter.annotation, whole)) for parameter in parameters)


@cache
def _folder() -> Path | None:
    """Return the folder in which numba keeps the kernel, the first that can be written; None: there is none.

    The folders and their order are those of `numba.core.caching`, which need not be imported for this: the folder that
    `NUMBA_CACHE_DIR` names, the package's own, the user's. Other folders, which a configuration file of numba or
    `NUMBA_CACHE_LOCATOR_CLASSES` can name, are not known here: from there the kernel is not taken.
    """
    package = os.path.dirname(os.path.abspath(str(loop.__file__)))  # noqa: PTH100, PTH120  # links stay, as in numba
    digest = hashlib.sha1(package.encode(), usedforsecurity=False).hexdigest()
    of_package = f"{Path(package).name}_{digest}"
    given = os.environ.get("NUMBA_CACHE_DIR")
    folders = [Path(package) / "__pycache__", _user_folder() / of_package]
    if given:
        folders.insert(0, Path(given) / of_package)
    return next(filter(_can_be_written, folders), None)


def _user_folder() -> Path:
    """Return the user's folder of what numba keeps."""
    if sys.platform == "darwin":
        return Path("~/Library/Caches/numba").expanduser()
    if sys.platform == "win32":
        return Path("~/AppData/Local/numba/Cache").expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))) / "numba"  # noqa: PTH111  # never fails


def _can_be_written(folder: Path) -> bool:
    """Tell whether files can be written into a folder, which may have to be made first."""
    existing = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


@cache
def _name() -> str:
    """Return the name of the compiled kernel, which tells its versions apart."""
    try:
        whole = hashlib.sha256(version("numba").encode())
    except PackageNotFoundError:  # numba was not installed as a package
        whole = hashlib.sha256()
    for module in (layout, *_MODULES):
        whole.update(Path(str(module.__file__)).read_bytes())
    whole.update(Path(__file__).read_bytes())
    return f"run_{whole.hexdigest()[:16]}"
