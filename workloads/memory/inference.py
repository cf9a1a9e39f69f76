"""What prefill keeps: keys and values, and the working tensors of one microbatch.

Model
-----
    kv_cache     tokens * layers * 2 * kv_heads * head_dim * bytes / TP, at most one shard per head
    activations  the residual stream (in and out) and the largest block of one microbatch
"""

from workloads.mesh import Mesh
from workloads.model import ModelSpec

__all__ = ["forward_working_bytes", "kv_cache_bytes"]


def kv_cache_bytes(model: ModelSpec, num_layers: int, tokens: int, tp: int) -> float:
    """Return the bytes of keys and values of `tokens` tokens in `num_layers` layers on one of `tp` ranks.

    >>> small = ModelSpec(layers=1, hidden=4, heads=2, ffn=8, vocab=10)
    >>> kv_cache_bytes(small, 1, 10, 2)  # 10 tokens * 2 * 2 heads * 2 * 2 bytes / 2
    80.0
    """
    return num_layers * tokens * model.kv_cache_bytes_per_token_layer / model.attention.num_kv_shards(tp)


def forward_working_bytes(model: ModelSpec, mesh: Mesh, tokens: int, *, skew: float = 1.0) -> float:
    """Return the residual stream (twice: in and out) and the largest block of one microbatch on one rank.

    `skew` is how many tokens the rank's experts receive over the mean of the ranks.
    """
    tp, shards = mesh.strategy.tp, mesh.sequence_shards
    residual = 2 * model.hidden / shards
    kinds = model.layer_kinds(range(model.layers))
    largest = max(
        layer.working_elements(tp=tp, sequence_shards=shards, skew=skew, expert_shards=mesh.expert_shards)
        for layer, _ in kinds
    )
    return (residual + largest) * tokens * model.dtype_bytes
