"""The two halves of a backward pass: gradients by the input, and gradients by the weights.

Model
-----
W runs the products that make gradients of weights, of all layers and the output head, one after another; B runs all the
rest: the products by the input, attention, norms, recomputation, and every transfer.

Assumptions
-----------
Experts that serve other stages (the spanning convention) make both gradients at once, in B. The gradient of the
embedding stays in B.
"""

from dataclasses import replace

from sim.plan.ops import Compute, Op

__all__ = ["input_half", "weight_half"]


def input_half(ops: list[Op]) -> list[Op]:
    """Return the ops of a backward pass without the gradients of weights."""
    return _with(ops, weight=False)


def weight_half(ops: list[Op]) -> list[Op]:
    """Return the gradients of weights of a backward pass."""
    return [op for op in _with(ops, weight=True) if isinstance(op, Compute)]


def _with(ops: list[Op], *, weight: bool) -> list[Op]:
    """Return ops with the kernels of one half; kernels alone go, where none is left."""
    kept: list[Op] = []
    for op in ops:
        if not isinstance(op, Compute):
            kept.append(op)
            continue
        kernels = tuple(one for one in op.kernels if one.is_weight_gradient == weight)
        if kernels:
            kept.append(op if len(kernels) == len(op.kernels) else replace(op, kernels=kernels))
    return kept
