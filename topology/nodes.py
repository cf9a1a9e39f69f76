"""The inside of a node: GPUs, the switches between them, and NICs.

Model
-----
    NvSwitchNode    gpu <-> nvswitch, gpu <-> NIC of its own                      one NVLink domain
    MeshNode        gpu <-> every other gpu, gpu <-> NIC of its own               a link for each pair of GPUs
    PcieServer      gpu <-> PCIe switch <-> CPU <-> CPU, NIC <-> PCIe switch      one NIC for the GPUs of a switch

In a `MeshNode` the traffic of a pair of GPUs has the link of that pair alone: two GPUs reach the bandwidth of one link,
however many links to other GPUs are idle.

Assumptions
-----------
- The NVSwitches of a node are one vertex that never limits.
- GPUs under different CPUs reach each other directly, over the link between the CPUs; NCCL stages that traffic in host
  memory.
"""

from dataclasses import dataclass

import networkx as nx

from topology.fabric import FabricSpec
from topology.links import LinkKind, add_both_ways

__all__ = ["MeshNode", "NvSwitchNode", "PcieServer"]


@dataclass(frozen=True, slots=True)
class NvSwitchNode:
    """A node that is one NVLink domain."""

    def add(self, graph: "nx.DiGraph[str]", spec: FabricSpec, node: int, *, has_network: bool) -> None:
        """Add switch, GPUs and NICs."""
        graph.add_node(f"nvswitch{node}", kind="nvswitch", node=node)
        for rail in range(spec.gpus_per_node):
            gpu, nic = _add_gpu(graph, spec, node, rail), f"nic{node}.{rail}"
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


@dataclass(frozen=True, slots=True)
class MeshNode:
    """A node of directly linked GPUs."""

    def add(self, graph: "nx.DiGraph[str]", spec: FabricSpec, node: int, *, has_network: bool) -> None:
        """Add GPUs, their links and NICs."""
        gpus = [_add_gpu(graph, spec, node, rail) for rail in range(spec.gpus_per_node)]
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
                add_both_ways(graph, _add_gpu(graph, spec, node, rail), switch, spec.nvlink)
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


# ---- private -----------------------------------------------------------------------------------------------------


def _add_gpu(graph: "nx.DiGraph[str]", spec: FabricSpec, node: int, rail: int) -> str:
    """Add a GPU without links and return its name."""
    rank = node * spec.gpus_per_node + rail
    graph.add_node(f"gpu{rank}", kind="gpu", rank=rank, node=node, rail=rail)
    return f"gpu{rank}"
