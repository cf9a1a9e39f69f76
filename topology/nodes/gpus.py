"""GPUs of a node, without their links."""

import networkx as nx

from topology.fabric_spec import FabricSpec

__all__ = ["add_gpu"]


def add_gpu(graph: "nx.DiGraph[str]", spec: FabricSpec, node: int, rail: int) -> str:
    """Add a GPU without links and return its name."""
    rank = node * spec.gpus_per_node + rail
    graph.add_node(f"gpu{rank}", kind="gpu", rank=rank, node=node, rail=rail)
    return f"gpu{rank}"
