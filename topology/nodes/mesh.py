"""GPUs that are each linked to all others of their node, and a NIC for each.

Model
-----
    gpu <-> every other gpu of the node         a link of its own for each pair
    gpu <-> nic of its own

Traffic of a pair has that pair's link alone: two GPUs reach one link's bandwidth, however many the others have idle.
"""

from dataclasses import dataclass

import networkx as nx

from topology.fabric_spec import FabricSpec
from topology.nodes.gpus import add_gpu
from topology.wires import add_both_ways

__all__ = ["MeshNode"]


@dataclass(frozen=True, slots=True)
class MeshNode:
    """A node of directly linked GPUs."""

    def add(self, graph: "nx.DiGraph[str]", spec: FabricSpec, node: int, *, has_network: bool) -> None:
        """Add GPUs, their links and NICs."""
        gpus = [add_gpu(graph, spec, node, rail) for rail in range(spec.gpus_per_node)]
        for rail, gpu in enumerate(gpus):
            for peer in gpus[:rail]:
                add_both_ways(graph, gpu, peer, spec.nvlink)
            if has_network:
                graph.add_node(f"nic{node}.{rail}", kind="nic", node=node, rail=rail)
                add_both_ways(graph, gpu, f"nic{node}.{rail}", spec.pcie)
                spec.wiring.attach(graph, spec, node, rail)

    def num_links(self, spec: FabricSpec) -> int:
        """Return a link per peer."""
        return max(1, spec.gpus_per_node - 1)

    def num_nics(self, spec: FabricSpec) -> int:
        """Return one per GPU."""
        return spec.gpus_per_node
