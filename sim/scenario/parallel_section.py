"""`parallel:`, `schedule:`, `routing:` and `placement:` of a scenario: how the work is laid out and ordered."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, ClassVar, Final, Self

from pydantic import BeforeValidator, model_validator

from sim.errors import InvalidValueError
from sim.scenario.fields import MAX_TEXT, Flag, Ident, Section, Share, Whole, count_of, name_of
from sim.scenario.sections import DerivedSection, keys_from
from workloads.blocks.recompute import RECOMPUTE_KINDS, RECOMPUTE_MODULES, Recompute
from workloads.context_parallel import CP_KINDS
from workloads.conventions import CONVENTIONS, EXCHANGE_MODES
from workloads.memory import FSDP_KINDS, ZERO_LEVELS
from workloads.mesh import DEFAULT_RANK_ORDER
from workloads.pipeline_layout import layout_text, parse_layout
from workloads.placement import PLACEMENTS, PlacementKind, PlacementRule
from workloads.routing import ROUTINGS, RoutingKind, RoutingSettings
from workloads.routing.capacity import OVERFLOWS
from workloads.routing.normal_counts import DRAWS
from workloads.routing.skew import Skew
from workloads.schedules import CHUNK_ORDERS, DEFAULT_CHUNK_ORDER, schedule_names
from workloads.strategy import Strategy

__all__ = ["AXES", "Axis", "ParallelSpec", "PlacementSpec", "RoutingSpec", "ScheduleSpec"]

Axis = Annotated[str, name_of(lambda: DEFAULT_RANK_ORDER)]
"""The axes ranks are numbered along."""

AXES: Final = tuple(field.name for field in fields(Strategy) if field.name != "sp")
"""The keys that give a strategy one by one."""


def _rank_order(value: object) -> object:
    """Return an order of the axes, each of them once."""
    if (
        isinstance(value, list)
        and all(isinstance(v, str) for v in value)
        and sorted(value) == sorted(DEFAULT_RANK_ORDER)
    ):
        return value
    hint = "Write for example [tp, cp, ep, dp, pp], fastest first."
    raise InvalidValueError(rule="name tp, cp, ep, dp and pp, each once", value=value, hint=hint)


def _stage_layers(value: object) -> object:
    """Return the layers of each stage as a list that is not empty."""
    if isinstance(value, list) and value:
        return value
    raise InvalidValueError(rule="be a list of layers per stage", value=value, hint="Write for example [4, 4, 4, 4].")


def _cp_sizes(value: object) -> object:
    """Return the sizes of the two levels of hierarchical context parallelism."""
    if isinstance(value, list) and len(value) == _CP_LEVELS:
        return value
    hint = "Write for example [2, 4]: all-to-all over 2 ranks, a ring of 4."
    raise InvalidValueError(rule="be a list of two sizes, whose product is CP", value=value, hint=hint)


_CP_LEVELS: Final = 2
_CpSize = Annotated[int, count_of("parallel.cp_sizes")]
"""Ranks of a level."""

_StageLayers = Annotated[int, count_of("parallel.stage_layers", least=0)]
"""Layers of one stage."""


def _layout(value: object) -> object:
    """Return Megatron's layout string, from the string or from a list with an item for each stage."""
    if isinstance(value, list) and value:
        value = layout_text(value)
    if not isinstance(value, str) or not value:
        hint = "Write for example Et*3|t*4|mL, in quotes."
        raise InvalidValueError(rule="be a layout string or a list of stages", value=value, hint=hint)
    if len(value) > MAX_TEXT:
        raise InvalidValueError(rule=f"be at most {MAX_TEXT} characters long", value=value, hint="Use (...)*n.")
    parse_layout(value)
    return value


@keys_from(Strategy, section="parallel", leave_out=("sp",), all_optional=True)
class _StrategyKeys(DerivedSection):
    """A strategy, by name or axis by axis."""

    strategy: Ident | None = None
    """Name of the strategy, such as EP64_TP16_PP4, which must agree with the axes that are given one by one."""


