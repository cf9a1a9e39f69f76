"""`parallel:`, `schedule:`, `routing:` and `placement:` of a scenario: how the work is laid out and ordered."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, model_validator

from sim.errors import InvalidValueError
from sim.scenario.fields import MAX_TEXT, Flag, Ident, Ratio, Section, Share, count_of, name_of
from workloads.blocks.recompute import RECOMPUTE_KINDS, RECOMPUTE_MODULES
from workloads.conventions import CONVENTIONS
from workloads.mesh import DEFAULT_RANK_ORDER
from workloads.pipeline_layout import layout_text, parse_layout
from workloads.placement import PLACEMENTS, PlacementKind
from workloads.routing import ROUTINGS, RoutingKind
from workloads.routing.capacity import OVERFLOWS
from workloads.schedules import schedule_names
from workloads.schedules.pipeline import LAYOUTS
from workloads.strategy import Strategy

__all__ = ["AXES", "DEFAULT_CHUNK_ORDER", "Axis", "ParallelSpec", "PlacementSpec", "RoutingSpec", "ScheduleSpec"]

Axis = Annotated[str, name_of(lambda: DEFAULT_RANK_ORDER)]
"""The axes ranks are numbered along."""

AXES: Final = tuple(field.name for field in fields(Strategy) if field.name != "sp")
"""The keys that give a strategy one by one."""

DEFAULT_CHUNK_ORDER: Final = "round_robin"
"""Where the chunks of a custom schedule stand, unless the scenario says otherwise."""


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


class ParallelSpec(Section):
    """The parallel strategy, by name or axis by axis, and the convention it is read under."""

    strategy: Ident | None = None
    """Its name, such as EP64_TP16_PP4; it must agree with the axes that are given one by one."""
    tp: Annotated[int, count_of("parallel.tp")] | None = None
    """Tensor parallel ranks."""
    pp: Annotated[int, count_of("parallel.pp")] | None = None
    """Pipeline stages."""
    ep: Annotated[int, count_of("parallel.ep")] | None = None
    """Expert parallel ranks."""
    etp: Annotated[int, count_of("parallel.etp")] | None = None
    """Tensor parallel ranks of one expert."""
    dp: Annotated[int, count_of("parallel.dp")] | None = None
    """Data parallel replicas."""
    cp: Annotated[int, count_of("parallel.cp")] | None = None
    """Context parallel ranks."""
    vpp: Annotated[int, count_of("parallel.vpp")] | None = None
    """Virtual stages (chunks) of each pipeline rank."""
    convention: Annotated[str, name_of(lambda: CONVENTIONS)] = "megatron"
    """How EP combines with the other axes."""
    sp: Flag | None = None
    """Sequence parallelism; null: as the convention requires."""
    zero: Literal[0, 1, 2, 3] = 0
    """Which states are split over the replicas: 1 the optimizer's, 2 gradients too, 3 weights too."""
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
    exchange: Literal["one_sided", "blocking"] = "one_sided"
    """How the expert exchange of the spanning convention is entered."""


Module = Annotated[str, name_of(lambda: RECOMPUTE_MODULES)]
"""What selective recomputation can make again."""


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
    """What a backward pass computes again: nothing, some modules, or the whole forward pass."""
    recompute_modules: (
        Annotated[tuple[Module, ...], BeforeValidator(_modules, json_schema_input_type=list[Module])] | None
    ) = None
    """What selective recomputation makes again, as Megatron-LM names it; default: core_attn."""
    file: str | None = None
    """The passes of a custom schedule: a text file in the scenario's folder, one line per stage."""
    chunk_order: Annotated[str, name_of(lambda: [name for name in LAYOUTS if name != "row"])] = DEFAULT_CHUNK_ORDER
    """Where the chunks of a custom schedule stand: round robin, down the stages and back up, or two copies."""


