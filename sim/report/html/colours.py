"""Colours of the page: those of the pictures, with lighter greys where the page is dark."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from sim.engine.trace import PASS_KINDS
from sim.report.palette import (
    CATEGORY_COLOURS,
    FOREIGN,
    KIND_COLOURS,
    MICROBATCH_HUES,
    PASS_KIND_COLOURS,
    STALLED,
    pass_colours,
)

__all__ = ["account_colours", "palettes"]

_DARK: Final[Mapping[str, str]] = {
    "attention": "#aab6c2",
    "dense_ffn": "#8b98a6",
    "expert": "#d3dae1",
    "other_compute": "#6b7785",
    "optimizer": "#f0f3f6",
    "tp": "#3a9fe0",
    "ep_moves": "#b9833a",
    "imbalance": "#b3638a",
    "O": "#5b6977",
}
"""Kind -> colour on a dark page, where it differs."""

_DARK_FOREIGN: Final = "#a58bd6"
_DARK_IDLE: Final = "#2b323b"


def palettes() -> dict[str, dict[str, Any]]:
    """Return the colours of spans: by kind, of passes by microbatch, and of work for others; light and dark."""
    microbatches = np.arange(2 * len(MICROBATCH_HUES))
    passes = {
        kind: [_hex(colour) for colour in pass_colours(np.full(microbatches.size, kind), microbatches)]
        for kind in PASS_KINDS
    }
    by_kind = dict(KIND_COLOURS) | dict(PASS_KIND_COLOURS)
    return {
        "light": {"kinds": by_kind, "passes": passes, "foreign": FOREIGN},
        "dark": {
            "kinds": by_kind | dict(_DARK),
            "passes": passes | {"O": [_DARK["O"]]},
            "foreign": _DARK_FOREIGN,
        },
    }


def account_colours() -> dict[str, tuple[str, str]]:
    """Return category of the accounts -> colour on a light and on a dark page."""
    light = dict(CATEGORY_COLOURS) | dict(PASS_KIND_COLOURS) | {"stalled": STALLED}
    dark = light | dict(_DARK) | {"foreign": _DARK_FOREIGN, "idle": _DARK_IDLE}
    return {category: (light[category], dark[category]) for category in light}


def _hex(colour: Any) -> str:  # noqa: ANN401  # a row of an array of floats
    return "#" + "".join(f"{round(255 * float(part)):02x}" for part in colour)
