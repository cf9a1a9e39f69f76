"""The plan of one step of a server on one stage: every kernel and every collective, for the engine to run.

Model
-----
    embedding | layer: own work, all-reduces over TP, dispatch, experts, combine | ... | output head

The ranks of a group are one lane. Own work is priced for each rank's batch as it is, and experts and exchanges for the
tokens that each layer draws anew: no class, and nothing kept from step to step. A step is a pass.

Assumptions
-----------
Both all-reduces over TP of a layer follow its own work. Sends between stages are priced and not simulated.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sim.plan.folding import Folding
from sim.plan.ops import NO_LAYER, Collective, Compute, Input, Op, Send, TimedKernel, Transfer
from sim.plan.serving_costs import RankBatch
from sim.plan.serving_kernels import KernelSteps
from sim.plan.serving_layers import PARTS
from workloads.blocks.ffn import MoeFfn
from workloads.blocks.layer import Layer
from workloads.schedules import Pass, Schedule, Step, build_schedule

__all__ = ["ServingStepPlan"]

_PER_S = 1e9


class ServingStepPlan:
    """One step of a group of ranks on one stage."""

    def __init__(self, costs: KernelSteps, stage: int, ranks: Sequence[RankBatch], number: int) -> None:
        """Plan step `number` of the batches of `ranks`, one for each data-parallel rank of the group."""
        cluster, work = costs.work.cluster, costs.work
        self._costs, self._stage, self._ranks, self._number = costs, stage, ranks, number
        self._tp = work.mesh.strategy.tp
        size = len(ranks) * self._tp
        lane: NDArray[np.intp] = work.mesh.lanes(stage).reshape(-1)[:size]
        self.lane_ranks = lane.reshape(1, 1, -1)
        self.capacity_bytes_per_s = cluster.capacity_bytes_per_s
        self.can_saturate = cluster.can_saturate
        self.link_names, self.link_kinds = cluster.link_names, cluster.link_kinds
        self.folding: Folding | None = None
        self.shares_compute = False
        self.num_sms = costs.costs.num_sms
        self.fidelity = work.network.fidelity

    def schedule(self, lane: int) -> Schedule:
        """Return one pass."""
        del lane
        return build_schedule("gpipe", num_stages=1, num_microbatches=1, forward=True)

    def inputs(self, stage: int, step: Step) -> tuple[Input, ...]:
        """Return nothing: it starts at once."""
        del stage, step
        return ()

    def sends(self, stage: int, lane: int, pass_: Pass) -> tuple[Send, ...]:
        """Return no sends."""
        del stage, lane, pass_
        return ()

    def before_passes(self, stage: int, lane: int) -> tuple[Op, ...]:
        """Return nothing."""
        del stage, lane
        return ()

    def after_passes(self, stage: int, lane: int) -> tuple[Op, ...]:
        """Return nothing."""
        del stage, lane
        return ()

    def ops(self, stage: int, lane: int, step: Step) -> tuple[Op, ...]:
        """Return the ops of the step."""
        del stage, lane, step
        work, ops = self._costs.work, list[Op]()
        kinds = {id(layer): kind for kind, (layer, _) in enumerate(self._costs.stage_kinds[self._stage])}
        first = sum(work.stage_layers[: self._stage])
        numbers = range(first, first + work.stage_layers[self._stage])
        layers = [(number, work.model.layer(number)) for number in numbers]
        draws = self._draws([number for number, layer in layers if isinstance(layer.ffn, MoeFfn)])
        ends = [self._costs.ends_s(self._stage, rank) for rank in self._ranks]
        ops += self._compute(NO_LAYER, [before for before, _ in ends])
        for number, layer in layers:
            own = [self._costs.layer_s(self._stage, kinds[id(layer)], rank) for rank in self._ranks]
            ops += [*self._compute(number, own), *self._over_tp(number, layer)]
            if isinstance(layer.ffn, MoeFfn):
                ops += self._experts(number, draws[number])
        return (*ops, *self._compute(NO_LAYER, [after for _, after in ends]))

    # ---- private -------------------------------------------------------------------------------------------------

    def _draws(self, layers: list[int]) -> dict[int, NDArray[np.int64]]:
        """Return the copies of tokens for each expert, of each layer with experts."""
        loads = self._costs.loads
        if not layers or loads is None:
            return {}
        counts = loads.draw_step(sum(rank.tokens for rank in self._ranks), layers, self._number)
        return dict(zip(layers, counts, strict=True))

    def _compute(self, layer: int, of_ranks: Sequence[NDArray[np.float64]]) -> list[Op]:
        """Return kernels of each data-parallel rank, by part, on each of its TP ranks."""
        by_part = np.repeat(np.stack(of_ranks), self._tp, axis=0)
        timed = [
            TimedKernel(
                kind=part, layer=layer, duration_ns=np.rint(by_part[:, at] * _PER_S).astype(np.int64), flops=0.0
            )
            for at, part in enumerate(PARTS)
            if by_part[:, at].any()
        ]
        return [Compute(kernels=tuple(timed))] if timed else []

    def _over_tp(self, number: int, layer: Layer) -> list[Op]:
        """Return the all-reduces over TP of a layer, of each data-parallel rank's tokens."""
        groups = self.lane_ranks.reshape(-1, self._tp)
        found: list[Op] = []
        for part in self._costs.layer_collectives(layer):
            transfers: list[Transfer] = []
            for group, rank in zip(groups, self._ranks, strict=True):
                transfers += self._costs.all_reduces(
                    group.reshape(1, -1), rank.tokens, in_graph=self._costs.in_graph(rank.tokens)
                )
            found.append(Collective(kind=part, layer=number, transfers=tuple(transfers)))
        return found

    def _experts(self, number: int, counts: NDArray[np.int64]) -> list[Op]:
        """Return the exchanges of a layer with the experts between them."""
        work = self._costs.work
        times_s = self._costs.expert_times(counts[None])[0]
        etp = work.mesh.strategy.etp
        duration_ns = np.repeat(np.rint(times_s * _PER_S).astype(np.int64), etp)
        size = self.lane_ranks.size
        duration_ns = np.resize(duration_ns, size)
        experts = Compute(kernels=(TimedKernel(kind="expert", layer=number, duration_ns=duration_ns, flops=0.0),))
        if not work.ranks_meet:
            return [experts]
        tokens = [rank.tokens for rank in self._ranks]
        made = [
            Collective(kind=part, layer=number, transfers=transfers)
            for part, transfers in self._costs.exchanges(self._stage, tokens, counts)
        ]
        return [made[0], experts, *made[1:]]
