"""Gradients that are reduced next to the last backward passes, and parameters gathered next to the first forward ones.

Model
-----
Parameters lie in buckets, dense ones and experts apart, in the order in which a backward pass makes their gradients::

    bucket size   max(40 M, 1 M x replicas) parameters on the first stage's first chunk, all of a chunk elsewhere

`overlap_grad_reduce`: the last pass of a chunk that makes gradients of weights starts the reduction of each bucket when
it has made the bucket's last gradient; the optimizer step waits for all. With virtual stages a chunk is reduced whole,
as many backward passes later as the stage has stages before it, so that all stages reduce at one time.

`overlap_param_gather`: the step starts by gathering the buckets that its forward passes need first; the first forward
pass of a chunk waits for each bucket before the bucket's first layer. The gathering after the optimizer step is left
out: in a row of equal steps it is the next step's, and this step begins with that of the step before. With virtual
stages a step begins with two chunks; each later chunk is gathered from the first forward pass of the chunk before it,
earlier by as many passes as the stage has stages before it.

Dense parameters and experts have communicators, and so streams, of their own.

Assumptions
-----------
A bucket ends with a layer, and a layer's gradients are ready when its last operation has ended: pessimistic, by less
than the exchange of one layer. Stages begin to gather at the beginning of the step, not when the stage before is ready:
optimistic where the pipeline is short.

References
----------
Megatron-LM, megatron/core/distributed/distributed_data_parallel.py (bucket size; one bucket on later stages),
param_and_grad_buffer.py (buckets in the order of backward passes), pipeline_parallel/schedules.py (alignment), and
training/training.py (`disable_bucketing` of all chunks but the first).
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate
from typing import Final, NamedTuple

from sim.build.work import Work
from sim.plan.gradients import GradientLowering
from sim.plan.ops import NO_LAYER, AwaitStream, Collective, Compute, LanePosition, Op
from workloads.memory import StageParameters, layer_params_per_rank, params_per_rank
from workloads.schedules import Pass, PipelineOrder, passes_of

__all__ = ["GRADIENT_STREAMS", "Bucket", "GradientOverlap", "buckets_of"]

GRADIENT_STREAMS: Final = ("dp", "expert_dp")
"""Streams of the reductions and gatherings of dense parameters and of experts."""

_LEAST_BUCKET: Final = 40_000_000
_BUCKET_PER_REPLICA: Final = 1_000_000


class Bucket(NamedTuple):
    """Parameters that are reduced and gathered together."""

    family: int
    """0: dense parameters, 1: experts; the place of its stream in `GRADIENT_STREAMS`."""
    number: int
    """Number among the buckets of the family on its chunk, in the order of backward passes."""
    num_params: int
    """Parameters of a rank."""
    units: tuple[int, ...]
    """Its parts of the chunk, numbered in the order of backward passes: head, layers from the last, embedding."""


class _Start(NamedTuple):
    """What a pass starts."""

    chunk: int
    is_whole: bool
    """Whether all buckets start after the pass, and not each when its layers have been passed."""


def buckets_of(units: Sequence[tuple[int, int]], most: float) -> list[Bucket]:
    """Divide the parts of a chunk into buckets that are closed when they have `most` parameters.

    Parameters
    ----------
    units
        Dense and expert parameters of each part, in the order of backward passes.
    most
        Parameters with which a bucket is closed.

    Examples
    --------
    >>> [bucket.units for bucket in buckets_of([(30, 0), (30, 0), (30, 0)], 40)]
    [(0, 1), (2,)]
    """
    buckets: list[Bucket] = []
    for family in range(len(GRADIENT_STREAMS)):
        found: list[Bucket] = []
        num_params, members = 0, list[int]()
        for unit, params in enumerate(units):
            if params[family]:
                num_params += params[family]
                members.append(unit)
            if num_params >= most or (num_params and unit == len(units) - 1):
                found.append(Bucket(family, len(found), num_params, tuple(members)))
                num_params, members = 0, []
        buckets += found
    return buckets


class GradientOverlap:
    """Adds to the passes of a work what they exchange between data-parallel replicas."""

    def __init__(self, work: Work, gradients: GradientLowering, order: Callable[[], PipelineOrder]) -> None:
        self._work, self._gradients, self._order = work, gradients, order
        self.reduces, self.gathers = work.overlaps_grad_reduce, work.overlaps_param_gather
        self._buckets = cache(self._divide)
        self._reductions = cache(self._find_reductions)
        self._gatherings = cache(self._find_gatherings)
        self._first_passes = cache(self._find_first_passes)

    def before_passes(self, position: LanePosition, lanes: Sequence[int]) -> list[Op]:
        """Return what a lane starts to gather when the step begins."""
        if not self.gathers:
            return []
        first = range(min(2, self._num_chunks))
        return [op for chunk in first for op in self._gather(position, chunk, lanes)]

    def with_exchanges(
        self, position: LanePosition, pass_: Pass, ops: tuple[Op, ...], lanes: Sequence[int]
    ) -> tuple[Op, ...]:
        """Return the ops of a pass with the exchanges that it starts and waits for."""
        if self.gathers and pass_.kind == "F":
            ops = self._with_gathering(position, pass_, ops, lanes)
        for start in self._reductions(position.stage).get(pass_, ()) if self.reduces else ():
            ops = self._with_reduction(position, start, ops, lanes)
        return ops

    def reduction(self, position: LanePosition, lanes: Sequence[int]) -> list[Op]:
        """Return what is left to do after the last pass: start what no pass has started, and wait for all."""
        last = Pass("O", -1, -1)
        ops = [
            op
            for start in self._reductions(position.stage).get(last, ())
            for op in self._reduce(position, start.chunk, lanes)
        ]
        return [*ops, *(AwaitStream(stream=stream, layer=NO_LAYER) for stream in GRADIENT_STREAMS)]

    # ---- private: when -------------------------------------------------------------------------------------------

    @property
    def _num_chunks(self) -> int:
        return self._work.chunk_layout.num_chunks

    def _passes(self, stage: int) -> list[Pass]:
        return [pass_ for step in self._order().order[stage] for pass_ in passes_of(step)]

    def _find_reductions(self, stage: int) -> dict[Pass, list[_Start]]:
        """Return which pass starts the reduction of which chunks; Pass O those that no pass starts."""
        order = self._order()
        makers = [p for p in self._passes(stage) if p.kind == "W" or (p.kind == "B" and not order.is_split(stage, p))]
        last = {pass_.chunk: number for number, pass_ in enumerate(makers)}
        found: dict[Pass, list[_Start]] = defaultdict(list)
        for chunk, number in last.items():
            if self._num_chunks == 1:
                found[makers[number]].append(_Start(chunk, is_whole=False))
                continue
            aligned = number + stage
            by = makers[aligned] if aligned < len(makers) else Pass("O", -1, -1)
            found[by].append(_Start(chunk, is_whole=True))
        return dict(found)

    def _find_gatherings(self, stage: int) -> dict[Pass, list[int]]:
        """Return which forward pass starts the gathering of which chunks, those aside that the step begins with."""
        forwards = [pass_ for pass_ in self._passes(stage) if pass_.kind == "F"]
        first = {pass_.chunk: number for number, pass_ in reversed(list(enumerate(forwards)))}
        found: dict[Pass, list[int]] = defaultdict(list)
        for chunk in range(2, self._num_chunks):
            found[forwards[max(0, first[chunk - 1] - stage)]].append(chunk)
        return dict(found)

    def _find_first_passes(self, stage: int) -> dict[int, Pass]:
        """Return the first forward pass of each chunk."""
        return {pass_.chunk: pass_ for pass_ in reversed(self._passes(stage)) if pass_.kind == "F"}

    # ---- private: what -------------------------------------------------------------------------------------------

    def _divide(self, stage: int, chunk: int) -> list[Bucket]:
        """Return the buckets of a chunk of a stage, in the order of backward passes."""
        work, model_chunk = self._work, self._work.chunk_layout.model_chunk_of(stage, chunk)
        has_embedding = model_chunk in work.chunks_with_embedding
        embedding = self._ends(has_embedding=has_embedding, has_head=False)
        head = self._ends(has_embedding=has_embedding, has_head=model_chunk == work.head_chunk) - embedding
        layers = [
            layer_params_per_rank(work.model.layer(layer), work.mesh, expert_replicas=work.placement.replicas)
            for layer in self._layers(stage, chunk)
        ]
        num_replicas = work.mesh.dp_groups(stage).shape[1]
        most = max(_LEAST_BUCKET, _BUCKET_PER_REPLICA * num_replicas) if stage == chunk == 0 else math.inf
        return buckets_of([(head, 0), *layers, (embedding, 0)], most)

    def _ends(self, *, has_embedding: bool, has_head: bool) -> int:
        ends = StageParameters(layers=(), has_embedding=has_embedding, has_head=has_head)
        return params_per_rank(self._work.model, self._work.mesh, ends)[0]

    def _layers(self, stage: int, chunk: int) -> list[int]:
        """Return the layers of a chunk of a stage in the order of backward passes."""
        work = self._work
        return list(reversed(work.layers_of_model_chunk(work.chunk_layout.model_chunk_of(stage, chunk))))

    def _exchange(
        self, position: LanePosition, chunk: int, bucket: Bucket, lanes: Sequence[int], *, gathers: bool
    ) -> list[Collective]:
        """Return the collective of a bucket in which a lane takes part; none where nothing has a replica."""
        params = (bucket.num_params, 0) if bucket.family == 0 else (0, bucket.num_params)
        what = "parameters" if gathers else "gradients"
        return self._gradients.on_stream(
            position,
            lanes,
            gathers=gathers,
            params=params,
            stream=GRADIENT_STREAMS[bucket.family],
            label=(what, chunk, bucket.number),
        )

    def _reduce(self, position: LanePosition, chunk: int, lanes: Sequence[int]) -> list[Op]:
        return [
            op
            for bucket in self._buckets(position.stage, chunk)
            for op in self._exchange(position, chunk, bucket, lanes, gathers=False)
        ]

    def _gather(self, position: LanePosition, chunk: int, lanes: Sequence[int]) -> list[Op]:
        return [
            op
            for bucket in reversed(self._buckets(position.stage, chunk))
            for op in self._exchange(position, chunk, bucket, lanes, gathers=True)
        ]

    # ---- private: where ------------------------------------------------------------------------------------------

    def _with_reduction(
        self, position: LanePosition, start: _Start, ops: tuple[Op, ...], lanes: Sequence[int]
    ) -> tuple[Op, ...]:
        """Return the ops of a pass with the reductions that it starts."""
        if start.is_whole:
            return (*ops, *self._reduce(position, start.chunk, lanes))
        layers = self._layers(position.stage, start.chunk)
        ready = list(accumulate((_end_of(ops, unit, layers) for unit in range(len(layers) + 2)), max))
        after: dict[int, list[Op]] = defaultdict(list)
        for bucket in self._buckets(position.stage, start.chunk):
            after[ready[bucket.units[-1]]] += self._exchange(position, start.chunk, bucket, lanes, gathers=False)
        return tuple(op for at in range(len(ops) + 1) for op in (*ops[at - 1 : at], *after[at]))

    def _with_gathering(
        self, position: LanePosition, pass_: Pass, ops: tuple[Op, ...], lanes: Sequence[int]
    ) -> tuple[Op, ...]:
        """Return the ops of a forward pass with the gatherings that it starts and waits for."""
        stage = position.stage
        started = [
            op for chunk in self._gatherings(stage).get(pass_, ()) for op in self._gather(position, chunk, lanes)
        ]
        if pass_ != self._first_passes(stage)[pass_.chunk]:
            return (*started, *ops) if started else ops
        layers = self._layers(stage, pass_.chunk)
        before: dict[int, list[Op]] = defaultdict(list)
        for bucket in self._buckets(stage, pass_.chunk):
            for op in self._exchange(position, pass_.chunk, bucket, lanes, gathers=True):
                at = min(_start_of(ops, unit, layers) for unit in bucket.units)
                layer = _layer_of(ops[at]) if at < len(ops) else NO_LAYER
                before[at].append(AwaitStream(stream=op.stream or "", layer=layer, label=op.label))
        waiting = (op for at in range(len(ops) + 1) for op in (*before[at], *ops[at : at + 1]))
        return (*started, *waiting)


def _layer_of(op: Op) -> int:
    return op.kernels[0].layer if isinstance(op, Compute) else op.layer


def _end_of(ops: Sequence[Op], unit: int, layers: Sequence[int]) -> int:
    """Return the place after the last op of a backward pass for a unit: head, one of `layers`, embedding."""
    found = [_layer_of(op) for op in ops]
    if unit == len(layers) + 1:
        return len(ops)
    if unit == 0:
        return next((at for at, layer in enumerate(found) if layer != NO_LAYER), len(ops))
    layer = layers[unit - 1]
    return len(found) - found[::-1].index(layer) if layer in found else 0


def _start_of(ops: Sequence[Op], unit: int, layers: Sequence[int]) -> int:
    """Return the place of the first op of a forward pass for a unit: head, one of `layers`, embedding."""
    found = [_layer_of(op) for op in ops]
    if unit == len(layers) + 1:
        return 0
    if unit == 0:  # what follows the last layer
        return next((len(ops) - at for at, layer in enumerate(reversed(found)) if layer != NO_LAYER), 0)
    layer = layers[unit - 1]
    return found.index(layer) if layer in found else len(ops)
