"""Experts and replicas as DeepSeek's expert-parallel load balancer places them.

Model
-----
    hierarchical    1. pack the groups of experts onto nodes
                    2. on each node, give one replica after another to the expert with the most load per replica
                    3. pack the replicas of a node onto its GPUs
    global          the same steps with one group and one node

The placement is hierarchical where the nodes divide the groups, so that tokens that are limited to few groups go to few
nodes. It is global otherwise. Packing is the longest-processing-time rule with equally many items in each pack.

References
----------
deepseek-ai/EPLB, README and eplb.py, 2025; DeepSeek-V3 technical report, 2024, section 3.4.
"""

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError

__all__ = ["eplb", "pack"]

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
    _check_divisibility(loads.size, num_slots, num_groups, num_nodes, num_gpus)
    group_size, node_size = loads.size // num_groups, loads.size // num_nodes
    node, position = pack(loads.reshape(num_groups, group_size).sum(axis=1), num_nodes)
    first = (node * (num_groups // num_nodes) + position) * group_size
    by_node = np.argsort((first[:, None] + np.arange(group_size)).ravel())  # experts in the order of their nodes
    return np.concatenate(
        [
            _slots_of_node(loads, experts, num_slots // num_nodes, num_gpus // num_nodes)
            for experts in by_node.reshape(-1, node_size)
        ]
    )


def pack(weights: FloatArray, num_packs: int) -> tuple[IntArray, IntArray]:
    """Return the pack of each item, and its position in the pack. Both [N].

    The heaviest item comes first, and each item goes to the lightest pack with room. Ties go to the first item and to
    the first pack. `num_packs` divides the number of items, so that all packs have equally many.

    Examples
    --------
    >>> pack(np.array([3.0, 9.0, 5.0, 1.0]), 2)
    (array([1, 0, 1, 0]), array([1, 0, 0, 1]))
    """
    capacity = weights.size // num_packs
    if capacity == 1:
        return np.arange(weights.size), np.zeros(weights.size, dtype=np.intp)
    pack_of, position = np.zeros(weights.size, dtype=np.intp), np.zeros(weights.size, dtype=np.intp)
    num_items, load = [0] * num_packs, [0.0] * num_packs
    for item in np.argsort(-weights, kind="stable").tolist():
        lightest = min((i for i in range(num_packs) if num_items[i] < capacity), key=load.__getitem__)
        pack_of[item], position[item] = lightest, num_items[lightest]
        num_items[lightest] += 1
        load[lightest] += float(weights[item])
    return pack_of, position


def _slots_of_node(loads: FloatArray, experts: IntArray, num_slots: int, num_gpus: int) -> IntArray:
    """Return the expert in each slot of the GPUs of one node. Shape [num_gpus, num_slots / num_gpus]."""
    num_replicas = np.ones(experts.size)
    slot_experts = list(range(experts.size))
    for _ in range(num_slots - experts.size):
        hottest = int(np.argmax(loads[experts] / num_replicas))
        slot_experts.append(hottest)
        num_replicas[hottest] += 1
    gpu, position = pack((loads[experts] / num_replicas)[slot_experts], num_gpus)
    slots = np.zeros((num_gpus, num_slots // num_gpus), dtype=np.intp)
    slots[gpu, position] = experts[slot_experts]
    return slots


def _check_divisibility(num_experts: int, num_slots: int, num_groups: int, num_nodes: int, num_gpus: int) -> None:
    """Refuse numbers of experts, slots, groups, nodes and GPUs that do not divide."""
    replicas = num_slots - num_experts
    for field, is_legal, rule, value in (
        ("groups", num_experts % num_groups == 0, f"divide experts = {num_experts}", num_groups),
        ("replicas", num_slots % num_gpus == 0, f"give {num_gpus} ranks equally many slots", replicas),
        ("replicas", num_slots >= num_experts, "be at least 0", replicas),
        ("groups", num_gpus % num_nodes == 0, f"put equally many of {num_gpus} ranks on {num_nodes} nodes", num_groups),
        ("groups", num_slots % num_nodes == 0, f"give {num_nodes} nodes equally many slots", num_groups),
    ):
        if not is_legal:
            hint = "Choose replicas and groups that divide."
            raise InvalidValueError(field=f"placement.{field}", rule=rule, value=value, hint=hint)
