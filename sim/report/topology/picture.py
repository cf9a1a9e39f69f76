"""The picture of a cluster that a person reads: nodes as boxes, switches in rows above them, links by bandwidth or use.

Reading it
----------
A line is a cable, both directions. Its hue is the kind of link and its width the bandwidth of one direction; where
`use` is given, its colour is the use of the busier direction. Of many nodes that are alike a few stand for all, and a
grey box says how many more there are; the figures of the title and the legend count everything.

In an SVG the lines are the paths of the groups `moesim-links:KIND`, boxes those of `moesim-vertices:KIND`.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import networkx as nx
import numpy as np

from sim.report.canvas import Sheet, settings, text_width_px
from sim.report.palette import AXIS, FAINT, INK, SUBTLE, VERTEX_COLOURS, VERTEX_OTHER
from sim.report.topology.groups import choose_shown
from sim.report.topology.layout import Box, Sketch, lay_out
from sim.report.topology.links import LinkLook, link_looks, top_of_scale, use_colour
from sim.results.quantities import format_quantity
from topology.link_groups import link_groups

__all__ = ["draw_topology"]

Point = tuple[float, float]

_HEAD_PX: Final = 76
_LEGEND_ROW_PX: Final = 22
_HALF_ASIDE_PX: Final = 300
"""A line that goes so far aside leaves a switch halfway between its middle and its corner."""
_MANY: Final = 90
"""Lines between two rows from which on they are drawn thinner and paler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """A line between two boxes."""

    kind: str
    points: tuple[Point, ...]
    look: LinkLook
    rows: tuple[str, str]
    use: float | None
    count: int = 1


