"""Shapes that are measured: those of the layers of common models, from one token to a large microbatch.

Each table is a grid, thinned to what a device can do in a few minutes. `WORK_LIMIT` leaves out single kernels that
would take too long or too much memory.
"""

from collections.abc import Iterator
from itertools import product
from typing import Final

__all__ = ["QUICK", "STANDARD", "WORK_LIMIT", "grid"]

Shape = dict[str, int]

WORK_LIMIT: Final = 4e13
"""FLOPs, or a hundred times the elements, of the largest kernel: 40 ms at 1 PFLOP/s."""

_WEIGHTS: Final = ((1024, 1024), (4096, 1024), (4096, 4096), (14336, 4096), (4096, 14336), (8192, 8192), (28672, 8192))
"""Columns and depth of products."""

STANDARD: Final[dict[str, dict[str, tuple[int, ...]]]] = {
    "gemm": {"m": tuple(2**i for i in range(16))},
    "gemm_input_gradient": {"m": (256, 1024, 4096, 16384)},
    "gemm_weight_gradient": {"k": (256, 1024, 4096, 16384)},
    "attention_forward": {
        "batch": (1, 4),
        "heads": (8, 32),
        "groups": (1, 8),
        "length": (512, 2048, 8192),
        "head_dim": (64, 128),
    },
    "attention_backward": {
        "batch": (1, 4),
        "heads": (8, 32),
        "groups": (1, 8),
        "length": (512, 2048, 8192),
        "head_dim": (64, 128),
    },
    "attention_decode": {
        "batch": (1, 16, 64),
        "heads": (8, 32),
        "groups": (1, 8),
        "length": (512, 4096, 32768),
        "head_dim": (128,),
    },
    "norm": {"rows": (1, 64, 1024, 16384), "width": (1024, 4096, 8192)},
    "swiglu": {"rows": (1, 64, 1024, 16384), "width": (1024, 4096, 14336)},
    "rope": {"rows": (1, 64, 1024, 16384), "width": (1024, 4096, 8192)},
    "residual_add": {"rows": (1, 64, 1024, 16384), "width": (1024, 4096, 8192)},
    "embedding": {"rows": (1, 64, 1024, 16384), "width": (1024, 4096, 8192)},
    "quantise": {"rows": (1, 64, 1024, 16384), "width": (1024, 4096, 8192)},
    "amax": {"rows": (1, 64, 1024, 16384), "width": (1024, 4096, 8192)},
}
"""Operation -> values of its sizes; `groups`: query heads of a key head; products have the sizes of `_WEIGHTS`."""

QUICK: Final[dict[str, dict[str, tuple[int, ...]]]] = {
    name: {size: values[:: max(1, len(values) - 1)] for size, values in sizes.items()}
    for name, sizes in STANDARD.items()
}
"""The first and the last of each size."""


def grid(
    operation: str, sizes: dict[str, tuple[int, ...]], *, weights: tuple[tuple[int, int], ...] = _WEIGHTS
) -> Iterator[Shape]:
    """Yield the shapes of an operation, in the sizes that a profile has, without those above the limit of work."""
    for values in product(*sizes.values()):
        shape = dict(zip(sizes, values, strict=True))
        if operation.startswith("attention"):
            shape["kv_heads"] = max(1, shape["heads"] // shape.pop("groups"))
            yield from _within(operation, shape)
        elif operation.startswith("gemm"):
            for n, k in weights:
                free = {"m": n, "n": k} if operation == "gemm_weight_gradient" else {"n": n, "k": k}
                yield from _within(operation, {**free, **shape})
        else:
            yield from _within(operation, shape)


def _within(operation: str, shape: Shape) -> Iterator[Shape]:
    if _work(operation, shape) <= WORK_LIMIT:
        yield shape


def _work(operation: str, shape: Shape) -> float:
    if operation.startswith("gemm"):
        return 2.0 * shape["m"] * shape["n"] * shape["k"]
    if operation == "attention_decode":
        return 4e2 * shape["batch"] * shape["kv_heads"] * shape["length"] * shape["head_dim"]
    if operation.startswith("attention"):
        return 10.0 * shape["batch"] * shape["heads"] * shape["length"] ** 2 * shape["head_dim"]
    return 1e2 * shape["rows"] * shape["width"]
