"""The kinds of context parallelism, by name, and what each of them can split.

Model
-----
    kind           inner x outer    needs of each kind of layer
    ring           1 x CP           attention over all earlier tokens: no window, no chunks, no sinks
    all_gather     whole CP         no chunks, no sinks
    all_to_all     CP x 1           heads, and KV heads, of a TP rank divisible by CP
    hierarchical   given            heads, and KV heads, of a TP rank divisible by inner; no window, no chunks, no sinks

Layers with a recurrent state exchange heads over the whole group, whichever the kind. Every kind wants sequences that
are multiples of 2 CP tokens.

References
----------
Transformer Engine, `context_parallel.py`, `attn_forward_func_with_cp` (windows and sinks: refused there alike).
Megatron-LM, `--cp-comm-type` (p2p, all_gather, a2a, a2a+p2p), `--hierarchical-context-parallel-sizes`;
`mamba_context_parallel.py`, `gated_delta_net`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from sim.errors import InvalidValueError
from workloads.blocks.core import CoreTensors
from workloads.blocks.layer import Layer, Mixer
from workloads.blocks.state_space import StateSpace
from workloads.context_parallel.steps import CoreOfRank, CpBuffers, CpSizes, CpStep, GatheredKeys, HeadsAndRing

__all__ = ["CP_KINDS", "DEFAULT_CP_KIND", "ContextParallel", "CpKind"]


class CoreExchange(Protocol):
    """How the ranks of a group compute the core of a mixer together."""

    def forward(self, core: CoreOfRank, sizes: CpSizes) -> list[CpStep]:
        """Return the steps of the forward pass."""
        ...

    def backward(self, core: CoreOfRank, sizes: CpSizes) -> list[CpStep]:
        """Return the steps of the backward pass."""
        ...

    def buffers(self, tensors: CoreTensors, sizes: CpSizes) -> CpBuffers:
        """Return what the core takes in addition while it runs."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CpKind:
    """A kind of context parallelism."""

    meaning: str
    """What is exchanged, in a line."""
    megatron_name: str
    """Value of Megatron-LM's `--cp-comm-type`."""
    exchange: CoreExchange
    """Steps of the core of softmax attention."""
    has_inner: bool = False
    """Whether heads are exchanged in groups of ranks next to each other."""
    has_outer: bool = True
    """Whether these groups, or single ranks, form a ring or gather."""
    features: tuple[str, ...] = ()
    """Features that attention may have: window, chunks, sinks."""

    @property
    def has_two_levels(self) -> bool:
        """Whether the sizes of the two levels are to be chosen."""
        return self.has_inner and self.has_outer


_HEADS_AND_RING = HeadsAndRing()

CP_KINDS: Final[Mapping[str, CpKind]] = {
    "ring": CpKind(
        meaning="keys and values go round a ring, next to the attention of the part that has come",
        megatron_name="p2p",
        exchange=_HEADS_AND_RING,
    ),
    "all_gather": CpKind(
        meaning="keys and values are gathered on every rank before attention",
        megatron_name="all_gather",
        exchange=GatheredKeys(),
        features=("window",),
    ),
    "all_to_all": CpKind(
        meaning="heads are exchanged for tokens before attention, and back after it (Ulysses)",
        megatron_name="a2a",
        exchange=_HEADS_AND_RING,
        has_inner=True,
        has_outer=False,
        features=("window", "chunks", "sinks"),
    ),
    "hierarchical": CpKind(
        meaning="all-to-all inside of groups of ranks, a ring across the groups",
        megatron_name="a2a+p2p",
        exchange=_HEADS_AND_RING,
        has_inner=True,
    ),
}
"""Kind of context parallelism by name."""

