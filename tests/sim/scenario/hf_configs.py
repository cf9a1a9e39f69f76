"""Shapes of published models, as keys of their `config.json`, and the parameters that were published of them.

Each is typed again: the keys that shape the model, and of the others as many as show the form of the file.
"""

from typing import Any, Final, NamedTuple

from workloads.model import ModelSpec

__all__ = ["CONFIGS", "Published", "counted"]


class Published(NamedTuple):
    """A config and what was published of its model, to the digits that were quoted."""

    config: dict[str, Any]
    total: str
    """Parameters in billions."""
    active: str
    """Parameters that a token meets, in billions."""
    source: str
    total_with: tuple[str, ...] = ()
    """What the published total counts besides all parameters of the language model, or without them: see `counted`."""
    active_with: tuple[str, ...] = ()
    """The same of the active parameters, which here are those with one row of the embedding and the output head."""


def counted(model: ModelSpec, parameters: float, parts: tuple[str, ...]) -> float:
    """Return parameters as a publication counts them."""
    of_part = {
        "whole embedding": model.num_embedding_params,
        "no head": -model.num_embedding_params,
        "no embedding": -model.num_embedding_params,
        "MTP": model.num_mtp_params,
        "vision": 0.87e9,  # Llama 4: 34 layers of width 1,408, the adapter of 5,632 x 4,096 and the projector
    }
    return parameters + sum(of_part[part] for part in parts)


_LIBRARY: Final = {"transformers_version": "4.51.0", "torch_dtype": "bfloat16", "use_cache": True, "bos_token_id": 1}
_SILU: Final = {"hidden_act": "silu", "initializer_range": 0.02, "rms_norm_eps": 1e-6, "rope_theta": 1e6}

_MIXTRAL: Final = {
    "model_type": "mixtral",
    "architectures": ["MixtralForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "vocab_size": 32000,
    "router_aux_loss_coef": 0.02,
    **_SILU,
    **_LIBRARY,
}

_QWEN2_MOE: Final = {
    "model_type": "qwen2_moe",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "moe_intermediate_size": 2560,
    "shared_expert_intermediate_size": 20480,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "num_experts": 64,
    "num_experts_per_tok": 8,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "norm_topk_prob": False,
    "use_sliding_window": False,
    "sliding_window": 65536,
    "max_window_layers": 28,
    "tie_word_embeddings": False,
    "vocab_size": 151936,
    **_SILU,
    **_LIBRARY,
}

_QWEN3_MOE: Final = {
    "model_type": "qwen3_moe",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "decoder_sparse_step": 1,
    "head_dim": 128,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "max_window_layers": 94,
    "mlp_only_layers": [],
    "moe_intermediate_size": 1536,
    "norm_topk_prob": True,
    "num_attention_heads": 64,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 94,
    "num_key_value_heads": 4,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    "vocab_size": 151936,
    **_SILU,
    **_LIBRARY,
}

_QWEN3_NEXT: Final = {
    "model_type": "qwen3_next",
    "attention_bias": False,
    "decoder_sparse_step": 1,
    "full_attention_interval": 4,
    "head_dim": 256,
    "hidden_size": 2048,
    "intermediate_size": 5120,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "linear_value_head_dim": 128,
    "mlp_only_layers": [],
    "moe_intermediate_size": 512,
    "num_attention_heads": 16,
    "num_experts": 512,
    "num_experts_per_tok": 10,
    "num_hidden_layers": 48,
    "num_key_value_heads": 2,
    "partial_rotary_factor": 0.25,
    "rope_scaling": None,
    "shared_expert_intermediate_size": 512,
    "tie_word_embeddings": False,
    "vocab_size": 151936,
    **_SILU,
    **_LIBRARY,
}

_QWEN3_5_MOE: Final = {
    "model_type": "qwen3_5_moe",
    "architectures": ["Qwen3_5MoeForConditionalGeneration"],
    "image_token_id": 248056,
    "text_config": {
        "model_type": "qwen3_5_moe_text",
        "attention_bias": False,
        "attn_output_gate": True,
        "dtype": "bfloat16",
        "full_attention_interval": 4,
        "head_dim": 256,
        "hidden_size": 4096,
        "layer_types": [*["linear_attention"] * 3, "full_attention"] * 15,
        "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 128,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 64,
        "linear_value_head_dim": 128,
        "mamba_ssm_dtype": "float32",
        "mlp_only_layers": [],
        "moe_intermediate_size": 1024,
        "mtp_num_hidden_layers": 1,
        "mtp_use_dedicated_embeddings": False,
        "num_attention_heads": 32,
        "num_experts": 512,
        "num_experts_per_tok": 10,
        "num_hidden_layers": 60,
        "num_key_value_heads": 2,
        "shared_expert_intermediate_size": 1024,
        "vocab_size": 248320,
        "rope_parameters": {"rope_theta": 1e7, "partial_rotary_factor": 0.25},
        **_SILU,
    },
    "tie_word_embeddings": False,
    "transformers_version": "5.0.0",
    "vision_config": {"depth": 27, "hidden_size": 1152},
}

_QWEN3_5_DENSE: Final = {
    "model_type": "qwen3_5",
    "text_config": {
        "model_type": "qwen3_5_text",
        "attn_output_gate": True,
        "dtype": "bfloat16",
        "full_attention_interval": 4,
        "head_dim": 256,
        "hidden_size": 5120,
        "intermediate_size": 17408,
        "layer_types": [*["linear_attention"] * 3, "full_attention"] * 16,
        "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 128,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 48,
        "linear_value_head_dim": 128,
        "mlp_only_layers": [],
        "mtp_num_hidden_layers": 1,
        "num_attention_heads": 24,
        "num_hidden_layers": 64,
        "num_key_value_heads": 4,
        "vocab_size": 248320,
        **_SILU,
    },
    "tie_word_embeddings": False,
    "vision_config": {"depth": 27},
}

_DEEPSEEK_V2: Final = {
    "model_type": "deepseek_v2",
    "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV2Config"},
    "attention_bias": False,
    "aux_loss_alpha": 0.001,
    "ep_size": 1,
    "first_k_dense_replace": 1,
    "hidden_size": 5120,
    "intermediate_size": 12288,
    "kv_lora_rank": 512,
    "moe_intermediate_size": 1536,
    "moe_layer_freq": 1,
    "n_group": 8,
    "n_routed_experts": 160,
    "n_shared_experts": 2,
    "num_attention_heads": 128,
    "num_experts_per_tok": 6,
    "num_hidden_layers": 60,
    "num_key_value_heads": 128,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "scoring_func": "softmax",
    "seq_aux": True,
    "topk_group": 3,
    "topk_method": "group_limited_greedy",
    "v_head_dim": 128,
    "vocab_size": 102400,
    **_SILU,
    **_LIBRARY,
}

