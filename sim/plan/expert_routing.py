"""What a work says of its expert layers: the tokens that are routed to each expert, and which rank holds which expert.

Model
-----
A planned placement sees the tokens that all lanes sent to each expert in `window` microbatches, the last of which ended
`stale` microbatches before the first that runs under it. Plan k holds for microbatches k * every to
(k + 1) * every - 1; without `every` plan 0 holds for all. Loads before the run are drawn from streams of their own, so
that no placement changes what is routed in the run.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sim.build.serving import ServingWork
from sim.build.work import Work
from workloads.placement import PlacementRequest, place_experts
from workloads.routing import ROUTINGS, draw_counts, draw_for_hosts, node_probabilities

__all__ = [
    "chances_of_nodes",
    "copies_drawn",
    "copies_for_hosts",
    "expert_groups",
    "experts_on_ranks",
    "loads_before_plan",
    "needs_hosts_alone",
    "placed_experts",
    "sources_of_groups",
    "tokens_of_hosts",
]


_MANY_COUNTS: Final = 2**13
"""Counts of a layer, sources times experts, above which hosts alone are drawn where these are all that matters."""


def placed_experts(work: Work, stage: int, layer: int, *, plan: int = 0) -> NDArray[np.intp]:
    """Return the expert in each slot of each rank of an expert group, under a plan by its number. Shape [R, C]."""
    return experts_on_ranks(work, stage, layer, lambda: loads_before_plan(work, layer, plan))


def loads_before_plan(work: Work, layer: int, plan: int) -> NDArray[np.float64]:
    """Return the tokens of each expert in the window before a plan begins. Shape [E].

    Of microbatches before the run only these sums matter. Tokens that draw their experts have the same distribution
    whoever sends them: one source draws for all, at a fraction of the random numbers.
    """
    last = plan * (work.placement.every or 0) - work.placement.stale
    window, seed = range(last - work.placement.window, last), work.placement.plan_seed
    drawn_from = work if seed is None else replace(work, seed=seed)
    num_before = min(max(-window.start, 0), len(window)) if ROUTINGS[work.routing.kind].counts is None else 0
    loads = np.zeros(work.model.experts)
    if num_before:
        request = _request(drawn_from, 0, [layer], window[:num_before])
        num_tokens = request["tokens"] * request["num_sources"] * request["num_lanes"]
        loads += draw_counts(**request | {"tokens": num_tokens, "num_sources": 1, "num_lanes": 1}).sum(axis=(0, 1, 2))
    if num_before < len(window):
        for lane in range(work.mesh.num_lanes):
            loads += copies_drawn(drawn_from, lane, [layer], window[num_before:]).sum(axis=(0, 1))
    return loads


def experts_on_ranks(
    work: Work | ServingWork, stage: int, layer: int, loads: Callable[[], NDArray[np.float64] | None]
) -> NDArray[np.intp]:
    """Return the expert in each slot of each rank of an expert group; a planned rule sees `loads`. Shape [R, C]."""
    rule, group = work.placement, work.mesh.ep_groups(stage)[0]
    node, _ = work.cluster.node_positions(group)
    return place_experts(
        PlacementRequest(
            rule=rule,
            num_experts=work.model.experts,
            num_ranks=group.size,
            num_nodes=int(node.max()) + 1,
            layer=layer,
            seed=work.seed,
            loads=loads() if rule.is_planned else None,
            expert_layer=sum(work.model.is_moe_layer(before) for before in range(layer)),
            num_expert_layers=work.model.num_moe_layers,
        )
    )


def expert_groups(work: Work, stage: int, lane: int) -> list[tuple[int, NDArray[np.intp]]]:
    """Return number and ranks of each group that holds all experts and that a lane's tokens go to."""
    groups = work.mesh.ep_groups_of_lane(stage, lane)
    return [(lane * len(groups) + number, group) for number, group in enumerate(groups)]


def sources_of_groups(
    work: Work, lane_ranks: NDArray[np.intp], groups: Sequence[NDArray[np.intp]]
) -> list[slice | NDArray[np.intp]]:
    """Return for each group of a lane where the sources whose tokens go to it stand among all sources of the lane."""
    if len(groups) == 1 or work.has_replicated_tokens or work.gathers_tokens:
        return [slice(None)] * len(groups)
    if work.mesh.strategy.etp > 1:  # groups of EP ranks take turns along the lane
        return [np.searchsorted(lane_ranks, group) for group in groups]
    return [slice(nth * group.size, (nth + 1) * group.size) for nth, group in enumerate(groups)]


