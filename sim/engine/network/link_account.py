"""Time and load of links, added up from the intervals in which transfers flowed.

Model
-----
An interval has a start, an end, and what flowed in it at what rates: its *content*. Many intervals have the same
content. What depends on the links alone is worked out once for each set of transfers over the same links (a *shape*),
what depends on the bytes once for each content, as rows of one matrix::

    load on a link      sum over the transfers of a content of bytes * (rate per flow / bytes of a flow) / capacity
    time of a link      union of the intervals of all shapes that use it
    load over time      where intervals of a link follow each other, that of the one that flows; else their sum

Links that the same shapes use are *alike*: they carry something at the same times, which are worked out once. Of links
that several intervals use at a time those that are alike in the bits of all their loads are added up once. Alike is
what has the same sum of scattered 64-bit numbers, one for each shape or content: that two links have it by chance is
less likely than 1 in 10^9 in a cluster of a hundred thousand.

Time and memory grow with the transfers and the links of each, and with the links of the cluster; what is large is done
in pieces.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from topology.links import scattered_numbers

__all__ = [
    "Contents",
    "Flowed",
    "Intervals",
    "LinkTimes",
    "Links",
    "Pattern",
    "Shapes",
    "loads_of",
    "mean_timeline",
    "times_of",
]

IntArray = NDArray[np.int64]
IndexArray = NDArray[np.intp]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
BitArray = NDArray[np.uint64]
_PIECE: Final = 1 << 20
"""Cells of a matrix that are worked on at a time."""
_FULL: Final = 1 - 1e-6
"""Load from which on a link is full: rates are solved to about 1e-12."""
_MOST_BINS: Final = 240


class Contents(NamedTuple):
    """What flowed, of one shape: rows for each content."""

    numbers: IndexArray
    """Number of each content. Shape [N]."""
    num_bytes: list[list[FloatArray]]
    """Bytes on the links (or groups of links) of each of the M transfers, in each content. M lists of N arrays [K]."""
    pace: FloatArray
    """Rate per flow over the bytes of a flow, in 1/s. Shape [M, N]."""


class Pattern(NamedTuple):
    """The links of a transfer, ascending, and the group of each, whose bytes it carries; None: each its own. [K]."""

    links: IndexArray
    group: IndexArray | None


class Shapes:
    """Sets of transfers over the same links, and which intervals are of which."""

    def __init__(self, members_of_shapes: Sequence[Sequence[Pattern]], kind_of: IndexArray) -> None:
        """Take the links of each transfer of each shape, and the kind of each link of the cluster [L]."""
        self.links: list[IndexArray] = []
        """Links of each shape, by kind."""
        self.sources: list[list[tuple[IndexArray, IndexArray]]] = []
        """Of each shape and transfer: places in `links`, and where the bytes for these are among the transfer's."""
        few_kinds = kind_of.astype(np.uint16)  # which numpy sorts without comparing them
        for members in members_of_shapes:
            is_single = len(members) == 1
            union = (
                members[0].links
                if is_single
                else _different(np.concatenate([of.links for of in members]), kind_of.size)
            )
            by_kind = np.argsort(few_kinds[union], kind="stable")
            place = np.empty(union.size, dtype=np.intp)
            place[by_kind] = np.arange(union.size)
            self.links.append(union[by_kind])
            self.sources.append(
                [
                    (
                        place if is_single else place[np.searchsorted(union, links)],
                        np.arange(links.size) if group is None else group,
                    )
                    for links, group in members
                ]
            )

    def __len__(self) -> int:
        return len(self.links)

    def columns(self, number: int, *keys: IndexArray | BoolArray) -> tuple[IndexArray, IndexArray]:
        """Return the places of links that differ in bytes or in `keys`, and which of these each link is like.

        `keys` are of all links of the cluster, 0 or more, the first the most significant. Shapes [C], [U].
        """
        links, members = self.links[number], self.sources[number]
        if len(members) > 1 or members[0][1].size == 0 or int(members[0][1][-1]) + 1 == links.size:
            return np.arange(links.size), np.arange(links.size)
        source = np.empty(links.size, dtype=np.intp)
        source[members[0][0]] = members[0][1]
        name = np.zeros(links.size, dtype=np.int64)
        for key in (*(of[links] for of in keys), source):
            name = name * (int(key.max()) + 1) + key
        _, first, column_of = np.unique(name, return_index=True, return_inverse=True)
        return first, column_of


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkTimes:
    """When links carried anything."""

    busy_ns: IntArray
    """Time in which each link did. Shape [L]."""
    overlaps: BoolArray
    """Whether several intervals of a link flowed at a time. Shape [L]."""
    num_intervals: IntArray
    """Intervals of each link. Shape [L]."""


