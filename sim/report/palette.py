"""Colours of charts, timelines and topology pictures, and what a hue and a lightness mean.

Microbatches cycle through seven light hues that stay apart for colour-blind eyes and carry black numbers; neighbours
in the cycle also differ in lightness. Communication has the strong colours, own kernels muted ones: waiting stands out
of work. The kinds of kernels, and the kinds of transfers, are steps of lightness of their own, so that grey print keeps
them apart.

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
    "CATEGORY_COLOURS",
    "FAINT",
    "FOREIGN",
    "IDLE",
    "INK",
    "KIND_COLOURS",
    "LINK_COLOURS",
    "LINK_OTHER",
    "MICROBATCH_HUES",
    "OPEN",
    "PASS_KIND_COLOURS",
    "SERIES_COLOURS",
    "SERIES_MARKERS",
    "STALLED",
    "SUBTLE",
    "USE_COLOURS",
    "VERTEX_COLOURS",
    "VERTEX_OTHER",
    "grey_of",
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
FOREIGN: Final = "#b298d0"

MICROBATCH_HUES: Final = ("#77aadd", "#eebb77", "#44bb99", "#ffaabb", "#99ccee", "#ee8866", "#bbcc55")
"""Hues of microbatches: microbatch m has the hue at m modulo the number of hues."""

KIND_COLOURS: Final[Mapping[str, str]] = {
    "attention": "#2f4668",
    "dense_ffn": "#5b7b7a",
    "expert": "#a39a84",
    "other_compute": "#cdd0d4",
    "optimizer": "#14171a",
    "tp": "#005fa3",
    "ep_dispatch": "#c84e00",
    "ep_combine": "#eba91a",
    "ep_moves": "#6b3a05",
    "pp": "#009e73",
    "dp": "#d285b0",
    "cp": "#9fd4f5",
    "O": "#14171a",
}
"""Colour of each kind of kernel and transfer, and of the work after the last pass (O)."""

CATEGORY_COLOURS: Final[Mapping[str, str]] = {
    **{kind: colour for kind, colour in KIND_COLOURS.items() if kind != "O"},
    "imbalance": "#5b1232",
    "contention": "#b5405c",
    "latency": "#f2b8b0",
    "stalled": OPEN,
    "foreign": FOREIGN,
    "idle": IDLE,
}
"""Colour of each category of the accounts of time; `stalled` is hatched in the colour STALLED."""

PASS_KIND_COLOURS: Final[Mapping[str, str]] = {"F": "#77aadd", "B": "#ee8866", "W": "#bbcc55", "O": "#3e4c59"}
"""Colour of each kind of pass where the hue is the kind and not the microbatch; of Tol's light scheme."""

SERIES_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#3e4c59")
"""Colours of the series of a chart, in turn."""
SERIES_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p")
"""Markers of the series of a chart, in turn."""

LINK_COLOURS: Final[Mapping[str, str]] = {
    "nvlink": "#2fb58c",
    "xgmi": "#2fb58c",
    "pcie": "#b6c0ca",
    "cpu": "#4a3415",
    "nic": "#005fa3",
    "leaf-spine": "#d55e00",
}
"""Colour of each kind of link in a picture of a cluster: steps of lightness, for grey print."""
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
_DARKER: Final[Mapping[str, float]] = {"F": 0.0, "B": 0.0, "W": 0.2}
_NEIGHBOUR_DARKER: Final = 0.07


def pass_colours(
    kind: NDArray[np.str_], microbatch: NDArray[np.int64], *, by: str = "microbatch"
) -> NDArray[np.float64]:
    """Return the colour of passes: hue by microbatch, lightness by kind; or hue by kind. Shapes [N], [N] -> [N, 3].

    >>> light, dark = pass_colours(np.array(["F", "B"]), np.array([0, 0]))
    >>> bool((light > dark).all())
    True
    """
    if by == "kind":
        by_kind = [to_rgb(PASS_KIND_COLOURS[name]) for name in kind.tolist()]
        return np.array(by_kind, dtype=np.float64).reshape(-1, 3)
    hues = np.array([to_rgb(hue) for hue in MICROBATCH_HUES])
    colours: NDArray[np.float64] = hues[np.maximum(microbatch, 0) % len(hues)]
    colours = colours * np.where(microbatch % 2 == 1, 1 - _NEIGHBOUR_DARKER, 1.0)[:, None]
    white = np.array([_TOWARDS_WHITE.get(name, 0.0) for name in kind.tolist()])[:, None]
    grey = np.array([_GREYED.get(name, 0.0) for name in kind.tolist()])[:, None]
    colours = colours + (1 - colours) * white
    colours = colours + (np.array(to_rgb(FAINT)) - colours) * grey
    colours = colours * (1 - np.array([_DARKER.get(name, 0.0) for name in kind.tolist()])[:, None])
    colours[kind == "O"] = to_rgb(KIND_COLOURS["O"])
    return colours


def grey_of(colour: str) -> float:
    """Return the lightness L* of a colour in grey print, 0 (black) to 100 (CIE 1976).

    >>> round(grey_of("#000000")), round(grey_of("#777777")), round(grey_of("#ffffff"))
    (0, 50, 100)
    """
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return 116 * luminance ** (1 / 3) - 16 if luminance > 0.008856 else 903.3 * luminance


def kind_colours(code: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the colour of kernels and transfers by the code of their kind. Shape [N] -> [N, 3]."""
    table = np.array([to_rgb(KIND_COLOURS.get(kind, SUBTLE)) for kind in KINDS])
    colours: NDArray[np.float64] = table[code]
    return colours
