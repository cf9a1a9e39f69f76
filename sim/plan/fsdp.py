"""What FSDP adds to the passes of a lane: weights gathered ahead of layers, gradients reduced after them.

Model
-----
A unit is a layer, or what stands outside of layers: embedding and output head, the root. In a pass::

    before unit k     wait for its gather; start the gather of unit k + 1, which runs next to unit k
    after unit k      B, or W where it is split off: start the reduce-scatter of its gradients
    after its last B  HSDP: start the all-reduce of the unit's share between the instances (its last W, where split off)
    before Adam       wait for the last reduction

Gathers run one after another on a stream, reductions on another. The root is gathered by the forward pass alone. A
backward pass gathers layers again, unless their weights stay after the forward pass.

Assumptions
-----------
The first gather of a pass is not started in the pass before it: pessimistic by at most one gather of embedding or head,
and of a layer where a stage has neither. Gradients are added to those of earlier microbatches in no time: optimistic.
HSDP's all-reduce waits for the last microbatch, PyTorch's `set_requires_all_reduce`: optimistic where a script does not
call that, for PyTorch then all-reduces in every microbatch.

References
----------
Zhao et al., "PyTorch FSDP: experiences on scaling fully sharded data parallel", 2023, section 3.3 (overlap, prefetch).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise

from sim.build.work import Work
from sim.plan.gradients import GradientLowering
from sim.plan.ops import NO_LAYER, AwaitStream, Collective, Compute, LanePosition, Op
from workloads.memory import Fsdp
from workloads.schedules import Pass, PipelineOrder, passes_of

__all__ = ["FsdpLowering"]

_GATHER, _REDUCE = "fsdp_gather", "fsdp_reduce"


class FsdpLowering:
    """Puts the exchanges of FSDP around the ops of passes."""

    def __init__(self, work: Work, fsdp: Fsdp, gradients: GradientLowering, order: Callable[[], PipelineOrder]) -> None:
        self._work, self._fsdp, self._gradients, self._order = work, fsdp, gradients, order
        self._last_passes = cache(self._find_last_passes)

    def around(
        self, position: LanePosition, pass_: Pass, ops: Sequence[Op], *, is_split: bool, lanes: Sequence[int]
    ) -> tuple[Op, ...]:
        """Return the ops of a pass with gathers of weights before each layer and reductions of gradients after it.

        Parameters
        ----------
        position, pass_, ops
            A pass of a lane.
        is_split
            Whether W is split off a pass B.
        lanes
            The lanes that run.
        """
        layers = [op.kernels[0].layer if isinstance(op, Compute) else op.layer for op in ops]
        units = list(dict.fromkeys(layers))
        last = {layer: i for i, layer in enumerate(layers)}
        model_chunk = self._work.chunk_layout.model_chunk_of(position.stage, pass_.chunk)

        def exchange(operation: str, unit: int, stream: str) -> list[Op]:
            found = self._gradients.exchange_of_layer(operation, position, model_chunk, unit, lanes=lanes)
            return [_of_pass(op, pass_, operation, stream) for op in found]

        gathered = [unit for unit in units if self._gathers(pass_, unit)]
        next_of = dict(pairwise(gathered))
        result: list[Op] = exchange("all_gather", gathered[0], _GATHER) if gathered else []
        awaited: set[int] = set()
        for i, (unit, op) in enumerate(zip(layers, ops, strict=True)):
            if unit in gathered and unit not in awaited:
                awaited.add(unit)
                result.append(AwaitStream(stream=_GATHER, layer=unit))
                result += exchange("all_gather", next_of[unit], _GATHER) if unit in next_of else []
            result.append(op)
            if last[unit] == i and self._reduces(position.stage, pass_, unit, model_chunk, is_split=is_split):
                result += exchange("reduce_scatter", unit, _REDUCE)
                if self._fsdp.num_instances > 1 and pass_ in self._last_passes(position.stage):
                    result += exchange("all_reduce", unit, _REDUCE)
        return tuple(result)

    def before_step(self) -> list[Op]:
        """Return the wait for the last reduction of gradients."""
        return [AwaitStream(stream=_REDUCE, layer=NO_LAYER)]

    # ---- private -------------------------------------------------------------------------------------------------

    def _gathers(self, pass_: Pass, unit: int) -> bool:
        """Whether a pass gathers the weights of a unit; W needs gradients and inputs alone."""
        if pass_.kind == "B":
            return self._fsdp.reshards_after_forward and unit != NO_LAYER
        return pass_.kind == "F"

    def _reduces(self, stage: int, pass_: Pass, unit: int, model_chunk: int, *, is_split: bool) -> bool:
        """Whether a pass reduces the gradients of a unit."""
        work = self._work
        if not (self._fsdp.reduces_every_microbatch or pass_ in self._last_passes(stage)):
            return False
        if pass_.kind == "W" or (pass_.kind == "B" and not is_split):
            return True
        # a B makes the gradients of the embedding, which has no product to split off
        makes_embedding = model_chunk == work.embedding_chunk != work.head_chunk
        return pass_.kind == "B" and unit == NO_LAYER and makes_embedding

    def _find_last_passes(self, stage: int) -> frozenset[Pass]:
        """Return the last pass of each chunk of a stage that makes gradients, and the last B whose W is split off."""
        order, last = self._order(), dict[tuple[str, int], Pass]()
        for pass_ in (pass_ for step in order.order[stage] for pass_ in passes_of(step)):
            if pass_.kind != "F":
                is_split = pass_.kind == "B" and order.is_split(stage, pass_)
                last["B" if is_split else "W", pass_.chunk] = pass_
        return frozenset(last.values())


def _of_pass(op: Collective, pass_: Pass, operation: str, stream: str) -> Collective:
    """Return a collective on a stream; where lanes meet, they meet for each pass."""
    if op.rendezvous is None:
        return replace(op, stream=stream)
    key = ("fsdp", operation, op.layer, *op.rendezvous.key, *pass_)
    return replace(op, stream=stream, rendezvous=replace(op.rendezvous, key=key))
