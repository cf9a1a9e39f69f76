"""GPUs and NICs under PCIe switches under CPUs: a server without NVLink.

Model
-----
    gpu <-> PCIe switch <-> CPU <-> CPU
    nic <-> PCIe switch                         one NIC for the GPUs of a switch

Assumptions
-----------
GPUs under different CPUs talk to each other directly, over the CPUs' link; NCCL stages that through host memory.
"""

from dataclasses import dataclass

import networkx as nx

from topology.fabric_spec import FabricSpec
from topology.links import LinkKind
from topology.nodes.gpus import add_gpu
from topology.wires import add_both_ways

__all__ = ["PcieServer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PcieServer:
    """A node whose GPUs have PCIe only."""

    gpus_per_switch: int
    """GPUs under one PCIe switch."""
    switches_per_cpu: int
    """PCIe switches under one CPU."""
    cpu_link: LinkKind
    """Between two CPUs."""

    def add(self, graph: "nx.DiGraph[str]", spec: FabricSpec, node: int, *, has_network: bool) -> None:
        """Add CPUs, PCIe switches, GPUs and NICs."""
        cpus: list[str] = []
        graph.graph.setdefault(f"source.{self.cpu_link.name}", self.cpu_link.source)
        for number in range(self.num_nics(spec)):
            switch, cpu = f"pcie{node}.{number}", f"cpu{node}.{number // self.switches_per_cpu}"
            graph.add_node(switch, kind="pcie", node=node)
            if cpu not in cpus:
                graph.add_node(cpu, kind="cpu", node=node)
                for other in cpus:
                    add_both_ways(graph, cpu, other, self.cpu_link)
                cpus.append(cpu)
            add_both_ways(graph, switch, cpu, spec.nvlink)
            first = number * self.gpus_per_switch
            for rail in range(first, min(first + self.gpus_per_switch, spec.gpus_per_node)):
                add_both_ways(graph, add_gpu(graph, spec, node, rail), switch, spec.nvlink)
            if has_network:
                graph.add_node(f"nic{node}.{number}", kind="nic", node=node, rail=number)
                add_both_ways(graph, f"nic{node}.{number}", switch, spec.pcie)
                spec.wiring.attach(graph, spec, node, number)

    def num_links(self, spec: FabricSpec) -> int:
        """Return 1: the slot."""
        del spec
        return 1

    def num_nics(self, spec: FabricSpec) -> int:
        """Return one per PCIe switch."""
        return -(-spec.gpus_per_node // self.gpus_per_switch)
