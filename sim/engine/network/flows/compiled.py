"""The kernel compiled by numba, which is optional (`pip install moesim[fast]`) and imported only here, when called for.

Model
-----
The functions of `sim.engine.network.flows.kernel`, compiled one after another with each other in place of the
interpreted ones. Both give the same bits. Compiled code is kept on disk where there is a place for it.
"""

import importlib.util
from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

from sim.engine.network.flows import kernel
from sim.engine.network.flows.kernel import FloatArray, State

__all__ = ["Run", "choose_run", "compiled_run", "has_numba"]

Run = Callable[[State, int, int], tuple[int, int]]
"""The kernel's `run`."""
_WORTH_STEPS = 5_000
"""Steps that take seconds interpreted (0.1 to 0.5 ms each), as compiling does (10 s once, 1 s where it is kept)."""


def choose_run(num_steps: int) -> Run:
    """Return the kernel's `run`: compiled if that is worth it for so many steps, and if numba is there."""
    return compiled_run() if num_steps >= _WORTH_STEPS and has_numba() else kernel.run


@cache
def has_numba() -> bool:
    """Tell whether numba is installed, without importing it."""
    return importlib.util.find_spec("numba") is not None


@cache
def compiled_run() -> Run:
    """Return the kernel's `run` compiled; the first call of it takes seconds, or less where it was kept on disk."""
    import numba  # noqa: PLC0415  # optional, and slow to import

    space: dict[str, Any] = dict(vars(kernel))
    for interpreted in kernel.FUNCTIONS:
        source = _subtract if interpreted is kernel.FUNCTIONS[0] else interpreted
        function = FunctionType(source.__code__, space, interpreted.__name__)
        try:
            space[interpreted.__name__] = numba.njit(cache=True)(function)
        except RuntimeError:  # no place to keep it: a read-only install without a home
            space[interpreted.__name__] = numba.njit(function)
    run: Run = space["run"]
    return run


def _subtract(row: FloatArray, weight: FloatArray, level: float, out: FloatArray, width: int) -> None:
    """Do as the kernel's, in the loop that compilers like (numpy's expression makes an array first)."""
    for i in range(width):
        out[i] = row[i] - weight[i] * level
