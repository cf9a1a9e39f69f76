"""Where nodes, switches and texts stand in a cluster's picture, in pixels from the upper left corner.

From the top: the tiers of switches, the highest tier first; then the nodes. A node is a frame with a row for each kind
of vertex: NICs, kinds that are not known here, CPUs, PCIe switches, GPUs, NVSwitches. The node's name is at the bottom
of the frame, because cables come from above. Every position is computed before anything is drawn.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import networkx as nx

from sim.report.topology.groups import Shown, Tier, Unit

__all__ = [
    "MAX_CELL_PX",
    "MAX_WIDTH_PX",
    "PAD_PX",
    "Box",
    "Frame",
    "Note",
    "Sketch",
    "lay_out",
    "place_node",
    "short_name",
]

MAX_WIDTH_PX: Final = 1760
"""Width of a sheet, if the cluster needs it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """The box of a vertex."""

    label: str
    kind: str
    left_px: float
    top_px: float
    width_px: float
    height_px: float
    row: str
    """Name of the box's row: vertices of a row are not joined by straight lines."""

    @property
    def middle_px(self) -> float:
        """Middle from left to right."""
        return self.left_px + self.width_px / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The frame of a node, or the grey box that stands for nodes that are not shown."""

    label: tuple[str, ...]
    """Lines of text; a node has a line at its bottom."""
    left_px: float
    top_px: float
    width_px: float
    height_px: float
    is_rest: bool = False
    """Whether the frame stands for nodes that are not shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A line of text."""

    text: str
    x_px: float
    """Left edge of the line."""
    y_px: float
    """Middle of the line."""
    is_heading: bool = False
    """Whether the text names a row."""


@dataclass(slots=True, kw_only=True)
class Sketch:
    """The boxes, frames and texts of a picture with their positions."""

    boxes: dict[str, Box] = field(default_factory=dict)
    """Vertex -> its box."""
    frames: list[Frame] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    bottom_px: float = 0.0
    """Lower edge of the nodes."""
    width_px: int = MAX_WIDTH_PX
    """Width of the sheet."""
    grids: set[str] = field(default_factory=set)
    """Rows with several lines of boxes: a single line stands for their links inside the node."""


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
"""Width of a CPU: cables from NICs pass at its side."""


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
    """Place the frame and the boxes of a node in a sketch; return the node's height.

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
    x_of: dict[str, float] = {}
    for kind in sorted(by_kind, key=lambda kind: _ORDERED.index(kind) if kind in _ORDERED else len(_ORDERED)):
        row = by_kind[kind]
        mean_x = {vertex: _mean(x_of[o] for o in graph.successors(vertex) if o in x_of) for vertex in row}
        row.sort(key=lambda vertex: mean_x[vertex])  # keeps the order of equals
        x_of.update((vertex, (i + 0.5) / len(row)) for i, vertex in enumerate(row))
    others = [kind for kind in by_kind if kind not in _ROWS]
    return {kind: by_kind[kind] for kind in ("nic", *others, *_ROWS[1:]) if kind in by_kind}


def _mean(xs: Iterable[float]) -> float:
    """Return the mean of positions from 0 (left) to 1; the middle if there are none."""
    values = list(xs)
    return sum(values) / len(values) if values else 0.5


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
    """Place vertices of one kind, in as many lines as they need; return where the next row starts."""
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
    """Return the text in a box of a node: the rank of a GPU, the position of a NIC, else the name of the kind."""
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


_MIN_WIDTH_PX: Final = 1120
_LEFT_PX: Final = 128
_MARGIN_PX: Final = 28
_RIGHT_PX: Final = MAX_WIDTH_PX - _MARGIN_PX
_SWITCH_PX: Final = 24
_TIER_GAP_PX: Final = 118
_UNIT_GAP_PX: Final = 22
_NODE_GAP_PX: Final = 10
_REST_PX: Final = 66


