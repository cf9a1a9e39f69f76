"""Lower bounds on the step time and the memory of strategies, which no simulation can undercut.

Model
-----
Cheap, for thousands of candidates at once (`cheap_bounds_s`)::

    bound = max over stages s of   all microbatches through the chunks of s + one microbatch through chunks 0 to s - 1
    chunk = arithmetic of its layers at the peak, with what is recomputed,
            + the sums over TP of a forward pass over the links' datasheet rates               where nothing overlaps

Its proof: the first microbatch comes to stage s through the chunks before it, and after the last backward pass of s
goes back through them; where W is split off only the way in is certain. In a forward pass kernels and the collectives
that a lane waits for are in series. Kernels are never above the peak, links never above their datasheet. Where layers
do not divide among chunks the mean stage stands for the fullest.

Tight, for one candidate (`TightBound`)::

    pass      = the max-plus map of its layers (`sim.studies.search.maps`): kernels at the plan's own times, collectives
                as they are alone, what the host issues and waits for
    step      = the passes in the order of their schedule: each after the pass before it on its stage and after what it
                needs from other stages, with the send alone; then gradients and optimizer
    bound     = end of the last                                    the longest path that is free of contention

A schedule whose order depends on simulated times has no such bound. The maps of a layer are made once for all
candidates that give it the same groups and tokens (`_signature`); where machines differ, for each stage anew.

    memory    = states of the fullest stage and one microbatch's activations; in training what the order of passes needs

Under routing that is drawn, experts take the arithmetic of the mean of the copies that may be computed at the peak, and
their exchanges nothing: the hottest rank has the mean at least, and no kernel is above the peak.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.build.build import build
from sim.build.work import Work
from sim.plan.ops import NO_LAYER, Collective, Compute, Input, LanePosition, Op, Service, TimedKernel
from sim.plan.pipeline import PipelinePlan
from sim.run.stage_memory import stage_memory
from sim.scenario.scenario import Scenario
from sim.scenario.workload_section import ForwardWorkload, TrainingWorkload
from sim.studies.order_memory import predict_memory
from sim.studies.search.maps import IDENTITY, Map, applied, map_of, product
from sim.studies.search.space import AXES, Space
from workloads.conventions import CONVENTIONS
from workloads.memory import reserved_bytes
from workloads.routing import RoutingSettings
from workloads.runtime import Runtime
from workloads.schedules import SCHEDULES, Pass, PipelineOrder, Step, passes_of

__all__ = ["Bound", "TightBounds", "cheap_bounds_s", "has_alike_stages"]

FloatArray = NDArray[np.float64]
_NS: Final = 1e-9
_IN_SIGNATURE: Final = frozenset({*AXES, "parallel.strategy", "parallel.dp", "parallel.sp", "parallel.stage_layers"})
"""Keys whose values signatures have."""
_ENDS: Final = ("before", "after")
_EXCHANGES: Final = frozenset({"ep_dispatch", "ep_combine", "ep_moves"})


def cheap_bounds_s(space: Space, runtime: Runtime) -> FloatArray:
    """Return the cheap bound of each candidate of a space. Shape [candidates]."""
    model, cluster, workload = space.model, space.cluster, space.scenario.spec.workload
    if not isinstance(workload, (ForwardWorkload, TrainingWorkload)):
        raise TypeError("a space is of work of kind forward or training")
    if any(candidate.has_own_runtime for candidate in space.candidates):
        return np.zeros(len(space.candidates))  # formats and overlaps differ
    batches = workload.batches if isinstance(workload, ForwardWorkload) else 1
    tokens = float(workload.sequences * workload.sequence_length)
    names = ("tp", "pp", "vpp")
    tp, pp, vpp = np.array([[getattr(c.strategy, name) for c in space.candidates] for name in names], dtype=np.int64)
    microbatches = np.array([c.microbatches for c in space.candidates], dtype=np.float64) * batches
    passes = 3.0 if space.trains else 1.0
    again = np.array([float(c.recompute == "full") for c in space.candidates])
    splits = np.array([SCHEDULES[c.schedule].splits_backward for c in space.candidates])
    is_row = np.array([SCHEDULES[c.schedule].layout in {"row", "round_robin"} for c in space.candidates])
    peak = cluster.device.peak_flops_per_s(model.product_dtype) * cluster.num_gpus
    wires_s = np.zeros(len(tp)) if runtime.overlap_tp or runtime.overlap_moe else _reduce_s(space, tp, tokens)
    head_tokens = tokens if space.trains else float(workload.sequences)
    head_s = batches * passes * 2.0 * model.num_embedding_params * head_tokens / peak
    flops, reduces = _of_layers(space)
    found = np.zeros(len(tp))
    for stages, chunks in set(zip(pp.tolist(), vpp.tolist(), strict=True)):
        chosen = np.flatnonzero((pp == stages) & (vpp == chunks))
        number = stages * chunks
        arithmetic, sums = (
            values.reshape(number, -1).sum(axis=1)
            if model.layers % number == 0
            else np.full(number, values.sum() / number)
            for values in (flops, reduces)
        )
        # seconds of a microbatch in each chunk of the model. Shape [candidates, chunks]
        share = batches * stages / microbatches[chosen, None]
        forward_s = share * (arithmetic * tokens / peak + sums * wires_s[chosen, None])
        others_s = share * arithmetic * tokens / peak * (passes - 1 + again[chosen, None])
        chunk_s = forward_s + others_s
        before_s = np.where(splits[chosen, None], forward_s, chunk_s)
        own_s = chunk_s.reshape(len(chosen), chunks, stages).sum(axis=1) * microbatches[chosen, None]
        head = np.zeros(stages)
        head[-1] = head_s * stages
        fill_s = np.cumsum(before_s[:, :stages], axis=1) - before_s[:, :stages]
        if model.layers % number:  # which stage has how many layers is not known here
            bound_s = own_s.mean(axis=1)
        else:
            bound_s = np.where(
                is_row[chosen], (own_s + fill_s + head).max(axis=1), np.maximum(own_s.mean(axis=1), head_s)
            )
        found[chosen] = bound_s
    return found


def _of_layers(space: Space) -> tuple[FloatArray, FloatArray]:
    """Return the forward FLOPs of a token in each layer, and the sums over TP of each. Each of shape [layers]."""
    model, workload = space.model, space.scenario.spec.workload
    length = getattr(workload, "sequence_length", 1)
    layers = [model.layer(number) for number in range(model.layers)]
    flops = np.array([layer.flops_per_token(length, causal=True) for layer in layers])
    return flops, np.array([float(layer.attention is not None) for layer in layers])


def _reduce_s(space: Space, tp: NDArray[np.int64], tokens: float) -> FloatArray:
    """Return the time of one sum over TP of the tokens of a batch, on the links of all ranks. Shape [candidates]."""
    model, cluster = space.model, space.cluster
    num_bytes = tokens * model.hidden * model.dtype_bytes
    nodes = np.maximum(1, -(-tp // cluster.gpus_per_node))
    inside_s = num_bytes * (tp - nodes) / (cluster.in_node_bytes_per_s * cluster.num_gpus)
    across_s = np.where(nodes > 1, num_bytes * nodes / (cluster.exit_bytes_per_s * cluster.num_gpus), 0.0)
    return np.where(tp > 1, np.maximum(inside_s, across_s), 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What a candidate needs at least."""

    step_s: float
    """Step time."""
    memory_bytes: float
    """Peak of memory per GPU, with what context and communicators take; where that does not fit, there is no time."""
    capacity_bytes: float
    """Memory of a GPU."""

    @property
    def fits(self) -> bool:
        """Whether the least that it needs fits."""
        return self.memory_bytes <= self.capacity_bytes


