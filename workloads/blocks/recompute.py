"""What a backward pass recomputes, named as Megatron-LM does in `--recompute-modules`.

Model
-----
    none        nothing
    full        the whole layer, from its input; of the first so many layers of each model chunk, or of all
    selective   some modules, each from its own input::

        core_attn       scores (nothing where attention is fused: fused attention never keeps scores)
        layernorm       outputs of the norms: inputs of attention and FFN, unless the whole FFN is recomputed
        mlp             inside of a dense FFN
        moe             copies of tokens, inside of experts
        moe_act         activation of experts, recomputed from the up projection
        shared_experts  inside of shared experts
        mla_up_proj     queries, keys and values of latent attention, recomputed from the latents

References
----------
Korthikanti et al., "Reducing activation recomputation in large transformer models", 2022, section 5. Megatron-LM,
`--recompute-method block` with `--recompute-num-layers`.
"""

from dataclasses import dataclass, replace
from typing import Final

from sim.errors import InvalidValueError

__all__ = ["RECOMPUTE_KINDS", "RECOMPUTE_MODULES", "Recompute"]

RECOMPUTE_KINDS: Final = ("none", "selective", "full")
"""How much of a layer is recomputed."""
RECOMPUTE_MODULES: Final = ("core_attn", "layernorm", "mlp", "moe", "moe_act", "shared_experts", "mla_up_proj")
"""Modules that selective recomputation can recompute."""


@dataclass(frozen=True, slots=True)
class Recompute:
    """What a backward pass recomputes."""

    kind: str = "none"
    """`none`, `selective` (the modules) or `full` (the layer)."""
    modules: tuple[str, ...] = ("core_attn",)
    """Modules of selective recomputation."""
    num_layers: int | None = None
    """Layers at the start of each model chunk that full recomputation is of; None: all."""

    def __post_init__(self) -> None:
        if self.kind not in RECOMPUTE_KINDS or not set(self.modules) <= set(RECOMPUTE_MODULES):
            raise InvalidValueError(
                field="schedule.recompute",
                rule=f"be one of {', '.join(RECOMPUTE_KINDS)}, of modules {', '.join(RECOMPUTE_MODULES)}",
                value=[self.kind, *self.modules],
                hint="Use none.",
            )

    def of_layer(self, position: int) -> "Recompute":
        """Return what is recomputed of the layer at a position in its model chunk, from 0.

        >>> partly = Recompute("full", num_layers=2)
        >>> [partly.of_layer(position).kind for position in range(3)]
        ['full', 'full', 'none']
        """
        if self.num_layers is None:
            return self
        return replace(self, num_layers=None) if position < self.num_layers else Recompute()

    def recomputes(self, module: str) -> bool:
        """Tell whether a module is recomputed on its own.

        >>> Recompute("selective", ("mlp",)).recomputes("mlp"), Recompute("full").recomputes("mlp")
        (True, False)
        """
        return self.kind == "selective" and module in self.modules
