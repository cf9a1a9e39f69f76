"""A cluster's graph as the YAML that `sim.scenario.cluster_file` reads: every vertex and cable written out.

Reading what is written gives an equal graph; figures are written so that they are the same floats again.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import networkx as nx

from sim.scenario.units import parse_quantity

__all__ = ["graph_to_yaml"]

_FIGURES: Final = ("bandwidth_bytes_per_s", "latency_s", "efficiency")
_PLAIN: Final = re.compile(r"[A-Za-z][\w.-]*", re.ASCII)
_NO_TEXTS: Final = {"null", "true", "false"}

Figures = tuple[float, float, float]


def graph_to_yaml(graph: "nx.DiGraph[str]") -> str:
    """Return a cluster as YAML.

    >>> graph: "nx.DiGraph[str]" = nx.DiGraph()
    >>> graph.add_node("gpu0", kind="gpu", rank=0, node=0, rail=0)
    >>> print(graph_to_yaml(graph), end="")
    vertices:
      - {name: gpu0, kind: gpu, rank: 0, node: 0, rail: 0}
    """
    kinds = _kinds(graph)
    own = ("name", "inside", "between")
    lines = [f"{key}: {_text(graph.graph[key])}" for key in own if graph.graph.get(key)]
    lines += ["kinds:"] if kinds else []
    for kind, figures in kinds.items():
        source = graph.graph.get(f"source.{kind}")
        more = f", source: {_text(source)}" if source else ""
        lines.append(f"  {_text(kind)}: {{{_written(figures)}{more}}}")
    lines.append("vertices:")
    lines += [f"  - {{name: {_text(vertex)}, {_vertex(data)}}}" for vertex, data in graph.nodes(data=True)]
    cables = _cables(graph, kinds)
    return "\n".join([*lines, *(["links:", *cables] if cables else [])]) + "\n"


def _kinds(graph: "nx.DiGraph[str]") -> dict[str, Figures]:
    """Return the commonest figures of each kind of link."""
    counts: dict[str, Counter[Figures]] = {}
    for _, _, data in graph.edges(data=True):
        counts.setdefault(data["kind"], Counter())[_figures(data)] += 1
    return {kind: count.most_common(1)[0][0] for kind, count in counts.items()}


def _cables(graph: "nx.DiGraph[str]", kinds: Mapping[str, Figures]) -> list[str]:
    done: set[tuple[str, str]] = set()
    lines = []
    for a, b, data in graph.edges(data=True):
        if (a, b) in done:
            continue
        back = graph.edges[b, a] if graph.has_edge(b, a) else None
        both = back is not None and (back["kind"], _figures(back)) == (data["kind"], _figures(data))
        done |= {(b, a)} if both else set()
        own = "" if kinds[data["kind"]] == _figures(data) else f", {_written(_figures(data))}"
        ways = "" if both else ", both_ways: false"
        lines.append(f"  - {{from: {_text(a)}, to: {_text(b)}, kind: {_text(data['kind'])}{own}{ways}}}")
    return lines


def _figures(data: Mapping[str, Any]) -> Figures:
    bandwidth, latency, efficiency = (float(data[name]) for name in _FIGURES)
    return bandwidth, latency, efficiency


def _written(figures: Figures) -> str:
    bandwidth, latency, efficiency = figures
    shown = _quantity(bandwidth, "bytes/s", "GB/s", 1e9, "B/s"), _quantity(latency, "s", "us", 1e-6, "s")
    return f"bandwidth: {shown[0]}, latency: {shown[1]}, efficiency: {efficiency!r}"


def _quantity(value: float, dimension: Any, unit: str, factor: float, base: str) -> str:  # noqa: ANN401 - a literal
    """Return a quantity in a handy unit if that reads back the same, else in the base unit."""
    handy = f"{value / factor:.12g} {unit}"
    return handy if parse_quantity(handy, dimension) == value else f"{value!r} {base}"


def _vertex(data: Mapping[str, Any]) -> str:
    keys = [key for key in ("kind", "rank", "node", "rail", "unit", "label", "speed") if key in data]
    return ", ".join(f"{key}: {_text(data[key]) if isinstance(data[key], str) else data[key]}" for key in keys)


def _text(text: str) -> str:
    """Return a text as YAML, in quotes where it could be read as something else."""
    return text if _PLAIN.fullmatch(text) and text.lower() not in _NO_TEXTS else json.dumps(text)