@dataclass
class TightBounds:
    """Tight bounds of candidates of one scenario; what candidates have in common is worked out once."""

    _maps: dict[tuple[object, ...], Map] = field(default_factory=dict)
    """Of layers, of what stands before and after them in a pass, and of what follows the last pass."""
    _sends: dict[tuple[object, ...], tuple[int, bool]] = field(default_factory=dict)
    _streams: dict[tuple[object, ...], dict[tuple[str, int], dict[str, int]]] = field(default_factory=dict)
    _rest: str = ""
    """All else that the candidate at hand sets."""
    _is_alike: bool = True
    """Whether stages lie on machines that are alike."""
    _drawn: str = ""
    """How the routing of the candidate at hand is drawn: not at all, `drawn`, or with `drops`."""

    def of(self, scenario: Scenario) -> Bound:
        """Return the bound of a candidate.

        Raises
        ------
        InvalidValueError, SimulationError
            The candidate is no legal scenario.
        """
        work = self._worked(scenario)
        capacity = float(work.cluster.device.memory_bytes)
        for memory_bytes in _memory_bytes(work):
            if memory_bytes > capacity:
                return Bound(step_s=0.0, memory_bytes=memory_bytes, capacity_bytes=capacity)
        step_s = self._step_ns(work, PipelinePlan(work)) * _NS
        return Bound(step_s=step_s, memory_bytes=memory_bytes, capacity_bytes=capacity)

    def microbatch_ns(self, scenario: Scenario) -> FloatArray:
        """Return what one microbatch takes at least in each layer, in all passes. Shape [2, layers]: forward, all.

        Errors are those of `of`. What stands before and after the layers of a pass is left out.
        """
        work = self._worked(scenario)
        plan, signature = PipelinePlan(work), (*_signature(work), self._rest)
        found = np.zeros((2, len(work.layers)))
        for stage, steps in enumerate(plan.pipeline_order.order):
            for pass_, is_split in _kinds_of_passes(steps, plan.pipeline_order, stage):
                self._pass(signature, work, plan, stage, pass_, is_split=is_split)
                place = None if self._is_alike else (work.mesh.num_stages, stage)
                kind = (*signature, self._drawn, place, pass_.kind, is_split)
                chunk = work.chunk_layout.model_chunk_of(stage, pass_.chunk)
                for layer in work.layers_of_model_chunk(chunk):
                    lane_ns = self._maps.get((*kind, *_kind_of_layer(work, layer)), IDENTITY)[0]
                    found[1, layer] += lane_ns
                    found[0, layer] += lane_ns * (pass_.kind == "F")
        return found

    # ---- private -------------------------------------------------------------------------------------------------

    def _worked(self, scenario: Scenario) -> Work:
        """Return the work of a candidate, with balanced routing, and note how its routing is drawn."""
        work = build(scenario).work
        self._rest, self._is_alike = _rest_of(scenario), has_alike_stages(scenario)
        self._drawn = "" if work.has_balanced_routing else "drops" if work.routing.capacity_factor else "drawn"
        return replace(work, routing=RoutingSettings()) if self._drawn else work

    def _step_ns(self, work: Work, plan: PipelinePlan) -> float:
        """Return the end of the last op, by the order of the passes."""
        if work.schedule_kind.uses_pass_times:
            return 0.0
        order = plan.pipeline_order
        signature = (*_signature(work), self._rest)
        passes = {
            (stage, step.kind, step.chunk, is_split): self._pass(signature, work, plan, stage, step, is_split=is_split)
            for stage, steps in enumerate(order.order)
            for step, is_split in _kinds_of_passes(steps, order, stage)
        }
        sends = {
            (stage, step.kind, step.chunk): self._send(signature, work, plan, stage, step)
            for stage, steps in enumerate(order.order)
            for step, _ in _kinds_of_passes(steps, order, stage)
        }
        ended: dict[Input, float] = {}
        began: dict[tuple[int, str, int, int], float] = {}
        lanes = [0.0] * len(order.order)
        hosts = [0.0] * len(order.order)
        at = [0] * len(order.order)
        ready = list(range(len(order.order)))
        waiting: dict[Input, list[int]] = {}
        while ready:
            stage = ready.pop()
            steps = order.order[stage]
            while at[stage] < len(steps):
                step = steps[at[stage]]
                begin, missing = lanes[stage], None
                for key in plan.inputs(stage, step):
                    if key not in ended:
                        missing = key
                        break
                    arrives = ended[key]
                    if key.stage != stage:
                        arrives += sends[key.stage, key.kind, key.chunk][0]
                    begin = max(begin, arrives)
                if missing is not None:
                    waiting.setdefault(missing, []).append(stage)
                    break
                lane, host = 0.0, 0.0
                for pass_ in passes_of(step):
                    began[stage, pass_.kind, pass_.microbatch, pass_.chunk] = begin
                    is_split = pass_.kind == "B" and order.is_split(stage, pass_)
                    done = applied(passes[stage, pass_.kind, pass_.chunk, is_split], begin, hosts[stage])
                    lane, host = max(lane, done[0]), max(host, done[1])
                for pass_ in passes_of(step):
                    made = Input(stage, *pass_)
                    ended[made] = lane
                    took, blocks = sends[stage, pass_.kind, pass_.chunk]
                    if blocks:
                        lane = max(lane, ended[made] + took)
                    ready += waiting.pop(made, [])
                lanes[stage], hosts[stage] = lane, host
                at[stage] += 1
        if any(at[stage] < len(steps) for stage, steps in enumerate(order.order)):
            return 0.0  # the simulation says who waits for whom
        ends = []
        for stage in range(len(order.order)):
            reduced_ns = self._reduced_ns(signature, work, plan, stage, began)
            after_ns = self._after_passes(signature, work, plan, stage)
            ends.append(applied(after_ns, max(lanes[stage], reduced_ns), hosts[stage])[0])
        return max(ends)

    def _pass(
        self, signature: tuple[object, ...], work: Work, plan: PipelinePlan, stage: int, pass_: Pass, *, is_split: bool
    ) -> Map:
        """Return the map of a pass, from those of its layers where their ops do not mix."""
        chunk = work.chunk_layout.model_chunk_of(stage, pass_.chunk)
        layers = tuple(work.layers_of_model_chunk(chunk))
        in_order = layers if pass_.kind == "F" else layers[::-1]
        place = None if self._is_alike else (work.mesh.num_stages, stage)
        kind = (*signature, self._drawn, place, pass_.kind, is_split)
        receives = not work.mesh.sp and work.mesh.strategy.tp > 1 and work.mesh.num_stages > 1
        edges = [(*kind, end, chunk == work.embedding_chunk, chunk == work.head_chunk, receives) for end in _ENDS]
        keys = [edges[0], *((*kind, *_kind_of_layer(work, layer)) for layer in in_order), edges[1]]
        whole = (*edges[0], layers)
        if whole in self._maps:
            return self._maps[whole]
        if any(key not in self._maps for key in keys):
            number = Pass(pass_.kind, 0, pass_.chunk)
            ops: Sequence[Op] = plan.lowering.own_ops(LanePosition(stage, 0), number, is_split=is_split)
            ops = _at_least(ops, work, self._drawn) if self._drawn else ops
            parts = _parts(ops, in_order)
            if parts is None:
                self._maps[whole] = map_of(ops)
                return self._maps[whole]
            self._maps |= {key: map_of(part) for key, part in zip(keys, parts, strict=True)}
        return product(self._maps[key] for key in keys)

    def _send(
        self, signature: tuple[object, ...], work: Work, plan: PipelinePlan, stage: int, pass_: Pass
    ) -> tuple[int, bool]:
        """Return how long the output of a pass is under way to the next stage, and whether the sender waits for it."""
        chunk = work.chunk_layout.model_chunk_of(stage, pass_.chunk)
        node = stage if work.mesh.world > work.cluster.gpus_per_node or not self._is_alike else 0
        key = (*signature, work.mesh.num_stages, node, "send", pass_.kind, chunk)
        if key not in self._sends:
            sends = plan.sends(stage, 0, Pass(pass_.kind, 0, pass_.chunk))
            took = max((send.transfer.latency_ns + max(0, send.transfer.alone_ns - 1) for send in sends), default=0)
            self._sends[key] = took, any(send.blocks for send in sends)
        return self._sends[key]

    def _after_passes(self, signature: tuple[object, ...], work: Work, plan: PipelinePlan, stage: int) -> Map:
        if not work.kind.trains:
            return IDENTITY
        key = (*signature, "after", work.mesh.strategy, work.zero, work.fsdp, work.chunk_layers, work.schedule, stage)
        if key not in self._maps:
            self._maps[key] = map_of(plan.after_passes(stage, 0))
        return self._maps[key]

    def _reduced_ns(
        self,
        signature: tuple[object, ...],
        work: Work,
        plan: PipelinePlan,
        stage: int,
        began: Mapping[tuple[int, str, int, int], float],
    ) -> float:
        """Return when the streams end on which gradients are reduced next to the last microbatch's passes."""
        overlap, last = plan.lowering.overlap, work.num_microbatches - 1
        if overlap is None or not overlap.reduces:
            return 0.0
        strategy = work.mesh.strategy
        key = (
            *signature,
            "reduces",
            strategy,
            work.zero,
            work.chunk_layers,
            work.schedule,
            work.num_microbatches,
            stage,
        )
        if key not in self._streams:
            found: dict[tuple[str, int], dict[str, int]] = {}
            for _, kind, microbatch, chunk in [where for where in began if where[0] == stage]:
                if microbatch != last or kind == "F":
                    continue
                pass_ = Pass(kind, microbatch, chunk)
                is_split = kind == "B" and plan.pipeline_order.is_split(stage, pass_)
                for op in plan.lowering.lower(LanePosition(stage, 0), pass_, is_split=is_split):
                    if isinstance(op, Collective) and op.kind == "dp" and op.stream is not None:
                        took_ns = max((one.latency_ns + max(0, one.alone_ns - 1) for one in op.transfers), default=0)
                        of_pass = found.setdefault((kind, chunk), {})
                        of_pass[op.stream] = of_pass.get(op.stream, 0) + took_ns
            self._streams[key] = found
        ends: dict[str, float] = {}
        passes = sorted(self._streams[key].items(), key=lambda item: began[stage, item[0][0], last, item[0][1]])
        for (kind, chunk), streams in passes:
            for stream, took_ns in streams.items():
                ends[stream] = max(ends.get(stream, 0.0), began[stage, kind, last, chunk]) + took_ns
        return max(ends.values(), default=0.0)


