"""Colours of charts, timelines and topology pictures, and what a hue and a lightness mean.

Microbatches cycle through seven light hues that stay apart for colour-blind eyes and carry black numbers; neighbours
in the cycle also differ in lightness. Communication has the strong colours, own kernels the greys: waiting stands out
of work.

References
----------
Hues of passes: Paul Tol, Colour Schemes, SRON/EPS/TN/09-002, 2021, "light" scheme. Communication: Okabe and Ito, Color
Universal Design, 2008.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray

from sim.engine.trace import KINDS

__all__ = [
    "AXIS",
    "FAINT",
    "FOREIGN",
    "IDLE",
    "INK",
    "KIND_COLOURS",
    "LINK_COLOURS",
    "LINK_OTHER",
    "MICROBATCH_HUES",
    "OPEN",
    "SERIES_COLOURS",
    "SERIES_MARKERS",
    "STALLED",
    "SUBTLE",
    "USE_COLOURS",
    "VERTEX_COLOURS",
    "VERTEX_OTHER",
    "kind_colours",
    "pass_colours",
]

INK: Final = "#1f2933"
SUBTLE: Final = "#52606d"
FAINT: Final = "#9aa5b1"
AXIS: Final = "#cbd2d9"
IDLE: Final = "#e4e8ec"
OPEN: Final = "#ffffff"
STALLED: Final = "#c2410c"
FOREIGN: Final = "#6d4c9f"

MICROBATCH_HUES: Final = ("#77aadd", "#eebb77", "#44bb99", "#ffaabb", "#99ccee", "#ee8866", "#bbcc55")
"""Hues of microbatches: microbatch m has the hue at m modulo the number of hues."""

KIND_COLOURS: Final[Mapping[str, str]] = {
    "attention": "#3e4c59",
    "dense_ffn": "#616e7c",
    "expert": "#8a97a5",
    "other_compute": "#bcc5ce",
    "optimizer": "#1f2933",
    "tp": "#0072b2",
    "ep_dispatch": "#d55e00",
    "ep_combine": "#e69f00",
    "ep_moves": "#8c510a",
    "pp": "#009e73",
    "dp": "#cc79a7",
    "cp": "#56b4e9",
    "O": "#3e4c59",
}
"""Colour of each kind of kernel and transfer, and of the work after the last pass (O)."""

SERIES_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#3e4c59")
"""Colours of the series of a chart, in turn."""
SERIES_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p")
"""Markers of the series of a chart, in turn."""

LINK_COLOURS: Final[Mapping[str, str]] = {
    "nvlink": "#009e73",
    "xgmi": "#009e73",
    "pcie": "#8a97a5",
    "cpu": "#b08d57",
    "nic": "#0072b2",
    "leaf-spine": "#d55e00",
}
"""Colour of each kind of link in a picture of a cluster."""
LINK_OTHER: Final = ("#cc79a7", "#56b4e9", "#e69f00", "#6d4c9f")
"""Colours of other kinds of link, in turn."""

VERTEX_COLOURS: Final[Mapping[str, str]] = {
    "gpu": "#c9e7dc",
    "nvswitch": "#8fcdb5",
    "nic": "#c3dcee",
    "pcie": "#dfe3e8",
    "cpu": "#e8dcc8",
    "leaf": "#f6d9c4",
    "spine": "#efb993",
}
"""Fill of each kind of vertex in a picture of a cluster; text on it is black."""
VERTEX_OTHER: Final = "#f0d5e4"
"""Fill of other kinds of vertex."""

USE_COLOURS: Final = ("#dfe3e8", "#f2c879", "#e0873c", "#b3401f", "#5c1010")
"""Colours of a link from idle to full, in equal steps: lighter to darker, so that grey print keeps the order."""

_TOWARDS_WHITE: Final[Mapping[str, float]] = {"F": 0.52, "B": 0.0, "W": 0.0}
_GREYED: Final[Mapping[str, float]] = {"F": 0.0, "B": 0.0, "W": 0.62}
_NEIGHBOUR_DARKER: Final = 0.07


def pass_colours(kind: NDArray[np.str_], microbatch: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the colour of passes: hue by microbatch, lightness by kind. Shapes [N], [N] -> [N, 3].

    >>> light, dark = pass_colours(np.array(["F", "B"]), np.array([0, 0]))
    >>> bool((light > dark).all())
    True
    """
    hues = np.array([to_rgb(hue) for hue in MICROBATCH_HUES])
    colours: NDArray[np.float64] = hues[np.maximum(microbatch, 0) % len(hues)]
    colours = colours * np.where(microbatch % 2 == 1, 1 - _NEIGHBOUR_DARKER, 1.0)[:, None]
    white = np.array([_TOWARDS_WHITE.get(name, 0.0) for name in kind.tolist()])[:, None]
    grey = np.array([_GREYED.get(name, 0.0) for name in kind.tolist()])[:, None]
    colours = colours + (1 - colours) * white
    colours = colours + (np.array(to_rgb(FAINT)) - colours) * grey
    colours[kind == "O"] = to_rgb(KIND_COLOURS["O"])
    return colours


def kind_colours(code: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the colour of kernels and transfers by the code of their kind. Shape [N] -> [N, 3]."""
    table = np.array([to_rgb(KIND_COLOURS.get(kind, SUBTLE)) for kind in KINDS])
    colours: NDArray[np.float64] = table[code]
    return colours
