"""A list scheduler for the stages of a pipeline: what each stage runs next under a rule and a limit of memory.

Model
-----
A stage that is free takes the first pass that can start, in the order of `Rule.priority`. F must fit the memory: a
chunk counts 1 from F to B, and s = `Pipeline.weight_share` from B to W. Where neither F nor B can start, W fills the
gap, if the next F or B comes no sooner than `min_gap` times W. The room of one chunk stays free for the forward passes
that follow those of the first chunk, so that a microbatch that has begun can always end: no stages wait for ever.

Where s > 1, B takes s - 1 more than it frees. So much room stays free for B: F starts where the stage has at most
`max_in_flight` - s in flight, and a B that finds no room waits for a W, which runs at once. Where the v chunks of one
microbatch with that room exceed the limit, v + s - 1 > `max_in_flight`, no order keeps the limit: at most
`max_in_flight` + s - 1 is in flight then.

The stages soon become periodic: when stage 0 starts a microbatch and all stages are in the state in which they were
when stage 0 started an earlier microbatch, only later and that many microbatches further on, the same passes follow as
then. These passes are repeated as often as microbatches are left, and the draining is simulated again. The order does
not differ from the order without repeating (`repeats=False`).

A run may be abandoned: when a stage has waited so long that its span, with the work that it has left, is no shorter
than `shorter_than_ns`.

All times here are v times as long as given, so that the times of chunks are whole numbers.

Cost
----
About 1.5 us for each pass that is simulated, 0.1 us for each pass that is repeated.
"""

import heapq
import math
from dataclasses import dataclass

from workloads.schedules.passes import Order, Pass
from workloads.schedules.pipeline import ChunkLayout, Pipeline

__all__ = ["ListScheduler", "Rule"]

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a stage prefers."""

    priority: tuple[tuple[str, int], ...]
    """Kind and chunk of passes, the preferred pass first."""
    max_lead: tuple[int, ...]
    """Microbatches that F of chunk 0 may be ahead of the pass that follows F on the same stage, for each stage."""
    min_gap: float
    """Smallest gap that W fills, in units of the time of W."""


class ListScheduler:
    """The stages of a pipeline, run under a rule; the times at which a stage may start a pass are in a heap.

    >>> rule = Rule(priority=(("B", 0), ("F", 0)), max_lead=(1,), min_gap=1.0)
    >>> layout = ChunkLayout(kind="row", num_stages=1)
    >>> schedule = ListScheduler(Pipeline(num_stages=1, num_microbatches=2), layout, rule, max_in_flight=2)
    >>> "".join(p.kind + str(p.microbatch) for p in schedule.order()[0]), schedule.longest_span_ns
    ('F0B0F1B1W0W1', 6)
    """

    def __init__(
        self,
        pipeline: Pipeline,
        layout: ChunkLayout,
        rule: Rule,
        *,
        max_in_flight: float,
        repeats: bool = True,
        shorter_than_ns: float = math.inf,
    ) -> None:
        stages = [_Stage(number, pipeline, layout, rule, max_in_flight) for number in range(pipeline.num_stages)]
        hop_ns, self._num_microbatches = pipeline.hop_ns * layout.num_chunks, pipeline.num_microbatches
        for number, stage in enumerate(stages):
            for (kind, chunk), queue in stage.queues.items():
                # F of B's own chunk is older than B of the next model chunk: B waits for the last dependency alone
                for sender, pass_ in layout.dependencies(number, Pass(kind, 0, chunk)):
                    queue.source = stages[sender].queues[pass_.kind, pass_.chunk]
                    queue.arrives_ns = queue.source.delivered_ns
                receiver = layout.receiver(number, Pass(kind, 0, chunk))
                if receiver is not None and receiver.stage != number:
                    queue.receiver, queue.hop_ns = receiver.stage, hop_ns
        self._stages = stages
        self._heap = [(0, number) for number in range(len(stages))]
        self._snapshot: _Snapshot | None = None
        self._repeats = repeats
        self._shorter_than_ns = shorter_than_ns
        self.num_simulated = sum(stage.num_left for stage in stages)
        """Passes that were simulated, and not repeated."""
        self._run()
        self.is_abandoned = any(stage.num_left for stage in stages)
        """Whether the run ended before the last pass because no shorter span was possible."""
        self.num_simulated -= sum(stage.num_left for stage in stages)

    @property
    def longest_span_ns(self) -> int:
        """The longest time from the first pass of a stage to its last, times v; a lower bound for an abandoned run."""
        return max(stage.min_span_ns() for stage in self._stages)

    @property
    def max_work_ns(self) -> int:
        """The work of the stage that has most, times v: the span of a stage is no shorter than its work."""
        return max(stage.work_ns for stage in self._stages)

    def order(self) -> Order:
        """Return the passes of every stage."""
        queues = self._stages[0].queues
        kinds = [*queues, *(("W", chunk) for kind, chunk in queues if kind == "B")]
        passes = [Pass(kind, i, chunk) for kind, chunk in kinds for i in range(self._num_microbatches)]
        return [[passes[code] for code in stage.codes] for stage in self._stages]

    # ---- private -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Run all passes of all stages."""
        heap, stages = self._heap, self._stages
        push, pop, replace = heapq.heappush, heapq.heappop, heapq.heapreplace
        entry = stages[0].queues["F", 0]
        while heap:
            now_ns, number = heap[0]
            stage = stages[number]
            num_left = stage.num_left
            if stage.free_ns > now_ns or not num_left:
                pop(heap)
                continue
            queue = stage.run_next(now_ns)
            if stage.num_left == num_left:
                stage.is_idle = True
                pop(heap)
                continue
            stage.is_idle = False
            replace(heap, (stage.free_ns, number))
            if queue is None:
                continue
            if queue.receiver is not None:
                arrives_ns = stage.free_ns + queue.hop_ns
                receiver = stages[queue.receiver]
                if receiver.free_ns < arrives_ns or receiver.is_idle:  # otherwise it is called when it is free
                    push(heap, (arrives_ns, queue.receiver))
            if queue is entry:
                if self._repeats:
                    self._repeat_if_periodic(now_ns, entry.number)
                if entry.number % len(stages) == 0 and self.longest_span_ns >= self._shorter_than_ns:
                    return
        if any(stage.num_left for stage in stages):
            raise RuntimeError("an automatic schedule came to a stop: its limit of memory is too low")

    def _repeat_if_periodic(self, now_ns: int, number: int) -> None:
        """Compare the stages with their state at an earlier microbatch; where it is equal, repeat what followed."""
        snapshot = self._snapshot
        if snapshot is not None and snapshot.equals(self._stages, self._heap, now_ns, number):
            self._repeat(snapshot, now_ns, number)
            self._repeats = False
        elif number & (number - 1) == 0:  # at powers of two: any period is found within three times its length
            self._snapshot = _Snapshot(self._stages, self._heap, now_ns, number)

    def _repeat(self, snapshot: "_Snapshot", now_ns: int, number: int) -> None:
        """Write down what followed the snapshot as often as microbatches are left."""
        step, step_ns = number - snapshot.number, now_ns - snapshot.now_ns
        times = (self._num_microbatches - number) // step
        for stage, position in zip(self._stages, snapshot.positions, strict=True):
            self.num_simulated -= stage.repeat(position, times, step, step_ns)
        self._heap[:] = [(at_ns + times * step_ns, stage) for at_ns, stage in self._heap]


