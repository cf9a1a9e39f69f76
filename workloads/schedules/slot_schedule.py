"""A building block of passes repeated in slots of equal length, with passes squeezed into slots that are free.

Model
-----
Every pass of every stage has a slot. Passes of one run (F0, F1, B1, B0: kind and chunk) keep the order of their
microbatches, and W passes keep the order of the B passes that they follow. A pass moves to the first free slot of its
stage behind all passes that it waits for, if the stage then never has more than its limit in flight: a chunk counts
from its F to its W. F and B may displace a W, too, which then takes their slot.

The slot of every pass comes after the slots of all passes that it waits for: no stages wait for each other for ever,
whatever the real lengths of the passes are.

Cost
----
About 4 us for each pass that is looked at.

References
----------
Qi et al., "Pipeline parallelism with controllable memory", 2024: building block, repeating, squeezing, reordering.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Final

import numpy as np

__all__ = ["RUNS", "SlotSchedule"]

RUNS: Final = (("F", 0), ("F", 1), ("B", 1), ("B", 0))
"""Kind and chunk of the four runs of a microbatch, in order: down the stages, up, down, up."""
_WEIGHT: Final = len(RUNS)
_FREE, _TAKEN, _OF_WEIGHT = range(3)


class SlotSchedule:
    """The slots of all passes.

    >>> schedule = SlotSchedule([(0, 1, 2, 4, 3, 5)], num_microbatches=1, period=6, max_in_flight=2)
    >>> schedule.squeeze(range(6), displaces_weights=True)
    >>> schedule.order()  # numbers of F0, F1, B1, B0, and of W after B1 and after B0
    [[0, 1, 2, 3, 4, 5]]
    """

    def __init__(
        self, block: Sequence[Sequence[int]], *, num_microbatches: int, period: int, max_in_flight: int
    ) -> None:
        """Repeat a block: for each stage the slots of the four runs, of W after B1 and of W after B0."""
        m, length = num_microbatches, period * (num_microbatches - 1) + 1
        self.num_slots = max(map(max, block)) + length
        self._num_microbatches, self._max_in_flight = m, max_in_flight
        runs = [[list(range(slot, slot + length, period)) for slot in slots] for slots in block]
        self._runs = [stage[:_WEIGHT] for stage in runs]
        self._weights = [sorted(stage[_WEIGHT] + stage[_WEIGHT + 1]) for stage in runs]
        self._backward = [sorted(stage[2] + stage[3]) for stage in self._runs]
        self._occupancy = [bytearray(self.num_slots) for _ in block]
        change = np.zeros((len(block), self.num_slots), dtype=np.int64)
        for stage, stage_runs in enumerate(runs):
            for run, slots in enumerate(stage_runs):
                repeated = slice(slots[0], slots[-1] + 1, period)
                self._occupancy[stage][repeated] = bytes([_TAKEN if run < _WEIGHT else _OF_WEIGHT]) * m
                change[stage, repeated] += (run < 2) - (run >= _WEIGHT)
        self._in_flight = change.cumsum(axis=1)

    def squeeze(self, slots: range, *, displaces_weights: bool = False) -> None:
        """Move the passes of some slots forward, earlier passes first; with `displaces_weights` to slots of W, too."""
        for slot, stage, run, number in self._passes(slots, with_weights=not displaces_weights):
            self._move(stage, run, number, slot, displaces_weights=displaces_weights)
        if displaces_weights:
            for slot, stage, run, number in self._passes(slots, with_weights=True):
                if run == _WEIGHT:
                    self._move(stage, run, number, slot, displaces_weights=False)

    def order(self) -> list[list[int]]:
        """Return the numbers of the passes of every stage in order: run * m + microbatch, where W of a B is run + 2."""
        order = []
        for runs, weights in zip(self._runs, self._weights, strict=True):
            slots = np.array(runs).ravel()
            first_backward = 2 * self._num_microbatches
            backward = first_backward + np.argsort(slots[first_backward:])
            numbers = np.concatenate([np.arange(slots.size), backward + first_backward])
            order.append(numbers[np.argsort(np.concatenate([slots, weights]))].tolist())
        return order

    # ---- private -------------------------------------------------------------------------------------------------

    def _passes(self, slots: range, *, with_weights: bool) -> list[tuple[int, int, int, int]]:
        """Return slot, stage, run and number of the passes of some slots."""
        passes = []
        for stage, runs in enumerate(self._runs):
            for run, of_run in enumerate((*runs, self._weights[stage]) if with_weights else runs):
                first, end = bisect_left(of_run, slots.start), bisect_left(of_run, slots.stop)
                passes += [(of_run[number], stage, run, number) for number in range(first, end)]
        return sorted(passes)

    def _move(self, stage: int, run: int, number: int, slot: int, *, displaces_weights: bool) -> None:
        """Move one pass to the first slot that it may have."""
        occupancy, in_flight = self._occupancy[stage], self._in_flight[stage]
        first, added = self._first_slot(stage, run, number), int(run < 2)
        target = occupancy.find(_FREE, self._first_with_room(in_flight, first, slot, added), slot)
        if displaces_weights:
            weight = occupancy.find(_OF_WEIGHT, self._first_with_room(in_flight, first, slot, added + 1), slot)
            if weight >= 0 and (target < 0 or weight < target):
                weights = self._weights[stage]
                del weights[bisect_left(weights, weight)]
                insort(weights, slot)
                target, added = weight, added + 1
        if target < 0:
            return
        occupancy[target], occupancy[slot] = occupancy[slot], occupancy[target]
        in_flight[target:slot] += added - (run == _WEIGHT)
        if run == _WEIGHT:
            self._weights[stage][number] = target
            return
        self._runs[stage][run][number] = target
        if run >= 2:
            backward = self._backward[stage]
            del backward[bisect_left(backward, slot)]
            insort(backward, target)

    def _first_slot(self, stage: int, run: int, number: int) -> int:
        """Return the first slot behind all passes that a pass waits for."""
        if run == _WEIGHT:
            return 1 + max(self._backward[stage][number], self._weights[stage][number - 1] if number else -1)
        runs, sender = self._runs, stage - 1 if run % 2 == 0 else stage + 1
        earlier = [runs[stage][run][number - 1]] if number else [-1]
        if 0 <= sender < len(runs):
            earlier.append(runs[sender][run][number])
        if run:
            earlier.append(runs[stage][run - 1][number])
        return 1 + max(earlier)

    def _first_with_room(self, in_flight: np.ndarray, first: int, slot: int, added: int) -> int:
        """Return the first slot from which on until `slot` a stage can have `added` more chunks in flight."""
        if not added or first >= slot:
            return first
        full = np.flatnonzero(in_flight[first:slot] > self._max_in_flight - added)
        return first + int(full[-1]) + 1 if full.size else first
