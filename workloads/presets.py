"""Named models, each with the document that gives its shape, and with its published number of parameters.

Dense models of Llama 2 and 3.2 and of Qwen are in `workloads.dense_presets`, Nemotron in `workloads.nemotron_presets`.
"""

from dataclasses import replace

from sim.errors import InvalidValueError, did_you_mean
from workloads.dense_presets import DENSE_MODELS, DENSE_PUBLISHED
from workloads.model import ModelSpec
from workloads.nemotron_presets import NEMOTRON_MODELS, NEMOTRON_PUBLISHED
from workloads.published import COUNTED_OTHERWISE, Published

__all__ = ["COUNTED_OTHERWISE", "MODELS", "PUBLISHED", "Published", "get_model"]


_DEEPSEEK_V3 = ModelSpec(
    layers=61,
    hidden=7168,
    heads=128,
    ffn=2048,
    dense_ffn=18432,
    gated=True,
    experts=256,
    shared_experts=1,
    top_k=8,
    dense_layers=3,
    vocab=129280,
    q_lora_rank=1536,
    kv_lora_rank=512,
    qk_nope_head_dim=128,
    qk_rope_head_dim=64,
    v_head_dim=128,
    scoring_func="sigmoid",
    use_routing_bias=True,
    num_nextn_predict_layers=1,
)
_DEEPSEEK_V2_LITE = ModelSpec(
    layers=27,
    hidden=2048,
    heads=16,
    ffn=1408,
    dense_ffn=10944,
    gated=True,
    experts=64,
    shared_experts=2,
    top_k=6,
    dense_layers=1,
    vocab=102400,
    kv_lora_rank=512,
    qk_nope_head_dim=128,
    qk_rope_head_dim=64,
    v_head_dim=128,
)
_GPT_OSS_120B = ModelSpec(
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
)
_LLAMA_4_SCOUT = ModelSpec(
    layers=48,
    hidden=5120,
    heads=40,
    kv_heads=8,
    head_dim=128,
    ffn=8192,
    dense_ffn=16384,
    gated=True,
    experts=16,
    shared_experts=1,
    top_k=1,
    scoring_func="sigmoid",
    attention_chunk_size=8192,
    layer_types=("chunked_attention", "chunked_attention", "chunked_attention", "full_attention"),
    vocab=202048,
)

