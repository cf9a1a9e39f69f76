"""Dense models of Llama 2, Llama 3.2, Qwen2.5 and Qwen3, with their published parameters.

Biases of Qwen2.5's queries, keys and values are left out, as all biases are.
"""

from typing import Final

from workloads.model import ModelSpec
from workloads.published import Published

__all__ = ["DENSE_MODELS", "DENSE_PUBLISHED"]


def _qwen3(layers: int, hidden: int, heads: int, ffn: int, *, tied: bool = False) -> ModelSpec:
    """Return a dense Qwen3: 8 KV heads, heads of 128."""
    return ModelSpec(
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=8,
        head_dim=128,
        ffn=ffn,
        gated=True,
        vocab=151936,
        tie_word_embeddings=tied,
    )


def _llama(layers: int, hidden: int, heads: tuple[int, int], ffn: int, vocab: int, *, tied: bool = False) -> ModelSpec:
    """Return a model of Llama's kind, of so many query heads and KV heads."""
    return ModelSpec(
        layers=layers,
        hidden=hidden,
        heads=heads[0],
        kv_heads=heads[1],
        ffn=ffn,
        gated=True,
        vocab=vocab,
        tie_word_embeddings=tied,
    )


DENSE_MODELS: Final[dict[str, ModelSpec]] = {
    # Touvron et al., "Llama 2", 2023, table 1, and config.json.
    "llama2-7b": _llama(32, 4096, (32, 32), 11008, 32000),
    "llama2-13b": _llama(40, 5120, (40, 40), 13824, 32000),
    "llama2-70b": _llama(80, 8192, (64, 8), 28672, 32000),
    # Llama 3.2, config.json.
    "llama3.2-1b": _llama(16, 2048, (32, 8), 8192, 128256, tied=True),
    "llama3.2-3b": _llama(28, 3072, (24, 8), 8192, 128256, tied=True),
    # Qwen2.5 technical report, 2024, table 1, and config.json.
    "qwen2.5-0.5b": _llama(24, 896, (14, 2), 4864, 151936, tied=True),
    "qwen2.5-1.5b": _llama(28, 1536, (12, 2), 8960, 151936, tied=True),
    "qwen2.5-7b": _llama(28, 3584, (28, 4), 18944, 152064),
    "qwen2.5-14b": _llama(48, 5120, (40, 8), 13824, 152064),
    "qwen2.5-32b": _llama(64, 5120, (40, 8), 27648, 152064),
    "qwen2.5-72b": _llama(80, 8192, (64, 8), 29568, 152064),
    # Qwen3 technical report, 2025, table 1, and config.json.
    "qwen3-0.6b": _qwen3(28, 1024, 16, 3072, tied=True),
    "qwen3-1.7b": _qwen3(28, 2048, 16, 6144, tied=True),
    "qwen3-4b": _qwen3(36, 2560, 32, 9728, tied=True),
    "qwen3-8b": _qwen3(36, 4096, 32, 12288),
    "qwen3-14b": _qwen3(40, 5120, 40, 17408),
    "qwen3-32b": _qwen3(64, 5120, 64, 25600),
}
"""Model by name."""

DENSE_PUBLISHED: Final[dict[str, Published]] = {
    "llama2-7b": Published(total="6.74", source="checkpoint of Llama 2 7B"),
    "llama2-13b": Published(total="13.0", source="checkpoint of Llama 2 13B"),
    "llama2-70b": Published(total="69.0", source="checkpoint of Llama 2 70B"),
    "llama3.2-1b": Published(total="1.23", source="Llama 3.2 model card"),
    "llama3.2-3b": Published(total="3.21", source="Llama 3.2 model card"),
    "qwen2.5-0.5b": Published(total="0.49", source="Qwen2.5-0.5B model card"),
    "qwen2.5-1.5b": Published(total="1.54", source="Qwen2.5-1.5B model card"),
    "qwen2.5-7b": Published(total="7.61", source="Qwen2.5-7B model card"),
    "qwen2.5-14b": Published(total="14.7", source="Qwen2.5-14B model card"),
    "qwen2.5-32b": Published(total="32.8", source="checkpoint of Qwen2.5 32B"),
    "qwen2.5-72b": Published(total="72.7", source="Qwen2.5-72B model card"),
    "qwen3-0.6b": Published(total="0.6", source="Qwen3-0.6B model card"),
    "qwen3-1.7b": Published(total="1.7", source="Qwen3-1.7B model card"),
    "qwen3-4b": Published(total="4.0", source="Qwen3-4B model card"),
    "qwen3-8b": Published(total="8.2", source="Qwen3-8B model card"),
    "qwen3-14b": Published(total="14.8", source="Qwen3-14B model card"),
    "qwen3-32b": Published(total="32.8", source="Qwen3-32B model card"),
}
"""Published parameters by name of the model."""
