"""What the fields of `model:` that have a name of our own are called in Hugging Face's configs.

All other fields are named as there.
"""

from collections.abc import Collection, Mapping
from typing import Final

__all__ = ["OUR_NAMES", "our_name"]

OUR_NAMES: Final[Mapping[str, str]] = {
    "num_hidden_layers": "layers",
    "n_layer": "layers",
    "hidden_size": "hidden",
    "n_embd": "hidden",
    "d_model": "hidden",
    "num_attention_heads": "heads",
    "n_head": "heads",
    "num_key_value_heads": "kv_heads",
    "attention_head_dim": "head_dim",
    "intermediate_size": "ffn",
    "n_inner": "ffn",
    "moe_intermediate_size": "ffn",
    "intermediate_size_mlp": "dense_ffn",
    "num_experts": "experts",
    "n_routed_experts": "experts",
    "num_local_experts": "experts",
    "num_experts_per_tok": "top_k",
    "experts_per_token": "top_k",
    "n_shared_experts": "shared_experts",
    "moe_shared_expert_intermediate_size": "shared_expert_intermediate_size",
    "first_k_dense_replace": "dense_layers",
    "decoder_sparse_step": "moe_every",
    "interleave_moe_layer_step": "moe_every",
    "vocab_size": "vocab",
    "torch_dtype": "dtype",
    "num_mtp_layers": "num_nextn_predict_layers",
    "mtp_num_hidden_layers": "num_nextn_predict_layers",
}
"""Key of Hugging Face's configs -> our field."""


def our_name(key: str, keys: Collection[str]) -> str | None:
    """Return moesim's name of a key of Hugging Face's, next to other `keys` of the model; None for an unknown key.

    >>> our_name("intermediate_size", ["intermediate_size"]), our_name("intermediate_size", ["moe_intermediate_size"])
    ('ffn', 'dense_ffn')
    """
    if key == "intermediate_size" and "moe_intermediate_size" in keys:
        return "dense_ffn"
    return OUR_NAMES.get(key)
