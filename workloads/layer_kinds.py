"""The kinds of attention and FFN of a layer: their names, the fields that they need, and what does not go together.

A further kind is an entry of `LAYER_TYPES`, a branch of `attention_of_kind` and a class in `workloads.blocks`.
"""

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

from workloads.blocks.attention import GroupedQueryAttention
from workloads.blocks.latent_attention import LatentAttention
from workloads.blocks.layer import Mixer
from workloads.blocks.state_space import GatedDeltaNet, Mamba2

if TYPE_CHECKING:
    from workloads.model import ModelSpec

__all__ = ["LAYER_TYPES", "PATTERN_LETTERS", "SCORING_FUNCS", "attention_of_kind", "check_kinds", "kinds_of_parts"]

LAYER_TYPES: dict[str, tuple[str, ...]] = {
    "full_attention": (),
    "sliding_attention": ("sliding_window",),
    "chunked_attention": ("attention_chunk_size",),
    "linear_attention": (
        "linear_num_key_heads",
        "linear_num_value_heads",
        "linear_key_head_dim",
        "linear_value_head_dim",
        "linear_conv_kernel_dim",
    ),
    "mamba": ("mamba_num_heads", "mamba_head_dim", "ssm_state_size", "n_groups", "conv_kernel", "chunk_size"),
}
"""Kinds of attention that a layer may have, and the fields that each kind needs in addition to the common fields."""

PATTERN_LETTERS: dict[str, tuple[str | None, str | None]] = {
    "*": ("full_attention", None),
    "M": ("mamba", None),
    "-": (None, "dense"),
    "E": (None, "experts"),
}
"""Letters of `hybrid_override_pattern`: the attention and the FFN of a layer that has one of the two (Nemotron-H)."""

SCORING_FUNCS = ("softmax", "sigmoid")
"""How a router turns its products into weights of experts."""

_LATENT = ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
"""Fields that latent attention needs in addition to `kv_lora_rank`."""
_EXCLUSIVE = (
    ("layer_types", "hybrid_override_pattern"),
    ("sliding_window_every", "layer_types"),
    ("sliding_window_every", "hybrid_override_pattern"),
    ("dense_layers", "hybrid_override_pattern"),
    ("moe_every", "hybrid_override_pattern"),
)
"""Fields that say the same of a layer, and exclude each other."""
_OF_EXPERTS = frozenset(
    {
        "moe_every",
        "shared_expert_intermediate_size",
        "moe_latent_size",
        "shared_expert_gate",
        "scoring_func",
        "use_routing_bias",
    }
)
"""Fields that a dense model does not have."""
_OF_LAYER_KINDS = frozenset(
    {
        "layer_types",
        "hybrid_override_pattern",
        "mtp_hybrid_override_pattern",
        "sliding_window_every",
        *chain.from_iterable(LAYER_TYPES.values()),
    }
)
"""Fields of kinds of layers."""


def attention_of_kind(model: "ModelSpec", kind: str | None) -> Mixer | None:
    """Return the attention of a kind; `check_kinds` has seen that its fields are given."""
    if kind is None:
        return None
    given = {field: getattr(model, field) for field in LAYER_TYPES[kind]}
    if kind == "linear_attention":
        return GatedDeltaNet(
            hidden=model.hidden,
            dtype_bytes=model.dtype_bytes,
            formats=model.formats,
            conv_kernel=given["linear_conv_kernel_dim"],
            key_heads=given["linear_num_key_heads"],
            value_heads=given["linear_num_value_heads"],
            key_head_dim=given["linear_key_head_dim"],
            value_head_dim=given["linear_value_head_dim"],
        )
    if kind == "mamba":
        return Mamba2(
            hidden=model.hidden,
            dtype_bytes=model.dtype_bytes,
            formats=model.formats,
            conv_kernel=given["conv_kernel"],
            heads=given["mamba_num_heads"],
            head_dim=given["mamba_head_dim"],
            state=given["ssm_state_size"],
            groups=given["n_groups"],
            chunk=given["chunk_size"],
        )
    return _softmax_attention(model, kind)