class ParallelSpec(_StrategyKeys):
    """The parallel strategy, by name or axis by axis, and the convention it is read under."""

    convention: Annotated[str, name_of(lambda: CONVENTIONS)] = "megatron"
    """How EP combines with the other axes."""
    sp: Flag | None = None
    """Sequence parallelism; null: as the convention requires."""
    zero: Annotated[int, name_of(lambda: ZERO_LEVELS)] = 0
    """Which states are split over the replicas: 1 the optimizer's, 2 gradients too, 3 weights too."""
    fsdp: Annotated[str, name_of(lambda: FSDP_KINDS)] = "none"
    """Fully sharded data parallelism: `full` splits all states over all replicas, `hybrid` inside of groups of
    replicas; excludes `zero`."""
    fsdp_shards: Annotated[int, count_of("parallel.fsdp_shards")] | None = None
    """Replicas that split the states with `fsdp: hybrid`; default: those of a node."""
    fsdp_reshard_after_forward: Flag = True
    """Whether FSDP frees the gathered weights of a layer after its forward pass and gathers them again backward."""
    fsdp_reduce_every_microbatch: Flag = True
    """Whether FSDP reduces gradients after each microbatch, or keeps them whole until the last."""
    rank_order: Annotated[tuple[Axis, ...], BeforeValidator(_rank_order, json_schema_input_type=list[Axis])] = (
        DEFAULT_RANK_ORDER
    )
    """How ranks are numbered, fastest axis first."""
    stage_layers: (
        Annotated[tuple[_StageLayers, ...], BeforeValidator(_stage_layers, json_schema_input_type=list[_StageLayers])]
        | None
    ) = None
    """Layers of each stage, 0 allowed, or of each part of the model where a stage holds several; default: even."""
    layout: Annotated[str, BeforeValidator(_layout, json_schema_input_type=str | list[str | list[str]])] | None = None
    """What each stage holds, as Megatron's layout string (`docs/pipeline_layouts.md`); excludes `stage_layers`."""
    cp_kind: Annotated[str, name_of(lambda: CP_KINDS)] | None = None
    """How CP ranks compute attention together: a ring of keys and values (default), gathered keys and values, heads
    exchanged for tokens, or heads inside of groups and a ring across these."""
    cp_sizes: (
        Annotated[tuple[_CpSize, ...], BeforeValidator(_cp_sizes, json_schema_input_type=list[_CpSize])] | None
    ) = None
    """Ranks of the all-to-all and of the ring of `cp_kind: hierarchical`; default: those on a node, and the rest."""
    exchange: Annotated[str, name_of(lambda: EXCHANGE_MODES)] = EXCHANGE_MODES[0]
    """How the expert exchange of the spanning convention is entered."""


Module = Annotated[str, name_of(lambda: RECOMPUTE_MODULES)]
"""A module that selective recomputation can recompute."""


def _modules(value: object) -> object:
    """Return modules as a list, each of them once."""
    if isinstance(value, list) and value and all(isinstance(v, str) for v in value) and len(set(value)) == len(value):
        return value
    hint = f"Choose among {', '.join(RECOMPUTE_MODULES)}."
    raise InvalidValueError(rule="be a list of modules, each once", value=value, hint=hint)


class ScheduleSpec(Section):
    """The order of passes in the pipeline."""

    kind: Annotated[str, name_of(schedule_names)] = "1f1b"
    """Name of the schedule."""
    recompute: Annotated[str, name_of(lambda: RECOMPUTE_KINDS)] = "none"
    """What a backward pass recomputes: nothing, some modules, or the whole forward pass."""
    recompute_modules: (
        Annotated[tuple[Module, ...], BeforeValidator(_modules, json_schema_input_type=list[Module])] | None
    ) = None
    """Modules that selective recomputation recomputes, by Megatron-LM's names; default: core_attn."""
    recompute_layers: Annotated[int, count_of("schedule.recompute_layers")] | None = None
    """Layers at the start of each model chunk that full recomputation is of; default: all."""
    offload_layers: Annotated[int, count_of("schedule.offload_layers")] | None = None
    """Layers at the start of each model chunk whose activations are on the host between F and B; default: none."""
    file: str | None = None
    """The passes of a custom schedule: a text file in the scenario's folder, one line per stage."""
    chunk_order: Annotated[str, name_of(lambda: CHUNK_ORDERS)] = DEFAULT_CHUNK_ORDER
    """Where the chunks of a custom schedule stand: round robin, down the stages and back up, or two copies."""

    @property
    def recomputation(self) -> Recompute:
        """What a backward pass recomputes."""
        return Recompute(self.recompute, self.recompute_modules or Recompute().modules, self.recompute_layers)


