"""Clusters from the figures of a fabric: the regular one by formula, any other by its graph.

`Cluster` is what both are to their users (`topology.abstract_cluster`).
"""

from topology.abstract_cluster import Cluster
from topology.device import Device
from topology.errors import TopologyError
from topology.fabric import FabricSpec, build_graph
from topology.regular_cluster import RegularCluster

__all__ = ["Cluster", "build_cluster"]


def build_cluster(spec: FabricSpec, num_nodes: int, device: Device) -> Cluster:
    """Wire `num_nodes` nodes of `spec` with `device` in every slot.

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
    return RegularCluster(
        name=spec.name,
        num_nodes=num_nodes,
        gpus_per_node=spec.gpus_per_node,
        device=device,
        graph=build_graph(spec, num_nodes),
        spec=spec,
    )
