"""Clusters from the figures of a fabric: the regular one by formula, any other by its graph.

`Cluster` is what both are to their users (`topology.abstract_cluster`).
"""

from collections.abc import Sequence

from topology.abstract_cluster import Cluster
from topology.degraded import Change, degrade
from topology.device import Device
from topology.errors import TopologyError
from topology.fabric import FabricSpec, build_graph
from topology.fabrics.rail_optimised import RailOptimised
from topology.graph_cluster import build_graph_cluster
from topology.nodes.nvswitch import NvSwitchNode
from topology.regular_cluster import RegularCluster

__all__ = ["Cluster", "build_cluster"]


def build_cluster(spec: FabricSpec, num_nodes: int, device: Device, degraded: Sequence[Change] = ()) -> Cluster:
    """Wire `num_nodes` nodes of `spec` with `device` in every slot, and change what is `degraded`.

    >>> from topology.presets.devices import DEVICES
    >>> from topology.presets.clusters import FABRICS
    >>> build_cluster(FABRICS["gb200-nvl72"], 1, DEVICES["gb200"]).num_gpus
    72
    """
    if num_nodes * spec.gpus_per_node > 65536:
        raise TopologyError(
            subject=f"cluster {spec.name!r}",
            field="num_nodes",
            rule="give at most 65,536 GPUs",
            value=num_nodes,
            cure="Simulate a part of the cluster: replicas beyond it are alike.",
        )
    graph = build_graph(spec, num_nodes)
    if degraded:
        graph = degrade(graph, degraded, name=spec.name)
    is_whole = all(change.factor is not None for change in degraded)  # a slower link leaves paths as they are
    if not (is_whole and isinstance(spec.wiring, RailOptimised) and isinstance(spec.node, NvSwitchNode)):
        return build_graph_cluster(graph, device, name=spec.name, inside=spec.inside, between=spec.between)
    return RegularCluster(
        name=spec.name,
        num_nodes=num_nodes,
        gpus_per_node=spec.gpus_per_node,
        device=device,
        graph=graph,
        inside=spec.inside,
        between=spec.between,
        spec=spec,
    )