# ---- private -----------------------------------------------------------------------------------------------------


def has_alike_stages(scenario: Scenario) -> bool:
    """Tell whether all nodes are alike, so that a layer takes as long on any stage."""
    cluster = scenario.spec.cluster
    return cluster is not None and cluster.preset is not None and not cluster.degraded


def _rest_of(scenario: Scenario) -> str:
    """Return what a scenario says but for the axes of strategies, which `_signature` has."""
    rest = {
        section: {key: value for key, value in values.items() if f"{section}.{key}" not in _IN_SIGNATURE}
        if isinstance(values, dict)
        else values
        for section, values in scenario.raw.items()
    }
    return repr(rest)


def _signature(work: Work) -> tuple[object, ...]:
    """Return what the times of a layer depend on; equal for works whose layers take equally long.

    Stages of a size that divides a node, or is a multiple of it, lie in nodes alike; of others each number of stages
    has its own times.
    """
    mesh, s = work.mesh, work.mesh.strategy
    size, node = mesh.world // mesh.num_stages, work.cluster.gpus_per_node
    is_aligned = size % node == 0 or node % size == 0
    lane = CONVENTIONS[mesh.convention.name].lane_size(s)
    return (
        mesh.convention.name,
        s.tp,
        s.ep,
        s.etp,
        s.cp,
        mesh.sp,
        lane,
        None if mesh.convention.splits_sequence_over_tp else s.dp,
        None if is_aligned else s.pp,
        s.pp > 1,
        work.sequences_per_microbatch,
        work.recompute,
        work.zero >= 2,  # gradients, and layers, are exchanged within passes
    )


