"""The first state of flows that start (or go on) together: links numbered component by component, bottlenecks found.

It depends on which flows are active, and not on what they have left: a `FirstState` begins with any bytes.

Model
-----
Links that carry the same flows with the same shares saturate together: of each such set only the narrowest is kept.
Levels rise from zero; where the lowest level of all links is reached, the flows on those links have their bottleneck
(Bertsekas & Gallager, 1992, section 6.5.2, progressive filling).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.engine.network.flows.kernel import State, solve
from topology.links import FlowLinks

__all__ = [
    "Entries",
    "FirstState",
    "build_state",
    "by_link",
    "first_state",
    "hashes_of_flows",
    "numbered",
    "rates_of",
    "stable_order",
]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
_TIE = 1e-12  # links this close to the lowest level fill together


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entries:
    """Flows on links, by flow. Each array has shape [E]."""

    flow: IntArray
    link: IntArray
    share: FloatArray

    def where(self, is_kept: NDArray[np.bool_]) -> "Entries":
        """Return some of the entries."""
        return Entries(flow=self.flow[is_kept], link=self.link[is_kept], share=self.share[is_kept])


class FirstState(NamedTuple):
    """Flows that have a bottleneck each and have sent nothing."""

    state: State
    """Their state, but for the marks."""
    flows: IntArray
    """Active flows, sorted by bottleneck. Shape [active flows]."""
    first_flow: IntArray
    """Where the flows of each bottleneck begin. Shape [bottlenecks]."""
    bottlenecks: IntArray
    """Links that are the bottleneck of a flow. Shape [bottlenecks]."""

    @property
    def nbytes(self) -> int:
        """Return about how much memory it takes."""
        return sum(array.nbytes for array in self.state) + self.flows.nbytes

    def begin(self, remaining: FloatArray) -> State:
        """Return the state in which each flow has `remaining` bytes [F] to send; the kernel may change it."""
        state = self.state
        next_mark = np.full(state.capacity.size, np.inf)
        next_mark[self.bottlenecks] = np.minimum.reduceat(remaining[self.flows], self.first_flow)
        return state._replace(
            waiting=state.waiting.copy(),
            bottleneck=state.bottleneck.copy(),
            mark=remaining.copy(),
            end_ns=state.end_ns.copy(),
            tally=state.tally.copy(),
            level=state.level.copy(),
            next_mark=next_mark,
            num_held=state.num_held.copy(),
            weight=state.weight.copy(),
            order=state.order.copy(),
            position=state.position.copy(),
            num_ordered=state.num_ordered.copy(),
            left=state.left.copy(),
            is_stale=state.is_stale.copy(),
        )


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
    entries = Entries(flow=flows.flow_of_entry, link=flows.links, share=flows.share)
    entries = entries.where((remaining > 0.0)[entries.flow] & np.isfinite(capacity)[entries.link])
    return first_state(entries, remaining.size, owner, capacity).begin(remaining)


def first_state(entries: Entries, num_flows: int, owner: IntArray, capacity: FloatArray) -> FirstState:
    """Return the first state of active flows, from their entries on finite links; `capacity` is of all links."""
    entries = entries.where(_narrowest_of_alike(entries, capacity)[entries.link])
    numbers, component = _by_component(entries)
    renumbered = np.zeros(capacity.size, dtype=np.int64)
    renumbered[numbers] = np.arange(numbers.size)
    entries = Entries(flow=entries.flow, link=renumbered[entries.link], share=entries.share)
    return _first_state(entries, component, capacity[numbers], num_flows, owner)


def rates_of(state: State) -> FloatArray:
    """Return the rate of each flow in bytes/s; 0 where it has ended. Shape [F]."""
    return np.where(state.bottleneck >= 0, state.level[state.bottleneck], 0.0)


# ---- private -----------------------------------------------------------------------------------------------------


def _narrowest_of_alike(entries: Entries, capacity: FloatArray) -> NDArray[np.bool_]:
    """Tell for each link whether it is the narrowest of those with the same flows and shares. Shape [L].

    Sets with different hashes of 128 bits are different.
    """
    order, start = by_link(entries.link)
    used = entries.link[order][start]
    keys = hashes_of_flows(entries, order, start)
    by_width = np.lexsort((used, capacity[used], keys[1], keys[0]))
    same = np.ones(used.size, dtype=bool)
    for key in keys:
        same[1:] &= key[by_width][1:] == key[by_width][:-1]
    same[0] = False
    is_narrowest = np.zeros(capacity.size, dtype=np.bool_)
    is_narrowest[used[by_width][~same]] = True
    return is_narrowest


def by_link(link: IntArray) -> tuple[IntArray, IntArray]:
    """Return entries by link, each link's in their order, and where those of each link begin."""
    order = stable_order(link)
    return order, np.flatnonzero(np.diff(link[order], prepend=-1))


