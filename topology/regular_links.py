"""The links of a regular cluster as arrays, numbered as the edges of its graph are, without the graph.

Model
-----
A graph lists its edges by the vertex they start from, in the order in which vertices and edges were added. So the links
of a regular cluster come node by node, and last those of the spines::

    node n    nvswitch n  -> gpu 0, gpu 1 ...
              then for each rail r     gpu -> nvswitch, nic        nic -> gpu, leaf
                   of the first node of a unit, also   leaf -> nic of each node of the unit, spine 0, spine 1 ...
    spine s   -> every leaf

and the number of a link is the number of links before its vertex, plus its place there. A single node has its NVLinks
alone; a single leaf has no spines.

References
----------
networkx, `DiGraph.edges`: edges are reported by vertex, in the order of `DiGraph.nodes`.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from topology.fabric import FabricSpec
from topology.link_groups import Inventory, LinkFigures, groups_of
from topology.links import LinkKind

__all__ = ["RegularLinks"]

IntArray = NDArray[np.intp]
FloatArray = NDArray[np.float64]
_OF_GPU_AND_NIC = 4
"""Links that start from a GPU and its NIC."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RegularLinks:
    """Numbers, names and figures of the links of GPUs behind an NVSwitch, with rails, leaves and spines.

    >>> from topology.presets.clusters import FABRICS
    >>> links = RegularLinks(spec=FABRICS["dgx-h100"], num_nodes=2, nodes_per_unit=32, oversubscription=1.0)
    >>> links.of_gpus["nic_up"][:2].tolist(), links.names[11], len(links.names)
    ([11, 21], 'nic0.0->leaf0.0', 160)
    """

    spec: FabricSpec
    """Figures of the fabric."""
    num_nodes: int
    """N."""
    nodes_per_unit: int
    """Nodes of one scalable unit."""
    oversubscription: float
    """Bandwidth of a leaf's NICs over that of its uplinks."""

    @property
    def num_links(self) -> int:
        """L."""
        if self.num_nodes == 1:
            return 2 * self.num_gpus
        return (2 + _OF_GPU_AND_NIC) * self.num_gpus + 2 * self._num_leaves * self._num_spines

    @property
    def num_gpus(self) -> int:
        """G."""
        return self.num_nodes * self.spec.gpus_per_node

    @property
    def gpu_names(self) -> list[str]:
        """Vertex of each rank."""
        return [f"gpu{rank}" for rank in range(self.num_gpus)]

    @property
    def speeds(self) -> FloatArray:
        """Speed of each rank's kernels over what the device does: 1. Shape [G]."""
        return np.ones(self.num_gpus)

    @cached_property
    def node_and_rail(self) -> IntArray:
        """Node and rail of each rank. Shape [2, G]."""
        return np.stack(np.divmod(np.arange(self.num_gpus), self.spec.gpus_per_node))

    @cached_property
    def leaves(self) -> IntArray:
        """Number of the leaf of each rank: unit * rails + rail. Shape [G]."""
        node, rail = self.node_and_rail
        leaves: IntArray = node // self.nodes_per_unit * self.spec.gpus_per_node + rail
        return leaves

    @property
    def has_nvswitches(self) -> bool:
        """Whether every GPU has a link to an NVSwitch: always."""
        return True

    @property
    def in_node_bytes_per_s(self) -> float:
        """Datasheet bandwidth with which a GPU sends inside its node."""
        return self.spec.nvlink.bandwidth_bytes_per_s

    @property
    def exit_bytes_per_s(self) -> float:
        """Datasheet bandwidth out of a node for each of its GPUs: that of its NIC."""
        return self.spec.nic.bandwidth_bytes_per_s

    def nic_ranks(self, ranks: IntArray) -> IntArray:
        """Return those of `ranks` [R] over which collectives enter and leave nodes: all, for each has a NIC."""
        return ranks

    @cached_property
    def of_gpus(self) -> dict[str, IntArray]:
        """Numbers of the links that belong to each GPU. Each array has shape [G]."""
        rails, rail = self.spec.gpus_per_node, self._first_of_rail
        links = {"nvlink_up": rail.copy(), "nvlink_down": self._first_of_node[:, None] + np.arange(rails)}
        if self.num_nodes > 1:
            node = np.arange(self.num_nodes)
            unit = node // self.nodes_per_unit
            place = node - unit * self.nodes_per_unit
            links["pcie_up"] = rail + 1
            links["nic_up"] = rail + 3
            links["nic_down"] = self._first_of_leaf[unit] + place[:, None]
            links["pcie_down"] = rail + 2
        return {name: numbers.ravel() for name, numbers in links.items()}

    @cached_property
    def of_spines(self) -> tuple[IntArray, IntArray]:
        """Numbers of the links leaf -> spine and spine -> leaf. Each of shape [leaves, spines]."""
        leaves, spines = np.arange(self._num_leaves), np.arange(self._num_spines)
        if self.num_nodes == 1:
            return (np.zeros((leaves.size, 0), dtype=np.intp),) * 2
        up = (self._first_of_leaf + self._unit_sizes[:, None]).reshape(-1, 1) + spines
        first_down = self.num_links - leaves.size * spines.size
        return up, first_down + leaves[:, None] + spines * leaves.size

    @cached_property
    def names(self) -> list[str]:
        """Name `from->to` of every link."""
        names = [""] * self.num_links
        rails = self.spec.gpus_per_node
        leaves = [f"leaf{unit}.{rail}" for unit in range(self._unit_sizes.size) for rail in range(rails)]
        numbers = {name: links.tolist() for name, links in self.of_gpus.items()}
        for rank in range(self.num_gpus):
            node, rail = divmod(rank, rails)
            ends = {"nvlink": (f"gpu{rank}", f"nvswitch{node}")}
            if self.num_nodes > 1:
                nic, leaf = self._nics[rank], leaves[node // self.nodes_per_unit * rails + rail]
                ends |= {"pcie": (f"gpu{rank}", nic), "nic": (nic, leaf)}
            for kind, (inner, outer) in ends.items():
                names[numbers[f"{kind}_up"][rank]] = f"{inner}->{outer}"
                names[numbers[f"{kind}_down"][rank]] = f"{outer}->{inner}"
        up, down = (links.tolist() for links in self.of_spines)
        for leaf, ups, downs in zip(leaves, up, down, strict=True):
            for spine, (out, back) in enumerate(zip(ups, downs, strict=True)):
                names[out], names[back] = f"{leaf}->spine{spine}", f"spine{spine}->{leaf}"
        return names

    @cached_property
    def kinds(self) -> list[str]:
        """Kind of every link."""
        names, number = [kind.name for kind in self._kinds], self._kind_numbers.tolist()
        return [names[kind] for kind in number]

    @cached_property
    def nominal_bytes_per_s(self) -> FloatArray:
        """Datasheet bandwidth of every link. Shape [L]."""
        nominal = np.array([kind.bandwidth_bytes_per_s for kind in self._kinds])[self._kind_numbers]
        if self._num_spines:
            of_unit = self.spec.nic.bandwidth_bytes_per_s * self._unit_sizes / self._num_spines / self.oversubscription
            share = np.repeat(of_unit, self.spec.gpus_per_node)[:, None]
            for links in self.of_spines:
                nominal[links] = share
        return nominal

    @cached_property
    def efficiency(self) -> FloatArray:
        """Fraction of the datasheet bandwidth that transfers reach on every link. Shape [L]."""
        return np.array([kind.efficiency for kind in self._kinds])[self._kind_numbers]

    @cached_property
    def crosses_node(self) -> NDArray[np.bool_]:
        """Tell which links lead out of a node or into one. Shape [L]."""
        crosses = np.zeros(self.num_links, dtype=np.bool_)
        for name in ("nic_up", "nic_down"):
            if name in self.of_gpus:
                crosses[self.of_gpus[name]] = True
        return crosses

    @property
    def inventory(self) -> Inventory:
        """What the cluster has, in the order of its graph."""
        num_nics = len(self._nics)
        vertices = {"nvswitch": self.num_nodes, "gpu": self.num_gpus, "nic": num_nics}
        vertices |= {"leaf": self._num_leaves if num_nics else 0, "spine": self._num_spines}
        counts: dict[LinkFigures, int] = {}
        for number, kind in enumerate(self._kinds):
            rates, num_links = np.unique(self.nominal_bytes_per_s[self._kind_numbers == number], return_counts=True)
            for rate, count in zip(rates.tolist(), num_links.tolist(), strict=True):
                key = (kind.name, rate, kind.efficiency, kind.latency_s)
                counts[key] = counts.get(key, 0) + count
        return Inventory(
            name=self.spec.name,
            vertices={kind: count for kind, count in vertices.items() if count},
            nics_in_use=self._nics,
            nics_not_in_use=[],
            links=groups_of(counts, {kind.name: kind.source for kind in self._kinds}),
        )

    # ---- private -------------------------------------------------------------------------------------------------

    @cached_property
    def _nics(self) -> list[str]:
        """Vertex of the NIC of each GPU; none on a single node."""
        nodes = range(self.num_nodes if self.num_nodes > 1 else 0)
        return [f"nic{node}.{rail}" for node in nodes for rail in range(self.spec.gpus_per_node)]

    @cached_property
    def _unit_sizes(self) -> IntArray:
        """Nodes of each unit; the last may be smaller. Shape [U]."""
        first = np.arange(0, self.num_nodes, self.nodes_per_unit)
        return np.diff(first, append=self.num_nodes)

    @property
    def _num_leaves(self) -> int:
        return int(self._unit_sizes.size) * self.spec.gpus_per_node

    @property
    def _num_spines(self) -> int:
        if self.num_nodes == 1 or self._num_leaves == 1:
            return 0
        return int(self._unit_sizes.size) * self.spec.spines_per_unit

    @cached_property
    def _links_of_rail(self) -> IntArray:
        """Links that start from a GPU, its NIC and the leaf that is added with them, by node. Shape [N]."""
        if self.num_nodes == 1:
            return np.ones(1, dtype=np.intp)
        links = np.full(self.num_nodes, _OF_GPU_AND_NIC, dtype=np.intp)
        links[:: self.nodes_per_unit] += self._unit_sizes + self._num_spines
        return links

    @cached_property
    def _first_of_node(self) -> IntArray:
        """Number of the first link of each node's NVSwitch. Shape [N]."""
        links_of_node = self.spec.gpus_per_node * (1 + self._links_of_rail)
        return np.cumsum(links_of_node) - links_of_node

    @cached_property
    def _first_of_rail(self) -> IntArray:
        """Number of the first link of each GPU. Shape [N, rails]."""
        rails = self.spec.gpus_per_node
        return self._first_of_node[:, None] + rails + self._links_of_rail[:, None] * np.arange(rails)

    @cached_property
    def _first_of_leaf(self) -> IntArray:
        """Number of the first link of each leaf. Shape [U, rails]."""
        return self._first_of_rail[:: self.nodes_per_unit] + _OF_GPU_AND_NIC

    @property
    def _kinds(self) -> tuple[LinkKind, ...]:
        spec = self.spec
        return spec.nvlink, spec.pcie, spec.nic, spec.leaf_hop

    @cached_property
    def _kind_numbers(self) -> NDArray[np.int8]:
        """Position in `_kinds` of the kind of each link. Shape [L]."""
        number = np.zeros(self.num_links, dtype=np.int8)
        for name, links in self.of_gpus.items():
            number[links] = ("nvlink", "pcie", "nic").index(name.partition("_")[0])
        for links in self.of_spines:
            number[links] = 3
        return number
