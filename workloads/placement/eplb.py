"""Experts and replicas as DeepSeek's expert-parallel load balancer places them.

Model
-----
    hierarchical    1. pack the groups of experts onto nodes
                    2. on each node, give one replica after another to the expert with most load per replica
                    3. pack a node's replicas onto its GPUs
    global          the same with one group and one node

Hierarchical where the nodes divide the groups, so that tokens limited to few groups go to few nodes; global otherwise.

References
----------
deepseek-ai/EPLB, README and eplb.py, 2025; DeepSeek-V3 technical report, 2024, section 3.4.
"""

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError
from workloads.placement.packing import pack

__all__ = ["eplb"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


def eplb(loads: FloatArray, *, num_slots: int, num_groups: int, num_nodes: int, num_gpus: int) -> IntArray:
    """Return the expert in each slot of each GPU. Shape [num_gpus, num_slots / num_gpus].

    Parameters
    ----------
    loads
        Tokens of each expert. Shape [E].
    num_slots, num_groups, num_nodes, num_gpus
        Experts with their replicas; groups of experts; nodes; GPUs.

    Examples
    --------
    >>> eplb(np.array([90.0, 10.0, 20.0]), num_slots=4, num_groups=1, num_nodes=1, num_gpus=2)
    array([[0, 2],
           [0, 1]])
    """
    if num_groups % num_nodes:
        num_groups, num_nodes = 1, 1
    _check(loads.size, num_slots, num_groups, num_nodes, num_gpus)
    size, per_node = loads.size // num_groups, loads.size // num_nodes
    node, place = pack(loads.reshape(num_groups, size).sum(axis=1), num_nodes)
    first = (node * (num_groups // num_nodes) + place) * size
    by_node = np.argsort((first[:, None] + np.arange(size)).ravel())  # experts in the order of their nodes
    return np.concatenate(
        [_on_node(loads, here, num_slots // num_nodes, num_gpus // num_nodes) for here in by_node.reshape(-1, per_node)]
    )


def _on_node(loads: FloatArray, experts: IntArray, num_slots: int, num_gpus: int) -> IntArray:
    """Return the slots of one node's GPUs. Shape [num_gpus, num_slots / num_gpus]."""
    copies = np.ones(experts.size)
    held = list(range(experts.size))
    for _ in range(num_slots - experts.size):
        hottest = int(np.argmax(loads[experts] / copies))
        held.append(hottest)
        copies[hottest] += 1
    gpu, place = pack((loads[experts] / copies)[held], num_gpus)
    slots = np.zeros((num_gpus, num_slots // num_gpus), dtype=np.intp)
    slots[gpu, place] = experts[held]
    return slots


def _check(num_experts: int, num_slots: int, num_groups: int, num_nodes: int, num_gpus: int) -> None:
    """Refuse numbers that do not divide."""
    hint = "Choose replicas and groups that divide."
    for field, ok, rule, value in (
        ("groups", num_experts % num_groups == 0, f"divide experts = {num_experts}", num_groups),
        ("replicas", num_slots % num_gpus == 0, f"give {num_gpus} ranks equally many slots", num_slots - num_experts),
        ("replicas", num_slots >= num_experts, "be at least 0", num_slots - num_experts),
        (
            "groups",
            num_gpus % num_nodes == 0,
            f"not span nodes unevenly: {num_gpus} ranks, {num_nodes} nodes",
            num_groups,
        ),
        ("groups", num_slots % num_nodes == 0, f"give {num_nodes} nodes equally many slots", num_groups),
    ):
        if not ok:
            raise InvalidValueError(field=f"placement.{field}", rule=rule, value=value, hint=hint)