class RoutingSpec(Section):
    """Which experts tokens are sent to."""

    kind: Annotated[str, name_of(lambda: ROUTINGS)] = "multinomial"
    """Name of the distribution: balanced gives every expert the same, multinomial draws each token at random."""
    skew: Ratio = 0.0
    """How uneven the experts' popularity is; each kind says in what measure (`docs/routing.md`)."""
    hot_experts: Annotated[int, count_of("routing.hot_experts")] | None = None
    """Experts of the hot group, with kind hot_node, those of the hot node first; null: all of that node."""
    persistence: Share = 0.9
    """Correlation of log popularity from one microbatch to the next, with kind drift."""
    burst_share: Share = 0.1
    """Share of the microbatches that are bursts, with kind bursty."""
    stride: Annotated[int, count_of("routing.stride")] = 2
    """Step from one choice to the next, with kind stride."""
    layer_correlation: Share = 0.0
    """Chance of a layer to have the popularity of the layer before it."""
    dead_experts: Annotated[int, count_of("routing.dead_experts", least=0)] = 0
    """Experts of each layer that no token chooses."""
    shuffled: Flag = True
    """Whether each layer has popularity in an order of its own; otherwise expert 0 is the most popular."""
    capacity_factor: Ratio | None = None
    """Tokens an expert takes of each source rank, over their mean; null, or experts / top_k and more: all of them."""
    overflow: Annotated[str, name_of(lambda: OVERFLOWS)] = "drop"
    """What becomes of tokens beyond capacity: dropped; dropped, with experts padded up to it; or sent to the next."""
    max_nodes_per_token: Annotated[int, count_of("routing.max_nodes_per_token")] | None = None
    """Nodes whose experts, placed in order, a token takes; null: all of them."""
    file: str | None = None
    """A recording of routing, with kind trace: a file of SGLang's or vLLM's recorder, or tokens by expert."""

    @model_validator(mode="after")
    def _only_its_own(self) -> Self:
        """Check that the keys that are given mean something to the kind, and that its capacity is one."""
        _check_settings(self, "routing", ROUTINGS)
        if self.capacity_factor is None and self.overflow != "drop":
            rule, hint = "be left out without routing.capacity_factor", "Give routing.capacity_factor, such as 1.25."
            raise InvalidValueError(("overflow",), rule, self.overflow, hint)
        if self.capacity_factor == 0:
            raise InvalidValueError(
                ("capacity_factor",), "be above 0", 0, "Write for example 1.25, or null for all tokens."
            )
        return self


def _lists_of_experts(value: object) -> object:
    """Return the expert in each slot, written as one list, as the list of all layers."""
    return [value] if isinstance(value, list) and value and all(isinstance(v, int) for v in value) else value


_Expert = Annotated[int, count_of("placement.experts", least=0)]
"""Number of an expert, from 0."""


class PlacementSpec(Section):
    """Which rank holds which expert."""

    kind: Annotated[str, name_of(lambda: PLACEMENTS)] = "contiguous"
    """Name of the placement."""
    replicas: Annotated[int, count_of("placement.replicas", least=0)] = 0
    """Copies of experts beyond one of each, over all ranks of a group: EP divides experts + replicas."""
    groups: Annotated[int, count_of("placement.groups")] = 1
    """Groups of experts that stay on one node, a multiple of the nodes, with kind eplb; 1: none."""
    window: Annotated[int, count_of("placement.window")] = 8
    """Microbatches before the run whose loads a plan is made from, with kinds greedy and eplb."""
    stale: Annotated[int, count_of("placement.stale", least=0)] = 0
    """Microbatches between that window and the run."""
    every: Annotated[int, count_of("placement.every")] | None = None
    """Microbatches after which a plan gives way to a new one, with kinds greedy and eplb; null: one for the run."""
    moves: Flag = False
    """Whether experts that are not where the plan before (without `every`, contiguous) has them are copied there."""
    experts: (
        Annotated[
            tuple[tuple[_Expert, ...], ...],
            BeforeValidator(_lists_of_experts, json_schema_input_type=list[_Expert] | list[list[_Expert]]),
        ]
        | None
    ) = None
    """With kind explicit: a list of experts for each rank of a group, or as many for each layer with experts; or the
    expert in each slot, as vLLM's and SGLang's `physical_to_logical_map`, in one list or a list for each layer."""

    @model_validator(mode="after")
    def _only_its_own(self) -> Self:
        """Check that the keys that are given mean something to the kind."""
        _check_settings(self, "placement", PLACEMENTS)
        return self


def _check_settings(
    section: RoutingSpec | PlacementSpec, name: str, registry: Mapping[str, RoutingKind] | Mapping[str, PlacementKind]
) -> None:
    """Refuse a key with another value than its default where the kind does not use it, and a missing key it needs."""
    kind = registry[section.kind]
    for key, field in type(section).model_fields.items():
        owners = [owner for owner, entry in registry.items() if entry.uses(key)]
        value = getattr(section, key)
        if owners and not kind.uses(key) and value != field.default:
            hint = f"The key belongs to {name}.kind {', '.join(owners)}; remove it."
            raise InvalidValueError((key,), f"be left out with {name}.kind {section.kind}", value, hint)
        if key in kind.required_settings and value is None:
            rule, hint = f"be given with {name}.kind {section.kind}", f"Add `{key}:` under {name}."
            raise InvalidValueError((key,), rule, "nothing", hint)