DEFAULT_CP_KIND: Final = "ring"
"""Transformer Engine's and Megatron-LM's default, p2p."""
_FEATURES: Final = {"window": "a window", "chunks": "chunks", "sinks": "sinks"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextParallel:
    """How the ranks of a context-parallel group compute what mixes tokens.

    >>> ContextParallel(size=8, kind="hierarchical", inner=2).sizes
    CpSizes(inner=2, outer=4)
    """

    size: int = 1
    """Ranks of a group."""
    kind: str = DEFAULT_CP_KIND
    """A key of `CP_KINDS`."""
    inner: int = 1
    """Ranks of a group of the all-to-all of a kind of two levels; other kinds have their own."""

    def __post_init__(self) -> None:
        if self.kind not in CP_KINDS:
            hint = f"Known: {', '.join(CP_KINDS)}."
            raise InvalidValueError("parallel.cp_kind", "name a known kind", repr(self.kind), hint)
        if self.size % self.inner:
            rule = f"have a product of CP = {self.size}"
            raise InvalidValueError("parallel.cp_sizes", rule, self.inner, "Use two divisors of CP.")

    @property
    def rules(self) -> CpKind:
        """The entry of the kind."""
        return CP_KINDS[self.kind]

    @property
    def sizes(self) -> CpSizes:
        """Ranks of each level, for softmax attention."""
        if self.rules.has_two_levels:
            return CpSizes(inner=self.inner, outer=self.size // self.inner)
        return self._flat if self.rules.has_inner else CpSizes(inner=1, outer=self.size)

    def forward(self, core: CoreOfRank) -> list[CpStep]:
        """Return the steps of the forward pass of a core."""
        exchange, sizes = self._of(core.tensors)
        return exchange.forward(core, sizes)

    def backward(self, core: CoreOfRank) -> list[CpStep]:
        """Return the steps of the backward pass of a core."""
        exchange, sizes = self._of(core.tensors)
        return exchange.backward(core, sizes)

    def buffers_of(self, layer: Layer, tp: int) -> CpBuffers:
        """Return what the core of a layer takes in addition while it runs, in elements of a token that a rank owns."""
        if self.size == 1 or layer.attention is None:
            return CpBuffers()
        tensors = layer.attention.core_tensors(tp, self.size)
        exchange, sizes = self._of(tensors)
        return exchange.buffers(tensors, sizes)

    def check(self, mixer: Mixer, tp: int) -> None:
        """Refuse a mixer that the ranks cannot compute together, with the kinds that can."""
        if self.size == 1:
            return
        why = self._why_not(mixer, tp)
        if why is None:
            return
        field, rule, value = why
        fitting = [
            kind
            for kind, rules in CP_KINDS.items()
            if not rules.has_two_levels and ContextParallel(size=self.size, kind=kind)._why_not(mixer, tp) is None
        ]
        hint = f"Use cp_kind: {' or '.join(fitting)}." if fitting else "Choose a smaller CP."
        hint = "Use runtime.attention: fused." if field == "runtime.attention" else hint
        raise InvalidValueError(field, rule, value, hint)

    # ---- private -------------------------------------------------------------------------------------------------

    @property
    def _flat(self) -> CpSizes:
        return CpSizes(inner=self.size, outer=1)

    def _of(self, tensors: CoreTensors) -> tuple[CoreExchange, CpSizes]:
        """Return how a core is computed: a recurrent state by heads alone."""
        return (self.rules.exchange, self.sizes) if tensors.is_attention else (_HEADS_AND_RING, self._flat)

    def _why_not(self, mixer: Mixer, tp: int) -> tuple[str, str, object] | None:
        """Return the field, the rule and the value that keep ranks from computing a mixer together, or None."""
        is_attention = not isinstance(mixer, StateSpace)
        inner = self.sizes.inner if is_attention else self.size
        split = mixer.why_not_split_over_context(tp, inner)
        if split is not None:
            heads, number = split
            by = f"cp_kind {self.kind}" if is_attention else "every cp_kind"
            if self.rules.has_two_levels and is_attention:
                return "parallel.cp_sizes", f"begin with a divisor of the {number} {heads} of each TP rank", inner
            return "parallel.cp", f"divide the {number} {heads} of each TP rank, which {by} exchanges", inner
        if isinstance(mixer, StateSpace):
            return None
        if not mixer.is_fused:
            return "runtime.attention", "be fused with CP above 1 (Transformer Engine's)", "unfused"
        for feature in mixer.mask_features:
            if feature not in self.rules.features:
                kinds = [name for name, kind in CP_KINDS.items() if feature in kind.features]
                return (
                    "parallel.cp_kind",
                    f"be {' or '.join(kinds)} where attention has {_FEATURES[feature]}",
                    self.kind,
                )
        return None
