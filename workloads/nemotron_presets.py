"""Nemotron-H and Nemotron 3: hybrids of Mamba-2, attention, dense FFN and experts, with their published parameters."""

from dataclasses import replace
from typing import Any, Final

from workloads.model import ModelSpec
from workloads.published import Published

__all__ = ["NEMOTRON_MODELS", "NEMOTRON_PUBLISHED"]

_MAMBA: Final[dict[str, Any]] = {
    "mamba_head_dim": 64,
    "ssm_state_size": 128,
    "n_groups": 8,
    "conv_kernel": 4,
    "chunk_size": 128,
}
"""What the Mamba-2 layers of all models have in common, or nearly all."""


def _large(ffn: int, pattern: str) -> ModelSpec:
    """Return a large Nemotron-H: a state of 256, and a letter for each layer."""
    return ModelSpec(
        layers=len(pattern),
        hidden=8192,
        heads=64,
        kv_heads=8,
        head_dim=128,
        ffn=ffn,
        hybrid_override_pattern=pattern,
        mamba_num_heads=256,
        vocab=131072,
        **(_MAMBA | {"ssm_state_size": 256}),
    )


# NVIDIA, "Nemotron 3 Super", 2026, and config.json: latent experts; MTP layers, which published counts leave out.
_NEMOTRON_3_SUPER = ModelSpec(
    layers=88,
    hidden=4096,
    heads=32,
    kv_heads=2,
    head_dim=128,
    ffn=2688,
    experts=512,
    moe_latent_size=1024,
    shared_experts=1,
    shared_expert_intermediate_size=5376,
    top_k=22,
    scoring_func="sigmoid",
    use_routing_bias=True,
    hybrid_override_pattern="MEMEMEM*EMEMEMEM*EMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEM*EMEMEMEME",
    mtp_hybrid_override_pattern="*E",
    mamba_num_heads=128,
    vocab=131072,
    **_MAMBA,
)

NEMOTRON_MODELS: Final[dict[str, ModelSpec]] = {
    # NVIDIA, "Nemotron-H", 2025, table 1, and config.json.
    "nemotron-h-8b": ModelSpec(
        layers=52,
        hidden=4096,
        heads=32,
        kv_heads=8,
        head_dim=128,
        ffn=21504,
        hybrid_override_pattern="M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-",
        mamba_num_heads=128,
        vocab=131072,
        **_MAMBA,
    ),
    "nemotron-h-47b": _large(
        30720,
        "M-M-M-M-M-M-M-M-M*-M-M-M-M-M-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-M-M---MM---M-M*-M-M-M-M-M-",
    ),
    "nemotron-h-56b": _large(
        32768,
        "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-"
        "M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-",
    ),
    # NVIDIA, "Nemotron Nano 2", 2025, and config.json.
    "nemotron-nano-9b-v2": ModelSpec(
        layers=56,
        hidden=4480,
        heads=40,
        kv_heads=8,
        head_dim=128,
        ffn=15680,
        hybrid_override_pattern="M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-",
        mamba_num_heads=128,
        vocab=131072,
        **(_MAMBA | {"mamba_head_dim": 80}),
    ),
    "nemotron-nano-12b-v2": ModelSpec(
        layers=62,
        hidden=5120,
        heads=40,
        kv_heads=8,
        head_dim=128,
        ffn=20480,
        hybrid_override_pattern="M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M-",
        mamba_num_heads=128,
        vocab=131072,
        **(_MAMBA | {"mamba_head_dim": 80}),
    ),
    # NVIDIA, "Nemotron 3 Nano", 2025, table 1, and config.json.
    "nemotron-3-nano-30b-a3b": ModelSpec(
        layers=52,
        hidden=2688,
        heads=32,
        kv_heads=2,
        head_dim=128,
        ffn=1856,
        experts=128,
        shared_experts=1,
        shared_expert_intermediate_size=3712,
        top_k=6,
        scoring_func="sigmoid",
        use_routing_bias=True,
        hybrid_override_pattern="MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
        mamba_num_heads=64,
        vocab=131072,
        **_MAMBA,
    ),
    "nemotron-3-super-120b-a12b": _NEMOTRON_3_SUPER,
    # Nemotron 3 Ultra, config.json.
    "nemotron-3-ultra-550b-a55b": replace(
        _NEMOTRON_3_SUPER,
        layers=108,
        hidden=8192,
        heads=64,
        ffn=5120,
        dense_ffn=5120,
        moe_latent_size=2048,
        shared_expert_intermediate_size=10240,
        hybrid_override_pattern="MEMEMEM*EMEMEM*EMEMEMEM*EMEMEMEM*EMEMEM*EMEMEMEM*EMEMEMEM*EMEMEM*EMEMEMEM*EMEMEMEM*"
        "EMEMEM*EMEMEMEM*EMEMEMEME",
        mamba_num_heads=256,
    ),
}
"""Model by name."""

NEMOTRON_PUBLISHED: Final[dict[str, Published]] = {
    "nemotron-h-8b": Published(total="8.10", source="checkpoint of Nemotron-H 8B"),
    "nemotron-h-47b": Published(total="47", source="Nemotron-H 47B model card"),
    "nemotron-h-56b": Published(total="56", source="Nemotron-H, 2025, section 2"),
    "nemotron-nano-9b-v2": Published(total="8.89", source="checkpoint of Nemotron Nano 9B v2"),
    "nemotron-nano-12b-v2": Published(total="12.3", source="checkpoint of Nemotron Nano 12B v2"),
    "nemotron-3-nano-30b-a3b": Published(
        total="31.6", active="3.2", source="Nemotron 3 Nano technical report, table 1"
    ),
    "nemotron-3-super-120b-a12b": Published(
        total="120.6", active="12.7", source="Nemotron 3 Super technical report", counts=("embedding",)
    ),
    "nemotron-3-ultra-550b-a55b": Published(total="550", active="55", source="Nemotron 3 Ultra model card"),
}
"""Published parameters by name of the model."""
