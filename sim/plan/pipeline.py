"""The plan of a model on a cluster: what each lane of each stage runs, with all costs known.

Model
-----
    F, B         a pass through the part of the model that the schedule's chunk stands for (`plan.part`)
    W            gradients of weights, where the schedule splits them off B (`plan.split`)
    F and B      at once (DualPipe): each as it is alone, beside the other. Kernels take turns on the ranks, transfers
                 share links, and so one's kernels run while the other waits for a transfer

Ops that do not depend on the microbatch are planned once.
"""

from dataclasses import replace
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from sim.build.work import Work
from sim.plan.chunk import chunk_backward, chunk_forward
from sim.plan.costs import Costs
from sim.plan.folding import Folding
from sim.plan.lane_equivalence import equivalent_lanes
from sim.plan.moves import moves_before
from sim.plan.neighbours import inputs_of, target_of
from sim.plan.ops import Collective, Compute, ConcurrentPasses, Input, Op, RendezvousKey, Send
from sim.plan.optimizer_step import finish_training, gradient_transfers
from sim.plan.sharded import with_sharding
from sim.plan.slow_ranks import slow_down
from sim.plan.split import input_half, weight_half
from workloads.memory import activation_bytes_per_microbatch, weight_pass_bytes_per_microbatch
from workloads.schedules import (
    Pair,
    Pass,
    Pipeline,
    PipelineOrder,
    Schedule,
    StageTimes,
    Step,
    build_pipeline_order,
    passes_of,
)

__all__ = ["PipelinePlan"]

_EXCHANGES = ("ep_dispatch", "ep_combine")
_TIMED = ("zb_1p", "zb_2p", "zb_v")  # schedules that are made for the times of the passes