MODELS: dict[str, ModelSpec] = {
    # Korthikanti et al. 2022 (arXiv 2205.05198), table 3; vocabulary 51,200.
    "gpt-22b": ModelSpec(layers=48, hidden=6144, heads=64, ffn=24576, vocab=51200),
    "gpt-175b": ModelSpec(layers=96, hidden=12288, heads=96, ffn=49152, vocab=51200),
    # Brown et al., "Language models are few-shot learners", 2020, table 2.1; vocabulary of GPT-2.
    "gpt3-175b": ModelSpec(
        layers=96, hidden=12288, heads=96, ffn=49152, vocab=50257, n_positions=2048, tie_word_embeddings=True
    ),
    # Llama 3 model card and config.json.
    "llama3-8b": ModelSpec(layers=32, hidden=4096, heads=32, kv_heads=8, ffn=14336, gated=True, vocab=128256),
    "llama3-70b": ModelSpec(
        layers=80,
        hidden=8192,
        heads=64,
        kv_heads=8,
        ffn=28672,
        gated=True,
        vocab=128256,
    ),
    "llama3-405b": ModelSpec(layers=126, hidden=16384, heads=128, kv_heads=8, ffn=53248, gated=True, vocab=128256),
    # Llama 4 model card and config.json, language model.
    "llama4-scout": _LLAMA_4_SCOUT,
    "llama4-maverick": replace(_LLAMA_4_SCOUT, experts=128, moe_every=2),
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
    # Mixtral-8x22B-v0.1, config.json.
    "mixtral-8x22b": ModelSpec(
        layers=56,
        hidden=6144,
        heads=48,
        kv_heads=8,
        ffn=16384,
        gated=True,
        experts=8,
        top_k=2,
        vocab=32768,
    ),
    # Qwen2 technical report, 2024, table 1, and config.json.
    "qwen2-57b-a14b": ModelSpec(
        layers=28,
        hidden=3584,
        heads=28,
        kv_heads=4,
        ffn=2560,
        dense_ffn=18944,
        gated=True,
        experts=64,
        shared_experts=1,
        shared_expert_intermediate_size=20480,
        shared_expert_gate=True,
        top_k=8,
        vocab=151936,
    ),
    # Qwen3 technical report, 2025, table 2, and the models' config.json.
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
    "qwen3-235b-a22b": ModelSpec(
        layers=94,
        hidden=4096,
        heads=64,
        kv_heads=4,
        head_dim=128,
        ffn=1536,
        dense_ffn=12288,
        gated=True,
        experts=128,
        top_k=8,
        vocab=151936,
    ),
    # Qwen3-Next-80B-A3B, config.json: three layers of linear attention to one of full attention.
    "qwen3-next-80b-a3b": ModelSpec(
        layers=48,
        hidden=2048,
        heads=16,
        kv_heads=2,
        head_dim=256,
        ffn=512,
        dense_ffn=5120,
        gated=True,
        experts=512,
        shared_experts=1,
        shared_expert_gate=True,
        top_k=10,
        attn_output_gate=True,
        layer_types=("linear_attention", "linear_attention", "linear_attention", "full_attention"),
        linear_num_key_heads=16,
        linear_num_value_heads=32,
        linear_key_head_dim=128,
        linear_value_head_dim=128,
        linear_conv_kernel_dim=4,
        vocab=151936,
    ),
    # DeepSeek-AI, "DeepSeek-V2", 2024, section 3.1.2. DeepSeek-AI, "DeepSeek-V3 technical report", 2024, section 4.2.
    "deepseek-v2": ModelSpec(
        layers=60,
        hidden=5120,
        heads=128,
        ffn=1536,
        dense_ffn=12288,
        gated=True,
        experts=160,
        shared_experts=2,
        top_k=6,
        dense_layers=1,
        vocab=102400,
        q_lora_rank=1536,
        kv_lora_rank=512,
        qk_nope_head_dim=128,
        qk_rope_head_dim=64,
        v_head_dim=128,
    ),
    # DeepSeek-V2-Lite, config.json: queries without a latent.
    "deepseek-v2-lite": _DEEPSEEK_V2_LITE,
    # Moonlight-16B-A3B, config.json.
    "moonlight-16b-a3b": replace(
        _DEEPSEEK_V2_LITE, dense_ffn=11264, vocab=163840, scoring_func="sigmoid", use_routing_bias=True
    ),
    # OLMoE: open mixture-of-experts language models, 2024, table 9, and config.json.
    "olmoe-7b": ModelSpec(layers=16, hidden=2048, heads=16, ffn=1024, gated=True, experts=64, top_k=8, vocab=50304),
    "deepseek-v3": _DEEPSEEK_V3,
    # Kimi K2 technical report, 2025, table 2, and config.json.
    "kimi-k2": replace(
        _DEEPSEEK_V3,
        heads=64,
        kv_heads=64,
        head_dim=112,
        experts=384,
        dense_layers=1,
        vocab=163840,
        num_nextn_predict_layers=0,
    ),
    # GLM-4.5 technical report, 2025, table 1, and config.json.
    "glm-4.5": ModelSpec(
        layers=92,
        hidden=5120,
        heads=96,
        kv_heads=8,
        head_dim=128,
        ffn=1536,
        dense_ffn=12288,
        gated=True,
        experts=160,
        shared_experts=1,
        top_k=8,
        dense_layers=3,
        vocab=151552,
        scoring_func="sigmoid",
        use_routing_bias=True,
        num_nextn_predict_layers=1,
    ),
    # gpt-oss model card, OpenAI 2025, and config.json. Windows and sinks: `gpt-oss-20b`.
    "gpt-oss-20b": replace(
        _GPT_OSS_120B, layers=24, experts=32, sliding_window=128, sliding_window_every=2, attention_sinks=True
    ),
    "gpt-oss-120b": replace(_GPT_OSS_120B, sliding_window=128, sliding_window_every=2, attention_sinks=True),
    # MiniMax-M2, config.json.
    "minimax-m2": ModelSpec(
        layers=62,
        hidden=3072,
        heads=48,
        kv_heads=8,
        head_dim=128,
        ffn=1536,
        gated=True,
        experts=256,
        top_k=8,
        scoring_func="sigmoid",
        use_routing_bias=True,
        vocab=200064,
    ),
    **NEMOTRON_MODELS,
    **DENSE_MODELS,
}
"""Model by name."""

