"""What the keys of a `config.json` mean, for each `model_type`.

Model
-----
`ARCHITECTURES` has one entry for each `model_type`; the entry's function takes the keys of such a config into fields of
`workloads.model.ModelSpec`. What a family's code fixes and no key says is written there too: gates, sinks, the way in
which the router weighs experts.

References
----------
Hugging Face transformers 5.24, `models/*/configuration_*.py` and `modeling_*.py` (names and defaults of keys); the
`config.json` of MiniMax-M2 (MTP), DeepSeek-V3 (`topk_method`), Kimi-K2 and Nemotron-H.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from sim.scenario.hf_config.keys import ConfigKeys
from sim.scenario.hf_config.llama_like import (
    read_dbrx,
    read_ernie,
    read_gemma2,
    read_granite_moe,
    read_hunyuan,
    read_olmoe,
    read_phi3,
    read_phi_moe,
)
from sim.scenario.hf_config.parts import (
    NOT_SAID,
    backbone,
    dropout,
    experts,
    first_dense,
    layer_types,
    shared_width,
    windows,
)

__all__ = ["ARCHITECTURES", "Architecture"]


class Architecture(NamedTuple):
    """One `model_type`."""

    meaning: str
    """Models that have it, and what is read."""
    read: Callable[[ConfigKeys], None]
    """Takes the keys of a config into fields of the model."""
    part: str | None = None
    """Key below which the language model stands; None: the whole config is the language model's."""


# ---- families ----------------------------------------------------------------------------------------------------


def _llama(keys: ConfigKeys) -> None:
    backbone(keys)
    keys.count("head_dim", "head_dim", optional=True)
    keys.count("ffn", "intermediate_size")


def _windowed_llama(keys: ConfigKeys) -> None:
    _llama(keys)
    windows(keys)


def _qwen_dense(keys: ConfigKeys) -> None:
    _llama(keys)
    first = keys.number("max_window_layers", optional=True) or 0
    if keys.flag("use_sliding_window"):
        num_layers = keys.number("num_hidden_layers", least=1) or 1
        kinds = keys.names("layer_types", ("full_attention", "sliding_attention"), length=num_layers)
        keys.count("sliding_window", "sliding_window")
        layer_types(keys, kinds or ["full_attention" if i < first else "sliding_attention" for i in range(num_layers)])
    else:
        keys.value("sliding_window")
        keys.must_be("layer_types", [["full_attention"] * keys.fields["layers"]], NOT_SAID)  # type: ignore[operator]  # `backbone` has read the count


def _mixtral(keys: ConfigKeys) -> None:
    backbone(keys)
    keys.count("head_dim", "head_dim", optional=True)
    experts(keys, "num_local_experts", "intermediate_size")
    windows(keys)


def _qwen2_moe(keys: ConfigKeys) -> None:
    _qwen_moe(keys, every=lambda layer: layer % 2 == 0)
    shared_width(keys, "shared_expert_intermediate_size")
    if "shared_experts" in keys.fields:
        keys.set("shared_expert_gate", True, "shared_expert_intermediate_size")


def _qwen3_moe(keys: ConfigKeys) -> None:
    _qwen_moe(keys)
    keys.must_be("shared_expert_intermediate_size", (0,), "Models of this model_type have no shared expert.")


def _qwen_moe(keys: ConfigKeys, every: Callable[[int], bool] | None = None) -> None:
    backbone(keys)
    keys.count("head_dim", "head_dim", optional=True)
    experts(keys, "num_experts", "moe_intermediate_size")
    keys.count("dense_ffn", "intermediate_size", optional=True)
    first_dense(keys)
    if keys.value("use_sliding_window"):
        windows(keys, every=every)
    else:
        for key in ("use_sliding_window", "sliding_window", "max_window_layers"):
            keys.value(key)


def _gated_delta_net(keys: ConfigKeys) -> None:
    """Take the experts of Qwen2-MoE, and the attention of Qwen3-Next."""
    _qwen2_moe(keys)
    _linear_attention(keys)


def _dense_gated_delta_net(keys: ConfigKeys) -> None:
    _llama(keys)
    keys.must_be("mlp_only_layers", [[]], NOT_SAID)
    _linear_attention(keys)


def _linear_attention(keys: ConfigKeys) -> None:
    """Take layers of linear attention, the full attention of every n-th layer with an output gate, and MTP."""
    num_layers = keys.number("num_hidden_layers", least=1) or 1
    step = keys.number("full_attention_interval", least=1, optional=True) or 4
    kinds = keys.names("layer_types", ("linear_attention", "full_attention"), length=num_layers)
    kinds = kinds or ["full_attention" if (i + 1) % step == 0 else "linear_attention" for i in range(num_layers)]
    layer_types(keys, kinds)
    if "linear_attention" in kinds:
        for key in (
            *("linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim"),
            "linear_conv_kernel_dim",
        ):
            keys.count(key, key)
    keys.flag_field("attn_output_gate", "attn_output_gate", default=True)
    keys.count("num_nextn_predict_layers", "mtp_num_hidden_layers", least=0, optional=True)


