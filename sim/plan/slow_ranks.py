"""Kernels on GPUs that are slower than the device says.

Model
-----
    time on rank r = time on the device / speed[r]                  rounded up to whole nanoseconds

Assumptions
-----------
All kernels of a slow GPU are slower alike, whether they wait for arithmetic or for memory.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sim.plan.ops import Compute, Op, Service

__all__ = ["slow_down"]


def slow_down(ops: tuple[Op, ...], ranks: NDArray[np.intp], speeds: NDArray[np.float64]) -> tuple[Op, ...]:
    """Return ops of a lane of `ranks` [R] as they run at the `speeds` [G] of all ranks."""
    if (speeds == 1.0).all():
        return ops
    return tuple(_slowed(op, ranks, speeds) for op in ops)


def _slowed(op: Op, ranks: NDArray[np.intp], speeds: NDArray[np.float64]) -> Op:
    if isinstance(op, Compute):
        kernels = [replace(one, duration_ns=_longer(one.duration_ns, speeds[ranks])) for one in op.kernels]
        return replace(op, kernels=tuple(kernels))
    if isinstance(op, Service):
        return replace(op, duration_ns=_longer(op.duration_ns, speeds[op.ranks]))
    return op


def _longer(duration_ns: NDArray[np.int64], speeds: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.where(speeds == 1.0, duration_ns, np.ceil(duration_ns / speeds)).astype(np.int64)
