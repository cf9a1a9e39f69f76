"""The section `routing:` becomes a value: its recording is read, its limit of nodes checked, one token routed."""

import numpy as np
from numpy.typing import NDArray

from sim.build.work import Work
from sim.errors import InvalidValueError
from sim.scenario.recordings import read_recording
from sim.scenario.recordings.arrays import Shape
from sim.scenario.scenario import Scenario
from topology.cluster import Cluster
from workloads.placement import PlacementRequest, place_experts
from workloads.routing import draw_counts
from workloads.routing.settings import RoutingSettings
from workloads.routing.skew import Skew

__all__ = ["check_node_limit", "routing_of", "try_routing"]


def routing_of(
    scenario: Scenario,
    cluster: Cluster,
    ranks: NDArray[np.intp],
    *,
    shape: Shape,
    num_slots: int | None = None,
    expert_layers: tuple[int, ...] = (),
) -> RoutingSettings:
    """Return which experts tokens are sent to.

    Parameters
    ----------
    scenario, cluster
        What is simulated, and where.
    ranks
        Ranks that hold the experts, equally many each, in order. Shape [R].
    shape
        Experts, top-k and layers of the model, by which a recording is read.
    num_slots
        Slots for experts and their replicas; None: as many as experts.
    expert_layers
        Layers with experts; a recording has no others.

    Raises
    ------
    InvalidValueError
        The recording is not in the scenario's folder, cannot be read, or has another number of experts.
    """
    skew = _skew(
        scenario,
        cluster,
        ranks,
        shape=shape,
        num_slots=num_slots or shape.num_experts or 0,
        expert_layers=expert_layers,
    )
    return RoutingSettings(**scenario.spec.routing.values_of(RoutingSettings) | {"skew": skew})


def try_routing(work: Work) -> None:
    """Route a token of each layer and place the experts of a layer, so that what cannot be is refused before the run.

    Layers differ in what cannot be only by their dead experts, under a limit of nodes; otherwise one layer stands for
    all.

    Raises
    ------
    InvalidValueError
        Routing or placement do not go with the model or the mesh.
    """
    model = work.model
    layers = [layer for layer in range(model.layers) if model.is_moe_layer(layer)]
    if not layers:
        return
    draw_counts(
        work.routing.kind,
        num_sources=1,
        tokens=1,
        num_experts=model.experts,
        top_k=model.top_k,
        seed=work.seed,
        layers=layers if work.routing.skew.dead_experts and work.num_limited_nodes > 1 else layers[-1:],
        microbatches=[0],
        skew=work.routing.skew,
        num_nodes=work.num_limited_nodes,
        max_nodes=work.routing.max_nodes_per_token,
    )
    node, _ = work.cluster.node_positions(work.mesh.ep_groups(0)[0])
    place_experts(
        PlacementRequest(
            rule=work.placement,
            num_experts=model.experts,
            num_ranks=work.mesh.strategy.ep,
            num_nodes=int(node.max()) + 1,
            layer=model.layers - 1,
            expert_layer=model.num_moe_layers - 1,
            num_expert_layers=model.num_moe_layers,
        )
    )


def check_node_limit(
    scenario: Scenario, cluster: Cluster, groups: NDArray[np.intp], *, experts: int, top_k: int
) -> None:
    """Refuse a limit of nodes that have fewer experts together than a token chooses, or that are not alike.

    Parameters
    ----------
    groups
        Ranks over which the experts are spread evenly, a row for each group. Shape [G, R].
    experts
        Experts of a layer.
    top_k
        Experts of a token.
    """
    limit = scenario.spec.routing.max_nodes_per_token
    if limit is None or not experts:
        return
    of_groups = cluster.node_of(groups)
    per_node = {tuple(np.unique(nodes, return_counts=True)[1].tolist()) for nodes in of_groups}
    if len(per_node) > 1 or len(set(next(iter(per_node)))) > 1 or (np.diff(of_groups, axis=1) < 0).any():
        raise InvalidValueError(
            "routing.max_nodes_per_token",
            rule="be left out where ranks of a group that holds all experts are not alike on all nodes, node by node",
            value=limit,
            hint="Choose EP so that each of its nodes has equally many of its ranks, and list workload.ranks in order.",
        )
    num_nodes = len(next(iter(per_node)))
    if top_k * num_nodes > experts * limit:
        raise InvalidValueError(
            "routing.max_nodes_per_token",
            rule=f"leave a token at least top_k = {top_k} of {experts} experts on {num_nodes} nodes",
            value=limit,
            hint="Raise it, or lower model.top_k.",
        )


def _skew(
    scenario: Scenario,
    cluster: Cluster,
    ranks: NDArray[np.intp],
    *,
    shape: Shape,
    num_slots: int,
    expert_layers: tuple[int, ...],
) -> Skew:
    """Return how uneven the experts' popularity is."""
    routing = scenario.spec.routing
    if routing.file is None:
        nodes = np.repeat(cluster.node_positions(ranks)[0], num_slots // ranks.size)[: shape.num_experts]
        return Skew(**routing.values_of(Skew), expert_nodes=nodes if nodes.size else None)
    recording = read_recording(scenario.file_beside("routing.file", routing.file), shape=shape)
    if recording.tokens.shape[2] != shape.num_experts:
        raise InvalidValueError(
            "routing.file",
            rule=f"have model.experts = {shape.num_experts} experts",
            value=f"{recording.tokens.shape[2]} (read as {recording.described})",
            hint="Replay it on the model that it was recorded of; counts of physical experts need their map.",
        )
    return Skew(
        loads=recording.tokens,
        expert_layers=expert_layers,
        recorded=recording.described,
        recorded_layers=recording.layers,
    )
