"""Memory of a GPU that a process takes in addition to a framework's tensors: its context, and buffers of communicators.

Model
-----
    context        CONTEXT_BYTES                                        driver and kernels that are loaded
    communicators  COMMUNICATOR_BYTES for each group with more than one rank (TP, EP, DP, PP)
                   = channels * connections * (4 MiB Simple + 4,915,200 B LL128 + 512 KiB LL)

Assumptions
-----------
A communicator has 16 channels, each with a connection of a ring and one of a tree. NCCL takes more where NVLink asks
for more channels or NVLS keeps buffers (1.6 GB for one communicator was seen), and less where communicators share
buffers (`ncclCommSplit`). Fragmentation of the allocator is left out.

References
----------
pytorch/pytorch#81257: 543 MiB for a context alone. NVIDIA/nccl src/include/device.h: sizes of a connection's buffers by
protocol; NVIDIA/nccl#986: the memory grows with channels and with communicators, and not with ranks.
"""

from typing import Final

from workloads.mesh import Mesh

__all__ = ["COMMUNICATOR_BYTES", "CONTEXT_BYTES", "num_communicators", "reserved_bytes"]

CONTEXT_BYTES: Final = 543 * 2**20
"""Bytes of a CUDA context with the kernels of a framework."""
COMMUNICATOR_BYTES: Final = 16 * 2 * (4 * 2**20 + 4_915_200 + 512 * 2**10)
"""Bytes of the buffers of one communicator on one GPU."""


def num_communicators(mesh: Mesh) -> int:
    """Return the groups with more than one rank that a GPU is in, of different axes.

    >>> from workloads.mesh import build_mesh
    >>> from workloads.strategy import Strategy
    >>> num_communicators(build_mesh(Strategy.parse("EP4_TP2_PP2_DP4"), "megatron", num_gpus=16))
    4
    """
    groups = (mesh.tp_groups(0), mesh.cp_groups(0), mesh.ep_groups(0), mesh.etp_groups(0), mesh.dp_groups(0))
    return sum(int(ranks.shape[1] > 1) for ranks in groups) + int(mesh.num_stages > 1)


def reserved_bytes(mesh: Mesh) -> dict[str, int]:
    """Return the bytes that are no tensor's, by what takes them: `context` and `communicators`."""
    return {"context": CONTEXT_BYTES, "communicators": num_communicators(mesh) * COMMUNICATOR_BYTES}
