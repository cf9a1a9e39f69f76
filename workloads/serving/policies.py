"""Which requests form the next batch of a rank.

Model
-----
vLLM V1: one budget of tokens a step. Requests in service come first, in the order of their admission: each gets the
tokens that it lacks, as many as the budget has. Where no block is free, the last of them is preempted: it loses all
blocks, computes all its tokens again later, and returns to the head of the queue. Then waiting requests are admitted
first come, first served while tokens, `max_num_seqs` and blocks allow; in a step that preempted none is.

A scheduler that runs ahead (`async_scheduling`) forms a batch while the one before it is computed, and so counts the
outputs of that batch as there. A request that arrives waits for the batch that is being computed and for the one that
has been formed.

SGLang: a batch is of prompts or of decodes. Prompts come first, in chunks of `max_num_batched_tokens`, as long as the
cache would hold, for all requests in service, the part of their remaining outputs that `new_token_ratio` expects. The
ratio begins at 0.7 times the conservativeness and falls to 0.14 of that over 600 decode steps. Where decodes run out of
blocks, those with the fewest outputs are retracted, and the ratio is set to what would have been enough. Requests reach
the queue after a batch of prompts, after `receive_interval` batches of decodes, or where nothing is in service.

References
----------
vLLM 0.19, `vllm/v1/core/sched/scheduler.py`, `schedule`. SGLang 0.5, `schedule_policy.py` (`PrefillAdder`),
`scheduler.py` (`get_next_batch_to_run`, `update_running_batch`), `schedule_batch.py` (`retract_decode`),
`scheduler_recv_skipper.py` (`--scheduler-recv-interval`). vLLM 0.19, `vllm/v1/core/sched/async_scheduler.py`.
"""

from collections import deque
from typing import Final

from workloads.serving.kv_cache import KvCache
from workloads.serving.requests import Batch, ServedRequest
from workloads.serving.server import ServerLimits
from workloads.serving.speculation import Acceptance

__all__ = ["POLICY_CLASSES", "Scheduler", "SglangScheduler", "VllmScheduler"]

_RATIO_FIRST: Final = 0.7
"""SGLang's `SGLANG_INIT_NEW_TOKEN_RATIO`."""
_RATIO_LEAST: Final = 0.14
"""Its least value over the first (`SGLANG_MIN_NEW_TOKEN_RATIO_FACTOR`)."""
_RATIO_STEPS: Final = 600
"""Decode steps over which it falls (`SGLANG_NEW_TOKEN_RATIO_DECAY_STEPS`)."""
_RETRACT_STEPS: Final = 20
"""Decode steps for which a retraction makes room (`SGLANG_RETRACT_DECODE_STEPS`)."""