_DEEPSEEK_V3: Final = {
    "model_type": "deepseek_v3",
    "architectures": ["DeepseekV3ForCausalLM"],
    "attention_bias": False,
    "ep_size": 1,
    "first_k_dense_replace": 3,
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "kv_lora_rank": 512,
    "moe_intermediate_size": 2048,
    "moe_layer_freq": 1,
    "n_group": 8,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 61,
    "num_key_value_heads": 128,
    "num_nextn_predict_layers": 1,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]},
    "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid",
    "tie_word_embeddings": False,
    "topk_group": 4,
    "topk_method": "noaux_tc",
    "v_head_dim": 128,
    "vocab_size": 129280,
    **_SILU,
    **_LIBRARY,
}

_KIMI_K2: Final = {
    **_DEEPSEEK_V3,
    "model_type": "kimi_k2",
    "first_k_dense_replace": 1,
    "n_group": 1,
    "n_routed_experts": 384,
    "num_attention_heads": 64,
    "num_key_value_heads": 64,
    "num_nextn_predict_layers": 0,
    "topk_group": 1,
    "vocab_size": 163840,
}

_GLM_4_5: Final = {
    "model_type": "glm4_moe",
    "attention_bias": True,
    "first_k_dense_replace": 3,
    "head_dim": 128,
    "hidden_size": 5120,
    "intermediate_size": 12288,
    "moe_intermediate_size": 1536,
    "n_group": 1,
    "n_routed_experts": 160,
    "n_shared_experts": 1,
    "num_attention_heads": 96,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 92,
    "num_key_value_heads": 8,
    "num_nextn_predict_layers": 1,
    "partial_rotary_factor": 0.5,
    "routed_scaling_factor": 2.5,
    "tie_word_embeddings": False,
    "topk_group": 1,
    "use_qk_norm": True,
    "vocab_size": 151552,
    **_SILU,
    **_LIBRARY,
}