def kinds_of_parts(letters: str) -> tuple[str | None, str | None]:
    """Return the attention and the FFN of a layer that has the parts of some letters, at most one of each.

    >>> kinds_of_parts("*E")
    ('full_attention', 'experts')
    """
    attention = [kind for kind, _ in map(PATTERN_LETTERS.__getitem__, letters) if kind is not None]
    ffn = [kind for _, kind in map(PATTERN_LETTERS.__getitem__, letters) if kind is not None]
    return (attention[0] if attention else None), (ffn[0] if ffn else None)


def check_kinds(model: "ModelSpec") -> None:
    """Refuse fields of a kind of attention or FFN that the model does not have, or has in part."""
    require = model.require
    declared = type(model).__dataclass_fields__.items()
    given = {key for key, field in declared if getattr(model, key) != field.default}
    if "kv_lora_rank" in given:
        for key in _LATENT:
            hint = "Give all of kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim and v_head_dim."
            require(key in given, key, "be given with model.kv_lora_rank", hint)
        for key in given & {"attention_sinks", "attn_output_gate"}:
            require(False, key, "be left out with model.kv_lora_rank (MLA)", "Remove one of the two.")
    for key in given & {"q_lora_rank", *_LATENT}:
        hint = "Give model.kv_lora_rank, or remove this key."
        require("kv_lora_rank" in given, key, "be left out without model.kv_lora_rank", hint)
    if model.add_bias_linear:
        others = {"kv_lora_rank", "hybrid_override_pattern", "linear_num_value_heads"}
        is_plain = not model.experts and not given & others
        require(is_plain, "add_bias_linear", "be false but in dense models of plain attention", "Leave it out.")
    for key, other in _EXCLUSIVE:
        if key in given and other in given:
            require(False, key, f"be left out with model.{other}", "Give one of the two.")
    for key in given & _OF_EXPERTS:
        hint = "Give model.experts, or remove this key."
        require(bool(model.experts), key, "be left out of a dense model", hint)
    for key in given & {"shared_expert_intermediate_size", "shared_expert_gate"}:
        hint = "Give model.shared_experts, such as 1."
        require(model.shared_experts > 0, key, "be left out without model.shared_experts", hint)
    if model.scoring_func not in SCORING_FUNCS:
        require(False, "scoring_func", f"be one of {', '.join(SCORING_FUNCS)}", "Use softmax.")
    if given & _OF_LAYER_KINDS:
        _check_layer_kinds(model, given)


# ---- private ----------------------------------------------------------------------------------------------------