def lay_out(graph: "nx.DiGraph[str]", shown: Shown, *, top_px: float) -> Sketch:
    """Return the positions of the shown nodes and switches of a cluster."""
    sketch = Sketch()
    num_tiers = len(shown.sizes)
    loops = _tiers_with_loops(graph, shown)
    tops = []
    y = top_px
    for tier in range(num_tiers - 1, -1, -1):
        y += _ARCS_PX if tier in loops else 0
        tops.append((tier, y))
        y += _SWITCH_PX + _TIER_GAP_PX
    spans = list(_unit_spans(shown))
    columns, node_px = _columns(graph, shown, spans)
    spans = _packed(shown, spans, node_px)
    right = spans[-1][1] + (_REST_PX + _UNIT_GAP_PX if shown.num_hidden_units else 0)
    sketch.width_px = round(max(_MIN_WIDTH_PX, right + _MARGIN_PX))
    whole = _LEFT_PX, max(right, _MIN_WIDTH_PX - _MARGIN_PX)
    for unit, (left, end) in zip(shown.units, spans, strict=True):
        _place_nodes(sketch, graph, shown, unit, left=left, top=y, columns=columns, node_px=node_px)
        if num_tiers:
            span = whole if len(spans) == 1 else (left, end)
            _place_switches(sketch, graph, unit.switches, span, tops[-1][1], row="tier0")
    if shown.num_hidden_units:
        _place_hidden_units(sketch, shown, left=right - _REST_PX, top=y)
    for tier, tier_top in tops[:-1]:
        _place_switches(sketch, graph, shown.tiers[tier - 1], whole, tier_top, row=f"tier{tier}")
    for tier, tier_top in tops:
        _head(sketch, _tier_name(graph, shown, tier), shown.sizes[tier], tier_top + _SWITCH_PX / 2)
    _head(sketch, "node" if len(shown.members) == 1 else "nodes", len(shown.members), y + 16)
    sketch.bottom_px = max(frame.top_px + frame.height_px for frame in sketch.frames)
    return sketch


# ---- across the sheet --------------------------------------------------------------------------------------------


def _unit_spans(shown: Shown) -> Iterator[tuple[float, float]]:
    """Yield left and right edge of each unit: as wide as its nodes are many, with the box that stands for the rest."""
    rest = [_REST_PX + _NODE_GAP_PX if unit.num_hidden else 0 for unit in shown.units]
    more = _REST_PX + _UNIT_GAP_PX if shown.num_hidden_units else 0
    gap = _UNIT_GAP_PX if any(len(unit.nodes) > 1 or unit.num_hidden for unit in shown.units) else _NODE_GAP_PX
    free = _RIGHT_PX - _LEFT_PX - more - sum(rest) - gap * (len(shown.units) - 1)
    num_nodes = sum(len(unit.nodes) for unit in shown.units)
    left = float(_LEFT_PX)
    for unit, room in zip(shown.units, rest, strict=True):
        right = left + room + free * len(unit.nodes) / num_nodes
        yield left, right
        left = right + gap


def _packed(shown: Shown, spans: Sequence[tuple[float, float]], node_px: float) -> list[tuple[float, float]]:
    """Return the spans of units whose nodes are narrower than their room."""
    found, at = [], spans[0][0]
    for i, (unit, (_, right)) in enumerate(zip(shown.units, spans, strict=True)):
        rest = _REST_PX + _NODE_GAP_PX if unit.num_hidden else 0
        width = len(unit.nodes) * (node_px + _NODE_GAP_PX) - _NODE_GAP_PX + rest
        found.append((at, at + width))
        at += width + (spans[i + 1][0] - right if i + 1 < len(spans) else 0)
    return found


def _columns(graph: "nx.DiGraph[str]", shown: Shown, spans: Sequence[tuple[float, float]]) -> tuple[int, float]:
    """Return how many boxes stand side by side in a node, and a node's width."""
    nodes = [node for unit in shown.units for node in unit.nodes]
    kinds = [[graph.nodes[v]["kind"] for v in shown.members[node]] for node in nodes]
    most = max(max(row.count(kind) for kind in set(row)) for row in kinds)
    widths = []
    for unit, (left, right) in zip(shown.units, spans, strict=True):
        room = right - left - (_REST_PX + _NODE_GAP_PX if unit.num_hidden else 0)
        widths.append((room - _NODE_GAP_PX * (len(unit.nodes) - 1)) / len(unit.nodes))
    columns = most if most <= 16 else 18
    return columns, min(*widths, columns * MAX_CELL_PX + 2 * PAD_PX)


