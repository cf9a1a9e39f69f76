"""What links carried, noted while the network runs and added up at its end.

Model
-----
On a link that can saturate, transfers flow one after another or as those of one interval. On the others (see
`Cluster.can_saturate`) transfers of several intervals flow at a time: their time is the union, their load the sum.

The hottest links carried the most for what they can carry: bytes / capacity. Their timeline is the mean load in bins of
equal length, from time 0 to the end of the last transfer:

    mean load in a bin = sum over intervals of (load * time in the bin) / length of the bin

A link is *full* where its load is its capacity, but for rounding. Where links are shared max-min fairly a full link is
the bottleneck of those of its transfers that have the highest rate per flow (Bertsekas and Gallager, Data Networks, 2nd
edition 1992, section 6.5.2), so the time in which a link is full is that in which it is the bottleneck of a transfer.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import reduce
from operator import or_
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.engine.trace import LinkUse
from sim.plan.ops import Transfer, mask_of
from topology.links import LinkLoad

__all__ = ["LinkLog", "hottest_links", "mean_timeline"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
_FULL: Final = 1 - 1e-6
"""Load from which on a link is full: rates are solved to about 1e-12."""
_MOST_LINKS: Final = 10
_MOST_BINS: Final = 240
_DIGITS: Final = 9
"""Loads that agree to so many are equal: of those the first links are taken."""


class _Interval(NamedTuple):
    """Transfers that flowed at constant rates."""

    start_ns: int
    end_ns: int
    transfers: Sequence[Transfer]
    rates: Sequence[float] | None
    """Of each, bytes/s per flow; None: what the busiest link (or its own bound) gives."""


class _Sorted(NamedTuple):
    """Links by kind."""

    links: NDArray[np.intp]
    """Link numbers. Shape [K]."""
    kinds: NDArray[np.intp]
    """Kinds among them, ascending. Shape [U]."""
    first: NDArray[np.intp]
    """Where the links of each of these begin. Shape [U]."""


class _Use(NamedTuple):
    """Load of links, 0 to 1."""

    busiest: FloatArray
    """Of each kind's busiest link that can saturate. Shape [kinds]."""
    places: NDArray[np.intp]
    """Links that cannot saturate and carry something, by their places among those by kind. Shape [W]."""
    use: FloatArray
    """Of each. Shape [W]."""
    full: bytes
    """Which links are full, of those that can be: a byte each, in the order of `_full`."""
    hot: FloatArray
    """Of the hottest links of the run. Shape [H]."""


_Change = tuple[int, list[int], list[int]]
"""A time, and the numbers of the intervals that end and that begin then."""


