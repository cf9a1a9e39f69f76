"""One node as its own tools describe it, and many such nodes joined by rails.

Model
-----
    gpu <-> nvswitch, gpu <-> gpu           NVLinks
    gpu, nic <-> pcie <-> pcie <-> cpu      PCIe
    cpu <-> cpu
    nic i of every node <-> leaf i <-> every spine      with several nodes

Leaves carry to their spines what their NICs carry (non-blocking), shared equally by `NUM_SPINES` spines.

Assumptions
-----------
All nodes are equal. All NVSwitches of a node are one vertex, as in NCCL: their links are used evenly.
"""

from dataclasses import dataclass, field
from typing import Final

import networkx as nx

from sim.errors import InvalidValueError
from topology.files.generations import SOURCES
from topology.limits import MAX_GPUS
from topology.presets.protocols import simple_rate

__all__ = ["NUM_SPINES", "OneNode", "join_both_ways", "repeat_node"]

NUM_SPINES: Final = 4
"""Spines above the leaves of several nodes, where there is more than one leaf."""

_NET_LATENCY_S: Final = 2.8e-6 / 4  # DeepSeek-V3 insights: 2.8 us under one leaf, 4 links
_LEAF_LATENCY_S: Final = (3.7e-6 - 2.8e-6) / 2  # 3.7 us across leaves, 2 links more
_EFFICIENCY: Final = simple_rate("ethernet")


@dataclass(slots=True)
class OneNode:
    """A node: its graph, whose vertices are named by kind and number (`gpu0`, `nic3`), and the rates of its NICs."""

    graph: "nx.DiGraph[str]" = field(default_factory=nx.DiGraph)
    """Vertices with `kind`, GPUs with `rank`, links with their figures."""
    nic_bytes_per_s: dict[str, float | None] = field(default_factory=dict)
    """NIC -> rate of its port; None where nothing tells."""

    def add(self, kind: str, label: str = "") -> str:
        """Add a vertex with the next number of its kind, and what the machine calls it; return its name."""
        number = sum(data["kind"] == kind for _, data in self.graph.nodes(data=True))
        data: dict[str, object] = {"rank": number, "rail": number} if kind == "gpu" else {}
        data |= {"rail": number} if kind == "nic" else {}
        self.graph.add_node(f"{kind}{number}", kind=kind, **data, **({"label": label} if label else {}))
        return f"{kind}{number}"


def join_both_ways(
    graph: "nx.DiGraph[str]",
    a: str,
    b: str,
    *,
    kind: str,
    bandwidth_bytes_per_s: float,
    latency_s: float,
    efficiency: float = 1.0,
) -> None:
    """Add the two links of a cable."""
    for start, end in ((a, b), (b, a)):
        graph.add_edge(
            start,
            end,
            kind=kind,
            bandwidth_bytes_per_s=bandwidth_bytes_per_s,
            efficiency=efficiency,
            latency_s=latency_s,
        )


def repeat_node(node: OneNode, num_nodes: int, *, name: str, nic_bytes_per_s: float | None = None) -> "nx.DiGraph[str]":
    """Return the graph of `num_nodes` equal nodes.

    Parameters
    ----------
    node
        The node.
    num_nodes
        How many; with several, leaf i joins NIC i of all.
    name
        Name of the cluster.
    nic_bytes_per_s
        Rate of every NIC, instead of what the node's description says.

    Raises
    ------
    InvalidValueError
        The node has no NIC or nobody told its rate, and there are several nodes; or there are too many GPUs.
    """
    kinds = [data["kind"] for _, data in node.graph.nodes(data=True)]
    per_node = kinds.count("gpu")
    if num_nodes < 1 or num_nodes * per_node > MAX_GPUS:
        rule = f"give 1 to {MAX_GPUS:,} GPUs"
        raise InvalidValueError("cluster.num_nodes", rule, num_nodes, f"A node has {per_node}.")
    rates = {nic: nic_bytes_per_s or rate for nic, rate in node.nic_bytes_per_s.items()}
    if num_nodes > 1:
        _check_rates(rates, name)
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.graph.update({"name": name} | {f"source.{kind}": source for kind, source in SOURCES.items()})
    for number in range(num_nodes):
        _copy(graph, node.graph, number, per_node)
    if num_nodes > 1:
        _add_rails(graph, rates, num_nodes)
    return graph


def _check_rates(rates: dict[str, float | None], name: str) -> None:
    if not rates:
        hint = "A node without NIC cannot be joined: write 1, or describe the network in YAML."
        raise InvalidValueError("cluster.num_nodes", "be 1 where the node has no NIC", "several", hint)
    if None in rates.values():
        unknown = ", ".join(nic for nic, rate in rates.items() if rate is None)
        hint = "The file does not tell the rate of a NIC: write cluster.nic_bandwidth, such as 400 Gb/s."
        raise InvalidValueError("cluster.nic_bandwidth", f"be given for {unknown}", "nothing", hint)


def _copy(graph: "nx.DiGraph[str]", one: "nx.DiGraph[str]", number: int, per_node: int) -> None:
    """Add the vertices and links of one node, numbered over the cluster."""
    names: dict[str, str] = {}
    for vertex, data in one.nodes(data=True):
        kind = data["kind"]
        local = vertex.removeprefix(kind)
        names[vertex] = f"gpu{number * per_node + data['rank']}" if kind == "gpu" else f"{kind}{number}.{local}"
        more = {"rank": number * per_node + data["rank"]} if kind == "gpu" else {}
        graph.add_node(names[vertex], **{**data, **more, "node": number})
    for a, b, data in one.edges(data=True):
        graph.add_edge(names[a], names[b], **data)


def _add_rails(graph: "nx.DiGraph[str]", rates: dict[str, float | None], num_nodes: int) -> None:
    spines = [f"spine{i}" for i in range(NUM_SPINES)] if len(rates) > 1 else []
    for spine in spines:
        graph.add_node(spine, kind="spine")
    for rail, rate in enumerate(rates.values()):
        leaf, bandwidth = f"leaf{rail}", float(rate or 0.0)
        graph.add_node(leaf, kind="leaf", rail=rail)
        figures = {"bandwidth_bytes_per_s": bandwidth, "latency_s": _NET_LATENCY_S, "efficiency": _EFFICIENCY}
        for number in range(num_nodes):
            join_both_ways(graph, f"nic{number}.{rail}", leaf, kind="nic", **figures)
        up = {**figures, "bandwidth_bytes_per_s": bandwidth * num_nodes / NUM_SPINES, "latency_s": _LEAF_LATENCY_S}
        for spine in spines:
            join_both_ways(graph, leaf, spine, kind="leaf-spine", **up)
