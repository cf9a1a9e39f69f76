"""What stands where on a graph: its links as arrays, its GPUs by rank, and the NICs that these are nearest to.

Model
-----
The vertices and links of the graph carry these data:

    vertex    kind (gpu, nvswitch, nic, cpu, pcie, leaf, spine, switch ...); node, for what is inside a node
    GPU       rank and node; rail (its position in the node) and speed (1) may be left out
    link      kind, bandwidth_bytes_per_s, efficiency, latency_s; hops that it counts as (1) and is_forwarded (False),
              whether GPUs forward what comes over it, may be left out

Vertices without `node` are the network's: leaves, spines, switches. Links are numbered in the graph's order.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from topology.link_groups import Inventory, inventory_of

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["GraphLinks"]

IntArray = NDArray[np.intp]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class GraphLinks:
    """Numbers, names and figures of the links and GPUs of a graph; attributes as those of `RegularLinks`."""

    graph: "nx.DiGraph[str]"

    @cached_property
    def names(self) -> list[str]:
        """Name `from->to` of every link."""
        return [f"{a}->{b}" for a, b in self.graph.edges]

    @cached_property
    def kinds(self) -> list[str]:
        """Kind of every link."""
        return [data["kind"] for _, _, data in self.graph.edges(data=True)]

    @cached_property
    def nominal_bytes_per_s(self) -> FloatArray:
        """Datasheet bandwidth of every link. Shape [L]."""
        return self._edge_figures("bandwidth_bytes_per_s")

    @cached_property
    def efficiency(self) -> FloatArray:
        """Fraction of the datasheet bandwidth that transfers reach on every link. Shape [L]."""
        return self._edge_figures("efficiency")

    @cached_property
    def crosses_node(self) -> NDArray[np.bool_]:
        """Tell which links lead out of a node or into one. Shape [L]."""
        node = {vertex: data.get("node") for vertex, data in self.graph.nodes(data=True)}
        return np.array([node[a] != node[b] for a, b in self.graph.edges], dtype=np.bool_)

    @cached_property
    def gpu_names(self) -> list[str]:
        """Vertex of each rank."""
        ranks = [(data["rank"], name) for name, data in self.graph.nodes(data=True) if data["kind"] == "gpu"]
        return [name for _, name in sorted(ranks)]

    @cached_property
    def speeds(self) -> FloatArray:
        """Speed of each rank's kernels over what the device does. Shape [G]."""
        return np.array([self.graph.nodes[name].get("speed", 1.0) for name in self.gpu_names], dtype=np.float64)

    @cached_property
    def node_and_rail(self) -> IntArray:
        """Node and rail of each rank. Shape [2, G]."""
        found, num_in_node = np.zeros((2, len(self.gpu_names)), dtype=np.intp), dict[int, int]()
        for rank, name in enumerate(self.gpu_names):
            data = self.graph.nodes[name]
            position = num_in_node[data["node"]] = num_in_node.get(data["node"], -1) + 1
            found[:, rank] = data["node"], data.get("rail", position)
        return found

    @property
    def inventory(self) -> Inventory:
        """What the cluster has, in the order of the graph."""
        return inventory_of(self.graph)

    @cached_property
    def has_nvswitches(self) -> bool:
        """Whether every GPU has a link to an NVSwitch."""
        kind = {vertex: data["kind"] for vertex, data in self.graph.nodes(data=True)}
        return all(any(kind[other] == "nvswitch" for other in self.graph.successors(gpu)) for gpu in self.gpu_names)

    @cached_property
    def in_node_bytes_per_s(self) -> float:
        """Datasheet bandwidth with which a GPU sends inside its node, all its links there but those to NICs."""
        data = self.graph.nodes
        sums = [
            sum(
                link["bandwidth_bytes_per_s"]
                for _, other, link in self.graph.out_edges(gpu, data=True)
                if data[other].get("node") == data[gpu]["node"] and data[other]["kind"] != "nic"
            )
            for gpu in self.gpu_names
        ]
        return float(max(sums)) or float("inf")

    @cached_property
    def exit_bytes_per_s(self) -> float:
        """Datasheet bandwidth out of a node for each of its GPUs, the best of all nodes; infinite on one node."""
        out: dict[int, float] = {}
        for a, b, link in self.graph.edges(data=True):
            node = self.graph.nodes[a].get("node")
            if node is not None and node != self.graph.nodes[b].get("node"):
                out[node] = out.get(node, 0.0) + link["bandwidth_bytes_per_s"]
        num_gpus = np.bincount(self.node_and_rail[0])
        return max((total / num_gpus[node] for node, total in out.items() if num_gpus[node]), default=float("inf"))

    def nic_ranks(self, ranks: IntArray) -> IntArray:
        """Return those of `ranks` [R] that are nearest to the NICs of their nodes, equally many for each NIC.

        A NIC that is the nearest NIC of no rank is not in use. Where nothing leaves a node, all of its ranks count.
        """
        nodes, senders = self.node_and_rail[0][ranks], set[int]()
        for node in np.unique(nodes).tolist():
            nearest = self._nearest_of_nics(ranks[nodes == node].tolist())
            sharing = Counter(nearest)  # candidates -> NICs that have these candidates
            quota = min((max(1, len(candidates) // count) for candidates, count in sharing.items()), default=0)
            for candidates, count in sharing.items():
                senders.update(candidates[: quota * count])
        return np.array([rank for rank in ranks.tolist() if rank in senders], dtype=np.intp) if senders else ranks

    # ---- private -------------------------------------------------------------------------------------------------

    def _edge_figures(self, field: str) -> FloatArray:
        return np.array([data[field] for _, _, data in self.graph.edges(data=True)], dtype=np.float64)

    def _nearest_of_nics(self, ranks: list[int]) -> list[tuple[int, ...]]:
        """Return for each NIC that is nearest to any of the `ranks` of a node the ranks that are nearest to the NIC."""
        by_nic: dict[str, dict[int, list[int]]] = {}
        for rank in ranks:
            hops, nics = self._way_out(rank)
            for nic in nics:
                by_nic.setdefault(nic, {}).setdefault(hops, []).append(rank)
        return [tuple(by_hops[min(by_hops)]) for by_hops in by_nic.values()]

    def _way_out(self, rank: int) -> tuple[int, list[str]]:
        """Return the fewest hops from a GPU, through no other GPU, to vertices that lead out of its node, and these."""
        if rank not in self._ways_out:
            graph, start = self.graph, self.gpu_names[rank]
            vertices, node = graph.nodes, graph.nodes[start]["node"]
            seen, reached, hops, out = {start}, [start], 0, list[str]()
            while reached:
                out = [v for v in reached if any(vertices[after].get("node") != node for after in graph.successors(v))]
                if out:
                    break
                ahead = {after for v in reached for after in graph.successors(v)} - seen
                seen |= ahead
                reached, hops = [v for v in ahead if vertices[v]["kind"] != "gpu"], hops + 1
            self._ways_out[rank] = (hops, sorted(out))
        return self._ways_out[rank]

    @cached_property
    def _ways_out(self) -> dict[int, tuple[int, list[str]]]:
        return {}
