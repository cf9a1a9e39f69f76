"""The stages of a pipeline as machines of a job shop: what each runs next under a rule and a limit of memory.

Model
-----
A stage that is free takes the first pass that can start, in the order of `Rule.priority`; `list_scheduling` states when
a pass can.

With s = `Pipeline.weight_share`, a chunk holds 1 from F to B and s from B to W. Where s > 1, B takes s - 1 more than it
frees. So much stays free for it: F starts where the stage holds `most_held` - s at most, and a B that finds no room
waits for a W, which runs at once. Where the v chunks of one microbatch with that room are more than the limit,
v + s - 1 > `most_held`, no order keeps it: `most_held` + s - 1 is held at most then.

The stages soon fall into a rhythm: when stage 0 starts a microbatch and all stages stand as they stood when it started
an earlier one, only later and that many microbatches further on, what follows is what followed then. It is written down
as often as microbatches are left, and the draining is simulated again. The order is the same as without
(`repeats=False`).

A run may be given up: when a stage has waited so long that its span, with the work it has left, is no shorter than
`shorter_than_ns`.

All times here are v times as long as given, so that those of chunks are whole numbers.

Cost
----
About 1.5 us per pass that is simulated, 0.1 us per pass that is repeated.
"""

import heapq
import math
from dataclasses import dataclass

from workloads.schedules.base import Order, Pass
from workloads.schedules.chunk_layout import ChunkLayout
from workloads.schedules.pipeline import Pipeline

__all__ = ["ListScheduler", "Rule"]

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


class ListScheduler:
    """All stages, and the times at which one of them may go on.

    >>> rule = Rule(priority=(("B", 0), ("F", 0)), lead=(1,), patience=1.0)
    >>> layout = ChunkLayout(kind="row", num_stages=1)
    >>> floor = ListScheduler(Pipeline(num_stages=1, num_microbatches=2), layout, rule, most_held=2)
    >>> "".join(p.kind + str(p.microbatch) for p in floor.order()[0]), floor.longest_span_ns
    ('F0B0F1B1W0W1', 6)
    """

    def __init__(
        self,
        pipeline: Pipeline,
        layout: ChunkLayout,
        rule: Rule,
        *,
        most_held: float,
        repeats: bool = True,
        shorter_than_ns: float = math.inf,
    ) -> None:
        numbers = range(pipeline.num_stages)
        self._stages = [_Stage(number, pipeline, layout, rule, most_held) for number in numbers]
        hop_ns, self._num = pipeline.hop_ns * layout.num_chunks, pipeline.num_microbatches
        for number in numbers:
            for (kind, chunk), line in self._stages[number].lines.items():
                # B's own F is older than the B of the part after it: what came last is all that it waits for
                for stage, needed in layout.needs(number, Pass(kind, 0, chunk)):
                    line.source = self._stages[stage].lines[needed.kind, needed.chunk]
                    line.inputs_ns = line.source.outputs_ns
                target = layout.target(number, Pass(kind, 0, chunk))
                if target is not None and target.stage != number:
                    line.target, line.hop_ns = target.stage, hop_ns
        self._heap = [(0, number) for number in numbers]
        self._seen: _Standing | None = None
        self._repeats = repeats
        self._shorter_than_ns = shorter_than_ns
        self.num_simulated = sum(stage.left for stage in self._stages)
        """Passes that were simulated, and not repeated."""
        self._run()
        self.is_given_up = any(stage.left for stage in self._stages)
        """Whether no shorter span was left to be found before the last pass."""
        self.num_simulated -= sum(stage.left for stage in self._stages)

    @property
    def longest_span_ns(self) -> int:
        """The longest time from a stage's first pass to its last, times v; of a run given up the least it could be."""
        return max(stage.least_span_ns() for stage in self._stages)

    @property
    def most_work_ns(self) -> int:
        """The work of the stage that has most, times v: no stage's span is shorter than its work."""
        return max(stage.work_ns for stage in self._stages)

    def order(self) -> Order:
        """Return the passes of every stage."""
        lines = self._stages[0].lines
        kinds = [*lines, *(("W", chunk) for kind, chunk in lines if kind == "B")]
        passes = [Pass(kind, i, chunk) for kind, chunk in kinds for i in range(self._num)]
        return [[passes[code] for code in stage.codes] for stage in self._stages]

    # ---- private -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Run all passes of all stages."""
        heap, stages = self._heap, self._stages
        push, pop, replace = heapq.heappush, heapq.heappop, heapq.heapreplace
        entry = stages[0].lines["F", 0]
        while heap:
            now_ns, number = heap[0]
            stage = stages[number]
            left = stage.left
            if stage.free_ns > now_ns or not left:
                pop(heap)
                continue
            line = stage.choose(now_ns)
            if stage.left == left:
                stage.rests = True
                pop(heap)
                continue
            stage.rests = False
            replace(heap, (stage.free_ns, number))
            if line is None:
                continue
            if line.target is not None:
                at_ns = stage.free_ns + line.hop_ns
                target = stages[line.target]
                if target.free_ns < at_ns or target.rests:  # else it looks when it is free
                    push(heap, (at_ns, line.target))
            if line is entry:
                if self._repeats:
                    self._look_back(now_ns, entry.number)
                if entry.number % len(stages) == 0 and self.longest_span_ns >= self._shorter_than_ns:
                    return
        if any(stage.left for stage in stages):
            raise RuntimeError("an automatic schedule came to a stop: its limit of memory is too low")

    def _look_back(self, now_ns: int, number: int) -> None:
        """Hold the stages against how they stood at an earlier microbatch; repeat what followed if they are alike."""
        seen = self._seen
        if seen is not None and seen.is_like(self._stages, self._heap, now_ns, number):
            self._repeat(seen, now_ns, number)
            self._repeats = False
        elif number & (number - 1) == 0:  # at powers of two: any rhythm is found within three times its length
            self._seen = _Standing(self._stages, self._heap, now_ns, number)

    def _repeat(self, seen: "_Standing", now_ns: int, number: int) -> None:
        """Write down what followed since then as often as microbatches are left."""
        step, step_ns = number - seen.number, now_ns - seen.now_ns
        times = (self._num - number) // step
        for stage, position in zip(self._stages, seen.positions, strict=True):
            self.num_simulated -= stage.repeat(position, times, step, step_ns)
        self._heap[:] = [(at_ns + times * step_ns, stage) for at_ns, stage in self._heap]


