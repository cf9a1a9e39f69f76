"""What links carried, noted while the network runs and added up at its end.

Model
-----
On a link that can saturate, transfers flow one after another or as those of one interval. On the others (see
`Cluster.can_saturate`) transfers of several intervals flow at a time: their time is the union, their load the sum.

Of the links of a class (`link_classes`) the hottest carried the most for what it can carry: bytes / capacity. Its
timeline is the mean load in bins of equal length, from time 0 to the end of the last transfer:

    mean load in a bin = sum over intervals of (load * time in the bin) / length of the bin

A link is *full* where its load is its capacity, but for rounding. Where links are shared max-min fairly a full link is
the bottleneck of those of its transfers that have the highest rate per flow (Bertsekas and Gallager, Data Networks, 2nd
edition 1992, section 6.5.2), so the time in which a link is full is that in which it is the bottleneck of a transfer.

How it is added up, so that it grows with the transfers and not with intervals times links: `link_account`.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.engine.network.link_account import (
    Contents,
    Flowed,
    Intervals,
    Links,
    LinkTimes,
    Pattern,
    Shapes,
    loads_of,
    mean_timeline,
    times_of,
)
from sim.engine.trace import LinkUse
from sim.plan.ops import Transfer
from topology.links import LinkLoad, SharedLinks, SharedLoad

__all__ = ["LinkLog", "TransferLog", "hottest_links", "link_classes"]

FloatArray = NDArray[np.float64]
_MOST_LINKS: Final = 10
_DIGITS: Final = 9
"""Loads that agree to so many are equal: of those the first links are taken."""
_NO_NUMBERS: Final = str.maketrans("", "", "0123456789.")
_BETWEEN_NAMES: Final = "\0"
"""Stands between the names of all links while numbers are taken out of them at once."""
_KEPT: Final = 8
"""Clusters of which the names of links are kept as numbers: runs of a process share them."""
_PIECE: Final = 4096
"""Loads of transfers that are added up at a time."""


_Interval = tuple[int, int, Sequence[Transfer], Sequence[float] | None]
"""Start, end, and transfers that flowed at constant rates; see `LinkLog.add`."""


class TransferLog(ABC):
    """What the links of a network carried, and which transfers have ended."""

    def __init__(self, capacity: FloatArray, names: Sequence[str], link_kinds: Sequence[str]) -> None:
        self._capacity, self._names, self._link_kinds = capacity, tuple(names), tuple(link_kinds)
        self._kinds, self._kind_of = _numbered(self._link_kinds)
        self.clear()

    def clear(self) -> None:
        """Forget what was noted."""
        self._num_ended: dict[Transfer, int] = {}

    def end(self, transfer: Transfer, count: int = 1) -> None:
        """Note that all bytes of a transfer are through, as often as it ended."""
        self._num_ended[transfer] = self._num_ended.get(transfer, 0) + count

    def num_ended(self) -> dict[Transfer, int]:
        """Return how often each transfer has ended."""
        return dict(self._num_ended)

    @abstractmethod
    def summary(self, *, with_timeline: bool = True) -> LinkUse:
        """Return bytes, busy time and (unless left out, for it takes longest) bottlenecks and the timeline of loads."""

    def _use(
        self, num_bytes: FloatArray, busy_ns: NDArray[np.int64], time_ns: NDArray[np.int64], utilisation: FloatArray
    ) -> LinkUse:
        return LinkUse(
            num_bytes=num_bytes,
            busy_s=busy_ns / 1e9,
            time_ns=time_ns,
            utilisation=utilisation,
            kinds=self._kinds,
            names=self._names,
            link_kinds=self._link_kinds,
            capacity_bytes_per_s=self._capacity,
        )


class LinkLog(TransferLog):
    """Intervals in which transfers flowed at constant rates."""

    def __init__(
        self,
        capacity: FloatArray,
        names: Sequence[str],
        link_kinds: Sequence[str],
        can_saturate: NDArray[np.bool_],
        load_of: Callable[[Transfer], LinkLoad] | None = None,
    ) -> None:
        """Note what links of `capacity` [L] carry; `load_of` gives the load of all transfers that one stands for."""
        super().__init__(capacity, names, link_kinds)
        self._can_saturate, self._load_of = can_saturate, load_of

    def clear(self) -> None:
        """Forget what was noted."""
        super().clear()
        self._loads: dict[Transfer, LinkLoad] = {}
        self._intervals: list[_Interval] = []

    def add(
        self, start_ns: int, end_ns: int, transfers: Sequence[Transfer], rates: Sequence[float] | None = None
    ) -> None:
        """Note transfers with their rates per flow in bytes/s.

        By default they had what the busiest link (or their own bound) gives.
        """
        self._intervals.append((start_ns, end_ns, transfers, rates))

    def summary(self, *, with_timeline: bool = True) -> LinkUse:
        """Return bytes, busy time and (unless left out, for it takes longest) bottlenecks and the timeline of loads."""
        flowed, shape_of = self._flowed()
        times = times_of(flowed.shapes, shape_of, flowed.intervals, self._capacity.size)
        no_time, no_use = np.zeros(0, np.int64), np.zeros((0, len(self._kinds)))
        use = self._use(self._bytes(), times.busy_ns, no_time, no_use)
        return self._with_timeline(use, flowed, times) if with_timeline else use

    # ---- private -------------------------------------------------------------------------------------------------

    def _load(self, transfer: Transfer) -> LinkLoad:
        if self._load_of is None:
            return transfer.load
        if transfer not in self._loads:
            self._loads[transfer] = self._load_of(transfer)
        return self._loads[transfer]

    def _alone_rate(self, transfer: Transfer) -> float:
        """Return the rate per flow that the busiest link gives, or its own bound; 0 without links."""
        alone_s = transfer.alone_s(self._capacity)
        return transfer.flow_bytes / alone_s if alone_s else 0.0

    def _bytes(self) -> FloatArray:
        """Return what transfers that have ended put on each link. Shape [L]."""
        total = np.zeros(self._capacity.size)
        ended = [(self._load(transfer), transfer.overhead, count) for transfer, count in self._num_ended.items()]
        if len(ended) > _PIECE:
            self._add_shared(total, ended)
            ended = [one for one in ended if not isinstance(one[0], SharedLoad)]
        for begin in range(0, len(ended), _PIECE):
            some = ended[begin : begin + _PIECE]
            if any(isinstance(load, SharedLoad) for load, _, _ in some):
                for load, over, count in some:  # in the same order of sums, but not all written out at a time
                    total[load.links] += load.num_bytes * count / (1.0 if over is None else over[load.links])
            else:
                amounts = [load.num_bytes * n / (1.0 if over is None else over[load.links]) for load, over, n in some]
                np.add.at(total, np.concatenate([load.links for load, _, _ in some]), np.concatenate(amounts))
        return total

    @staticmethod
    def _add_shared(total: FloatArray, ended: Sequence[tuple[LinkLoad, FloatArray | None, int]]) -> None:
        """Add what shared loads put on links to `total` [L]: those of the same links together, before they spread."""
        sums: dict[tuple[SharedLinks, int], tuple[FloatArray, FloatArray | None]] = {}
        for load, overhead, count in ended:
            if isinstance(load, SharedLoad):
                key = (load.shared, id(overhead))
                if key not in sums:
                    sums[key] = (np.zeros(load.amounts.size), overhead)
                sums[key][0][:] += load.amounts * count
        for (shared, _), (amounts, overhead) in sums.items():
            spread = amounts[shared.group]
            total[shared.links] += spread if overhead is None else spread / overhead[shared.links]

    def _flowed(self) -> tuple[Flowed, NDArray[np.intp]]:
        """Return the intervals by shape and content, and the shape of each [I]."""
        numbers: dict[tuple[tuple[Transfer, ...], tuple[float, ...] | None], int] = {}
        content_of = np.array(
            [
                numbers.setdefault((tuple(transfers), None if rates is None else tuple(rates)), len(numbers))
                for _, _, transfers, rates in self._intervals
            ],
            dtype=np.intp,
        )
        patterns: dict[bytes | SharedLinks, int] = {}
        pattern_of: dict[Transfer, int] = {}
        links: list[Pattern] = []
        shapes: dict[tuple[int, ...], list[int]] = {}
        contents = list(numbers)
        for number, (transfers, _) in enumerate(contents):
            for transfer in transfers:
                if transfer not in pattern_of:
                    load = self._load(transfer)
                    shared = load.shared if isinstance(load, SharedLoad) else None
                    name = load.links.tobytes() if shared is None else shared
                    pattern_of[transfer] = patterns.setdefault(name, len(patterns))
                    if len(patterns) > len(links):
                        links.append(Pattern(load.links, None if shared is None else shared.group))
            shapes.setdefault(tuple([pattern_of[transfer] for transfer in transfers]), []).append(number)
        shape_of_content = np.zeros(len(contents), dtype=np.intp)
        for shape, of_shape in enumerate(shapes.values()):
            shape_of_content[of_shape] = shape
        start, end = (np.array([of[i] for of in self._intervals], dtype=np.int64) for i in (0, 1))
        time_ns, places = np.unique(np.concatenate([start, end]), return_inverse=True)
        flowed = Flowed(
            Shapes([[links[pattern] for pattern in members] for members in shapes], self._kind_of),
            [self._contents([contents[number] for number in of_shape], of_shape) for of_shape in shapes.values()],
            Intervals(time_ns, places[: start.size], places[start.size :], content_of),
        )
        return flowed, shape_of_content[content_of]

    def _contents(
        self, flowed: Sequence[tuple[tuple[Transfer, ...], tuple[float, ...] | None]], numbers: Sequence[int]
    ) -> Contents:
        """Return the contents of one shape, of which transfers `flowed` at rates."""
        members = list(zip(*(transfers for transfers, _ in flowed), strict=True))
        pace = [
            [
                rate / transfer.flow_bytes
                for transfer, rate in zip(
                    transfers, map(self._alone_rate, transfers) if rates is None else rates, strict=True
                )
            ]
            for transfers, rates in flowed
        ]
        return Contents(
            np.array(numbers, dtype=np.intp),
            [[_amounts(self._load(transfer)) for transfer in of_member] for of_member in members],
            np.array(pace, dtype=np.float64).T,
        )

    def _with_timeline(self, use: LinkUse, flowed: Flowed, times: LinkTimes) -> LinkUse:
        """Return what links carried, with what follows from the load of each in every interval."""
        time_ns, start, end, content = flowed.intervals
        hottest = hottest_links(use.num_bytes, self._capacity, link_classes(self._names, self._capacity))
        loads = loads_of(flowed, times, Links(self._capacity, self._kind_of, self._can_saturate), hottest)
        edges_ns, hot_utilisation = mean_timeline(time_ns[start], time_ns[end], loads.hot[content])
        return replace(
            use,
            time_ns=time_ns,
            utilisation=loads.utilisation,
            bottleneck_s=loads.full_ns / 1e9,
            hottest=hottest,
            hot_edges_ns=edges_ns,
            hot_utilisation=hot_utilisation,
        )


def _amounts(load: LinkLoad) -> FloatArray:
    """Return the bytes on each link, or on each group of links that carry the same."""
    return load.amounts if isinstance(load, SharedLoad) else load.num_bytes


@lru_cache(maxsize=_KEPT)
def _numbered(names: tuple[str, ...]) -> tuple[tuple[str, ...], NDArray[np.intp]]:
    """Return the different names in their order, and the number among these of each. Shape [L]."""
    number = {name: position for position, name in enumerate(dict.fromkeys(names))}
    return tuple(number), np.fromiter(map(number.__getitem__, names), dtype=np.intp)


def link_classes(names: Sequence[str], capacity_bytes_per_s: FloatArray) -> tuple[str, ...]:
    """Return the class of each link: links of a class join the same kinds of vertices, and have equal capacities.

    Examples
    --------
    >>> link_classes(["gpu0->nvswitch1", "gpu7->nvswitch0", "nic0.1->leaf0.1"], np.array([25e9, 25e9, 50e9]))
    ('gpu->nvswitch', 'gpu->nvswitch', 'nic->leaf')
    >>> link_classes(["nic0.0->leaf0.0", "nic0.1->leaf0.1"], np.array([25e9, 50e9]))
    ('nic->leaf, 25 GB/s', 'nic->leaf, 50 GB/s')
    """
    return _classes(tuple(names), tuple(capacity_bytes_per_s.tolist()))


@lru_cache(maxsize=_KEPT)
def _classes(names: tuple[str, ...], capacities: tuple[float, ...]) -> tuple[str, ...]:
    ends = _BETWEEN_NAMES.join(names).translate(_NO_NUMBERS).split(_BETWEEN_NAMES)
    if len(ends) != len(names):  # no names, or one that holds the mark
        ends = [name.translate(_NO_NUMBERS) for name in names]
    pairs = list(zip(ends, capacities, strict=True))
    found = dict.fromkeys(pairs)
    num_capacities = Counter(end for end, _ in found)
    class_of = {
        (end, capacity): end if num_capacities[end] == 1 else f"{end}, {capacity / 1e9:.4g} GB/s"
        for end, capacity in found
    }
    return tuple([class_of[pair] for pair in pairs])


def hottest_links(num_bytes: FloatArray, capacity_bytes_per_s: FloatArray, classes: Sequence[str]) -> NDArray[np.intp]:
    """Return the link of each class that carried the most for its capacity, hottest first; no idle ones.

    Shapes [L], [L], [L] -> [H].

    Examples
    --------
    >>> hottest_links(np.array([1.0, 0.0, 6.0, 2.0]), np.array([1.0, 1.0, 3.0, 1.0]), ["a", "a", "b", "b"])
    array([2, 0])
    """
    busy_s = num_bytes / np.where(capacity_bytes_per_s > 0, capacity_bytes_per_s, np.inf)
    most = busy_s.max(initial=0.0)
    order = np.argsort(-np.round(busy_s / most, _DIGITS), kind="stable") if most else np.zeros(0, dtype=np.intp)
    order = order[busy_s[order] > 0]
    _, number = _numbered(tuple(classes))
    _, first = np.unique(number[order], return_index=True)
    return order[np.sort(first)][:_MOST_LINKS]
