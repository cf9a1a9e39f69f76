"""Two passes of one stage, wide enough to see their kernels and transfers, below a timeline of a whole run."""

from typing import Final

import numpy as np

from sim.engine.trace import Trace
from sim.report.canvas import Sheet
from sim.report.palette import INK, SUBTLE
from sim.report.timeline.bands import AXIS_PX, Bands
from sim.report.timeline.bars import Bars
from sim.report.timeline.layout import BAND_PX, GAP_PX, Layout

__all__ = ["closeup_height_px", "closeup_of", "draw_closeup"]

_HEAD_PX: Final = 22
_NARROW_PX: Final = 80
"""Passes as narrow as this deserve a close-up."""


def closeup_of(layout: Layout, passes: Bars | None) -> tuple[int, tuple[int, int]] | None:
    """Return the stage and the window that show two passes in the middle of the run; None where all passes are wide."""
    if passes is None or len(passes) == 0 or "compute" not in layout.strips:
        return None
    widths = layout.x_px(passes.start_ns, passes.end_ns)
    if np.median(widths[:, 1] - widths[:, 0]) > _NARROW_PX:
        return None
    stage = layout.num_stages // 2
    here = np.flatnonzero(passes.stage == stage)
    if here.size < 2:
        return None
    here = here[np.argsort(passes.start_ns[here], kind="stable")]
    first, second = here[here.size // 2 - 1], here[here.size // 2]
    return stage, (int(passes.start_ns[first]), int(max(passes.end_ns[first], passes.end_ns[second])))


def closeup_height_px() -> int:
    """Return the height of a close-up with its heading and axis."""
    return _HEAD_PX + BAND_PX - GAP_PX + AXIS_PX


def draw_closeup(
    sheet: Sheet, trace: Trace, layout: Layout, where: tuple[int, tuple[int, int]], *, top_px: int, lane: int
) -> None:
    """Draw the close-up below the bands of `layout`, and mark there where it lies."""
    stage, window_ns = where
    low, high = layout.window_ns
    at = [layout.left_px + (t - low) / (high - low) * (layout.right_px - layout.left_px) for t in window_ns]
    band = layout.band_px(stage)
    sheet.frame((at[0], at[1]), (band - 3, band + BAND_PX - GAP_PX + 3), INK)
    heading = f"close-up of the frame in stage {stage}: {(window_ns[1] - window_ns[0]) / 1e6:.4g} ms"
    sheet.text(layout.left_px, top_px + 8, heading, size_pt=9, colour=SUBTLE, bold=True)
    closeup = Layout(
        left_px=layout.left_px,
        right_px=layout.right_px,
        top_px=top_px + _HEAD_PX,
        window_ns=window_ns,
        num_stages=1,
        strips=layout.strips,
        first_stage=stage,
    )
    Bands(trace, closeup, lane=lane, group="moesim-closeup").draw(sheet)
