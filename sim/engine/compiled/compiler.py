"""The kernel as it is written, or compiled by numba, which is optional (`pip install moesim[fast]`).

The source is a subset of Python that runs interpreted as well, to the same bits; numba is imported only where compiling
is worth its time. What is compiled is kept on disk where there is a place for it, under a name that has a digest of all
files of the kernel in it: numba itself would look at one file alone, and not compile anew when another has changed.
"""

import hashlib
import importlib
import importlib.util
import inspect
import os
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sim.engine.compiled import events, lanes, layout, loop, programs, ranks, sharing, transfers

__all__ = ["START_S", "RunKernel", "compiled_run", "has_numba", "is_kept", "is_loaded", "start_s"]

RunKernel = Callable[[NDArray[np.int64], NDArray[np.float64]], int]
"""The type of `loop.run`, interpreted or compiled."""
START_S: Final = {"kept": 1.5, "compiled": 36.0}
"""Time until the kernel runs: 0.5 s to import numba and load (0.4 to 1 s on another machine), or 22 to 24 s to compile
(on one core of an AMD EPYC), and half as much again: to begin too late costs less than to begin in vain."""
_MODULES: Final[tuple[ModuleType, ...]] = (events, ranks, sharing, transfers, programs, lanes, loop)
"""Modules of the kernel, each after those that it calls."""


@cache
def has_numba() -> bool:
    """Tell whether numba is installed, without importing it."""
    return importlib.util.find_spec("numba") is not None


@cache
def is_kept() -> bool:
    """Tell whether the compiled kernel is kept on disk, where numba keeps it unless `NUMBA_CACHE_DIR` says otherwise.

    A kernel that numba has kept elsewhere, as it does where this package's own folder is read-only, is not found.
    """
    folder, given = Path(__file__).parent, os.environ.get("NUMBA_CACHE_DIR")
    places = [folder / "__pycache__"] if given is None else [*Path(given).glob("compiled_*")]
    return any(next(place.glob(f"*{_name()}-*.nbi"), None) is not None for place in places)


@cache
def compiled_run() -> RunKernel:
    """Return the kernel compiled by numba: the first call takes half a minute, or a second where it is kept on disk."""
    numba: Any = importlib.import_module("numba")  # optional, and slow to import
    if numba.config.DISABLE_JIT:  # `NUMBA_DISABLE_JIT=1`, for a debugger
        return loop.run
    if is_kept():
        try:
            return _compiled(numba, is_typed=False)
        except numba.core.errors.TypingError:  # kept on another processor
            pass
    return _compiled(numba, is_typed=True)


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
    except RuntimeError:  # no place to keep it: a read-only install without a home
        kernel = numba.njit(arrays)(entry)
    return kernel


def _signature(function: Callable[..., Any], types: dict[Any, Any], whole: Any) -> tuple[Any, ...]:  # noqa: ANN401
    """Return the types of the arguments of a function: compiled once for whole numbers, and not for each constant."""
    parameters = inspect.signature(function).parameters.values()
    return tuple(types.get(parameter.name, types.get(parameter.annotation, whole)) for parameter in parameters)


@cache
def _name() -> str:
    """Return the name of the compiled kernel, which tells its versions apart."""
    whole = hashlib.sha256(version("numba").encode())
    for module in (layout, *_MODULES):
        whole.update(Path(str(module.__file__)).read_bytes())
    whole.update(Path(__file__).read_bytes())
    return f"run_{whole.hexdigest()[:16]}"
