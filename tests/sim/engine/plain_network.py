"""The slow, obvious solver of rates and the slow, obvious network: the oracles of the engine's fast ones.

The network solves everything at every change. `sim.engine.network.fluid` gives the same ends, by the same model, with
far fewer events and solves; `sim.engine.network.maxmin` gives the same rates.

Model
-----
A transfer of latency a and flow size f runs at r bytes/s per flow, as `max_min_rates` solves it, with

    flows on a link = bytes on the link / f
    r              <= most_bytes_per_s          of transfers whose SMs bound it: a private link each

Rates change only when a transfer starts or ends. Waiting for the latency uses no link. An end is rounded up to a whole
nanosecond; of transfers that share links, directly or over others, all with less than one left end in the same event.

Assumptions
-----------
Latency is not stretched by load. Flows of one transfer progress together (`bulk`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import simpy
from numpy.typing import NDArray

from sim.engine.clock import SOLVE_PRIORITY, Alarm, Clock
from sim.engine.network.contention import refuse_dead_links
from sim.engine.network.fluid import FluidNetwork
from sim.engine.trace import LinkUse
from sim.plan.ops import Transfer
from sim.time import to_ns

__all__ = ["Batch", "PlainNetwork", "bounded_weights", "max_min_rates", "network_with", "rates_by"]

FloatArray = NDArray[np.float64]
Weight = tuple[NDArray[np.intp], FloatArray]
"""Links of a transfer [K], and the flows that it puts on each [K]."""
Solver = Callable[[Sequence[Weight], FloatArray], FloatArray]
_CACHE_SIZE = 4096
_TIE = 1e-12  # links this close to the lowest level fill together


def max_min_rates(weights: Sequence[Weight], capacity: FloatArray) -> FloatArray:
    """Return the rate per flow of each transfer.

    Parameters
    ----------
    weights
        For each transfer, its links [K] and the flows it puts on each of them [K], above 0.
    capacity
        Bytes/s of each link. Shape [L].

    Returns
    -------
    numpy.ndarray
        Bytes/s per flow; 0 where a link of the transfer has no capacity. Shape [T].

    Examples
    --------
    Three flows and one flow on a link of 100 share it 75 : 25; the single flow's second link leaves it enough.

    >>> link = np.array([0])
    >>> max_min_rates([(link, np.array([3.0])), (np.array([0, 1]), np.ones(2))], np.array([100.0, 60.0]))
    array([25., 25.])
    """
    dense = np.zeros((len(weights), capacity.size))
    for row, (links, flows) in enumerate(weights):
        dense[row, links] = flows
    rates = np.zeros(len(weights))
    is_free = dense.any(axis=1)
    while is_free.any():
        wanted = dense[is_free].sum(axis=0)
        left = capacity - (rates[~is_free, None] * dense[~is_free]).sum(axis=0)  # not BLAS: sums keep their order
        used = wanted > 0
        level = np.full(capacity.shape, np.inf)
        level[used] = np.maximum(left[used], 0.0) / wanted[used]
        lowest = level.min()
        stops = is_free & dense[:, level <= lowest * (1 + _TIE)].any(axis=1)
        rates[stops] = lowest
        is_free &= ~stops
    return rates


def bounded_weights(
    weights: Sequence[Weight], capacity: FloatArray, most_bytes_per_s: Sequence[float]
) -> tuple[Sequence[Weight], FloatArray]:
    """Return weights and capacities, as `max_min_rates` takes them, with the bounds' links after the others.

    >>> link = np.array([0])
    >>> pair = [(link, np.array([1.0])), (link, np.array([1.0]))]
    >>> max_min_rates(*bounded_weights(pair, np.array([100.0]), [20.0, np.inf]))
    array([20., 80.])
    """
    bounded = [i for i, most in enumerate(most_bytes_per_s) if most < math.inf]
    if not bounded:
        return weights, capacity
    own = {i: np.array([capacity.size + place]) for place, i in enumerate(bounded)}
    with_own = [
        (np.append(links, own[i]), np.append(flows, 1.0)) if i in own else (links, flows)
        for i, (links, flows) in enumerate(weights)
    ]
    return with_own, np.append(capacity, [most_bytes_per_s[i] for i in bounded])


def rates_by(solver: Solver) -> Callable[..., list[float]]:
    """Return the method of `FluidNetwork` that finds rates, with `solver` in place of the engine's own."""

    def solved_rates(network: FluidNetwork, transfers: Sequence[Transfer], *_: object) -> list[float]:
        weights = [(t.load.links, t.load.num_bytes / t.flow_bytes) for t in transfers]
        return solver(*bounded_weights(weights, network._capacity, [t.most_bytes_per_s for t in transfers])).tolist()

    return solved_rates


