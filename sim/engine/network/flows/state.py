"""The first state of flows that start (or go on) together: links numbered component by component, bottlenecks found.

Model
-----
Links that carry the same flows with the same shares saturate together: of each such set only the narrowest is kept.
Levels rise from zero; where the lowest level of all links is reached, the flows on those links have their bottleneck
(Bertsekas & Gallager, 1992, section 6.5.2, progressive filling).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.engine.network.flows.kernel import State, solve
from topology.links import FlowLinks

__all__ = ["build_state", "rates_of"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
_TIE = 1e-12  # links this close to the lowest level fill together


def build_state(flows: FlowLinks, remaining: FloatArray, owner: IntArray, capacity: FloatArray) -> State:
    """Return flows that have `remaining` bytes each, with their rates.

    Parameters
    ----------
    flows
        Links of each flow, at least one that is finite.
    remaining
        Bytes that each flow has still to send; a flow with nothing left has ended. Shape [F].
    owner
        Transfer of each flow, numbered from 0. Shape [F].
    capacity
        Bytes/s of each link of the cluster, above 0 where there are flows; infinite links are left out.
        Shape [all links].
    """
    is_active = remaining > 0.0
    entries = _Entries(flow=flows.flow_of_entry, link=flows.links, share=flows.share)
    entries = entries.where(is_active[entries.flow] & np.isfinite(capacity)[entries.link])
    entries = entries.where(_narrowest_of_alike(entries, capacity)[entries.link])
    numbers, component = _by_component(entries)
    renumbered = np.zeros(capacity.size, dtype=np.int64)
    renumbered[numbers] = np.arange(numbers.size)
    entries = _Entries(flow=entries.flow, link=renumbered[entries.link], share=entries.share)
    return _first_state(entries, component, capacity[numbers], remaining, owner)


def rates_of(state: State) -> FloatArray:
    """Return the rate of each flow in bytes/s; 0 where it has ended. Shape [F]."""
    return np.where(state.bottleneck >= 0, state.level[state.bottleneck], 0.0)


# ---- private -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Entries:
    """Flows on links, by flow. Each array has shape [E]."""

    flow: IntArray
    link: IntArray
    share: FloatArray

    def where(self, is_kept: NDArray[np.bool_]) -> "_Entries":
        """Return some of the entries."""
        return _Entries(flow=self.flow[is_kept], link=self.link[is_kept], share=self.share[is_kept])


def _narrowest_of_alike(entries: _Entries, capacity: FloatArray) -> NDArray[np.bool_]:
    """Tell for each link whether it is the narrowest of those with the same flows and shares. Shape [L].

    Sets with different hashes of 128 bits are different.
    """
    flow, link, share = entries.flow, entries.link, entries.share
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
    is_narrowest = np.zeros(capacity.size, dtype=np.bool_)
    is_narrowest[used[by_width][~same]] = True
    return is_narrowest


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return well mixed bits (the finaliser of SplitMix64: Steele, Lea and Flood, 2014, figure 17)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))


def _by_component(entries: _Entries) -> tuple[IntArray, IntArray]:
    """Return the links component by component, and the component of each link.

    Links are in one component when a chain of flows joins them.
    """
    flow, link = entries.flow, entries.link
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
    entries: _Entries, component: IntArray, capacity: FloatArray, remaining: FloatArray, owner: IntArray
) -> State:
    num_links, num_flows, num_components = capacity.size, remaining.size, int(component[-1]) + 1
    first_link = np.searchsorted(component, np.arange(num_components + 1)).astype(np.int64)
    width = int(np.diff(first_link).max())
    column = np.arange(num_links) - first_link[component]
    bottleneck, filled = _fill(entries, capacity, num_flows)
    is_active = bottleneck >= 0
    weight = np.bincount(
        bottleneck[entries.flow] * width + column[entries.link], weights=entries.share, minlength=num_links * width
    )
    order, position, num_ordered = _orders(filled, component, first_link)
    left = np.zeros((num_links + num_components, width))
    left[first_link[component] + component, column] = capacity
    next_mark = np.full(num_links, np.inf)
    np.minimum.at(next_mark, bottleneck[is_active], remaining[is_active])
    num_on = np.bincount(entries.link, minlength=num_links)
    state = State(
        first_link=first_link,
        component=component,
        capacity=capacity,
        first=np.searchsorted(entries.flow, np.arange(num_flows + 1)).astype(np.int64),
        links=entries.link,
        share=entries.share,
        first_on=np.concatenate([[0], np.cumsum(num_on)]).astype(np.int64),
        flows_on=entries.flow[np.argsort(entries.link, kind="stable")],
        owner=owner.astype(np.int64),
        waiting=np.bincount(owner[is_active], minlength=int(owner.max()) + 1).astype(np.int64),
        bottleneck=bottleneck,
        mark=remaining.copy(),
        end_ns=np.full(num_flows, -1, dtype=np.int64),
        tally=np.zeros(num_links),
        level=np.ones(num_links),
        next_mark=next_mark,
        num_held=np.bincount(bottleneck[is_active], minlength=num_links).astype(np.int64),
        weight=weight.reshape(num_links, width).astype(np.float64),
        order=order,
        position=position,
        num_ordered=num_ordered,
        left=left,
        is_stale=np.zeros(num_links, dtype=np.bool_),
    )
    for number in range(num_components):
        solve(state, number, 0)
    return state


def _orders(filled: IntArray, component: IntArray, first_link: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Return the links of each component by rising level, the position of each link, and the number of such links."""
    by_level = filled[np.argsort(component[filled], kind="stable")]
    num_ordered = np.bincount(component[filled], minlength=first_link.size - 1).astype(np.int64)
    position_of = np.arange(by_level.size) - (np.cumsum(num_ordered) - num_ordered)[component[by_level]]
    order, position = np.zeros(component.size, dtype=np.int64), np.full(component.size, -1, dtype=np.int64)
    order[first_link[component[by_level]] + position_of] = by_level
    position[by_level] = position_of
    return order, position, num_ordered


def _fill(entries: _Entries, capacity: FloatArray, num_flows: int) -> tuple[IntArray, IntArray]:
    """Return the bottleneck of each flow (-1 without links), and the links that hold flows back by rising level."""
    bottleneck = np.full(num_flows, -1, dtype=np.int64)
    left, filled = capacity.copy(), []
    while entries.flow.size:
        wanted = np.bincount(entries.link, weights=entries.share, minlength=capacity.size)
        is_used = np.bincount(entries.link, minlength=capacity.size) > 0
        level = np.full(capacity.size, np.inf)
        level[is_used] = np.maximum(left[is_used], 0.0) / wanted[is_used]
        lowest = level.min()
        stops = np.flatnonzero((level <= lowest * (1 + _TIE))[entries.link])[::-1]  # a flow's first entry decides
        bottleneck[entries.flow[stops]] = entries.link[stops]
        is_held = bottleneck[entries.flow] >= 0
        bottlenecked = entries.where(is_held)
        left -= lowest * np.bincount(bottlenecked.link, weights=bottlenecked.share, minlength=capacity.size)
        filled.append(np.unique(bottleneck[entries.flow[stops]]))
        entries = entries.where(~is_held)
    return bottleneck, np.concatenate(filled)