def _place_switches(
    sketch: Sketch, graph: "nx.DiGraph[str]", tier: Tier, span: tuple[float, float], top: float, *, row: str
) -> None:
    count = len(tier.vertices) + (1 if tier.num_hidden else 0)
    if not count:
        return
    pitch = (span[1] - span[0]) / count
    width = min(pitch - 4, 72.0)
    for i, vertex in enumerate(tier.vertices):
        kind = graph.nodes[vertex]["kind"]
        left = span[0] + pitch * (i + 0.5) - width / 2
        box = Box(
            label=short_name(vertex, kind),
            kind=kind,
            left_px=left,
            top_px=top,
            width_px=width,
            height_px=_SWITCH_PX,
            row=row,
        )
        sketch.boxes[vertex] = box
    if tier.num_hidden:
        x = span[0] + pitch * (count - 0.5) - width / 2
        sketch.notes.append(Note(text=f"+{tier.num_hidden:,}", x_px=x, y_px=top + _SWITCH_PX / 2))


def _place_hidden_units(sketch: Sketch, shown: Shown, *, left: float, top: float) -> None:
    height = max(frame.height_px for frame in sketch.frames)
    label = ("…", f"{shown.num_hidden_nodes:,} more", "nodes")
    sketch.frames.append(
        Frame(label=label, left_px=left, top_px=top, width_px=_REST_PX, height_px=height, is_rest=True)
    )


def _head(sketch: Sketch, name: str, count: int, y_px: float) -> None:
    sketch.notes.append(Note(text=f"{count:,} {name}", x_px=20, y_px=y_px, is_heading=True))


def _tier_name(graph: "nx.DiGraph[str]", shown: Shown, tier: int) -> str:
    """Return the name of the switches of a tier, by their kind."""
    some = shown.tiers[tier - 1].vertices if tier else [v for unit in shown.units for v in unit.switches.vertices]
    kinds = list(dict.fromkeys(graph.nodes[vertex]["kind"] for vertex in some)) or ["switch"]
    plural = {"leaf": "leaves", "switch": "switches", "nvswitch": "NVSwitches"}.get(kinds[0], f"{kinds[0]}s")
    singular = {"nvswitch": "NVSwitch"}.get(kinds[0], kinds[0])
    return singular if shown.sizes[tier] == 1 else plural


def _tiers_with_loops(graph: "nx.DiGraph[str]", shown: Shown) -> set[int]:
    """Return the tiers whose switches are joined with one another."""
    rows = [[v for unit in shown.units for v in unit.switches.vertices], *(tier.vertices for tier in shown.tiers)]
    found = set()
    for number, row in enumerate(rows):
        here = set(row)
        if any(other in here for vertex in row for other in graph.successors(vertex)):
            found.add(number)
    return found


def _place_nodes(
    sketch: Sketch,
    graph: "nx.DiGraph[str]",
    shown: Shown,
    unit: Unit,
    *,
    left: float,
    top: float,
    columns: int,
    node_px: float,
) -> None:
    """Place the nodes of a unit side by side, and the box that stands for the rest of it."""
    height = 0.0
    for i, node in enumerate(unit.nodes):
        corner = left + i * (node_px + _NODE_GAP_PX), top
        vertices = shown.members[node]
        height = place_node(sketch, graph, vertices, node=node, corner_px=corner, width_px=node_px, columns=columns)
    if unit.num_hidden:
        at = left + len(unit.nodes) * (node_px + _NODE_GAP_PX)
        label = ("…", f"{unit.num_hidden:,} more", "alike" if unit.are_alike else "nodes")
        sketch.frames.append(
            Frame(label=label, left_px=at, top_px=top, width_px=_REST_PX, height_px=height, is_rest=True)
        )
