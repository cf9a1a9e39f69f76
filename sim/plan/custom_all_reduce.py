"""All-reduces of serving frameworks over the GPUs of one node: kernels of their own, in place of NCCL's.

Model
-----
2, 4 or 8 GPUs that reach each other over NVLink read each other's buffers, for messages of up to 8 MiB: measured times,
linear between sizes. Outside of a CUDA graph a message is first copied into a buffer that the others know, and the host
issues the kernel, which takes 20 us at least. Larger messages, other groups and other devices have NCCL's.

References
----------
vLLM, `custom_all_reduce.py` and `csrc/custom_all_reduce.cuh`; SGLang has the same kernels. Times: vLLM 0.24.0 on H100
and B200, ai-dynamo/aiconfigurator@095f58a5 (Apache-2.0).
"""

from typing import Final

import numpy as np

__all__ = ["custom_all_reduce_s"]

_Table = dict[int, tuple[tuple[float, ...], tuple[float, ...]]]
_SIZES_KIB: Final = (16, 64, 256, 512, 1024, 2048, 4096, 8192)
_HOPPER: Final[_Table] = {
    2: ((4.5, 4.5, 5.2, 6.3, 8.3, 12.4, 20.2, 45.0), (20.7, 20.3, 19.9, 20.1, 20.1, 20.2, 27.5, 54.1)),
    4: ((4.8, 5.2, 7.2, 11.4, 12.8, 18.6, 30.2, 53.5), (21.2, 22.3, 21.0, 20.3, 20.3, 25.3, 38.0, 62.5)),
    8: ((5.3, 6.4, 10.8, 12.0, 15.0, 19.4, 30.8, 50.7), (23.0, 22.5, 40.5, 40.0, 42.1, 41.4, 40.5, 59.2)),
}
"""Measured on H100: number of GPUs -> us at `_SIZES_KIB` in a CUDA graph, and outside of one."""
_BLACKWELL: Final[_Table] = {
    2: ((7.1, 7.1, 7.7, 9.4, 13.1, 25.3, 33.7, 50.6), (20.0, 20.0, 19.7, 19.6, 20.0, 34.5, 41.3, 58.2)),
    4: ((7.4, 7.4, 8.6, 18.0, 18.4, 23.8, 30.0, 43.2), (21.0, 20.9, 20.9, 25.3, 25.8, 36.5, 37.4, 50.2)),
    8: ((8.1, 8.6, 25.8, 26.1, 17.2, 20.7, 26.3, 39.2), (21.8, 21.9, 33.1, 33.6, 37.2, 36.8, 36.4, 46.7)),
}
"""Measured on B200: number of GPUs -> us at `_SIZES_KIB` in a CUDA graph, and outside of one."""
_TABLES: Final[dict[str, _Table]] = {
    "h100-sxm": _HOPPER,
    "h200-sxm": _HOPPER,
    "b200-sxm": _BLACKWELL,
    "b300-sxm": _BLACKWELL,
}
"""Device -> times; those of the device with the same NVLink where its own were not measured."""


def custom_all_reduce_s(device: str, num_ranks: int, num_bytes: float, *, in_graph: bool) -> float | None:
    """Return the time of an all-reduce of `num_bytes` over the ranks of a node; None where NCCL carries it.

    >>> [custom_all_reduce_s(device, 8, 2**20, in_graph=True) for device in ("h100-sxm", "a100-sxm-80gb")]
    [1.5e-05, None]
    """
    table = _TABLES.get(device, {}).get(num_ranks)
    size_kib = num_bytes / 1024
    if table is None or size_kib > _SIZES_KIB[-1]:
        return None
    return float(np.interp(size_kib, _SIZES_KIB, table[0 if in_graph else 1])) / 1e6
