"""Which nodes and switches of a cluster a picture shows: nodes in units, the switches above the nodes in tiers.

Model
-----
A vertex with `node` stands in that node. Of the other vertices, the first tier are the neighbours of nodes, and each
further tier the neighbours of the tier before. Nodes that are connected to the same switches of the first tier, or to
some of them, are a unit. Of a unit the first node is shown, then the nodes that differ from it; with `heat`, the
hottest nodes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import networkx as nx

__all__ = ["Shown", "Tier", "Unit", "choose_shown"]

Heat = Mapping[tuple[str, str], float]

_CELLS: Final = 64
"""At most about so many GPUs stand side by side in a picture."""
_MAX_UNITS: Final = 4
_MAX_SWITCHES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """Switches of a row, or those of a row that belong to a unit."""

    vertices: tuple[str, ...]
    """Switches that are shown."""
    num_hidden: int = 0
    """Number of further switches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """Nodes that are connected to the same switches."""

    nodes: tuple[int, ...]
    """Nodes that are shown."""
    num_hidden: int
    """Number of further nodes."""
    are_alike: bool
    """Whether each hidden node is equal to a node that is shown."""
    switches: Tier
    """Switches of the first tier that belong to the unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The nodes and switches that a picture shows."""

    members: Mapping[int, tuple[str, ...]]
    """Node -> its vertices."""
    units: tuple[Unit, ...]
    """Units that are shown."""
    num_hidden_units: int
    """Number of further units."""
    num_hidden_nodes: int
    """Number of nodes in the further units."""
    tiers: tuple[Tier, ...]
    """Rows of switches above the first tier, upwards."""
    sizes: tuple[int, ...]
    """Number of switches of each tier, hidden switches included, the first tier first."""


def choose_shown(graph: "nx.DiGraph[str]", heat: Heat | None = None) -> Shown:
    """Return the nodes and switches that a picture of a cluster shows.

    Parameters
    ----------
    graph
        The cluster; every GPU has `node`.
    heat
        Link -> use. Units show their hottest nodes.

    Examples
    --------
    >>> from topology.fabric import build_graph
    >>> from topology.presets.clusters import FABRICS
    >>> shown = choose_shown(build_graph(FABRICS["dgx-h100"], 128))
    >>> [(unit.nodes, unit.num_hidden) for unit in shown.units][:2], shown.sizes
    ([((0, 1), 30), ((32, 33), 30)], (32, 16))
    """
    members: dict[int, list[str]] = {}
    for vertex, data in graph.nodes(data=True):
        if data.get("node") is not None:
            members.setdefault(data["node"], []).append(vertex)
    node_of = {vertex: node for node, vertices in members.items() for vertex in vertices}
    tiers = _tiers(graph, node_of)
    units = _units(graph, members, tiers[0] if tiers else [])
    columns = min(18, max(sum(graph.nodes[v]["kind"] == "gpu" for v in some) for some in members.values()))
    budget = max(1, _CELLS // max(columns, 8))
    num_units = _num_units(units, budget)
    fits = sum(len(nodes) for nodes, _ in units) <= budget
    per_unit = budget if fits else max(1, budget // num_units)
    above = {switch: i for i, (_, switches) in enumerate(units) for switch in reversed(switches)}
    return Shown(
        members={node: tuple(vertices) for node, vertices in members.items()},
        units=tuple(
            _unit(graph, members, nodes, [s for s in switches if above[s] == i], most=per_unit, heat=heat)
            for i, (nodes, switches) in enumerate(units[:num_units])
        ),
        num_hidden_units=len(units) - num_units,
        num_hidden_nodes=sum(len(nodes) for nodes, _ in units[num_units:]),
        tiers=tuple(_cut(tier, _MAX_SWITCHES) for tier in tiers[1:]),
        sizes=tuple(len(tier) for tier in tiers),
    )


def _tiers(graph: "nx.DiGraph[str]", node_of: Mapping[str, int]) -> list[list[str]]:
    """Return the vertices outside nodes by their distance from nodes."""
    known, tiers, here = set(node_of), list[list[str]](), list(node_of)
    while here:
        found = dict.fromkeys(other for vertex in here for other in graph.successors(vertex) if other not in known)
        known.update(found)
        here = [vertex for vertex in graph if vertex in found]
        if here:
            tiers.append(here)
    return tiers


def _units(
    graph: "nx.DiGraph[str]", members: Mapping[int, Sequence[str]], first: Sequence[str]
) -> list[tuple[list[int], list[str]]]:
    """Return nodes and switches of each unit; a switch may stand in several."""
    is_first, units = set(first), dict[frozenset[str], list[int]]()
    for node, vertices in members.items():
        on = frozenset(other for vertex in vertices for other in graph.successors(vertex) if other in is_first)
        units.setdefault(on, []).append(node)
    for on in [on for on in units if any(on < other for other in units) and on]:  # a node that has lost some links
        whole = next(other for other in units if on < other)
        units[whole] = sorted(units[whole] + units.pop(on))
    found = sorted(units.items(), key=lambda unit: unit[1][0])
    return [(nodes, [vertex for vertex in first if vertex in on]) for on, nodes in found]


def _num_units(units: Sequence[tuple[list[int], list[str]]], budget: int) -> int:
    """Return how many units are shown, so that a box for the other units has room."""
    most = budget if all(len(nodes) == 1 for nodes, _ in units) else min(budget, _MAX_UNITS)
    return len(units) if len(units) <= most else max(1, most - 1)


def _unit(
    graph: "nx.DiGraph[str]",
    members: Mapping[int, Sequence[str]],
    nodes: Sequence[int],
    switches: Sequence[str],
    *,
    most: int,
    heat: Heat | None,
) -> Unit:
    looks = [_look(graph, members[node]) for node in nodes]
    unlike = [i for i, look in enumerate(looks) if look != looks[0]]
    if heat is None:
        order = [0, *unlike, *range(1, len(nodes))]
    else:
        warmth = [max((heat.get(e, 0.0) for v in members[n] for e in graph.out_edges(v)), default=0.0) for n in nodes]
        order = sorted(range(len(nodes)), key=lambda i: -warmth[i])
    positions = sorted(list(dict.fromkeys(order))[:most])
    seen = {looks[i] for i in positions}
    return Unit(
        nodes=tuple(nodes[i] for i in positions),
        num_hidden=len(nodes) - len(positions),
        are_alike=heat is None and all(look in seen for look in looks),
        switches=_cut(switches, max(8, _MAX_SWITCHES if most > 2 else 16)),
    )


def _look(graph: "nx.DiGraph[str]", vertices: Sequence[str]) -> tuple[tuple[object, ...], ...]:
    """Return the kinds of the vertices of a node and the figures of their links: equal nodes have equal values."""
    figures = ("kind", "bandwidth_bytes_per_s", "efficiency", "latency_s")
    return tuple(
        (graph.nodes[vertex]["kind"], *sorted(tuple(data[f] for f in figures) for _, _, data in edges))
        for vertex in vertices
        for edges in (graph.out_edges(vertex, data=True),)
    )


def _cut(vertices: Sequence[str], most: int) -> Tier:
    shown = vertices if len(vertices) <= most else vertices[: most - 1]
    return Tier(vertices=tuple(shown), num_hidden=len(vertices) - len(shown))
