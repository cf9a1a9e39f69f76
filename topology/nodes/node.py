"""What the inside of a node must be able to do: add itself, and count a GPU's links and the node's NICs."""

from typing import TYPE_CHECKING, Protocol

import networkx as nx

if TYPE_CHECKING:  # which has a node
    from topology.fabric_spec import FabricSpec

__all__ = ["Node", "add_gpu"]


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


def add_gpu(graph: "nx.DiGraph[str]", spec: "FabricSpec", node: int, rail: int) -> str:
    """Add a GPU without links and return its name."""
    rank = node * spec.gpus_per_node + rail
    graph.add_node(f"gpu{rank}", kind="gpu", rank=rank, node=node, rail=rail)
    return f"gpu{rank}"