class Scheduler:
    """The queue and the requests in service of one rank."""

    def __init__(self, limits: ServerLimits, cache: KvCache, acceptance: Acceptance | None = None) -> None:
        self.limits, self.cache = limits, cache
        self._acceptance, self._num_drafts = acceptance, limits.num_drafts
        self.waiting: deque[ServedRequest] = deque()
        """Requests that wait, first come first."""
        self.running: list[ServedRequest] = []
        """Requests in service, in the order of their admission."""
        self.num_preemptions = 0
        """Preemptions so far."""
        self.num_rejected = 0
        """Drafts that were computed and not kept."""

    @property
    def has_work(self) -> bool:
        """Whether any request waits or is in service."""
        return bool(self.waiting or self.running)

    def submit(self, served: ServedRequest) -> None:
        """Let a request wait."""
        self.waiting.append(served)

    def schedule(self) -> Batch:
        """Return the next batch; an empty one where nothing can be computed now."""
        batch = self._next_batch()
        if self.limits.async_scheduling:
            for served, outputs in batch.sampled:
                served.count(outputs)
        return batch

    def complete(self, batch: Batch) -> list[ServedRequest]:
        """Note that a batch has been computed; return the requests that received outputs."""
        for served, _ in batch.scheduled:
            served.num_in_flight -= 1
        has_done = False
        for served, most in batch.sampled:
            outputs = self._keep(served, most) if most > 1 else 1
            served.num_outputs += outputs
            late = outputs - most if self.limits.async_scheduling else outputs
            if late:
                served.count(late)
            if served.is_done:
                has_done = True
                self._end(served)
        if has_done:
            self.running = [served for served in self.running if not served.is_done]
        return [served for served, _ in batch.sampled]

    def _keep(self, served: ServedRequest, most: int) -> int:
        """Return the outputs of a step with drafts, and take back the computed tokens of those that are not kept."""
        assert self._acceptance is not None
        total = served.request.output_tokens
        outputs = self._acceptance.outputs(served.number, served.num_outputs, at_most=most, total=total)
        self.num_rejected += most - outputs
        if served.num_computed:  # 0: it was preempted meanwhile
            served.num_computed -= most - outputs
        return outputs

    def _end(self, served: ServedRequest) -> None:
        """Give back all that a request has that received its last output; it may have been preempted meanwhile."""
        self.cache.release(served, is_done=True)
        if self._acceptance is not None:
            self._acceptance.forget(served.number)
        if served.num_preemptions and served in self.waiting:
            self.waiting.remove(served)

    # ---- for policies --------------------------------------------------------------------------------------------

    def _next_batch(self) -> Batch:
        """Return the next batch, of which outputs are not counted yet."""
        raise NotImplementedError

    def _is_free(self, served: ServedRequest) -> bool:
        """Tell whether a request may be computed, or preempted, whatever batches are in flight."""
        return self.limits.async_scheduling or not served.num_in_flight

    def _lacking(self, served: ServedRequest) -> int:
        """Return the tokens that a request lacks; in decode with drafts of the next ones."""
        lacking = served.num_tokens - served.num_computed
        if lacking == 1 and self._num_drafts and served.num_counted:
            return min(1 + self._num_drafts, served.request.output_tokens - served.num_counted)
        return lacking

    def _preempt(self, served: ServedRequest, batch: Batch) -> None:
        """Take a request out of service; it returns to the head of the queue."""
        served.num_preemptions += 1
        self.num_preemptions += 1
        batch.num_preempted += 1
        self.cache.release(served, is_done=False)
        self.waiting.appendleft(served)

    def _admit(self, batch: Batch, budget: int) -> int:
        """Admit the first waiting request with at most `budget` tokens; return its tokens, 0 where it must wait."""
        served, cache = self.waiting[0], self.cache
        if self.limits.role == "decode":
            return self._admit_computed(served, batch)
        match, num_cached = cache.find(served)
        tokens = min(served.num_tokens - num_cached, budget)
        if not cache.start(served, match, num_cached + tokens):
            return 0
        self.waiting.popleft()
        self.running.append(served)
        batch.admitted.append(served)
        if not served.num_preemptions:
            served.num_cached_tokens = num_cached
        batch.add(served, tokens)
        return tokens

    def _admit_computed(self, served: ServedRequest, batch: Batch) -> int:
        """Admit a request whose keys and values came from another server, all but those of the last token."""
        if not self.cache.grow(served, served.num_tokens):
            return 0
        self.waiting.popleft()
        self.running.append(served)
        batch.admitted.append(served)
        served.num_computed = served.num_tokens - 1
        batch.add(served, 1)
        return 1


class VllmScheduler(Scheduler):
    """vLLM V1's scheduler."""

    def _next_batch(self) -> Batch:
        batch, limits = Batch(), self.limits
        budget = self._continue_running(batch, limits.max_num_batched_tokens)
        most = limits.long_prefill_token_threshold or limits.max_num_batched_tokens
        while self.waiting and budget > 0 and not batch.num_preempted and len(self.running) < limits.max_num_seqs:
            tokens = self._admit(batch, min(budget, most))
            if not tokens:
                break
            budget -= tokens
        return batch

    def _continue_running(self, batch: Batch, budget: int) -> int:
        """Schedule requests in service; return what is left of the budget."""
        running, cache, add = self.running, self.cache, batch.add
        most = self.limits.long_prefill_token_threshold or budget
        block_size, position = cache.block_size, 0
        while position < len(running) and budget > 0:
            served = running[position]
            lacking = served.num_tokens - served.num_computed
            if lacking == 1 and self._num_drafts:
                lacking = self._lacking(served)
            if lacking <= 0:  # a batch in flight computes it
                position += 1
                continue
            tokens = min(lacking, budget, most)
            if served.num_computed + tokens > served.num_blocks * block_size:
                while not cache.grow(served, served.num_computed + tokens):
                    victim = self._last_free()
                    if victim is None:
                        return 0
                    running.remove(victim)
                    self._preempt(victim, batch)
                    if victim is served:
                        return 0
            add(served, tokens)
            budget -= tokens
            position += 1
        return budget

    def _last_free(self) -> ServedRequest | None:
        """Return the last request in service that may be preempted."""
        return next(filter(self._is_free, reversed(self.running)), None)


