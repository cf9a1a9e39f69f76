"""The core of a layer under context parallelism, as ops: the steps of `workloads.context_parallel` with their costs.

Model
-----
    step with a transfer alone       the lane waits for the transfer
    step with kernels next to it     the transfer starts on stream `cp`, the kernels run, the lane waits for both

Every context-parallel group of a lane exchanges at the same time; a group that is cut in two levels is cut as Megatron
cuts it: ranks next to each other form the inner groups, ranks at the same place of these the outer ones.

References
----------
Megatron-LM `parallel_state.create_hierarchical_groups`.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sim.build.work import Work
from sim.plan.costs import Costs
from sim.plan.ops import AwaitStream, Collective, LanePosition, Op, Transfer
from workloads.blocks.core import MixerKernels
from workloads.blocks.layer import Mixer
from workloads.context_parallel import CoreOfRank, CpExchange, CpStep
from workloads.kernels import Kernel, backward_of

__all__ = ["ContextLowering"]

Ranks = NDArray[np.intp]
_STREAM = "cp"
"""Stream of a ring."""


class ContextLowering:
    """Lowers what mixes tokens of sequences that are split over ranks."""

    def __init__(self, work: Work, costs: Costs) -> None:
        self._work, self._costs = work, costs
        self._transfers: dict[tuple[LanePosition, CpExchange], tuple[Transfer, ...]] = {}

    def forward(
        self, position: LanePosition, layer: int, mixer: Mixer, kernels: MixerKernels, *, first: Sequence[Kernel]
    ) -> list[Op]:
        """Return the ops of the forward pass of a mixer, after the kernels that run `first` in its block."""
        steps = self._work.context.forward(self._core(mixer, kernels))
        return self._ops(position, layer, [_step(*first, *kernels.before), *steps, _step(*kernels.after)])

    def backward(
        self, position: LanePosition, layer: int, mixer: Mixer, kernels: MixerKernels, *, recomputed: Sequence[Kernel]
    ) -> list[Op]:
        """Return the ops of the backward pass, down to the gradients of what goes into the core.

        The kernels `recomputed` run first; where the core is among them, its transfers run again too.
        """
        core, context = self._core(mixer, kernels), self._work.context
        steps = [_step(*(kernel for kernel in recomputed if kernel not in kernels.core))]
        if any(kernel in kernels.core for kernel in recomputed):
            steps += context.forward(core)
        return self._ops(position, layer, [*steps, _step(*backward_of(kernels.after)), *context.backward(core)])

    # ---- private -------------------------------------------------------------------------------------------------

    def _core(self, mixer: Mixer, kernels: MixerKernels) -> CoreOfRank:
        work, s = self._work, self._work.mesh.strategy
        return CoreOfRank(
            kernels=tuple(kernels.core),
            tensors=mixer.core_tensors(s.tp, s.cp),
            tokens=work.rank_tokens,
            dtype_bytes=mixer.dtype_bytes,
        )

    def _ops(self, position: LanePosition, layer: int, steps: Sequence[CpStep]) -> list[Op]:
        """Return steps as ops; kernels of steps without a transfer are one op."""
        ops: list[Op] = []
        waiting: list[Kernel] = []

        def run() -> None:
            if waiting:
                ops.append(self._costs.kernels.compute(waiting, self._work.mesh.lane_size, layer=layer))
                waiting.clear()

        for step in steps:
            if step.exchange is None:
                waiting += step.kernels
                continue
            run()
            transfers, stream = self._of_lane(position, step.exchange), _STREAM if step.kernels else None
            ops.append(Collective(kind="cp", layer=layer, transfers=transfers, stream=stream))
            if stream is not None:
                waiting += step.kernels
                run()
                ops.append(AwaitStream(stream=stream, layer=layer))
        run()
        return ops

    def _of_lane(self, position: LanePosition, exchange: CpExchange) -> tuple[Transfer, ...]:
        """Return the transfers of an exchange in all groups of a lane."""
        key = (position, exchange)
        if key not in self._transfers:
            groups = self._work.mesh.cp_groups_of_lane(*position)
            cut = groups.reshape(-1, exchange.size, exchange.stride).swapaxes(1, 2).reshape(-1, exchange.size)
            price = {"ring": self._ring, "all_to_all": self._all_to_all}.get(exchange.operation, self._collective)
            self._transfers[key] = tuple(price(exchange, ranks, number) for number, ranks in enumerate(cut))
        return self._transfers[key]

    def _ring(self, exchange: CpExchange, ranks: Ranks, group: int) -> Transfer:
        """Return what every rank sends to the next one, all at the same time."""
        to = np.roll(ranks, 1 if exchange.is_backward else -1)
        return self._costs.transfers.send(ranks, to, exchange.num_bytes, group=group)

    def _all_to_all(self, exchange: CpExchange, ranks: Ranks, group: int) -> Transfer:
        """Return an all-to-all in which every rank has equally much for each rank, and keeps its own part."""
        matrix = np.full((ranks.size, ranks.size), exchange.num_bytes / ranks.size)
        return self._costs.head_exchanges.round_trip(ranks, ranks, matrix, group=group)[0]

    def _collective(self, exchange: CpExchange, ranks: Ranks, group: int) -> Transfer:
        """Return a collective of the tensor of all ranks together."""
        return self._costs.transfers.collective(exchange.operation, ranks, exchange.num_bytes * ranks.size, group=group)


def _step(*kernels: Kernel) -> CpStep:
    return CpStep(kernels=kernels)
