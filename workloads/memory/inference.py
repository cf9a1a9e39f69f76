"""What prefill keeps: keys and values, and the working tensors of one microbatch.

Model
-----
    kv_cache     tokens * layers * 2 * kv_heads * head_dim * bytes / TP, at most one shard per head
    activations  the residual stream (in and out) and the largest block of one microbatch
"""

from workloads.memory.activations import block_elements
from workloads.memory.params import kinds_of_layers
from workloads.mesh import Mesh
from workloads.model import ModelSpec

__all__ = ["forward_working_bytes", "kv_cache_bytes"]


def kv_cache_bytes(model: ModelSpec, num_layers: int, tokens: int, tp: int) -> float:
    """Return the bytes of keys and values of `tokens` tokens in `num_layers` layers on one of `tp` ranks.

    >>> small = ModelSpec(layers=1, hidden=4, heads=2, kv_heads=2, head_dim=2, ffn=8, dense_ffn=8, vocab=10)
    >>> kv_cache_bytes(small, 1, 10, 2)  # 10 tokens * 2 * 2 heads * 2 * 2 bytes / 2
    80.0
    """
    shards = min(tp, model.kv_heads)
    return num_layers * tokens * model.kv_cache_bytes_per_token_layer / shards


def forward_working_bytes(model: ModelSpec, mesh: Mesh, tokens: int, *, skew: float = 1.0) -> float:
    """Return the residual stream (twice: in and out) and the largest block of one microbatch on one rank.

    `skew` is how many tokens the rank's experts receive over the mean of the ranks.
    """
    tp = mesh.strategy.tp
    shared = tp if mesh.sp else 1
    residual = 2 * model.hidden / shared
    attention = (2 * model.heads + 2 * model.kv_heads) * model.head_dim / tp
    kinds = kinds_of_layers(model, range(model.layers))
    ffn = max(block_elements(model, layer, tp, shared, skew=skew) for layer, _ in kinds)
    return (residual + max(attention, ffn)) * tokens * model.dtype_bytes
