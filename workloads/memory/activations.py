"""What a microbatch in flight keeps on a rank for its backward pass.

Model
-----
Of each token of the replica, in elements of the model's type, t = TP, [/t] where sequence parallelism splits it::

    norms                2 h [/t]                                        inputs of the layer's two norms
    attention   input    h [/t]
                q, k, v  (heads + 2 kv_heads) d / t
                scores   s heads / t; with dropout (2 + 1/2) s heads / t       unfused attention alone
                output   heads d / t                                     input of the projection
    dense FFN   input    h [/t]
                inside   (gates + 1) w / t                               up projection, activation
    experts     input    h / t                                           of router and shared experts: own tokens
                copies   top_k (h + (gates + 1) w) / t                   as they arrive, up projection, activation
                shared   shared_experts (h + (gates + 1) w) / t
    dropout     masks    2 h [/t], of one byte each                      with `dropout`

For a GPT of two matrices of 4 h, multi-head attention, unfused, with dropout and bf16 that is s b h (34 + 5 a s / h)
bytes per layer, Korthikanti's equation 1.

Recomputation: `full` keeps the layer's input alone. `selective` leaves out what its modules make again, named as
Megatron-LM does in `--recompute-modules`::

    core_attn       scores (nothing where attention is fused: they were never kept)
    layernorm       outputs of the norms: inputs of attention and FFN, unless the FFN is computed again from its own
    mlp             inside of a dense FFN
    moe             copies of tokens, inside of experts
    moe_act         activation of experts, made again from the up projection
    shared_experts  inside of shared experts

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
from dataclasses import dataclass
from typing import Final

from sim.errors import InvalidValueError
from workloads.mesh import Mesh
from workloads.model import ModelSpec

__all__ = [
    "RECOMPUTE_MODULES",
    "Recompute",
    "activation_bytes_per_microbatch",
    "block_elements",
    "bytes_per_token_copy",
    "gradient_bytes_in_block",
    "weight_pass_bytes_per_microbatch",
]

RECOMPUTE_MODULES: Final = ("core_attn", "layernorm", "mlp", "moe", "moe_act", "shared_experts")
"""What selective recomputation can make again."""
_KINDS: Final = ("none", "selective", "full")


@dataclass(frozen=True, slots=True)
class Recompute:
    """What a backward pass computes again."""

    kind: str = "none"
    """none, selective (its modules) or full (the layer)."""
    modules: tuple[str, ...] = ("core_attn",)
    """Modules of selective recomputation."""

    def __post_init__(self) -> None:
        if self.kind not in _KINDS or not set(self.modules) <= set(RECOMPUTE_MODULES):
            raise InvalidValueError(
                field="schedule.recompute",
                rule=f"be one of {', '.join(_KINDS)}, of modules {', '.join(RECOMPUTE_MODULES)}",
                value=[self.kind, *self.modules],
                hint="Use none.",
            )

    def recomputes(self, module: str) -> bool:
        """Tell whether a module is computed again on its own.

        >>> Recompute("selective", ("mlp",)).recomputes("mlp"), Recompute("full").recomputes("mlp")
        (True, False)
        """
        return self.kind == "selective" and module in self.modules


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
        Tokens of a microbatch of one replica.
    recompute
        What is computed again; a bare kind takes the usual modules.
    sequence_length
        Tokens of a sequence, over which scores are kept where attention is not fused.
    """
    again = Recompute(recompute) if isinstance(recompute, str) else recompute
    tp = mesh.strategy.tp
    shared = tp if mesh.sp else 1
    if again.kind == "full":
        return len(layers) * tokens * model.hidden * model.dtype_bytes / shared
    attention = _attention_bytes(model, again, tp, shared, sequence_length)
    total = 0.0
    for layer in layers:
        total += attention + _ffn_bytes(model, layer, again, tp, shared)
    return total * tokens


def bytes_per_token_copy(model: ModelSpec, recompute: Recompute) -> float:
    """Return what an expert's host keeps of each copy of a token that arrived, in one layer.

    >>> small = ModelSpec(layers=1, hidden=4, heads=2, kv_heads=2, head_dim=2, ffn=8, dense_ffn=8, vocab=10,
    ...                   experts=2, top_k=1)
    >>> bytes_per_token_copy(small, Recompute()), bytes_per_token_copy(small, Recompute("selective", ("moe_act",)))
    (40.0, 24.0)
    """
    if recompute.kind == "full" or recompute.recomputes("moe"):
        return 0.0
    gates = 2 if model.gated else 1
    return float((model.hidden + (gates + (not recompute.recomputes("moe_act"))) * model.ffn) * model.dtype_bytes)


