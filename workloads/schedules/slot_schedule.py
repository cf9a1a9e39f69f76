"""A repeated block of passes in turns of equal length, with passes pulled forward into turns that are free.

Model
-----
Every pass of every stage has a turn. Passes of one run (F0, F1, B1, B0: kind and chunk) keep the order of their
microbatches, and W those of the B passes that they follow. A pass is pulled to the first free turn of its stage behind
all that it needs, if the stage then holds no more than its limit at any turn: a chunk counts from its F to its W. F and
B may be pulled to a turn of W as well, which then takes theirs.

Every pass keeps a turn behind the turns of all that it needs: there is no deadlock, whatever the passes' real lengths
are.

Cost
----
About 4 us per pass that is looked at.

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
"""Kind and chunk of what a microbatch runs through, in order: down the stages, up, down, up."""
_WEIGHT: Final = len(RUNS)
_FREE, _TAKEN, _OF_WEIGHT = range(3)


class SlotSchedule:
    """The turns of all passes.

    >>> table = SlotSchedule([(0, 1, 2, 4, 3, 5)], num_microbatches=1, period=6, most_held=2)
    >>> table.pull(range(6), before_weights=True)
    >>> table.order()  # numbers of F0, F1, B1, B0, and of W after B1 and after B0
    [[0, 1, 2, 3, 4, 5]]
    """

    def __init__(self, block: Sequence[Sequence[int]], *, num_microbatches: int, period: int, most_held: int) -> None:
        m, after = num_microbatches, period * (num_microbatches - 1) + 1
        self.num_turns = max(map(max, block)) + after
        self._num, self._most = m, most_held
        runs = [[list(range(turn, turn + after, period)) for turn in turns] for turns in block]
        self._runs = [stage[:_WEIGHT] for stage in runs]
        self._weights = [sorted(stage[_WEIGHT] + stage[_WEIGHT + 1]) for stage in runs]
        self._backward = [sorted(stage[2] + stage[3]) for stage in self._runs]
        self._slots = [bytearray(self.num_turns) for _ in block]
        change = np.zeros((len(block), self.num_turns), dtype=np.int64)
        for stage, turns in enumerate(runs):
            for run, row in enumerate(turns):
                of = slice(row[0], row[-1] + 1, period)
                self._slots[stage][of] = bytes([_TAKEN if run < _WEIGHT else _OF_WEIGHT]) * m
                change[stage, of] += (run < 2) - (run >= _WEIGHT)
        self._held = change.cumsum(axis=1)

    def pull(self, turns: range, *, before_weights: bool = False) -> None:
        """Pull the passes of some turns forward, earlier ones first; with `before_weights` to turns of W, too."""
        for turn, stage, run, number in self._passes(turns, with_weights=not before_weights):
            self._pull(stage, run, number, turn, before_weights=before_weights)
        if before_weights:
            for turn, stage, run, number in self._passes(turns, with_weights=True):
                if run == _WEIGHT:
                    self._pull(stage, run, number, turn, before_weights=False)

    def order(self) -> list[list[int]]:
        """Return the numbers of every stage's passes in order: run * m + microbatch, where W of a B is run + 2."""
        found = []
        for runs, weights in zip(self._runs, self._weights, strict=True):
            turns = np.array(runs).ravel()
            backward = 2 * self._num + np.argsort(turns[2 * self._num :])
            numbers = np.concatenate([np.arange(turns.size), backward + 2 * self._num])
            found.append(numbers[np.argsort(np.concatenate([turns, weights]))].tolist())
        return found

    # ---- private -------------------------------------------------------------------------------------------------

    def _passes(self, turns: range, *, with_weights: bool) -> list[tuple[int, int, int, int]]:
        """Return turn, stage, run and number of the passes of some turns."""
        found = []
        for stage, runs in enumerate(self._runs):
            for run, row in enumerate((*runs, self._weights[stage]) if with_weights else runs):
                first, end = bisect_left(row, turns.start), bisect_left(row, turns.stop)
                found += [(row[number], stage, run, number) for number in range(first, end)]
        return sorted(found)

    def _pull(self, stage: int, run: int, number: int, turn: int, *, before_weights: bool) -> None:
        """Move one pass to the first turn that it may have."""
        slots, held = self._slots[stage], self._held[stage]
        first, more = self._behind(stage, run, number), int(run < 2)
        to = slots.find(_FREE, self._room(held, first, turn, more), turn)
        if before_weights:
            weight = slots.find(_OF_WEIGHT, self._room(held, first, turn, more + 1), turn)
            if weight >= 0 and (to < 0 or weight < to):
                weights = self._weights[stage]
                del weights[bisect_left(weights, weight)]
                insort(weights, turn)
                to, more = weight, more + 1
        if to < 0:
            return
        slots[to], slots[turn] = slots[turn], slots[to]
        held[to:turn] += more - (run == _WEIGHT)
        if run == _WEIGHT:
            self._weights[stage][number] = to
            return
        self._runs[stage][run][number] = to
        if run >= 2:
            backward = self._backward[stage]
            del backward[bisect_left(backward, turn)]
            insort(backward, to)

    def _behind(self, stage: int, run: int, number: int) -> int:
        """Return the first turn behind all that a pass needs."""
        if run == _WEIGHT:
            return 1 + max(self._backward[stage][number], self._weights[stage][number - 1] if number else -1)
        runs, beside = self._runs, stage - 1 if run % 2 == 0 else stage + 1
        needed = [runs[stage][run][number - 1]] if number else [-1]
        if 0 <= beside < len(runs):
            needed.append(runs[beside][run][number])
        if run:
            needed.append(runs[stage][run - 1][number])
        return 1 + max(needed)

    def _room(self, held: np.ndarray, first: int, turn: int, more: int) -> int:
        """Return the first turn from which on a stage can hold `more` until `turn`."""
        if not more or first >= turn:
            return first
        full = np.flatnonzero(held[first:turn] > self._most - more)
        return first + int(full[-1]) + 1 if full.size else first