def _kind_of_layer(work: Work, layer: int) -> tuple[object, ...]:
    return work.model.layer(layer), work.recompute_of(layer)


def _parts(ops: Sequence[Op], layers: Sequence[int]) -> list[list[Op]] | None:
    """Return the ops before the layers, those of each layer in order, and those after; None where layers mix.

    Ops of no layer between two layers go with the second.
    """
    numbers = [_layer_of(op) for op in ops]
    seen = [number for number in numbers if number != NO_LAYER]
    if [number for number, _ in groupby(seen)] != list(layers):
        return None
    first = next((at for at, number in enumerate(numbers) if number != NO_LAYER), len(ops))
    last = max((at for at, number in enumerate(numbers) if number != NO_LAYER), default=first - 1)
    parts: dict[int, list[Op]] = {layer: [] for layer in layers}
    between: list[Op] = []
    for op, number in zip(ops[first : last + 1], numbers[first : last + 1], strict=True):
        between.append(op)
        if number != NO_LAYER:
            parts[number] += between
            between = []
    return [list(ops[:first]), *(parts[layer] for layer in layers), list(ops[last + 1 :])]


def _layer_of(op: Op) -> int:
    return op.kernels[0].layer if isinstance(op, Compute) else op.layer


def _kinds_of_passes(steps: Sequence[Step], order: PipelineOrder, stage: int) -> list[tuple[Pass, bool]]:
    """Return one pass of each kind and chunk of a stage, with whether W is split off it."""
    found: dict[tuple[str, int, bool], tuple[Pass, bool]] = {}
    for step in steps:
        for pass_ in passes_of(step):
            is_split = pass_.kind == "B" and order.is_split(stage, pass_)
            found.setdefault((pass_.kind, pass_.chunk, is_split), (pass_, is_split))
    return list(found.values())


