"""How links look in a cluster's picture: hue by kind, width by bandwidth, dashes where a kind has slower ones; or use.

The legend holds every group of links of the cluster, drawn or not, with a sample of its line.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from matplotlib.colors import LinearSegmentedColormap, to_hex

from sim.report.palette import LINK_COLOURS, LINK_OTHER, USE_COLOURS
from sim.results.quantities import format_quantity
from topology.link_groups import LinkGroup

__all__ = ["LinkLook", "link_looks", "top_of_scale", "use_colour"]

_REFERENCE_BYTES_PER_S: Final = 12.5e9
_USE: Final = LinearSegmentedColormap.from_list("use", USE_COLOURS)
_STEPS: Final = (0.05, 0.1, 0.25, 0.5, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkLook:
    """How links that are alike are drawn."""

    colour: str
    """Hue of the kind."""
    width_px: float
    """Width, by bandwidth."""
    dashed: bool
    """Whether its kind has faster ones."""
    label: str
    """What the legend says."""


def link_looks(groups: Sequence[LinkGroup]) -> dict[tuple[str, float], LinkLook]:
    """Return the looks by kind and bandwidth.

    >>> group = LinkGroup(
    ...     kind="nic", count=4, bandwidth_bytes_per_s=50e9, efficiency=0.9, latency_s=7e-07, source=""
    ... )
    >>> link_looks([group])["nic", 50e9].label
    'nic: 4 links of 50 GB/s (90 % reachable)'
    """
    hues, fastest = _hues(groups), dict[str, float]()
    for group in groups:
        fastest[group.kind] = max(fastest.get(group.kind, 0.0), group.bandwidth_bytes_per_s)
    looks: dict[tuple[str, float], LinkLook] = {}
    for group in groups:
        key = group.kind, group.bandwidth_bytes_per_s
        alike = [other for other in groups if (other.kind, other.bandwidth_bytes_per_s) == key]
        count, shares = sum(other.count for other in alike), sorted({other.efficiency for other in alike})
        reached = " to ".join(f"{100 * share:.3g}" for share in dict.fromkeys((shares[0], shares[-1])))
        bandwidth = format_quantity(group.bandwidth_bytes_per_s, "bytes/s")
        looks[key] = LinkLook(
            colour=hues[group.kind],
            width_px=_width_px(group.bandwidth_bytes_per_s),
            dashed=group.bandwidth_bytes_per_s < fastest[group.kind],
            label=f"{group.kind}: {count:,} link{'s' if count > 1 else ''} of {bandwidth} ({reached} % reachable)",
        )
    return looks


def use_colour(share: float, top: float) -> str:
    """Return the colour of a link that is used to a share, on a scale that ends at `top`."""
    return to_hex(_USE(min(1.0, share / top)))


def top_of_scale(shares: Mapping[tuple[str, str], float]) -> float:
    """Return where a scale of use ends: at the next round share.

    >>> top_of_scale({("a", "b"): 0.07}), top_of_scale({})
    (0.1, 0.05)
    """
    most = max(shares.values(), default=0.0)
    return next((step for step in _STEPS if most <= step), 1.0)


def _hues(groups: Sequence[LinkGroup]) -> dict[str, str]:
    kinds = dict.fromkeys(group.kind for group in groups)
    others = [kind for kind in kinds if kind not in LINK_COLOURS]
    return {kind: LINK_COLOURS.get(kind) or LINK_OTHER[others.index(kind) % len(LINK_OTHER)] for kind in kinds}


def _width_px(bandwidth_bytes_per_s: float) -> float:
    """Return the width of a line: 0.65 px more for each doubling."""
    return min(5.0, max(0.8, 1.0 + 0.65 * math.log2(bandwidth_bytes_per_s / _REFERENCE_BYTES_PER_S)))
