"""A training step on one flat switch: the reference workload of the engine's speed.

Model
-----
Every rank has one port, with one link up to the switch and one down from it. A stage of a pipeline is one lane of n
ranks, under tensor and expert parallelism alike. A layer, forward, with times as the clock rounds them:

    attention    all-reduce    all-to-all    FFN    all-to-all    all-reduce

    all-reduce      2 (n - 1) * latency      2 (n - 1) / n * bytes of the tensor      on each link, one ring
    all-to-all                  latency        (n - 1) / n * bytes of a rank          on each link, sent directly
    hop                         latency                    bytes of a rank            to the same rank of the next stage

Backward is the same row of operations, last layer first, with compute times the factor `backward_over_forward`. Passes
follow GPipe: all forward, then all backward. Each pipeline is a replica of its own; replicas exchange nothing.

Assumptions
-----------
`latency_s` is that of a whole path, from port to port through the switch. The switch itself never blocks. There is no
gradient reduction and no optimizer: only the pipeline is to be timed.

An op is made when it is first needed and kept, as an op of balanced routing is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from sim.plan.ops import Collective, Compute, Input, Op, Send, TimedKernel, Transfer, inputs_of, target_of
from sim.time import to_ns
from topology.links import LinkLoad
from workloads.collectives import Exchange, all_to_all, point_to_point, ring_all_reduce
from workloads.schedules import ChunkLayout, Pass, Schedule, build_schedule

__all__ = ["FlatSwitchPlan", "FlatSwitchStep"]

Ranks = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatSwitchStep:
    """Sizes and times of the step; as given, the 64-GPU step TP16 PP4 EP16."""

    num_stages: int = 4
    """Stages of a pipeline."""
    lane_size: int = 16
    """Ranks of a stage of one pipeline: TP and EP."""
    layers_per_stage: int = 15
    """Layers of each stage."""
    num_microbatches: int = 8
    """Microbatches of each pipeline."""
    slowness: tuple[float, ...] = (1.0,)
    """Factor on compute times of each pipeline; as many pipelines as factors."""
    bandwidth_bytes_per_s: float = 50e9
    """Of a port, each direction."""
    latency_s: float = 500e-9
    """From port to port."""
    attention_s: float = 400e-6
    """Forward."""
    ffn_s: float = 300e-6
    """Forward."""
    backward_over_forward: float = 2.0
    """Compute of a backward pass over that of a forward one."""
    all_reduce_bytes: float = 58.7e6
    """Tensor that is reduced."""
    all_to_all_bytes: float = 29.4e6
    """Of a rank, for all ranks of its lane; 1 / lane_size of it stays where it is."""
    hop_bytes: float = 3.7e6
    """Of a rank, to the next stage."""
    exchange_seed: int | None = None
    """None: an all-to-all is of its lane, with equal bytes. Else each is over all ports, with bytes drawn for each pair
    from 0.1 to 1.9 times the mean, and as many in all."""

    @property
    def num_ports(self) -> int:
        """Ports of the switch, one for each rank."""
        return self.num_stages * len(self.slowness) * self.lane_size

    @property
    def num_stage_ops(self) -> int:
        """Operations of all stages: six for each layer, forward and backward."""
        num_passes = 2 * self.num_stages * len(self.slowness) * self.num_microbatches
        return num_passes * self.layers_per_stage * 6


class FlatSwitchPlan:
    """The step as the engine wants it; see `sim.engine.run_state.Plan`.

    >>> from sim.engine.simulation import run_plan
    >>> run_plan(FlatSwitchPlan(FlatSwitchStep())).trace.step_ns
    2175159000
    """

    def __init__(self, step: FlatSwitchStep) -> None:
        self.step = step
        shape = (step.num_stages, len(step.slowness), step.lane_size)
        self.lane_ranks: Ranks = np.arange(step.num_ports, dtype=np.intp).reshape(shape)
        self.capacity_bytes_per_s = np.full(2 * step.num_ports, step.bandwidth_bytes_per_s)
        self.can_saturate = np.ones(2 * step.num_ports, dtype=np.bool_)
        self.link_names = [f"port{i}.{way}" for way in ("up", "down") for i in range(step.num_ports)]
        self.link_kinds = ["port"] * (2 * step.num_ports)
        self.folding = None
        self.shares_compute = False
        self.num_sms: int | None = None
        self.fidelity = "bulk"
        self._ops: dict[tuple[int, int, str], tuple[Op, ...]] = {}
        self._sends: dict[tuple[int, int], Transfer] = {}

    def schedule(self, lane: int) -> Schedule:
        """Return GPipe's order for one pipeline."""
        del lane
        step = self.step
        return build_schedule("gpipe", num_stages=step.num_stages, num_microbatches=step.num_microbatches)

    def inputs(self, stage: int, chosen: Pass) -> tuple[Input, ...]:
        """Return what a pass needs: F the stage before it, B its own F and the stage after it."""
        return inputs_of(ChunkLayout(kind="row", num_stages=self.step.num_stages), stage, chosen)

    def ops(self, stage: int, lane: int, chosen: Pass) -> tuple[Op, ...]:
        """Return the operations of a pass."""
        if self.step.exchange_seed is not None:  # no pass comes twice
            return self._pass(stage, lane, chosen)
        key = (stage, lane, chosen.kind)
        if key not in self._ops:
            self._ops[key] = self._pass(stage, lane, chosen)
        return self._ops[key]

    def sends(self, stage: int, lane: int, chosen: Pass) -> tuple[Send, ...]:
        """Return the hop to the neighbouring stage."""
        target = target_of(ChunkLayout(kind="row", num_stages=self.step.num_stages), stage, chosen)
        if target is None:
            return ()
        return (Send(target=(target, lane), key=Input(stage, *chosen), transfer=self._hop(stage, target, lane)),)

    def before_passes(self, stage: int, lane: int) -> tuple[Op, ...]:
        """Return nothing: no transfer runs next to passes."""
        del stage, lane
        return ()

    def after_passes(self, stage: int, lane: int) -> tuple[Op, ...]:
        """Return nothing: there is no optimizer step."""
        del stage, lane
        return ()

    # ---- private -------------------------------------------------------------------------------------------------

    def _pass(self, stage: int, lane: int, chosen: Pass) -> tuple[Op, ...]:
        step, ranks = self.step, self.lane_ranks[stage, lane]
        factor = step.slowness[lane] * (step.backward_over_forward if chosen.kind == "B" else 1.0)
        members = ranks.tolist()
        reduced = self._transfer(ring_all_reduce(members, members, step.all_reduce_bytes), ranks)  # a port is a node
        first = stage * step.layers_per_stage
        layers = range(first, first + step.layers_per_stage)
        exchanges = self._exchanges(ranks, (stage, lane, chosen.microbatch, int(chosen.kind == "B")))
        ops: list[Op] = []
        for layer in reversed(layers) if chosen.kind == "B" else layers:
            ops += [
                _kernel("attention", layer, step.attention_s * factor, ranks.size),
                Collective(kind="tp", layer=layer, transfers=(reduced,)),
                Collective(kind="ep_dispatch", layer=layer, transfers=(next(exchanges),)),
                _kernel("expert", layer, step.ffn_s * factor, ranks.size),
                Collective(kind="ep_combine", layer=layer, transfers=(next(exchanges),)),
                Collective(kind="tp", layer=layer, transfers=(reduced,)),
            ]
        return tuple(ops)

    def _exchanges(self, ranks: Ranks, key: tuple[int, ...]) -> Iterator[Transfer]:
        """Yield the all-to-alls of a pass."""
        step, num_ports = self.step, self.step.num_ports
        if step.exchange_seed is None:
            even = np.full((ranks.size, ranks.size), step.all_to_all_bytes / ranks.size)
            yield from repeat(self._transfer(all_to_all(ranks.tolist(), even), ranks))
        rng = np.random.default_rng([step.exchange_seed, *key])
        mean = step.all_to_all_bytes * ranks.size / num_ports**2
        while True:
            matrix = rng.uniform(0.1 * mean, 1.9 * mean, (num_ports, num_ports))
            yield self._transfer(all_to_all(range(num_ports), matrix), np.arange(num_ports))

    def _hop(self, stage: int, target: int, lane: int) -> Transfer:
        src, dst = self.lane_ranks[stage, lane], self.lane_ranks[target, lane]
        if (key := (int(src[0]), int(dst[0]))) not in self._sends:
            exchange = point_to_point(src.tolist(), dst.tolist(), self.step.hop_bytes)
            self._sends[key] = self._transfer(exchange, src)
        return self._sends[key]

    def _transfer(self, exchange: Exchange, ranks: Ranks) -> Transfer:
        num_ports = self.step.num_ports
        touched = np.concatenate([exchange.src, exchange.dst + num_ports])
        num_bytes = np.bincount(touched, weights=np.tile(exchange.num_bytes, 2), minlength=2 * num_ports).astype(
            np.float64
        )
        links = np.flatnonzero(num_bytes)
        load = LinkLoad(links=links, num_bytes=num_bytes[links])
        return Transfer(
            load=load,
            latency_ns=to_ns(sum(step.count for step in exchange.steps) * self.step.latency_s),
            alone_ns=to_ns(load.drain_time_s(self.capacity_bytes_per_s)),
            flow_bytes=exchange.flow_bytes,
            total_bytes=exchange.total_bytes,
            group=0,
            ranks=ranks,
        )


def _kernel(kind: str, layer: int, time_s: float, num_ranks: int) -> Compute:
    duration_ns = np.full(num_ranks, to_ns(time_s), dtype=np.int64)
    return Compute(kernels=(TimedKernel(kind=kind, layer=layer, duration_ns=duration_ns, flops=0.0),))
