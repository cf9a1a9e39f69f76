"""Links: one direction of a cable or lane bundle, and the bytes of transfers on many links.

Model
-----
    t = latency_s + num_bytes / (bandwidth_bytes_per_s * efficiency)                         of one link
    bytes on link l = sum over flows f of share[f, l] * num_bytes[f]                         of many flows

`bandwidth_bytes_per_s` is the datasheet's figure, `efficiency` the fraction that a well-tuned transfer reaches.
Contention is not modelled here; the network shares a link's capacity among active transfers. A flow that is spread over
S equal paths has share 1 / S on the links of each path.

Assumptions
-----------
One efficiency per kind of link and none per message size: short messages look too fast by what protocols cost.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError

if TYPE_CHECKING:
    import networkx as nx

__all__ = [
    "FlowLinks",
    "LinkKind",
    "LinkLoad",
    "LinkMap",
    "SharedLinks",
    "SharedLoad",
    "add_both_ways",
    "scattered_numbers",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkKind:
    """What all links of one kind share."""

    name: str
    """Kind as reports print it, for example `nvlink`."""
    bandwidth_bytes_per_s: float
    """Datasheet bandwidth of one direction."""
    latency_s: float
    """Time to the first byte over this link (alpha)."""
    efficiency: float = 1.0
    """Fraction of the datasheet bandwidth that transfers reach, 0 to 1."""
    source: str
    """Where the figures come from."""

    def __post_init__(self) -> None:
        self._require(self.bandwidth_bytes_per_s > 0, "bandwidth_bytes_per_s", "be finite and above 0")
        self._require(self.latency_s >= 0, "latency_s", "be finite and not negative")
        self._require(0 < self.efficiency <= 1, "efficiency", "lie in (0, 1]")

    def _require(self, ok: bool, field: str, rule: str) -> None:
        value = getattr(self, field)
        if not (ok and math.isfinite(value)):
            raise InvalidValueError(
                subject=f"link {self.name!r}", field=field, rule=rule, value=value, hint="Give a physical figure."
            )

    def transfer_time_s(self, num_bytes: float) -> float:
        """Return the uncontended time to move `num_bytes` over one such link.

        >>> LinkKind(
        ...     name="nvlink", bandwidth_bytes_per_s=450e9, latency_s=1e-6, source="example"
        ... ).transfer_time_s(450_000)
        2e-06
        """
        return self.latency_s + num_bytes / (self.bandwidth_bytes_per_s * self.efficiency)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinkLoad:
    """Bytes that one transfer puts on links: a sparse vector over the cluster's links."""

    links: NDArray[np.intp]
    """Link numbers, ascending, each once. Shape [K]."""
    num_bytes: NDArray[np.float64]
    """Bytes on each of those links, above 0. Shape [K]."""

    def drain_time_s(self, capacity_bytes_per_s: NDArray[np.float64]) -> float:
        """Return the time the busiest link needs when nothing else uses the network.

        Parameters
        ----------
        capacity_bytes_per_s
            Capacity of every link of the cluster. Shape [L].

        Examples
        --------
        >>> load = LinkLoad(links=np.array([0, 2]), num_bytes=np.array([50.0, 30.0]))
        >>> load.drain_time_s(np.array([100.0, 1.0, 10.0]))
        3.0
        """
        if self.links.size == 0:
            return 0.0
        return float((self.num_bytes / capacity_bytes_per_s[self.links]).max())


class SharedLinks:
    """Links that many transfers load, where many links carry the same: the spines that share what leaves a leaf."""

    def __init__(self, links: NDArray[np.intp], group: NDArray[np.intp]) -> None:
        """Take links [K], ascending, and the group of each: links of a group have one capacity and carry the same."""
        self.links, self.group = links, group
        _, self.first = np.unique(group, return_index=True)
        """Place of the first link of each group. Shape [G]."""
        self._parts: dict[bytes, SharedLinks] = {}

    def load(self, amounts: NDArray[np.float64]) -> "SharedLoad":
        """Return the load of `amounts` bytes on each link of each group [G]; groups without any are left out.

        >>> two = SharedLinks(np.array([3, 4, 9]), np.array([0, 0, 1]))
        >>> two.load(np.array([5.0, 2.0])).num_bytes, two.load(np.array([5.0, 0.0])).links
        (array([5., 5., 2.]), array([3, 4]))
        """
        if amounts.all():
            return SharedLoad(self, amounts)
        carries = amounts > 0
        key = carries.tobytes()
        if key not in self._parts:
            is_loaded = carries[self.group]
            number = np.cumsum(carries) - 1
            self._parts[key] = SharedLinks(self.links[is_loaded], number[self.group[is_loaded]])
        return SharedLoad(self._parts[key], amounts[carries])


