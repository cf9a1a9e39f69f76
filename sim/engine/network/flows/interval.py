"""The flows of several transfers run until one of the transfers ends; what the links carried meanwhile.

Model
-----
Flows advance as `sim.engine.network.flows.kernel` says; a transfer ends when the last of its flows does. A transfer
without flows of its own is one flow, with share bytes on the link / `flow_bytes` on each of its links; where its rate
is bounded, it has a link of that capacity for itself. Flows of their own may have links for themselves as well.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sim.engine.network.flows.kernel import Run
from sim.engine.network.flows.state import build_state
from sim.plan.ops import Transfer
from topology.links import FlowLinks

__all__ = ["FlowInterval", "first_remaining", "run_flows"]

FloatArray = NDArray[np.float64]
_NO_STOP = 2**62
_LEAST_BYTES = 1e-300  # left of a flow that float noise would have ended before its time: it ends at the next step


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FlowInterval:
    """What happened to flows in an interval."""

    elapsed_ns: int
    """Length of the interval."""
    remaining: tuple[FloatArray, ...]
    """Bytes left of each flow, by transfer; 0 where it has ended."""
    links: NDArray[np.intp]
    """Links that carried something. Shape [K]."""
    num_bytes: FloatArray
    """Bytes on each. Shape [K]."""
    held_bytes: FloatArray
    """Bytes at its capacity that hold each as long: more, where a protocol reaches less. Shape [K]."""
    busy_ns: NDArray[np.int64]
    """Time until the last flow on each has ended. Shape [K]."""
    ends_ns: NDArray[np.int64]
    """When each flow ended since the start, those of all transfers one after another; -1 if it has not. Shape [F]."""
    num_solves: int
    """How often rates were solved."""

    def has_ended(self, position: int) -> bool:
        """Tell whether a transfer has ended."""
        return not self.remaining[position].any()


def first_remaining(transfer: Transfer) -> FloatArray:
    """Return the bytes of each flow of a transfer."""
    return np.array([transfer.flow_bytes]) if transfer.flows is None else transfer.flows.num_bytes


def run_flows(
    transfers: Sequence[Transfer],
    remaining: Sequence[FloatArray],
    capacity: FloatArray,
    run: Run,
    *,
    stop_ns: int = _NO_STOP,
) -> FlowInterval:
    """Let the flows of `transfers` run until one of these ends, or for `stop_ns`.

    Parameters
    ----------
    transfers
        Transfers, each with a link at least.
    remaining
        Bytes left of each of their flows.
    capacity
        Bytes/s of each link; infinite: it holds no flow back. Shape [L].
    run
        The kernel, interpreted or compiled.
    """
    if not all(num_bytes.any() for num_bytes in remaining):  # a transfer whose end and another's start fall together
        nothing = np.zeros(0, dtype=np.int64)
        return FlowInterval(
            elapsed_ns=0,
            remaining=tuple(remaining),
            links=nothing,
            num_bytes=np.zeros(0),
            held_bytes=np.zeros(0),
            busy_ns=nothing,
            ends_ns=np.where(np.concatenate(remaining) > 0, -1, 0),
            num_solves=0,
        )
    num_links = capacity.size
    links, capacity = _with_own_links(transfers, capacity)
    before = np.concatenate(remaining)
    owner = np.repeat(np.arange(len(transfers)), [num_bytes.size for num_bytes in remaining])
    state = build_state(links, before, owner, capacity)
    elapsed_ns, num_solves = run(state, 0, stop_ns)
    is_active = state.bottleneck >= 0
    after = np.zeros(before.size)
    after[is_active] = np.maximum(state.mark - state.tally[state.bottleneck], _LEAST_BYTES)[is_active]
    active_ns = np.where(is_active, elapsed_ns, state.end_ns)
    entry = links.flow_of_entry
    sent = links.share * (before - after)[entry]
    held_bytes = np.bincount(links.links, weights=sent, minlength=capacity.size).astype(np.float64)
    passed = sent / _overheads(transfers, links, owner) if any(t.overhead is not None for t in transfers) else sent
    num_bytes = np.bincount(links.links, weights=passed, minlength=capacity.size).astype(np.float64)
    busy_ns = np.zeros(capacity.size, dtype=np.int64)
    np.maximum.at(busy_ns, links.links, active_ns[entry])
    used = np.flatnonzero(num_bytes[:num_links])
    return FlowInterval(
        elapsed_ns=elapsed_ns,
        remaining=tuple(np.split(after, np.cumsum([num_bytes.size for num_bytes in remaining])[:-1])),
        links=used,
        num_bytes=num_bytes[used],
        held_bytes=held_bytes[used],
        busy_ns=busy_ns[used],
        ends_ns=state.end_ns,
        num_solves=num_solves,
    )


# ---- private -----------------------------------------------------------------------------------------------------


def _overheads(transfers: Sequence[Transfer], links: FlowLinks, owner: NDArray[np.int64]) -> FloatArray:
    """Return how long a byte of each entry's flow holds its link, over a byte at capacity. Shape [E]."""
    of_entry = owner[links.flow_of_entry]
    overheads = np.ones(links.links.size)
    for position, transfer in enumerate(transfers):
        if transfer.overhead is not None:
            is_own = (of_entry == position) & (links.links < transfer.overhead.size)
            overheads[is_own] = transfer.overhead[links.links[is_own]]
    return overheads


def _with_own_links(transfers: Sequence[Transfer], capacity: FloatArray) -> tuple[FlowLinks, FloatArray]:
    """Return the links of all flows, and all capacities; private links are numbered after those of the cluster."""
    flow_links, capacities, num_more = [], [capacity], 0
    for transfer in transfers:
        links, own = _links_of(transfer, capacity.size)
        if own is not None:
            moved = np.where(links.links >= capacity.size, links.links + num_more, links.links)
            links = replace(links, links=moved)
            capacities.append(own)
            num_more += own.size
        flow_links.append(links)
    return _joined(flow_links), np.concatenate(capacities) if num_more else capacity


def _links_of(transfer: Transfer, num_links: int) -> tuple[FlowLinks, FloatArray | None]:
    """Return the links of a transfer's flows, and the capacities of those from `num_links` on, which are its own."""
    if transfer.flows is not None:
        return transfer.flows.links, transfer.flows.own_bytes_per_s
    links, share, own = transfer.load.links, transfer.load.num_bytes / transfer.flow_bytes, None
    if transfer.most_bytes_per_s < math.inf:
        links, share, own = np.append(links, num_links), np.append(share, 1.0), np.array([transfer.most_bytes_per_s])
    return FlowLinks(first=np.array([0, links.size]), links=links, share=share), own


def _joined(transfers: Sequence[FlowLinks]) -> FlowLinks:
    if len(transfers) == 1:
        return transfers[0]
    return FlowLinks(
        first=np.concatenate([[0], np.cumsum(np.concatenate([np.diff(flows.first) for flows in transfers]))]),
        links=np.concatenate([flows.links for flows in transfers]),
        share=np.concatenate([flows.share for flows in transfers]),
    )
