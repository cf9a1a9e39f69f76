"""Where the vertices of one node stand in a cluster's picture: a frame with a row for each kind of vertex.

From the top: NICs, vertices of kinds that are not known here, CPUs, PCIe switches, GPUs, NVSwitches; the node's name is
at the bottom, for cables come from above.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import networkx as nx

from sim.report.topology.sketch import Box, Frame, Sketch

__all__ = ["MAX_CELL_PX", "PAD_PX", "place_node", "short_name"]


PAD_PX: Final = 7
"""Space between a node's frame and its boxes."""
MAX_CELL_PX: Final = 61
"""Widest box with the space after it."""

_LABEL_PX: Final = 20
_CELL_PX: Final = 20
_CELL_GAP_PX: Final = 3
_ROW_GAP_PX: Final = 30
_ARCS_PX: Final = 58
_ROWS: Final = ("nic", "cpu", "pcie", "gpu", "nvswitch")
_ORDERED: Final = ("gpu", "pcie", "nic", "cpu")
"""Kinds in whose order rows are sorted: each by those before it."""
_CPU_PX: Final = 60
"""Width of a CPU: cables from NICs pass beside it."""


def place_node(
    sketch: Sketch,
    graph: "nx.DiGraph[str]",
    vertices: Sequence[str],
    *,
    node: int,
    corner_px: tuple[float, float],
    width_px: float,
    columns: int,
) -> float:
    """ChunkPosition the frame and the boxes of a node in a sketch; return the node's height.

    Parameters
    ----------
    sketch
        Where to.
    graph, vertices
        The cluster, and which of its vertices are in the node.
    node
        Its number.
    corner_px, width_px
        Where its frame begins, and how wide it is.
    columns
        How many boxes stand side by side, at most.
    """
    left, top = corner_px
    y = top + PAD_PX
    for kind, row in _rows(graph, vertices).items():
        span = left + PAD_PX, width_px - 2 * PAD_PX
        y = _place_row(sketch, graph, row, name=f"node{node}.{kind}", span_px=span, top_px=y, columns=columns)
        here = set(row)
        if any(other in here for vertex in row for other in graph.successors(vertex)):
            y += _ARCS_PX - _ROW_GAP_PX
    height = y - _ROW_GAP_PX + _LABEL_PX - top
    label = _label(node, [graph.nodes[v]["rank"] for v in vertices if graph.nodes[v]["kind"] == "gpu"])
    sketch.frames.append(Frame(label=(label,), left_px=left, top_px=top, width_px=width_px, height_px=height))
    return height


def _rows(graph: "nx.DiGraph[str]", vertices: Sequence[str]) -> dict[str, list[str]]:
    """Return the rows from the top: each kind's vertices, over the GPUs that they are nearest to."""
    by_kind: dict[str, list[str]] = {}
    for vertex in vertices:
        by_kind.setdefault(graph.nodes[vertex]["kind"], []).append(vertex)
    place: dict[str, float] = {}
    for kind in sorted(by_kind, key=lambda kind: _ORDERED.index(kind) if kind in _ORDERED else len(_ORDERED)):
        row = by_kind[kind]
        wanted = {vertex: _mean(place[o] for o in graph.successors(vertex) if o in place) for vertex in row}
        row.sort(key=lambda vertex: wanted[vertex])  # keeps the order of equals
        place.update((vertex, (i + 0.5) / len(row)) for i, vertex in enumerate(row))
    others = [kind for kind in by_kind if kind not in _ROWS]
    return {kind: by_kind[kind] for kind in ("nic", *others, *_ROWS[1:]) if kind in by_kind}


def _mean(places: Iterable[float]) -> float:
    """Return the mean of places; the middle if there are none."""
    found = list(places)
    return sum(found) / len(found) if found else 0.5


def short_name(vertex: str, kind: str) -> str:
    """Return a vertex's name without its kind.

    >>> short_name("leaf0.3", "leaf"), short_name("core", "switch")
    ('0.3', 'core')
    """
    return vertex.removeprefix(kind) or vertex


def _place_row(
    sketch: Sketch,
    graph: "nx.DiGraph[str]",
    row: Sequence[str],
    *,
    name: str,
    span_px: tuple[float, float],
    top_px: float,
    columns: int,
) -> float:
    """ChunkPosition vertices of one kind, in as many lines as they need; return where the next row starts."""
    side_by_side = min(columns, len(row))
    num_lines = -(-len(row) // side_by_side)
    if num_lines > 1:
        sketch.grids.add(name)
    pitch = span_px[1] / side_by_side
    for i, vertex in enumerate(row):
        line, column = divmod(i, side_by_side)
        kind = graph.nodes[vertex]["kind"]
        width = min(pitch - _CELL_GAP_PX, _CPU_PX if kind == "cpu" else pitch)
        sketch.boxes[vertex] = Box(
            label=_name(graph.nodes[vertex], vertex),
            kind=kind,
            left_px=span_px[0] + pitch * (column + 0.5) - width / 2,
            top_px=top_px + line * (_CELL_PX + _CELL_GAP_PX),
            width_px=width,
            height_px=_CELL_PX,
            row=name,
        )
    return top_px + num_lines * (_CELL_PX + _CELL_GAP_PX) - _CELL_GAP_PX + _ROW_GAP_PX


def _name(data: Mapping[str, object], vertex: str) -> str:
    """Return what stands in a box of a node: a GPU's rank, a NIC's position, else the kind in words."""
    kind = str(data["kind"])
    if kind == "gpu":
        return str(data["rank"])
    if kind == "nic":
        return str(data["rail"]) if "rail" in data else short_name(vertex, kind)
    return {"nvswitch": "NVSwitch", "cpu": "CPU", "pcie": "PCIe"}.get(kind, short_name(vertex, kind))


def _label(node: int, ranks: Sequence[int]) -> str:
    """Return the name of a node with its GPUs.

    >>> _label(3, [24, 25, 26]), _label(3, [3]), _label(3, [])
    ('node 3: GPUs 24-26', 'node 3: GPU 3', 'node 3')
    """
    if not ranks:
        return f"node {node}"
    gpus = f"GPU {ranks[0]}" if len(ranks) == 1 else f"GPUs {min(ranks)}-{max(ranks)}"
    return f"node {node}: {gpus}"
