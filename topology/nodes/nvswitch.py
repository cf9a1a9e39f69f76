"""GPUs behind an NVSwitch, and a NIC for each.

Model
-----
    gpu <-> nvswitch
    gpu <-> nic of its own

Assumptions
-----------
The NVSwitches of a node are drawn as one that never limits.
"""

from dataclasses import dataclass

import networkx as nx

from topology.fabric_spec import FabricSpec
from topology.nodes.gpus import add_gpu
from topology.wires import add_both_ways

__all__ = ["NvSwitchNode"]


@dataclass(frozen=True, slots=True)
class NvSwitchNode:
    """A node that is one NVLink domain."""

    def add(self, graph: "nx.DiGraph[str]", spec: FabricSpec, node: int, *, has_network: bool) -> None:
        """Add switch, GPUs and NICs."""
        graph.add_node(f"nvswitch{node}", kind="nvswitch", node=node)
        for rail in range(spec.gpus_per_node):
            gpu, nic = add_gpu(graph, spec, node, rail), f"nic{node}.{rail}"
            add_both_ways(graph, gpu, f"nvswitch{node}", spec.nvlink)
            if has_network:
                graph.add_node(nic, kind="nic", node=node, rail=rail)
                add_both_ways(graph, gpu, nic, spec.pcie)
                spec.wiring.attach(graph, spec, node, rail)

    def num_links(self, spec: FabricSpec) -> int:
        """Return 1: all of a GPU's links together are one."""
        del spec
        return 1

    def num_nics(self, spec: FabricSpec) -> int:
        """Return one per GPU."""
        return spec.gpus_per_node
