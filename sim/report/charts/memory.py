"""Memory over time of the fullest stage by component, the other stages as small multiples, and the device's capacity.

Each value holds until the next change. The peak is marked; the numbers at the right are those of the peak. The small
pictures of the other stages have the scales of the large one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from sim.report.canvas import Sheet, check_suffix, settings
from sim.report.palette import AXIS, STALLED, SUBTLE
from sim.results.quantities import format_quantity

__all__ = ["COMPONENT_COLOURS", "draw_memory"]

COMPONENT_COLOURS: Final[Mapping[str, str]] = {
    "weights": "#3e4c59",
    "gradients": "#8a97a5",
    "optimizer": "#bcc5ce",
    "buffers": "#f2e9d8",
    "kv_cache": "#2f9277",
    "activations": "#77aadd",
    "expert_activations": "#eebb77",
    "logits": "#9c3a57",
}
"""Fill of each component, from the bottom: neighbours differ in lightness, so that grey print keeps them apart."""

_WIDTH_PX: Final = 1200
_HEIGHT_PX: Final = 520
_LEFT_PX: Final = 90
_RIGHT_PX: Final = 960
_TOP_PX: Final = 76
_BOTTOM_PX: Final = 460
_SMALL_COLUMNS: Final = 5
_SMALL_HEIGHT_PX: Final = 110
_SMALL_GAP_PX: Final = 16
_SMALL_HEAD_PX: Final = 18
_MOST_SMALL: Final = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """Where a picture of memory over time lies, and its scales."""

    left_px: float
    right_px: float
    top_px: float
    bottom_px: float
    highest: float
    """Bytes at the upper edge."""
    end_s: float
    """Time at the right edge."""

    def x(self, time_s: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Return the position of a time."""
        share = np.minimum(time_s, self.end_s) / self.end_s
        return np.asarray(self.left_px + share * (self.right_px - self.left_px))

    def y(self, num_bytes: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Return the height of a number of bytes."""
        share = np.asarray(num_bytes) / self.highest
        return np.asarray(self.bottom_px - share * (self.bottom_px - self.top_px))


def draw_memory(memory: Mapping[str, Any], path: str | Path, *, title: str, end_s: float) -> None:
    """Draw the memory of a run.

    Parameters
    ----------
    memory
        The `memory` of the JSON of `run`, with its timeline.
    path
        File to write; its suffix (.png, .svg, .pdf) is the format.
    title
        Heading.
    end_s
        End of the run.
    """
    target = Path(path)
    check_suffix(target)
    stage = memory["peak_stage"]
    timeline = memory["timeline"][stage]
    total = float(memory["peak_bytes_per_gpu"]["total"])
    highest = max(total, float(memory["capacity_bytes"]) if memory["capacity_bytes"] < 2.5 * total else 0.0) * 1.06
    others = [other for other in memory["timeline"] if other["stage"] != stage]
    frame = _Frame(
        left_px=_LEFT_PX, right_px=_RIGHT_PX, top_px=_TOP_PX, bottom_px=_BOTTOM_PX, highest=highest, end_s=end_s
    )
    rows = -(-min(len(others), _MOST_SMALL) // _SMALL_COLUMNS)
    small_px = (36 + rows * (_SMALL_HEAD_PX + _SMALL_HEIGHT_PX + _SMALL_GAP_PX)) if rows else 0
    with settings():
        sheet = Sheet(_WIDTH_PX, _HEIGHT_PX + small_px)
        sheet.text(24, 23, f"{title}: memory", size_pt=14, bold=True)
        sheet.text(24, 46, _subtitle(memory), size_pt=9.5, colour=SUBTLE)
        _draw_axes(sheet, frame)
        components = _draw_components(sheet, timeline, frame, gid="moesim-memory")
        _draw_peak(sheet, memory, frame)
        elsewhere = {name for other in others for name in _layers(other)} - set(components)
        _draw_labels(sheet, memory["peak_bytes_per_gpu"], components, sorted(elsewhere))
        if others:
            _draw_others(sheet, others, frame)
        sheet.save(target)


# ---- private -----------------------------------------------------------------------------------------------------


def _subtitle(memory: Mapping[str, Any]) -> str:
    peak, capacity = memory["peak_bytes_per_gpu"]["total"], memory["capacity_bytes"]
    words = "fits into" if memory["fits"] else "does not fit into"
    return (
        f"what fills a GPU of stage {memory['peak_stage']}, the fullest: {format_quantity(float(peak), 'bytes')} at "
        f"{format_quantity(memory['peak_time_s'], 's')}, {words} {format_quantity(float(capacity), 'bytes')}"
    )


def _layers(timeline: Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
    """Return the bytes of each component at each time, from the bottom."""
    num = len(timeline["time_s"])
    constant, varying = timeline["held_bytes"], timeline["varying_bytes"]
    components = {
        component: np.full(num, float(constant[component])) for component in COMPONENT_COLOURS if component in constant
    }
    return components | {
        component: np.array(varying[component], dtype=float) for component in COMPONENT_COLOURS if component in varying
    }


def _draw_components(sheet: Sheet, timeline: Mapping[str, Any], frame: _Frame, *, gid: str) -> list[str]:
    """Draw the components of a stage's memory one above the other; return their names from the bottom."""
    times = np.array([*timeline["time_s"], max(frame.end_s, timeline["time_s"][-1])])
    x_px = np.stack([frame.x(times[:-1]), frame.x(times[1:])], axis=1)
    below = np.zeros(len(timeline["time_s"]))
    for component, size in _layers(timeline).items():
        y_px = np.stack([frame.y(below + size), frame.y(below)], axis=1)
        colour = COMPONENT_COLOURS[component]
        sheet.bars(x_px, y_px, colour, gid=f"{gid}:{component}", edge_px=0.5, edge_colour=colour)
        below = below + size
    return list(_layers(timeline))


def _draw_others(sheet: Sheet, others: Sequence[Mapping[str, Any]], frame: _Frame) -> None:
    """Draw the other stages small, with the scales of the large picture."""
    top = float(_HEIGHT_PX)
    heading = "the other stages, with the same scales"
    if len(others) > _MOST_SMALL:
        heading += f"; the first {_MOST_SMALL} of {len(others)}"
    sheet.text(_LEFT_PX, top + 8, heading, size_pt=9, bold=True, colour=SUBTLE)
    width = (_WIDTH_PX - 24 - _LEFT_PX - _SMALL_GAP_PX * (_SMALL_COLUMNS - 1)) / _SMALL_COLUMNS
    for i, other in enumerate(others[:_MOST_SMALL]):
        left = _LEFT_PX + (width + _SMALL_GAP_PX) * (i % _SMALL_COLUMNS)
        upper = top + 24 + (_SMALL_HEAD_PX + _SMALL_HEIGHT_PX + _SMALL_GAP_PX) * (i // _SMALL_COLUMNS) + _SMALL_HEAD_PX
        lower = upper + _SMALL_HEIGHT_PX
        small = replace(frame, left_px=left, right_px=left + width, top_px=upper, bottom_px=lower)
        most = float(np.sum(list(_layers(other).values()), axis=0).max())
        text = f"stage {other['stage']}: at most {format_quantity(most, 'bytes')}"
        sheet.text(left, upper - 9, text, size_pt=8.5)
        _draw_components(sheet, other, small, gid=f"moesim-memory-stage{other['stage']}")
        for edge in (upper, lower):
            sheet.polylines([[(left, edge), (left + width, edge)]], [AXIS], [0.6], gid="moesim-memory-axis")


def _draw_axes(sheet: Sheet, frame: _Frame) -> None:
    for size in MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]).tick_values(0.0, frame.highest / 1e9):
        if 0 <= size <= frame.highest / 1e9:
            y = float(frame.y(size * 1e9))
            sheet.polylines([[(_LEFT_PX, y), (_RIGHT_PX, y)]], [AXIS], [0.6], gid="moesim-memory-axis")
            sheet.text(_LEFT_PX - 8, y, f"{size:g} GB", size_pt=8, colour=SUBTLE, align="right")
    sheet.time_axis((0.0, frame.end_s * 1e3), (_LEFT_PX, _RIGHT_PX), _BOTTOM_PX, num_ticks=10, title_px=34)