class LinkLog:
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
        self._capacity, self._names, self._link_kinds = capacity, tuple(names), tuple(link_kinds)
        self._kinds = tuple(dict.fromkeys(link_kinds))
        self._kind_of = np.array([self._kinds.index(kind) for kind in link_kinds], dtype=np.intp)
        self._can_saturate, self._saturable = can_saturate, mask_of(np.flatnonzero(can_saturate))
        self._full, self._wide = (
            _by_kind(np.flatnonzero(is_member), self._kind_of) for is_member in (can_saturate, ~can_saturate)
        )
        self._load_of = load_of
        self.clear()

    def clear(self) -> None:
        """Forget what was noted."""
        self._loads: dict[Transfer, LinkLoad] = {}
        self._masks: dict[Transfer, int] = {}
        self._intervals: list[_Interval] = []
        self._num_ended: dict[Transfer, int] = {}
        self._uses: dict[Transfer, _Use] = {}
        self._hottest = np.zeros(0, dtype=np.intp)

    def add(
        self, start_ns: int, end_ns: int, transfers: Sequence[Transfer], rates: Sequence[float] | None = None
    ) -> None:
        """Note transfers with their rates per flow in bytes/s; by default they had their links for themselves."""
        self._intervals.append(_Interval(start_ns, end_ns, transfers, rates))

    def end(self, transfer: Transfer, count: int = 1) -> None:
        """Note that all bytes of a transfer are through, as often as it ended."""
        self._num_ended[transfer] = self._num_ended.get(transfer, 0) + count

    def num_ended(self) -> dict[Transfer, int]:
        """Return how often each transfer has ended."""
        return dict(self._num_ended)

    def summary(self, *, with_timeline: bool = True) -> LinkUse:
        """Return bytes, busy time and (unless left out, for it takes longest) bottlenecks and the timeline of loads."""
        use = LinkUse(
            num_bytes=self._bytes(),
            busy_s=self._busy_s(),
            time_ns=np.zeros(0, np.int64),
            utilisation=np.zeros((0, len(self._kinds))),
            kinds=self._kinds,
            names=self._names,
            link_kinds=self._link_kinds,
            capacity_bytes_per_s=self._capacity,
        )
        return self._with_timeline(use) if with_timeline else use

    # ---- private -------------------------------------------------------------------------------------------------

    def _load(self, transfer: Transfer) -> LinkLoad:
        if self._load_of is None:
            return transfer.load
        if transfer not in self._loads:
            self._loads[transfer] = self._load_of(transfer)
        return self._loads[transfer]

    def _mask(self, transfer: Transfer) -> int:
        if self._load_of is None:
            return transfer.mask
        if transfer not in self._masks:
            self._masks[transfer] = mask_of(self._load(transfer).links)
        return self._masks[transfer]

    def _alone_rate(self, transfer: Transfer) -> float:
        """Return the rate per flow that the busiest link gives, or its own bound; 0 without links."""
        alone_s = transfer.alone_s(self._capacity)
        return transfer.flow_bytes / alone_s if alone_s else 0.0

    def _bytes(self) -> FloatArray:
        """Return what transfers that have ended put on each link. Shape [L]."""
        ended = [(self._load(transfer), transfer.overhead, count) for transfer, count in self._num_ended.items()]
        if not ended:
            return np.zeros(self._capacity.size)
        links = np.concatenate([load.links for load, _, _ in ended])
        amounts = np.concatenate(
            [load.num_bytes * count / (1.0 if over is None else over[load.links]) for load, over, count in ended]
        )
        return np.bincount(links, weights=amounts, minlength=self._capacity.size).astype(np.float64)

    def _busy_s(self) -> FloatArray:
        """Return the time in which each link carried anything. Shape [L]."""
        busy_ns: Counter[int] = Counter()
        masks = [reduce(or_, map(self._mask, interval.transfers), 0) for interval in self._intervals]
        for interval, mask in zip(self._intervals, masks, strict=True):
            busy_ns[mask & self._saturable] += interval.end_ns - interval.start_ns
        wide = [mask & ~self._saturable for mask in masks]
        flowing: Counter[int] = Counter()  # intervals that use these links now
        union, last_ns = 0, 0
        for at_ns, ended, begun in self._changes() if any(wide) else ():
            if union:
                busy_ns[union] += at_ns - last_ns
            last_ns = at_ns
            for number in begun:
                flowing[wide[number]] += 1
            for number in ended:
                flowing[wide[number]] -= 1
                if not flowing[wide[number]]:
                    del flowing[wide[number]]
            union = reduce(or_, flowing, 0)
        size = self._capacity.size
        total = np.zeros(size, dtype=np.int64)
        for mask, time_ns in busy_ns.items():
            bits = np.frombuffer(mask.to_bytes(-(-size // 8), "little"), dtype=np.uint8)
            total += np.unpackbits(bits, count=size, bitorder="little").astype(np.int64) * time_ns
        return total / 1e9

    def _with_timeline(self, use: LinkUse) -> LinkUse:
        """Return what links carried, with what follows from the load of each in every interval."""
        self._uses.clear()
        self._hottest = hottest_links(use.num_bytes, self._capacity)
        uses = [self._use_of(interval) for interval in self._intervals]
        start, end = (np.array([interval[i] for interval in self._intervals], dtype=np.int64) for i in (0, 1))
        time_ns, utilisation = self._timeline(uses, start, end)
        hot = np.concatenate([use_.hot for use_ in uses]) if uses else np.zeros(0)
        edges_ns, hot_utilisation = mean_timeline(start, end, hot.reshape(len(uses), self._hottest.size))
        return replace(
            use,
            time_ns=time_ns,
            utilisation=utilisation,
            bottleneck_s=self._bottleneck_s(uses, end - start),
            hottest=self._hottest,
            hot_edges_ns=edges_ns,
            hot_utilisation=hot_utilisation,
        )

    def _bottleneck_s(self, uses: Sequence[_Use], time_ns: NDArray[np.int64]) -> FloatArray:
        """Return the time in which each link was full. Shapes [I], [I] -> [L]."""
        full_ns: Counter[bytes] = Counter()
        for use, elapsed_ns in zip(uses, time_ns.tolist(), strict=True):
            full_ns[use.full] += elapsed_ns
        total_ns = np.zeros(self._capacity.size)
        for full, elapsed_ns in full_ns.items():
            total_ns[self._full.links] += np.frombuffer(full, dtype=np.bool_) * elapsed_ns
        return total_ns / 1e9

    def _timeline(
        self, uses: Sequence[_Use], start: NDArray[np.int64], end: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], FloatArray]:
        """Return the times at which loads changed, and the load of the busiest link of each kind from then on."""
        changes = list(self._changes())
        times = np.array([at_ns for at_ns, _, _ in changes], dtype=np.int64)
        use = np.zeros((times.size, len(self._kinds)))
        if uses:
            full = np.concatenate([interval.busiest for interval in uses]).reshape(len(uses), -1)
            _raise_ranges(use, np.searchsorted(times, start), np.searchsorted(times, end), full)
        if self._wide.links.size:
            self._add_wide(use, changes, uses)
        return times, use

    def _add_wide(self, use: FloatArray, changes: Sequence[_Change], uses: Sequence[_Use]) -> None:
        """Raise `use` [changes, kinds] to the load of links that several intervals use at a time."""
        sums, num_flowing = np.zeros(self._wide.links.size), 0
        for here, (_, ended, begun) in zip(use, changes, strict=True):
            for number in ended:
                sums[uses[number].places] -= uses[number].use
            for number in begun:
                sums[uses[number].places] += uses[number].use
            num_flowing += len(begun) - len(ended)
            if not num_flowing:
                sums[:] = 0.0  # to the last bit
            most = np.maximum.reduceat(sums, self._wide.first)
            here[self._wide.kinds] = np.maximum(here[self._wide.kinds], most)

    def _changes(self) -> Iterator[_Change]:
        """Yield the times at which intervals ended or began, with their numbers."""
        at: dict[int, tuple[list[int], list[int]]] = {}
        for number, interval in enumerate(self._intervals):
            at.setdefault(interval.start_ns, ([], []))[1].append(number)
            at.setdefault(interval.end_ns, ([], []))[0].append(number)
        for at_ns in sorted(at):
            yield (at_ns, *at[at_ns])

    def _use_of(self, interval: _Interval) -> _Use:
        """Return what an interval makes of the links."""
        if interval.rates is None and len(interval.transfers) == 1:
            transfer = interval.transfers[0]
            if transfer not in self._uses:
                self._uses[transfer] = self._use([transfer], [self._alone_rate(transfer)])
            return self._uses[transfer]
        rates = map(self._alone_rate, interval.transfers) if interval.rates is None else interval.rates
        return self._use(interval.transfers, list(rates))

    def _use(self, transfers: Sequence[Transfer], rates: Sequence[float]) -> _Use:
        use = np.zeros(self._capacity.size)
        for transfer, rate in zip(transfers, rates, strict=True):
            load = self._load(transfer)
            use[load.links] += load.num_bytes * (rate / transfer.flow_bytes) / self._capacity[load.links]
        busiest = np.zeros(len(self._kinds))
        narrow = use[self._full.links]
        busiest[self._full.kinds] = np.maximum.reduceat(narrow, self._full.first)
        wide = use[self._wide.links]
        places = wide.nonzero()[0]
        return _Use(busiest, places, wide[places], (narrow >= _FULL).tobytes(), use[self._hottest])


def hottest_links(num_bytes: FloatArray, capacity_bytes_per_s: FloatArray) -> NDArray[np.intp]:
    """Return the links that carried the most for their capacity, hottest first; idle ones are none. Shapes [L] -> [H].

    Examples
    --------
    >>> hottest_links(np.array([1.0, 0.0, 6.0]), np.array([1.0, 1.0, 3.0]))
    array([2, 0])
    """
    busy_s = num_bytes / np.where(capacity_bytes_per_s > 0, capacity_bytes_per_s, np.inf)
    most = busy_s.max(initial=0.0)
    order = np.argsort(-np.round(busy_s / most, _DIGITS), kind="stable") if most else np.zeros(0, dtype=np.intp)
    first = order[:_MOST_LINKS]
    return first[busy_s[first] > 0]


def mean_timeline(start_ns: IntArray, end_ns: IntArray, load: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return the edges of bins and the mean load in each. Shapes [I], [I], [I, H] -> [B + 1], [B, H].

    Parameters
    ----------
    start_ns, end_ns
        When intervals began and ended.
    load
        Load of each link in each interval, 0 to 1.

    Examples
    --------
    >>> edges, means = mean_timeline(np.array([0, 2]), np.array([2, 4]), np.array([[1.0], [0.5]]))
    >>> edges, means.ravel()
    (array([0, 1, 2, 3, 4]), array([1. , 1. , 0.5, 0.5]))
    """
    last_ns = int(end_ns.max(initial=0))
    edges = np.unique(np.linspace(0, last_ns, min(_MOST_BINS, last_ns) + 1).astype(np.int64))
    times = np.concatenate([start_ns, end_ns])
    order = np.argsort(times, kind="stable")
    times = np.concatenate([[0], times[order]])
    load_from = np.cumsum(np.concatenate([load, -load])[order], axis=0)[:-1] if load.size else load
    carried = np.zeros((times.size, load.shape[1]))  # since time 0, in ns of full load
    if load.size:
        carried[2:] = np.cumsum(load_from * np.diff(times[1:])[:, None], axis=0)
    at_edges = np.stack([np.interp(edges, times, column) for column in carried.T], axis=1) if load.size else carried
    if not load.size or edges.size < 2:
        return edges, np.zeros((max(edges.size - 1, 0), load.shape[1]))
    return edges, np.clip(np.diff(at_edges, axis=0) / np.diff(edges)[:, None], 0.0, 1.0)


def _raise_ranges(rows: FloatArray, first: NDArray[np.intp], last: NDArray[np.intp], values: FloatArray) -> None:
    """Raise rows [T, K] `first[i]` to before `last[i]` to `values[i]` [K], for all i.

    A range is two blocks of 2**k rows, which may overlap; blocks are handed down to halves of them, for all k.
    """
    level = np.frexp(last - first)[1] - 1
    for k in range(int(level.max()), -1, -1):
        is_level = level == k
        for column, value in zip(rows.T, values[is_level].T, strict=True):
            np.maximum.at(column, first[is_level], value)
            np.maximum.at(column, last[is_level] - 2**k, value)
        if k > 0:
            half = 2 ** (k - 1)
            rows[half:] = np.maximum(rows[half:], rows[:-half])  # numpy makes the maximum before it writes


def _by_kind(links: NDArray[np.intp], kind_of: NDArray[np.intp]) -> _Sorted:
    """Return links by kind."""
    by_kind = links[np.argsort(kind_of[links], kind="stable")]
    return _Sorted(by_kind, *np.unique(kind_of[by_kind], return_index=True))
