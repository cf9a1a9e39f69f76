"""The parts of a cluster's picture at their places, in pixels from the upper left corner."""

from dataclasses import dataclass, field
from typing import Final

__all__ = ["MAX_WIDTH_PX", "Box", "Frame", "Note", "Sketch"]

MAX_WIDTH_PX: Final = 1760
"""Width of a sheet, if the cluster needs it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A vertex."""

    label: str
    """What stands in it."""
    kind: str
    """Kind of the vertex."""
    left_px: float
    """Left edge."""
    top_px: float
    """Upper edge."""
    width_px: float
    """Width."""
    height_px: float
    """Height."""
    row: str
    """The row it stands in: vertices of one row are not joined by straight lines."""

    @property
    def middle_px(self) -> float:
        """Middle from left to right."""
        return self.left_px + self.width_px / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A node, or what stands for many."""

    label: tuple[str, ...]
    """Lines of text; of a node the one at its bottom."""
    left_px: float
    """Left edge."""
    top_px: float
    """Upper edge."""
    width_px: float
    """Width."""
    height_px: float
    """Height."""
    is_rest: bool = False
    """Whether it stands for nodes that are not shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A line of text."""

    text: str
    """What it says."""
    x_px: float
    """Where."""
    y_px: float
    """Its middle."""
    is_heading: bool = False
    """Whether it names a row."""


@dataclass(slots=True, kw_only=True)
class Sketch:
    """A picture's parts at their places."""

    boxes: dict[str, Box] = field(default_factory=dict)
    """Vertex -> its box."""
    frames: list[Frame] = field(default_factory=list)
    """Nodes."""
    notes: list[Note] = field(default_factory=list)
    """Texts beside rows."""
    bottom_px: float = 0.0
    """Where the nodes end."""
    width_px: int = MAX_WIDTH_PX
    """Width of the sheet."""
    grids: set[str] = field(default_factory=set)
    """Rows with several lines of boxes: their links inside the node are drawn as one."""
