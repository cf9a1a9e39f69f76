"""Where the parts of a timeline lie, in pixels.

A stage is a band of 90 pixels with a strip per stream that the trace has; the first, passes, takes the height that
others leave.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["BAND_PX", "STRIPS", "Layout", "Strip", "lay_strips"]

BAND_PX: Final = 90
"""Height of a stage with its gap."""
GAP_PX: Final = 8
"""Gap between bands."""

STRIPS: Final[Mapping[str, tuple[str, int]]] = {
    "pass": ("passes", 0),
    "compute": ("kernels", 11),
    "comm": ("waits for", 11),
    "p2p": ("sends", 8),
    "foreign": ("for others", 16),
}
"""Stream -> the name of its strip and its height where it is not the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """A strip within a band."""

    top_px: int
    """Upper edge, from the top of the band."""
    height_px: int
    """Height."""


def lay_strips(streams: Collection[str]) -> dict[str, Strip]:
    """Return the strips of a band for streams that the trace has, from the top.

    >>> lay_strips(["pass", "p2p"])["pass"]
    Strip(top_px=0, height_px=72)
    """
    chosen = [stream for stream in STRIPS if stream in streams] or ["pass"]
    heights = {stream: STRIPS[stream][1] for stream in chosen}
    heights[chosen[0]] = BAND_PX - GAP_PX - sum(STRIPS[stream][1] + 2 for stream in chosen[1:])
    strips, top = {}, 0
    for stream in chosen:
        strips[stream] = Strip(top_px=top, height_px=heights[stream])
        top += heights[stream] + 2
    return strips


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The frame of the picture."""

    left_px: int
    """Left edge of the bars."""
    right_px: int
    """Right edge of the bars."""
    top_px: int
    """Top of the first band."""
    window_ns: tuple[int, int]
    """Times at the left and right edge."""
    num_stages: int
    """Bands."""
    first_stage: int = 0
    """Stage of the first band."""
    strips: Mapping[str, Strip]
    """Strips of each band."""

    @property
    def bottom_px(self) -> int:
        """Bottom of the last band."""
        return self.top_px + BAND_PX * self.num_stages - GAP_PX

    def band_px(self, stage: int) -> int:
        """Return the top of a band."""
        return self.top_px + BAND_PX * (stage - self.first_stage)

    def x_px(self, start_ns: NDArray[np.int64], end_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return left and right edges. Shapes [B], [B] -> [B, 2]."""
        low, high = self.window_ns
        at = (np.stack([start_ns, end_ns], axis=1) - low) / (high - low)
        return self.left_px + at * (self.right_px - self.left_px)

    def y_px(
        self, stream: str, stage: NDArray[np.int64], top: NDArray[np.float64], height: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return upper and lower edges in the strip of a stream. Shape [B, 2]."""
        strip = self.strips[stream]
        base = self.top_px + BAND_PX * (stage - self.first_stage) + strip.top_px
        return np.stack([base + strip.height_px * top, base + strip.height_px * (top + height)], axis=1)

    def span_px(self, stage: NDArray[np.int64], streams: Sequence[str]) -> NDArray[np.float64]:
        """Return upper and lower edges over several strips. Shape [B, 2]."""
        chosen = [self.strips[stream] for stream in streams if stream in self.strips]
        base = self.top_px + BAND_PX * (stage - self.first_stage)
        last = chosen[-1]
        return np.stack([base + chosen[0].top_px, base + last.top_px + last.height_px], axis=1).astype(np.float64)
