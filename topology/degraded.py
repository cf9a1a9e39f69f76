"""A cluster with something slower or gone: the same graph, changed.

Model
-----
    link a->b       one direction; a<->b both; bandwidth times a factor, or gone
    nic n.i         all links of NIC i of node n, likewise
    gpu r           kernels of rank r at a factor of their speed

Paths avoid links and NICs that are gone (`topology.routes`): the traffic of a GPU whose NIC is gone uses the other NICs
of the node. A slower link keeps its paths and its share of the bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sim.errors import InvalidValueError, nearest_name
from topology.check_graph import check_reach

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Change", "degrade"]

_START, _MOST_COMPARED = 4, 2000
"""Names are compared that begin alike, and so many of them: a large cluster has a million links."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One link, NIC or GPU that is slower than the rest, or gone."""

    part: str
    """link, nic or gpu."""
    name: str
    """A link as `a->b` or `a<->b`, a NIC as `node.number`, a GPU as its rank."""
    factor: float | None = None
    """Bandwidth or speed over that of an intact part, above 0 and at most 1; None: gone."""


def degrade(graph: "nx.DiGraph[str]", changes: Sequence[Change], *, name: str) -> "nx.DiGraph[str]":
    """Return a copy of a cluster's graph with some changes; `name` is what errors call the cluster.

    Raises
    ------
    InvalidValueError
        Where a change names what is not there (with the nearest name that is), or cuts the cluster in two.

    Examples
    --------
    >>> from topology.fabric import build_graph
    >>> from topology.presets.clusters import FABRICS
    >>> graph = build_graph(FABRICS["dgx-h100"], 2)
    >>> changed = degrade(graph, [Change(part="link", name="nic0.3->leaf0.3", factor=0.5)], name="example")
    >>> changed.edges["nic0.3", "leaf0.3"]["bandwidth_bytes_per_s"]
    25000000000.0
    """
    changed = graph.copy()
    change_part = {"link": _change_link, "nic": _change_nic, "gpu": _change_gpu}
    known: dict[tuple[str, str], int] = {}
    for number, change in enumerate(changes):
        first = known.setdefault((change.part, change.name), number)
        if first != number:
            raise InvalidValueError(
                field=f"cluster.degraded.{number}.{change.part}",
                rule="be changed by a single entry",
                value=change.name,
                hint=f"degraded.{first} changes the same part: keep one of the two entries.",
            )
        change_part[change.part](changed, graph, change, f"cluster.degraded.{number}.{change.part}")
    check_reach(changed, name, field="cluster.degraded", hint="Leave a way between the two sides.")
    return changed


# ---- private -----------------------------------------------------------------------------------------------------


def _change_link(changed: "nx.DiGraph[str]", graph: "nx.DiGraph[str]", change: Change, field: str) -> None:
    is_both = "<->" in change.name
    a, _, b = change.name.replace("<->", "->").partition("->")
    if not graph.has_edge(a, b) or (is_both and not graph.has_edge(b, a)):
        arrow = "<->" if is_both else "->"
        raise _unknown(field, change.name, "a link", [f"{start}{arrow}{end}" for start, end in graph.edges])
    _slow_down(changed, [(a, b), (b, a)] if is_both else [(a, b)], change.factor)


def _change_nic(changed: "nx.DiGraph[str]", graph: "nx.DiGraph[str]", change: Change, field: str) -> None:
    nics = [vertex for vertex, data in graph.nodes(data=True) if data["kind"] == "nic"]
    nic = change.name if change.name in nics else f"nic{change.name}"
    if nic not in nics:
        raise _unknown(field, change.name, "a NIC as node.number", [vertex.removeprefix("nic") for vertex in nics])
    _slow_down(changed, [*graph.in_edges(nic), *graph.out_edges(nic)], change.factor)


def _change_gpu(changed: "nx.DiGraph[str]", graph: "nx.DiGraph[str]", change: Change, field: str) -> None:
    gpus = {str(data["rank"]): vertex for vertex, data in graph.nodes(data=True) if data["kind"] == "gpu"}
    if change.name not in gpus:
        hint = f"GPUs are numbered from 0 to {len(gpus) - 1}."
        raise InvalidValueError(field=field, rule="name a GPU by its rank", value=change.name, hint=hint)
    if change.factor is None:
        raise InvalidValueError(
            field=field,
            rule="have a speed: no rank is without GPU",
            value="gone",
            hint="Take a smaller cluster.",
        )
    vertex = changed.nodes[gpus[change.name]]
    vertex["speed"] = vertex.get("speed", 1.0) * change.factor


def _slow_down(changed: "nx.DiGraph[str]", links: Sequence[tuple[str, str]], factor: float | None) -> None:
    for link in links:
        if not changed.has_edge(*link):
            continue  # gone by another change
        if factor is None:
            changed.remove_edge(*link)
        else:
            changed.edges[link]["bandwidth_bytes_per_s"] *= factor


def _unknown(field: str, value: str, what: str, known: Sequence[str]) -> InvalidValueError:
    similar = [name for name in known if name[:_START] == value[:_START]] or known
    nearest = nearest_name(value, similar[:_MOST_COMPARED])
    has_network = any("nic" in name or what.startswith("a NIC") for name in known)
    hint = f"Did you mean `{nearest}`?" if nearest else f"Known are {', '.join(known[:4])} ..." if known else ""
    if not has_network:
        hint = "A single node has no network: drop the entry, or write degraded: [] where there is a single node."
    return InvalidValueError(field=field, rule=f"name {what} of the cluster", value=value, hint=hint)