class SglangScheduler(Scheduler):
    """SGLang's scheduler, without mixed chunks."""

    def __init__(self, limits: ServerLimits, cache: KvCache, acceptance: Acceptance | None = None) -> None:
        super().__init__(limits, cache, acceptance)
        self._inbox: list[ServedRequest] = []
        self._num_unread = limits.receive_interval
        self._first_ratio = min(1.0, _RATIO_FIRST * limits.schedule_conservativeness)
        self._least_ratio = self._first_ratio * _RATIO_LEAST
        self.new_token_ratio = self._first_ratio
        """Part of the remaining outputs that is expected of a request in service."""

    @property
    def has_work(self) -> bool:
        """Whether any request waits or is in service."""
        return bool(self.waiting or self.running or self._inbox)

    def submit(self, served: ServedRequest) -> None:
        """Let a request wait until the scheduler receives it."""
        self._inbox.append(served)

    def _next_batch(self) -> Batch:
        """Return the next batch: of prompts where any fits, else of decodes."""
        batch = Batch()
        self._receive()
        self._prefill(batch)
        if batch:
            self._num_unread = self.limits.receive_interval
        else:
            self._decode(batch)
            self._num_unread += 1
        return batch

    def _receive(self) -> None:
        """Take the requests that have come, if it is time."""
        if self._num_unread >= self.limits.receive_interval or not self.running:
            self._num_unread = 0
            self.waiting.extend(self._inbox)
            self._inbox.clear()

    def _prefill(self, batch: Batch) -> None:
        limits = self.limits
        chunk, total = limits.max_num_batched_tokens, limits.max_prefill_tokens
        for served in self.running:
            if self._is_free(served) and served.num_computed < served.num_tokens - 1:
                tokens = min(served.num_tokens - served.num_computed, chunk)
                if not self.cache.grow(served, served.num_computed + tokens):
                    return
                batch.add(served, tokens)
                chunk, total = chunk - tokens, total - tokens
        reserved = sum(self._expected(served) * self.new_token_ratio for served in self.running)
        room = self.cache.num_free * self.cache.block_size - reserved
        while self.waiting and chunk > 0 and total > 0 and len(self.running) < limits.max_num_seqs:
            served = self.waiting[0]
            needed = served.num_tokens + self._expected(served)
            if needed > room and self.running:
                return
            tokens = self._admit(batch, min(chunk, total))
            if not tokens:
                return
            room -= needed
            chunk, total = chunk - tokens, total - tokens

    def _decode(self, batch: Batch) -> None:
        ready = [served for served in self.running if self._is_free(served) and self._lacking(served) > 0]
        while ready and not self._has_blocks(ready):
            victim = min(ready, key=lambda served: (served.num_outputs, -served.request.prompt_tokens))
            ready.remove(victim)
            self.running.remove(victim)
            self._preempt(victim, batch)
        if batch.num_preempted:
            done = sum(served.num_outputs for served in ready)
            asked_for = sum(served.request.output_tokens for served in ready)
            self.new_token_ratio = min(1.0, (done + _RETRACT_STEPS * len(ready)) / max(1, asked_for))
        else:
            step = (self._first_ratio - self._least_ratio) / _RATIO_STEPS
            self.new_token_ratio = max(self._least_ratio, self.new_token_ratio - step)
        for served in ready:
            tokens = self._lacking(served)
            if self.cache.grow(served, served.num_computed + tokens):
                batch.add(served, tokens)

    def _has_blocks(self, ready: list[ServedRequest]) -> bool:
        """Tell whether every request gets the block of its next token."""
        cache = self.cache
        tokens = (served.num_computed + self._lacking(served) for served in ready)
        blocks = (cache.blocks_of(most) - served.num_blocks for most, served in zip(tokens, ready, strict=True))
        return sum(blocks) <= cache.num_free

    def _expected(self, served: ServedRequest) -> int:
        return min(served.remaining_outputs, self.limits.clip_max_new_tokens)


POLICY_CLASSES: Final[dict[str, type[Scheduler]]] = {"vllm": VllmScheduler, "sglang": SglangScheduler}
"""Schedulers by name of their policy."""
