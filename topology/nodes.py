"""The inside of a node: GPUs, the switches between them, and NICs.

Model
-----
    NvSwitchNode    gpu <-> nvswitch, gpu <-> NIC of its own                      one NVLink domain
    MeshNode        gpu <-> every other gpu, gpu <-> NIC of its own               a link for each pair of GPUs
    CubeMeshNode    gpu <-> four other gpus, gpu <-> PCIe switch as in a server   NVLinks of the DGX-1
    PcieServer      gpu <-> PCIe switch <-> CPU <-> CPU, NIC <-> PCIe switch      one NIC for the GPUs of a switch

In a `MeshNode` the traffic of a pair of GPUs has the link of that pair alone: two GPUs reach the bandwidth of one link,
however many links to other GPUs are idle.

In a `CubeMeshNode` two GPUs have two NVLinks, one or none; GPUs without an NVLink reach each other over the NVLinks of
a third GPU, as in NCCL (PATH_NVB).

Assumptions
-----------
- The NVSwitches of a node are one vertex that never limits.
- GPUs under different CPUs reach each other directly, over the link between the CPUs; NCCL stages that traffic in host
  memory.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from topology.fabric import FabricSpec
from topology.links import LinkKind, add_both_ways

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["CubeMeshNode", "MeshNode", "NvSwitchNode", "PcieServer"]


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


_CUBE_MESH = {
    **{(0, 3): 2, (1, 2): 2, (2, 3): 2, (0, 1): 1, (0, 2): 1, (1, 3): 1},
    **{(4, 7): 2, (5, 6): 2, (6, 7): 2, (4, 5): 1, (4, 6): 1, (5, 7): 1},
    **{(0, 4): 2, (1, 5): 2, (2, 6): 1, (3, 7): 1},
}
"""NVLinks between two GPUs of a DGX-1 with V100: six for each GPU (`nvidia-smi topo -m` of such a node)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CubeMeshNode:
    """A DGX-1: eight GPUs in a hybrid cube mesh of NVLinks, on the PCIe switches of a server."""

    server: PcieServer
    """PCIe switches, CPUs and NICs."""

    def add(self, graph: "nx.DiGraph[str]", spec: FabricSpec, node: int, *, has_network: bool) -> None:
        """Add the server, whose slots are `spec.pcie`, and the NVLinks."""
        self.server.add(graph, replace(spec, nvlink=spec.pcie), node, has_network=has_network)
        first = node * spec.gpus_per_node
        for (a, b), count in _CUBE_MESH.items():
            if max(a, b) >= spec.gpus_per_node:
                continue  # a part of the node is used
            bundle = replace(spec.nvlink, bandwidth_bytes_per_s=count * spec.nvlink.bandwidth_bytes_per_s)
            gpus = f"gpu{first + a}", f"gpu{first + b}"
            add_both_ways(graph, *gpus, bundle)
            for edge in (gpus, gpus[::-1]):
                graph.edges[edge]["is_forwarded"] = True

    def num_links(self, spec: FabricSpec) -> int:
        """Return the NVLinks of a GPU: six."""
        del spec
        return sum(count for pair, count in _CUBE_MESH.items() if 0 in pair)

    def num_nics(self, spec: FabricSpec) -> int:
        """Return one per PCIe switch."""
        return self.server.num_nics(spec)


# ---- private -----------------------------------------------------------------------------------------------------


def _add_gpu(graph: "nx.DiGraph[str]", spec: FabricSpec, node: int, rail: int) -> str:
    """Add a GPU without links and return its name."""
    rank = node * spec.gpus_per_node + rail
    graph.add_node(f"gpu{rank}", kind="gpu", rank=rank, node=node, rail=rail)
    return f"gpu{rank}"
