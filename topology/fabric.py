"""How a cluster is wired: GPUs behind an NVSwitch, a NIC per GPU, rails, leaves and spines.

Model
-----
    gpu <-> nvswitch                          inside a node
    gpu <-> nic <-> leaf(rail, unit)          NIC i of every node of a unit is on leaf i of that unit
    leaf <-> every spine                      only where there is more than one leaf

A leaf's uplinks together carry what its NICs carry (non-blocking), shared equally by its spines.

Assumptions
-----------
The NVSwitch and the switches themselves never limit (their datasheets: full bisection). The fabric is non-blocking;
a real one with fewer uplinks is slower across rails.

References
----------
NVIDIA DGX SuperPOD reference architecture (DGX H100): scalable units of 32 nodes, a leaf per rail and unit.
"""

from dataclasses import dataclass

import networkx as nx

from topology.errors import TopologyError
from topology.links import LinkKind

__all__ = ["FabricSpec", "build_graph"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FabricSpec:
    """The figures from which `build_graph` wires any number of nodes."""

    name: str
    """Preset name."""
    gpus_per_node: int
    """GPUs behind one NVSwitch (a node, or a rack that is one NVLink domain)."""
    nvlink: LinkKind
    """GPU to NVSwitch, one direction, all links of the GPU together."""
    pcie: LinkKind
    """GPU to its NIC."""
    nic: LinkKind
    """NIC to leaf."""
    leaf_hop: LinkKind
    """Leaf to spine; its bandwidth is replaced by the non-blocking share."""
    nodes_per_leaf: int = 32
    """Nodes of one scalable unit."""
    spines_per_unit: int = 4
    """Spines that each unit brings."""

    def __post_init__(self) -> None:
        for field in ("gpus_per_node", "nodes_per_leaf", "spines_per_unit"):
            value = getattr(self, field)
            if value < 1:
                raise TopologyError(
                    subject=f"fabric {self.name!r}",
                    field=field,
                    rule="be at least 1",
                    value=value,
                    cure="Count from 1.",
                )


def build_graph(spec: FabricSpec, num_nodes: int) -> "nx.DiGraph[str]":
    """Wire `num_nodes` nodes.

    Returns
    -------
    networkx.DiGraph
        Nodes carry `kind` (gpu, nvswitch, nic, leaf, spine), GPUs also `rank`, `node` and `rail`. Edges carry `kind`,
        `bandwidth_bytes_per_s`, `efficiency` and `latency_s`; the graph `name`, and `source.KIND` of each kind of edge.

    Examples
    --------
    >>> from topology.presets.clusters import FABRICS
    >>> graph = build_graph(FABRICS["dgx-h100"], 2)
    >>> sum(data["kind"] == "gpu" for _, data in graph.nodes(data=True))
    16
    >>> graph.edges["nic0.3", "leaf0.3"]["bandwidth_bytes_per_s"]
    50000000000.0
    """
    if num_nodes < 1:
        raise TopologyError(
            subject=f"cluster {spec.name!r}",
            field="num_nodes",
            rule="be at least 1",
            value=num_nodes,
            cure="Give a count.",
        )
    kinds = (spec.nvlink, spec.pcie, spec.nic, spec.leaf_hop)
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.graph.update({"name": spec.name} | {f"source.{kind.name}": kind.source for kind in kinds})
    for node in range(num_nodes):
        graph.add_node(f"nvswitch{node}", kind="nvswitch", node=node)
        for rail in range(spec.gpus_per_node):
            _add_gpu(graph, spec, node, rail, has_network=num_nodes > 1)
    if num_nodes > 1:
        _add_spines(graph, spec, num_nodes)
    return graph


def _add_gpu(graph: "nx.DiGraph[str]", spec: FabricSpec, node: int, rail: int, *, has_network: bool) -> None:
    rank = node * spec.gpus_per_node + rail
    gpu, nic = f"gpu{rank}", f"nic{node}.{rail}"
    graph.add_node(gpu, kind="gpu", rank=rank, node=node, rail=rail)
    _add_both_ways(graph, gpu, f"nvswitch{node}", spec.nvlink)
    if not has_network:
        return
    leaf = f"leaf{node // spec.nodes_per_leaf}.{rail}"
    graph.add_node(nic, kind="nic", node=node, rail=rail)
    graph.add_node(leaf, kind="leaf", unit=node // spec.nodes_per_leaf, rail=rail)
    _add_both_ways(graph, gpu, nic, spec.pcie)
    _add_both_ways(graph, nic, leaf, spec.nic)


def _add_spines(graph: "nx.DiGraph[str]", spec: FabricSpec, num_nodes: int) -> None:
    num_units = -(-num_nodes // spec.nodes_per_leaf)
    num_spines = num_units * spec.spines_per_unit
    leaves = [name for name, data in graph.nodes(data=True) if data["kind"] == "leaf"]
    if len(leaves) < 2:
        return
    for spine in range(num_spines):
        graph.add_node(f"spine{spine}", kind="spine")
    for leaf in leaves:
        num_nics = sum(graph.nodes[other]["kind"] == "nic" for other in graph.successors(leaf))
        share = spec.nic.bandwidth_bytes_per_s * num_nics / num_spines
        for spine in range(num_spines):
            _add_both_ways(graph, leaf, f"spine{spine}", spec.leaf_hop, bandwidth_bytes_per_s=share)


def _add_both_ways(
    graph: "nx.DiGraph[str]", a: str, b: str, kind: LinkKind, *, bandwidth_bytes_per_s: float | None = None
) -> None:
    for start, end in ((a, b), (b, a)):
        graph.add_edge(
            start,
            end,
            kind=kind.name,
            bandwidth_bytes_per_s=bandwidth_bytes_per_s or kind.bandwidth_bytes_per_s,
            efficiency=kind.efficiency,
            latency_s=kind.latency_s,
        )
