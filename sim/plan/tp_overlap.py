"""Collectives over TP that are exchanged in pieces next to the products around them, as Transformer Engine does.

Model
-----
With sequence parallelism a block's first product needs what is gathered, and its last product makes what is reduced::

    gather    the product's first quarter runs on the rank's own tokens; each further one waits for a third of the bytes
    scatter   each quarter of the product starts a quarter of the reduce-scatter; the last piece is exposed

The host issues a product with its pieces by one call, as one kernel and one collective. Pieces run on the stream of TP,
in order, and take `USERBUFFERS_SMS` multiprocessors of each rank.

Assumptions
-----------
A quarter of a product takes a quarter of its time: optimistic where a quarter no longer fills the GPU. The kernels
between (norm before, residual after) stay whole. The output head has no such overlap.

References
----------
Transformer Engine, transformer_engine/pytorch/module/base.py, `initialize_ub` (ring exchange and pipelined
reduce-scatter with 4 splits and 16 SMs by default).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

from sim.plan.ops import AwaitStream, Collective, Compute, Op

__all__ = ["NUM_SPLITS", "USERBUFFERS_SMS", "with_gather", "with_scatter"]

NUM_SPLITS: Final = 4
"""Pieces of a product (Transformer Engine, `num_splits` of a pipelined exchange)."""
USERBUFFERS_SMS: Final = 16
"""Multiprocessors of an exchange (Transformer Engine, `num_sm`)."""

Piece = Callable[[int, int], Collective]
"""Returns piece number i of n of a collective, on the stream of TP, with a label of its own."""


def with_gather(ops: Sequence[Op], piece: Piece) -> list[Op]:
    """Return ops whose first product runs next to a gather of its input."""
    at, product = _product(ops, last=False)
    if at < 0:
        return [*_whole(_pieces(piece, NUM_SPLITS - 1)), *ops]
    op = ops[at]
    if not isinstance(op, Compute):
        raise TypeError("a product is among kernels")
    pieces = _pieces(piece, NUM_SPLITS - 1)
    parts = _quarters(op, product)
    result: list[Op] = [*ops[:at], *_part(op, 0, product), *pieces]
    for number, part in enumerate(parts):
        result += [part] if number == 0 else [_await(pieces[number - 1]), part]
    return [*result, *_part(op, product + 1, len(op.kernels)), *ops[at + 1 :]]


def with_scatter(ops: Sequence[Op], piece: Piece) -> list[Op]:
    """Return ops whose last product runs next to the reduce-scatter of its result."""
    at, product = _product(ops, last=True)
    pieces = _pieces(piece, NUM_SPLITS)
    if at < 0:
        return [*ops, *_whole(pieces)]
    op = ops[at]
    if not isinstance(op, Compute):
        raise TypeError("a product is among kernels")
    result: list[Op] = [*ops[:at], *_part(op, 0, product)]
    for part, exchanged in zip(_quarters(op, product), pieces, strict=True):
        result += [part, exchanged]
    return [*result, _await(pieces[-1]), *_part(op, product + 1, len(op.kernels)), *ops[at + 1 :]]


# ---- private -----------------------------------------------------------------------------------------------------


def _product(ops: Sequence[Op], *, last: bool) -> tuple[int, int]:
    """Return the op and the kernel in it that is the first or last with FLOPs; -1 for none."""
    places = [
        (at, number)
        for at, op in enumerate(ops)
        if isinstance(op, Compute)
        for number, kernel in enumerate(op.kernels)
        if kernel.flops > 0
    ]
    return (places[-1] if last else places[0]) if places else (-1, -1)


def _part(op: Compute, first: int, end: int) -> list[Op]:
    """Return some kernels of an op; what it counts of tokens stays with its first kernels."""
    return [op.part(first, end)] if first < end else []


def _quarters(op: Compute, product: int) -> list[Op]:
    kernel = op.kernels[product]
    edges = [kernel.duration_ns * i // NUM_SPLITS for i in range(NUM_SPLITS + 1)]
    return [
        Compute(
            kernels=(replace(kernel, duration_ns=end - begin, flops=kernel.flops / NUM_SPLITS),),
            issue_ns=(0,) if number else (),
        )
        for number, (begin, end) in enumerate(pairwise(edges))
    ]


def _pieces(piece: Piece, num_pieces: int) -> list[Collective]:
    """Return all pieces of a collective, which the host issues by one call."""
    first, *others = (piece(i, num_pieces) for i in range(num_pieces))
    return [first, *(replace(other, issue_ns=0) for other in others)]


def _await(piece: Collective) -> AwaitStream:
    return AwaitStream(stream=piece.stream or "", layer=piece.layer, label=piece.label)


def _whole(pieces: Sequence[Collective]) -> list[Op]:
    """Return pieces that nothing runs next to."""
    return [*pieces, _await(pieces[-1])]