class _KindSection(DerivedSection):
    """A section whose `kind` says which of the other keys have a meaning."""

    _registry: ClassVar[Mapping[str, RoutingKind] | Mapping[str, PlacementKind]]
    """The kinds by name."""
    _name: ClassVar[str]
    """Name of the section."""

    @model_validator(mode="after")
    def _only_its_own(self) -> Self:
        """Refuse a key that the kind does not use, unless the key has its default, and a missing key that it needs."""
        name, kind = self._name, self._registry[self.kind]
        for key, field in type(self).model_fields.items():
            owners = [owner for owner, entry in self._registry.items() if entry.uses(key)]
            value = getattr(self, key)
            if owners and not kind.uses(key) and value != field.default:
                hint = f"The key belongs to {name}.kind {', '.join(owners)}; remove it."
                raise InvalidValueError((key,), f"be left out with {name}.kind {self.kind}", value, hint)
            if key in kind.required_settings and value is None:
                rule, hint = f"be given with {name}.kind {self.kind}", f"Add `{key}:` under {name}."
                raise InvalidValueError((key,), rule, "nothing", hint)
        return self


@keys_from(
    RoutingSettings,
    section="routing",
    leave_out=("kind", "skew"),
    overflow=name_of(lambda: OVERFLOWS),
    draw=name_of(lambda: DRAWS),
)
@keys_from(
    Skew,
    section="routing",
    leave_out=("expert_nodes", "loads", "recorded", "recorded_layers", "expert_layers"),
    persistence=Share,
    burst_share=Share,
    layer_correlation=Share,
)
class _RoutingKeys(_KindSection):
    """Which experts tokens are sent to."""

    kind: Annotated[str, name_of(lambda: ROUTINGS)] = "multinomial"
    """Name of the distribution: balanced gives every expert the same, multinomial draws each token at random."""


class RoutingSpec(_RoutingKeys):
    """Which experts tokens are sent to."""

    _registry, _name = ROUTINGS, "routing"

    file: str | None = None
    """A recording of routing, with kind trace: a file of SGLang's or vLLM's recorder, or tokens by expert."""

    @model_validator(mode="after")
    def _draws_what_is_drawn(self) -> Self:
        """Check that `draw` is exact where nothing is drawn, and where a limit of nodes makes no normal law."""
        if self.draw == "exact":
            return self
        if ROUTINGS[self.kind].shares is None:
            rule, hint = f"be exact with routing.kind {self.kind}, which draws no tokens", "Leave routing.draw out."
            raise InvalidValueError(("draw",), rule, self.draw, hint)
        if self.max_nodes_per_token is not None:
            rule, hint = "be exact with routing.max_nodes_per_token", "Leave one of the two out."
            raise InvalidValueError(("draw",), rule, self.draw, hint)
        return self

    @model_validator(mode="after")
    def _has_a_capacity(self) -> Self:
        """Check that a capacity is above 0, and that `overflow` is left out where there is no capacity."""
        if self.capacity_factor is None and self.overflow != "drop":
            rule, hint = "be left out without routing.capacity_factor", "Give routing.capacity_factor, such as 1.25."
            raise InvalidValueError(("overflow",), rule, self.overflow, hint)
        if self.capacity_factor == 0:
            hint = "Write for example 1.25, or null for all tokens."
            raise InvalidValueError(("capacity_factor",), "be above 0", 0, hint)
        return self


def _lists_of_experts(value: object) -> object:
    """Return the expert in each slot, written as one list, as the list of all layers."""
    return [value] if isinstance(value, list) and value and all(isinstance(v, int) for v in value) else value


_Expert = Annotated[int, count_of("placement.experts", least=0)]
"""Number of an expert, from 0."""


@keys_from(
    PlacementRule,
    section="placement",
    kind=name_of(lambda: PLACEMENTS),
    plan_seed=Whole,
    experts=Annotated[
        tuple[tuple[_Expert, ...], ...],
        BeforeValidator(_lists_of_experts, json_schema_input_type=list[_Expert] | list[list[_Expert]]),
    ],
)
class PlacementSpec(_KindSection):
    """Which rank holds which expert."""

    _registry, _name = PLACEMENTS, "placement"
