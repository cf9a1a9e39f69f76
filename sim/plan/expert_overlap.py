"""Exchanges of experts' tokens next to kernels: shared experts, another microbatch's pass, gradients of weights.

Model
-----
Exchanges of tokens that run next to kernels stand on the stream `ep` of a lane, one after another::

    shared experts    start the dispatch | up projection and activation | wait | experts | start the combine |
                      down projection | wait; backward the same two halves next to the same two exchanges
    pairs of passes   each pass starts an exchange and waits for it: the kernels of the other pass run meanwhile
    weight gradients  a product that makes gradients of weights waits until the pass starts its next exchange of tokens,
                      runs next to that exchange, and the pass waits for it then; what is left ends the pass

Assumptions
-----------
Shared experts that take longer than the exchange delay the experts: Megatron Core runs the two on shares of the GPU,
which takes as long. Kernels of a pair take turns as they come; Megatron Core's host issues them in a fixed order, which
is the same where no pass gets ahead of the other. What is left at the end of a pass runs before the pass sends;
Megatron Core sends first.

References
----------
Megatron-LM: megatron/core/models/common/model_chunk_schedule_plan.py (order of a pair, gradients of weights);
megatron/core/transformer/moe/shared_experts.py and token_dispatcher.py (shared experts).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sim.plan.ops import AwaitStream, Collective, Compute, Op

__all__ = ["EXPERT_STREAM", "delay_weight_gradients", "on_expert_stream", "run_next_to"]

EXPERT_STREAM: Final = "ep"
"""Stream of a lane on which its exchanges of tokens run, where kernels run next to them."""


def run_next_to(exchanges: Sequence[Op], kernels: Sequence[Op]) -> list[Op]:
    """Return ops that start exchanges, run kernels meanwhile and wait for the last exchange; as they are without one.

    Either may be empty: what is left runs as it would alone.
    """
    collectives = [op for op in exchanges if isinstance(op, Collective)]
    if not collectives or not kernels:
        return [*exchanges, *kernels]
    started: list[Op] = [replace(op, stream=EXPERT_STREAM) for op in collectives]
    return [*started, *kernels, AwaitStream(stream=EXPERT_STREAM, layer=collectives[-1].layer)]


def on_expert_stream(ops: Sequence[Op]) -> list[Op]:
    """Return ops whose exchanges of tokens run on one stream, each with a wait for it."""
    result: list[Op] = []
    for op in ops:
        if isinstance(op, Collective) and _is_awaited_exchange(op):
            result += [replace(op, stream=EXPERT_STREAM), AwaitStream(stream=EXPERT_STREAM, layer=op.layer)]
        else:
            result.append(op)
    return result


def delay_weight_gradients(ops: Sequence[Op], *, of_experts_only: bool) -> list[Op]:
    """Return ops of a backward pass whose gradients of weights are made next to the exchange that comes next."""
    result: list[Op] = []
    delayed: list[Op] = []
    for at, op in enumerate(ops):
        if isinstance(op, Compute):
            now, later = _divided(op, of_experts_only=of_experts_only)
            result += now
            delayed += later
        elif _is_exchange(op) and delayed and not _is_exchange(ops[at + 1] if at + 1 < len(ops) else None):
            first = len(result)
            while first and _is_exchange(result[first - 1]):
                first -= 1
            exchanges = [*result[first:], op]
            del result[first:]
            # an exchange that is started already is awaited where it was
            result += run_next_to(exchanges, delayed) if _is_awaited_exchange(op) else [*exchanges, *delayed]
            delayed = []
        else:
            result.append(op)
    return [*result, *delayed]


# ---- private -----------------------------------------------------------------------------------------------------


def _is_exchange(op: Op | None) -> bool:
    return isinstance(op, Collective) and op.kind.startswith("ep_")


def _is_awaited_exchange(op: Op) -> bool:
    """Tell whether a lane waits for an exchange where it stands."""
    return isinstance(op, Collective) and _is_exchange(op) and op.stream is None


def _divided(op: Compute, *, of_experts_only: bool) -> tuple[list[Op], list[Op]]:
    """Return kernels without those that make gradients of weights, and these."""
    is_later = [k.is_weight_gradient and (k.kind == "expert" or not of_experts_only) for k in op.kernels]
    if not any(is_later):
        return [op], []
    now, later = (
        tuple(kernel for kernel, is_part in zip(op.kernels, is_later, strict=True) if is_part == part)
        for part in (False, True)
    )
    return [replace(op, kernels=now)] if now else [], [Compute(kernels=later)]