def draw_topology(
    graph: "nx.DiGraph[str]",
    path: str | Path,
    *,
    title: str,
    subtitle: str = "",
    use: Mapping[tuple[str, str], float] | None = None,
) -> None:
    """Draw a cluster.

    Parameters
    ----------
    graph
        The cluster: vertices with `kind`, GPUs with `rank`, vertices inside a node with `node`.
    path
        File to write; its suffix (.png, .svg, .pdf) is the format.
    title, subtitle
        Heading.
    use
        Link -> share of its capacity that a run used. Colours links, and chooses the nodes that are shown.
    """
    shown = choose_shown(graph, use)
    sketch = lay_out(graph, shown, top_px=_HEAD_PX)
    groups = link_groups(graph)
    looks = link_looks(groups)
    columns = _legend_columns(looks, sketch.width_px)
    legend_rows = -(-len(looks) // columns) + (0 if use is None else 1)
    height = round(sketch.bottom_px + 34 + _LEGEND_ROW_PX * (legend_rows + 1))
    with settings():
        sheet = Sheet(sketch.width_px, height)
        sheet.text(20, 26, title, size_pt=14, bold=True)
        sheet.text(20, 50, subtitle, size_pt=9, colour=SUBTLE)
        _draw_frames(sheet, sketch)
        top = top_of_scale(use or {})
        _draw_lines(sheet, list(_lines(graph, sketch, looks, use)), top)
        _draw_boxes(sheet, graph, sketch)
        _draw_notes(sheet, sketch)
        scale = None if use is None else top
        _draw_legend(sheet, graph, looks, sketch.bottom_px + 34, columns=columns, top=scale)
        sheet.save(Path(path))


def _draw_frames(sheet: Sheet, sketch: Sketch) -> None:
    for is_rest, fill, edge in ((False, "#fbfcfd", AXIS), (True, "#eef1f4", "#eef1f4")):
        frames = [frame for frame in sketch.frames if frame.is_rest == is_rest]
        x = np.array([[f.left_px, f.left_px + f.width_px] for f in frames], dtype=np.float64)
        y = np.array([[f.top_px, f.top_px + f.height_px] for f in frames], dtype=np.float64)
        gid = "moesim-rest" if is_rest else "moesim-nodes"
        sheet.bars(x, y, [fill] * len(frames), gid=gid, edge_px=1.0, edge_colour=edge)
    for frame in sketch.frames:
        if frame.is_rest:
            middle = frame.top_px + frame.height_px / 2 - 8 * (len(frame.label) - 1)
            for i, text in enumerate(frame.label):
                x_px = frame.left_px + frame.width_px / 2
                sheet.text(x_px, middle + 16 * i, text, size_pt=8, colour=SUBTLE, align="center")
        else:
            x_px, y_px, text = frame.left_px + 7, frame.top_px + frame.height_px - 10, frame.label[0]
            text = text if text_width_px(text, 6.5) <= frame.width_px - 10 else text.partition(":")[0]
            room = 8.0 * (frame.width_px - 10) / max(1.0, text_width_px(text, 8.0))
            sheet.text(x_px, y_px, text, size_pt=min(8.0, room))


def _lines(
    graph: "nx.DiGraph[str]",
    sketch: Sketch,
    looks: Mapping[tuple[str, float], LinkLook],
    use: Mapping[tuple[str, str], float] | None,
) -> Iterator[_Line]:
    """Yield a line for each cable between boxes; rows that need several lines of boxes have a line for all cables."""
    bundles: dict[tuple[str, str], list[tuple[str, str]]] = {}
    done: set[tuple[str, str]] = set()
    for a, box in sketch.boxes.items():
        for b in graph.successors(a):
            other = sketch.boxes.get(b)
            if other is None or (b, a) in done:
                continue
            done.add((a, b))
            if _is_bundled(sketch, box, other):
                upper, lower = sorted((box, other), key=lambda each: each.top_px)
                bundles.setdefault((upper.row, lower.row), []).append((a, b))
            else:
                rows = box.row, other.row
                yield _line(graph, looks, use, cables=[(a, b)], points=_points(box, other), rows=rows)
    for rows, cables in bundles.items():
        above, below = ([each for each in sketch.boxes.values() if each.row == row] for row in rows)
        x = (min(each.left_px for each in above) + max(each.left_px + each.width_px for each in above)) / 2
        ends = (x, max(each.top_px + each.height_px for each in above) + 2), (x, min(e.top_px for e in below) - 2)
        yield _line(graph, looks, use, cables=cables, points=ends, rows=rows)


def _is_bundled(sketch: Sketch, box: Box, other: Box) -> bool:
    inside = box.row.startswith("node") and other.row.partition(".")[0] == box.row.partition(".")[0]
    return inside and box.row != other.row and bool({box.row, other.row} & sketch.grids)


def _line(
    graph: "nx.DiGraph[str]",
    looks: Mapping[tuple[str, float], LinkLook],
    use: Mapping[tuple[str, str], float] | None,
    *,
    cables: Sequence[tuple[str, str]],
    points: tuple[Point, ...],
    rows: tuple[str, str],
) -> _Line:
    data = graph.edges[cables[0]]
    look = looks[data["kind"], data["bandwidth_bytes_per_s"]]
    share = None if use is None else max(max(use.get((a, b), 0.0), use.get((b, a), 0.0)) for a, b in cables)
    return _Line(kind=data["kind"], points=points, look=look, rows=rows, use=share, count=len(cables))


def _points(box: Box, other: Box) -> tuple[Point, ...]:
    """Return a straight line between boxes of different rows, or an arc below (in a tier: above) boxes of a row."""
    if box.row == other.row:
        is_tier = box.row.startswith("tier")
        edge = box.top_px if is_tier else box.top_px + box.height_px
        depth = min(50.0, 10 + 0.09 * abs(box.middle_px - other.middle_px)) * (-1 if is_tier else 1)
        t = np.linspace(0, 1, 17)
        x = box.middle_px + (other.middle_px - box.middle_px) * t
        y = edge + 4 * depth * t * (1 - t)
        return tuple(zip(x.tolist(), y.tolist(), strict=True))
    upper, lower = (box, other) if box.top_px < other.top_px else (other, box)
    if box.row.startswith("node") and other.row.startswith("node"):
        narrow = min(upper, lower, key=lambda each: each.width_px)
        x_px = _clipped(upper, narrow.middle_px), _clipped(lower, narrow.middle_px)
    else:
        x_px = _towards(upper, lower.middle_px), _towards(lower, upper.middle_px)
    return (x_px[0], upper.top_px + upper.height_px), (x_px[1], lower.top_px)


def _clipped(box: Box, x_px: float) -> float:
    """Return the position on a box's edge that is nearest to `x_px`."""
    margin = min(6.0, box.width_px / 2)
    return min(max(x_px, box.left_px + margin), box.left_px + box.width_px - margin)


def _towards(box: Box, x_px: float) -> float:
    """Return where a line to `x_px` leaves a box, so that lines leave in the order of where they go."""
    aside = x_px - box.middle_px
    return box.middle_px + 0.4 * box.width_px * aside / (abs(aside) + _HALF_ASIDE_PX)


def _draw_lines(sheet: Sheet, lines: Sequence[_Line], top: float) -> None:
    """Draw lines by kind; where many run between two rows, thinner and paler."""
    crowd = Counter(_levels(line) for line in lines)
    by_look: dict[tuple[str, bool, bool], list[_Line]] = {}
    for line in lines:
        is_crowded = crowd[_levels(line)] > _MANY
        by_look.setdefault((line.kind, line.look.dashed, is_crowded), []).append(line)
        if line.count > 1:
            (x_px, upper), (_, lower) = line.points
            sheet.text(x_px + 8, (upper + lower) / 2, f"{line.count} cables of {line.kind}", size_pt=8)
    for (kind, dashed, is_crowded), some in by_look.items():
        some.sort(key=lambda line: line.use or 0.0)
        colours = [line.look.colour if line.use is None else use_colour(line.use, top) for line in some]
        thinner = math.sqrt(_MANY / max(_MANY, *(crowd[_levels(line)] for line in some)))
        widths = [max(0.5, line.look.width_px * (0.6 * thinner if is_crowded else 1.0)) for line in some]
        alpha = 0.4 if is_crowded and some[0].use is None else 0.9
        points = [line.points for line in some]
        sheet.polylines(points, colours, widths, gid=f"moesim-links:{kind}", dashed=dashed, alpha=alpha)


def _levels(line: _Line) -> tuple[str, str]:
    """Return the kinds of the two rows that a line joins, whichever nodes they are in."""
    first, second = sorted(row.rpartition(".")[2] for row in line.rows)
    return first, second


def _draw_boxes(sheet: Sheet, graph: "nx.DiGraph[str]", sketch: Sketch) -> None:
    by_kind: dict[str, list[Box]] = {}
    for box in sketch.boxes.values():
        by_kind.setdefault(box.kind, []).append(box)
    for kind, boxes in by_kind.items():
        x = np.array([[b.left_px, b.left_px + b.width_px] for b in boxes], dtype=np.float64)
        y = np.array([[b.top_px, b.top_px + b.height_px] for b in boxes], dtype=np.float64)
        fill = [VERTEX_COLOURS.get(kind, VERTEX_OTHER)] * len(boxes)
        sheet.bars(x, y, fill, gid=f"moesim-vertices:{kind}", edge_px=0.8, edge_colour=FAINT)
        size_pt = min(_fitting_pt(box) for box in boxes)
        for box in boxes:
            if size_pt >= 4.5:
                middle = box.top_px + box.height_px / 2
                sheet.text(box.middle_px, middle, box.label, size_pt=size_pt, align="center")


def _fitting_pt(box: Box) -> float:
    """Return the largest size, at most 8, in which a box's label fits."""
    return min(8.0, 8.0 * (box.width_px - 4) / max(1.0, text_width_px(box.label, 8.0)))


def _draw_notes(sheet: Sheet, sketch: Sketch) -> None:
    for note in sketch.notes:
        size_pt = 9.0 if note.is_heading else 8.0
        sheet.text(note.x_px, note.y_px, note.text, size_pt=size_pt, colour=INK if note.is_heading else SUBTLE)


def _legend_columns(looks: Mapping[tuple[str, float], LinkLook], width_px: int) -> int:
    widest = max((text_width_px(look.label, 8.5) for look in looks.values()), default=0.0)
    return max(1, int((width_px - 40) // (widest + 84)))


def _draw_legend(
    sheet: Sheet,
    graph: "nx.DiGraph[str]",
    looks: Mapping[tuple[str, float], LinkLook],
    top_px: float,
    *,
    columns: int,
    top: float | None,
) -> None:
    """Draw the legend: samples of lines and of boxes with their meaning, and the scale of use."""
    pitch = (sheet.width_px - 40) / columns
    for i, ((kind, _), look) in enumerate(looks.items()):
        x, y = 20 + pitch * (i % columns), top_px + _LEGEND_ROW_PX * (i // columns)
        colour = SUBTLE if top is not None else look.colour
        gid = f"moesim-legend-links:{kind}"
        sheet.polylines([((x, y), (x + 40, y))], [colour], [look.width_px], gid=gid, dashed=look.dashed)
        sheet.text(x + 50, y, look.label, size_pt=8.5)
    y = top_px + _LEGEND_ROW_PX * -(-len(looks) // columns)
    x = 20.0
    for kind in dict.fromkeys(str(data["kind"]) for _, data in graph.nodes(data=True)):
        edges = np.array([[x, x + 22]]), np.array([[y - 6, y + 6]])
        fill = [VERTEX_COLOURS.get(kind, VERTEX_OTHER)]
        sheet.bars(*edges, fill, gid=f"moesim-legend-vertices:{kind}", edge_px=0.8, edge_colour=FAINT)
        sheet.text(x + 30, y, kind, size_pt=8.5)
        x += 62 + text_width_px(kind, 8.5)
    if top is not None:
        _draw_scale(sheet, y + _LEGEND_ROW_PX, top)
    else:
        text = "wider line: more bandwidth; dashed: slower than others of its kind; a line is both directions"
        sheet.text(x + 10, y, text, size_pt=8.5, colour=SUBTLE)


def _draw_scale(sheet: Sheet, y_px: float, top: float) -> None:
    """Draw the colours of use from 0 to `top`."""
    steps, left = 60, 62
    x = left + 4.0 * np.arange(steps + 1)
    edges = np.stack([x[:-1], x[1:]], axis=1), np.tile([[y_px - 6.0, y_px + 6.0]], (steps, 1))
    sheet.bars(*edges, [use_colour(i / (steps - 1), 1.0) for i in range(steps)], gid="moesim-scale")
    sheet.text(left - 8, y_px, "0 %", size_pt=8.5, align="right")
    text = f"{format_quantity(top, 'ratio')} of what a link can carry in the time of the run (the busier direction)"
    sheet.text(left + 4 * steps + 8, y_px, text, size_pt=8.5)
