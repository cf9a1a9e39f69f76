"""A fabric: the figures of its links, what is inside a node, and how nodes are wired.

Model
-----
    node       what `FabricSpec.node` puts inside it: GPUs, switches, NICs    topology.nodes
    network    what `FabricSpec.wiring` links the NICs with                   topology.fabrics

A single node has no NICs: nothing leaves it.

Assumptions
-----------
The switches themselves never limit (their datasheets: full bisection), only links do.

References
----------
NVIDIA DGX SuperPOD reference architecture (DGX H100): scalable units of 32 nodes, a leaf per rail and unit.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sim.errors import InvalidValueError
from topology.limits import MAX_GPUS
from topology.links import LinkKind

if TYPE_CHECKING:
    import networkx as nx

__all__ = [
    "FabricSpec",
    "Node",
    "Wiring",
    "build_graph",
    "check_num_nodes",
    "refuse",
    "require_oversubscription",
]


class Wiring(Protocol):
    """How the NICs of nodes are wired; options are its fields."""

    def check(self, spec: "FabricSpec", num_nodes: int) -> None:
        """Refuse a number of nodes, or options, that cannot be wired."""
        ...

    def attach(self, graph: "nx.DiGraph[str]", spec: "FabricSpec", node: int, nic: int) -> None:
        """Link NIC `nic` of a node to its switch, which is added where it is new."""
        ...

    def connect(self, graph: "nx.DiGraph[str]", spec: "FabricSpec", num_nodes: int) -> None:
        """Link the switches, when all NICs are attached."""
        ...


class Node(Protocol):
    """The inside of a node."""

    def add(self, graph: "nx.DiGraph[str]", spec: "FabricSpec", node: int, *, has_network: bool) -> None:
        """Add a node to the graph, with its NICs where there is a network."""
        ...

    def num_links(self, spec: "FabricSpec") -> int:
        """Return how many links of the kind `spec.nvlink` a GPU has."""
        ...

    def num_nics(self, spec: "FabricSpec") -> int:
        """Return how many NICs a node has."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FabricSpec:
    """The figures from which `topology.fabric` wires any number of nodes."""

    name: str
    """A key of `topology.presets.clusters.FABRICS`."""
    gpus_per_node: int
    """GPUs of a node (a host, or a rack that is one NVLink domain)."""
    nvlink: LinkKind
    """One direction of a GPU's link inside the node: to the NVSwitch, all links together; in a mesh to each peer; in a
    PCIe server to the PCIe switch."""
    pcie: LinkKind
    """GPU to its NIC."""
    nic: LinkKind
    """NIC to leaf."""
    leaf_hop: LinkKind
    """Leaf to spine, or switch to switch; its bandwidth is replaced by what the wiring gives."""
    nodes_per_leaf: int = 32
    """Nodes of one scalable unit."""
    spines_per_unit: int = 4
    """Spines that each unit brings."""
    inside: str | None = None
    """Technology inside a node, by which protocols differ: nvlink2 to nvlink6, nvlink4-h800,
    nvlink5-nvl72, xgmi3, xgmi4, pcie4, pcie5."""
    between: str | None = None
    """Technology between nodes, by which protocols differ: ib-edr, ib-hdr, ib-ndr, ib-xdr, roce, tcpxo."""
    node: Node
    """What is inside a node."""
    wiring: Wiring
    """How NICs are wired to each other."""

    def __post_init__(self) -> None:
        for field in ("gpus_per_node", "nodes_per_leaf", "spines_per_unit"):
            value = getattr(self, field)
            if value < 1:
                raise InvalidValueError(
                    subject=f"fabric {self.name!r}",
                    field=field,
                    rule="be at least 1",
                    value=value,
                    hint="Count from 1.",
                )

    @property
    def in_node_bytes_per_s(self) -> float:
        """Datasheet bandwidth with which a GPU sends inside its node, over all of its links there."""
        return self.nvlink.bandwidth_bytes_per_s * self.node.num_links(self)

    @property
    def nics_per_node(self) -> int:
        """NICs of a node."""
        return self.node.num_nics(self)


def build_graph(spec: FabricSpec, num_nodes: int) -> "nx.DiGraph[str]":
    """Wire `num_nodes` nodes.

    Returns
    -------
    networkx.DiGraph
        Vertices carry `kind` (gpu, nvswitch, pcie, cpu, nic, leaf, spine, switch), those inside a node also `node`,
        GPUs also `rank` and `rail`. Edges carry `kind`, `bandwidth_bytes_per_s`, `efficiency` and `latency_s`; the
        graph `name`, and `source.KIND` of each kind of edge.

    Examples
    --------
    >>> from topology.presets.clusters import FABRICS
    >>> graph = build_graph(FABRICS["dgx-h100"], 2)
    >>> sum(data["kind"] == "gpu" for _, data in graph.nodes(data=True))
    16
    >>> graph.edges["nic0.3", "leaf0.3"]["bandwidth_bytes_per_s"]
    50000000000.0
    """
    import networkx as nx  # noqa: PLC0415  # slow to import, and most runs need no graph

    check_num_nodes(spec, num_nodes)
    spec.wiring.check(spec, num_nodes)
    kinds = (spec.nvlink, spec.pcie, spec.nic, spec.leaf_hop)
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.graph.update({"name": spec.name} | {f"source.{kind.name}": kind.source for kind in kinds})
    technologies = {"inside": spec.inside, "between": spec.between}
    graph.graph.update({tier: name for tier, name in technologies.items() if name})
    for node in range(num_nodes):
        spec.node.add(graph, spec, node, has_network=num_nodes > 1)
    if num_nodes > 1:
        spec.wiring.connect(graph, spec, num_nodes)
    return graph


def check_num_nodes(spec: FabricSpec, num_nodes: int) -> None:
    """Refuse a cluster of no nodes, or of more than `MAX_GPUS` GPUs, before anything is made of it."""
    if num_nodes < 1:
        rule, hint = "be at least 1", "Give a count."
    elif num_nodes * spec.gpus_per_node > MAX_GPUS:
        rule = f"give at most {MAX_GPUS:,} GPUs"
        hint = "Simulate a part of the cluster: further replicas of the model behave like the simulated replicas."
    else:
        return
    raise InvalidValueError(field="cluster.num_nodes", rule=rule, value=num_nodes, hint=hint)


def refuse(field: str, *, rule: str, value: object, hint: str) -> InvalidValueError:
    """Return the refusal of an option of a wiring."""
    return InvalidValueError(field=f"cluster.fabric.{field}", rule=rule, value=value, hint=hint)


def require_oversubscription(value: float) -> None:
    """Refuse uplinks that carry more than the NICs below them."""
    if not 1 <= value < float("inf"):
        raise refuse("oversubscription", rule="be at least 1", value=value, hint="Write 1 for a non-blocking fabric.")
