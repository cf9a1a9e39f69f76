"""Named models, each with the document that gives its shape."""

from sim.errors import InvalidValueError, did_you_mean
from workloads.model import ModelSpec

__all__ = ["MODELS", "get_model"]

MODELS: dict[str, ModelSpec] = {
    # Korthikanti et al. 2022 (arXiv 2205.05198), table 3; vocabulary 51,200.
    "gpt-22b": ModelSpec(layers=48, hidden=6144, heads=64, ffn=24576, vocab=51200),
    "gpt-175b": ModelSpec(layers=96, hidden=12288, heads=96, ffn=49152, vocab=51200),
    # Llama 3 model card and config.json, 70B.
    "llama3-70b": ModelSpec(
        layers=80,
        hidden=8192,
        heads=64,
        kv_heads=8,
        ffn=28672,
        gated=True,
        vocab=128256,
    ),
    # Jiang et al., "Mixtral of experts", 2024, table 1.
    "mixtral-8x7b": ModelSpec(
        layers=32,
        hidden=4096,
        heads=32,
        kv_heads=8,
        ffn=14336,
        gated=True,
        experts=8,
        top_k=2,
        vocab=32000,
    ),
    # Qwen3 technical report, 2025, table 2, and the model's config.json.
    "qwen3-30b-a3b": ModelSpec(
        layers=48,
        hidden=2048,
        heads=32,
        kv_heads=4,
        head_dim=128,
        ffn=768,
        dense_ffn=6144,
        gated=True,
        experts=128,
        top_k=8,
        vocab=151936,
    ),
    # gpt-oss model card, OpenAI 2025, and config.json, 120B.
    "gpt-oss-120b": ModelSpec(
        layers=36,
        hidden=2880,
        heads=64,
        kv_heads=8,
        head_dim=64,
        ffn=2880,
        gated=True,
        experts=128,
        top_k=4,
        vocab=201088,
    ),
}
"""Model by name."""


def get_model(name: str) -> ModelSpec:
    """Return the model called `name`, or refuse it with the nearest name.

    >>> round(get_model("mixtral-8x7b").num_params / 1e9, 1)
    46.7
    """
    if name in MODELS:
        return MODELS[name]
    hint = f"{did_you_mean(name, MODELS)} `moesim list models` shows all."
    raise InvalidValueError(field="model.preset", rule="name a known model", value=name, hint=hint)
