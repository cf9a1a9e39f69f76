"""A sheet to draw on, in pixels from the upper left corner, and its file.

One coordinate system for bars, texts and legend keeps horizontal edges on whole pixels. Files are byte-identical over
calls: no date, no random ids, none of the user's matplotlib settings.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath
from numpy.typing import ArrayLike, NDArray

from sim.errors import InvalidValueError
from sim.report.palette import INK

__all__ = ["FORMATS", "Sheet", "check_suffix", "settings", "text_width_px"]

FORMATS: Final = (".png", ".svg", ".pdf")
"""Suffixes of files that can be drawn."""

_DPI: Final = 100
_METADATA: Final[dict[str, dict[str, Any]]] = {
    ".png": {"Software": "moesim"},
    ".svg": {"Creator": "moesim", "Date": None},
    ".pdf": {"Creator": "moesim", "Producer": None, "CreationDate": None},
}


def check_suffix(path: Path) -> str:
    """Return the suffix that chooses the format, or refuse it.

    >>> check_suffix(Path("out/timeline.SVG"))
    '.svg'
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InvalidValueError(
            field="the picture's file",
            rule="end in .png, .svg or .pdf",
            value=path.name,
            hint="Choose one of these suffixes.",
        )
    return suffix


@contextmanager
def settings() -> Iterator[None]:
    """Draw with matplotlib's defaults, whatever the user's are; letters that the font lacks are boxes, not warnings."""
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update({"svg.hashsalt": "moesim", "hatch.linewidth": 0.7})
        mpl.rcParams.update({"font.family": "DejaVu Sans", "text.hinting": "no_hinting"})
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


@lru_cache(maxsize=4096)
def text_width_px(text: str, size_pt: float, *, bold: bool = False) -> float:
    """Return the width of a line of text."""
    font = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal", size=size_pt)
    return float(TextPath((0, 0), text, prop=font).get_extents().width) * _DPI / 72 if text.strip() else 0.0


class Sheet:
    """A drawing of `width_px` x `height_px`, y downwards."""

    def __init__(self, width_px: int, height_px: int) -> None:
        self.width_px, self.height_px = width_px, height_px
        self._figure = Figure(figsize=(width_px / _DPI, height_px / _DPI), dpi=_DPI, facecolor="white")
        self._axes = self._figure.add_axes((0.0, 0.0, 1.0, 1.0))
        self._axes.set(xlim=(0, width_px), ylim=(height_px, 0))
        self._axes.axis("off")
        self._num_drawn = 0

    def bars(
        self,
        x_px: NDArray[np.float64],
        y_px: NDArray[np.float64],
        colours: ArrayLike,
        *,
        gid: str,
        edge_px: float = 0.0,
        edge_colour: str = "white",
        hatch: str | None = None,
        hatch_colour: str = INK,
    ) -> None:
        """Draw a rectangle for each row of `x_px` and `y_px`, from and to. Shapes [B, 2], [B, 2].

        All are in one group named `gid`, each an element of its own in an SVG. Edges are not snapped to pixels: a bar
        thinner than one tints it.
        """
        if len(x_px) == 0:
            return
        corners = np.stack([x_px[:, [0, 0, 1, 1]], y_px[:, [0, 1, 1, 0]]], axis=2)
        group = PolyCollection(
            list(corners),
            facecolors=colours,
            edgecolors=edge_colour if hatch is None else hatch_colour,
            linewidths=edge_px * 72 / _DPI,
            hatch=hatch,
            zorder=self._above(),
        )
        group.set_gid(gid)
        group.set_snap(False)
        self._axes.add_collection(group, autolim=False)

    def lines(self, x_px: Sequence[float], y_px: tuple[float, float], colour: str, *, width_px: float = 1.0) -> None:
        """Draw vertical lines."""
        self._axes.vlines(x_px, *y_px, colors=colour, linewidths=width_px * 72 / _DPI, zorder=self._above())

    def polylines(
        self,
        points_px: Sequence[Sequence[tuple[float, float]]],
        colours: ArrayLike,
        widths_px: Sequence[float],
        *,
        gid: str,
        dashed: bool = False,
        alpha: float = 1.0,
    ) -> None:
        """Draw a line through each row of points, in one group named `gid`."""
        if not points_px:
            return
        group = LineCollection(
            points_px,
            colors=colours,
            linewidths=[width_px * 72 / _DPI for width_px in widths_px],
            linestyles=(0, (3.0, 1.5)) if dashed else "solid",
            alpha=alpha,
            capstyle="butt",
            zorder=self._above(),
        )
        group.set_gid(gid)
        self._axes.add_collection(group, autolim=False)

    def frame(self, x_px: tuple[float, float], y_px: tuple[float, float], colour: str) -> None:
        """Draw the outline of a rectangle."""
        corners = (x_px[0], y_px[0]), x_px[1] - x_px[0], y_px[1] - y_px[0]
        self._axes.add_patch(Rectangle(*corners, fill=False, edgecolor=colour, linewidth=0.9, zorder=self._above()))

    def text(
        self,
        x_px: float,
        y_px: float,
        text: str,
        *,
        size_pt: float = 9.0,
        colour: str = INK,
        bold: bool = False,
        align: str = "left",
    ) -> None:
        """Write a line, its middle at `y_px`."""
        self._axes.text(
            x_px,
            y_px,
            text,
            fontsize=size_pt,
            color=colour,
            fontweight="bold" if bold else "normal",
            ha=align,
            va="center_baseline",
            parse_math=False,
            zorder=self._above(),
        )

    def save(self, path: Path) -> None:
        """Write the file; its suffix is the format."""
        suffix = check_suffix(path)
        self._figure.savefig(path, format=suffix[1:], metadata=_METADATA[suffix])

    def _above(self) -> int:
        """Return the layer above all that is drawn so far."""
        self._num_drawn += 1
        return self._num_drawn
