"""Keys of Hugging Face's configs that change neither the time nor the memory that is modelled, by meaning.

A key that stands in none of these lists and that the architecture does not read is refused by name.
"""

from collections.abc import Mapping
from typing import Final

__all__ = ["IMMATERIAL", "NEUTRAL"]

IMMATERIAL: Final[Mapping[str, tuple[str, ...]]] = {
    "numbers of tokens with a meaning": (
        *("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "decoder_start_token_id"),
        *("image_token_id", "image_token_index", "boi_token_index", "eoi_token_index", "boi_token_id", "eoi_token_id"),
        *("video_token_id", "vision_start_token_id", "vision_end_token_id", "media_placeholder_token_id"),
        *("ignore_index", "video_placeholder", "use_unified_vision_chunk", "language_model_only", "tokenizer_class"),
    ),
    "rotary embedding and longest sequence: no parameters, one elementwise kernel": (
        *("rope_theta", "rope_scaling", "rope_parameters", "rope_interleave", "rope_ratio", "rope_local_base_freq"),
        *(
            "partial_rotary_factor",
            "rotary_dim",
            "max_position_embeddings",
            "max_model_len",
            "max_sequence_length",
            "initial_context_length",
        ),
        *("original_max_position_embeddings", "attn_temperature_tuning", "attn_scale", "floor_scale", "swa_rope_theta"),
        *(
            "seq_length",
            "use_mrope",
            "scale_attn_weights",
            "scale_attn_by_inverse_layer_idx",
            "reorder_and_upcast_attn",
        ),
    ),
    "norms: their constants, and those of queries and keys, of a few values for each head": (
        *("rms_norm_eps", "norm_eps", "layer_norm_epsilon", "layer_norm_eps", "use_qk_norm", "qk_norm_type"),
        *("layernorm_full_attention_beta", "layernorm_linear_attention_beta", "layernorm_mlp_beta"),
        *("residual_in_fp32", "rescale_prenorm_residual"),
    ),
    "biases: a vector for each matrix, under 0.1 % of the parameters": (
        *("attention_bias", "qkv_bias", "mlp_bias", "use_bias", "use_conv_bias", "mamba_proj_bias", "add_bias_linear"),
    ),
    "activation functions: elementwise, whichever they are": (
        *("hidden_act", "hidden_activation", "activation_function", "mlp_hidden_act", "mamba_hidden_act"),
        *("swiglu_alpha", "swiglu_limit", "output_gate_type"),
    ),
    "initial values": (
        *("initializer_range", "initializer_factor", "time_step_min", "time_step_max", "time_step_floor"),
        *("time_step_limit", "time_step_rank"),
    ),
    "weights of experts and losses of the router; which experts are chosen is said by `routing`": (
        *("router_aux_loss_coef", "aux_loss_alpha", "seq_aux", "norm_topk_prob", "routed_scaling_factor"),
        *("router_jitter_noise", "output_router_logits", "router_z_loss_coef", "use_grouped_topk", "shared_moe_mode"),
        *("moe_shared_expert_overlap",),
    ),
    "types of states that a kernel keeps to itself": ("mamba_ssm_dtype", "mamba_ssm_cache_dtype"),
    "how text is generated, which older versions of the library write into every config": (
        *("max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups", "temperature"),
        *("diversity_penalty", "top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty", "bad_words_ids"),
        *("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "num_return_sequences", "output_scores"),
        *("return_dict_in_generate", "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values"),
        *("exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens", "tf_legacy_loss"),
    ),
    "the library and its use": (
        *("architectures", "auto_map", "transformers_version", "_name_or_path", "name_or_path", "_attn_implementation"),
        *("_attn_implementation_autoset", "attn_implementation", "use_cache", "cache_implementation", "torchscript"),
        *("return_dict", "output_attentions", "output_hidden_states", "use_return_dict", "for_llm_compressor"),
        *(
            "id2label",
            "label2id",
            "problem_type",
            "task_specific_params",
            "finetuning_task",
            "num_labels",
            "is_decoder",
        ),
        *("use_mamba_kernels", "num_logits_to_keep", "ep_size", "pretraining_tp", "use_bfloat16", "unsloth_fixed"),
        *("unsloth_version", "keys_to_ignore_at_inference", "gradient_checkpointing", "prefix", "use_flash_attention"),
        *("output_past", "_commit_hash", "predict_special_tokens"),
        *("summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels", "summary_first_dropout"),
    ),
}
"""Meaning -> keys."""

NEUTRAL: Final[Mapping[str, tuple[object, ...]]] = {
    "is_encoder_decoder": (False,),
    "tie_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "cross_attention_hidden_size": (None,),
    "n_special": (0,),
    "chunk_size_feed_forward": (0,),
    "pruned_heads": ({}, None),
    "moe_layer_freq": (1,),
    "moe_latent_size": (None,),
    "mtp_use_dedicated_embeddings": (False,),
    "use_mamba": (True,),
    "attn_window_size": (None,),
    "num_expert_group": (None, 0, 1),
    "embedding_multiplier": (None, 1, 1.0),
}
"""Key that would shape the model -> its values at which it does not."""