def _draw_peak(sheet: Sheet, memory: Mapping[str, Any], frame: _Frame) -> None:
    """Mark the peak, and the capacity of the device where it is near."""
    total, capacity = float(memory["peak_bytes_per_gpu"]["total"]), float(memory["capacity_bytes"])
    x, y = float(frame.x(memory["peak_time_s"])), float(frame.y(total))
    sheet.lines([x], (y - 8, y + 4), STALLED, width_px=1.6)
    sheet.text(x + 5, y - 7, "peak", size_pt=8, colour=STALLED, bold=True)
    if capacity <= frame.highest:
        level = float(frame.y(capacity))
        line = [(float(_LEFT_PX), level), (float(_RIGHT_PX), level)]
        sheet.polylines([line], [STALLED], [1.4], gid="moesim-memory-capacity", dashed=True)
        text = f"device: {format_quantity(capacity, 'bytes')}"
        sheet.text(_RIGHT_PX - 6, level - 9, text, size_pt=8, colour=STALLED, align="right")


def _draw_labels(sheet: Sheet, peak: Mapping[str, int], components: Sequence[str], elsewhere: Sequence[str]) -> None:
    """Write the components with their bytes at the peak, from the top, and those that other stages alone have."""
    left = float(_RIGHT_PX + 24)
    sheet.text(left, _TOP_PX + 4, "at the peak", size_pt=9, bold=True)
    for i, component in enumerate([*reversed(components), *elsewhere]):
        top = _TOP_PX + 22 + 22.0 * i
        sheet.bars(
            np.array([[left, left + 16]]),
            np.array([[top, top + 12]]),
            [COMPONENT_COLOURS[component]],
            gid=f"moesim-key:{component}",
        )
        size = "other stages" if component in elsewhere else format_quantity(float(peak[component]), "bytes")
        text = f"{component.replace('_', ' ')}  {size}"
        sheet.text(left + 24, top + 6, text, size_pt=8.5)
