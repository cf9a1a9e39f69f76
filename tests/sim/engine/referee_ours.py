"""Our ends of a referee's case: each flow is one transfer, all begin at time 0."""

from functools import cache

import numpy as np
from handmade import BYTE_PER_NS, make_transfer, run_network
from referee_cases import Case, load_kept
from referee_filling import filled_ends_s

from sim.engine.network import FluidNetwork

NETWORK = FluidNetwork
"""The network that is judged."""
BY_FILLING = ("switch_random_64", "fabric_random_64")
"""Cases of 4,032 flows that each end at a time of their own, too many for NETWORK: water-filling stands for it."""


def network_ends_s(case: Case, network: type[FluidNetwork] = NETWORK) -> np.ndarray:
    """Return the end of each flow in the engine's network, in seconds. Shape [F]."""
    capacity = (case.capacity_bytes_per_s / BYTE_PER_NS).tolist()
    transfers = [
        make_transfer(dict.fromkeys(path, float(size)), capacity)
        for path, size in zip(case.paths, case.num_bytes, strict=True)
    ]
    _, (batch,) = run_network(capacity, [(0, transfers)], network=network)
    return np.array(batch.end_ns) / 1e9


@cache
def our_ends_s(name: str) -> np.ndarray:
    """Return our ends of a kept case, in seconds. Shape [F]."""
    case, _ = load_kept(name)
    return filled_ends_s(case) if name in BY_FILLING else network_ends_s(case)


def largest_difference(end_s: np.ndarray, other_s: np.ndarray) -> float:
    """Return the largest difference of an end, relative to the other's."""
    return float(np.max(np.abs(end_s / other_s - 1.0)))