def weight_pass_bytes_per_microbatch(
    model: ModelSpec, mesh: Mesh, layers: Sequence[int], tokens: int
) -> tuple[float, float]:
    """Return what a microbatch keeps between its B and its W: inputs of products and gradients of their outputs.

    Apart, as both weigh differently where routing is skewed: of all but routed experts; of these, mean of the ranks.
    Under `spanning` experts make both gradients in B, and nothing of theirs waits for W.
    """
    tp = mesh.strategy.tp
    shared = tp if mesh.sp else 1
    gates = 2 if model.gated else 1
    attention = 2 * model.hidden / shared + (2 * model.heads + 2 * model.kv_heads) * model.head_dim / tp
    of_copy = (2 * model.hidden + (gates + 1) * model.ffn) / tp
    dense = experts = 0.0
    for layer in layers:
        dense += attention
        if model.is_moe_layer(layer):
            dense += model.hidden / shared + model.shared_experts * of_copy
            experts += 0 if mesh.convention.experts_span_stages else model.top_k * of_copy
        else:
            dense += 2 * model.hidden / shared + (gates + 1) * model.dense_ffn / tp
    return dense * tokens * model.dtype_bytes, experts * tokens * model.dtype_bytes


def gradient_bytes_in_block(
    model: ModelSpec, mesh: Mesh, layers: Sequence[int], tokens: int, *, sequence_length: int
) -> float:
    """Return the gradients that the backward pass of the largest block holds beside what was kept, on a rank.

    Of an FFN they are as large as up projection and activation; of unfused attention as scores and probabilities.
    """
    tp, gates = mesh.strategy.tp, 2 if model.gated else 1
    scores = 0 if model.fused_attention else 2 * sequence_length * model.heads / tp
    projected = (2 * model.heads + 2 * model.kv_heads) * model.head_dim / tp
    ffns = [
        (gates + 1) * (model.top_k * model.ffn if model.is_moe_layer(layer) else model.dense_ffn) / tp
        for layer in layers
    ]
    return max([scores, projected, *ffns]) * tokens * model.dtype_bytes


def block_elements(model: ModelSpec, layer: int, tp: int, shared: int, *, skew: float = 1.0) -> float:
    """Return the elements in the FFN of a layer on one rank, for each token of its replica: norm, inputs, inside."""
    gates = 2 if model.gated else 1
    norm = model.hidden / shared
    if not model.is_moe_layer(layer):
        return norm + model.hidden / shared + (gates + 1) * model.dense_ffn / tp
    width = model.hidden + (gates + 1) * model.ffn
    return norm + (skew * model.top_k + model.shared_experts) * width / tp


# ---- private -----------------------------------------------------------------------------------------------------


def _attention_bytes(model: ModelSpec, again: Recompute, tp: int, shared: int, sequence_length: int) -> float:
    """Return what norm and attention keep of a token."""
    dtype, hidden = model.dtype_bytes, model.hidden / shared
    kept = hidden + (0 if again.recomputes("layernorm") else hidden)
    kept += (2 * model.heads + 2 * model.kv_heads) * model.head_dim / tp
    scores = 0.0
    if not model.fused_attention and not again.recomputes("core_attn"):
        scores = sequence_length * model.heads / tp * (2 * dtype + 1 if model.dropout else dtype)
    return kept * dtype + scores + (hidden if model.dropout else 0)


def _ffn_bytes(model: ModelSpec, layer: int, again: Recompute, tp: int, shared: int) -> float:
    """Return what norm and FFN of a layer keep of a token."""
    dtype, hidden, gates = model.dtype_bytes, model.hidden / shared, 2 if model.gated else 1
    mask = hidden if model.dropout else 0.0
    is_moe = model.is_moe_layer(layer)
    from_own_input = again.recomputes("moe" if is_moe else "mlp")
    kept = hidden
    if not again.recomputes("layernorm") or from_own_input:
        kept += model.hidden / tp if is_moe else hidden  # a rank routes the tokens that it owns
    if not is_moe:
        return (kept + (0 if from_own_input else (gates + 1) * model.dense_ffn / tp)) * dtype + mask
    shared_copies = 0 if from_own_input or again.recomputes("shared_experts") else model.shared_experts
    width = model.hidden + (gates + 1) * model.ffn
    kept += shared_copies * width / tp
    return kept * dtype + model.top_k / tp * bytes_per_token_copy(model, again) + mask