class Intervals(NamedTuple):
    """When what flowed."""

    time_ns: IntArray
    """Times at which intervals start or end, ascending, each once. Shape [C]."""
    start: IndexArray
    """Start of each interval, by its place among the times. Shape [I]."""
    end: IndexArray
    """End of each. Shape [I]."""
    content: IndexArray
    """Number of the content of each. Shape [I]."""


class Flowed(NamedTuple):
    """All that flowed."""

    shapes: Shapes
    contents: Sequence[Contents]
    """Of each shape."""
    intervals: Intervals


class Links(NamedTuple):
    """What is known of the links of a cluster."""

    capacity: FloatArray
    """In bytes/s. Shape [L]."""
    kind_of: IndexArray
    """Number of the kind of each. Shape [L]."""
    can_saturate: BoolArray
    """Which can be full. Shape [L]."""


def times_of(shapes: Shapes, shape_of: IndexArray, intervals: Intervals, num_links: int) -> LinkTimes:
    """Return when each of `num_links` links carried anything; `shape_of` [I] is the shape of each interval."""
    alike = np.zeros(num_links, dtype=np.uint64)
    for links, scattered in zip(shapes.links, scattered_numbers(len(shapes)), strict=True):
        alike[links] += scattered
    _, group_of = np.unique(alike, return_inverse=True)
    num_groups = int(group_of.max(initial=-1)) + 1
    used = [_different(group_of[links], num_groups) for links in shapes.links]
    group = np.concatenate([*used, np.zeros(0, dtype=np.intp)]).astype(np.intp)
    shape = np.repeat(np.arange(len(shapes)), [groups.size for groups in used])
    by_group = np.argsort(group, kind="stable")
    by_shape = np.lexsort((intervals.start, shape_of))
    first = np.searchsorted(shape_of[by_shape], np.arange(len(shapes) + 1))
    num = np.diff(first)
    busy_ns, overlaps = np.zeros(num_groups, dtype=np.int64), np.zeros(num_groups, dtype=np.bool_)
    counts = np.bincount(group, weights=num[shape], minlength=num_groups).astype(np.int64)
    for some in _pieces(num[shape[by_group]], group[by_group]):
        pairs = by_group[some]
        of_pairs = by_shape[_ranges(first[shape[pairs]], num[shape[pairs]])]
        _add_unions(busy_ns, overlaps, np.repeat(group[pairs], num[shape[pairs]]), intervals, of_pairs)
    return LinkTimes(busy_ns=busy_ns[group_of], overlaps=overlaps[group_of], num_intervals=counts[group_of])


class _Loads(NamedTuple):
    """What contents make of the links."""

    utilisation: FloatArray
    """Load of the busiest link of each kind from then on, 0 to 1. Shape [C, kinds]."""
    full_ns: FloatArray
    """Time in which each link was full. Shape [L]."""
    hot: FloatArray
    """Load of the hottest links in each content. Shape [contents, H]."""


def loads_of(flowed: Flowed, times: LinkTimes, of_links: Links, hottest: IndexArray) -> _Loads:
    """Return the loads of links over time.

    Parameters
    ----------
    flowed, times
        What flowed, and when links carried anything.
    of_links
        The links of the cluster.
    hottest
        Links whose load is wanted in each content. Shape [H].
    """
    shapes, contents, intervals = flowed
    capacity, kind_of, can_saturate = of_links
    time_ns, low, high, content_of = intervals
    num_contents, num_kinds = int(content_of.max(initial=-1)) + 1, int(kind_of.max(initial=-1)) + 1
    flowed_ns = np.bincount(content_of, weights=time_ns[high] - time_ns[low], minlength=num_contents)
    scattered = scattered_numbers(num_contents)
    busiest, hot = np.zeros((num_contents, num_kinds)), np.zeros((num_contents, hottest.size))
    full_ns, alike = np.zeros(capacity.size), np.zeros(capacity.size, dtype=np.uint64)
    capacity_rank = np.unique(capacity, return_inverse=True)[1]
    hot_place = np.full(capacity.size, -1)
    hot_place[hottest] = np.arange(hottest.size)
    for number, of_shape in enumerate(contents):
        links = shapes.links[number]
        places, column_of = shapes.columns(number, kind_of, times.overlaps, capacity_rank)
        is_hot = hot_place[links] >= 0
        single = ~times.overlaps[links[places]]
        single_kinds, first = np.unique(kind_of[links[places]][single], return_index=True)
        for rows, load in _matrices(shapes, number, of_shape, capacity, places):
            if first.size:
                busiest[rows[:, None], single_kinds] = np.maximum.reduceat(load[:, single], first, axis=1)
            full_ns[links] += (flowed_ns[rows] @ (load >= _FULL))[column_of]
            hot[rows[:, None], hot_place[links[is_hot]]] = load[:, column_of[is_hot]]
            if not single.all():
                sums = (load.view(np.uint64) * scattered[rows, None]).sum(axis=0)
                alike[links] += np.where(times.overlaps[links], sums[column_of], np.uint64(0))
    utilisation = np.zeros((time_ns.size, num_kinds))
    for kind in range(num_kinds):
        load = busiest[content_of, kind]
        _raise_ranges(utilisation[:, kind], low[load > 0], high[load > 0], load[load > 0])
    for link_kind, sums in _sums(flowed, times, of_links, alike):
        _raise_ranges(utilisation[:, link_kind], *sums)
    return _Loads(utilisation, np.where(can_saturate, full_ns, 0.0), hot)


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
    means = np.zeros((max(edges.size - 1, 0), load.shape[1]))
    for mean, of_link in zip(means.T, load.T, strict=True):
        flows = of_link > 0
        if flows.any() and edges.size > 1:
            carried = np.interp(edges, *_carried(start_ns[flows], end_ns[flows], of_link[flows]))
            mean[:] = np.clip(np.diff(carried) / np.diff(edges), 0.0, 1.0)
    return edges, means


