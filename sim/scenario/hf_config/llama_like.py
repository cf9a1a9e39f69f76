"""Families in the shape of Llama or Mixtral whose configs name a few things otherwise.

References
----------
Hugging Face transformers, `models/*/configuration_*.py` and `modeling_*.py` of the families, for names and defaults.
"""

from sim.scenario.hf_config.keys import ConfigKeys
from sim.scenario.hf_config.parts import NOT_SAID, backbone, dropout, experts, windows

__all__ = [
    "read_dbrx",
    "read_ernie",
    "read_gemma2",
    "read_granite_moe",
    "read_hunyuan",
    "read_olmoe",
    "read_phi3",
    "read_phi_moe",
]


def read_phi3(keys: ConfigKeys) -> None:
    """Take Llama with a sliding window; the matrices of Q, K and V are one, and so are gate and up."""
    backbone(keys)
    keys.count("ffn", "intermediate_size")
    dropout(keys, "resid_pdrop", "embd_pdrop")
    windows(keys)


def read_gemma2(keys: ConfigKeys) -> None:
    """Take Llama with a sliding window in layers 0, 2, ...; by default embeddings are tied, and heads have 256."""
    backbone(keys)
    keys.flag_field("tie_word_embeddings", "tie_word_embeddings", default=True)
    if keys.count("head_dim", "head_dim", optional=True) is None:
        keys.set("head_dim", 256, "model_type")
    keys.count("ffn", "intermediate_size")
    keys.must_be("use_bidirectional_attention", (False,), NOT_SAID)
    for key in ("query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping"):
        keys.value(key)  # elementwise
    windows(keys, every=lambda layer: layer % 2 == 0)
    keys.must_be("sliding_window_size", (keys.value("sliding_window"),), "Remove one of the two.")


def read_olmoe(keys: ConfigKeys) -> None:
    """Take Mixtral whose experts are `num_experts`."""
    backbone(keys)
    experts(keys, "num_experts", "intermediate_size")
    keys.value("clip_qkv")  # elementwise


def read_phi_moe(keys: ConfigKeys) -> None:
    """Take Mixtral with biases."""
    backbone(keys)
    keys.count("head_dim", "head_dim", optional=True)
    experts(keys, "num_local_experts", "intermediate_size")
    dropout(keys, "expert_dropout")
    for key in ("lm_head_bias", "input_jitter_noise"):
        keys.value(key)
    windows(keys)


def read_granite_moe(keys: ConfigKeys) -> None:
    """Take Mixtral, with factors of embeddings, residuals, scores and logits, which are elementwise."""
    backbone(keys)
    experts(keys, "num_local_experts", "intermediate_size")
    for key in ("embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling"):
        keys.value(key)


def read_dbrx(keys: ConfigKeys) -> None:
    """Take the keys of the whole, of `attn_config` and of `ffn_config`."""
    keys.unfold("attn_config", "ffn_config")
    keys.count("layers", "n_layers", "num_hidden_layers")
    keys.count("hidden", "d_model", "hidden_size")
    keys.count("heads", "n_heads", "num_attention_heads")
    keys.count("kv_heads", "attn_config.kv_n_heads", "num_key_value_heads")
    keys.count("vocab", "vocab_size")
    keys.count("experts", "ffn_config.moe_num_experts")
    keys.count("top_k", "ffn_config.moe_top_k")
    keys.count("ffn", "ffn_config.ffn_hidden_size")
    keys.set("gated", True, "model_type")
    keys.must_be("tie_word_embeddings", (False,), "DBRX has a head of its own.")
    keys.must_be("ffn_config.uniform_expert_assignment", (False,), "Say it by `routing: {kind: balanced}`.")
    dropout(keys, "resid_pdrop", "emb_pdrop", "attn_config.attn_pdrop")
    for part in ("attn_config", "ffn_config"):
        for key in ("model_type", "torch_dtype", "dtype", "tie_word_embeddings"):
            keys.value(f"{part}.{key}")  # written by the library into every part
    names = ("ffn_act_fn", "moe_jitter_eps", "moe_loss_weight", "moe_normalize_expert_weights")
    for key in ("attn_config.clip_qkv", *(f"ffn_config.{name}" for name in names), "max_seq_len"):
        keys.value(key)


def read_ernie(keys: ConfigKeys) -> None:
    """Take experts of every n-th layer from a layer on, and shared experts of their width; embeddings may be tied."""
    backbone(keys)
    keys.flag_field("tie_word_embeddings", "tie_word_embeddings", default=True)
    keys.count("head_dim", "head_dim", optional=True)
    keys.count("experts", "moe_num_experts")
    keys.count("top_k", "moe_k")
    keys.count("ffn", "moe_intermediate_size")
    keys.count("dense_ffn", "intermediate_size")
    keys.count("shared_experts", "moe_num_shared_experts", least=0)
    keys.count("dense_layers", "moe_layer_start_index", least=0)
    keys.count("moe_every", "moe_layer_interval", optional=True)
    num_layers = keys.number("num_hidden_layers", least=1) or 1
    keys.must_be("moe_layer_end_index", (-1, num_layers - 1), NOT_SAID)
    keys.count("num_nextn_predict_layers", "num_nextn_predict_layers", least=0, optional=True)
    names = ("capacity", "gate", "gate_act", "norm_gate_logits", "norm_min", "use_aux_free")
    for key in (f"moe_{name}" for name in names):
        keys.value(key)  # how the router weighs experts


def read_hunyuan(keys: ConfigKeys) -> None:
    """Take experts and one shared expert of the same width in each layer; lists must say one value for all layers."""
    keys.unify("num_experts", "moe_topk", "moe_intermediate_size", "num_shared_expert")
    backbone(keys)
    keys.count("head_dim", "head_dim", "attention_head_dim", optional=True)
    keys.count("experts", "num_experts")
    keys.count("top_k", "moe_topk")
    if keys.count("ffn", "moe_intermediate_size", optional=True) is None:
        keys.count("ffn", "intermediate_size")
    keys.count("dense_ffn", "intermediate_size")
    if keys.flag("use_mixed_mlp_moe", default=True):
        keys.set("shared_experts", 1, "model_type")
        keys.count("shared_experts", "num_shared_expert", optional=True)
    keys.count("dense_layers", "moe_layer_num_skipped", least=0, optional=True)
    for key in ("use_cla", "use_mla", "moe_drop_tokens"):
        keys.must_be(key, (False,), NOT_SAID)
    keys.must_be("sliding_window", (), NOT_SAID)
    for key in ("moe_random_routing_dropped_token", "cla_share_factor", "eod_token_id", "norm_type"):
        keys.value(key)