class SharedLoad(LinkLoad):
    """A load that keeps the bytes of each group of links, and not of each link."""

    __slots__ = ("amounts", "shared")

    shared: SharedLinks
    amounts: NDArray[np.float64]
    """Bytes on each link of each group. Shape [G]."""

    def __init__(self, shared: SharedLinks, amounts: NDArray[np.float64]) -> None:
        object.__setattr__(self, "links", shared.links)
        object.__setattr__(self, "shared", shared)
        object.__setattr__(self, "amounts", amounts)

    @property
    def num_bytes(self) -> NDArray[np.float64]:
        """Bytes on each of `links`, written out. Shape [K]."""
        return self.amounts[self.shared.group]

    def drain_time_s(self, capacity_bytes_per_s: NDArray[np.float64]) -> float:
        """Return the time the busiest link needs when nothing else uses the network."""
        capacity = capacity_bytes_per_s[self.links[self.shared.first]]
        return float((self.amounts / capacity).max(initial=0.0))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FlowLinks:
    """The links of F flows; those of flow f stand at `first[f]` to `first[f + 1]`."""

    first: NDArray[np.intp]
    """Where each flow's links begin, and the end of the last. Shape [F + 1]."""
    links: NDArray[np.intp]
    """Link numbers. Shape [E]."""
    share: NDArray[np.float64]
    """Fraction of the flow's bytes that each of these links carries, above 0. Shape [E]."""

    @property
    def flow_of_entry(self) -> NDArray[np.intp]:
        """Return the flow that each entry belongs to. Shape [E].

        >>> flows = FlowLinks(first=np.array([0, 2, 3]), links=np.array([5, 6, 5]), share=np.ones(3))
        >>> flows.flow_of_entry.tolist()
        [0, 0, 1]
        """
        return np.repeat(np.arange(self.first.size - 1), np.diff(self.first))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinkMap:
    """Which links stand in the place of others when GPUs replace others; links that it does not name stay."""

    links: NDArray[np.intp]
    """Links that are replaced, ascending, each once. Shape [M]."""
    images: NDArray[np.intp]
    """The link in the place of each. Shape [M]."""

    def of(self, links: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the link in the place of each of `links` [K].

        >>> LinkMap(links=np.array([2, 5]), images=np.array([12, 15])).of(np.array([5, 3, 7])).tolist()
        [15, 3, 7]
        """
        place, is_replaced = self.places(links)
        return np.where(is_replaced, self.images[place], links) if self.links.size else links

    def places(self, links: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Return where each of `links` [K] stands among those that are replaced, and whether it does."""
        if not self.links.size:
            return np.zeros(links.size, dtype=np.intp), np.zeros(links.size, dtype=np.bool_)
        place = np.minimum(np.searchsorted(self.links, links), self.links.size - 1)
        return place, self.links[place] == links


def scattered_numbers(num: int) -> NDArray[np.uint64]:
    """Return numbers of which different sums differ, but for a chance in 2**64: SplitMix64's first outputs.

    References
    ----------
    Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
    """
    state = (np.arange(num, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def add_both_ways(
    graph: "nx.DiGraph[str]",
    a: str,
    b: str,
    kind: LinkKind,
    *,
    bandwidth_bytes_per_s: float | None = None,
    hops: int = 1,
) -> None:
    """Link two vertices in both directions; a path that has the choice counts the link as `hops`."""
    longer = {"hops": hops} if hops > 1 else {}
    for start, end in ((a, b), (b, a)):
        graph.add_edge(
            start,
            end,
            kind=kind.name,
            bandwidth_bytes_per_s=bandwidth_bytes_per_s or kind.bandwidth_bytes_per_s,
            efficiency=kind.efficiency,
            latency_s=kind.latency_s,
            **longer,
        )