# ---- private -----------------------------------------------------------------------------------------------------


def _different(numbers: IndexArray, num: int) -> IndexArray:
    """Return the different ones of numbers below `num`, ascending."""
    is_there = np.zeros(num, dtype=np.bool_)
    is_there[numbers] = True
    return np.flatnonzero(is_there)


def _ranges(first: IndexArray, num: IndexArray) -> IndexArray:
    """Return `num[i]` numbers from `first[i]` on, of all i one after another.

    >>> _ranges(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    before = np.cumsum(num) - num
    return np.repeat(first - before, num) + np.arange(int(num.sum()))


def _pieces(weights: IntArray, group: IndexArray) -> Iterator[slice]:
    """Yield slices of whole groups (equal neighbours), each of about `_PIECE` weights."""
    ends = np.flatnonzero(np.append(np.diff(group) != 0, True)) + 1 if group.size else np.zeros(0, dtype=np.intp)
    piece = np.cumsum(weights)[ends - 1] // _PIECE
    last = ends[np.append(np.diff(piece) != 0, True)] if ends.size else ends
    for begin, end in zip(np.append(0, last)[:-1].tolist(), last.tolist(), strict=True):
        yield slice(begin, end)


def _add_unions(
    busy_ns: IntArray, overlaps: BoolArray, group: IndexArray, intervals: Intervals, numbers: IndexArray
) -> None:
    """Add the time in which any interval of a group flowed, and tell whether several did at a time.

    Interval `numbers` [P] belong to `group` [P], of `busy_ns` and `overlaps` [groups].
    """
    # intervals of a shape come in the order of their starts: what is to be sorted are a few runs, which are merged
    order = np.argsort(group * intervals.time_ns.size + intervals.start[numbers], kind="stable")
    group, numbers = group[order], numbers[order]
    apart = np.cumsum(np.diff(group, prepend=group[:1]) != 0) * intervals.time_ns.size  # groups after one another
    start, end = intervals.start[numbers] + apart, intervals.end[numbers] + apart
    until = np.maximum.accumulate(end)
    since = np.minimum(np.maximum(start, np.concatenate([[0], until[:-1]])), until)
    overlaps[group[since > start]] = True
    new_ns = intervals.time_ns[until - apart] - intervals.time_ns[since - apart]
    first = np.flatnonzero(np.diff(group, prepend=-1) != 0)
    busy_ns[group[first]] += np.add.reduceat(new_ns, first)


def _matrices(
    shapes: Shapes, number: int, contents: Contents, capacity: FloatArray, wanted: IndexArray
) -> Iterator[tuple[IndexArray, FloatArray]]:
    """Yield the numbers of contents of a shape [N], and their load on those of its links in the places `wanted` [C]."""
    links, (places, sources) = shapes.links[number], shapes.sources[number][0]
    is_single = len(contents.num_bytes) == 1
    step = max(1, _PIECE // max(1, wanted.size if is_single else links.size))
    source = np.empty(links.size, dtype=np.intp)
    source[places] = sources
    for begin in range(0, contents.numbers.size, step):
        some = slice(begin, begin + step)
        rows = contents.numbers[some]
        if is_single:  # the usual case, without adding to zeros
            load = np.stack(contents.num_bytes[0][some])[:, source[wanted]] * contents.pace[0, some, None]
        else:
            whole = np.zeros((rows.size, links.size))
            for (into, of), num_bytes, pace in zip(
                shapes.sources[number], contents.num_bytes, contents.pace, strict=True
            ):
                whole[:, into] += np.stack(num_bytes[some])[:, of] * pace[some, None]
            load = whole[:, wanted]
        load /= capacity[links[wanted]]
        yield rows, load


def _sums(
    flowed: Flowed, times: LinkTimes, of_links: Links, alike: BitArray
) -> Iterator[tuple[int, tuple[IndexArray, IndexArray, FloatArray]]]:
    """Yield a kind, and from when, until when, how high the loads of some of its links are, summed over intervals.

    Of links that are `alike` [L] one is worked out.
    """
    shapes, contents, intervals = flowed
    capacity, kind_of, _ = of_links
    links = np.flatnonzero(times.overlaps)
    keys = np.stack([kind_of[links].astype(np.uint64), alike[links]], axis=1)
    _, first = np.unique(keys, axis=0, return_index=True)
    links = links[np.sort(first)]
    links = links[np.argsort(kind_of[links], kind="stable")]
    by_content = np.argsort(intervals.content, kind="stable")
    starts = np.searchsorted(intervals.content[by_content], np.arange(int(intervals.content.max(initial=-1)) + 2))
    for some in _pieces(times.num_intervals[links], np.arange(links.size)):
        wanted = np.zeros(capacity.size, dtype=np.bool_)
        wanted[links[some]] = True
        found = []
        for number, of_shape in enumerate(contents):
            columns = np.flatnonzero(wanted[shapes.links[number]])
            if not columns.size:
                continue
            of_columns = shapes.links[number][columns]
            for rows, load in _matrices(shapes, number, of_shape, capacity, columns):
                num = starts[rows + 1] - starts[rows]
                numbers = by_content[_ranges(starts[rows], num)]
                found.append(
                    (
                        np.tile(of_columns, numbers.size),
                        np.repeat(intervals.start[numbers], of_columns.size),
                        np.repeat(intervals.end[numbers], of_columns.size),
                        np.repeat(load, num, axis=0).ravel(),
                    )
                )
        link, begin, end, load = (np.concatenate(parts) for parts in zip(*found, strict=True))
        owner, begin, end, load = _steps(link, begin, end, load)
        for kind in np.unique(kind_of[owner]).tolist():
            is_kind = kind_of[owner] == kind
            yield kind, (begin[is_kind], end[is_kind], load[is_kind])


def _steps(
    link: IndexArray, begin: IndexArray, end: IndexArray, load: FloatArray
) -> tuple[IndexArray, IndexArray, IndexArray, FloatArray]:
    """Return the steps of each link's sum of loads: link, from when, until when, how high. Shapes [E] -> [S]."""
    links, times = np.concatenate([link, link]), np.concatenate([begin, end])
    order = np.lexsort((times, links))
    links, times = links[order], times[order]
    total = np.cumsum(np.concatenate([load, -load])[order])
    flowing = np.cumsum(np.repeat([1, -1], load.size)[order])
    nothing = np.maximum.accumulate(np.where(flowing == 0, np.arange(flowing.size), -1))  # when nothing flowed last
    total -= np.where(nothing >= 0, total[nothing], 0.0)  # what is left there is rounding
    lasts = (flowing[:-1] > 0) & (np.diff(times) > 0)
    return links[:-1][lasts], times[:-1][lasts], times[1:][lasts], np.maximum(total[:-1][lasts], 0.0)


