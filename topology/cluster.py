"""Clusters from the figures of a fabric: the regular one by formula, any other by its graph.

`Cluster` is what both are to their users (`topology.abstract_cluster`).
"""

from collections.abc import Sequence
from functools import partial

import networkx as nx

from topology.abstract_cluster import Cluster
from topology.degraded import Change, degrade
from topology.device import Device
from topology.fabric import FabricSpec, build_graph, check_num_nodes
from topology.fabrics.rail_optimised import RailOptimised
from topology.graph_cluster import build_graph_cluster
from topology.nodes.nvswitch import NvSwitchNode
from topology.regular_cluster import RegularCluster

__all__ = ["Cluster", "build_cluster"]


def build_cluster(spec: FabricSpec, num_nodes: int, device: Device, degraded: Sequence[Change] = ()) -> Cluster:
    """Wire `num_nodes` nodes of `spec` with `device` in every slot, and change what is `degraded`.

    The graph of a regular cluster is wired when it is first asked for.

    >>> from topology.presets.devices import DEVICES
    >>> from topology.presets.clusters import FABRICS
    >>> build_cluster(FABRICS["gb200-nvl72"], 1, DEVICES["gb200"]).num_gpus
    72
    """
    check_num_nodes(spec, num_nodes)
    spec.wiring.check(spec, num_nodes)
    is_whole = all(change.factor is not None for change in degraded)  # a slower link leaves paths as they are
    if not (is_whole and isinstance(spec.wiring, RailOptimised) and isinstance(spec.node, NvSwitchNode)):
        graph = degrade(build_graph(spec, num_nodes), degraded, name=spec.name)
        return build_graph_cluster(graph, device, name=spec.name, inside=spec.inside, between=spec.between)
    cluster = RegularCluster(
        name=spec.name,
        num_nodes=num_nodes,
        gpus_per_node=spec.gpus_per_node,
        device=device,
        wire=partial(_wire, spec, num_nodes, tuple(degraded)),
        inside=spec.inside,
        between=spec.between,
        spec=spec,
    )
    if degraded:
        cluster.graph  # noqa: B018  # what it cannot have is told at once
    return cluster


def _wire(spec: FabricSpec, num_nodes: int, degraded: Sequence[Change]) -> "nx.DiGraph[str]":
    graph = build_graph(spec, num_nodes)
    return degrade(graph, degraded, name=spec.name) if degraded else graph
