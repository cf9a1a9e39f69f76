"""What the host does while a pass runs: it issues kernels and collectives, runs Python, and waits for the GPU.

Model
-----
    kernel           `kernel_launch_s` for each kernel that is modelled, with the Python around it
    collective       `collective_launch_s`, sends aside
    pass             `pass_host_s` before it: a microbatch, forward or backward
    the host waits   before the dispatch of a forward pass, for the counts of tokens, unless experts are padded to them;
                     then it needs `counts_host_s` before it issues the dispatch;
                     before a pass of a pipeline whose sends do not overlap (batched sends and receives synchronise);
                     after the forward pass of the output head, where a loss that is no number is looked for;
                     before the optimizer step, for the norm of the gradients

A CUDA graph takes one launch for all kernels in a row within its scope, and none for their collectives.

Assumptions
-----------
A kernel that is modelled stands for several of PyTorch's: the time of a launch is fitted to whole layers. A graph that
covers a layer covers its experts too, which needs `routing.capacity_factor` with padding in Megatron Core: optimistic
elsewhere.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from sim.build.work import Work
from sim.plan.ops import NO_LAYER, Collective, Compute, HostWork, Op, Service
from sim.time import to_ns
from workloads.blocks.state_space import GatedDeltaNet, Mamba2
from workloads.schedules import Pass

__all__ = ["HostLowering"]

_NO_BLOCK = ""


class HostLowering:
    """Adds the host's work to the ops of passes."""

    def __init__(self, work: Work) -> None:
        runtime, factors = work.runtime, work.host_factors
        self._work = work
        self._kernel_ns = to_ns(runtime.kernel_launch_s * factors.kernel_launch)
        self._collective_ns = to_ns(runtime.collective_launch_s * factors.collective_launch)
        self._pass_ns = to_ns(runtime.pass_host_s * factors.pass_host)
        self._counts_ns = to_ns(runtime.counts_host_s * factors.counts_host)
        self._scope = frozenset(runtime.graph_scope if runtime.launch == "cuda_graphs" else ())
        self._issued: dict[tuple[Op, tuple[bool, ...], bool], Op] = {}

    def of_pass(self, pass_: Pass, model_chunk: int, ops: Sequence[Op]) -> tuple[Op, ...]:
        """Return the ops of a pass as the host issues them."""
        work = self._work
        waits = work.mesh.num_stages > 1 and not work.runtime.overlap_p2p
        result: list[Op] = [HostWork(layer=NO_LAYER, work_ns=self._pass_ns, waits=waits), *self._with_issue(ops)]
        if pass_.kind == "F" and model_chunk == work.head_chunk and work.runtime.checks_loss:
            result.append(HostWork(layer=NO_LAYER, waits=True))
        return tuple(result)

    def after_passes(self, ops: Sequence[Op]) -> tuple[Op, ...]:
        """Return the ops after the last pass as the host issues them: it waits before it steps the optimizer."""
        result: list[Op] = []
        for op in self._with_issue(ops):
            if isinstance(op, Compute) and op.kernels[0].kind == "optimizer":
                result.append(HostWork(layer=NO_LAYER, waits=True))
            result.append(op)
        return tuple(result)

    # ---- private -------------------------------------------------------------------------------------------------

    def _with_issue(self, ops: Sequence[Op]) -> Iterable[Op]:
        """Yield ops with the time that the host needs to issue each, and the waits for counts of tokens."""
        blocks, is_in_graph = list(self._blocks(ops)), False
        for at, op in enumerate(ops):
            if isinstance(op, Compute) and op.issue_ns:  # issued with the op before
                yield op
            elif isinstance(op, Compute):
                captured = self._captured(op, blocks[at])
                yield self._issued_op(op, captured, is_in_graph)
                is_in_graph = captured[-1]
            elif isinstance(op, Collective):
                if self._waits_for_counts(ops, at):
                    yield HostWork(layer=op.layer, work_ns=self._counts_ns, waits=True)
                    is_in_graph = False
                is_captured = is_in_graph and not op.kind.startswith("ep_")
                is_captured = (is_captured or "layer" in self._scope) and op.layer != NO_LAYER and op.kind != "dp"
                yield op if is_captured or op.issue_ns is not None else self._issued_op(op, (), False)
            else:
                yield op

    def _issued_op(self, op: Compute | Collective, captured: tuple[bool, ...], is_in_graph: bool) -> Op:
        key = (op, captured, is_in_graph)
        if key not in self._issued:
            if isinstance(op, Collective):
                self._issued[key] = replace(op, issue_ns=self._collective_ns)
            else:
                was_captured = (is_in_graph, *captured[:-1])
                pairs = zip(captured, was_captured, strict=True)
                self._issued[key] = replace(op, issue_ns=tuple(0 if all(pair) else self._kernel_ns for pair in pairs))
        return self._issued[key]

    def _captured(self, op: Compute, block: str) -> tuple[bool, ...]:
        """Return which kernels of an op are in a graph."""
        num_kernels = len(op.kernels)
        if "layer" in self._scope and op.kernels[0].layer != NO_LAYER:
            return (True,) * num_kernels
        if block == "moe" and num_kernels > 1:  # router, then permutation
            return ("moe_router" in self._scope,) * (num_kernels - 1) + ("moe_preprocess" in self._scope,)
        return (block in self._scope,) * num_kernels

    def _blocks(self, ops: Sequence[Op]) -> Iterable[str]:
        """Yield the block of a layer that each op belongs to, by the name of its scope."""
        block, layer = _NO_BLOCK, NO_LAYER
        for before, op, after in zip((None, *ops), ops, (*ops[1:], None), strict=False):
            if isinstance(op, Compute):
                at = op.kernels[0].layer
                own = self._block_of(op, at, meets_experts=_is_of_experts(before) or _is_of_experts(after))
                block = own or (block if at == layer else _NO_BLOCK)  # the norm of a backward pass
                layer = at
            yield block

    def _block_of(self, op: Compute, layer: int, *, meets_experts: bool) -> str:
        """Return the block that an op tells by its kernels and its neighbours, or none."""
        if layer == NO_LAYER:
            return _NO_BLOCK
        kinds = {kernel.kind for kernel in op.kernels}
        if "attention" in kinds:
            mixer = self._work.model.layer(layer).attention
            return "mamba" if isinstance(mixer, Mamba2 | GatedDeltaNet) else "attn"
        if "expert" in kinds:
            return "experts"
        if kinds == {"dense_ffn"} and meets_experts:  # shared experts next to an exchange, which no graph covers
            return _NO_BLOCK
        if meets_experts:
            return "moe"
        return "mlp" if "dense_ffn" in kinds else _NO_BLOCK

    def _waits_for_counts(self, ops: Sequence[Op], at: int) -> bool:
        """Tell whether the host waits before an exchange: before the first that sends tokens to experts."""
        op, before = ops[at], ops[at - 1] if at else None
        if not isinstance(op, Collective) or op.kind != "ep_dispatch":
            return False
        is_forward = isinstance(before, Compute) and before.kernels[0].kind != "expert"
        routing = self._work.routing
        needs_counts = self._work.network.all_to_all_algorithm.waits_for_counts or not self._work.exchanges_tokens
        return is_forward and needs_counts and (routing.capacity_factor is None or routing.overflow != "pad")


def _is_of_experts(op: Op | None) -> bool:
    """Tell whether an op computes experts or exchanges tokens with them."""
    if isinstance(op, Compute):
        return op.kernels[0].kind == "expert"
    return isinstance(op, Service) or (isinstance(op, Collective) and op.kind.startswith("ep_"))
