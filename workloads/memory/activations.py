"""What a microbatch in flight keeps on a rank for its backward pass.

Model
-----
Of each token that a rank owns with its TP group (of the replica, or 1 / CP of it), in elements of the model's type,
t = TP, [/t] where sequence parallelism splits it::

    norms                2 h [/t]                                        inputs of the layer's two norms
    attention   input    h [/t]
                q, k, v  (heads + 2 kv_heads) d / t
                scores   s heads / t; with dropout (2 + 1/2) s heads / t       unfused attention alone
                output   heads d / t                                     input of the projection
    dense FFN   input    h [/t]
                inside   (gates + 1) w / t                               up projection, activation
    experts     input    h / t                                           of router and shared experts: own tokens
                copies   top_k (h + (gates + 1) w) / t                   as they arrive, up projection, activation
                shared   (gates + 1) w_shared / t                        of all shared experts; the input is that above
    dropout     masks    2 h [/t], of one byte each                      with `dropout`

Where experts serve all stages, the copies of a replica's tokens are divided by EP instead of t. With ETP each rank has
the copies of all ETP ranks after the all-gather, and w / ETP of their width: top_k ETP (h + (gates + 1) w / ETP) / t.

For a GPT of two matrices of 4 h, multi-head attention, unfused, with dropout and bf16 that is s b h (34 + 5 a s / h)
bytes per layer, Korthikanti's equation 1.

`workloads.blocks` adds these up for each kind of attention and FFN. Full recomputation keeps the layer's input alone,
and selective recomputation leaves out what its modules recompute (`workloads.blocks.recompute`).

A pass W (schedules that split the backward pass) needs the inputs of the matrix products and the gradients of their
outputs, 32 s b h of a GPT (Qi et al. 2024, table 1).

Assumptions
-----------
Softmax statistics of fused attention (4 bytes per head and token), router probabilities and 4-byte norm statistics are
left out: under 2 %.

References
----------
Korthikanti et al., "Reducing activation recomputation in large transformer models", 2022, section 4, table 2.
Qi et al., "Zero bubble pipeline parallelism", 2024, table 1.
"""

from collections.abc import Sequence

from workloads.blocks.recompute import Recompute
from workloads.context_parallel import ContextParallel, CpBuffers
from workloads.mesh import Mesh
from workloads.model import ModelSpec

__all__ = [
    "activation_bytes_per_microbatch",
    "bytes_per_token_copy",
    "gradient_bytes_in_block",
    "weight_pass_bytes_per_microbatch",
]


def activation_bytes_per_microbatch(
    model: ModelSpec,
    mesh: Mesh,
    layers: Sequence[int],
    tokens: int,
    recompute: Recompute | str,
    *,
    sequence_length: int = 0,
) -> float:
    """Return what a microbatch in flight keeps for the backward pass of `layers` on a rank, with balanced experts.

    Parameters
    ----------
    model, mesh, layers
        What is computed, and how it is split.
    tokens
        Tokens of a microbatch of one TP group: of the replica, or 1 / CP of it.
    recompute
        What is recomputed; a bare kind takes the default modules. Where it is of the first layers of a model chunk,
        `layers` are those of one chunk.
    sequence_length
        Tokens of a sequence, over which scores are kept where attention is not fused.
    """
    recompute = Recompute(recompute) if isinstance(recompute, str) else recompute
    if recompute.num_layers is not None:
        parts = (layers[: recompute.num_layers], layers[recompute.num_layers :])
        return sum(
            activation_bytes_per_microbatch(
                model, mesh, part, tokens, recompute.of_layer(position), sequence_length=sequence_length
            )
            for part, position in zip(parts, (0, recompute.num_layers), strict=True)
        )
    tp, shards = mesh.strategy.tp, mesh.sequence_shards
    if recompute.kind == "full":
        return len(layers) * tokens * model.hidden * model.dtype_bytes / shards
    kept = {
        id(layer): layer.sliced(mesh.strategy.etp).kept_bytes(
            recompute,
            tp=tp,
            sequence_shards=shards,
            sequence_length=sequence_length,
            expert_shards=mesh.expert_shards,
        )
        for layer, _ in model.layer_kinds(layers)
    }
    return sum((kept[id(model.layer(number))] for number in layers), 0.0) * tokens


def bytes_per_token_copy(model: ModelSpec, recompute: Recompute, *, etp: int = 1) -> float:
    """Return what a rank with 1 / `etp` of an expert keeps of each copy of a token that arrived, in one layer.

    >>> small = ModelSpec(layers=1, hidden=4, heads=2, ffn=8, vocab=10, experts=2, top_k=1)
    >>> bytes_per_token_copy(small, Recompute()), bytes_per_token_copy(small, Recompute("selective", ("moe_act",)))
    (40.0, 24.0)
    """
    return model.moe_ffn.sliced(etp).kept_bytes_per_copy(recompute)


def weight_pass_bytes_per_microbatch(
    model: ModelSpec, mesh: Mesh, layers: Sequence[int], tokens: int
) -> tuple[float, float]:
    """Return what a microbatch keeps between its B and its W: inputs of products and gradients of their outputs.

    The two numbers are those of all but routed experts, and those of routed experts (the mean of the ranks), for both
    weigh differently where routing is skewed. Experts that serve all stages make both gradients in B, and keep nothing.
    """
    tp, shards = mesh.strategy.tp, mesh.sequence_shards
    elements = {
        id(layer): layer.sliced(mesh.strategy.etp).weight_pass_elements(
            tp=tp, sequence_shards=shards, expert_shards=mesh.expert_shards
        )
        for layer, _ in model.layer_kinds(layers)
    }
    dense = experts = 0.0
    for number in layers:
        attention, outside, routed = elements[id(model.layer(number))]
        dense += attention
        dense += outside
        experts += 0 if mesh.convention.experts_span_stages else routed
    return dense * tokens * model.dtype_bytes, experts * tokens * model.dtype_bytes


def gradient_bytes_in_block(
    model: ModelSpec,
    mesh: Mesh,
    layers: Sequence[int],
    tokens: int,
    *,
    sequence_length: int,
    context: ContextParallel | None = None,
) -> float:
    """Return the gradients that the backward pass of the largest block holds besides what was kept, on a rank.

    A stage without layers counts those of an attention, which is pessimistic. `context` is how the rank computes
    attention together with other CP ranks: what that takes in addition counts where attention is the largest block.
    """
    tp = mesh.strategy.tp
    split = {"tp": tp, "sequence_length": sequence_length}
    shards = mesh.expert_shards
    largest = max(
        (
            max(
                layer.sliced(mesh.strategy.etp).gradient_elements(
                    **split, expert_shards=shards, core_buffer=buffers.backward
                ),
                buffers.forward,
            )
            for layer, _ in model.layer_kinds(layers)
            for buffers in [CpBuffers() if context is None else context.buffers_of(layer, tp)]
        ),
        default=model.attention.gradient_elements(**split),
    )
    return largest * tokens * model.dtype_bytes