_GPT_OSS_120B: Final = {
    "model_type": "gpt_oss",
    "attention_bias": True,
    "attention_dropout": 0.0,
    "experts_per_token": 4,
    "head_dim": 64,
    "hidden_size": 2880,
    "initial_context_length": 4096,
    "intermediate_size": 2880,
    "layer_types": ["sliding_attention", "full_attention"] * 18,
    "num_attention_heads": 64,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "num_local_experts": 128,
    "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]},
    "sliding_window": 128,
    "swiglu_limit": 7.0,
    "tie_word_embeddings": False,
    "vocab_size": 201088,
    **_SILU,
    **_LIBRARY,
}

_GPT_OSS_20B: Final = {
    **_GPT_OSS_120B,
    "layer_types": ["sliding_attention", "full_attention"] * 12,
    "num_hidden_layers": 24,
    "num_local_experts": 32,
}

_LLAMA_3_70B: Final = {
    "model_type": "llama",
    "attention_bias": False,
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "max_position_embeddings": 8192,
    "num_attention_heads": 64,
    "num_hidden_layers": 80,
    "num_key_value_heads": 8,
    "pretraining_tp": 1,
    "tie_word_embeddings": False,
    "vocab_size": 128256,
    **_SILU,
    **_LIBRARY,
}

_LLAMA_4_SCOUT: Final = {
    "model_type": "llama4",
    "architectures": ["Llama4ForConditionalGeneration"],
    "boi_token_index": 200080,
    "image_token_index": 200092,
    "text_config": {
        "model_type": "llama4_text",
        "attention_bias": False,
        "attention_chunk_size": 8192,
        "attn_temperature_tuning": 4,
        "cache_implementation": "hybrid",
        "for_llm_compressor": False,
        "head_dim": 128,
        "hidden_size": 5120,
        "interleave_moe_layer_step": 1,
        "intermediate_size": 8192,
        "intermediate_size_mlp": 16384,
        "moe_layers": [*range(48)],
        "no_rope_layers": [1, 1, 1, 0] * 12,
        "num_attention_heads": 40,
        "num_experts_per_tok": 1,
        "num_hidden_layers": 48,
        "num_key_value_heads": 8,
        "num_local_experts": 16,
        "use_qk_norm": True,
        "vocab_size": 202048,
        **_SILU,
        **_LIBRARY,
    },
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vision_config": {"hidden_size": 1408, "num_hidden_layers": 34},
}

_LLAMA_4_MAVERICK: Final = {
    **_LLAMA_4_SCOUT,
    "text_config": {
        **_LLAMA_4_SCOUT["text_config"],  # type: ignore[dict-item]  # one dict for all kinds of values
        "interleave_moe_layer_step": 2,
        "moe_layers": [*range(1, 48, 2)],
        "no_rope_layers": [],
        "num_local_experts": 128,
    },
}

_MINIMAX_M2: Final = {
    "model_type": "minimax_m2",
    "attn_type_list": [1] * 62,
    "head_dim": 128,
    "hidden_size": 3072,
    "intermediate_size": 1536,
    "mtp_transformer_layers": 1,
    "num_attention_heads": 48,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 62,
    "num_key_value_heads": 8,
    "num_local_experts": 256,
    "num_mtp_modules": 3,
    "qk_norm_type": "per_layer",
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    "rotary_dim": 64,
    "scoring_func": "sigmoid",
    "shared_intermediate_size": 0,
    "tie_word_embeddings": False,
    "use_mtp": True,
    "use_qk_norm": True,
    "use_routing_bias": True,
    "vocab_size": 200064,
    **_SILU,
    **_LIBRARY,
}

_NEMOTRON_H_8B: Final = {
    "model_type": "nemotron_h",
    "attention_bias": False,
    "attention_head_dim": 128,
    "chunk_size": 128,
    "conv_kernel": 4,
    "expand": 2,
    "hidden_size": 4096,
    "hybrid_override_pattern": "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-",
    "intermediate_size": 21504,
    "mamba_head_dim": 64,
    "mamba_hidden_act": "silu",
    "mamba_num_heads": 128,
    "mlp_hidden_act": "relu2",
    "n_groups": 8,
    "num_attention_heads": 32,
    "num_hidden_layers": 52,
    "num_key_value_heads": 8,
    "num_logits_to_keep": 1,
    "residual_in_fp32": False,
    "sliding_window": None,
    "ssm_state_size": 128,
    "tie_word_embeddings": False,
    "time_step_limit": [0.0, float("inf")],
    "use_mamba_kernels": True,
    "vocab_size": 131072,
    **_LIBRARY,
}

