"""Our ends of a referee's case, which all begin at time 0: each flow as a transfer, and all as one of many flows."""

from functools import cache

import numpy as np
from handmade import BYTE_PER_NS, make_flows, make_transfer, run_network
from referee_cases import Case, load_kept

from sim.engine.network.flows import kernel
from sim.engine.network.flows.interval import first_remaining, join, run_flows
from sim.engine.network.fluid import FluidNetwork

BULK, FLOW = "FluidNetwork", "flows"
"""Who is judged: the network of transfers, and the kernel in which the flows of transfers end each on its own."""


def judged_in(name: str) -> tuple[str, ...]:
    """Return who is judged in a case: in the largest random ones the kernel alone."""
    return (FLOW,) if name.endswith("random_64") else (BULK, FLOW)


def network_ends_s(case: Case) -> np.ndarray:
    """Return the end of each flow as a transfer of the network, in seconds. Shape [F]."""
    capacity = (case.capacity_bytes_per_s / BYTE_PER_NS).tolist()
    transfers = [
        make_transfer(dict.fromkeys(path, float(size)), capacity)
        for path, size in zip(case.paths, case.num_bytes, strict=True)
    ]
    _, (batch,) = run_network(capacity, [(0, transfers)], network=FluidNetwork)
    return np.array(batch.end_ns) / 1e9


def flow_ends_s(case: Case) -> np.ndarray:
    """Return the end of each flow of one transfer, in seconds. Shape [F]."""
    capacity = (case.capacity_bytes_per_s / BYTE_PER_NS).tolist()
    flows = [(dict.fromkeys(path, 1.0), float(size)) for path, size in zip(case.paths, case.num_bytes, strict=True)]
    transfer = make_flows(flows, capacity)
    course = run_flows(join([transfer], case.capacity_bytes_per_s), [first_remaining(transfer)], kernel.run)
    return course.ends_ns / 1e9


@cache
def our_ends_s(name: str, judged: str) -> np.ndarray:
    """Return our ends of a kept case, in seconds. Shape [F]."""
    case, _ = load_kept(name)
    return network_ends_s(case) if judged == BULK else flow_ends_s(case)


def largest_difference(end_s: np.ndarray, other_s: np.ndarray) -> float:
    """Return the largest difference of an end, relative to the other's."""
    return float(np.max(np.abs(end_s / other_s - 1.0)))
