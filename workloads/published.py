"""Published numbers of parameters, and the ways in which publications count them.

A published active figure counts a token's parameters as `ModelSpec.num_active_params` does, unless its `counts` says
otherwise.
"""

from dataclasses import dataclass

from workloads.model import ModelSpec

__all__ = ["COUNTED_OTHERWISE", "Published"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The number of parameters that a model's authors give, in billions, as they write it."""

    total: str
    """Parameters of the model."""
    active: str | None = None
    """Parameters that a token meets; None for a dense model."""
    source: str
    """Document that gives both."""
    counts: tuple[str, ...] = ()
    """How the figures differ from `num_params` and `num_active_params`: names of `COUNTED_OTHERWISE`."""
    vision_params: int = 0
    """Parameters of a vision encoder that the total counts."""

    def counted_alike(self, model: ModelSpec) -> tuple[float, float]:
        """Return total and active parameters of `model`, counted as the figures are, in billions.

        >>> small = ModelSpec(layers=1, hidden=4, heads=2, ffn=8, vocab=10)
        >>> Published(total="2E-7", source="by hand").counted_alike(small)[0]  # 4 x 16 + 64 + 8 + 4 + 2 x 40
        2.2e-07
        """
        head, rows = model.num_embedding_params, model.num_embedding_params - model.hidden
        total, active = model.num_params + self.vision_params, model.num_active_params
        if "embedding" in self.counts:
            active += rows
        if "no head" in self.counts:
            active -= head
        if "MTP without embedding and head" in self.counts:
            mtp = model.layer(model.layers)
            total += mtp.num_params - 2 * head
            active += mtp.num_active_params - head - model.hidden
        return total / 1e9, active / 1e9


COUNTED_OTHERWISE = {
    "embedding": "the active parameters count the whole input embedding",
    "no head": "the active parameters leave the output head out",
    "MTP without embedding and head": "both count the MTP layer, and leave embedding and output head out",
}
"""Ways to count the parameters of a publication that differ from those of `ModelSpec`."""
