"""The routing of expert layers, drawn and priced: tokens of each expert, and the exchanges there and back.

Model
-----
    bytes [source, host] = copies of tokens of the source for experts of the host * hidden * dtype_bytes

Layers of a pass, and the microbatches that come next, are drawn and priced in one go: a call of numpy costs a
microsecond whatever its arrays hold. No figure depends on what is done together.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from sim.engine.ops import Transfer
from sim.engine.plan.costs import Costs
from sim.engine.plan.exchange_costs import Tokens, node_places
from sim.engine.plan.work import Work
from workloads.collectives.node_relay import distinct_tokens
from workloads.routing import draw_counts
from workloads.schedules import SCHEDULES

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
        """Return the price of the tokens of all [N, H, E], worked out when `key` is first asked for."""
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
    """Tokens that arrive for each local expert of each host. Shape [H, E]."""
    host_tokens: NDArray[np.int64]
    """Tokens that arrive on each host. Shape [H]."""
    there: tuple[Transfer, ...]
    """From the tokens' owners to the experts; empty where tokens are everywhere."""
    back: tuple[Transfer, ...]
    """From the experts to the tokens' owners."""
    num_routed: int
    """Copies of tokens that the sources send, counted at the sources."""
    owned_tokens: int
    """Tokens that each rank owns."""


def draw_layer(work: Work, *, lane: int, layer: int, microbatch: int) -> NDArray[np.int64]:
    """Return how many tokens each source rank of a lane sends to each expert. Shape [S, E]."""
    counts: NDArray[np.int64] = _draw(work, lane, [layer], [0 if work.routing == "balanced" else microbatch])[0]
    return counts


def route(work: Work, costs: Costs, *, stage: int, lane: int, layer: int, microbatch: int) -> ExpertLayer:
    """Draw the routing of a layer and price its exchange, together with what will soon be asked for."""
    splits = SCHEDULES[work.schedule].splits_backward
    microbatch = 0 if work.routing == "balanced" else microbatch  # balanced, all microbatches are alike
    return costs.recent(
        ("route", stage, lane),
        (layer, microbatch),
        lambda: _route(work, costs, (stage, lane), *_together(work, stage, layer, microbatch)),
        num_kept=1 if work.kind == "forward" else 2 + splits,  # forward and backward passes take turns
    )


# ---- private -----------------------------------------------------------------------------------------------------


def _together(work: Work, stage: int, layer: int, microbatch: int) -> tuple[list[int], range]:
    """Return the expert layers of a stage and the microbatches that are routed in one go with these."""
    layers = [other for other in work.layers_of(stage) if work.model.is_moe_layer(other)]
    num_lanes, num_ranks = work.mesh.lanes(stage).shape
    most_layers = max(1, _MOST_COUNTS // (num_ranks * work.model.experts))
    first = layers.index(layer) // most_layers * most_layers
    layers = layers[first : first + most_layers]
    if work.routing == "balanced":
        return layers, range(1)
    held = work.mesh.num_stages * num_lanes * num_ranks * len(layers)
    num_ahead = min(_MOST_AHEAD, most_layers // len(layers), max(1, _MOST_HELD // held))
    start = microbatch // num_ahead * num_ahead
    return layers, range(start, min(start + num_ahead, work.num_microbatches))


def _route(
    work: Work, costs: Costs, place: tuple[int, int], layers: list[int], microbatches: range
) -> dict[tuple[int, int], ExpertLayer]:
    """Return the routing by layer and microbatch."""
    mesh, (stage, lane) = work.mesh, place
    lane_ranks = mesh.lanes(stage)[lane]
    groups = mesh.ep_groups(stage) if mesh.convention == "spanning" else lane_ranks.reshape(-1, mesh.strategy.ep)
    counts = _draw(work, lane, layers, microbatches)
    copy_bytes = float(work.model.hidden * work.model.dtype_bytes)
    tokens, trips = [], []
    for number, group in enumerate(groups):
        senders = lane_ranks if len(groups) == 1 else group
        source_counts = counts if len(groups) == 1 else counts[:, number * group.size : (number + 1) * group.size]
        per_host = source_counts.reshape(*source_counts.shape[:2], group.size, -1)
        tokens.append(per_host.sum(axis=1))
        if _is_replicated(work):
            continue
        which = lane * len(groups) + number
        if work.all_to_all == "hierarchical":
            sent = _distinct(work, source_counts, group)
            trips.append(costs.exchanges.relayed_trips(senders, group, sent, group=which))
        else:
            matrices = per_host.sum(axis=3) * copy_bytes
            trips.append(costs.exchanges.round_trips(senders, group, matrices, group=which))
    arrived, num_routed = np.concatenate(tokens, axis=1), counts.sum(axis=(1, 2)).tolist()
    together = Together(arrived)
    hosts, on_hosts = groups.ravel(), arrived.sum(axis=2)
    return {
        (layer, microbatch): ExpertLayer(
            together=together,
            place=i,
            layer=layer,
            lane_ranks=lane_ranks,
            hosts=hosts,
            tokens=arrived[i],
            host_tokens=on_hosts[i],
            there=tuple(of_group[i][0] for of_group in trips),
            back=tuple(of_group[i][1] for of_group in trips),
            num_routed=num_routed[i],
            owned_tokens=_owned_tokens(work),
        )
        for i, (microbatch, layer) in enumerate(product(microbatches, layers))
    }


def _distinct(work: Work, counts: NDArray[np.int64], group: Ranks) -> Tokens:
    """Return what sources have for ranks and nodes of a group, each token once. `counts` are [N, S, E]."""
    owner = np.repeat(np.arange(group.size), work.model.experts // group.size)
    node, _ = node_places(work.cluster, group)
    num_nodes = int(node.max()) + 1
    share = min(1.0, (work.max_nodes_per_token or num_nodes) / num_nodes)
    tokens = float(_owned_tokens(work))
    copy_bytes = float(work.model.hidden * work.model.dtype_bytes)
    to_ranks, to_nodes = (
        distinct_tokens(counts, of, tokens=tokens, top_k=work.model.top_k, node_share=share) * copy_bytes
        for of in (owner, node[owner])
    )
    return Tokens(to_ranks=to_ranks, to_nodes=to_nodes)


def _draw(work: Work, lane: int, layers: Sequence[int], microbatches: Sequence[int]) -> NDArray[np.int64]:
    """Return what each source rank sends to each expert, by microbatch and then by layer. Shape [N, S, E]."""
    counts = draw_counts(
        work.routing,
        num_sources=1 if _is_replicated(work) else work.mesh.lane_size,
        tokens=_owned_tokens(work),
        num_experts=work.model.experts,
        top_k=work.model.top_k,
        seed=work.seed,
        layers=layers,
        microbatches=microbatches,
        lane=lane,
    )
    return counts.reshape(-1, *counts.shape[2:])


def _is_replicated(work: Work) -> bool:
    """Tell whether all ranks of a lane have all its tokens."""
    return work.mesh.convention == "vllm" and work.mesh.dp == 1


def _owned_tokens(work: Work) -> int:
    """Return the tokens of a microbatch that each source rank sends off."""
    return work.tokens if _is_replicated(work) else work.tokens // work.mesh.strategy.tp
