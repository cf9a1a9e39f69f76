"""Memory over time of the fullest stage by component, the other stages as lines, and the device's capacity.

Each value holds until the next change. The peak is marked; the numbers at the right are those of the peak.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from sim.report.canvas import Sheet, check_suffix, settings
from sim.report.palette import AXIS, INK, STALLED, SUBTLE
from sim.results.quantities import format_quantity

__all__ = ["COMPONENT_COLOURS", "draw_memory"]

COMPONENT_COLOURS: Final[Mapping[str, str]] = {
    "weights": "#3e4c59",
    "gradients": "#8a97a5",
    "optimizer": "#bcc5ce",
    "buffers": "#e8dcc8",
    "kv_cache": "#44bb99",
    "activations": "#77aadd",
    "expert_activations": "#eebb77",
    "logits": "#ffaabb",
}
"""Fill of each component, from the bottom."""

_WIDTH_PX: Final = 1200
_HEIGHT_PX: Final = 520
_LEFT_PX: Final = 90
_RIGHT_PX: Final = 960
_TOP_PX: Final = 76
_BOTTOM_PX: Final = 460


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
    with settings():
        sheet = Sheet(_WIDTH_PX, _HEIGHT_PX)
        sheet.text(24, 23, title, size_pt=14, bold=True)
        sheet.text(24, 46, _subtitle(memory), size_pt=9.5, colour=SUBTLE)
        _draw_axes(sheet, highest, end_s)
        tops = _draw_components(sheet, timeline, highest, end_s)
        for other in memory["timeline"]:
            if other["stage"] != stage:
                _draw_line(sheet, other, highest, end_s)
        _draw_peak(sheet, memory, highest, end_s)
        _draw_labels(sheet, memory["peak_bytes_per_gpu"], tops)
        sheet.save(target)


# ---- private -----------------------------------------------------------------------------------------------------


def _subtitle(memory: Mapping[str, Any]) -> str:
    peak, capacity = memory["peak_bytes_per_gpu"]["total"], memory["capacity_bytes"]
    words = "fits into" if memory["fits"] else "does not fit into"
    return (
        f"a GPU of stage {memory['peak_stage']}, the fullest: {format_quantity(float(peak), 'bytes')} at "
        f"{format_quantity(memory['peak_time_s'], 's')}, {words} {format_quantity(float(capacity), 'bytes')}"
        "  ·  thin lines: the other stages"
    )


def _x(time_s: NDArray[np.float64] | float, end_s: float) -> NDArray[np.float64]:
    return np.asarray(_LEFT_PX + np.minimum(time_s, end_s) / end_s * (_RIGHT_PX - _LEFT_PX))


def _y(num_bytes: NDArray[np.float64] | float, highest: float) -> NDArray[np.float64]:
    return np.asarray(_BOTTOM_PX - np.asarray(num_bytes) / highest * (_BOTTOM_PX - _TOP_PX))


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


def _draw_components(sheet: Sheet, timeline: Mapping[str, Any], highest: float, end_s: float) -> list[str]:
    """Draw the components of a stage's memory one above the other; return their names from the bottom."""
    times = np.array([*timeline["time_s"], max(end_s, timeline["time_s"][-1])])
    x_px = np.stack([_x(times[:-1], end_s), _x(times[1:], end_s)], axis=1)
    below = np.zeros(len(timeline["time_s"]))
    for component, size in _layers(timeline).items():
        y_px = np.stack([_y(below + size, highest), _y(below, highest)], axis=1)
        colour = COMPONENT_COLOURS[component]
        sheet.bars(x_px, y_px, colour, gid=f"moesim-memory:{component}", edge_px=0.5, edge_colour=colour)
        below = below + size
    return list(_layers(timeline))


def _draw_line(sheet: Sheet, timeline: Mapping[str, Any], highest: float, end_s: float) -> None:
    """Draw the total of a stage as steps."""
    total = np.sum(list(_layers(timeline).values()), axis=0)
    times = [*timeline["time_s"][1:], end_s]
    points: list[tuple[float, float]] = []
    for start, end, size in zip(timeline["time_s"], times, np.atleast_1d(total).tolist(), strict=True):
        y = float(_y(size, highest))
        points += [(float(_x(start, end_s)), y), (float(_x(end, end_s)), y)]
    sheet.polylines([points], [INK], [0.7], gid=f"moesim-memory:stage-{timeline['stage']}", alpha=0.55)


def _draw_axes(sheet: Sheet, highest: float, end_s: float) -> None:
    for size in MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]).tick_values(0.0, highest / 1e9):
        if 0 <= size <= highest / 1e9:
            y = float(_y(size * 1e9, highest))
            sheet.polylines([[(_LEFT_PX, y), (_RIGHT_PX, y)]], [AXIS], [0.6], gid="moesim-memory-axis")
            sheet.text(_LEFT_PX - 8, y, f"{size:g} GB", size_pt=8, colour=SUBTLE, align="right")
    edges_px = _LEFT_PX, _RIGHT_PX
    sheet.time_axis((0.0, end_s * 1e3), edges_px, _BOTTOM_PX, num_ticks=10, title_px=34)


def _draw_peak(sheet: Sheet, memory: Mapping[str, Any], highest: float, end_s: float) -> None:
    """Mark the peak, and the capacity of the device where it is near."""
    total, capacity = float(memory["peak_bytes_per_gpu"]["total"]), float(memory["capacity_bytes"])
    x, y = float(_x(memory["peak_time_s"], end_s)), float(_y(total, highest))
    sheet.lines([x], (y - 8, y + 4), STALLED, width_px=1.6)
    sheet.text(x + 5, y - 7, "peak", size_pt=8, colour=STALLED, bold=True)
    if capacity <= highest:
        level = float(_y(capacity, highest))
        line = [(float(_LEFT_PX), level), (float(_RIGHT_PX), level)]
        sheet.polylines([line], [STALLED], [1.4], gid="moesim-memory-capacity", dashed=True)
        text = f"device: {format_quantity(capacity, 'bytes')}"
        sheet.text(_RIGHT_PX - 6, level - 9, text, size_pt=8, colour=STALLED, align="right")


def _draw_labels(sheet: Sheet, peak: Mapping[str, int], components: Sequence[str]) -> None:
    """Write the components with their bytes at the peak, from the top."""
    left = float(_RIGHT_PX + 24)
    sheet.text(left, _TOP_PX + 4, "at the peak", size_pt=9, bold=True)
    for i, component in enumerate(reversed(components)):
        top = _TOP_PX + 22 + 22.0 * i
        sheet.bars(
            np.array([[left, left + 16]]),
            np.array([[top, top + 12]]),
            [COMPONENT_COLOURS[component]],
            gid=f"moesim-key:{component}",
        )
        text = f"{component.replace('_', ' ')}  {format_quantity(float(peak[component]), 'bytes')}"
        sheet.text(left + 24, top + 6, text, size_pt=8.5)