def _at_least(ops: Sequence[Op], work: Work, drawn: str) -> list[Op]:
    """Return ops of balanced routing as what drawn routing needs at least: see the model of this module."""
    peak = work.cluster.device.peak_flops_per_s(work.model.product_dtype)
    found: list[Op] = []
    for op in ops:
        is_of_experts = drawn == "drops" and _layer_of(op) != NO_LAYER and work.model.is_moe_layer(_layer_of(op))
        if isinstance(op, Service) or (isinstance(op, Collective) and op.kind in _EXCHANGES):
            continue
        if is_of_experts and isinstance(op, Compute) and {k.kind for k in op.kernels} <= {"expert", "other_compute"}:
            continue  # copies that are dropped may be all of them
        if isinstance(op, Compute) and any(kernel.kind == "expert" for kernel in op.kernels):
            kernels = tuple(
                replace(kernel, duration_ns=np.full_like(kernel.duration_ns, _arithmetic_ns(kernel, peak)))
                if kernel.kind == "expert"
                else kernel
                for kernel in op.kernels
            )
            op = replace(op, kernels=kernels)  # noqa: PLW2901
        found.append(op)
    return found


def _arithmetic_ns(kernel: TimedKernel, peak: float) -> int:
    """Return the time of a kernel at the peak, mean of the ranks."""
    return int(kernel.flops / (kernel.duration_ns.size * peak) * 1e9)


def _memory_bytes(work: Work) -> Iterator[float]:
    """Yield better and better bounds on what the fullest stage needs, with what context and communicators take."""
    reserved = sum(reserved_bytes(work.mesh, work.dispatcher_buffer_bytes).values())
    stages = [stage_memory(work, stage) for stage in range(work.mesh.num_stages)]
    yield reserved + max(
        stage.weights + stage.gradients + stage.optimizer + min(chunk.activations for chunk in stage.chunks)
        for stage in stages
    )
    if work.kind.trains:
        predicted = predict_memory(work)
        if predicted is not None:
            yield float(predicted["peak_bytes_per_gpu"]["total"] + reserved)
