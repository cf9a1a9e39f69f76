"""What a cluster has, counted: vertices by kind, NICs by name, links by kind and figures. A person checks it by that.

Model
-----
Links of a group have equal kind, bandwidth, efficiency and latency. Each direction of a cable is a link.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Inventory", "LinkFigures", "LinkGroup", "groups_of", "inventory_of", "link_groups"]

LinkFigures = tuple[str, float, float, float]
"""Kind, bandwidth, efficiency and latency of a link."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkGroup:
    """Links of equal kind and figures."""

    kind: str
    """Kind, such as `nvlink`."""
    count: int
    """How many there are, each direction counted."""
    bandwidth_bytes_per_s: float
    """Datasheet bandwidth of one link."""
    efficiency: float
    """Fraction of the bandwidth that transfers reach."""
    latency_s: float
    """Time to the first byte over one link."""
    source: str
    """Where the figures come from; empty if the graph states no source."""

    @property
    def reachable_bytes_per_s(self) -> float:
        """Bandwidth that transfers reach.

        >>> LinkGroup(
        ...     kind="nic", count=2, bandwidth_bytes_per_s=50e9, efficiency=0.9, latency_s=0.0, source=""
        ... ).reachable_bytes_per_s
        45000000000.0
        """
        return self.bandwidth_bytes_per_s * self.efficiency


def link_groups(graph: "nx.DiGraph[str]") -> list[LinkGroup]:
    """Return the links of a graph by kind in order of first appearance, within a kind the fastest first.

    >>> from topology.fabric import build_graph
    >>> from topology.presets.clusters import FABRICS
    >>> [(group.kind, group.count) for group in link_groups(build_graph(FABRICS["dgx-h100"], 2))]
    [('nvlink', 32), ('pcie', 32), ('nic', 32), ('leaf-spine', 64)]
    """
    counts: dict[LinkFigures, int] = {}
    for _, _, data in graph.edges(data=True):
        key = data["kind"], data["bandwidth_bytes_per_s"], data["efficiency"], data["latency_s"]
        counts[key] = counts.get(key, 0) + 1
    return groups_of(counts, {kind: str(graph.graph.get(f"source.{kind}", "")) for kind, *_ in counts})


def groups_of(counts: Mapping[LinkFigures, int], sources: Mapping[str, str]) -> list[LinkGroup]:
    """Return groups of links from how many there are of each kind and figures, and the source of each kind."""
    order = {kind: position for position, kind in enumerate(dict.fromkeys(kind for kind, *_ in counts))}
    return [
        LinkGroup(
            kind=kind,
            count=counts[kind, bandwidth, efficiency, latency],
            bandwidth_bytes_per_s=bandwidth,
            efficiency=efficiency,
            latency_s=latency,
            source=sources[kind],
        )
        for kind, bandwidth, efficiency, latency in sorted(counts, key=lambda k: (order[k[0]], -k[1], -k[2], k[3]))
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What a cluster has."""

    name: str
    """What its graph calls it; empty: nothing."""
    vertices: dict[str, int]
    """Kind of vertex -> how many there are."""
    nics_in_use: list[str]
    """What the machines call the NICs that carry compute traffic; each name once."""
    nics_not_in_use: list[str]
    """Likewise, of the other NICs."""
    links: list[LinkGroup]
    """Links by kind and figures."""


def inventory_of(graph: "nx.DiGraph[str]") -> Inventory:
    """Return what a graph has.

    >>> from topology.fabric import build_graph
    >>> from topology.presets.clusters import FABRICS
    >>> inventory_of(build_graph(FABRICS["dgx-h100"], 2)).vertices
    {'nvswitch': 2, 'gpu': 16, 'nic': 16, 'leaf': 8, 'spine': 4}
    """
    names: dict[bool, dict[str, None]] = {True: {}, False: {}}
    for vertex, data in graph.nodes(data=True):
        if data["kind"] == "nic":
            names[bool(data.get("in_use", True))][str(data.get("label", vertex))] = None
    return Inventory(
        name=str(graph.graph.get("name") or ""),
        vertices=dict(Counter(str(data["kind"]) for _, data in graph.nodes(data=True))),
        nics_in_use=list(names[True]),
        nics_not_in_use=list(names[False]),
        links=link_groups(graph),
    )
