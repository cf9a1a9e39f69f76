"""The first state of flows that start (or go on) together: links numbered part by part, bottlenecks found.

Model
-----
Links that carry the same flows with the same shares saturate together: of each such set only the narrowest is kept.
Levels rise from zero; where the lowest level of all links is reached, the flows on those links have their bottleneck
(Bertsekas & Gallager, 1992, section 6.5.2, progressive filling).
"""

import numpy as np
from numpy.typing import NDArray

from sim.engine.flows.kernel import State, solve
from topology.flow_links import FlowLinks

__all__ = ["build_state"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
_TIE = 1e-12  # links this close to the lowest level fill together


def build_state(flows: FlowLinks, remaining: FloatArray, owner: IntArray, capacity: FloatArray) -> State:
    """Return flows that have `remaining` bytes each, with their rates.

    Parameters
    ----------
    flows
        Links of each flow, at least one.
    remaining
        Bytes that each flow has still to send; a flow with nothing left has ended. Shape [F].
    owner
        Transfer of each flow, numbered from 0. Shape [F].
    capacity
        Bytes/s of each link of the cluster, above 0 where there are flows. Shape [all links].
    """
    is_active = remaining > 0.0
    flow, link, share = flows.flow_of_entry, flows.links, flows.share
    kept = is_active[flow]
    flow, link, share = flow[kept], link[kept], share[kept]
    narrowest = _narrowest_of_alike(flow, link, share, capacity)
    is_narrowest = np.zeros(capacity.size, dtype=bool)
    is_narrowest[narrowest] = True
    kept = is_narrowest[link]
    flow, link, share = flow[kept], link[kept], share[kept]
    numbers, part = _by_part(flow, link)
    renumbered = np.zeros(capacity.size, dtype=np.int64)
    renumbered[numbers] = np.arange(numbers.size)
    return _first_state(flow, renumbered[link], share, part, capacity[numbers], remaining, owner)


# ---- private -----------------------------------------------------------------------------------------------------


def _narrowest_of_alike(flow: IntArray, link: IntArray, share: FloatArray, capacity: FloatArray) -> IntArray:
    """Return one link of each set that carries the same flows with the same shares, ascending.

    Sets are told apart by 128 bits of hash.
    """
    order = np.argsort(link, kind="stable")
    num_flows = np.bincount(link)
    used = np.flatnonzero(num_flows)
    start = (np.cumsum(num_flows) - num_flows)[used]
    bits = share[order].view(np.uint64)
    keys = [
        np.add.reduceat(_mixed(_mixed(flow[order].astype(np.uint64) + np.uint64(salt)) ^ bits), start)
        for salt in (1, 2**40)
    ]
    by_width = np.lexsort((used, capacity[used], keys[1], keys[0]))
    same = np.ones(used.size, dtype=bool)
    for key in keys:
        same[1:] &= key[by_width][1:] == key[by_width][:-1]
    same[0] = False
    return np.sort(used[by_width][~same])


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return well mixed bits (the finaliser of SplitMix64: Steele, Lea and Flood, 2014, figure 17)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))


def _by_part(flow: IntArray, link: IntArray) -> tuple[IntArray, IntArray]:
    """Return the links part by part, and the part of each: links are in one part when a chain of flows joins them."""
    label = np.arange(int(link.max()) + 1)
    start = np.flatnonzero(np.diff(flow, prepend=-1))
    while True:  # the lowest label goes from flow to link to flow
        lowest = np.repeat(np.minimum.reduceat(label[link], start), np.diff(start, append=flow.size))
        if (lowest == label[link]).all():
            break
        np.minimum.at(label, link, lowest)
        np.minimum.at(label, label[link], lowest)
        label = label[label]
    used = np.flatnonzero(np.bincount(link))
    numbers = used[np.argsort(label[used], kind="stable")]
    return numbers, np.unique(label[numbers], return_inverse=True)[1]