class PipelinePlan:
    """Passes of a model's pipeline, lowered to ops."""

    def __init__(self, work: Work, *, folds: bool = True) -> None:
        """Plan `work`; if it `folds`, lanes that run alike are run once."""
        mesh, cluster = work.mesh, work.cluster
        self.work = work
        self.costs = Costs(
            cluster,
            dtype=work.model.dtype,
            network=work.network,
            is_random=not work.has_balanced_routing,
        )
        self.lane_ranks: NDArray[np.intp] = np.stack([mesh.lanes(stage) for stage in range(mesh.num_stages)])
        self.capacity_bytes_per_s = cluster.capacity_bytes_per_s
        self.can_saturate = cluster.can_saturate
        self.link_names = cluster.link_names
        self.link_kinds = cluster.link_kinds
        self.fidelity = work.network.fidelity
        self.num_sms = self.costs.num_sms
        self._folds = folds
        self._known: dict[tuple[object, ...], tuple[Op, ...]] = {}
        self._num_exchanges: dict[tuple[int, int], int] = {}
        self._moved: set[tuple[int, int, int, int]] = set()

    @cached_property
    def folding(self) -> Folding | None:
        """Which lanes run for others, if any do."""
        num_lanes = self.work.mesh.num_lanes
        if not self._folds:
            return None
        lane_of = equivalent_lanes(self.work, self.lane_ranks, partial(gradient_transfers, self.work, self.costs))
        return Folding(lane_of, self.lane_ranks, self._link_map) if np.unique(lane_of).size < num_lanes else None

    @cached_property
    def shares_compute(self) -> bool:
        """Whether kernels may have to wait for a rank: of other stages' passes, or of the other pass of a pair."""
        runs_pairs = self.work.runs_pairs and self.work.kind.trains
        return runs_pairs or self.work.mesh.convention.experts_span_stages

    def schedule(self, lane: int) -> Schedule:
        """Return the schedule of one pipeline."""
        del lane
        return self.pipeline_order.schedule()

    @cached_property
    def pipeline_order(self) -> PipelineOrder:
        """The steps of every stage."""
        work = self.work
        order = work.own_order or build_pipeline_order(work.schedule, self.pipeline_of(work.num_microbatches))
        return order.forward() if not work.kind.trains else order

    def pipeline_of(self, num_microbatches: int) -> Pipeline:
        """Return the task of the schedule for a number of microbatches, with all that is known of the passes."""
        work, is_timed = self.work, self.work.schedule in _TIMED
        return Pipeline(
            num_stages=work.mesh.num_stages,
            num_microbatches=num_microbatches,
            num_chunks=work.mesh.strategy.vpp,
            times=self._stage_times if work.kind.trains and is_timed else None,
            weight_share=self._weight_share() if is_timed else 1.0,
        )

    def inputs(self, stage: int, chosen: Step) -> tuple[Input, ...]:
        """Return what a step needs: F the part before it, B its own F and the part after it."""
        return inputs_of(self.pipeline_order.layout, stage, chosen)

    def ops(self, stage: int, lane: int, chosen: Step) -> tuple[Op, ...] | ConcurrentPasses:
        """Return the ops of a pass; of a pair both of its passes beside each other."""
        if isinstance(chosen, Pair):
            return ConcurrentPasses(
                sides=tuple((one, self._with_exchanges(stage, lane, one)) for one in passes_of(chosen))
            )
        return self._with_exchanges(stage, lane, chosen)

    def sends(self, stage: int, lane: int, chosen: Pass) -> tuple[Send, ...]:
        """Return the activations or gradients that go to the neighbouring stage."""
        work = self.work
        target = target_of(self.pipeline_order.layout, stage, chosen)
        if target is None:
            return ()
        num_bytes = work.tokens * work.model.hidden * work.model.dtype_bytes / work.mesh.strategy.tp
        transfer = self.costs.transfers.send(
            self.lane_ranks[stage, lane], self.lane_ranks[target, lane], num_bytes, group=lane
        )
        return (Send(target=(target, lane), key=Input(stage, *chosen), transfer=transfer),)

    def after_passes(self, stage: int, lane: int) -> tuple[Op, ...]:
        """Return gradient reduction and optimizer step (training)."""
        if not self.work.kind.trains:
            return ()
        return self._finish(stage, lane, lane_of=self._lane_of)

    # ---- private -------------------------------------------------------------------------------------------------

    def _with_exchanges(self, stage: int, lane: int, chosen: Pass) -> tuple[Op, ...]:
        """Return the ops of a pass, with what replicas exchange meanwhile and the moves of experts before the first."""
        ops = self._ops_of_pass(stage, lane, chosen)
        if self.work.zero >= 2:
            is_whole = chosen.kind == "B" and not self.pipeline_order.is_split(stage, chosen)
            reduces = chosen.kind == "W" or is_whole
            place = (stage, lane)
            ops = with_sharding(self.work, self.costs, place, self._lane_of, ops, chosen=chosen, reduces=reduces)
        return (*self._moves(stage, lane, chosen), *ops) if self.work.placement.moves else ops

    def _moves(self, stage: int, lane: int, chosen: Pass) -> list[Collective]:
        """Return the copies of experts before the first forward pass of a chunk under a plan."""
        plan = self.work.placement.plan_at(chosen.microbatch)
        key = (stage, lane, chosen.chunk, plan)
        if chosen.kind != "F" or key in self._moved:
            return []
        self._moved.add(key)
        return moves_before(
            self.work, self.costs, (stage, lane), self.work.chunk_layout.model_chunk_of(stage, chosen.chunk), plan
        )

    @property
    def _lane_of(self) -> NDArray[np.intp]:
        """The lane that runs for each. Shape [lanes]."""
        return np.arange(self.work.mesh.num_lanes) if self.folding is None else self.folding.lane_of

    def _weight_share(self) -> float:
        """Return what a microbatch keeps from B to W over what it keeps from F to B, of all layers."""
        work, layers = self.work, range(self.work.model.layers)
        kept = activation_bytes_per_microbatch(
            work.model, work.mesh, layers, work.tokens, work.recompute, sequence_length=work.sequence_length
        )
        return sum(weight_pass_bytes_per_microbatch(work.model, work.mesh, layers, work.tokens)) / kept

    def _ops_of_pass(self, stage: int, lane: int, chosen: Pass) -> tuple[Op, ...]:
        """Return the ops of a pass, without what replicas exchange meanwhile."""
        varies = not self.work.has_balanced_routing
        is_split = chosen.kind == "B" and self.pipeline_order.is_split(stage, chosen)
        key = (stage, lane, chosen.kind, chosen.chunk, is_split, chosen.microbatch if varies else None)
        if key not in self._known:
            ops = self._built(stage, lane, chosen, is_split=is_split)
            if varies:  # each microbatch is asked for once or twice: do not keep them
                return self._with_meetings(stage, lane, ops)
            self._known[key] = ops
        return self._with_meetings(stage, lane, self._known[key])

    def _finish(self, stage: int, lane: int, *, lane_of: NDArray[np.intp]) -> tuple[Op, ...]:
        return self._at_speed(stage, lane, finish_training(self.work, self.costs, stage, lane, lane_of))

    def _at_speed(self, stage: int, lane: int, ops: list[Op]) -> tuple[Op, ...]:
        """Return ops of a lane at the speeds of its GPUs."""
        return slow_down(tuple(ops), self.lane_ranks[stage, lane], self.work.cluster.speeds)

    def _link_map(self, lane: int) -> NDArray[np.intp]:
        """Return, for each link of the lane that runs for `lane`, the one that `lane` has in its place. Shape [L]."""
        if self.folding is None:
            raise RuntimeError("no lane runs for another")
        runs, ranks = (self.lane_ranks[:, i].ravel() for i in (self.folding.lane_of[lane], lane))
        return self.work.cluster.link_map(runs, ranks)

    def _built(self, stage: int, lane: int, chosen: Pass, *, is_split: bool) -> tuple[Op, ...]:
        """Return the ops of a pass, without meetings."""
        build = chunk_forward if chosen.kind == "F" else chunk_backward
        ops = build(self.work, self.costs, (stage, lane), chosen)
        if chosen.kind == "W":
            ops = weight_half(ops)
        elif is_split:
            ops = input_half(ops)
        return self._at_speed(stage, lane, ops)

    @cached_property
    def _stage_times(self) -> tuple[StageTimes, ...]:
        """Return how long the first microbatch's passes take on each stage, when nobody else is on the network."""
        found = []
        for stage in range(self.work.mesh.num_stages):
            chunks = range(self.work.visits_of_stage)
            took = [
                sum(
                    _alone_ns(op)
                    for chunk in chunks
                    for op in self._built(stage, 0, Pass(kind, 0, chunk), is_split=True)
                )
                for kind in "FBW"
            ]
            found.append(StageTimes(forward_ns=took[0], backward_ns=took[1], weight_ns=took[2]))
        return tuple(found)

    def _with_meetings(self, stage: int, lane: int, ops: tuple[Op, ...]) -> tuple[Op, ...]:
        """Let all stages enter each expert exchange together, where it is to block as one collective of all ranks."""
        if self.work.exchange != "blocking" or not self.work.mesh.convention.experts_span_stages:
            return ops
        members = tuple((other, lane) for other in range(self.work.mesh.num_stages))
        joined: list[Op] = []
        for op in ops:
            if isinstance(op, Collective) and op.kind in _EXCHANGES:
                number = self._num_exchanges.get((stage, lane), 0)
                self._num_exchanges[stage, lane] = number + 1
                joined.append(replace(op, join=RendezvousKey(key=("exchange", lane, number), members=members)))
            else:
                joined.append(op)
        return tuple(joined)


def _alone_ns(op: Op) -> int:
    """Return how long an op takes when nothing else runs."""
    if isinstance(op, Compute):
        return int(op.total_ns.max())
    if isinstance(op, Collective):
        return max((transfer.latency_ns + transfer.alone_ns for transfer in op.transfers), default=0)
    return int(op.duration_ns.max(initial=0))
