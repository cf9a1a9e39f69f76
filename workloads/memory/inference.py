"""What prefill keeps: keys and values, and the working tensors of one microbatch.

Model
-----
    kv_cache     what the sequences leave in each layer / ranks that split it: keys and values over TP, at most one
                 shard per head; the latent of MLA over none; each over CP; a window keeps its last tokens, a recurrent
                 state is of one size                                                  see `workloads.blocks`
    activations  the residual stream (in and out) and the largest block of one microbatch
"""

from collections.abc import Sequence

from workloads.context_parallel import ContextParallel
from workloads.mesh import Mesh
from workloads.model import ModelSpec

__all__ = ["forward_working_bytes", "kv_cache_bytes"]


def kv_cache_bytes(
    model: ModelSpec, layers: Sequence[int], num_sequences: int, sequence_length: int, tp: int, *, cp: int = 1
) -> float:
    """Return the bytes that sequences leave in the caches of some layers, by number, on one of `tp` x `cp` ranks.

    >>> small = ModelSpec(layers=1, hidden=4, heads=2, ffn=8, vocab=10)
    >>> kv_cache_bytes(small, [0], 2, 5, 2)  # 10 tokens * 2 * 2 heads * 2 * 2 bytes / 2
    80.0
    """
    by_shards: dict[int, int] = {}
    for layer, count in model.layer_kinds(layers):
        if layer.attention is not None:
            shards = layer.attention.num_kv_shards(tp) * cp
            cached = count * num_sequences * layer.attention.cache_bytes(sequence_length)
            by_shards[shards] = by_shards.get(shards, 0) + cached
    return sum((num_bytes / shards for shards, num_bytes in by_shards.items()), 0.0)


def forward_working_bytes(
    model: ModelSpec, mesh: Mesh, tokens: int, *, skew: float = 1.0, context: ContextParallel | None = None
) -> float:
    """Return the residual stream (twice: in and out) and the largest block of one microbatch on one rank.

    `skew` is how many tokens the rank's experts receive over the mean of the ranks, `context` how it computes attention
    together with other CP ranks.
    """
    tp, shards = mesh.strategy.tp, mesh.sequence_shards
    residual = 2 * model.hidden / shards
    kinds = model.layer_kinds(range(model.layers))
    largest = max(
        layer.sliced(mesh.strategy.etp).working_elements(
            tp=tp,
            sequence_shards=shards,
            skew=skew,
            expert_shards=mesh.expert_shards,
            core_buffer=0.0 if context is None else context.buffers_of(layer, tp).forward,
        )
        for layer, _ in kinds
    )
    return (residual + largest) * tokens * model.dtype_bytes
