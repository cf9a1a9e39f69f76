"""Requests are served: arrivals, batches and steps, event by event.

Model
-----
Data-parallel ranks that exchange tokens form a group. A group steps together: whenever its first stage is free, each of
its ranks forms a batch of its requests, ranks without any run a dummy batch, and the step takes as long as the slowest
rank. A batch goes through the stages of the pipeline one after another, so that as many batches are in flight as there
are stages; its tokens count when it leaves the last stage. A scheduler that runs ahead forms one more: a batch is then
formed when the one before it begins, and a request that arrives waits for both.

A request goes to a rank when it arrives, as the balancer chooses; the balancer learns the ranks' counts at fixed times.
Events at one time: batches that end, then arrivals, then new steps. The next request of a closed loop arrives when the
answer to another has reached the user, and so after the step that follows that answer was formed: a nanosecond later.

A run that makes no progress, requests waiting and no batch in flight, is ended with the cause, and so is a run that
computes tokens of preempted requests again and again without an output.
"""

import heapq
import math
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sim.errors import SimulationError
from sim.plan.serving_costs import StepCosts, StepTime
from sim.time import to_ns
from workloads.serving.balancers import Balancer
from workloads.serving.policies import Scheduler
from workloads.serving.requests import Batch, Request, ServedRequest

__all__ = ["RequestRecord", "ServeOptions", "ServingLog", "StepRecord", "serve"]

_BATCH_END, _ARRIVAL, _STEP = range(3)
"""Order of events at one time."""
_IDLE: Final = Batch()
"""The batch of a rank without requests."""
_MOST_STEPS_WITHOUT_OUTPUT: Final = 100_000
"""Steps of a group, one after another, after which a run without an output is ended."""