def _deepseek(keys: ConfigKeys) -> None:
    """Take latent attention, first dense layers, shared experts of the width of the routed ones, and MTP."""
    backbone(keys)
    for key in ("q_lora_rank",):
        keys.count(key, key, optional=True)
    for key in ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"):
        keys.count(key, key)
    for key in ("head_dim", "qk_head_dim"):  # they follow from the others
        keys.value(key)
    _late_experts(keys)
    method = keys.text("topk_method")
    if keys.text("scoring_func") == "sigmoid":
        keys.set("scoring_func", "sigmoid", "scoring_func")
    if method == "noaux_tc":
        keys.set("use_routing_bias", True, "topk_method")


def _late_experts(keys: ConfigKeys) -> None:
    """Take experts as DeepSeek names them: from a layer on, with shared experts, and MTP layers after the last."""
    experts(keys, "n_routed_experts", "moe_intermediate_size")
    keys.count("dense_ffn", "intermediate_size")
    keys.count("shared_experts", "n_shared_experts", least=0, optional=True)
    keys.count("dense_layers", "first_k_dense_replace", least=0, optional=True)
    keys.count("num_nextn_predict_layers", "num_nextn_predict_layers", "num_mtp_layers", least=0, optional=True)
    for key in ("n_group", "topk_group"):
        keys.number(key, least=1, optional=True)


def _glm4_moe(keys: ConfigKeys) -> None:
    backbone(keys)
    keys.count("head_dim", "head_dim", optional=True)
    _late_experts(keys)
    keys.set("scoring_func", "sigmoid", "model_type")
    keys.set("use_routing_bias", True, "model_type")


def _gpt_oss(keys: ConfigKeys) -> None:
    _mixtral_like_gpt_oss(keys)
    keys.set("attention_sinks", True, "model_type")


def _mixtral_like_gpt_oss(keys: ConfigKeys) -> None:
    backbone(keys)
    keys.count("head_dim", "head_dim", optional=True)
    experts(keys, "num_local_experts", "intermediate_size")
    windows(keys, every=lambda layer: layer % 2 == 0)


def _llama4(keys: ConfigKeys) -> None:
    """Take experts in every n-th layer, one shared expert, and chunked attention in layers with rotary embedding."""
    backbone(keys)
    keys.count("head_dim", "head_dim", optional=True)
    experts(keys, "num_local_experts", "intermediate_size")
    keys.count("dense_ffn", "intermediate_size_mlp")
    keys.set("shared_experts", 1, "model_type")
    keys.set("scoring_func", "sigmoid", "model_type")
    num_layers = keys.number("num_hidden_layers", least=1) or 1
    step = keys.count("moe_every", "interleave_moe_layer_step", optional=True) or 1
    listed, expected = keys.numbers("moe_layers"), list(range(step - 1, num_layers, step))
    if listed is not None and listed != expected:
        rule = f"list every layer that interleave_moe_layer_step = {step} gives experts"
        raise keys.error("moe_layers", rule, listed, NOT_SAID)
    interval = keys.number("no_rope_layer_interval", least=1, optional=True) or 4
    has_rope = keys.numbers("no_rope_layers") or [int((i + 1) % interval != 0) for i in range(num_layers)]
    if len(has_rope) != num_layers or not set(has_rope) <= {0, 1}:
        raise keys.error("no_rope_layers", f"have 0 or 1 for each of {num_layers} layers", has_rope, "Correct it.")
    kinds = keys.names("layer_types", ("chunked_attention", "full_attention"), length=num_layers)
    if keys.number("attention_chunk_size", least=1, optional=True) is None:
        return
    kinds = kinds or ["chunked_attention" if it else "full_attention" for it in has_rope]
    if "chunked_attention" in kinds:
        keys.count("attention_chunk_size", "attention_chunk_size")
        layer_types(keys, kinds)


