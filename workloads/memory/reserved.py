"""Memory of a GPU that a process takes in addition to a framework's tensors: its context, and buffers of communication.

Model
-----
    context        CONTEXT_BYTES                                        driver and kernels that are loaded
    communicators  COMMUNICATOR_BYTES for each group with more than one rank (TP, EP, DP, PP)
                   = channels * connections * (4 MiB Simple + 4,915,200 B LL128 + 512 KiB LL)
    dispatcher     channels * (8 * R + N / 8 * 2 * R') slots              DeepEP's normal kernels on N > 8 ranks
                   a channel has two SMs, a slot holds one token; R tokens from each rank of a node, and R' = 140
                   (132 above 64 ranks) to each node and from it; on one node 256 from each rank and no others

Assumptions
-----------
A communicator has 16 channels, each with a connection of a ring and one of a tree. NCCL takes more where NVLink asks
for more channels or NVLS keeps buffers (1.6 GB for one communicator was seen), and less where communicators share
buffers (`ncclCommSplit`). Fragmentation of the allocator is left out.

References
----------
pytorch/pytorch#81257: 543 MiB for a context alone. NVIDIA/nccl src/include/device.h: sizes of a connection's buffers by
protocol; NVIDIA/nccl#986: the memory grows with channels and with communicators, and not with ranks.
deepseek-ai/DeepEP, csrc/config.hpp and deep_ep/buffer.py: hints of sizes, and recommended numbers of tokens.
"""

from typing import Final

from workloads.mesh import Mesh

__all__ = ["COMMUNICATOR_BYTES", "CONTEXT_BYTES", "deepep_buffer_bytes", "num_communicators", "reserved_bytes"]

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


_NODE_RANKS = 8
"""Ranks of a node, to DeepEP."""
_TOKENS_INSIDE = ((64, 288), (128, 560), (160, 720))
"""Tokens of a channel's ring on NVLink in groups of up to so many ranks, beyond one node."""
_SLOT_BYTES = 128 * (8 + 4) + 128 * 4 + 8
"""Bytes of a slot in addition to the token: up to 128 choices with their weights, 128 scales, the token's source."""


def deepep_buffer_bytes(token_bytes: float, num_ranks: int, num_sms: int) -> int:
    """Return the bytes of DeepEP's buffers on a rank, for tokens of `token_bytes` in bf16 and a group of `num_ranks`.

    >>> deepep_buffer_bytes(2 * 7168, 8, 20)  # 10 channels * 8 ranks * 256 tokens * (14,336 + 2,056) bytes
    335708160
    """
    channels, slot = num_sms // 2, token_bytes + _SLOT_BYTES
    if num_ranks <= _NODE_RANKS:
        return int(channels * num_ranks * 256 * slot)
    inside = next((tokens for ranks, tokens in _TOKENS_INSIDE if num_ranks <= ranks), _TOKENS_INSIDE[-1][1])
    between = 140 if num_ranks <= _TOKENS_INSIDE[0][0] else 132
    of_nodes = channels * num_ranks / _NODE_RANKS * 2 * between * (slot + 16) + 2**20
    return int(channels * _NODE_RANKS * inside * slot + of_nodes)


def reserved_bytes(mesh: Mesh, dispatcher_bytes: int = 0) -> dict[str, int]:
    """Return the bytes that are no tensor's, by what takes them: `context`, `communicators`, `dispatcher`."""
    found = {"context": CONTEXT_BYTES, "communicators": num_communicators(mesh) * COMMUNICATOR_BYTES}
    return found | ({"dispatcher": dispatcher_bytes} if dispatcher_bytes else {})