def _carried(start_ns: IntArray, end_ns: IntArray, load: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return times, and the nanoseconds of full load that a link carried until then. Shapes [I] -> [2 I + 1]."""
    times = np.concatenate([start_ns, end_ns])
    order = np.argsort(times, kind="stable")
    times = np.concatenate([[0], times[order]])
    load_from = np.cumsum(np.concatenate([load, -load])[order])[:-1]
    carried = np.zeros(times.size)
    carried[2:] = np.cumsum(load_from * np.diff(times[1:]))
    return times, carried


def _raise_ranges(rows: FloatArray, first: IndexArray, last: IndexArray, values: FloatArray) -> None:
    """Raise `rows` [T] from `first[i]` to before `last[i]` to `values[i]`, for all i.

    A range is two blocks of 2**k rows, which may overlap; blocks are handed down to halves of them, for all k.
    """
    level = np.frexp(last - first)[1] - 1
    blocks = np.zeros(rows.size)
    for k in range(int(level.max(initial=-1)), -1, -1):
        is_level = level == k
        np.maximum.at(blocks, first[is_level], values[is_level])
        np.maximum.at(blocks, last[is_level] - 2**k, values[is_level])
        if k > 0:
            half = 2 ** (k - 1)
            blocks[half:] = np.maximum(blocks[half:], blocks[:-half])  # numpy makes the maximum before it writes
    np.maximum(rows, blocks, out=rows)
