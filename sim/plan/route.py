"""The routing of expert layers, drawn and priced: tokens of each expert, and the exchanges there and back.

Model
-----
    copies of tokens of a source for an expert
        less what is beyond its capacity, with padding      workloads.routing.capacity
        spread over the slots that hold it                  workloads.placement
    bytes [source, host] = copies for slots of the host * hidden * dtype_bytes

Layers of a pass, and the microbatches that come next, are drawn and priced in one go: a call of numpy costs a
microsecond whatever its arrays hold. No figure depends on what is done together.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import cycle, product
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from sim.build.expert_routing import chances_of_nodes, copies_drawn, expert_groups, limited_nodes
from sim.build.work import Work
from sim.plan.costs import Costs
from sim.plan.exchange_costs import Tokens
from sim.plan.ops import ExpertTokens, Transfer
from sim.plan.placed import slots_of
from workloads.collectives.node_relay import distinct_tokens
from workloads.placement import split_over_replicas
from workloads.routing.capacity import keep_capacity

__all__ = ["ExpertLayer", "draw_layer", "route"]

Ranks = NDArray[np.intp]
_Priced = TypeVar("_Priced")

_MOST_COUNTS = 2**16  # of what is routed in one go, 0.5 MB; the byte matrices by class of path are several times that
_MOST_HELD = 2**17  # layers of ranks, over all lanes, at some 200 bytes each
_MOST_AHEAD = 8  # microbatches: a draw of the main case costs 120 us then, 164 where four layers are all, 248 alone


class Together:
    """What was routed in one go, to be priced in one go."""

    def __init__(self, tokens: NDArray[np.int64]) -> None:
        self._tokens = tokens
        self._priced: dict[Hashable, Any] = {}

    def once(self, key: Hashable, price: Callable[[NDArray[np.int64]], _Priced]) -> _Priced:
        """Return the price of the tokens of all [N, H, C], worked out when `key` is first asked for."""
        if key not in self._priced:
            self._priced[key] = price(self._tokens)
        return cast("_Priced", self._priced[key])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExpertLayer:
    """One layer's routing of one microbatch on one lane, priced."""

    together: Together
    """What was routed in one go with it."""
    place: int
    """Its place there."""
    layer: int
    """Layer."""
    lane_ranks: Ranks
    """Ranks of the lane. Shape [R]."""
    hosts: Ranks
    """Ranks that hold the experts: of the lane, or of all stages under `spanning`. Shape [H]."""
    tokens: NDArray[np.int64]
    """Tokens that arrive in each slot of each host, with padding. Shape [H, C]."""
    received: ExpertTokens
    """Tokens that arrive on each host."""
    there: tuple[Transfer, ...]
    """From the tokens' owners to the experts; empty where tokens are everywhere."""
    back: tuple[Transfer, ...]
    """From the experts to the tokens' owners."""
    num_routed: int
    """Copies of tokens that the sources send, counted at the sources."""
    owned_tokens: int
    """Tokens that each rank owns."""
    num_dropped: int = 0
    """Copies of them that no expert computes."""
    num_rerouted: int = 0
    """Copies of them that another expert than their own computes."""
    num_padded: int = 0
    """Empty rows that experts compute beside them."""


def draw_layer(work: Work, *, lane: int, layer: int, microbatch: int) -> NDArray[np.int64]:
    """Return how many tokens each source rank of a lane sends to each expert. Shape [S, E]."""
    counts: NDArray[np.int64] = copies_drawn(work, lane, [layer], [0 if work.has_balanced_routing else microbatch])[0]
    return counts


def route(work: Work, costs: Costs, *, stage: int, lane: int, layer: int, microbatch: int) -> ExpertLayer:
    """Draw the routing of a layer and price its exchange, together with what will soon be asked for."""
    microbatch = 0 if work.has_balanced_routing else microbatch  # balanced, all microbatches are alike
    return costs.recent(
        ("route", stage, lane),
        (layer, microbatch),
        lambda: _route(work, costs, (stage, lane), *_together(work, stage, layer, microbatch)),
        num_kept=1 if not work.kind.trains else 2 + work.splits_backward,  # forward and backward passes take turns
    )


