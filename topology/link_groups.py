"""The links of a graph, counted by kind and figures: the table by which a person checks a cluster.

Model
-----
Links of a group have equal kind, bandwidth, efficiency and latency. Each direction of a cable is a link.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["LinkGroup", "link_groups"]


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
    counts: dict[tuple[str, float, float, float], int] = {}
    for _, _, data in graph.edges(data=True):
        key = data["kind"], data["bandwidth_bytes_per_s"], data["efficiency"], data["latency_s"]
        counts[key] = counts.get(key, 0) + 1
    order = {kind: position for position, kind in enumerate(dict.fromkeys(kind for kind, *_ in counts))}
    return [
        LinkGroup(
            kind=kind,
            count=counts[kind, bandwidth, efficiency, latency],
            bandwidth_bytes_per_s=bandwidth,
            efficiency=efficiency,
            latency_s=latency,
            source=str(graph.graph.get(f"source.{kind}", "")),
        )
        for kind, bandwidth, efficiency, latency in sorted(counts, key=lambda k: (order[k[0]], -k[1], -k[2], k[3]))
    ]
