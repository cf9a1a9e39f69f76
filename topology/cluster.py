"""Clusters from the figures of a fabric: the regular one by formula, any other by its graph.

`Cluster` is what both are to their users (`topology.abstract_cluster`).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypedDict

from topology.abstract_cluster import Cluster
from topology.degraded import Change, degrade
from topology.device import Device
from topology.fabric import FabricSpec, build_graph, check_num_nodes
from topology.fabrics.clos import RailOptimised
from topology.graph_cluster import GraphCluster
from topology.nodes import NvSwitchNode
from topology.regular_cluster import RegularCluster

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Cluster", "build_cluster"]


def build_cluster(spec: FabricSpec, num_nodes: int, device: Device, degraded: Sequence[Change] = ()) -> Cluster:
    """Return `num_nodes` nodes of `spec` with `device` in every slot, but for what is `degraded`.

    Its graph is wired at its first use, or at once where something is degraded.

    >>> from topology.presets.devices import DEVICES
    >>> from topology.presets.clusters import FABRICS
    >>> build_cluster(FABRICS["gb200-nvl72"], 1, DEVICES["gb200"]).num_gpus
    72
    """
    check_num_nodes(spec, num_nodes)
    spec.wiring.check(spec, num_nodes)
    figures = _Figures(
        name=spec.name,
        num_nodes=num_nodes,
        gpus_per_node=spec.gpus_per_node,
        device=device,
        num_gpus=num_nodes * spec.gpus_per_node,
        wire=partial(_wire, spec, num_nodes, tuple(degraded)),
        inside=spec.inside,
        between=spec.between,
    )
    is_whole = all(change.factor is not None for change in degraded)  # a slower link leaves paths as they are
    cluster: Cluster
    if is_whole and isinstance(spec.wiring, RailOptimised) and isinstance(spec.node, NvSwitchNode):
        cluster = RegularCluster(
            **figures,
            spec=spec,
            nodes_per_unit=spec.wiring.nodes_per_unit(spec),
            oversubscription=spec.wiring.oversubscription,
        )
    else:
        cluster = GraphCluster(**figures)
    if degraded:
        _ = cluster.graph  # wired at once: what cannot be is refused now
    return cluster


class _Figures(TypedDict):
    """What both kinds of cluster are built from."""

    name: str
    num_nodes: int
    gpus_per_node: int
    device: Device
    num_gpus: int
    wire: Callable[[], "nx.DiGraph[str]"]
    inside: str | None
    between: str | None


def _wire(spec: FabricSpec, num_nodes: int, degraded: tuple[Change, ...]) -> "nx.DiGraph[str]":
    graph = build_graph(spec, num_nodes)
    return degrade(graph, degraded, name=spec.name) if degraded else graph
