"""The routing of expert layers, drawn, placed and priced: tokens of each expert, and the exchanges that carry them.

Model
-----
    copies of tokens of a source for an expert
        less what is beyond its capacity, with padding      workloads.routing.capacity
        spread over the slots that hold the expert          workloads.placement
    bytes [source, rank] = copies for slots of the rank * bytes of a token there, or back

Layers of a pass, and the microbatches that come next, are drawn and priced in one batch: a call of numpy costs a
microsecond whatever its arrays hold. No figure depends on which layers and microbatches form a batch.
"""

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import cycle, product
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from sim.build.work import Work
from sim.plan.costs import Costs
from sim.plan.exchange_costs import Tokens
from sim.plan.expert_routing import (
    chances_of_nodes,
    copies_drawn,
    copies_for_hosts,
    expert_groups,
    needs_hosts_alone,
    placed_experts,
    sources_of_groups,
    tokens_of_hosts,
)
from sim.plan.gather_costs import Trip
from sim.plan.ops import ExpertTokens, LanePosition, Transfer
from workloads.collectives.node_relay import distinct_tokens
from workloads.placement import contiguous_slots, split_over_replicas
from workloads.routing.capacity import keep_capacity

__all__ = ["ExpertRouter", "RoutedLayer"]

Ranks = NDArray[np.intp]
_Priced = TypeVar("_Priced")
_Batch = dict[tuple[int, int], "RoutedLayer"]
"""Layers routed in one batch, by layer and microbatch."""

MOST_COUNTS = 2**16
"""Counts that are routed in one batch, 0.5 MB; the byte matrices by class of path are several times that."""
MOST_LAYERS_OF_RANKS = 2**19
"""Layers of ranks that are kept, over all lanes, at some 200 bytes each."""
MOST_KEPT_LAYERS_OF_RANKS = 2**18
"""Layers of ranks that training keeps from forward passes for their backward passes, over all lanes."""
MOST_MICROBATCHES = 8
"""Microbatches of a batch: a draw of the main case costs 120 us then, 164 where four layers are all, 248 alone."""


class RoutingBatch:
    """The tokens that were routed in one batch, whose experts are priced in one go."""

    def __init__(self, tokens: NDArray[np.int64]) -> None:
        self._tokens = tokens
        self._prices: dict[Hashable, Any] = {}

    def price(self, key: Hashable, price: Callable[[NDArray[np.int64]], _Priced]) -> _Priced:
        """Return the price of the tokens of the batch [N, R, C], computed at the first call with `key`."""
        if key not in self._prices:
            self._prices[key] = price(self._tokens)
        return cast("_Priced", self._prices[key])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RoutedLayer:
    """One layer's routing of one microbatch on one lane, priced."""

    batch: RoutingBatch
    """The batch in which this layer was routed."""
    index: int
    """Index of this layer and microbatch in the batch."""
    layer: int
    """Number of the layer in the model, from 0."""
    lane_ranks: Ranks
    """Ranks of the lane. Shape [L]."""
    expert_ranks: Ranks
    """Ranks that hold the experts: of the lane, or of all stages under `spanning`. Shape [R]."""
    slot_tokens: NDArray[np.int64]
    """Tokens that arrive in each slot of each of these ranks, with padding. Shape [R, C]."""
    expert_tokens: ExpertTokens
    """Tokens that arrive on each of these ranks."""
    dispatch: tuple[Transfer, ...]
    """From the tokens' owners to the experts; empty where every rank has all tokens."""
    combine: tuple[Transfer, ...]
    """From the experts to the tokens' owners."""
    gather: tuple[Transfer, ...]
    """From each to all of the ranks that hold slices of the same experts, of what arrived there (ETP)."""
    scatter: tuple[Transfer, ...]
    """The sums of what these ranks computed, to where the tokens had arrived."""
    num_routed: int
    """Copies of tokens that the sources send, counted at the sources."""
    owned_tokens: int
    """Tokens that each rank owns."""
    num_dropped: int = 0
    """Copies of tokens that no expert computes."""
    num_rerouted: int = 0
    """Copies of tokens that another expert than their own computes."""
    num_padded: int = 0
    """Empty rows that experts compute in addition."""

    @property
    def figures(self) -> Hashable:
        """All that its ops follow from but its number: layers of one kind and lane with equal figures are alike."""
        tokens = self.expert_tokens
        counts = (self.num_routed, self.num_dropped, self.num_rerouted, self.num_padded, tokens.sent_over_mean)
        arrays = (self.slot_tokens, tokens.computed, tokens.rows)
        transfers = (self.dispatch, self.combine, self.gather, self.scatter)
        return (*counts, *(array.tobytes() for array in arrays), *transfers)