_NEMOTRON_3_NANO: Final = {
    "model_type": "nemotron_h",
    "chunk_size": 128,
    "conv_kernel": 4,
    "expand": 2,
    "head_dim": 128,
    "hidden_size": 2688,
    "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
    "intermediate_size": 1856,
    "mamba_head_dim": 64,
    "mamba_num_heads": 64,
    "mamba_ssm_cache_dtype": "float32",
    "mlp_hidden_act": "relu2",
    "moe_intermediate_size": 1856,
    "moe_shared_expert_intermediate_size": 3712,
    "n_group": 1,
    "n_groups": 8,
    "n_routed_experts": 128,
    "n_shared_experts": 1,
    "num_attention_heads": 32,
    "num_experts_per_tok": 6,
    "num_hidden_layers": 52,
    "num_key_value_heads": 2,
    "ssm_state_size": 128,
    "tie_word_embeddings": False,
    "topk_group": 1,
    "vocab_size": 131072,
    **_LIBRARY,
}

_GPT2_XL: Final = {
    "model_type": "gpt2",
    "activation_function": "gelu_new",
    "attn_pdrop": 0.1,
    "embd_pdrop": 0.1,
    "resid_pdrop": 0.1,
    "layer_norm_epsilon": 1e-5,
    "n_ctx": 1024,
    "n_embd": 1600,
    "n_head": 25,
    "n_layer": 48,
    "n_positions": 1024,
    "summary_type": "cls_index",
    "vocab_size": 50257,
}

_EMBEDDING: Final = ("whole embedding",)

CONFIGS: Final[dict[str, Published]] = {
    "mixtral-8x7b": Published(_MIXTRAL, "46.7", "12.9", "Mistral AI, Mixtral of experts, 2023", (), _EMBEDDING),
    "qwen2-57b-a14b": Published(_QWEN2_MOE, "57.4", "14.2", "Qwen2 technical report, model card", (), _EMBEDDING),
    "qwen3-235b-a22b": Published(_QWEN3_MOE, "235", "22", "Qwen3 technical report, table 2", (), _EMBEDDING),
    "qwen3-next-80b-a3b": Published(_QWEN3_NEXT, "80", "3", "model card", (), ("no head",)),
    "qwen3.5-397b-a17b": Published(_QWEN3_5_MOE, "397", "17", "model card", (), _EMBEDDING),
    "qwen3.5-27b": Published(_QWEN3_5_DENSE, "27", "27", "model card", (), _EMBEDDING),
    "deepseek-v2": Published(_DEEPSEEK_V2, "236", "21", "DeepSeek-V2 technical report, section 3.1.2"),
    "deepseek-v3": Published(_DEEPSEEK_V3, "671", "36.6", "DeepSeek-V3 repository, README_WEIGHTS.md"),
    # The technical report says 1.04 T and 32.6 B, 1.3 % and 2.9 % more than the shapes of the config give.
    "kimi-k2": Published(_KIMI_K2, "1.0E+3", "32", "Kimi-K2 model card: 1 T, 32 B"),
    "glm-4.5": Published(
        _GLM_4_5,
        "355",
        "32",
        "GLM-4.5 technical report, table 1: MTP counts, embedding and head do not",
        ("MTP", "no embedding", "no head"),
        ("no head",),
    ),
    "gpt-oss-120b": Published(_GPT_OSS_120B, "116.83", "5.13", "gpt-oss model card, table 1"),
    "gpt-oss-20b": Published(_GPT_OSS_20B, "20.91", "3.61", "gpt-oss model card, table 1"),
    "llama-3-70b": Published(_LLAMA_3_70B, "70.6", "70.6", "Llama 3.1 model card and checkpoint", (), _EMBEDDING),
    "llama-4-scout": Published(_LLAMA_4_SCOUT, "109", "17", "Llama 4 model card", ("vision",), _EMBEDDING),
    "llama-4-maverick": Published(_LLAMA_4_MAVERICK, "400", "17", "Llama 4 model card", ("vision",), _EMBEDDING),
    "minimax-m2": Published(_MINIMAX_M2, "229", "10", "MiniMax-M2 repository: 229 B of weights, 10 B active"),
    "nemotron-h-8b": Published(_NEMOTRON_H_8B, "8.101", "8.101", "checkpoint: 8,100,852,736", (), _EMBEDDING),
    "nemotron-3-nano": Published(_NEMOTRON_3_NANO, "31.6", "3.2", "Nemotron 3 Nano technical report, table 1"),
    "gpt2-xl": Published(_GPT2_XL, "1.558", "1.558", "GPT-2 release: 1,558 M; the head is the embedding"),
}