class _Standing:
    """How all stages stand, apart from the time and the number of the microbatch that starts."""

    def __init__(self, stages: "list[_Stage]", heap: list[tuple[int, int]], now_ns: int, number: int) -> None:
        self.now_ns, self.number = now_ns, number
        self.positions = [len(stage.codes) for stage in stages]
        self._stages = [stage.standing(now_ns, number) for stage in stages]
        self._heap = sorted((at_ns - now_ns, stage) for at_ns, stage in heap)
        self._differs = 0

    def is_like(self, stages: "list[_Stage]", heap: list[tuple[int, int]], now_ns: int, number: int) -> bool:
        """Tell whether the stages stand like that again; the stage that differed last is looked at first."""
        for one in (self._differs, *range(len(stages))):
            if stages[one].standing(now_ns, number) != self._stages[one]:
                self._differs = one
                return False
        return sorted((at_ns - now_ns, stage) for at_ns, stage in heap) == self._heap


class _Line:
    """The passes of one kind and chunk on one stage, which run in the order of microbatches."""

    __slots__ = (
        "code", "duration_ns", "hop_ns", "inputs_ns", "is_entry", "is_forward", "number", "outputs_ns", "source",
        "target", "weight_code",
    )  # fmt: skip

    def __init__(self, of: tuple[str, int], duration_ns: int, num: int, code: int, weight_code: int) -> None:
        self.code, self.weight_code, self.duration_ns = code, weight_code, duration_ns
        self.number, self.hop_ns = 0, 0
        self.target: int | None = None
        self.is_forward, self.is_entry = of[0] == "F", of == ("F", 0)
        self.source: _Line | None = None
        self.inputs_ns: list[float] = [0] * num + [math.inf]  # when each microbatch has come; behind the last: never
        self.outputs_ns: list[float] = [math.inf] * (num + 1)  # when each is where it is wanted


