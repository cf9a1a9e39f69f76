"""Flows in the kernel's time: SimPy's network (`sim.engine.network.flows`) answers where the kernel asks it.

The kernel runs all events but those in which flows start, are shared or end. At those it stops and asks; the network
says which events are to come and which transfers have ended, and the kernel goes on with that. So flows are worked out
by one code for both engines, and their results are equal to the last bit.
"""

from collections.abc import Sequence
from operator import itemgetter
from typing import cast

import numpy as np
import simpy
from numpy.typing import NDArray

from sim.engine.clock import Clock, Environment, Signal
from sim.engine.compiled import layout as at
from sim.engine.compiled.arrays import ArrayPlan
from sim.engine.network.contention import Batch
from sim.engine.network.flows.network import FlowNetwork
from sim.plan.ops import Transfer

__all__ = ["KernelFlows"]


class _Places(Batch):
    """Transfers that start to flow together, with their places in the kernel."""

    __slots__ = ("places",)

    def __init__(self, transfers: Sequence[Transfer], env: Environment, places: Sequence[int]) -> None:
        super().__init__(transfers, env.now, Signal(env))
        self.places = places


class _KernelEnvironment(Environment):
    """The kernel's queue of events, as the network sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.events: dict[int, simpy.Event] = {}

    def take_made(self) -> list[tuple[int, int, int]]:
        """Return time, priority and number of each event that was made since the last call, in their order."""
        made = sorted(self._queue, key=itemgetter(2))
        self._queue.clear()
        self.events.update({number: event for _, _, number, event in made})
        return [(at_ns, priority, number) for at_ns, priority, number, _ in made]  # type: ignore[misc]  # all are ints


class KernelFlows(FlowNetwork):
    """The network of a run of the kernel."""

    def __init__(self, arrays: ArrayPlan) -> None:
        """Move the transfers of a lowered plan."""
        plan, clock = arrays.plan, Clock()
        env = clock.env = _KernelEnvironment()
        of_links = (plan.capacity_bytes_per_s, plan.link_names, plan.link_kinds)
        super().__init__(clock, *of_links, can_saturate=plan.can_saturate)
        self._kernel, self._transfers = env, arrays.transfers
        self._to_end: list[int] = []

    def answer(self, m: NDArray[np.int64]) -> None:
        """Do what the event says at which the kernel has stopped, and write down for it what follows.

        Raises
        ------
        SimulationError
            A transfer uses a link without capacity.
        """
        env, what = self._kernel, int(m[at.WHAT])
        env.now = int(m[at.NOW])
        kind, argument = what & ((1 << at.KIND_BITS) - 1), what >> at.KIND_BITS
        if kind == at.FLOWS_START:
            self._start(m, argument)
        else:
            event = env.events.pop(argument)
            for callback in event.callbacks or ():
                callback(event)
        first, made = int(m[at.TO_MAKE]), env.take_made()
        for i, (at_ns, priority, number) in enumerate(made):
            m[first + 3 * i], m[first + 3 * i + 1], m[first + 3 * i + 2] = at_ns, priority, number
        m[at.NUM_TO_MAKE] = len(made)
        first = int(m[at.ENDED_PLACE])
        m[first : first + len(self._to_end)] = self._to_end
        m[at.NUM_TO_END] = len(self._to_end)
        self._to_end.clear()

    # ---- private -------------------------------------------------------------------------------------------------

    def _start(self, m: NDArray[np.int64], head: int) -> None:
        places, place = [], head
        nexts, transfers = int(m[at.PLACE_NEXT]), int(m[at.PLACE_TRANSFER])
        while place >= 0:
            places.append(place)
            place = int(m[nexts + place])
        batch = _Places([self._transfers[m[transfers + place]] for place in places], self._kernel, places)
        self._start_to_flow(batch, range(len(places)), batch.done)

    def _finish(self, batch: Batch, position: int) -> None:
        """Let the kernel end a transfer: after all that the event says, which asks nothing of those that have ended."""
        self._to_end.append(cast("_Places", batch).places[position])