def _check_layer_kinds(model: "ModelSpec", given: set[str]) -> None:
    """Refuse lists of kinds that do not fit the layers, and kinds whose fields are not given."""
    require, pattern = model.require, model.hybrid_override_pattern
    for key, known in (("layer_types", LAYER_TYPES), ("hybrid_override_pattern", PATTERN_LETTERS)):
        kinds: Sequence[str] | None = getattr(model, key)
        if kinds is None:
            continue
        words = f"consist of {', '.join(known)}"
        require(set(kinds) <= set(known) and len(kinds) > 0, key, words, "Give the kind of each layer.")
        hint = f"Give {model.layers} kinds, or a shorter list that is repeated a whole number of times."
        rule = f"have a length that divides model.layers = {model.layers}"
        require(model.layers % len(kinds) == 0, key, rule, hint)
    if pattern is not None:
        has_attention = any(PATTERN_LETTERS[letter][0] for letter in pattern)
        rule = "have a layer with attention or Mamba"
        require(has_attention, "hybrid_override_pattern", rule, "Write * or M for a layer.")
        rule = f"have layers of experts (E) where model.experts is given, which is {model.experts}"
        hint = "Give model.experts for the letter E, or drop one of the two."
        require(("E" in pattern) == bool(model.experts), "hybrid_override_pattern", rule, hint)
    _check_mtp_parts(model)
    used = {kind for kind in map(model.attention_kind, range(model.layers)) if kind is not None}
    for kind, needed in LAYER_TYPES.items():
        for field in needed:
            if kind in used:
                hint = f"Give {', '.join(needed)}."
                require(field in given, field, f"be given with layers of {kind}", hint)
            elif field in given:
                hint = f"Give model.layer_types with {kind}, or remove this key."
                require(False, field, f"be left out without layers of {kind}", hint)
    hint = "Give model.sliding_window, or remove this key."
    fits = "sliding_window_every" not in given or "sliding_window" in given
    require(fits, "sliding_window_every", "be left out without model.sliding_window", hint)
    if model.linear_num_key_heads is not None and model.linear_num_value_heads is not None:
        rule = f"be a multiple of model.linear_num_key_heads = {model.linear_num_key_heads}"
        fits = model.linear_num_value_heads % model.linear_num_key_heads == 0
        require(fits, "linear_num_value_heads", rule, "Each key head serves equally many value heads.")
    if model.n_groups is not None and model.mamba_num_heads is not None:
        rule = f"divide model.mamba_num_heads = {model.mamba_num_heads}"
        hint = "Each group serves equally many heads."
        require(model.mamba_num_heads % model.n_groups == 0, "n_groups", rule, hint)


def _check_mtp_parts(model: "ModelSpec") -> None:
    """Refuse parts of an MTP layer that are no layer, or that the model has no shape for."""
    letters, key = model.mtp_hybrid_override_pattern, "mtp_hybrid_override_pattern"
    if letters is None:
        return
    require, pattern = model.require, model.hybrid_override_pattern or ""
    require(bool(pattern), key, "be left out without model.hybrid_override_pattern", "Remove it.")
    hint = f"Use letters of the layers, {', '.join(sorted(set(pattern)))}."
    require(set(letters) <= set(pattern) and len(letters) > 0, key, "consist of letters of the layers", hint)
    parts = [PATTERN_LETTERS[letter] for letter in letters]
    rule = "have at most one of * and M, and at most one of - and E"
    fits = all(sum(part[i] is not None for part in parts) <= 1 for i in (0, 1))
    require(fits, key, rule, "Write for example *E.")


def _softmax_attention(model: "ModelSpec", kind: str) -> Mixer:
    """Return the softmax attention of a kind of layer."""
    if model.kv_lora_rank is not None:
        return LatentAttention(
            hidden=model.hidden,
            heads=model.heads,
            q_lora_rank=model.q_lora_rank,
            kv_lora_rank=model.kv_lora_rank,
            qk_nope_head_dim=model.qk_nope_head_dim or 0,
            qk_rope_head_dim=model.qk_rope_head_dim or 0,
            v_head_dim=model.v_head_dim or 0,
            dtype_bytes=model.dtype_bytes,
            formats=model.formats,
            is_fused=model.fused_attention,
            has_dropout=model.dropout,
            window=model.sliding_window if kind == "sliding_attention" else None,
        )
    return GroupedQueryAttention(
        hidden=model.hidden,
        heads=model.heads,
        kv_heads=model.kv_heads,
        head_dim=model.head_dim,
        dtype_bytes=model.dtype_bytes,
        formats=model.formats,
        is_fused=model.fused_attention,
        has_dropout=model.dropout,
        has_bias=model.add_bias_linear,
        window=model.sliding_window if kind == "sliding_attention" else None,
        chunk=model.attention_chunk_size if kind == "chunked_attention" else None,
        has_sinks=model.attention_sinks,
        has_gate=model.attn_output_gate,
        fusions=model.fusions,
        is_rotary=model.unfused_rotary_embedding,
        has_rotary=model.n_positions == 0,
    )
