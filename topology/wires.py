"""Links both ways, and spines above leaves: what wirings are made of."""

from collections.abc import Sequence

import networkx as nx

from topology.links import LinkKind

__all__ = ["add_both_ways", "add_spines"]


def add_both_ways(
    graph: "nx.DiGraph[str]",
    a: str,
    b: str,
    kind: LinkKind,
    *,
    bandwidth_bytes_per_s: float | None = None,
    hops: int = 1,
) -> None:
    """Link two vertices in both directions; a path that has the choice counts the link as `hops`."""
    longer = {"hops": hops} if hops > 1 else {}
    for start, end in ((a, b), (b, a)):
        graph.add_edge(
            start,
            end,
            kind=kind.name,
            bandwidth_bytes_per_s=bandwidth_bytes_per_s or kind.bandwidth_bytes_per_s,
            efficiency=kind.efficiency,
            latency_s=kind.latency_s,
            **longer,
        )


def add_spines(
    graph: "nx.DiGraph[str]",
    leaves: Sequence[str],
    num_spines: int,
    kind: LinkKind,
    *,
    oversubscription: float,
) -> None:
    """Link each of `leaves` to all spines, which together carry what its NICs do / `oversubscription`."""
    for spine in range(num_spines):
        graph.add_node(f"spine{spine}", kind="spine")
    for leaf in leaves:
        down_bytes_per_s = [
            data["bandwidth_bytes_per_s"]
            for _, other, data in graph.out_edges(leaf, data=True)
            if graph.nodes[other]["kind"] == "nic"
        ]
        share = down_bytes_per_s[0] * len(down_bytes_per_s) / num_spines / oversubscription
        for spine in range(num_spines):
            add_both_ways(graph, leaf, f"spine{spine}", kind, bandwidth_bytes_per_s=share)