class _Stage:
    """One stage while an order is made; a pass's code is its line's, or W's, plus its microbatch."""

    def __init__(self, number: int, pipeline: Pipeline, layout: ChunkLayout, rule: Rule, most_held: float) -> None:
        times, chunks = pipeline.stage_times[number], layout.num_chunks
        self._num = pipeline.num_microbatches
        durations = {"F": times.forward_ns, "B": times.backward_ns}
        weights = [of for of in rule.priority if of[0] == "B"]
        self.lines = {
            of: _Line(
                of,
                durations[of[0]],
                self._num,
                code=self._num * position,
                weight_code=self._num * (len(rule.priority) + weights.index(of)) if of in weights else -1,
            )
            for position, of in enumerate(rule.priority)
        }
        self._tried = list(self.lines.values())
        self._after_entry = self.lines["F", 1] if chunks > 1 else self.lines["B", 0]
        self._entry = self.lines["F", 0]
        self._weight_ns, self._share = times.weight_ns, pipeline.weight_share
        self._gap_ns, self._lead = rule.patience * self._weight_ns, rule.lead[number]
        extra = max(0.0, self._share - 1.0)
        most_held += extra if chunks + extra > most_held else 0.0
        self._most_before_backward = most_held - extra + _ROUNDING
        self._most = self._most_before_backward - 1
        self._most_entered = self._most - (chunks > 1)
        self.left, self._held, self._num_weights = self._num * chunks * 3, 0.0, 0
        self.work_ns = self._num * chunks * (times.forward_ns + times.backward_ns + times.weight_ns)
        self._waiting: list[int] = []
        self.codes: list[int] = []
        self.free_ns, self.first_ns, self.rests = 0, -1, False

    def choose(self, now_ns: int) -> _Line | None:
        """Run the pass that is next, if one is; return its line, None after W or nothing."""
        soonest, held = math.inf, self._held
        for line in self._tried:
            number = line.number
            at_ns = line.inputs_ns[number]
            if at_ns >= soonest:
                continue
            if line.is_forward:
                if held > self._most:
                    continue
                if line.is_entry and (held > self._most_entered or number - self._after_entry.number >= self._lead):
                    continue
            elif held > self._most_before_backward:
                continue
            if at_ns > now_ns:
                soonest = at_ns
                continue
            self.codes.append(line.code + number)
            self.left -= 1
            self.free_ns = now_ns + line.duration_ns
            line.outputs_ns[number] = self.free_ns + line.hop_ns
            line.number = number + 1
            if line.is_forward:
                self._held = held + 1.0
                if self.first_ns < 0:
                    self.first_ns = now_ns
            else:
                self._held = held + self._share - 1.0
                self._waiting.append(line.weight_code + number)
            return line
        if self._num_weights < len(self._waiting) and soonest - now_ns >= self._gap_ns:
            self._held -= self._share
            self.codes.append(self._waiting[self._num_weights])
            self.left -= 1
            self.free_ns = now_ns + self._weight_ns
            self._num_weights += 1
        return None

    def least_span_ns(self) -> int:
        """Return the time from the first pass to the end of the work that is left, if the stage never waits again."""
        if self.first_ns < 0:
            return self.work_ns
        done = -self._weight_ns * (len(self._waiting) - self._num_weights)
        for line in self._tried:
            done += line.number * (line.duration_ns + (0 if line.is_forward else self._weight_ns))
        return self.free_ns - self.first_ns + self.work_ns - done

    def standing(self, now_ns: int, number: int) -> tuple[object, ...]:
        """Return all that the next passes depend on, apart from the time and a microbatch's number."""
        lines = [
            (line.number - number, [at_ns - now_ns for at_ns in line.inputs_ns[line.number : line.source.number]])
            for line in self._tried
            if line.source is not None
        ]
        weights = [code - number for code in self._waiting[self._num_weights :]]
        return self.free_ns - now_ns, self._entry.number - number, lines, weights

    def repeat(self, position: int, times: int, step: int, step_ns: int) -> int:
        """Repeat the passes from `position` on, each time `step` microbatches and `step_ns` later; return how many."""
        steps = range(step, times * step + 1, step)
        passes = self.codes[position:]
        self.codes += [code + later for later in steps for code in passes]
        self.left -= times * len(passes)
        self.free_ns += times * step_ns
        self._waiting = [code + times * step for code in self._waiting[self._num_weights :]]
        self._num_weights = 0
        for line in self._tried:
            more, outputs_ns = times * step, line.outputs_ns
            later = [at_ns + times * step_ns for at_ns in outputs_ns[: line.number]]
            outputs_ns[more : more + line.number] = later  # those before have been used
            line.number += more
        return times * len(passes)