class _Snapshot:
    """The state of all stages, relative to the time and to the number of the microbatch that starts."""

    def __init__(self, stages: "list[_Stage]", heap: list[tuple[int, int]], now_ns: int, number: int) -> None:
        self.now_ns, self.number = now_ns, number
        self.positions = [len(stage.codes) for stage in stages]
        self._states = [stage.state(now_ns, number) for stage in stages]
        self._heap = sorted((at_ns - now_ns, stage) for at_ns, stage in heap)
        self._differing = 0

    def equals(self, stages: "list[_Stage]", heap: list[tuple[int, int]], now_ns: int, number: int) -> bool:
        """Return whether the stages are in this state again; the stage that differed last is compared first."""
        for stage in (self._differing, *range(len(stages))):
            if stages[stage].state(now_ns, number) != self._states[stage]:
                self._differing = stage
                return False
        return sorted((at_ns - now_ns, stage) for at_ns, stage in heap) == self._heap


class _PassQueue:
    """The passes of one kind and chunk on one stage, which run in the order of microbatches."""

    __slots__ = (
        "arrives_ns", "code", "delivered_ns", "duration_ns", "hop_ns", "is_entry", "is_forward", "number", "receiver",
        "source", "weight_code",
    )  # fmt: skip

    def __init__(self, kind: str, chunk: int, duration_ns: int, num: int, *, code: int, weight_code: int) -> None:
        self.code, self.weight_code, self.duration_ns = code, weight_code, duration_ns
        self.number, self.hop_ns = 0, 0
        self.receiver: int | None = None
        self.is_forward, self.is_entry = kind == "F", (kind, chunk) == ("F", 0)
        self.source: _PassQueue | None = None
        self.arrives_ns: list[float] = [0] * num + [math.inf]  # inputs of each microbatch; none after the last
        self.delivered_ns: list[float] = [math.inf] * (num + 1)  # outputs of each microbatch, where they are needed


