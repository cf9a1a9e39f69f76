"""One node as its own tools describe it, and many such nodes joined by rails.

Model
-----
    gpu <-> nvswitch, gpu <-> gpu           NVLinks or xGMI links
    gpu, nic <-> pcie <-> pcie <-> cpu      PCIe
    gpu <-> cpu                             C2C, NVLinks of IBM Power
    cpu <-> cpu                             inside a host
    nic i of every node <-> leaf i <-> every spine      with several nodes, NICs in use

A file of several hosts that no NVLink joins describes several nodes. Leaves carry to their spines what their NICs carry
(non-blocking), shared equally by `NUM_SPINES` spines.

Assumptions
-----------
All nodes are equal. All NVSwitches of a node are one vertex, as in NCCL: their links are used evenly.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import networkx as nx

from sim.errors import InvalidValueError
from topology.files.generations import SOURCES
from topology.files.nics import Nic, nics_in_use, warnings_of_nics
from topology.limits import MAX_GPUS
from topology.presets.technologies import simple_rate

__all__ = ["NUM_SPINES", "OneNode", "join_both_ways", "repeat_node"]

NUM_SPINES: Final = 4
"""Spines above the leaves of several nodes, where there is more than one leaf."""

_NET_LATENCY_S: Final = 2.8e-6 / 4  # DeepSeek-V3 insights: 2.8 us under one leaf, 4 links
_LEAF_LATENCY_S: Final = (3.7e-6 - 2.8e-6) / 2  # 3.7 us across leaves, 2 links more
_EFFICIENCY: Final = simple_rate("ethernet")


@dataclass(slots=True)
class OneNode:
    """What a file describes: a node, or several hosts; vertices are named by kind and number (`gpu0`, `nic3`)."""

    graph: "nx.DiGraph[str]" = field(default_factory=nx.DiGraph)
    """Vertices with `kind`, GPUs with `rank`, links with their figures."""
    nics: dict[str, Nic] = field(default_factory=dict)
    """What the file says of each NIC."""
    node_of: dict[str, int] = field(default_factory=dict)
    """Vertex -> the number of its host, where the hosts of the file are nodes of their own; else 0."""
    unplaced_nics: list[str] = field(default_factory=list)
    """NICs of which the file does not tell the NUMA node."""
    sm: int = 0
    """Compute capability of the GPUs (times 10); 0: not known."""
    gfx: str = ""
    """Architecture of the GPUs of AMD, as `gfx942`; empty for other GPUs."""
    rack: str = ""
    """The cluster preset of the rack of which the GPUs are a tray; empty where they are no tray."""
    warnings: list[str] = field(default_factory=list)
    """What the file leaves open or contradicts, in full sentences."""

    def add(self, kind: str, label: str = "") -> str:
        """Add a vertex with the next number of its kind, and what the machine calls it; return its name."""
        number = sum(data["kind"] == kind for _, data in self.graph.nodes(data=True))
        data: dict[str, object] = {"rank": number, "rail": number} if kind == "gpu" else {}
        data |= {"rail": number} if kind == "nic" else {}
        self.graph.add_node(f"{kind}{number}", kind=kind, **data, **({"label": label} if label else {}))
        return f"{kind}{number}"

    def shown(self, vertex: str) -> str:
        """Return the name of a vertex for a message: its own, and what the machine calls it."""
        label = self.graph.nodes[vertex].get("label")
        return f"{vertex} ({label})" if label and label.lower() != vertex else vertex

    @property
    def gpus(self) -> list[str]:
        """GPUs in the order of their ranks."""
        return [vertex for vertex, data in self.graph.nodes(data=True) if data["kind"] == "gpu"]

    @property
    def num_hosts(self) -> int:
        """Hosts that are nodes of their own."""
        return max(self.node_of.values(), default=0) + 1

    def warn_of_missing_links(self, num_links: Mapping[str, float], word: str) -> None:
        """Warn of GPUs that have fewer links than the other GPUs; `num_links` is by GPU, `word` names the links.

        Where half of the GPUs or more have fewer links, but some, that is how the machine is built.
        """
        most = max(num_links.values(), default=0)
        fewer: dict[float, list[str]] = {}
        for gpu, count in num_links.items():
            if count < most:
                fewer.setdefault(count, []).append(gpu)
        for count, gpus in fewer.items():
            if count and 2 * len(gpus) >= len(num_links):
                continue
            names = ", ".join(self.shown(gpu) for gpu in gpus)
            has, others = ("have", "other GPUs") if len(gpus) > 1 else ("has", "its siblings")
            number = f"{count:g}" if count else "no"
            self.warnings.append(f"{names} {has} {number} {word}, where {others} have {most:g}.")


def join_both_ways(
    graph: "nx.DiGraph[str]",
    a: str,
    b: str,
    *,
    kind: str,
    bandwidth_bytes_per_s: float,
    latency_s: float,
    efficiency: float = 1.0,
    is_forwarded: bool = False,
) -> None:
    """Add the two links of a cable; a link that is forwarded may lead through third GPUs."""
    for start, end in ((a, b), (b, a)):
        graph.add_edge(
            start,
            end,
            kind=kind,
            bandwidth_bytes_per_s=bandwidth_bytes_per_s,
            efficiency=efficiency,
            latency_s=latency_s,
            **({"is_forwarded": True} if is_forwarded else {}),
        )


def repeat_node(
    node: OneNode,
    num_nodes: int | None,
    *,
    name: str,
    nic_bytes_per_s: float | None = None,
    nics: Sequence[str] = (),
    gpus_used: int | None = None,
) -> "nx.DiGraph[str]":
    """Return the graph of `num_nodes` equal nodes.

    What the choice of NICs leaves open is added to the warnings of `node`.

    Parameters
    ----------
    node
        The node.
    num_nodes
        How many nodes there are; with several, leaf i joins NIC i of all. None: as many as the file has hosts.
    name
        Name of the cluster.
    nic_bytes_per_s
        Rate of every NIC, instead of what the description of the node says.
    nics
        Names of the NICs in use; without names, the NICs that serve GPUs.
    gpus_used
        How many GPUs of each node are used, from the first; None: all.

    Raises
    ------
    InvalidValueError
        The node has no NIC, or the rate of a NIC is unknown, and there are several nodes; or there are too many GPUs.
    """
    copies = _num_copies(node, num_nodes, name)
    used, unused = nics_in_use(node, nics)
    num_nodes = copies * node.num_hosts
    rates = {nic: nic_bytes_per_s or node.nics[nic].bytes_per_s for nic in used}
    if num_nodes > 1:
        node.warnings += warnings_of_nics(node, used, unused, nics)
        _check_rates(rates, node)
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.graph.update({"name": name} | {f"source.{kind}": source for kind, source in SOURCES.items()})
    kept = _kept_gpus(node, gpus_used, name)
    names = [_copy(graph, node, copy, kept, unused) for copy in range(copies)]
    if num_nodes > 1:
        _add_rails(graph, node, names, rates)
    return graph


# ---- private -----------------------------------------------------------------------------------------------------


def _num_copies(node: OneNode, num_nodes: int | None, name: str) -> int:
    """Return how often the file is repeated."""
    hosts, num_gpus = node.num_hosts, len(node.gpus)
    wanted = hosts if num_nodes is None else num_nodes
    if hosts > 1 and wanted == 1:
        node.warnings.append(f"The file describes {hosts} hosts that no NVLink joins: the cluster has {hosts} nodes.")
        wanted = hosts
    if wanted < 1 or wanted % hosts:
        rule = f"be a multiple of the {hosts} hosts of the file"
        raise InvalidValueError("cluster.num_nodes", rule, num_nodes, f"Write {-(-max(wanted, 1) // hosts) * hosts}.")
    copies = wanted // hosts
    if copies * num_gpus > MAX_GPUS:
        rule, hint = f"give 1 to {MAX_GPUS:,} GPUs", f"Write at most {MAX_GPUS // num_gpus * hosts:,}."
        raise InvalidValueError("cluster.num_nodes", rule, num_nodes, hint)
    return copies


def _kept_gpus(node: OneNode, gpus_used: int | None, name: str) -> dict[str, int]:
    """Return the GPUs that are used, each with its rank."""
    if gpus_used is None:
        return {gpu: rank for rank, gpu in enumerate(node.gpus)}
    per_host: dict[int, list[str]] = {}
    for gpu in node.gpus:
        per_host.setdefault(node.node_of.get(gpu, 0), []).append(gpu)
    fewest = min(len(gpus) for gpus in per_host.values())
    if not 1 <= gpus_used <= fewest:
        rule, hint = f"be from 1 to {fewest}, the GPUs of a node", f"Write {fewest}, or leave the key out."
        raise InvalidValueError("cluster.gpus_per_node_used", rule, gpus_used, hint)
    kept = {gpu for gpus in per_host.values() for gpu in gpus[:gpus_used]}
    return {gpu: rank for rank, gpu in enumerate(gpu for gpu in node.gpus if gpu in kept)}


def _check_rates(rates: dict[str, float | None], node: OneNode) -> None:
    if not rates:
        hint = "A node without NIC cannot be joined: write 1, or describe the network in YAML."
        if node.rack:
            hint = (
                "Trays of a rack are joined by NVLinks, and the file describes one tray: write "
                f"`preset: {node.rack}` instead of the file, with gpus_per_node_used for a part of a rack."
            )
        raise InvalidValueError("cluster.num_nodes", "be 1 where the node has no NIC", "several", hint)
    if None in rates.values():
        unknown = ", ".join(nic for nic, rate in rates.items() if rate is None)
        hint = "The file does not tell the rate of a NIC: write cluster.nic_bandwidth, such as 400 Gb/s."
        raise InvalidValueError("cluster.nic_bandwidth", f"be given for {unknown}", "nothing", hint)


def _copy(
    graph: "nx.DiGraph[str]", node: OneNode, copy: int, kept: dict[str, int], unused: Container[str]
) -> dict[str, str]:
    """Add the vertices and links of one copy, numbered over the cluster; return the new name of each vertex."""
    names: dict[str, str] = {}
    counts: dict[tuple[str, int], int] = {}
    for vertex, data in node.graph.nodes(data=True):
        kind, host = data["kind"], node.node_of.get(vertex, 0)
        number = copy * node.num_hosts + host
        if kind == "gpu" and vertex not in kept:
            continue
        local = counts[kind, host] = counts.get((kind, host), -1) + 1
        names[vertex] = f"{kind}{number}.{local}"
        more: dict[str, object] = {"node": number}
        if kind == "gpu":
            rank = copy * len(kept) + kept[vertex]
            names[vertex] = f"gpu{rank}"
            more |= {"rank": rank, "rail": local}
        if kind == "nic":
            more |= {"rail": local} | ({"in_use": False} if vertex in unused else {})
        graph.add_node(names[vertex], **{**data, **more})
    for a, b, data in node.graph.edges(data=True):
        if a in names and b in names:
            graph.add_edge(names[a], names[b], **data)
    return names


def _add_rails(
    graph: "nx.DiGraph[str]", node: OneNode, names: Sequence[dict[str, str]], rates: dict[str, float | None]
) -> None:
    """Join NIC i of every node with leaf i, and the leaves with spines; NICs of one rail and plane share a leaf."""
    leaves: dict[object, list[str]] = {}
    position: dict[int, int] = {}
    for nic in rates:
        host = node.node_of.get(nic, 0)
        position[host] = position.get(host, -1) + 1
        rail = node.nics[nic].rail
        leaves.setdefault(position[host] if rail is None else ("rail", *rail), []).append(nic)
    spines = [f"spine{i}" for i in range(NUM_SPINES)] if len(leaves) > 1 else []
    for spine in spines:
        graph.add_node(spine, kind="spine")
    for number, nics in enumerate(leaves.values()):
        leaf = f"leaf{number}"
        graph.add_node(leaf, kind="leaf", rail=number)
        for copy in names:
            for nic in nics:
                bandwidth = float(rates[nic] or 0.0)
                join_both_ways(
                    graph,
                    copy[nic],
                    leaf,
                    kind="nic",
                    bandwidth_bytes_per_s=bandwidth,
                    latency_s=_NET_LATENCY_S,
                    efficiency=_EFFICIENCY,
                )
        total = sum(float(rates[nic] or 0.0) for nic in nics) * len(names)
        for spine in spines:
            join_both_ways(
                graph,
                leaf,
                spine,
                kind="leaf-spine",
                bandwidth_bytes_per_s=total / NUM_SPINES,
                latency_s=_LEAF_LATENCY_S,
                efficiency=_EFFICIENCY,
            )