def _minimax_m2(keys: ConfigKeys) -> None:
    _mixtral(keys)
    num_layers = keys.number("num_hidden_layers", least=1) or 1
    why = "0 is lightning attention, which the model cannot say yet."
    keys.must_be("attn_type_list", [[1] * num_layers], why)
    keys.value("mlp_intermediate_size")  # of dense layers, of which there are none
    shared_width(keys, "shared_intermediate_size")
    keys.flag_field("use_routing_bias", "use_routing_bias", default=True)
    keys.must_be("scoring_func", ("sigmoid", "softmax"), "The router weighs experts by one of the two.")
    keys.set("scoring_func", keys.text("scoring_func") or "sigmoid", "scoring_func")
    modules = keys.number("num_mtp_modules", optional=True) or 0
    layers = keys.number("mtp_transformer_layers", optional=True) or 1
    if keys.flag("use_mtp") and modules * layers:
        keys.set("num_nextn_predict_layers", modules * layers, "num_mtp_modules")


_BLOCKS: Final[Mapping[str, str]] = {
    "mamba": "M",
    "linear_attention": "M",
    "attention": "*",
    "full_attention": "*",
    "mlp": "-",
    "moe": "E",
}
"""Names of Nemotron-H's layers -> their letters in `hybrid_override_pattern`."""


def _nemotron_h(keys: ConfigKeys) -> None:
    """Take layers that are Mamba-2, attention, a dense FFN or experts, FFNs without gate."""
    pattern = keys.text("hybrid_override_pattern")
    for key in ("layers_block_type", "layer_types"):
        if pattern is None and isinstance(kinds := keys.value(key), list):
            keys.names(key, tuple(_BLOCKS), length=len(kinds))
            pattern = "".join(_BLOCKS[kind] for kind in kinds)
    if not pattern or not set(pattern) <= set("M*-E"):
        rule, hint = "be a text of M, *, - and E, a letter for each layer", "Copy the whole config.json of the model."
        raise keys.error("hybrid_override_pattern", rule, pattern or "nothing", hint)
    if keys.number("num_hidden_layers", optional=True) not in (None, len(pattern)):
        rule, hint = f"be the {len(pattern)} letters of hybrid_override_pattern", "Correct one of the two."
        raise keys.error("num_hidden_layers", rule, keys.value("num_hidden_layers"), hint)
    keys.set("layers", len(pattern), "hybrid_override_pattern")
    keys.set("hybrid_override_pattern", pattern, "hybrid_override_pattern")
    keys.count("hidden", "hidden_size")
    keys.count("heads", "num_attention_heads")
    keys.count("kv_heads", "num_key_value_heads", optional=True)
    keys.count("head_dim", "head_dim", "attention_head_dim", optional=True)
    keys.count("vocab", "vocab_size")
    keys.flag_field("tie_word_embeddings", "tie_word_embeddings")
    dropout(keys, "attention_dropout", "hidden_dropout")
    keys.must_be("sliding_window", (), NOT_SAID)
    _mamba(keys, has_mamba="M" in pattern)
    _nemotron_ffn(keys, has_experts="E" in pattern)
    keys.count("num_nextn_predict_layers", "num_nextn_predict_layers", least=0, optional=True)
    _mtp_parts(keys)


def _mtp_parts(keys: ConfigKeys) -> None:
    """Take the parts of a layer that predicts a further token, where there is such a layer."""
    key, parts, blocks = (
        "mtp_hybrid_override_pattern",
        keys.text("mtp_hybrid_override_pattern"),
        "mtp_layers_block_type",
    )
    if isinstance(kinds := keys.value(blocks), list) and parts is None:
        keys.names(blocks, tuple(_BLOCKS), length=len(kinds))
        key, parts = blocks, "".join(_BLOCKS[kind] for kind in kinds)
    if parts and keys.fields.get("num_nextn_predict_layers"):
        keys.set("mtp_hybrid_override_pattern", parts, key)


def _mamba(keys: ConfigKeys, *, has_mamba: bool) -> None:
    renamed = {"n_groups": "mamba_n_groups", "conv_kernel": "mamba_d_conv", "chunk_size": "mamba_chunk_size"}
    for field in ("mamba_num_heads", "mamba_head_dim", "ssm_state_size", *renamed):
        names = [field, renamed[field]] if field in renamed else [field]
        if has_mamba:
            keys.count(field, *names)
        else:
            for name in names:
                keys.value(name)
    for key in ("expand", "mamba_expand"):  # the heads say how wide a layer is
        keys.value(key)


def _nemotron_ffn(keys: ConfigKeys, *, has_experts: bool) -> None:
    """Take the FFN of layers `-` and, where there are layers `E`, the experts."""
    names = ("n_routed_experts", "num_experts_per_tok", "moe_intermediate_size", "n_shared_experts", "n_group")
    if not has_experts:
        for key in (*names, "topk_group", "moe_shared_expert_intermediate_size", "moe_latent_size"):
            keys.value(key)
        keys.count("ffn", "intermediate_size")
        return
    experts(keys, "n_routed_experts", "moe_intermediate_size")
    keys.count("moe_latent_size", "moe_latent_size", optional=True)
    keys.count("dense_ffn", "intermediate_size", optional=True)
    for key in ("n_group", "topk_group"):
        keys.number(key, least=1, optional=True)
    if keys.count("shared_experts", "n_shared_experts", least=0, optional=True):
        keys.count("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", optional=True)
    else:
        keys.value("moe_shared_expert_intermediate_size")
    keys.set("scoring_func", "sigmoid", "model_type")
    keys.set("use_routing_bias", True, "model_type")


