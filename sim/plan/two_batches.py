"""How long layers take where a batch is cut in two, and one half computes while the tokens of the other travel.

Model
-----
Both halves go through attention, dispatch, experts and combine of each layer, one after the other. Kernels of both
share the compute stream, exchanges of both the communication stream, and the halves take turns on each::

    start of an operation = max(its stream is free, the operation of the same half before it has ended)

The first layers are followed operation by operation; each layer after them takes what the last of them took.

Assumptions
-----------
The halves are equal. An exchange that takes SMs slows the kernels by their share of the SMs, all the time.

References
----------
DeepSeek-AI, "DeepSeek-V3 technical report", 2024, section 3.4 (two micro-batches); vLLM, "Dual batch overlap"
(`--enable-dbo`); SGLang, "Two-batch overlap" (`--enable-two-batch-overlap`).
"""

from typing import Final

__all__ = ["overlapped_layers_s"]

_NUM_FOLLOWED: Final = 6
"""Layers after which the order of operations repeats from layer to layer."""


def overlapped_layers_s(
    num_layers: int, *, attention_s: float, dispatch_s: float, experts_s: float, combine_s: float
) -> float:
    """Return the time of some layers, of the times of one half in each.

    Exchanges no longer than the kernels are hidden but for the first and the last one; without exchanges nothing is.

    >>> hidden = overlapped_layers_s(10, attention_s=2.0, dispatch_s=1.0, experts_s=1.0, combine_s=1.0)
    >>> hidden, overlapped_layers_s(10, attention_s=2.0, dispatch_s=0.0, experts_s=1.0, combine_s=0.0)
    (61.0, 60.0)
    """
    operations = ((False, attention_s), (True, dispatch_s), (False, experts_s), (True, combine_s))
    free, ready = [0.0, 0.0], [0.0, 0.0]
    ends: list[float] = []
    for _ in range(min(num_layers, _NUM_FOLLOWED)):
        for travels, time_s in operations:
            for half in (0, 1):
                end = max(free[travels], ready[half]) + time_s
                ready[half] = free[travels] = end
        ends.append(max(ready))
    if num_layers <= _NUM_FOLLOWED:
        return ends[-1] if ends else 0.0
    return ends[-1] + (num_layers - _NUM_FOLLOWED) * (ends[-1] - ends[-2])