def _first_state(
    flow: IntArray,
    link: IntArray,
    share: FloatArray,
    part: IntArray,
    capacity: FloatArray,
    remaining: FloatArray,
    owner: IntArray,
) -> State:
    num_links, num_flows = capacity.size, remaining.size
    num_parts = int(part[-1]) + 1
    first_link = np.searchsorted(part, np.arange(num_parts + 1))
    width = int(np.diff(first_link).max())
    bottleneck, filled = _fill(flow, link, share, capacity, num_flows)
    held = bottleneck[flow]
    weight = np.bincount(
        held * width + link - first_link[part[link]], weights=share, minlength=num_links * width
    ).reshape(num_links, width)
    by_level = filled[np.argsort(part[filled], kind="stable")]
    num_ordered = np.bincount(part[filled], minlength=num_parts)
    place_in_all = np.arange(by_level.size) - (np.cumsum(num_ordered) - num_ordered)[part[by_level]]
    order, place = np.zeros(num_links, dtype=np.int64), np.full(num_links, -1, dtype=np.int64)
    order[first_link[part[by_level]] + place_in_all] = by_level
    place[by_level] = place_in_all
    left = np.zeros((num_links + num_parts, width))
    left[first_link[part] + part, np.arange(num_links) - first_link[part]] = capacity
    next_mark = np.full(num_links, np.inf)
    is_active = bottleneck >= 0
    np.minimum.at(next_mark, bottleneck[is_active], remaining[is_active])
    state = State(
        first_link=first_link.astype(np.int64),
        part=part.astype(np.int64),
        capacity=capacity,
        first=np.searchsorted(flow, np.arange(num_flows + 1)).astype(np.int64),
        links=link.astype(np.int64),
        share=share,
        first_on=np.concatenate([[0], np.cumsum(np.bincount(link, minlength=num_links))]).astype(np.int64),
        flows_on=flow[np.argsort(link, kind="stable")].astype(np.int64),
        owner=owner.astype(np.int64),
        waiting=np.bincount(owner[is_active], minlength=int(owner.max()) + 1).astype(np.int64),
        bottleneck=bottleneck,
        mark=remaining.astype(np.float64),
        end_ns=np.full(num_flows, -1, dtype=np.int64),
        tally=np.zeros(num_links),
        level=np.ones(num_links),
        next_mark=next_mark,
        num_held=np.bincount(bottleneck[is_active], minlength=num_links).astype(np.int64),
        weight=weight,
        order=order,
        place=place,
        num_ordered=num_ordered.astype(np.int64),
        left=left,
        is_stale=np.zeros(num_links, dtype=np.bool_),
    )
    for one in range(num_parts):
        solve(state, one, 0)
    return state


def _fill(
    flow: IntArray, link: IntArray, share: FloatArray, capacity: FloatArray, num_flows: int
) -> tuple[IntArray, IntArray]:
    """Return the bottleneck of each flow (-1 without links), and the links that hold flows back by rising level."""
    bottleneck = np.full(num_flows, -1, dtype=np.int64)
    left, filled = capacity.copy(), []
    while flow.size:
        wanted = np.bincount(link, weights=share, minlength=capacity.size)
        is_used = np.bincount(link, minlength=capacity.size) > 0
        level = np.full(capacity.size, np.inf)
        level[is_used] = np.maximum(left[is_used], 0.0) / wanted[is_used]
        lowest = level.min()
        stops = np.flatnonzero((level <= lowest * (1 + _TIE))[link])[::-1]  # backwards: a flow's first entry decides
        bottleneck[flow[stops]] = link[stops]
        is_held = bottleneck[flow] >= 0
        left -= lowest * np.bincount(link[is_held], weights=share[is_held], minlength=capacity.size)
        filled.append(np.unique(bottleneck[flow[stops]]))
        flow, link, share = flow[~is_held], link[~is_held], share[~is_held]
    return bottleneck, np.concatenate(filled)