class ExpertRouter:
    """Routes the expert layers of a work; keeps placements, and the batches that passes are in the middle of."""

    def __init__(self, work: Work, costs: Costs) -> None:
        self.work, self.costs = work, costs
        self._slots: dict[tuple[int, int], Ranks] = {}
        self._batches: dict[LanePosition, _Kept] = {}
        self._draws_for_hosts = needs_hosts_alone(work)

    def route(self, position: LanePosition, layer: int, microbatch: int) -> RoutedLayer:
        """Return the routing of a layer, drawn and priced with the layers and microbatches that come next."""
        key = (layer, 0 if self.work.has_balanced_routing else microbatch)  # balanced, all microbatches are alike
        kept = self._batches.setdefault(position, _Kept())
        if key not in kept.layers:
            members = self._members_of_batch(position.stage, *key)
            kept.forget(self._num_kept(position.stage, *members) - 1)
            kept.add(self._route(position, *members))
        return kept.layers[key]

    def slots(self, stage: int, layer: int, *, plan: int = 0) -> Ranks | None:
        """Return the expert in each slot of each rank of an expert group, under a plan by its number. Shape [R, C].

        None stands for the contiguous placement: rank r holds the r-th part of the experts in order.
        """
        if self.work.placement.is_contiguous:
            return None
        if (layer, plan) not in self._slots:
            self._slots[layer, plan] = placed_experts(self.work, stage, layer, plan=plan)
        return self._slots[layer, plan]

    def slots_before(self, stage: int, layer: int, plan: int) -> Ranks:
        """Return the expert in each slot before a plan begins: under the plan before, or in order. Shape [R, C]."""
        work = self.work
        slots = self.slots(stage, layer, plan=plan - 1) if work.placement.every is not None else None
        if slots is not None:
            return slots
        return contiguous_slots(work.model.experts, work.mesh.strategy.ep, replicas=work.placement.replicas)

    # ---- private -------------------------------------------------------------------------------------------------

    def _members_of_batch(self, stage: int, layer: int, microbatch: int) -> tuple[list[int], range]:
        """Return the expert layers of a stage and the microbatches that are routed in one batch with these."""
        work = self.work
        layers = [other for other in work.layers_of(stage) if work.model.is_moe_layer(other)]
        num_lanes, num_ranks = work.mesh.lanes(stage).shape
        num_counts = num_ranks * (work.mesh.strategy.ep if self._draws_for_hosts else work.model.experts)
        most_layers = max(1, MOST_COUNTS // num_counts)
        first = layers.index(layer) // most_layers * most_layers
        layers = layers[first : first + most_layers]
        if work.has_balanced_routing:
            return layers, range(1)
        layers_of_ranks = work.mesh.num_stages * num_lanes * num_ranks * len(layers)
        num_ahead = min(MOST_MICROBATCHES, most_layers // len(layers), max(1, MOST_LAYERS_OF_RANKS // layers_of_ranks))
        start = microbatch // num_ahead * num_ahead
        return layers, range(start, min(start + num_ahead, work.num_microbatches))

    def _num_kept(self, stage: int, layers: list[int], microbatches: range) -> int:
        """Return the batches of a lane that are kept: of training those that wait for their backward pass, if few."""
        work = self.work
        if not work.kind.trains:
            return 1
        num_lanes, num_ranks = work.mesh.lanes(stage).shape
        of_batch: int = work.mesh.num_stages * num_lanes * num_ranks * len(layers) * len(microbatches)
        # forward and backward passes take turns, each with a batch of its own
        return max(2 + int(work.splits_backward), MOST_KEPT_LAYERS_OF_RANKS // of_batch)

    def _route(self, position: LanePosition, layers: list[int], microbatches: range) -> _Batch:
        """Return a batch of routed layers."""
        if self._draws_for_hosts:
            return self._route_to_hosts(position, layers, microbatches)
        work, (stage, lane) = self.work, position
        lane_ranks, groups = work.mesh.lanes(stage)[lane], expert_groups(work, stage, lane)
        counts = copies_drawn(work, lane, layers, microbatches)
        computed, carried, rerouted = keep_capacity(
            counts,
            factor=work.routing.capacity_factor,
            overflow=work.routing.overflow,
            tokens=work.owned_tokens,
            top_k=work.model.top_k,
            groups=work.num_limited_nodes,
        )
        plans = dict.fromkeys(work.placement.plan_at(microbatch) for microbatch in microbatches)
        plan_of_each = plans if len(plans) == 1 else [work.placement.plan_at(microbatch) for microbatch in microbatches]
        slots = [self.slots(stage, layer, plan=plan) for plan, layer in product(plan_of_each, layers)]
        drawn = _Draws(layers, microbatches, slots)
        num_blocks = len(groups) // work.mesh.strategy.etp
        self.costs.loads.note(lane, layers, microbatches, computed=computed, num_groups=num_blocks)
        slot_tokens, slot_tokens_computed, round_trips = self._groups_of(groups, lane_ranks, carried, computed, drawn)
        etp, num_routed = work.mesh.strategy.etp, counts.sum(axis=(1, 2)).tolist()
        on_hosts, computed_on_hosts = (tokens_of_hosts(work, each) for each in (slot_tokens, slot_tokens_computed))
        arrived = on_hosts if etp == 1 else np.repeat(on_hosts, etp, axis=1)
        trips = self._gathers(position, on_hosts)
        num_computed, num_carried = (each.sum(axis=(1, 2)).tolist() for each in (computed, carried))
        batch = RoutingBatch(arrived)
        expert_ranks = lane_ranks if etp > 1 else np.concatenate([group for _, group in groups])
        on_ranks, with_padding = computed_on_hosts.sum(axis=2), on_hosts.sum(axis=2)
        num_rerouted = rerouted.sum(axis=1).tolist()
        sent_over_mean = (carried.sum(axis=2).max(axis=1) / np.maximum(counts.sum(axis=2).mean(axis=1), 1)).tolist()
        return {
            (layer, microbatch): RoutedLayer(
                batch=batch,
                index=i,
                layer=layer,
                lane_ranks=lane_ranks,
                expert_ranks=expert_ranks,
                slot_tokens=arrived[i],
                expert_tokens=ExpertTokens(on_ranks[i], with_padding[i], num_routed[i], sent_over_mean[i]),
                dispatch=tuple(of_group[i][0] for of_group in round_trips),
                combine=tuple(of_group[i][1] for of_group in round_trips),
                gather=trips[i][0] if trips else (),
                scatter=trips[i][1] if trips else (),
                num_routed=num_routed[i],
                owned_tokens=work.owned_tokens,
                num_dropped=num_routed[i] - num_computed[i],
                num_rerouted=num_rerouted[i],
                num_padded=num_carried[i] - num_computed[i],
            )
            for i, (microbatch, layer) in enumerate(product(microbatches, layers))
        }

    def _groups_of(
        self,
        groups: list[tuple[int, Ranks]],
        lane_ranks: Ranks,
        carried: NDArray[np.int64],
        computed: NDArray[np.int64],
        drawn: "_Draws",
    ) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]], list[list[tuple[Transfer, Transfer]]]]:
        """Return tokens in slots and round trips of each expert group of a lane, of copies to experts [N, S, E].

        The tokens are those that come to a slot and those that it computes, each [N, R, C].
        """
        work = self.work
        arrived, kept, round_trips = [], [], []
        sources_of = sources_of_groups(work, lane_ranks, [group for _, group in groups])
        for (number, group), sources in zip(groups, sources_of, strict=True):
            per_slot = _split_over_slots(carried[:, sources], drawn.slots, group.size)
            arrived.append(per_slot.sum(axis=1))
            kept.append(
                arrived[-1]
                if computed is carried
                else _split_over_slots(computed[:, sources], drawn.slots, group.size).sum(axis=1)
            )
            if not (work.has_replicated_tokens or work.gathers_tokens):
                senders = lane_ranks if len(groups) == 1 else group
                round_trips.append(self._round_trips(senders, group, per_slot, drawn, group_number=number))
        return arrived, kept, round_trips

    def _route_to_hosts(self, position: LanePosition, layers: list[int], microbatches: range) -> _Batch:
        """Return a batch of routed layers, of which only the copies for hosts and for experts are drawn."""
        work, (stage, lane) = self.work, position
        lane_ranks, [(number, group)] = work.mesh.lanes(stage)[lane], expert_groups(work, stage, lane)
        to_hosts, of_experts = copies_for_hosts(work, lane, layers, microbatches)
        self.costs.loads.note(lane, layers, microbatches, computed=of_experts[:, None], num_groups=1)
        drawn = _Draws(layers, microbatches, [None])
        trips = self._round_trips(lane_ranks, group, to_hosts[..., None], drawn, group_number=number)
        arrived = of_experts.reshape(len(of_experts), group.size, -1)
        on_ranks, num_routed = arrived.sum(axis=2), to_hosts.sum(axis=(1, 2)).tolist()
        sent = to_hosts.sum(axis=2)
        sent_over_mean = (sent.max(axis=1) / np.maximum(sent.mean(axis=1), 1)).tolist()
        batch = RoutingBatch(arrived)
        return {
            (layer, microbatch): RoutedLayer(
                batch=batch,
                index=i,
                layer=layer,
                lane_ranks=lane_ranks,
                expert_ranks=group,
                slot_tokens=arrived[i],
                expert_tokens=ExpertTokens(on_ranks[i], on_ranks[i], num_routed[i], sent_over_mean[i]),
                dispatch=(trips[i][0],),
                combine=(trips[i][1],),
                gather=(),
                scatter=(),
                num_routed=num_routed[i],
                owned_tokens=work.owned_tokens,
            )
            for i, (microbatch, layer) in enumerate(product(microbatches, layers))
        }

    def _round_trips(
        self, senders: Ranks, group: Ranks, per_slot: NDArray[np.int64], drawn: "_Draws", *, group_number: int
    ) -> list[tuple[Transfer, Transfer]]:
        """Return dispatch and combine of each of N draws, of tokens for the slots of a group [N, S, R, C]."""
        work, exchanges = self.work, self.costs.exchanges
        if work.network.all_to_all_algorithm.relays_by_node:
            tokens = self._distinct_tokens(per_slot.reshape(*per_slot.shape[:2], -1), group, drawn)

            def trips(num_bytes: float) -> list[tuple[Transfer, Transfer]]:
                sized = Tokens(to_ranks=tokens.to_ranks * num_bytes, to_nodes=tokens.to_nodes * num_bytes)
                return exchanges.relayed_trips(senders, group, sized, group=group_number)
        else:
            copies = per_slot.sum(axis=3)

            def trips(num_bytes: float) -> list[tuple[Transfer, Transfer]]:
                return exchanges.round_trips(senders, group, copies * num_bytes, group=group_number)

        there = trips(work.dispatch_bytes)
        if work.dispatch_bytes == work.combine_bytes:
            return there
        back = trips(work.combine_bytes)
        return [(sent, returned) for (sent, _), (_, returned) in zip(there, back, strict=True)]

    def _gathers(self, position: LanePosition, on_hosts: NDArray[np.int64]) -> list[Trip]:
        """Return the gathers around the experts of N draws, of tokens in slots of hosts [N, H, C]; none without any."""
        work, (stage, lane) = self.work, position
        if work.gathers_tokens:  # before the router, and before a projection to the latent of experts
            ranks = work.mesh.lanes(stage)[lane]
            num_bytes = float(work.owned_tokens * ranks.size * work.model.hidden * work.model.dtype_bytes)
            of_lane = (
                (self.costs.transfers.collective(operation, ranks, num_bytes, group=lane),)
                for operation in ("all_gather", "reduce_scatter")
            )
            return [cast("Trip", tuple(of_lane))] * len(on_hosts)
        if work.mesh.strategy.etp == 1 or work.has_replicated_tokens:
            return []
        groups, of_copy = (
            work.mesh.etp_groups_of_lane(stage, lane),
            float(work.model.expert_hidden * work.model.dtype_bytes),
        )
        return self.costs.gathers.trips(
            groups, on_hosts.sum(axis=2) * of_copy, mean_bytes=work.copies_per_host * of_copy, group=lane
        )

    def _distinct_tokens(self, by_slot: NDArray[np.int64], group: Ranks, drawn: "_Draws") -> Tokens:
        """Return what sources have for ranks and nodes of a group, each token once, of tokens by slot [N, S, R C]."""
        work = self.work
        rank_of_slot = np.repeat(np.arange(group.size), by_slot.shape[2] // group.size)
        node, _ = work.cluster.node_positions(group)
        num_nodes, limit, slots = int(node.max()) + 1, work.routing.max_nodes_per_token, drawn.slots
        every = 1 if limit is None or slots[0] is None else len(slots)  # layers with equal slots go together
        chances = None if limit is None else chances_of_nodes(work, drawn.layers, drawn.microbatches, num_nodes)

        def tokens_to(owner: Ranks) -> NDArray[np.float64]:
            """Return the different tokens from each source to each owner of slots. Shape [N, S, owners]."""
            of_layers = [
                distinct_tokens(
                    by_slot[nth::every],
                    owner,
                    tokens=float(work.owned_tokens),
                    top_k=work.model.top_k,
                    group=None if limit is None else self._home_nodes(slots[nth], num_nodes),
                    max_groups=limit,
                    group_chances=None if chances is None else chances[nth::every],
                )
                for nth in range(every)
            ]
            return np.stack(of_layers, axis=1).reshape(*by_slot.shape[:2], -1)

        return Tokens(to_ranks=tokens_to(rank_of_slot), to_nodes=tokens_to(node[rank_of_slot]))

    def _home_nodes(self, slots: Ranks | None, num_nodes: int) -> Ranks:
        """Return the node that would hold the expert of each slot, were experts placed in order. Shape [R C]."""
        experts = np.arange(self.work.model.experts) if slots is None else slots.ravel()
        return experts // (self.work.model.experts // num_nodes)


class _Kept:
    """The batches that a lane keeps, and their layers."""

    def __init__(self) -> None:
        self._batches: deque[_Batch] = deque()
        self.layers: _Batch = {}

    def add(self, batch: _Batch) -> None:
        """Keep one more batch."""
        self._batches.append(batch)
        self.layers |= batch

    def forget(self, num_left: int) -> None:
        """Forget the oldest batches but `num_left`."""
        while len(self._batches) > num_left:
            for key in self._batches.popleft():
                del self.layers[key]


class _Draws(NamedTuple):
    """What a batch draws, by microbatch and then by layer."""

    layers: list[int]
    microbatches: range
    slots: list[Ranks | None]
    """Expert in each slot of a group, by layer; where plans change meanwhile, by microbatch and then by layer."""


def _split_over_slots(counts: NDArray[np.int64], slots: Sequence[Ranks | None], num_ranks: int) -> NDArray[np.int64]:
    """Return tokens [N, S, E] by the slots [N, S, R, C] of a group's ranks; those of `slots` take turns along N."""
    if slots[0] is None:
        return counts.reshape(*counts.shape[:2], num_ranks, -1)
    return np.stack(
        [
            split_over_replicas(of_draw, cast("Ranks", of_slots))  # all layers are placed, or none is
            for of_draw, of_slots in zip(counts, cycle(slots), strict=False)
        ]
    )
