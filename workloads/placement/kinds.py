"""The placements by name: which rank holds which expert of a layer, and which settings of a scenario a placement uses.

Model
-----
    contiguous     rank r holds slots r n, ..., r n + n - 1, where n = slots / ranks; slot i holds expert i mod experts
    round_robin    rank r holds experts r, r + ranks, r + 2 ranks, ...
    random         a random permutation for each layer
    explicit       the lists of the scenario, for all layers or for each layer: the experts of each rank, or the expert
                   in each slot of all ranks
    greedy         the experts of a layer are packed by their loads, the heaviest first, n slots on each rank; replicas
                   go to the experts with the most load per replica
    eplb           experts and replicas as in `workloads.placement.eplb`

Slots are experts and replicas; ranks hold equally many. Contiguous placement with replicas is what vLLM and SGLang
start from (`arange(slots) % experts`), and their `physical_to_logical_map` [layers, slots] is an explicit placement.

A new placement is one function of a `PlacementRequest` and one entry of `PLACEMENTS`. The conformance tests are
parametrised over `PLACEMENTS`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError, Remedy
from workloads.placement.eplb import eplb, pack
from workloads.routing.request import PLACES, stream

__all__ = ["PLACEMENTS", "PlacementKind", "PlacementRequest", "PlacementRule", "contiguous_slots", "place_experts"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementRule:
    """How experts are placed on the ranks of their group."""

    kind: str = "contiguous"
    """Name of the placement."""
    replicas: int = 0
    """Copies of experts beyond one of each, over all ranks of a group: EP divides experts + replicas."""
    groups: int = 1
    """Groups of experts that stay on one node, a multiple of the nodes, with kind eplb; 1: no groups."""
    window: int = 8
    """Microbatches before the run whose loads a plan is made from, with kinds greedy and eplb."""
    stale: int = 0
    """Microbatches between the last microbatch of the window and the first that runs under the plan."""
    plan_seed: int | None = None
    """Seed of the loads that a plan is made from, with kinds greedy and eplb: another than the run's has other popular
    experts, so that the plan is wholly outdated. None: the seed of the run."""
    every: int | None = None
    """Microbatches after which a new plan replaces a plan, with kinds greedy and eplb; None: one plan for the run."""
    moves: bool = False
    """Whether experts are copied to ranks that lack them under the plan before (without `every`: contiguous)."""
    experts: tuple[tuple[int, ...], ...] | None = None
    """With kind explicit: a list of experts for each rank of a group, or as many for each layer with experts; or the
    expert in each slot, as vLLM's and SGLang's `physical_to_logical_map`, in one list or a list for each layer."""

    @property
    def is_planned(self) -> bool:
        """Whether the placement depends on loads."""
        return PLACEMENTS[self.kind].is_planned

    @property
    def is_contiguous(self) -> bool:
        """Whether rank r holds the r-th part of the experts, in order, and there are no replicas."""
        return PLACEMENTS[self.kind].is_contiguous and not self.replicas

    def num_slots(self, num_experts: int, num_ranks: int) -> int:
        """Return the slots of a layer on all ranks of a group: experts and replicas.

        >>> PlacementRule(replicas=64).num_slots(256, 320)
        320
        >>> PlacementRule(kind="explicit", experts=((0, 1), (2, 0))).num_slots(3, 2)
        4
        """
        if not (PLACEMENTS[self.kind].is_given and self.experts):
            return num_experts + self.replicas
        first = len(self.experts[0])
        return first if first >= num_experts else max(num_experts, first * num_ranks)

    def keeps_nodes_together(self, num_nodes: int) -> bool:
        """Return whether the experts that one of the nodes would hold in order all stand on one node.

        >>> [PlacementRule(kind=kind, groups=4).keeps_nodes_together(4) for kind in ("contiguous", "eplb", "random")]
        [True, True, False]
        """
        return self.is_contiguous or (PLACEMENTS[self.kind].uses("groups") and self.groups == num_nodes)

    def plan_at(self, microbatch: int) -> int:
        """Return the number of the plan that a microbatch runs under; plans before the run have negative numbers.

        >>> [PlacementRule(kind="eplb", every=4).plan_at(microbatch) for microbatch in (-1, 0, 3, 4)]
        [-1, 0, 0, 1]
        """
        return 0 if self.every is None else microbatch // self.every


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlacementRequest:
    """The experts of one layer that are to be placed, and the ranks that they are placed on."""

    rule: PlacementRule
    """How experts are placed."""
    num_experts: int
    """Experts of the layer."""
    num_ranks: int
    """Ranks of a group, which holds all experts."""
    num_nodes: int = 1
    """Nodes that the ranks stand on."""
    layer: int = 0
    """Number of the layer in the model, for random placements."""
    seed: int = 1
    """Seed of random placements."""
    loads: FloatArray | None = None
    """Tokens of each expert that a plan is made from; None: equal loads. Shape [E]."""
    expert_layer: int = 0
    """Number of the layer among the layers with experts."""
    num_expert_layers: int = 1
    """Layers with experts."""

    @property
    def expert_loads(self) -> FloatArray:
        """Tokens of each expert, equal where no loads are given. Shape [E]."""
        return np.ones(self.num_experts) if self.loads is None else np.asarray(self.loads, dtype=float)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementKind:
    """A placement: how it assigns experts to slots, and which settings of a scenario it uses."""

    summary: str
    """What the placement does, as a phrase for lists and reference pages."""
    place: Callable[[PlacementRequest], IntArray]
    """Returns the expert in each slot of each rank. Shape [R, C]."""
    settings: tuple[str, ...] = ()
    """Keys of the scenario section `placement` that the placement uses in addition to `kind`."""
    required_settings: tuple[str, ...] = ()
    """Keys among `settings` without which the placement has no meaning."""
    is_planned: bool = False
    """Whether the placement depends on the loads of earlier microbatches."""
    is_contiguous: bool = False
    """Whether rank r holds the r-th part of the experts, in order."""
    is_given: bool = False
    """Whether the scenario lists the slots, and their number with them."""

    def uses(self, setting: str) -> bool:
        """Return whether a key of the scenario section `placement` has a meaning for this placement.

        >>> [name for name, kind in PLACEMENTS.items() if kind.uses("replicas")]
        ['contiguous', 'explicit', 'greedy', 'eplb']
        """
        return setting in self.settings


def place_experts(request: PlacementRequest) -> IntArray:
    """Return the expert in each slot of each rank. Shape [R, C].

    Examples
    --------
    >>> place_experts(PlacementRequest(rule=PlacementRule(kind="round_robin"), num_experts=4, num_ranks=2))
    array([[0, 2],
           [1, 3]])
    """
    kind = request.rule.kind
    if kind not in PLACEMENTS:
        rule = f"be one of {', '.join(PLACEMENTS)}"
        raise InvalidValueError(field="placement.kind", rule=rule, value=kind, hint="Use contiguous.")
    return PLACEMENTS[kind].place(request)


def contiguous_slots(num_experts: int, num_ranks: int, *, replicas: int = 0) -> IntArray:
    """Return the expert in each slot of each rank: the experts in order, and then replicas of the first. Shape [R, C].

    >>> contiguous_slots(3, 2, replicas=1)
    array([[0, 1],
           [2, 0]])
    """
    slots: IntArray = (np.arange(num_experts + replicas) % num_experts).reshape(num_ranks, -1)
    return slots


def _contiguous(request: PlacementRequest) -> IntArray:
    return contiguous_slots(request.num_experts, request.num_ranks, replicas=request.rule.replicas)


def _round_robin(request: PlacementRequest) -> IntArray:
    return np.arange(request.num_experts).reshape(-1, request.num_ranks).T.copy()


def _random(request: PlacementRequest) -> IntArray:
    order = stream(request.seed, PLACES, request.layer).permutation(request.num_experts)
    return np.sort(order.reshape(request.num_ranks, -1), axis=1)


def _explicit(request: PlacementRequest) -> IntArray:
    plans, num_layers = _plans_of(request), request.num_expert_layers
    num_dense = request.layer - request.expert_layer  # before the first layer with experts, in the model
    num_slots = request.num_experts + request.rule.replicas
    per_rank = num_slots // request.num_ranks
    if len(plans) not in {1, num_layers, num_layers + num_dense} or not all(
        _is_complete(plan, request, num_slots) for plan in plans
    ):
        times = "each once" if not request.rule.replicas else f"each at least once, {num_slots} slots in all"
        layers = f", in all layers or for each of the {num_layers} with experts" if num_layers > 1 else ""
        lists = request.rule.experts or ()
        raise InvalidValueError(
            field="placement.experts",
            rule=f"give each of {request.num_ranks} ranks {per_rank} of the experts 0 to {request.num_experts - 1}, "
            f"{times}{layers}",
            value=f"{len(lists)} lists of {sum(map(len, lists))} experts",
            hint="Write a list for each rank of an expert group, or for each layer the expert in each slot.",
        )
    number = request.layer if len(plans) > num_layers else request.expert_layer
    return np.array(plans[number if len(plans) > 1 else 0], dtype=np.intp).reshape(request.num_ranks, -1)


def _plans_of(request: PlacementRequest) -> list[list[int]]:
    """Return the expert in each slot, rank after rank, of each plan that the scenario lists.

    A list with at least as many entries as there are experts has the slots of a layer; shorter lists are of ranks.
    """
    lists, num_ranks = request.rule.experts or (), request.num_ranks
    if all(len(entries) >= request.num_experts for entries in lists):
        return [list(entries) for entries in lists]
    plans = [lists[first : first + num_ranks] for first in range(0, len(lists), num_ranks)]
    if any(len(plan) != num_ranks or len({len(rank) for rank in plan}) > 1 for plan in plans):
        return [[]]
    return [[expert for rank in plan for expert in rank] for plan in plans]


def _is_complete(plan: Sequence[int], request: PlacementRequest, num_slots: int) -> bool:
    """Return whether a plan fills all slots, which ranks have equally many of, and gives every expert a slot."""
    is_even = len(plan) == num_slots and num_slots % request.num_ranks == 0
    return is_even and set(plan) == set(range(request.num_experts))


def _greedy(request: PlacementRequest) -> IntArray:
    if request.rule.replicas:
        num_slots = request.num_experts + request.rule.replicas
        return eplb(request.expert_loads, num_slots=num_slots, num_groups=1, num_nodes=1, num_gpus=request.num_ranks)
    rank, position = pack(request.expert_loads, request.num_ranks)
    slots = np.zeros((request.num_ranks, request.num_experts // request.num_ranks), dtype=np.intp)
    slots[rank, position] = np.arange(request.num_experts)
    return slots


def _eplb(request: PlacementRequest) -> IntArray:
    """Plan with the groups that the rule asks for; the published code ignores groups that do not fit, silently."""
    groups, nodes = request.rule.groups, request.num_nodes
    legal = [n for n in range(nodes, request.num_experts + 1, nodes) if request.num_experts % n == 0]
    if groups > 1 and groups not in legal:
        nearest = min(legal, key=lambda n: (abs(n - groups), n), default=None)
        raise InvalidValueError(
            field="placement.groups",
            rule=f"divide {request.num_experts} experts and be a multiple of the {nodes} nodes of a group of ranks",
            value=groups,
            hint="Leave groups out.",
        ).with_remedies(
            [Remedy({"placement.groups": n}, str(n)) for n in (nearest,) if n is not None]
            + [Remedy({"placement.groups": 1}, "1, which is none")]
        )
    return eplb(
        request.expert_loads,
        num_slots=request.num_experts + request.rule.replicas,
        num_groups=groups,
        num_nodes=nodes,
        num_gpus=request.num_ranks,
    )


PLACEMENTS: Final[dict[str, PlacementKind]] = {
    "contiguous": PlacementKind(
        summary="rank r holds the r-th part of the experts, in order, and then of replicas",
        place=_contiguous,
        settings=("replicas",),
        is_contiguous=True,
    ),
    "round_robin": PlacementKind(
        summary="the experts are dealt to the ranks in turn", place=_round_robin, settings=("moves",)
    ),
    "random": PlacementKind(
        summary="the experts of each layer are placed by a random permutation", place=_random, settings=("moves",)
    ),
    "explicit": PlacementKind(
        summary="the scenario lists the experts of each rank, or the expert in each slot",
        place=_explicit,
        settings=("moves", "experts", "replicas"),
        required_settings=("experts",),
        is_given=True,
    ),
    "greedy": PlacementKind(
        summary="the experts are packed by the loads of earlier microbatches, the heaviest first",
        place=_greedy,
        settings=("replicas", "window", "stale", "plan_seed", "every", "moves"),
        is_planned=True,
    ),
    "eplb": PlacementKind(
        summary="experts and replicas are placed by DeepSeek's expert-parallel load balancer",
        place=_eplb,
        settings=("replicas", "groups", "window", "stale", "plan_seed", "every", "moves"),
        is_planned=True,
    ),
}
"""Placement by name."""
