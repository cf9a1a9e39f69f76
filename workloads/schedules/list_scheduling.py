"""Orders of passes from a simulation of the stages under a limit of memory, for the automatic schedules.

Model
-----
A stage that is free takes the first pass that can start, in the order of `Rule.priority`. F must fit the memory: a
microbatch holds 1 of a chunk from F to B, and `Pipeline.weight_share` from B to W. Where neither F nor B can start, W
fills the gap, if the next F or B comes no sooner than `patience` times W. Of the rules given, the order whose longest
span of a stage, from its own first pass to its own last, is shortest wins.

One chunk's room stays free for the forward passes that follow the first chunk's, so that a microbatch that has begun
can always end: there is no deadlock.

Cost
----
About 2 us per pass and rule; rules are tried while passes x rules stay below `_MOST_PASSES`, the first one always.
"""

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass

from workloads.schedules.base import Order, Pass, Step
from workloads.schedules.pipeline import Pipeline
from workloads.schedules.placement import Placement

__all__ = ["Rule", "schedule_list"]

_MOST_PASSES = 60_000
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a stage prefers."""

    priority: tuple[tuple[str, int], ...]
    """Kind and chunk, most wanted first."""
    lead: tuple[int, ...]
    """Microbatches that F of chunk 0 may be ahead of what follows it on the same stage, for each stage."""
    patience: float
    """Least gap that W fills, over W."""


def schedule_list(pipeline: Pipeline, placement: Placement, rules: Iterable[Rule], *, most_held: float) -> Order:
    """Return the order with the shortest longest span; a stage holds `most_held` chunks at most.

    >>> pipeline = Pipeline(num_stages=1, num_microbatches=2)
    >>> rule = Rule(priority=(("B", 0), ("F", 0)), lead=(1,), patience=1.0)
    >>> order = schedule_list(pipeline, Placement(kind="row", num_stages=1), [rule], most_held=2)
    >>> "".join(p.kind + str(p.microbatch) for p in order[0])
    'F0B0F1B1W0W1'
    """
    best: _Floor | None = None
    num_passes = pipeline.num_stages * pipeline.num_microbatches * placement.num_chunks * 3
    for tried, rule in enumerate(rules):
        if tried and (tried + 1) * num_passes > _MOST_PASSES:
            break
        floor = _Floor(pipeline, placement, rule, most_held)
        floor.run()
        if best is None or floor.longest_span_ns < best.longest_span_ns:
            best = floor
    if best is None:
        raise RuntimeError("an automatic schedule has one rule at least")
    return [stage.order for stage in best.stages]


class _Line:
    """The passes of one kind and chunk on one stage, which run in the order of microbatches."""

    __slots__ = ("chunk", "comes_from", "duration_ns", "ends_ns", "hop_ns", "is_entry", "is_forward", "kind", "target")

    def __init__(self, kind: str, chunk: int, duration_ns: int) -> None:
        self.kind, self.chunk, self.duration_ns = kind, chunk, duration_ns
        self.ends_ns: list[int] = []
        self.comes_from: list[int] | None = None
        self.hop_ns = 0
        self.target: int | None = None
        self.is_forward = kind == "F"
        self.is_entry = self.is_forward and chunk == 0


class _Stage:
    """One stage while an order is made."""

    def __init__(self, number: int, pipeline: Pipeline, placement: Placement, rule: Rule, most_held: float) -> None:
        times, chunks = pipeline.stage_times[number], placement.num_chunks
        durations = {"F": times.forward_ns // chunks, "B": times.backward_ns // chunks}
        self.lines = {of: _Line(*of, durations[of[0]]) for of in rule.priority}
        self._tried = list(self.lines.values())
        self._after_entry = self.lines["F", 1] if chunks > 1 else self.lines["B", 0]
        self._entry = self.lines["F", 0]
        self._weight_ns, self._share = times.weight_ns // chunks, pipeline.weight_share
        self._gap_ns, self._lead = rule.patience * self._weight_ns, rule.lead[number]
        self._most, self._most_entered = most_held + _ROUNDING, most_held - (chunks > 1) + _ROUNDING
        self._num = pipeline.num_microbatches
        self.left, self._held, self._num_weights = self._num * chunks * 3, 0.0, 0
        self._waiting: list[Pass] = []
        self.order: list[Step] = []
        self.free_ns, self.first_ns = 0, -1

    def choose(self, now_ns: int) -> _Line | None:
        """Run the pass that is next, if one is; return its line, None after W or nothing."""
        soonest, most = math.inf, self._num
        for line in self._tried:
            number = len(line.ends_ns)
            if number == most:
                continue
            comes_from, at_ns = line.comes_from, now_ns
            if comes_from is not None:
                if number >= len(comes_from):
                    continue
                at_ns = comes_from[number] + line.hop_ns
            if line.is_forward and (self._held > self._most - 1 or (line.is_entry and not self._may_enter())):
                continue
            if at_ns <= now_ns:
                self._start(Pass(line.kind, number, line.chunk), now_ns, line.duration_ns)
                line.ends_ns.append(self.free_ns)
                if line.is_forward:
                    self._held += 1.0
                else:
                    self._held += self._share - 1.0
                    self._waiting.append(Pass("W", number, line.chunk))
                return line
            soonest = min(soonest, at_ns)
        if self._num_weights < len(self._waiting) and soonest - now_ns >= self._gap_ns:
            self._held -= self._share
            self._start(self._waiting[self._num_weights], now_ns, self._weight_ns)
            self._num_weights += 1
        return None

    # ---- private -------------------------------------------------------------------------------------------------

    def _may_enter(self) -> bool:
        ahead = len(self._entry.ends_ns) - len(self._after_entry.ends_ns)
        return ahead < self._lead and self._held + 1 <= self._most_entered

    def _start(self, one: Pass, now_ns: int, duration_ns: int) -> None:
        if self.first_ns < 0:
            self.first_ns = now_ns
        self.order.append(one)
        self.free_ns = now_ns + duration_ns
        self.left -= 1


class _Floor:
    """All stages, and the times at which one of them may go on."""

    def __init__(self, pipeline: Pipeline, placement: Placement, rule: Rule, most_held: float) -> None:
        numbers = range(pipeline.num_stages)
        self.stages = [_Stage(number, pipeline, placement, rule, most_held) for number in numbers]
        self._hop_ns = pipeline.hop_ns
        for number in numbers:
            for (kind, chunk), line in self.stages[number].lines.items():
                # B's own F is older than the B of the part after it: what came last is all that it waits for
                for source, needed in placement.needs(number, Pass(kind, 0, chunk)):
                    line.comes_from = self.stages[source].lines[needed.kind, needed.chunk].ends_ns
                    line.hop_ns = pipeline.hop_ns if source != number else 0
                target = placement.target(number, Pass(kind, 0, chunk))
                line.target = target.stage if target is not None and target.stage != number else None

    def run(self) -> None:
        """Run all passes of all stages."""
        heap = [(0, number) for number in range(len(self.stages))]
        push, pop = heapq.heappush, heapq.heappop
        while heap:
            now_ns, number = pop(heap)
            stage = self.stages[number]
            before = stage.left
            if stage.free_ns > now_ns or not before:
                continue
            line = stage.choose(now_ns)
            if stage.left == before:
                continue
            if stage.left:
                push(heap, (stage.free_ns, number))
            if line is not None and line.target is not None:
                push(heap, (stage.free_ns + self._hop_ns, line.target))
        if any(stage.left for stage in self.stages):
            raise RuntimeError("an automatic schedule came to a stop: its limit of memory is too low")

    @property
    def longest_span_ns(self) -> int:
        """The longest time from a stage's first pass to its last."""
        return max(stage.free_ns - stage.first_ns for stage in self.stages)