# ---- private -----------------------------------------------------------------------------------------------------


class _Drawn(NamedTuple):
    """What was drawn together, by microbatch and then by layer."""

    layers: list[int]
    microbatches: range
    slots: list[Ranks | None]
    """Expert in each slot of the hosts, by layer; where plans change meanwhile, by microbatch and then by layer."""


def _together(work: Work, stage: int, layer: int, microbatch: int) -> tuple[list[int], range]:
    """Return the expert layers of a stage and the microbatches that are routed in one go with these."""
    layers = [other for other in work.layers_of(stage) if work.model.is_moe_layer(other)]
    num_lanes, num_ranks = work.mesh.lanes(stage).shape
    most_layers = max(1, _MOST_COUNTS // (num_ranks * work.model.experts))
    first = layers.index(layer) // most_layers * most_layers
    layers = layers[first : first + most_layers]
    if work.has_balanced_routing:
        return layers, range(1)
    held = work.mesh.num_stages * num_lanes * num_ranks * len(layers)
    num_ahead = min(_MOST_AHEAD, most_layers // len(layers), max(1, _MOST_HELD // held))
    start = microbatch // num_ahead * num_ahead
    return layers, range(start, min(start + num_ahead, work.num_microbatches))


def _route(
    work: Work, costs: Costs, place: tuple[int, int], layers: list[int], microbatches: range
) -> dict[tuple[int, int], ExpertLayer]:
    """Return the routing by layer and microbatch."""
    stage, lane = place
    lane_ranks, numbered = work.mesh.lanes(stage)[lane], expert_groups(work, stage, lane)
    counts = copies_drawn(work, lane, layers, microbatches)
    computed, carried, rerouted = keep_capacity(
        counts,
        factor=work.routing.capacity_factor,
        overflow=work.routing.overflow,
        tokens=work.owned_tokens,
        top_k=work.model.top_k,
        groups=limited_nodes(work),
    )
    plans = dict.fromkeys(work.placement.plan_at(microbatch) for microbatch in microbatches)
    of_each = plans if len(plans) == 1 else [work.placement.plan_at(microbatch) for microbatch in microbatches]
    slots = [slots_of(work, costs, stage, layer, plan=plan) for plan, layer in product(of_each, layers)]
    drawn = _Drawn(layers, microbatches, slots)
    tokens, real, trips = [], [], []
    costs.loads.note(lane, layers, microbatches, computed=computed, num_groups=len(numbered))
    for nth, (number, group) in enumerate(numbered):
        mine = slice(None) if len(numbered) == 1 else slice(nth * group.size, (nth + 1) * group.size)
        per_slot = _on_hosts(carried[:, mine], slots, group.size)
        tokens.append(per_slot.sum(axis=1))
        real.append(tokens[-1] if carried is computed else _on_hosts(computed[:, mine], slots, group.size).sum(axis=1))
        if not work.has_replicated_tokens:
            senders = lane_ranks if len(numbered) == 1 else group
            trips.append(_trips(work, costs, (senders, group), per_slot, drawn, group_number=number))
    arrived, num_routed = np.concatenate(tokens, axis=1), counts.sum(axis=(1, 2)).tolist()
    num_computed, num_carried = (each.sum(axis=(1, 2)).tolist() for each in (computed, carried))
    together = Together(arrived)
    hosts, on_hosts = np.concatenate([group for _, group in numbered]), np.concatenate(real, axis=1).sum(axis=2)
    num_rerouted, held = rerouted.sum(axis=1).tolist(), arrived.sum(axis=2)
    sent_over_mean = (carried.sum(axis=2).max(axis=1) / np.maximum(counts.sum(axis=2).mean(axis=1), 1)).tolist()
    return {
        (layer, microbatch): ExpertLayer(
            together=together,
            place=i,
            layer=layer,
            lane_ranks=lane_ranks,
            hosts=hosts,
            tokens=arrived[i],
            received=ExpertTokens(on_hosts[i], held[i], num_routed[i], sent_over_mean[i]),
            there=tuple(of_group[i][0] for of_group in trips),
            back=tuple(of_group[i][1] for of_group in trips),
            num_routed=num_routed[i],
            owned_tokens=work.owned_tokens,
            num_dropped=num_routed[i] - num_computed[i],
            num_rerouted=num_rerouted[i],
            num_padded=num_carried[i] - num_computed[i],
        )
        for i, (microbatch, layer) in enumerate(product(microbatches, layers))
    }


def _on_hosts(counts: NDArray[np.int64], slots: Sequence[Ranks | None], num_hosts: int) -> NDArray[np.int64]:
    """Return tokens [N, S, E] by the slots [N, S, H, C] of the hosts; those of `slots` take turns along N."""
    if slots[0] is None:
        return counts.reshape(*counts.shape[:2], num_hosts, -1)
    return np.stack(
        [
            split_over_replicas(of_draw, cast("Ranks", of_slots))  # all layers are placed, or none is
            for of_draw, of_slots in zip(counts, cycle(slots), strict=False)
        ]
    )


def _trips(
    work: Work,
    costs: Costs,
    ends: tuple[Ranks, Ranks],
    per_slot: NDArray[np.int64],
    drawn: _Drawn,
    *,
    group_number: int,
) -> list[tuple[Transfer, Transfer]]:
    """Return the exchange of each of N draws, from senders to a group and back, of tokens for slots [N, S, H, C]."""
    senders, group = ends
    if work.network.all_to_all == "hierarchical":
        sent = _distinct(work, per_slot.reshape(*per_slot.shape[:2], -1), group, drawn)
        return costs.exchanges.relayed_trips(senders, group, sent, group=group_number)
    matrices = per_slot.sum(axis=3) * float(work.model.hidden * work.model.dtype_bytes)
    return costs.exchanges.round_trips(senders, group, matrices, group=group_number)


def _distinct(work: Work, by_slot: NDArray[np.int64], group: Ranks, drawn: _Drawn) -> Tokens:
    """Return what sources have for ranks and nodes of a group, each token once, of tokens by slot [N, S, H C]."""
    owner = np.repeat(np.arange(group.size), by_slot.shape[2] // group.size)
    node, _ = work.cluster.node_positions(group)
    num_nodes, limit, slots = int(node.max()) + 1, work.routing.max_nodes_per_token, drawn.slots
    every = 1 if limit is None or slots[0] is None else len(slots)  # layers that are alike go together
    chances = None if limit is None else chances_of_nodes(work, drawn.layers, drawn.microbatches, num_nodes)

    def to(owner: Ranks) -> NDArray[np.float64]:
        """Return the bytes of different tokens from each source to each owner of slots. Shape [N, S, owners]."""
        of_layers = [
            distinct_tokens(
                by_slot[nth::every],
                owner,
                tokens=float(work.owned_tokens),
                top_k=work.model.top_k,
                group=None if limit is None else _home_nodes(work, slots[nth], num_nodes),
                max_groups=limit,
                group_chances=None if chances is None else chances[nth::every],
            )
            for nth in range(every)
        ]
        return np.stack(of_layers, axis=1).reshape(*by_slot.shape[:2], -1) * float(
            work.model.hidden * work.model.dtype_bytes
        )

    return Tokens(to_ranks=to(owner), to_nodes=to(node[owner]))


def _home_nodes(work: Work, slots: Ranks | None, num_nodes: int) -> Ranks:
    """Return the node that would hold the expert of each slot, were experts placed in order. Shape [H C]."""
    experts = np.arange(work.model.experts) if slots is None else slots.ravel()
    return experts // (work.model.experts // num_nodes)