def tokens_of_hosts(work: Work, of_groups: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the tokens in each slot of each host [N, H, C] of the tokens of each group's ranks, of shape [N, EP, C].

    A host is a rank, or the ETP ranks that hold slices of the same experts: these gather what each of them received.
    Where every rank has all tokens from the start, each of them has the same.
    """
    etp = work.mesh.strategy.etp
    if etp == 1:
        return np.concatenate(of_groups, axis=1)
    num, ep, num_slots = of_groups[0].shape
    stacked = np.stack(of_groups, axis=1).reshape(num, -1, etp, ep, num_slots)
    has_all = work.has_replicated_tokens or work.gathers_tokens
    tokens: NDArray[np.int64] = stacked[:, :, 0] if has_all else stacked.sum(axis=2)
    return tokens.reshape(num, -1, num_slots)


def copies_drawn(work: Work, lane: int, layers: list[int], microbatches: list[int] | range) -> NDArray[np.int64]:
    """Return what each source rank sends to each expert, by microbatch and then by layer. Shape [N, S, E]."""
    is_approximate = work.routing.draw == "approximate"
    counts = draw_counts(**_request(work, lane, layers, microbatches), is_approximate=is_approximate)
    return counts.reshape(-1, *counts.shape[2:])


def copies_for_hosts(
    work: Work, lane: int, layers: list[int], microbatches: list[int] | range
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return what each source rank sends to each host [N, S, H], and all of them to each expert [N, E].

    The numbers for hosts are the sums of `copies_drawn`; see `needs_hosts_alone` for where these are all that matters.
    """
    return draw_for_hosts(num_hosts=work.mesh.strategy.ep, **_request(work, lane, layers, microbatches))


def needs_hosts_alone(work: Work) -> bool:
    """Tell whether only the copies for hosts and for experts matter, and drawing those alone is much less work.

    A source's copies for each expert matter to capacities, to placements that are not in order, to relays by node and
    where several groups exchange apart. Below `_MANY_COUNTS` all copies are drawn, so that small clusters keep theirs.
    """
    strategy, model, routing = work.mesh.strategy, work.model, work.routing
    on_host, per_node = model.experts // strategy.ep, model.experts // work.num_limited_nodes
    return (
        work.mesh.lane_size * model.experts > _MANY_COUNTS
        and on_host > 1
        and on_host & (on_host - 1) == 0
        and per_node % on_host == 0
        and work.placement.is_contiguous
        and routing.capacity_factor is None
        and routing.draw == "exact"
        and strategy.etp == 1
        and work.mesh.lane_size == strategy.ep
        and not (work.has_replicated_tokens or work.gathers_tokens)
        and not work.network.all_to_all_algorithm.relays_by_node
    )


def chances_of_nodes(
    work: Work, layers: list[int], microbatches: list[int] | range, num_nodes: int
) -> NDArray[np.float64]:
    """Return the chance of a token to choose among the experts of each node, by microbatch, then layer [N, nodes]."""
    return node_probabilities(
        work.routing.kind,
        num_experts=work.model.experts,
        top_k=work.model.top_k,
        seed=work.seed,
        draws=list(product(microbatches, layers)),
        skew=work.routing.skew,
        num_nodes=num_nodes,
        max_nodes=work.routing.max_nodes_per_token or num_nodes,
    )


def _request(work: Work, lane: int, layers: list[int], microbatches: list[int] | range) -> dict[str, Any]:
    """Return the parameters of a draw."""
    return {
        "kind": work.routing.kind,
        "num_sources": 1 if work.has_replicated_tokens else work.mesh.lane_size,
        "tokens": work.owned_tokens,
        "num_experts": work.model.experts,
        "top_k": work.model.top_k,
        "seed": work.seed,
        "layers": layers,
        "microbatches": microbatches,
        "lane": lane,
        "skew": work.routing.skew,
        "num_lanes": work.mesh.num_lanes,
        "num_nodes": work.num_limited_nodes,
        "max_nodes": work.routing.max_nodes_per_token,
    }
