"""The plan of a model on a cluster: what each lane of each stage runs, with all costs known.

Model
-----
    F, B, W      a pass through the model chunk that the schedule's chunk stands for (`sim.plan.lowering`)
    F and B      concurrently (DualPipe, `runtime.overlap_moe`): each as it is alone. Kernels take turns on the ranks,
                 transfers share links, and so kernels of one pass run while the other pass waits for a transfer
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sim.build.work import Work
from sim.plan.costs import Costs
from sim.plan.folding import Folding, equivalent_lanes
from sim.plan.lowering import Lowering
from sim.plan.offload import alone_ns
from sim.plan.ops import (
    ConcurrentPasses,
    Input,
    LanePosition,
    Op,
    Send,
    Transfer,
    inputs_of,
    target_of,
)
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


class PipelinePlan:
    """Passes of a model's pipeline, lowered to ops."""

    def __init__(self, work: Work, *, folds: bool = True) -> None:
        """Plan `work`; if it `folds`, lanes that run alike are run once."""
        mesh, cluster = work.mesh, work.cluster
        self.work = work
        in_fp8 = work.model.formats.recipe is not None
        self.costs = Costs(
            cluster,
            dtype=work.model.base_dtype,
            network=work.network,
            is_random=not work.has_balanced_routing,
            profile=work.profile,
            factors=work.factors,
            gradient_bytes=work.precision.gradient_bytes if work.kind.trains else None,
            fused_wgrad=work.runtime.fused_wgrad,
            rate=work.runtime.kernel_rate,
            nvls=work.runtime.nvls,
            clock=cluster.device.long_run_clock(in_fp8=in_fp8) if work.runtime.sustained_clock else 1.0,
        )
        self.lane_ranks: NDArray[np.intp] = np.stack([mesh.lanes(stage) for stage in range(mesh.num_stages)])
        self.capacity_bytes_per_s = cluster.capacity_bytes_per_s
        self.can_saturate = cluster.can_saturate
        self.link_names = cluster.link_names
        self.link_kinds = cluster.link_kinds
        self.fidelity = work.network.fidelity
        takes_sms = work.overlaps_tp or work.runtime.collective_sms > 0
        self.num_sms = cluster.device.num_sms if takes_sms else self.costs.num_sms
        self.lowering = Lowering(work, self.costs, lambda: self._running_lanes, lambda: self.pipeline_order)
        self._folds = folds
        self._hops: dict[tuple[int, int, str, int], tuple[int, Transfer] | None] = {}

    @cached_property
    def folding(self) -> Folding | None:
        """Which lanes run for others, if any do."""
        num_lanes = self.work.mesh.num_lanes
        if not self._folds:
            return None
        lane_of = equivalent_lanes(self.work, self.lane_ranks, self.lowering.gradients.transfers)
        return Folding(lane_of, self.lane_ranks, self.work.cluster) if np.unique(lane_of).size < num_lanes else None

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
        work, is_timed = self.work, self.work.schedule_kind.uses_pass_times
        return Pipeline(
            num_stages=work.mesh.num_stages,
            num_microbatches=num_microbatches,
            num_chunks=work.mesh.strategy.vpp,
            pairs=work.overlaps_moe,
            times=self._stage_times if work.kind.trains and is_timed else None,
            weight_share=self._weight_share() if is_timed else 1.0,
        )

    def inputs(self, stage: int, step: Step) -> tuple[Input, ...]:
        """Return the outputs that a step needs before it opens."""
        return inputs_of(self.pipeline_order.layout, stage, step)

    def ops(self, stage: int, lane: int, step: Step) -> tuple[Op, ...] | ConcurrentPasses:
        """Return the ops of a pass; of a pair those of both passes, which run concurrently."""
        if isinstance(step, Pair):
            passes = passes_of(step)
            if self.work.overlaps_moe:  # Megatron Core issues the backward pass first
                passes = passes[::-1]
            return ConcurrentPasses(sides=tuple((pass_, self._lower(stage, lane, pass_)) for pass_ in passes))
        return self._lower(stage, lane, step)

    def sends(self, stage: int, lane: int, pass_: Pass) -> tuple[Send, ...]:
        """Return the activations or gradients that go to the neighbouring stage."""
        key = (stage, lane, pass_.kind, pass_.chunk)  # where it goes does not depend on the microbatch
        if key not in self._hops:
            self._hops[key] = self._hop(stage, lane, pass_)
        if (hop := self._hops[key]) is None:
            return ()
        target, transfer = hop
        blocks = not self.work.runtime.overlap_p2p
        return (Send(target=(target, lane), key=Input(stage, *pass_), transfer=transfer, blocks=blocks),)

    def before_passes(self, stage: int, lane: int) -> tuple[Op, ...]:
        """Return what a lane starts before its first pass."""
        return self.lowering.before_passes(LanePosition(stage, lane))

    def after_passes(self, stage: int, lane: int) -> tuple[Op, ...]:
        """Return gradient reduction and optimizer step (training)."""
        if not self.work.kind.trains:
            return ()
        return self.lowering.after_passes(LanePosition(stage, lane))

    # ---- private -------------------------------------------------------------------------------------------------

    def _hop(self, stage: int, lane: int, pass_: Pass) -> tuple[int, Transfer] | None:
        """Return the stage that the output of a pass is sent to, and the transfer; None where it is not sent."""
        work, target = self.work, target_of(self.pipeline_order.layout, stage, pass_)
        if target is None:
            return None
        model_chunk = work.chunk_layout.model_chunk_of(stage, pass_.chunk)
        num_states = work.num_hidden_states_after(model_chunk if pass_.kind == "F" else model_chunk - 1)
        num_bytes = num_states * work.rank_tokens * work.model.hidden * work.model.dtype_bytes / work.mesh.strategy.tp
        ranks = self.lane_ranks[:, lane]
        return target, self.costs.transfers.send(ranks[stage], ranks[target], num_bytes, group=lane)

    def _lower(self, stage: int, lane: int, pass_: Pass) -> tuple[Op, ...]:
        is_split = pass_.kind == "B" and self.pipeline_order.is_split(stage, pass_)
        return self.lowering.lower(LanePosition(stage, lane), pass_, is_split=is_split)

    @cached_property
    def _running_lanes(self) -> list[int]:
        """Lanes that run."""
        return list(range(self.work.mesh.num_lanes)) if self.folding is None else self.folding.running

    def _weight_share(self) -> float:
        """Return what a microbatch keeps from B to W over what it keeps from F to B, of all layers."""
        work, layers = self.work, self.work.layers
        chunks: list[Sequence[int]] = [layers]
        if work.recompute.num_layers is not None:
            chunks = [work.layers_of_model_chunk(chunk) for chunk in range(len(work.chunk_layers))]
        kept = sum(
            activation_bytes_per_microbatch(
                work.model, work.mesh, chunk, work.rank_tokens, work.recompute, sequence_length=work.sequence_length
            )
            for chunk in chunks
        )
        return sum(weight_pass_bytes_per_microbatch(work.model, work.mesh, layers, work.rank_tokens)) / kept

    @cached_property
    def _stage_times(self) -> tuple[StageTimes, ...]:
        """Return how long the first microbatch's passes take on each stage, when nobody else is on the network."""
        found = []
        for stage in range(self.work.mesh.num_stages):
            chunks = range(self.work.visits_of_stage)
            took = [
                sum(
                    alone_ns(self.lowering.chunk_ops(LanePosition(stage, 0), Pass(kind, 0, chunk), is_split=True))
                    for chunk in chunks
                )
                for kind in "FBW"
            ]
            found.append(StageTimes(forward_ns=took[0], backward_ns=took[1], weight_ns=took[2]))
        return tuple(found)
