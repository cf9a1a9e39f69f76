"""Which operation of a measured job waits for which: in a worker by order, across workers by name.

Model
-----
Of each worker (replica, stage) and step::

    passes             one after another, as they ran
    receive k          before pass k of its kind, after pass k - 1 of its kind and receive k - 1
    send k             after pass k of its kind and send k - 1
    first receive and send of the backward passes   after the last forward pass but one before them (1F1B posts both)
    all-gather of parameters                        before the first forward pass
    after the last pass   gc, all-reduces of layernorms and embedding, reduce-scatters, clipping, optimizer, in order

Operations that workers make together start when the last of them comes (`groups`): a send and its receive; the
embedding's all-reduce of first and last stage; all-gathers and reduce-scatters of the replicas of a stage; clipping of
all workers. The dependencies are those of Lin et al. (OSDI 2025), for pipelines with one chunk a stage.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np

from sim.errors import InvalidValueError, SimulationError
from sim.studies.measured.operations import BACKWARD, EMBEDDING_REDUCE, FORWARD, Operations

__all__ = ["Dependencies", "dependencies_of"]

_PASSES: Final = {"forward": FORWARD, "backward": BACKWARD}
_AFTER: Final = (
    "gc",
    "layernorm-grads-all-reduce",
    EMBEDDING_REDUCE,
    "grads-reduce-scatter",
    "optimizer-clip-main-grad",
    "optimizer",
)
"""Operations after the last pass, in their order."""
_OF_REPLICAS: Final = ("params-all-gather", "grads-reduce-scatter")
_HINT: Final = "Give the operations of whole steps of a pipeline with one chunk a stage."


@dataclass(frozen=True, kw_only=True, eq=False)
class Dependencies:
    """Who waits for whom, in an order in which all can be worked out."""

    before: list[list[int]]
    """Operations that each waits for."""
    groups: list[list[int]]
    """Operations that start together; those of one worker alone are in none."""
    group_of: dict[int, int]
    """Operation -> its group."""
    order: list[int]
    """Operations, each after all that it waits for; members of a group stand where they come."""


@dataclass(slots=True)
class _Worker:
    """Operations of one worker in one step, by name, in the order in which they started."""

    replica: int
    stage: int
    named: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def passes(self, start_s: Sequence[float]) -> list[int]:
        return sorted([*self.named[FORWARD], *self.named[BACKWARD]], key=lambda op: start_s[op])


def dependencies_of(operations: Operations) -> Dependencies:
    """Return the dependencies of all steps; steps do not wait for each other.

    Raises
    ------
    InvalidValueError
        Receives or sends do not fit the passes.
    SimulationError
        Operations wait for each other in a cycle.
    """
    before: list[list[int]] = [[] for _ in range(len(operations))]
    groups: list[list[int]] = []
    for workers in _steps(operations):
        for worker in workers:
            _within_worker(worker, operations, before)
        groups += _groups(workers, operations)
    groups = [group for group in groups if len(group) > 1]
    group_of = {op: number for number, group in enumerate(groups) for op in group}
    return Dependencies(
        before=before, groups=groups, group_of=group_of, order=_order(operations, before, groups, group_of)
    )


# ---- private -----------------------------------------------------------------------------------------------------


def _steps(operations: Operations) -> Iterable[list[_Worker]]:
    """Yield the workers of each step, by replica and stage."""
    keys = np.stack([operations.step, operations.dp_rank, operations.stage], axis=1).tolist()
    workers: dict[tuple[int, int, int], _Worker] = {}
    for op, (step, replica, stage) in enumerate(keys):
        if (step, replica, stage) not in workers:
            workers[step, replica, stage] = _Worker(replica, stage)
        workers[step, replica, stage].named[str(operations.optype[op])].append(op)
    by_step: dict[int, list[_Worker]] = defaultdict(list)
    for (step, _, _), worker in sorted(workers.items()):
        by_step[step].append(worker)
    full = operations.num_replicas * operations.num_stages
    for step, found in by_step.items():
        if len(found) != full:
            rule = f"have operations of all {full} workers in each step"
            raise InvalidValueError("the table", rule, f"{len(found)} in step {step}", _HINT)
    yield from by_step.values()


def _chain(before: list[list[int]], ops: Sequence[int]) -> None:
    for first, second in pairwise(ops):
        before[second].append(first)


def _within_worker(worker: _Worker, operations: Operations, before: list[list[int]]) -> None:
    start_s: list[float] = operations.start_s.tolist()
    passes = worker.passes(start_s)
    _chain(before, passes)
    for way, name in _PASSES.items():
        of_kind = worker.named[name]
        for end in ("recv", "send"):
            ops = worker.named[f"{way}-{end}"]
            _chain(before, ops)
            if not ops:
                continue
            if len(ops) != len(of_kind):
                rule = f"have a {way}-{end} for each of the {len(of_kind)} passes of a worker, or none"
                where = f"{len(ops)} on stage {worker.stage} of replica {worker.replica}"
                raise InvalidValueError("the table", rule, where, _HINT)
            for k, (op, pass_) in enumerate(zip(ops, of_kind, strict=True)):
                if end == "send":
                    before[op].append(pass_)
                else:
                    before[pass_].append(op)
                    before[op] += of_kind[k - 1 : k] if k else []
    first_backward = next((at for at, op in enumerate(passes) if operations.optype[op] == BACKWARD), 0)
    if first_backward > 1:
        for end in ("recv", "send"):
            for op in worker.named[f"backward-{end}"][:1]:
                before[op].append(passes[first_backward - 2])
    gathers = worker.named["params-all-gather"]
    _chain(before, gathers)
    if gathers and worker.named[FORWARD]:
        before[worker.named[FORWARD][0]].append(gathers[-1])
    after = [op for name in _AFTER for op in worker.named[name]]
    _chain(before, [*passes[-1:], *after])


def _groups(workers: list[_Worker], operations: Operations) -> list[list[int]]:
    """Return the operations of a step that workers make together."""
    together: dict[Hashable, list[int]] = defaultdict(list)
    last = operations.num_stages - 1
    for worker in workers:
        for way, step in (("forward", 1), ("backward", -1)):
            for k, op in enumerate(worker.named[f"{way}-send"]):
                together[way, worker.replica, worker.stage, k].append(op)
            for k, op in enumerate(worker.named[f"{way}-recv"]):
                together[way, worker.replica, worker.stage - step, k].append(op)
        for name in _OF_REPLICAS:
            for k, op in enumerate(worker.named[name]):
                together[name, worker.stage, k].append(op)
        if worker.stage in {0, last}:
            for k, op in enumerate(worker.named[EMBEDDING_REDUCE]):
                together[EMBEDDING_REDUCE, worker.replica, k].append(op)
        for k, op in enumerate(worker.named["optimizer-clip-main-grad"]):
            together["clip", k].append(op)
    return list(together.values())


def _order(
    operations: Operations, before: list[list[int]], groups: list[list[int]], group_of: dict[int, int]
) -> list[int]:
    """Return the operations in an order in which each comes after all that it waits for."""
    after: list[list[int]] = [[] for _ in before]
    waiting = [len(ops) for ops in before]
    for op, ops in enumerate(before):
        for earlier in ops:
            after[earlier].append(op)
    missing = [len(group) for group in groups]
    ready = [op for op, count in enumerate(waiting) if count == 0]
    order: list[int] = []
    while ready:
        op = ready.pop()
        order.append(op)
        ended = [op]
        if op in group_of:
            missing[group_of[op]] -= 1
            ended = [] if missing[group_of[op]] else groups[group_of[op]]
        for done in ended:
            for later in after[done]:
                waiting[later] -= 1
                if not waiting[later]:
                    ready.append(later)
    if len(order) < len(before):
        stuck = next(op for op, count in enumerate(waiting) if count)
        name, stage, step = operations.optype[stuck], operations.stage[stuck], operations.step[stuck]
        raise SimulationError(
            f"replay: operations wait for each other in a cycle; {name} of stage {stage}, step {step}"
        )
    return order
