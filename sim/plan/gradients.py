"""Gradients and the optimizer step: what data-parallel replicas exchange after the passes, and with ZeRO in them.

Model
-----
    zero 0    all-reduce of gradients, then Adam on all of a rank's parameters
    zero 1    reduce-scatter of gradients, Adam on 1 / replicas of them, all-gather of weights
    zero 2    B, or W where it is split off: after a layer, reduce-scatter of its gradients.
              Then Adam on 1 / replicas, all-gather of weights
    zero 3    F and B: before a layer, all-gather of its weights; B or W: after it, reduce-scatter of its gradients.
              Then Adam on 1 / replicas

Dense parameters have DP replicas; experts have R / EP of a stage's R ranks, one under `spanning`. Embedding and output
head are gathered before the first op of no layer and reduced after the last.

After the reduction the replicas of experts that EPLB put on several ranks of a group add up theirs
(`sim.plan.expert_replicas`). Under `spanning` an expert serves all stages, so all stages meet after their backward
passes, before anything else. Data-parallel replicas may lie in several lanes, which then meet; the first lane of each
group holds the transfer of the group.

Gradients are reduced in the type they are kept in, by default 4 bytes (Megatron's), weights gathered in the model's
type. The step reads all gradients for their norm (with fp16 it divides them by the scale of the loss), then gradient,
two moments and master weight, writes moments and master weight, reads the master weight again and writes the weight,
and sets the gradients to zero: by default 4 + 28 + 6 + 4 bytes per parameter.

Assumptions
-----------
Reduction starts after the last backward pass, unless the runtime overlaps it (`sim.plan.gradient_overlap`). A rank
waits for each collective of ZeRO 2 and 3: nothing is prefetched and nothing overlaps, which is pessimistic. ZeRO 2 and
3 reduce gradients in every microbatch, for a rank that kept them until the last would hold them whole.

References
----------
Rajbhandari et al., "ZeRO: memory optimizations toward training trillion parameter models", 2020, section 7.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sim.build.work import Work
from sim.plan.costs import Costs
from sim.plan.ops import NO_LAYER, Collective, Compute, LanePosition, Op, RendezvousKey, Transfer
from workloads.layers import optimizer_step
from workloads.memory import (
    StageParameters,
    layer_params_per_rank,
    optimized_params_per_rank,
    params_of_layers,
    params_per_rank,
)
from workloads.schedules import Pass

__all__ = ["GradientLowering"]

Ranks = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Exchanged:
    """What the data-parallel replicas of parameters of a stage exchange."""

    transfers: tuple[Transfer, ...]
    """One for each group of ranks that hold the same parameters."""
    homes: tuple[LanePosition, ...]
    """The lane of the first rank of each group."""
    crosses_lanes: bool
    """Whether a group has ranks in several lanes."""


class GradientLowering:
    """Lowers what data-parallel replicas exchange; each exchange is priced once for all lanes of a stage."""

    def __init__(self, work: Work, costs: Costs) -> None:
        self._work, self._costs = work, costs
        self._exchanged: dict[tuple[str, int, tuple[float, ...]], _Exchanged] = {}
        self._of_layer: dict[tuple[str, LanePosition, int, int], list[Collective]] = {}

    def reduction(self, position: LanePosition, lanes: Sequence[int]) -> list[Op]:
        """Return the reduction of gradients after the last pass of a lane; the lanes that run are `lanes`."""
        work, mesh = self._work, self._work.mesh
        ops: list[Op] = []
        if mesh.convention.experts_span_stages and len(mesh.lane_positions) > 1:
            # an expert has its gradient when the last stage has used the expert
            rendezvous = RendezvousKey(key=("gradients",), members=mesh.lane_positions, is_barrier=True)
            ops.append(Collective(kind="dp", layer=NO_LAYER, transfers=(), rendezvous=rendezvous))
        if work.fsdp is None and not work.sharding.gradients and not work.overlaps_grad_reduce:
            ops += self._over_replicas(
                position,
                lanes,
                operation=self._reduction,
                params=self._stage_params(position.stage),
                bytes_per_param=work.precision.gradient_bytes,
            )
        return ops

    def on_stream(
        self,
        position: LanePosition,
        lanes: Sequence[int],
        *,
        gathers: bool,
        params: tuple[int, int],
        stream: str,
        label: tuple[str, int, int],
    ) -> list[Collective]:
        """Return the collective of a bucket of a stage, on a stream of a lane; none where nothing has a replica.

        Parameters
        ----------
        position, lanes
            The lane, and the lanes that run.
        gathers
            Whether weights are gathered; else gradients are reduced.
        params
            Dense and expert parameters of a rank.
        stream, label
            Where the collective runs, and the label by which it is awaited.
        """
        work = self._work
        found = self._over_replicas(
            position,
            lanes,
            operation="all_gather" if gathers else self._reduction,
            params=params,
            bytes_per_param=self._gathered_bytes if gathers else work.precision.gradient_bytes,
        )
        key = ("bucket", stream, position.stage, *label)
        return [
            replace(
                op,
                stream=stream,
                label=label,
                rendezvous=None if op.rendezvous is None else replace(op.rendezvous, key=key),
            )
            for op in found
        ]

    def step(self, position: LanePosition, lanes: Sequence[int]) -> list[Op]:
        """Return the optimizer step of a lane, and the all-gather of weights that follows it under ZeRO 1 and 2."""
        work, stage = self._work, position.stage
        num_params = optimized_params_per_rank(
            work.model, work.mesh, work.stage_parameters(stage), stage, sharding=work.sharding
        )
        num_gradients = num_params if work.sharding.gradients else float(sum(self._stage_params(stage)))
        kernels = optimizer_step(num_params, work.precision, num_gradients=num_gradients, dtype=work.model.dtype)
        ops: list[Op] = [self._costs.kernels.compute(kernels, work.mesh.lane_size)]
        if work.sharding.optimizer and not work.sharding.weights and not work.overlaps_param_gather:
            ops += self._over_replicas(
                position,
                lanes,
                operation="all_gather",
                params=self._stage_params(stage),
                bytes_per_param=self._gathered_bytes,
            )
        casts = work.model.formats.weight_casts(
            float(params_of_layers(work.model, work.mesh, work.stage_parameters(stage)))
        )
        return [*ops, self._costs.kernels.compute(casts, work.mesh.lane_size)] if casts else ops

    def transfers(self, stage: int) -> list[Transfer]:
        """Return all that the data-parallel replicas of a stage exchange, as if it were all after the last pass.

        The sums over replicas of experts are left out: they stay in each lane, and are alike where their wiring is.
        ZeRO 2 and 3, and FSDP, put the same bytes on the same links as ZeRO 1, in other shares.
        """
        work, params = self._work, self._stage_params(stage)
        operations: list[tuple[str, float]] = [(self._reduction, work.precision.gradient_bytes)]
        operations += [("all_gather", self._gathered_bytes)] if work.sharding.optimizer else []
        operations += [("all_reduce", work.precision.gradient_bytes)] if work.sharding.num_instances > 1 else []
        return [
            transfer
            for operation, bytes_per_param in operations
            for transfer in self._exchange(stage, operation, params, bytes_per_param).transfers
        ]

    def with_sharding(
        self, position: LanePosition, pass_: Pass, ops: Sequence[Op], *, is_split: bool, lanes: Sequence[int]
    ) -> tuple[Op, ...]:
        """Return the ops of a pass with the exchanges of ZeRO 2 and 3 around those of each layer.

        `is_split` says whether W is split off a pass B.
        """
        work = self._work
        model_chunk = work.chunk_layout.model_chunk_of(position.stage, pass_.chunk)
        makes_gradients = pass_.kind == "W" or (pass_.kind == "B" and not is_split)
        # a B makes the gradients of the embedding, which has no product to split off
        makes_embedding = pass_.kind == "B" and model_chunk == work.embedding_chunk != work.head_chunk

        def exchange(operation: str, layer: int) -> list[Op]:
            """Return a collective of the parameters of a layer; each pass meets for itself."""
            key = ("sharded", operation, position.stage, layer, *pass_)
            return [
                op if op.rendezvous is None else replace(op, rendezvous=replace(op.rendezvous, key=key))
                for op in self.exchange_of_layer(operation, position, model_chunk, layer, lanes=lanes)
            ]

        layers = [op.kernels[0].layer if isinstance(op, Compute) else op.layer for op in ops]
        first = {layer: i for i, layer in reversed(list(enumerate(layers)))}
        last = {layer: i for i, layer in enumerate(layers)}
        result: list[Op] = []
        for i, (layer, op) in enumerate(zip(layers, ops, strict=True)):
            if work.zero == 3 and pass_.kind != "W" and first[layer] == i:
                result += exchange("all_gather", layer)
            result.append(op)
            if last[layer] == i and (makes_gradients or (layer == NO_LAYER and makes_embedding)):
                result += exchange("reduce_scatter", layer)
        return tuple(result)

    def exchange_of_layer(
        self, operation: str, position: LanePosition, model_chunk: int, layer: int, *, lanes: Sequence[int]
    ) -> list[Collective]:
        """Return a collective of the parameters of a layer, or of those of a model chunk that belong to no layer."""
        precision, key = self._work.precision, (operation, position, layer, model_chunk if layer == NO_LAYER else -1)
        if key not in self._of_layer:
            self._of_layer[key] = self._over_replicas(
                position,
                lanes,
                operation=operation,
                params=self._params_of_layer(model_chunk, layer),
                bytes_per_param=self._gathered_bytes if operation == "all_gather" else precision.gradient_bytes,
                layer=layer,
            )
        return self._of_layer[key]

    # ---- private -------------------------------------------------------------------------------------------------

    @property
    def _gathered_bytes(self) -> float:
        """Bytes of a weight that replicas gather; embedding and output head are taken to be like the layers."""
        return self._work.model.formats.gathered_weight_bytes(self._work.model.dtype_bytes)

    @property
    def _reduction(self) -> str:
        """The collective that reduces gradients."""
        return "reduce_scatter" if self._work.sharding.optimizer else "all_reduce"

    def _stage_params(self, stage: int) -> tuple[int, int]:
        """Return the dense and the expert parameters of a rank, replicas of experts with them."""
        return params_per_rank(self._work.model, self._work.mesh, self._work.stage_parameters(stage))

    def _over_replicas(
        self,
        position: LanePosition,
        lanes: Sequence[int],
        *,
        operation: str,
        params: tuple[float, float],
        bytes_per_param: float,
        layer: int = NO_LAYER,
    ) -> list[Collective]:
        """Return the collective in which a lane takes part; none where nothing has a replica.

        Parameters
        ----------
        position, lanes
            The lane, and the lanes that run.
        operation
            all_reduce, reduce_scatter or all_gather.
        params, bytes_per_param
            Dense and expert parameters of a rank, and the bytes of each.
        layer
            Layer of the parameters, if they are of one layer; lanes meet by operation, stage and layer.
        """
        stages = self._work.mesh.stages_with_same_layers(position.stage)
        found = self._exchange(position.stage, operation, params, bytes_per_param)
        transfers = tuple(
            transfer for transfer, home in zip(found.transfers, found.homes, strict=True) if home == position
        )
        if not transfers and not found.crosses_lanes:
            return []
        rendezvous = None
        if found.crosses_lanes:
            members = tuple((stage, lane) for stage in stages for lane in lanes)
            rendezvous = RendezvousKey(key=("dp", operation, stages[0], layer), members=members)
        return [Collective(kind="dp", layer=layer, transfers=transfers, rendezvous=rendezvous)]

    def _exchange(self, stage: int, operation: str, params: tuple[float, float], bytes_per_param: float) -> _Exchanged:
        """Return what all lanes of a stage exchange, and of the stage that holds the same parameters."""
        stage = self._work.mesh.stages_with_same_layers(stage)[0]
        num_bytes = tuple(float(num_params * bytes_per_param) for num_params in params)
        key = (operation, stage, num_bytes)
        if key not in self._exchanged:
            self._exchanged[key] = self._priced(*key)
        return self._exchanged[key]

    def _priced(self, operation: str, stage: int, num_bytes: tuple[float, ...]) -> _Exchanged:
        """Return the exchange of as many bytes of dense parameters and of experts on each rank."""
        mesh = self._work.mesh
        homes = np.zeros((mesh.world, 2), dtype=np.intp)  # stage and lane of each rank
        for same in mesh.stages_with_same_layers(stage):
            homes[mesh.lanes(same), 0] = same
            homes[mesh.lanes(same), 1] = np.arange(mesh.num_lanes)[:, None]
        of_parameters = zip((mesh.dp_groups(stage), mesh.expert_dp_groups(stage)), num_bytes, strict=True)
        families = [self._groups_of(operation, groups, of_rank) for groups, of_rank in of_parameters]
        families = [(groups, of_rank) for groups, of_rank in families if groups.shape[1] > 1 and of_rank > 0]
        transfers: list[Transfer] = []
        for groups, of_rank in families:
            transfers += [
                self._costs.transfers.collective(operation, group, of_rank, group=number)
                for number, group in enumerate(groups, start=len(transfers) + 1)
            ]
        return _Exchanged(
            transfers=tuple(transfers),
            homes=tuple(LanePosition(*home) for groups, _ in families for home in homes[groups[:, 0]].tolist()),
            crosses_lanes=any((homes[groups] != homes[groups[:, :1]]).any() for groups, _ in families),
        )

    def _groups_of(self, operation: str, groups: Ranks, num_bytes: float) -> tuple[Ranks, float]:
        """Return the groups that take part in an operation, of `groups` [G, D] with the same parameters, and its bytes.

        With several instances (HSDP) their ranks gather and scatter among them, and each share is summed over them.
        """
        sharding = self._work.sharding
        if sharding.num_instances == 1:
            return groups, num_bytes
        if operation == "all_reduce":
            return sharding.instance_groups(groups), num_bytes / sharding.num_shards(groups.shape[1])
        return sharding.shard_groups(groups), num_bytes

    def _params_of_layer(self, model_chunk: int, layer: int) -> tuple[int, int]:
        """Return the dense and expert parameters of a layer, or those of a model chunk that belong to no layer."""
        work = self._work
        if layer != NO_LAYER:
            return layer_params_per_rank(work.model.layer(layer), work.mesh, expert_replicas=work.placement.replicas)
        ends = StageParameters(
            layers=(),
            has_embedding=model_chunk in work.chunks_with_embedding,
            has_head=model_chunk == work.head_chunk,
        )
        return params_per_rank(work.model, work.mesh, ends)[0], 0