_EMBEDDING = ("embedding",)
_LLAMA_4_VISION = 867_000_000  # 34 layers of 1,408 and 5,632, and the projections of the encoder's output

PUBLISHED: dict[str, Published] = {
    "gpt-22b": Published(total="22", source="Korthikanti et al. 2022, table 3"),
    "gpt-175b": Published(total="175", source="Korthikanti et al. 2022, table 3"),
    "gpt3-175b": Published(total="175", source="Brown et al. 2020, table 2.1"),
    "llama3-8b": Published(total="8.03", source="checkpoint of Llama 3 8B"),
    "llama3-70b": Published(total="70.6", source="checkpoint of Llama 3 70B"),
    "llama3-405b": Published(total="405", source="Llama 3 model card"),
    "llama4-scout": Published(
        total="109", active="17", source="Llama 4 model card", counts=_EMBEDDING, vision_params=_LLAMA_4_VISION
    ),
    "llama4-maverick": Published(
        total="400", active="17", source="Llama 4 model card", counts=_EMBEDDING, vision_params=_LLAMA_4_VISION
    ),
    "mixtral-8x7b": Published(total="46.7", active="12.9", source="Mistral AI, Mixtral of experts", counts=_EMBEDDING),
    "mixtral-8x22b": Published(total="141", active="39", source="Mistral AI, Mixtral 8x22B", counts=_EMBEDDING),
    "qwen2-57b-a14b": Published(
        total="57.4", active="14.2", source="Qwen2 technical report, model card", counts=_EMBEDDING
    ),
    "qwen3-30b-a3b": Published(total="30.5", active="3.3", source="Qwen3-30B-A3B model card", counts=_EMBEDDING),
    "qwen3-235b-a22b": Published(total="235", active="22", source="Qwen3 technical report, table 2", counts=_EMBEDDING),
    "qwen3-next-80b-a3b": Published(total="80", active="3", source="Qwen3-Next model card", counts=("no head",)),
    "deepseek-v2": Published(total="236", active="21", source="DeepSeek-V2 technical report, section 3.1.2"),
    "deepseek-v3": Published(total="671", active="37", source="DeepSeek-V3 technical report, section 4.2"),
    "kimi-k2": Published(total="1.0E+3", active="32", source="Kimi-K2 model card: 1 T, 32 B"),
    "glm-4.5": Published(
        total="355",
        active="32",
        source="GLM-4.5 technical report, table 1",
        counts=("MTP without embedding and head",),
    ),
    "deepseek-v2-lite": Published(total="15.7", active="2.4", source="DeepSeek-V2-Lite model card"),
    "moonlight-16b-a3b": Published(total="16", source="Moonlight-16B-A3B model card"),
    "olmoe-7b": Published(total="6.9", active="1.3", source="OLMoE, 2024, abstract", counts=_EMBEDDING),
    "gpt-oss-20b": Published(total="20.91", active="3.61", source="gpt-oss model card, table 1"),
    "gpt-oss-120b": Published(total="116.83", active="5.13", source="gpt-oss model card, table 1"),
    "minimax-m2": Published(total="229", active="10", source="MiniMax-M2 repository"),
    **NEMOTRON_PUBLISHED,
    **DENSE_PUBLISHED,
}
"""Published parameters by name of the model."""


def get_model(name: str) -> ModelSpec:
    """Return the model called `name`, or refuse it with the nearest name.

    >>> round(get_model("mixtral-8x7b").num_params / 1e9, 1)
    46.7
    """
    if name in MODELS:
        return MODELS[name]
    hint = f"{did_you_mean(name, MODELS)} `moesim list models` shows all."
    raise InvalidValueError(field="model.preset", rule="name a known model", value=name, hint=hint)