def network_with(solver: Solver) -> type[FluidNetwork]:
    """Return the engine's network with another solver of rates."""
    return type("NetworkWithSolver", (FluidNetwork,), {"solved_rates": rates_by(solver)})


class Batch:
    """Transfers that started together; `done` fires when all have ended."""

    __slots__ = ("done", "end_ns", "start_ns", "transfers", "waiting")

    def __init__(self, transfers: Sequence[Transfer], start_ns: int, done: simpy.Event) -> None:
        self.transfers = transfers
        self.start_ns = start_ns
        self.end_ns = [start_ns] * len(transfers)
        self.waiting = len(transfers)
        self.done = done


class _Active:
    """A transfer that flows."""

    __slots__ = ("batch", "position", "rate", "remaining", "transfer")

    def __init__(self, transfer: Transfer, batch: Batch, position: int) -> None:
        self.transfer = transfer
        self.batch = batch
        self.position = position
        self.remaining = transfer.flow_bytes
        self.rate = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class _Solution:
    """Rates of one set of active transfers, and what they make of the links."""

    rates: FloatArray
    links: NDArray[np.intp]
    link_rate: FloatArray
    byte_rate: FloatArray


class PlainNetwork:
    """Active transfers and the links they share."""

    def __init__(
        self,
        clock: Clock,
        capacity: FloatArray,
        link_names: Sequence[str],
        link_kinds: Sequence[str],
        solver: Solver = max_min_rates,
    ) -> None:
        self._clock, self._env = clock, clock.env
        self._capacity, self._names, self._solver = capacity, link_names, solver
        self._link_kinds = link_kinds
        self._kinds = tuple(dict.fromkeys(link_kinds))
        self._kind_of = np.array([self._kinds.index(kind) for kind in link_kinds], dtype=np.intp)
        self._active: list[_Active] = []
        self._last_ns = 0
        self._must_solve = False
        self._wake: simpy.Event | None = None
        self._solution: _Solution | None = None
        self._cache: dict[tuple[Transfer, ...], _Solution] = {}
        self._bytes = np.zeros(capacity.size)
        self._busy_ns = np.zeros(capacity.size, dtype=np.int64)
        self._use: list[tuple[int, FloatArray]] = []
        self.num_solves = 0
        self.bytes_sent = 0.0
        self.bytes_received = 0.0

    def begin(self, transfers: Sequence[Transfer]) -> Batch:
        """Start `transfers` now; the batch's `done` event fires when the last of them has ended."""
        batch = Batch(transfers, self._clock.now_ns, self._env.event())
        if not transfers:
            batch.done.succeed()
        by_latency: dict[int, list[int]] = {}
        for position, transfer in enumerate(transfers):
            by_latency.setdefault(transfer.latency_ns, []).append(position)
            self.bytes_sent += transfer.total_bytes
        for latency_ns, positions in by_latency.items():
            Alarm(self._env, latency_ns, partial(self._join, batch, positions))
        return batch

    def link_use(self, *, with_timeline: bool = True) -> LinkUse:
        """Return what the links have carried so far; the timeline is noted as it goes, and costs nothing more."""
        del with_timeline
        return LinkUse(
            num_bytes=self._bytes.copy(),
            busy_s=self._busy_ns / 1e9,
            time_ns=np.array([time for time, _ in self._use], dtype=np.int64),
            utilisation=np.array([use for _, use in self._use], dtype=float).reshape(len(self._use), len(self._kinds)),
            kinds=self._kinds,
            names=tuple(self._names),
            link_kinds=tuple(self._link_kinds),
            capacity_bytes_per_s=self._capacity,
        )

    def forget(self) -> None:
        """Forget the load of the links over time."""
        self._use.clear()

    # ---- private -------------------------------------------------------------------------------------------------

    def _join(self, batch: Batch, positions: Sequence[int], _: simpy.Event) -> None:
        for position in positions:
            transfer = batch.transfers[position]
            if transfer.load.links.size:
                self._active.append(_Active(transfer, batch, position))
            else:
                self._finish(transfer, batch, position)
        self._mark()

    def _mark(self) -> None:
        if not self._must_solve:
            self._must_solve = True
            Alarm(self._env, 0, self._solve, SOLVE_PRIORITY)

    def _advance(self) -> None:
        """Move all active transfers on to now."""
        elapsed_ns = self._clock.now_ns - self._last_ns
        self._last_ns = self._clock.now_ns
        if elapsed_ns and self._active and self._solution is not None:
            for active in self._active:
                active.remaining -= active.rate * elapsed_ns * 1e-9
            self._bytes[self._solution.links] += self._solution.byte_rate * (elapsed_ns * 1e-9)
            self._busy_ns[self._solution.links] += elapsed_ns

    def _solve(self, _: simpy.Event) -> None:
        """Share the links anew and set the time of the next end."""
        self._must_solve = False
        # What joined at this very time has not flowed yet: advance with the old rates (0 for the new).
        self._advance()
        self._wake = None
        if not self._active:
            self._note_use(None)
            self._solution = None
            return
        solution = self._solution = self._rates()
        left_ns = np.inf
        for active, rate in zip(self._active, solution.rates.tolist(), strict=True):
            active.rate = rate
            if rate <= 0.0:
                refuse_dead_links(active.transfer, self._capacity, self._names, self._clock.now_ns)
            left_ns = min(left_ns, active.remaining / rate * 1e9)
        self._note_use(solution)
        self._wake = Alarm(self._env, to_ns(max(left_ns, 0.0) * 1e-9), self._on_wake)

    def _rates(self) -> _Solution:
        key = tuple(active.transfer for active in self._active)
        solution = self._cache.get(key)
        if solution is not None:
            return solution
        self.num_solves += 1
        weights = [(t.load.links, t.load.num_bytes / t.flow_bytes) for t in key]
        rates = self._solver(*bounded_weights(weights, self._capacity, [t.most_bytes_per_s for t in key]))
        link_rate, byte_rate = np.zeros((2, self._capacity.size))
        for transfer, (links, flows), rate in zip(key, weights, rates, strict=True):
            link_rate[links] += flows * rate
            byte_rate[links] += flows * rate / (1.0 if transfer.overhead is None else transfer.overhead[links])
        links = np.flatnonzero(link_rate)
        solution = _Solution(rates, links, link_rate[links], byte_rate[links])
        if len(self._cache) >= _CACHE_SIZE:
            self._cache.clear()
        self._cache[key] = solution
        return solution

    def _on_wake(self, event: simpy.Event) -> None:
        if event is not self._wake:
            return  # rates changed since it was set
        self._advance()
        ended = [
            active
            for component in _components(self._active)
            if _is_due(component)
            for active in component
            if _is_through(active)
        ]
        self._active = [active for active in self._active if active not in ended]
        for active in ended:
            self._finish(active.transfer, active.batch, active.position)
        self._mark()

    def _finish(self, transfer: Transfer, batch: Batch, position: int) -> None:
        self.bytes_received += transfer.total_bytes
        batch.end_ns[position] = self._clock.now_ns
        batch.waiting -= 1
        if batch.waiting == 0:
            batch.done.succeed()

    def _note_use(self, solution: _Solution | None) -> None:
        use = np.zeros(len(self._kinds))
        if solution is not None:
            np.maximum.at(use, self._kind_of[solution.links], solution.link_rate / self._capacity[solution.links])
        self._use.append((self._clock.now_ns, use))


def _is_through(active: _Active) -> bool:
    """Tell whether a transfer has less than a nanosecond left."""
    return active.remaining < active.rate * 1e-9


def _is_due(component: Sequence[_Active]) -> bool:
    """Tell whether the first of a component ends now, rounded up; a transfer that joined now has no rate yet."""
    return any(active.rate > 0 and to_ns(max(active.remaining / active.rate, 0.0)) == 0 for active in component)


def _components(actives: Sequence[_Active]) -> list[list[_Active]]:
    """Return transfers that share links, directly or over others, together."""
    components: list[tuple[set[int], list[_Active]]] = []
    for active in actives:
        links, members = set(active.transfer.load.links.tolist()), [active]
        apart = []
        for component in components:
            if component[0].isdisjoint(links):
                apart.append(component)
            else:
                links, members = links | component[0], [*component[1], *members]
        components = [*apart, (links, members)]
    return [members for _, members in components]
