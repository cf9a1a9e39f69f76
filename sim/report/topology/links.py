"""How links look in a cluster's picture: hue by kind, width by bandwidth, dashes for the slower links of a kind.

Where the use of the links in a run is given, read from its `result.json`, the colour of a link shows its use instead.
The legend holds every group of links of the cluster, drawn or not, with a sample of its line.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import networkx as nx
from matplotlib.colors import LinearSegmentedColormap, to_hex

from sim.errors import InvalidValueError
from sim.report.palette import LINK_COLOURS, LINK_OTHER, USE_COLOURS
from sim.results.quantities import format_quantity
from sim.scenario.file_bytes import parse_json, read_input_text
from topology.link_groups import LinkGroup

__all__ = ["LinkLook", "link_looks", "read_link_use", "top_of_scale", "use_colour"]

_REFERENCE_BYTES_PER_S: Final = 12.5e9
_USE: Final = LinearSegmentedColormap.from_list("use", USE_COLOURS)
_STEPS: Final = (0.05, 0.1, 0.25, 0.5, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkLook:
    """How links of a kind and bandwidth are drawn."""

    colour: str
    """Hue of the kind of link."""
    width_px: float
    """Width of the line, by bandwidth."""
    dashed: bool
    """Whether the kind has faster links."""
    label: str
    """Text in the legend."""


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
        similar = [other for other in groups if (other.kind, other.bandwidth_bytes_per_s) == key]
        count, shares = sum(other.count for other in similar), sorted({other.efficiency for other in similar})
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


_MAX_BYTES: Final = 1 << 27
"""The largest result that is read."""
_HINT: Final = "Name the result.json that `moesim run SCENARIO --out DIR` wrote for this cluster."


def read_link_use(path: Path, graph: "nx.DiGraph[str]") -> dict[tuple[str, str], float]:
    """Return the share of its capacity, 0 to 1, that a run used of each link.

    Parameters
    ----------
    path
        Result of `moesim run --json`, or `result.json` of `--out`.
    graph
        The cluster, whose links the result must name.

    Raises
    ------
    InvalidValueError
        The file cannot be read, is not the result of a run, or is the result of a run on another cluster.
    """
    by_name = {f"{a}->{b}": (a, b) for a, b in graph.edges}
    links = _links(path)
    use: dict[tuple[str, str], float] = {}
    for link in links:
        name, share = (link.get("name"), link.get("utilisation")) if isinstance(link, dict) else (None, None)
        if (
            not isinstance(name, str)
            or isinstance(share, bool)
            or not isinstance(share, (int, float))
            or not 0 <= share < 2
        ):
            _refuse(path, "have links with name and utilisation", str(link)[:60])
        if name not in by_name:
            _refuse(path, "have links that the scenario's cluster has", name[:60])
        use[by_name[name]] = float(share)
    missing = [name for name, link in by_name.items() if link not in use]
    if missing:
        _refuse(path, f"have all {len(by_name):,} links of the scenario's cluster", f"no {missing[0]}")
    return use


def _links(path: Path) -> list[Any]:
    """Return the list of links of a result."""
    try:
        data = parse_json(read_input_text(path, _MAX_BYTES, field="--load", hint=_HINT))
    except InvalidValueError:
        raise
    except ValueError as error:
        _refuse(path, "be the JSON of a run", str(error))
    links = data.get("links") if isinstance(data, Mapping) else None
    if not isinstance(links, list):
        _refuse(path, "be the JSON of a run", "JSON without a list `links`")
    return links


def _refuse(path: Path, rule: str, value: str) -> NoReturn:
    raise InvalidValueError(file=str(path), field="--load", rule=rule, value=value, hint=_HINT) from None