def _gpt2(keys: ConfigKeys) -> None:
    keys.count("layers", "n_layer", "num_hidden_layers")
    hidden = keys.count("hidden", "n_embd", "hidden_size") or 1
    keys.count("heads", "n_head", "num_attention_heads")
    if keys.count("ffn", "n_inner", optional=True) is None:
        keys.set("ffn", 4 * hidden, "n_embd")
    keys.count("vocab", "vocab_size")
    keys.flag_field("tie_word_embeddings", "tie_word_embeddings", default=True)
    keys.count("n_positions", "n_positions", "n_ctx", optional=True)
    dropout(keys, "resid_pdrop", "embd_pdrop", "attn_pdrop")


ARCHITECTURES: Final[Mapping[str, Architecture]] = {
    "llama": Architecture("Llama 2 and 3", _llama),
    "mistral": Architecture("Mistral: Llama with a sliding window", _windowed_llama),
    "qwen2": Architecture("Qwen2, Qwen2.5", _qwen_dense),
    "qwen3": Architecture("Qwen3, dense", _qwen_dense),
    "gpt2": Architecture("GPT-2: n_embd, n_layer, n_head", _gpt2),
    "mixtral": Architecture("Mixtral", _mixtral),
    "qwen2_moe": Architecture("Qwen1.5-MoE, Qwen2-MoE: a shared expert with a gate", _qwen2_moe),
    "qwen3_moe": Architecture("Qwen3-MoE", _qwen3_moe),
    "qwen3_vl": Architecture("Qwen3-VL, dense, without its vision tower", _qwen_dense, "text_config"),
    "qwen3_vl_moe": Architecture("Qwen3-VL-MoE, without its vision tower", _qwen3_moe, "text_config"),
    "qwen3_next": Architecture("Qwen3-Next: gated delta net in three of four layers", _gated_delta_net),
    "qwen3_5": Architecture("Qwen3.5, dense, without its vision tower", _dense_gated_delta_net, "text_config"),
    "qwen3_5_text": Architecture("Qwen3.5, dense, the language model", _dense_gated_delta_net),
    "qwen3_5_moe": Architecture("Qwen3.5-MoE, without its vision tower", _gated_delta_net, "text_config"),
    "qwen3_5_moe_text": Architecture("Qwen3.5-MoE, the language model", _gated_delta_net),
    "deepseek_v2": Architecture("DeepSeek-V2: latent attention", _deepseek),
    "deepseek_v3": Architecture("DeepSeek-V3 and R1: latent attention, MTP", _deepseek),
    "kimi_k2": Architecture("Kimi-K2, the architecture of DeepSeek-V3", _deepseek),
    "kimi_k25": Architecture("Kimi-K2.5, without its vision tower", _deepseek, "text_config"),
    "glm4_moe": Architecture("GLM-4.5, GLM-4.6: MTP", _glm4_moe),
    "gpt_oss": Architecture("gpt-oss: sliding window in every second layer, attention sinks", _gpt_oss),
    "llama4": Architecture("Llama 4, without its vision tower", _llama4, "text_config"),
    "llama4_text": Architecture("Llama 4, the language model: chunked attention", _llama4),
    "minimax_m2": Architecture("MiniMax-M2: MTP", _minimax_m2),
    "phi3": Architecture("Phi-3, Phi-4: Llama with a sliding window", read_phi3),
    "gemma2": Architecture("Gemma 2: a sliding window in every second layer", read_gemma2),
    "olmoe": Architecture("OLMoE", read_olmoe),
    "phimoe": Architecture("Phi-3.5-MoE: Mixtral with biases", read_phi_moe),
    "granitemoe": Architecture("Granite 3 MoE: Mixtral with multipliers", read_granite_moe),
    "dbrx": Architecture("DBRX: attn_config and ffn_config", read_dbrx),
    "ernie4_5_moe": Architecture("ERNIE 4.5 MoE: first dense layers, shared experts", read_ernie),
    "hunyuan_v1_moe": Architecture("Hunyuan-A13B: one shared expert", read_hunyuan),
    "nemotron_h": Architecture("Nemotron-H, Nemotron 3 Nano: Mamba-2, attention, FFN and experts", _nemotron_h),
}
"""model_type -> what is read."""