@dataclass(slots=True, eq=False)
class RequestRecord:
    """When what happened to a request, in ns; -1: not yet."""

    arrival_ns: int
    rank: int = -1
    """Data-parallel rank that served it."""
    scheduled_ns: int = -1
    """Start of the first step that computes tokens of it."""
    first_ns: int = -1
    """First token."""
    last_ns: int = -1
    """Last token so far."""
    end_ns: int = -1
    """Last token."""


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A step of a group."""

    group: int
    start_ns: int
    end_ns: int
    num_prefill_tokens: int
    """Tokens of prompts, of all ranks."""
    num_decodes: int
    """Requests that are decoded, of all ranks."""
    num_running: int
    """Requests in service after scheduling, of all ranks."""
    num_waiting: int
    """Requests that wait after scheduling, of all ranks."""
    blocks_used: int
    """KV blocks that requests have, of all ranks."""
    largest_batch: int
    """Requests of the largest batch of a rank."""


@dataclass(slots=True, eq=False)
class ServingLog:
    """What a run was."""

    requests: list[RequestRecord]
    """Of each request, in the order of their arrival."""
    served: list[ServedRequest]
    """The requests in service."""
    steps: list[StepRecord] = field(default_factory=list)
    """Steps by their start."""
    token_gaps_ns: Counter[int] = field(default_factory=Counter)
    """Time between two steps that bring a request tokens -> how often; with drafts a step may bring several."""
    parts_ns: Counter[str] = field(default_factory=Counter)
    """Time of steps by part, of all groups."""
    num_preemptions: int = 0
    """Preemptions of all ranks."""
    num_prefilled: int = 0
    """Tokens that were computed in chunks of more than one, of all ranks."""
    num_decoded: int = 0
    """Tokens that were computed of requests that are decoded, drafts among them."""
    num_rejected: int = 0
    """Drafts that were computed and not kept."""
    max_blocks_used: int = 0
    """Most blocks in use on one rank."""
    blocks_left: list[int] = field(default_factory=list)
    """Free blocks of each rank at the end."""
    num_events: int = 0
    """Events of the run."""


class _Group:
    """Ranks that step together."""

    def __init__(self, number: int, ranks: Sequence[Scheduler], num_stages: int) -> None:
        self.number, self.ranks = number, ranks
        self.stage_free_ns = [0] * num_stages
        self.in_flight: deque[list[Batch]] = deque()
        self.is_step_due = False
        self.num_silent = 0
        """Steps since the last output."""


class _Server:
    """One run."""

    def __init__(
        self,
        requests: Sequence[Request],
        groups: Sequence[Sequence[Scheduler]],
        costs: StepCosts,
        balancer: Balancer,
        options: "ServeOptions",
    ) -> None:
        self._requests, self._costs, self._balancer, self._options = requests, costs, balancer, options
        self._groups = [_Group(number, ranks, options.num_stages) for number, ranks in enumerate(groups)]
        self._ranks = [rank for ranks in groups for rank in ranks]
        self._group_of = [group for group in self._groups for _ in group.ranks]
        self._events: list[tuple[int, int, int, int]] = []
        self._num_pushed = 0
        self._steps_in_flight: dict[int, tuple[_Group, list[Batch]]] = {}
        self._learnt_ns = -1
        self._next_closed = 0
        self.log = ServingLog(
            requests=[RequestRecord(-1) for _ in requests],
            served=[ServedRequest(request, number) for number, request in enumerate(requests)],
        )

    def run(self) -> ServingLog:
        """Serve all requests."""
        options, log = self._options, self.log
        if options.concurrency is None:
            for number, request in enumerate(self._requests):
                self._push(to_ns(request.arrival_s), _ARRIVAL, number)
        else:
            self._next_closed = min(options.concurrency, len(self._requests))
            for number in range(self._next_closed):
                self._push(0, _ARRIVAL, number)
        handlers: tuple[Callable[[int, int], None], ...] = (self._end_batch, self._arrive, self._step)
        while self._events:
            now_ns, kind, _, payload = heapq.heappop(self._events)
            handlers[kind](now_ns, payload)
            log.num_events += 1
            if log.num_events > options.max_events:
                raise SimulationError(
                    f"serving: a run must need at most {options.max_events:,} events, got more at {now_ns / 1e9:.3f} s "
                    f"with {self._num_left} of {len(self._requests)} requests left. Use fewer requests."
                )
        if self._num_left:
            raise SimulationError(self._why_stuck())
        log.num_preemptions = sum(rank.num_preemptions for rank in self._ranks)
        log.num_rejected = sum(rank.num_rejected for rank in self._ranks)
        log.blocks_left = [rank.cache.num_free for rank in self._ranks]
        return log

    # ---- private -------------------------------------------------------------------------------------------------

    @property
    def _num_left(self) -> int:
        return sum(record.end_ns < 0 for record in self.log.requests)

    def _push(self, time_ns: int, kind: int, payload: int) -> None:
        self._num_pushed += 1
        heapq.heappush(self._events, (time_ns, kind, self._num_pushed, payload))

    def _arrive(self, now_ns: int, number: int) -> None:
        """Send a request to a rank."""
        record = self.log.requests[number]
        if record.arrival_ns < 0:
            record.arrival_ns = now_ns
            if self._options.request_ns:
                self._push(now_ns + self._options.request_ns, _ARRIVAL, number)
                return
        interval_ns = self._options.balancer_interval_ns
        moment = now_ns // interval_ns if interval_ns else now_ns
        if moment != self._learnt_ns or not interval_ns:
            self._learnt_ns = moment
            self._balancer.learn([(len(rank.waiting), len(rank.running)) for rank in self._ranks])
        record.rank = self._balancer.choose()
        self._ranks[record.rank].submit(self.log.served[number])
        self._want_step(self._group_of[record.rank], now_ns)

    def _want_step(self, group: _Group, now_ns: int) -> None:
        """Let a group form batches as soon as its first stage is free, or at once where it runs ahead."""
        if not group.is_step_due:
            group.is_step_due = True
            at_ns = now_ns if self._options.runs_ahead else max(now_ns, group.stage_free_ns[0])
            self._push(at_ns, _STEP, group.number)

    def _step(self, now_ns: int, number: int) -> None:
        """Form a batch on each rank of a group, and send them through the stages."""
        group = self._groups[number]
        group.is_step_due = False
        if len(group.in_flight) >= self._options.most_in_flight:
            return  # the end of a batch asks again
        batches = [rank.schedule() if rank.has_work else _IDLE for rank in group.ranks]
        if not any(batches):
            if any(rank.has_work for rank in group.ranks) and not group.in_flight:
                raise SimulationError(self._why_stuck())
            return
        time = self._costs.step(batches)
        begin_ns = end_ns = max(now_ns, group.stage_free_ns[0])
        for stage, stage_ns in enumerate(time.stage_ns):
            start_ns = max(end_ns, group.stage_free_ns[stage])
            end_ns = start_ns + stage_ns
            group.stage_free_ns[stage] = end_ns
        self._note(group, batches, time, begin_ns, end_ns)
        group.in_flight.append(batches)
        self._push(end_ns, _BATCH_END, group.number)
        if len(group.in_flight) < self._options.most_in_flight:
            self._want_step(group, now_ns)

    def _end_batch(self, now_ns: int, number: int) -> None:
        """Give the oldest batch of a group its tokens."""
        group = self._groups[number]
        log, has_output = self.log, False
        for rank, batch in zip(group.ranks, group.in_flight.popleft(), strict=True):
            if not batch:
                continue
            for served in rank.complete(batch):
                has_output = True
                record = log.requests[served.number]
                if record.first_ns < 0:
                    record.first_ns = now_ns
                else:
                    log.token_gaps_ns[now_ns - record.last_ns] += 1
                record.last_ns = now_ns
                if served.is_done:
                    self._end_request(record, now_ns)
        group.num_silent = 0 if has_output else group.num_silent + 1
        if group.num_silent > _MOST_STEPS_WITHOUT_OUTPUT:
            raise SimulationError(self._why_stuck())
        if any(rank.has_work for rank in group.ranks):
            self._want_step(group, now_ns)

    def _end_request(self, record: RequestRecord, now_ns: int) -> None:
        """Note the last token of a request; in a closed loop another one arrives."""
        record.end_ns = now_ns
        if self._next_closed and self._next_closed < len(self._requests):
            self._push(now_ns + 1, _ARRIVAL, self._next_closed)
            self._next_closed += 1

    def _note(self, group: _Group, batches: list[Batch], time: StepTime, start_ns: int, end_ns: int) -> None:
        log, records = self.log, self.log.requests
        prefill = decodes = decoded = running = waiting = used = largest = 0
        for rank, batch in zip(group.ranks, batches, strict=True):
            if batch is _IDLE:
                continue
            rank_used = rank.cache.num_blocks - rank.cache.num_free
            used += rank_used
            log.max_blocks_used = max(log.max_blocks_used, rank_used)
            running += len(rank.running)
            waiting += len(rank.waiting)
            if not batch:
                continue
            decodes += batch.num_decodes
            prefill += batch.num_tokens - batch.num_decode_tokens
            decoded += batch.num_decode_tokens
            largest = max(largest, len(batch.scheduled))
            for served in batch.admitted:
                if records[served.number].scheduled_ns < 0:
                    records[served.number].scheduled_ns = start_ns
        log.num_prefilled += prefill
        log.num_decoded += decoded
        log.parts_ns.update(dict(time.parts_ns))
        log.steps.append(StepRecord(group.number, start_ns, end_ns, prefill, decodes, running, waiting, used, largest))

    def _why_stuck(self) -> str:
        """Return who waits for what."""
        waiting = [served for rank in self._ranks for served in rank.waiting]
        first = waiting[0] if waiting else None
        who = f" Request {first.request.name} waits with {first.num_tokens:,} tokens." if first else ""
        free = ", ".join(str(rank.cache.num_free) for rank in self._ranks[:4])
        return (
            f"serving: the run never drains: {self._num_left} of {len(self._requests)} requests are left and no output "
            f"comes.{who} Free KV blocks of the first ranks: {free}. Use more KV blocks or fewer requests at a time "
            "(workload.server.max_num_seqs)."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """How requests are served."""

    num_stages: int = 1
    """Stages of the pipeline."""
    runs_ahead: bool = False
    """Whether a batch is formed before its first stage is free, one at a time."""
    concurrency: int | None = None
    """Requests in the system at any time (closed loop); None: requests come at their times."""
    balancer_interval_ns: int = 0
    """Time after which the balancer learns the counts again; 0: at each request."""
    request_ns: int = 0
    """Time of a request from its arrival to the balancer."""
    max_events: float = math.inf
    """Events after which the run is ended."""

    @property
    def most_in_flight(self) -> int:
        """Batches that have been formed and not ended, at most."""
        return self.num_stages + self.runs_ahead


def serve(
    requests: Sequence[Request],
    groups: Sequence[Sequence[Scheduler]],
    costs: StepCosts,
    balancer: Balancer,
    options: ServeOptions,
) -> ServingLog:
    """Serve requests on groups of ranks, to the last token.

    Raises
    ------
    SimulationError
        The run makes no progress, or needs more events than the options allow.
    """
    return _Server(requests, groups, costs, balancer, options).run()
