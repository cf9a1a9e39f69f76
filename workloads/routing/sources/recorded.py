"""Popularity as it was recorded: tokens per layer and expert, of one microbatch or several, replayed.

Model
-----
    share [microbatch m, layer l] = tokens [m mod M, (l - first layer) mod L] / their sum

The recording's layers are those with experts: the run's first of them, `Skew.first_layer`, replays its first. A
recording with fewer layers or microbatches than the run is repeated. Sources draw their tokens anew from these shares,
so that a rank's counts differ from the recording's by chance.
"""

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.routing.asked import Asked

__all__ = ["recorded"]


def recorded(asked: Asked, layer: int, microbatch: int) -> NDArray[np.float64]:
    """Return the recorded shares, in the recording's own order."""
    loads = asked.skew.loads
    if loads is None:
        raise WorkloadError(
            subject="routing", field="file", rule="be given with kind trace", value="nothing", cure="Name a recording."
        )
    if loads.shape[2] != asked.num_experts:
        raise WorkloadError(
            subject="routing",
            field="file",
            rule=f"have experts = {asked.num_experts} columns of experts",
            value=loads.shape[2],
            cure="Record that model, or set model.experts.",
        )
    tokens = loads[microbatch % loads.shape[0], (layer - asked.skew.first_layer) % loads.shape[1]]
    return np.asarray(tokens / tokens.sum(), dtype=float)