def stable_order(numbers: IntArray) -> IntArray:
    """Return the order that sorts numbers of at least 0, equal ones as they stand: small numbers by radix sort."""
    is_small = int(numbers.max(initial=0)) < 1 << 16
    return np.argsort(numbers.astype(np.uint16) if is_small else numbers, kind="stable")


def numbered(link: IntArray) -> tuple[IntArray, IntArray]:
    """Return the links of entries, ascending and each once, and the place of each entry's link among them."""
    is_used = np.zeros(int(link.max(initial=-1)) + 1, dtype=np.bool_)
    is_used[link] = True
    return np.flatnonzero(is_used), (np.cumsum(is_used) - 1)[link]


def hashes_of_flows(entries: Entries, order: IntArray, start: IntArray) -> list[NDArray[np.uint64]]:
    """Return two hashes of 64 bits of the flows and shares on each link; `order` and `start` are those of `by_link`."""
    flow, bits = entries.flow[order].astype(np.uint64), entries.share[order].view(np.uint64)
    return [np.add.reduceat(_mixed(_mixed(flow + np.uint64(salt)) ^ bits), start) for salt in (1, 2**40)]


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return well mixed bits (the finaliser of SplitMix64: Steele, Lea and Flood, 2014, figure 17)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))


def _by_component(entries: Entries) -> tuple[IntArray, IntArray]:
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
    entries: Entries, component: IntArray, capacity: FloatArray, num_flows: int, owner: IntArray
) -> FirstState:
    num_links, num_components = capacity.size, int(component[-1]) + 1
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
    num_on = np.bincount(entries.link, minlength=num_links)
    state = State(
        first_link=first_link,
        component=component,
        capacity=capacity,
        first=np.searchsorted(entries.flow, np.arange(num_flows + 1)).astype(np.int64),
        links=entries.link,
        share=entries.share,
        first_on=np.concatenate([[0], np.cumsum(num_on)]).astype(np.int64),
        flows_on=entries.flow[stable_order(entries.link)],
        owner=owner.astype(np.int64),
        waiting=np.bincount(owner[is_active], minlength=int(owner.max()) + 1).astype(np.int64),
        bottleneck=bottleneck,
        mark=np.zeros(num_flows),
        end_ns=np.full(num_flows, -1, dtype=np.int64),
        tally=np.zeros(num_links),
        level=np.ones(num_links),
        next_mark=np.full(num_links, np.inf),
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
    # Links that fill at the same level may exchange flows in `solve`: the sets of flows are those after it.
    flows = np.argsort(bottleneck, kind="stable")[num_flows - np.count_nonzero(is_active) :]
    first_flow = np.flatnonzero(np.diff(bottleneck[flows], prepend=-1))
    return FirstState(state, flows, first_flow, bottleneck[flows[first_flow]])


def _orders(filled: IntArray, component: IntArray, first_link: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Return the links of each component by rising level, the position of each link, and the number of such links."""
    by_level = filled[np.argsort(component[filled], kind="stable")]
    num_ordered = np.bincount(component[filled], minlength=first_link.size - 1).astype(np.int64)
    position_of = np.arange(by_level.size) - (np.cumsum(num_ordered) - num_ordered)[component[by_level]]
    order, position = np.zeros(component.size, dtype=np.int64), np.full(component.size, -1, dtype=np.int64)
    order[first_link[component[by_level]] + position_of] = by_level
    position[by_level] = position_of
    return order, position, num_ordered


def _fill(entries: Entries, capacity: FloatArray, num_flows: int) -> tuple[IntArray, IntArray]:
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
        has_bottleneck = bottleneck[entries.flow] >= 0
        bottlenecked = entries.where(has_bottleneck)
        left -= lowest * np.bincount(bottlenecked.link, weights=bottlenecked.share, minlength=capacity.size)
        filled.append(np.unique(bottleneck[entries.flow[stops]]))
        entries = entries.where(~has_bottleneck)
    return bottleneck, np.concatenate(filled)