class _Stage:
    """One stage while an order is made; the code of a pass is the code of its queue, or of W, plus its microbatch."""

    def __init__(self, number: int, pipeline: Pipeline, layout: ChunkLayout, rule: Rule, max_in_flight: float) -> None:
        times, num_chunks, num = pipeline.stage_times[number], layout.num_chunks, pipeline.num_microbatches
        durations = {"F": times.forward_ns, "B": times.backward_ns}
        backward = [key for key in rule.priority if key[0] == "B"]
        self.queues = {
            key: _PassQueue(
                *key,
                durations[key[0]],
                num,
                code=num * position,
                weight_code=num * (len(rule.priority) + backward.index(key)) if key in backward else -1,
            )
            for position, key in enumerate(rule.priority)
        }
        self._by_priority = list(self.queues.values())
        self._entry = self.queues["F", 0]
        self._after_entry = self.queues["F", 1] if num_chunks > 1 else self.queues["B", 0]
        self._weight_ns, self._weight_share = times.weight_ns, pipeline.weight_share
        self._min_gap_ns, self._max_lead = rule.min_gap * self._weight_ns, rule.max_lead[number]
        extra = max(0.0, self._weight_share - 1.0)
        max_in_flight += extra if num_chunks + extra > max_in_flight else 0.0
        self._max_before_backward = max_in_flight - extra + _ROUNDING
        self._max_before_forward = self._max_before_backward - 1
        self._max_before_entry = self._max_before_forward - (num_chunks > 1)
        self.num_left, self._in_flight, self._num_weights = num * num_chunks * 3, 0.0, 0
        self.work_ns = num * num_chunks * (times.forward_ns + times.backward_ns + times.weight_ns)
        self._weights: list[int] = []  # codes of the W passes whose B has run, of which `_num_weights` have run
        self.codes: list[int] = []
        self.free_ns, self.first_ns, self.is_idle = 0, -1, False

    def run_next(self, now_ns: int) -> _PassQueue | None:
        """Run the next pass, if a pass can start; return its queue, None after W or where no pass can start."""
        soonest, in_flight = math.inf, self._in_flight
        for queue in self._by_priority:
            number = queue.number
            arrives_ns = queue.arrives_ns[number]
            if arrives_ns >= soonest:
                continue
            if queue.is_forward:
                if in_flight > self._max_before_forward:
                    continue
                if queue.is_entry and (
                    in_flight > self._max_before_entry or number - self._after_entry.number >= self._max_lead
                ):
                    continue
            elif in_flight > self._max_before_backward:
                continue
            if arrives_ns > now_ns:
                soonest = arrives_ns
                continue
            self.codes.append(queue.code + number)
            self.num_left -= 1
            self.free_ns = now_ns + queue.duration_ns
            queue.delivered_ns[number] = self.free_ns + queue.hop_ns
            queue.number = number + 1
            if queue.is_forward:
                self._in_flight = in_flight + 1.0
                if self.first_ns < 0:
                    self.first_ns = now_ns
            else:
                self._in_flight = in_flight + self._weight_share - 1.0
                self._weights.append(queue.weight_code + number)
            return queue
        if self._num_weights < len(self._weights) and soonest - now_ns >= self._min_gap_ns:
            self._in_flight -= self._weight_share
            self.codes.append(self._weights[self._num_weights])
            self.num_left -= 1
            self.free_ns = now_ns + self._weight_ns
            self._num_weights += 1
        return None

    def min_span_ns(self) -> int:
        """Return the time from the first pass to the end of the work that is left, if the stage never waits again."""
        if self.first_ns < 0:
            return self.work_ns
        done_ns = -self._weight_ns * (len(self._weights) - self._num_weights)
        for queue in self._by_priority:
            done_ns += queue.number * (queue.duration_ns + (0 if queue.is_forward else self._weight_ns))
        return self.free_ns - self.first_ns + self.work_ns - done_ns

    def state(self, now_ns: int, number: int) -> tuple[object, ...]:
        """Return all that the next passes depend on, relative to the time and to the number of a microbatch."""
        queues = [
            (queue.number - number, [ns - now_ns for ns in queue.arrives_ns[queue.number : queue.source.number]])
            for queue in self._by_priority
            if queue.source is not None
        ]
        weights = [code - number for code in self._weights[self._num_weights :]]
        return self.free_ns - now_ns, self._entry.number - number, queues, weights

    def repeat(self, position: int, times: int, step: int, step_ns: int) -> int:
        """Repeat the passes from `position` on, each time `step` microbatches and `step_ns` later; return how many."""
        passes = self.codes[position:]
        self.codes += [code + later for later in range(step, times * step + 1, step) for code in passes]
        self.num_left -= times * len(passes)
        self.free_ns += times * step_ns
        self._weights = [code + times * step for code in self._weights[self._num_weights :]]
        self._num_weights = 0
        for queue in self._by_priority:
            shift, delivered_ns = times * step, queue.delivered_ns
            later_ns = [ns + times * step_ns for ns in delivered_ns[: queue.number]]
            delivered_ns[shift : shift + queue.number] = later_ns  # the times before have been used
            queue.number += shift
        return times * len(passes)
