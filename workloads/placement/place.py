"""The placement of a layer's experts, by the name of its rule.

Model
-----
    contiguous     rank r holds experts r n, ..., r n + n - 1, where n = experts / ranks
    round_robin    rank r holds experts r, r + ranks, r + 2 ranks, ...
    random         a permutation for each layer, by the seed
    explicit       as given, in all layers, or for each layer with experts
    greedy         experts of a layer's loads packed, the heaviest first, n on each rank
    eplb           with replicas: `workloads.placement.eplb`
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError
from workloads.placement.eplb import eplb
from workloads.placement.packing import pack
from workloads.placement.rule import PlacementRule
from workloads.routing.request import PLACES, stream

__all__ = ["PLACEMENTS", "place_experts"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


class _Asked(NamedTuple):
    rule: PlacementRule
    num_experts: int
    num_ranks: int
    num_nodes: int
    layer: int
    seed: int
    loads: FloatArray
    nth: int
    num_layers: int


def place_experts(
    rule: PlacementRule,
    *,
    num_experts: int,
    num_ranks: int,
    num_nodes: int = 1,
    layer: int = 0,
    seed: int = 1,
    loads: FloatArray | None = None,
    nth: int = 0,
    num_layers: int = 1,
) -> IntArray:
    """Return the expert in each slot of each rank. Shape [R, C].

    Parameters
    ----------
    rule
        How experts are placed.
    num_experts, num_ranks, num_nodes
        Experts of a layer, ranks of a group, and nodes that these stand on.
    layer, seed
        What a random placement depends on.
    loads
        Tokens of each expert that a plan is made from; None: all alike. Shape [E].
    nth, num_layers
        The layer's place among those with experts, and how many these are: what a placement by hand depends on.

    Examples
    --------
    >>> place_experts(PlacementRule(kind="round_robin"), num_experts=4, num_ranks=2)
    array([[0, 2],
           [1, 3]])
    """
    if rule.kind not in PLACEMENTS:
        raise InvalidValueError(
            field="placement.kind", rule=f"be one of {', '.join(PLACEMENTS)}", value=rule.kind,
            hint="Use contiguous.",
        )  # fmt: skip
    even = np.ones(num_experts) if loads is None else np.asarray(loads, dtype=float)
    return PLACEMENTS[rule.kind](_Asked(rule, num_experts, num_ranks, num_nodes, layer, seed, even, nth, num_layers))


def _contiguous(asked: _Asked) -> IntArray:
    return np.arange(asked.num_experts).reshape(asked.num_ranks, -1)


def _round_robin(asked: _Asked) -> IntArray:
    return np.arange(asked.num_experts).reshape(-1, asked.num_ranks).T.copy()


def _random(asked: _Asked) -> IntArray:
    order = stream(asked.seed, PLACES, asked.layer).permutation(asked.num_experts)
    return np.sort(order.reshape(asked.num_ranks, -1), axis=1)


def _explicit(asked: _Asked) -> IntArray:
    given, ranks, room = asked.rule.experts, asked.num_ranks, asked.num_experts // asked.num_ranks
    plans = [given[first : first + ranks] for first in range(0, len(given), ranks)]
    if len(plans) not in (1, asked.num_layers) or not all(_is_plan(plan, asked, room) for plan in plans):
        layers = f", in all layers or for each of the {asked.num_layers} with experts" if asked.num_layers > 1 else ""
        raise InvalidValueError(
            field="placement.experts",
            rule=f"give each of {ranks} ranks {room} of the experts 0 to {asked.num_experts - 1}, each once{layers}",
            value=f"{len(given)} lists of {sum(map(len, given))} experts",
            hint="Write one list for each rank of an expert group.",
        )
    return np.array(plans[asked.nth if len(plans) > 1 else 0], dtype=np.intp)


def _is_plan(plan: Sequence[Sequence[int]], asked: _Asked, room: int) -> bool:
    """Return whether lists give each rank as many experts, and each expert once."""
    even = len(plan) == asked.num_ranks and all(len(rank) == room for rank in plan)
    return even and sorted(expert for rank in plan for expert in rank) == list(range(asked.num_experts))


def _greedy(asked: _Asked) -> IntArray:
    rank, place = pack(asked.loads, asked.num_ranks)
    slots = np.zeros((asked.num_ranks, asked.num_experts // asked.num_ranks), dtype=np.intp)
    slots[rank, place] = np.arange(asked.num_experts)
    return slots


def _eplb(asked: _Asked) -> IntArray:
    """ChunkPosition with groups where they are asked for: the published code falls back to none without a word."""
    groups, nodes = asked.rule.groups, asked.num_nodes
    fits = [n for n in range(nodes, asked.num_experts + 1, nodes) if asked.num_experts % n == 0]
    if groups > 1 and groups not in fits:
        near = min(fits, key=lambda n: (abs(n - groups), n), default=None)
        raise InvalidValueError(
            field="placement.groups",
            rule=f"divide {asked.num_experts} experts and be a multiple of the {nodes} nodes of a group of ranks",
            value=groups,
            hint="Leave groups out." if near is None else f"Use {near}, or leave groups out.",
        )
    return eplb(
        asked.loads,
        num_slots=asked.num_experts + asked.rule.replicas,
        num_groups=asked.rule.groups,
        num_nodes=asked.num_nodes,
        num_gpus=asked.num_ranks,
    )


PLACEMENTS: dict[str, Callable[[_Asked], IntArray]] = {
    "contiguous": _contiguous,
    "round_robin": _round_robin,
    "random": _random,
    "explicit": _explicit,
    "greedy": _greedy,
    "eplb": _eplb,
}
"""ChunkLayout by name: what is asked -> expert of each slot [R, C]."""
