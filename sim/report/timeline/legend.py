"""The legend of a timeline: every encoding that the picture uses, by name, in rows that fit its width."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.engine.trace import KINDS
from sim.report.canvas import Sheet, text_width_px
from sim.report.console.timelines import PASS_NAMES
from sim.report.palette import CATEGORY_COLOURS, INK, KIND_COLOURS, MICROBATCH_HUES, STALLED, SUBTLE, pass_colours
from sim.report.timeline.spent import WAITING
from sim.results.accounts import COMPUTE_CATEGORIES

__all__ = ["ROW_PX", "Entry", "draw_legend", "flow", "legend_entries", "part_entries"]

ROW_PX: Final = 19
"""Height of a row."""
_SIZE_PT: Final = 8.0
_PATCH_PX: Final = 18
_PATCH_HEIGHT_PX: Final = 11
_AFTER_PATCH_PX: Final = 5
_AFTER_ENTRY_PX: Final = 13
_BEFORE_HEADING_PX: Final = 9

_STALLED: Final = "stalled: waits for the host, a hot rank or anything else"
_STYLED: Final[Sequence[tuple[str, str]]] = (
    ("foreign", "foreign: computes experts for other stages, a line per GPU"),
    ("stalled", _STALLED),
    ("idle", "idle: no pass open"),
)
_FOREIGN: Final = "foreign: computes experts for other stages"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A heading, or patches with a label."""

    label: str
    patches: tuple[str | tuple[float, float, float], ...] = ()
    """Colours of the patches; none for a heading."""
    numbers: tuple[str, ...] = ()
    """Texts in the patches."""
    hatch: bool = False
    """Whether the patch is hatched."""

    @property
    def width_px(self) -> float:
        """Width with the space behind the entry."""
        text = text_width_px(self.label, _SIZE_PT, bold=not self.patches)
        patches = _PATCH_PX * len(self.patches) + (_AFTER_PATCH_PX if self.patches else 0)
        return patches + text + (_AFTER_ENTRY_PX if self.patches else 8)


def legend_entries(
    kinds: Mapping[str, Collection[str]], styles: Collection[str], *, colour: str = "microbatch"
) -> list[Entry]:
    """Return the entries for the kinds that each stream shows, and for `styles` out of foreign, stalled, idle.

    `colour` is what the hue of a pass is: its microbatch, or its kind.
    """
    entries = _pass_entries(kinds.get("pass", ()), colour)
    spent = [category for category in kinds.get("spent", ()) if category != "idle"]
    for heading, categories in (("compute", COMPUTE_CATEGORIES), ("", ("foreign",)), ("waiting", WAITING)):
        shown = [_patch(category, _label(category)) for category in categories if category in spent]
        if shown and heading == "waiting":
            shown[-1] = _patch("stalled", _STALLED) if "stalled" in spent else shown[-1]
        if shown:
            entries += [Entry(label=heading), *shown] if heading else [_patch("foreign", _FOREIGN)]
    headings = (
        ("compute", "compute"),
        ("comm", "waiting for"),
        ("p2p", "sends, nobody waits"),
        ("async", "on streams"),
    )
    for stream, heading in headings:
        found = [kind for kind in KINDS if kind in kinds.get(stream, ())]
        if found:
            entries.append(Entry(label=heading))
            entries += [Entry(label=_label(kind), patches=(KIND_COLOURS[kind],)) for kind in found]
    return entries + [_patch(style, label) for style, label in _STYLED if style in styles and style not in spent]


def part_entries(parts: Sequence[str]) -> list[Entry]:
    """Return the entries of a bar that divides a step into categories of the accounts of time, but for idle time."""
    shown = [_patch(part, _label(part)) for part in parts if part != "idle"]
    return [Entry(label="mean of stages"), *shown] if shown else []


def _patch(category: str, label: str) -> Entry:
    return Entry(label=label, patches=(CATEGORY_COLOURS[category],), hatch=category == "stalled")


def flow(widths: Sequence[float], headings: Sequence[bool], width_px: float) -> list[tuple[float, int]]:
    """Return left edge and row of each entry; a heading goes to the next row with its first entry.

    >>> flow([30, 30, 30, 30], [False, False, True, False], 105)
    [(0.0, 0), (30.0, 0), (0.0, 1), (30.0, 1)]
    """
    positions, x, row = [], 0.0, 0
    for i, (width, heading) in enumerate(zip(widths, headings, strict=True)):
        x += _BEFORE_HEADING_PX if heading and x > 0 else 0
        needed = width + (widths[i + 1] if heading and i + 1 < len(widths) else 0)
        if x > 0 and x + needed > width_px:
            x, row = 0.0, row + 1
        positions.append((x, row))
        x += width
    return positions


def draw_legend(
    sheet: Sheet, entries: Sequence[Entry], positions: Sequence[tuple[float, int]], *, left_px: float, top_px: float
) -> None:
    """Draw entries at their positions."""
    for entry, (x, row) in zip(entries, positions, strict=True):
        _draw_entry(sheet, entry, left_px + x, top_px + ROW_PX * row + ROW_PX / 2)


def _pass_entries(kinds: Collection[str], colour: str) -> list[Entry]:
    entries = [Entry(label="passes")]
    for kind in ("F", "B", "W", "O"):
        if kind in kinds:
            entries.append(Entry(label=PASS_NAMES[kind], patches=(_rgb(kind, 0, colour),)))
    if colour == "microbatch" and {*kinds} & {"F", "B", "W"}:
        shown = "F" if "F" in kinds else "B"
        microbatches = range(len(MICROBATCH_HUES))
        patches = tuple(_rgb(shown, microbatch, colour) for microbatch in microbatches)
        label = "microbatch: its number, and a hue that comes round"
        entries.append(Entry(label=label, patches=patches, numbers=tuple(map(str, microbatches))))
    return entries


def _rgb(kind: str, microbatch: int, colour: str) -> tuple[float, float, float]:
    red, green, blue = pass_colours(np.array([kind]), np.array([microbatch]), by=colour)[0].tolist()
    return red, green, blue


def _label(kind: str) -> str:
    return PASS_NAMES.get(kind, kind.replace("_", " "))


def _draw_entry(sheet: Sheet, entry: Entry, x: float, middle: float) -> None:
    if not entry.patches:
        sheet.text(x, middle, entry.label, size_pt=_SIZE_PT, colour=SUBTLE, bold=True)
        return
    count = len(entry.patches)
    left = x + _PATCH_PX * np.arange(count, dtype=np.float64)
    top = round(middle - _PATCH_HEIGHT_PX / 2)
    edges = np.tile(np.array([[top, top + _PATCH_HEIGHT_PX]], dtype=np.float64), (count, 1))
    across: NDArray[np.float64] = np.stack([left, left + _PATCH_PX], axis=1)
    if entry.hatch:
        sheet.bars(across, edges, entry.patches, gid="moesim-legend", hatch="//////", hatch_colour=STALLED)
    else:
        sheet.bars(across, edges, entry.patches, gid="moesim-legend", edge_px=0.6)
    for at, number in zip(left.tolist(), entry.numbers, strict=False):
        sheet.text(at + _PATCH_PX / 2, middle, number, size_pt=6.5, colour=INK, align="center")
    sheet.text(x + _PATCH_PX * count + _AFTER_PATCH_PX, middle, entry.label, size_pt=_SIZE_PT)
