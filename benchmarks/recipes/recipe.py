"""A tuned recipe: model, GPUs, mesh and switches, with what was assumed where the table is silent."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from workloads.presets import MODELS

__all__ = ["CLUSTERS_OF", "FP8_RECIPES", "Recipe", "RefusedError", "cluster_of", "model_of", "precision_of"]

CLUSTERS_OF: Final = {
    "a100": "dgx-a100",
    "h100": "dgx-h100",
    "h200": "dgx-h200",
    "h800": "h800",
    "h20": "hgx-h20",
    "b200": "dgx-b200",
    "b300": "hgx-b300",
    "gb200": "gb200-nvl72",
    "gb300": "gb300-nvl72",
    "vr200": "vr200-nvl144",
    "mi300x": "mi300x",
    "mi325x": "mi325x",
    "mi355x": "mi355x",
}
"""Cluster preset by the name of a GPU in the tables."""
ALIASES: Final = {
    "llama31-8b": "llama3-8b",  # the shape of Llama 3.1 is that of Llama 3
    "llama31-70b": "llama3-70b",
    "llama31-405b": "llama3-405b",
    "llama3-1-405b": "llama3-405b",
    "nemotron-3-nano": "nemotron-3-nano-30b-a3b",
    "nemotron-3-5-lightning": "nemotron-3-nano-30b-a3b",  # its base recipe is that of Nemotron 3 Nano, with MTP
    "nemotron-3-super": "nemotron-3-super-120b-a12b",
    "nemotron-3-ultra": "nemotron-3-ultra-550b-a55b",
    "nemotronh-8b": "nemotron-h-8b",
    "nemotronh-47b": "nemotron-h-47b",
    "nemotronh-56b": "nemotron-h-56b",
    "glm45-355b": "glm-4.5",
    "llama32-1b": "llama3.2-1b",
    "llama32-3b": "llama3.2-3b",
    "qwen3-600m": "qwen3-0.6b",
    "qwen3-1p7b": "qwen3-1.7b",
    "qwen3-next": "qwen3-next-80b-a3b",
    "moonlight-16b": "moonlight-16b-a3b",
}
"""Preset by a recipe's name of a model, where the two differ by more than the signs between words."""
OTHER_KINDS: Final = {
    "vl": "vision",
    "omni": "vision",
    "gemma3n": "vision",
    "wan": "vision (a diffusion model of videos)",
    "flux": "vision (a diffusion model of pictures)",
    "audio": "audio",
}
"""What a model is besides a language model, by a word of its name."""
FP8_RECIPES: Final = {
    "cs": "tensorwise",  # current scaling
    "mx": "mxfp8",
    "sc": "blockwise",  # sub-channel scaling
    "ds": "tensorwise",  # delayed scaling: a factor of each tensor, of earlier steps
}
"""`runtime.fp8_recipe` by the letters after fp8 in the tables."""


class RefusedError(Exception):
    """A row that is not counted, with the cause; `detail` says more than the cause by which rows are grouped."""

    def __init__(self, cause: str, detail: str = "") -> None:
        super().__init__(f"{cause}: {detail}" if detail else cause)
        self.cause = cause


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One tuned recipe, all blank cells filled in."""

    name: str
    """Model, GPU, number of GPUs and precision, as the table writes them."""
    model: str
    """Name of a preset."""
    gpu: str
    """Name of the GPU in the table."""
    num_gpus: int
    fp8_recipe: str | None
    """One of `FP8_RECIPES`; None: bf16."""
    tp: int = 1
    pp: int = 1
    cp: int = 1
    vpp: int = 1
    ep: int = 1
    etp: int = 1
    sp: bool = False
    sequences: int
    """Sequences of the global batch."""
    mbs: int = 1
    """Sequences of a microbatch of a replica."""
    sequence_length: int
    layout: str | None = None
    """Megatron's layout string."""
    split: str = "even"
    """How layers are split without a layout: `even`, or `with_ends` (embedding and loss count as a layer each)."""
    recompute: str | tuple[str, ...] = "none"
    """`none`, `full`, or the modules that are recomputed."""
    recompute_layers: int | None = None
    """Layers of a stage that full recomputation is of; None: all."""
    gradients: str = "fp32"
    moments: str = "fp32"
    mtp: int | None = None
    """Layers that predict further tokens; None: as the model has."""
    fsdp: str = "none"
    """none, full or hybrid."""
    offload_layers: int = 0
    """Layers of which activations are kept on the host."""
    runtime: Mapping[str, Any] = field(default_factory=dict)
    """Keys of the scenario's `runtime`."""
    assumed: Mapping[str, str] = field(default_factory=dict)
    """Field of this recipe -> why the value is assumed."""
    published: Mapping[str, float] = field(default_factory=dict)
    """Measured `tokens_per_s_per_gpu` and `model_flops_per_s_per_gpu`, where the table has them."""


def model_of(name: str) -> str:
    """Return the preset of a model's name in the tables.

    >>> model_of("deepseek_v3"), model_of("GPT OSS 120B"), model_of("nemotronh_56b")
    ('deepseek-v3', 'gpt-oss-120b', 'nemotron-h-56b')

    Raises
    ------
    RefusedError
        The model is none of language alone, or no preset has its shape.
    """
    key = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    for word in key.split("-"):
        if word in OTHER_KINDS:
            raise RefusedError(OTHER_KINDS[word], f"{name} is no model of language alone")
    known = {re.sub(r"[^a-z0-9]+", "", preset): preset for preset in MODELS}
    preset = ALIASES.get(key, known.get(key.replace("-", "")))
    if preset not in MODELS:
        raise RefusedError("model without a preset", f"{name} is none of `moesim list models`")
    return preset


def cluster_of(gpu: str) -> tuple[str, str]:
    """Return the name of a GPU in `CLUSTERS_OF`, and its cluster.

    >>> cluster_of("DGX-GB200")
    ('gb200', 'gb200-nvl72')
    """
    key = re.sub(r"^(dgx|hgx)", "", re.sub(r"[^a-z0-9]+", "", gpu.lower()))
    if key not in CLUSTERS_OF:
        raise RefusedError("GPU without a preset", f"{gpu} is none of {', '.join(CLUSTERS_OF)}")
    return key, CLUSTERS_OF[key]


def precision_of(text: str) -> str | None:
    """Return the fp8 recipe of a precision in the tables, None for bf16.

    >>> precision_of("bf16_dev"), precision_of("FP8-MX"), precision_of("fp8cs_large_scale")
    (None, 'mxfp8', 'tensorwise')
    """
    words = re.findall(r"[a-z0-9]+", text.lower())
    joined = "".join(words)
    if "fp4" in joined:
        raise RefusedError("NVFP4", f"precision {text}: only 1 and 2 bytes are modelled")
    if "lora" in joined or "peft" in joined:
        raise RefusedError("LoRA", f"precision {text} trains adapters")
    if "bf16" in joined and "fp8" not in joined:
        return None
    letters = re.search(r"fp8(cs|mx|sc|ds)?", joined.replace("mxfp8", "fp8mx"))
    if letters is None:
        raise RefusedError("precision is not known", text or "blank")
    return FP8_RECIPES[letters[1] or "cs"]
