"""What a graph must have to be a cluster, whatever file it came from.

Rules: every vertex has `kind`; there is a GPU; GPUs have `rank` (0, 1, ... each once), `node` and `rail`; every link
has `kind`, `bandwidth_bytes_per_s` above 0, `efficiency` in (0, 1] and `latency_s` of at least 0.
"""

import math
from collections.abc import Mapping

import networkx as nx

from topology.errors import TopologyError

__all__ = ["LINK_FIGURES", "VERTEX_NUMBERS", "check_graph"]

LINK_FIGURES: tuple[str, ...] = ("bandwidth_bytes_per_s", "efficiency", "latency_s")
"""Figures of every link."""
VERTEX_NUMBERS: tuple[str, ...] = ("rank", "node", "rail", "unit")
"""Integers that a vertex may have."""


def check_graph(graph: "nx.DiGraph[str]") -> "nx.DiGraph[str]":
    """Return the graph if it can be a cluster.

    Raises
    ------
    TopologyError
        The first rule of the module that it breaks.

    Examples
    --------
    >>> lonely: "nx.DiGraph[str]" = nx.DiGraph()
    >>> lonely.add_node("gpu0", kind="gpu", rank=0, node=0, rail=0)
    >>> check_graph(lonely).number_of_nodes()
    1
    """
    for vertex, data in graph.nodes(data=True):
        _check_vertex(vertex, data)
    ranks = sorted(data["rank"] for _, data in graph.nodes(data=True) if data["kind"] == "gpu")
    if not ranks:
        raise TopologyError("the cluster", "vertices", "hold a GPU", "none", "Give a vertex kind `gpu`.")
    wrong = next((i for i, rank in enumerate(ranks) if rank != i), None)
    if wrong is not None:
        raise TopologyError(
            "the GPUs", "rank", f"be 0 to {len(ranks) - 1}, each once", ranks[wrong], f"Rank {wrong} is missing."
        )
    for a, b, data in graph.edges(data=True):
        _check_link(f"link {a} -> {b}", data)
    return graph


def _check_vertex(vertex: str, data: Mapping[str, object]) -> None:
    subject = f"vertex {vertex}"
    kind = data.get("kind")
    if not isinstance(kind, str) or not kind:
        raise TopologyError(
            subject, "kind", "be given", kind or "nothing", "Write gpu, nvswitch, nic, leaf, spine, ..."
        )
    for field in VERTEX_NUMBERS:
        value = data.get(field)
        if value is None and kind == "gpu" and field != "unit":
            raise TopologyError(subject, field, "be given", "nothing", "Every GPU needs rank, node and rail.")
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            raise TopologyError(subject, field, "be an integer of at least 0", value, "Count from 0.")


def _check_link(subject: str, data: Mapping[str, object]) -> None:
    kind = data.get("kind")
    if not isinstance(kind, str) or not kind:
        raise TopologyError(subject, "kind", "be given", kind or "nothing", "Write nvlink, pcie, nic, leaf-spine, ...")
    for field in LINK_FIGURES:
        value = data.get(field)
        if value is None:
            raise TopologyError(subject, field, "be given", "nothing", "Every link needs its figures, in SI units.")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise TopologyError(subject, field, "be a finite number", value, "Write a number in SI units.")
        if value < 0 or (value == 0 and field != "latency_s"):
            raise TopologyError(subject, field, "be above 0", value, "Remove a link that is dead.")
        if field == "efficiency" and value > 1:
            raise TopologyError(subject, field, "be at most 1", value, "It is a share of the bandwidth.")
