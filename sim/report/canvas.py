"""What pictures are drawn on: a sheet in pixels from its upper left corner, or a figure with axes of matplotlib.

The one coordinate system of a sheet, for bars, texts and legend, keeps horizontal edges on whole pixels. Files are
byte-identical over calls: they hold no date and no random ids, and the user's matplotlib settings are not used.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.text import Text
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from sim.errors import InvalidValueError
from sim.report.palette import AXIS, FAINT, IDLE, INK, SUBTLE

__all__ = [
    "Sheet",
    "check_suffix",
    "literal",
    "new_figure",
    "save_figure",
    "settings",
    "style_axes",
    "style_colour_bar",
    "text_width_px",
]

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
    if suffix not in _METADATA:
        raise InvalidValueError(
            field="the picture's file",
            rule="end in .png, .svg or .pdf",
            value=path.name,
            hint="Choose a suffix of these.",
        )
    return suffix


@contextmanager
def settings() -> Iterator[None]:
    """Draw with matplotlib's defaults, whatever the user's are, and texts as they are: `$` begins no formula.

    Letters that the font lacks are boxes, not warnings.
    """
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update({"svg.hashsalt": "moesim", "hatch.linewidth": 0.7})
        mpl.rcParams.update({"font.family": "DejaVu Sans", "text.hinting": "no_hinting", "text.parse_math": False})
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def new_figure(width_inches: float, height_inches: float) -> Figure:
    """Return an empty white figure."""
    return Figure(figsize=(width_inches, height_inches), dpi=_DPI, facecolor="white")


def save_figure(figure: Figure, path: Path) -> None:
    """Write the file of a figure; the suffix of `path` chooses the format."""
    suffix = check_suffix(path)
    for text in figure.findobj(Text):
        if isinstance(text, Text):
            text.set_text(literal(text.get_text()))
    figure.savefig(path, format=suffix[1:], metadata=_METADATA[suffix])


def style_axes(axes: Axes, title: str | None = None, *, grid: bool = False) -> None:
    """Give axes the colours of all charts, a title at the left, and a grid behind the data."""
    if title is not None:
        axes.set_title(title, loc="left", fontsize=10, color=INK)
    for spine in axes.spines.values():
        spine.set_color(AXIS)
    axes.tick_params(which="both", colors=SUBTLE, labelsize=8.5)
    if grid:
        axes.grid(visible=True, color=IDLE, lw=0.6)
        axes.set_axisbelow(True)


def style_colour_bar(bar: Colorbar) -> None:
    """Give a colour bar the small grey labels of all charts, without a frame."""
    bar.ax.tick_params(labelsize=8, colors=SUBTLE)
    bar.outline.set_visible(False)


def literal(text: str) -> str:
    """Return a text with a question mark for each control character, which SVG has no place for; lines stay lines.

    >>> literal("a" + chr(0) + "$x^$")
    'a?$x^$'
    """
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


@lru_cache(maxsize=4096)
def text_width_px(text: str, size_pt: float, *, bold: bool = False) -> float:
    """Return the width of a text, which is drawn as it is."""
    if not text.strip():
        return 0.0
    font = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal", size=size_pt)
    with mpl.rc_context({"text.parse_math": False}):
        path = TextPath((0, 0), literal(text), prop=font)
    return float(path.get_extents().width) * _DPI / 72


class Sheet:
    """A drawing of `width_px` x `height_px`, y downwards."""

    def __init__(self, width_px: int, height_px: int) -> None:
        self.width_px, self.height_px = width_px, height_px
        self._figure = new_figure(width_px / _DPI, height_px / _DPI)
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

        In an SVG the bars are elements of a group named `gid`. Edges are not snapped to pixels: a bar that is thinner
        than a pixel tints the pixel.
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
        group.set_gid(literal(gid))
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
        """Draw a line through each row of points, in a group named `gid`."""
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
        group.set_gid(literal(gid))
        self._axes.add_collection(group, autolim=False)

    def frame(self, x_px: tuple[float, float], y_px: tuple[float, float], colour: str) -> None:
        """Draw the outline of a rectangle."""
        corners = (x_px[0], y_px[0]), x_px[1] - x_px[0], y_px[1] - y_px[0]
        self._axes.add_patch(Rectangle(*corners, fill=False, edgecolor=colour, linewidth=0.9, zorder=self._above()))

    def arrow(
        self, from_px: tuple[float, float], to_px: tuple[float, float], colour: str, *, width_px: float, gid: str
    ) -> None:
        """Draw an arrow with a white rim, so that it is seen on dark bars."""
        for wide_px, ink in ((width_px + 2, "white"), (width_px, colour)):
            arrow = FancyArrowPatch(
                from_px,
                to_px,
                arrowstyle="-|>,head_length=0.45,head_width=0.2",
                shrinkA=0,
                shrinkB=0,
                mutation_scale=11,
                color=ink,
                lw=wide_px * 72 / _DPI,
            )
            arrow.set_zorder(self._above())
            arrow.set_gid(literal(gid if ink == colour else f"{gid}-rim"))
            self._axes.add_patch(arrow)

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

    def time_axis(
        self,
        window_ms: tuple[float, float],
        x_px: tuple[float, float],
        bottom_px: float,
        *,
        top_px: float | None = None,
        line_px: float = 0.6,
        num_ticks: int = 12,
        title_px: float = 31,
    ) -> None:
        """Write the milliseconds of a window below a drawing, with vertical lines up to `top_px` where it is given.

        Parameters
        ----------
        window_ms, x_px
            Times at the left and right edge of the drawing, and where these edges are.
        bottom_px
            Lower edge of the drawing.
        top_px, line_px
            Where the lines of the ticks begin, and how wide they are.
        num_ticks
            There are at most as many intervals between ticks.
        title_px
            Distance of the axis' title from the lower edge.
        """
        (low, high), (left, right) = window_ms, x_px
        ticks = MaxNLocator(nbins=num_ticks, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        ticks_ms = [float(tick) for tick in ticks if low <= tick <= high]
        ticks_px = [left + (tick - low) / (high - low or 1) * (right - left) for tick in ticks_ms]
        if top_px is not None:
            self.lines(ticks_px, (top_px, bottom_px + 5), AXIS, width_px=line_px)
        for x, tick in zip(ticks_px, ticks_ms, strict=True):
            self.text(x, bottom_px + 14, f"{round(tick, 6):,.10g}", size_pt=8, colour=SUBTLE, align="center")
        self.text((left + right) / 2, bottom_px + title_px, "time in ms", size_pt=8, colour=FAINT, align="center")

    def save(self, path: Path) -> None:
        """Write the file; its suffix is the format."""
        save_figure(self._figure, path)

    def _above(self) -> int:
        """Return a layer above everything that has been drawn."""
        self._num_drawn += 1
        return self._num_drawn
