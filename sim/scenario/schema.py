"""The whole scenario: every top-level key, and the checks between them.

Field names are the contract's keys; quantities are validated into SI floats. The names of presets are
looked up by `sim.build`, which checks what they give together; `Scenario.located_errors` adds the place.
"""

from collections.abc import Mapping
from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from sim.errors import InvalidValueError
from sim.scenario.claims_section import (
    Alternative,
    Assumed,
    ClaimSpec,
    PublishedSpec,
    PublishedTableSpec,
    Rival,
    StressSpec,
    check_assumed,
)
from sim.scenario.cluster_section import ClusterSpec, NetworkSpec
from sim.scenario.engine_names import DEFAULT_ENGINE, ENGINES
from sim.scenario.fields import Section, SeedCount, Text, Whole, name_of
from sim.scenario.model_section import REQUIRED_FIELDS, ModelSection
from sim.scenario.parallel_section import (
    AXES,
    ParallelSpec,
    PlacementSpec,
    RoutingSpec,
    ScheduleSpec,
)
from sim.scenario.runtime_section import FactorsSection, JitterSection, RuntimeSection
from sim.scenario.search_section import SearchSpec
from sim.scenario.sections import ParsedBy
from sim.scenario.workload_section import CollectiveWorkload, PassesWorkload, WorkloadSpec
from topology.uncertainty import LINK_FACTORS
from workloads.collectives import AUTO, OPERATIONS, algorithm_names, algorithms_for
from workloads.collectives.settings import DEFAULT_NETWORK, NetworkSettings
from workloads.conventions import CONVENTIONS
from workloads.placement import PlacementRule
from workloads.schedules import CUSTOM, DEFAULT_CHUNK_ORDER, schedule_kind_of
from workloads.what_if import EVENED, NO_BUBBLE, WHAT_IFS

__all__ = ["ScenarioSpec"]

_EXCHANGED: Final = frozenset({"preset", "hidden", "top_k", "experts", "dtype"})
"""Fields of a model that a collective needs."""
_OF_PASSES: Final = ("free_pp", NO_BUBBLE, *EVENED)
"""What a pipeline of given passes can be without."""
_MAX_ITEMS: Final = 1000
"""No list of claims, alternatives, rivals or figures is longer."""


class ScenarioSpec(Section):
    """A scenario: strategy, model, cluster, work, and the claims that are judged."""

    name: Text | None = None
    """Name of the scenario in results."""
    cluster: ClusterSpec | None = None
    """The machines."""
    model: ModelSection | None = None
    """The language model."""
    parallel: ParallelSpec = ParallelSpec()
    """The parallel strategy."""
    workload: Annotated[WorkloadSpec, Field(discriminator="kind")]
    """What is run."""
    schedule: ScheduleSpec = ScheduleSpec()
    """The order of passes in the pipeline."""
    routing: RoutingSpec = RoutingSpec()
    """Which experts tokens are sent to."""
    placement: Annotated[PlacementRule, ParsedBy(PlacementSpec)] = PlacementRule()
    """Which rank holds which expert."""
    network: Annotated[NetworkSettings, ParsedBy(NetworkSpec)] = DEFAULT_NETWORK
    """How transfers are simulated."""
    runtime: RuntimeSection = RuntimeSection()
    """What the software does."""
    profile: str | None = None
    """CSV file of measured kernels of the device, in the scenario's folder; none: a closed form prices all kernels;
    null: the measured kernels that come with the program, for devices that have some."""
    factors: FactorsSection = FactorsSection()
    """What times that the model makes are multiplied by, such as a draw of `moesim run --uncertainty`."""
    what_if: Annotated[tuple[Annotated[str, name_of(lambda: WHAT_IFS)], ...], Field(max_length=len(WHAT_IFS))] = ()
    """What the run is without, such as [free_tp] or [no_bubble]; `moesim why` tries each."""
    jitter: JitterSection = JitterSection()
    """How much the times of passes vary from pass to pass and from rank to rank; absent: not at all."""
    engine: Annotated[str, name_of(lambda: ENGINES)] = DEFAULT_ENGINE
    """What runs the events. Default: auto."""
    seed: Whole = 1
    """Seed of all random draws."""
    seeds: SeedCount = 1
    """How many seeds, from `seed` on, the interval of a claim is taken over."""
    assumed: Assumed = Field(default_factory=dict)
    """Values that no document gives: dotted key and, in one line, why the author of the scenario took its value."""
    document: Text | None = None
    """A text file in the scenario's folder: what claims quote must stand in it word for word."""
    claims: Annotated[tuple[ClaimSpec, ...], Field(max_length=_MAX_ITEMS)] = ()
    """What a document says, and what decides it."""
    alternatives: Annotated[tuple[Alternative, ...], Field(max_length=_MAX_ITEMS)] = ()
    """Further simulations: dotted keys and the values that they have in each."""
    rivals: Annotated[tuple[Rival, ...], Field(max_length=_MAX_ITEMS)] = ()
    """Strategies that superlatives are judged against."""
    stress: StressSpec | None = None
    """Skews, remedies and seeds of `moesim stress`."""
    search: SearchSpec | None = None
    """Which strategies `moesim search` looks through, and how closely."""
    published: Annotated[tuple[PublishedSpec, ...], Field(max_length=_MAX_ITEMS)] = ()
    """Published figures; they make the scenario a validation case."""
    published_table: PublishedTableSpec | None = None
    """More published figures, in a file of a row for each."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Check the rules that hold between sections."""
        self._check_sections()
        if isinstance(self.workload, PassesWorkload):
            self._check_passes(self.workload)
        elif isinstance(self.workload, CollectiveWorkload):
            self._check_collective(self.workload)
        else:
            self._check_model_and_strategy()
        self._check_schedule()
        if isinstance(self.workload, CollectiveWorkload) and self.routing.capacity_factor is not None:
            rule, hint = "be left out with workload.kind collective", "Capacities belong to the experts of a model."
            raise InvalidValueError(("routing", "capacity_factor"), rule, self.routing.capacity_factor, hint)
        self._check_modules()
        if len(set(self.what_if)) < len(self.what_if):
            rule, hint = "list each name once", "Remove the second one."
            raise InvalidValueError(("what_if",), rule, list(self.what_if), hint)
        _check_claims(self.claims)
        check_assumed(self.assumed, type(self))
        return self

    def _check_sections(self) -> None:
        """Check that the sections are those the kind of workload has."""
        kind = self.workload.kind
        for section in self.workload.foreign_sections:
            if section in self.model_fields_set:
                what, value = _given(getattr(self, section))
                rule, hint = f"be left out with workload.kind {kind}", f"Remove the {what}: it would mean nothing."
                raise InvalidValueError((section,), rule=rule, value=value, hint=hint)
        for section in self.workload.required_sections:
            if section not in self.model_fields_set or getattr(self, section) is None:
                rule, hint = f"be given with workload.kind {kind}", f"Add a section `{section}:`."
                raise InvalidValueError((section,), rule=rule, value="nothing", hint=hint)

    def _check_passes(self, workload: PassesWorkload) -> None:
        """Check the stages of a pipeline of given passes."""
        for key in sorted(self.parallel.model_fields_set - {"pp", "vpp"}):
            hint = "Give parallel.pp alone: passes have no ranks."
            value = getattr(self.parallel, key)
            raise InvalidValueError(
                ("parallel", key), rule="be left out with workload.kind passes", value=value, hint=hint
            )
        num_stages, num_times = self.parallel.pp, len(workload.pass_times)
        if num_stages is None:
            hint = "Write the number of stages."
            raise InvalidValueError(
                ("parallel", "pp"), rule="be given with workload.kind passes", value="nothing", hint=hint
            )
        if num_times not in {1, num_stages}:
            rule, hint = f"be one map or a list of parallel.pp = {num_stages}", "Give one map of F, B and W per stage."
            raise InvalidValueError(("workload", "pass_times"), rule=rule, value=f"a list of {num_times}", hint=hint)
        for name in self.what_if:
            if name not in _OF_PASSES:
                rule, hint = (
                    f"be {', '.join(_OF_PASSES[:-1])} or {_OF_PASSES[-1]} with workload.kind passes",
                    "Passes have no other transfers.",
                )
                raise InvalidValueError(("what_if",), rule=rule, value=name, hint=hint)
        if not any(times.F or times.B or times.W for times in workload.pass_times):
            rule, hint = "take time on one stage at least", "Give F, B or W a time above 0."
            raise InvalidValueError(("workload", "pass_times"), rule=rule, value="0 everywhere", hint=hint)

    def _check_collective(self, workload: CollectiveWorkload) -> None:
        """Check that a collective has the fields of a model it needs and no others."""
        self._check_network_of(workload.op)
        for key in sorted(self.factors.model_fields_set - set(LINK_FACTORS)):
            rule, hint = "be left out with workload.kind collective", f"It has {', '.join(LINK_FACTORS)} only."
            raise InvalidValueError(("factors", key), rule=rule, value=getattr(self.factors, key), hint=hint)
        if workload.tokens is None:
            for section in sorted({"model", "routing"} & self.model_fields_set):
                rule, hint = "be left out when workload.bytes is given", "Remove it, or give workload.tokens instead."
                raise InvalidValueError((section,), rule=rule, value="a section", hint=hint)
            return
        model = self.model or ModelSection()
        for key in sorted(model.model_fields_set - _EXCHANGED):
            rule, hint = "be left out with workload.kind collective", f"It needs {', '.join(sorted(_EXCHANGED))} only."
            raise InvalidValueError(("model", key), rule=rule, value=getattr(model, key), hint=hint)
        needed = ("hidden", "top_k") if OPERATIONS[workload.op].is_expert_exchange else ("hidden",)
        self._check_given(model, needed)

    def _check_model_and_strategy(self) -> None:
        """Check that model and strategy are complete."""
        model = self.model or ModelSection()
        self._check_given(model, (*REQUIRED_FIELDS, "top_k") if model.experts else REQUIRED_FIELDS)
        if self.parallel.strategy is None and not any(getattr(self.parallel, axis) for axis in AXES):
            hint = "Write for example EP64_TP16_PP4, or give tp, pp, ep, dp one by one."
            raise InvalidValueError(("parallel", "strategy"), rule="be given", value="nothing", hint=hint)
        self._check_parallel()

    def _check_parallel(self) -> None:
        """Refuse options of the strategy that would mean nothing."""
        parallel = self.parallel
        if parallel.layout is not None and parallel.stage_layers is not None:
            hint = "The layout says how many layers each stage has: remove one of the two."
            rule, value = "be left out with parallel.layout", list(parallel.stage_layers)
            raise InvalidValueError(("parallel", "stage_layers"), rule=rule, value=value, hint=hint)
        if parallel.zero and not self.workload.trains:
            hint = "It splits what only training keeps: gradients and the optimizer's states."
            raise InvalidValueError(
                ("parallel", "zero"),
                rule=f"be 0 with workload.kind {self.workload.kind}",
                value=parallel.zero,
                hint=hint,
            )
        self._check_fsdp()
        if parallel.exchange != "one_sided" and not CONVENTIONS[parallel.convention].experts_span_stages:
            rule = f"be one_sided with parallel.convention {parallel.convention}"
            hint = "Only under the spanning convention do the stages enter one exchange."
            raise InvalidValueError(("parallel", "exchange"), rule=rule, value=parallel.exchange, hint=hint)

    def _check_fsdp(self) -> None:
        """Refuse FSDP where it would mean nothing, and its options without it."""
        parallel, fsdp = self.parallel, self.parallel.fsdp
        if fsdp != "none" and not self.workload.trains:
            hint = "It splits what only training keeps."
            raise InvalidValueError(("parallel", "fsdp"), "be none with workload.kind forward", fsdp, hint)
        if fsdp != "none" and parallel.zero:
            rule, hint = (
                f"be left out with parallel.fsdp {fsdp}",
                "FSDP splits what ZeRO 3 splits.",
            )
            raise InvalidValueError(("parallel", "zero"), rule, parallel.zero, hint)
        needed = {"fsdp_shards": ("hybrid",)}
        for key in ("fsdp_shards", "fsdp_reshard_after_forward", "fsdp_reduce_every_microbatch"):
            kinds = needed.get(key, ("full", "hybrid"))
            if key in parallel.model_fields_set and getattr(parallel, key) is not None and fsdp not in kinds:
                rule, hint = f"be left out with parallel.fsdp {fsdp}", f"Write parallel.fsdp: {' or '.join(kinds)}."
                raise InvalidValueError(("parallel", key), rule, getattr(parallel, key), hint)

    def _check_modules(self) -> None:
        """Refuse modules of recomputation that would mean nothing."""
        modules = self.schedule.recompute_modules
        if modules is not None and self.schedule.recompute != "selective":
            rule, hint = "be left out without schedule.recompute selective", "Write schedule.recompute: selective."
            raise InvalidValueError(("schedule", "recompute_modules"), rule=rule, value=list(modules), hint=hint)
        layers = self.schedule.recompute_layers
        if layers is not None and self.schedule.recompute != "full":
            rule, hint = "be left out without schedule.recompute full", "Write schedule.recompute: full."
            raise InvalidValueError(("schedule", "recompute_layers"), rule=rule, value=layers, hint=hint)

    def _check_given(self, model: ModelSection, keys: tuple[str, ...]) -> None:
        """Check that fields of the model are given, unless a preset knows them."""
        if model.preset is not None or model.hf_config is not None:
            return
        for key in keys:
            if getattr(model, key) is None:
                description = ModelSection.descriptions()[key]
                hint = f"Add `{key}` under `model`, or name a model.preset. {description}"
                raise InvalidValueError(("model", key), rule="be given", value="nothing", hint=hint)

    def _check_network_of(self, op: str) -> None:
        """Refuse what would mean nothing to a collective on its own."""
        network, hint = self.network, "Leave it out."
        operation = OPERATIONS[op]
        if not operation.has_algorithms and network.all_reduce != "auto":
            raise InvalidValueError(
                ("network", "all_reduce"), rule=f"be auto with op {op}", value=network.all_reduce, hint=hint
            )
        if not operation.is_exchange:
            for key in ("all_to_all", "num_sms"):
                value = getattr(network, key)
                if value != getattr(DEFAULT_NETWORK, key):
                    raise InvalidValueError(("network", key), rule=f"be left out of op {op}", value=value, hint=hint)
        if operation.has_algorithms and network.all_reduce != AUTO and not algorithms_for(op, network.all_reduce):
            having = [name for name in algorithm_names() if name == AUTO or algorithms_for(op, name)]
            rule, hint = (
                f"be one of {', '.join(having)} with op {op}",
                "The other algorithms do not have the operation.",
            )
            raise InvalidValueError(("network", "all_reduce"), rule=rule, value=network.all_reduce, hint=hint)

    def _check_schedule(self) -> None:
        """Check what a schedule needs of the other sections."""
        if not self.workload.trains and self.schedule.recompute != "none":
            rule, hint = f"be none with workload.kind {self.workload.kind}", "Only training recomputes passes."
            raise InvalidValueError(("schedule", "recompute"), rule=rule, value=self.schedule.recompute, hint=hint)
        name, vpp, file, chunk_order = (
            self.schedule.kind,
            self.parallel.vpp,
            self.schedule.file,
            self.schedule.chunk_order,
        )
        kind = schedule_kind_of(name, chunk_order)
        if kind.reads_file and file is None:
            hint = "Name a text file with one line of passes per stage."
            raise InvalidValueError(("schedule", "file"), f"be given with schedule.kind {name}", "nothing", hint)
        own = {"file": file, "chunk_order": None if chunk_order == DEFAULT_CHUNK_ORDER else chunk_order}
        for key, value in own.items():
            if not kind.reads_file and value is not None:
                hint = f"The key belongs to schedule.kind {CUSTOM}; remove it."
                raise InvalidValueError(("schedule", key), f"be left out with schedule.kind {name}", value, hint)
        if not kind.accepts_num_chunks(vpp or 1):
            hint = f"Each stage has {kind.num_chunks} chunk{'s' if kind.num_chunks != 1 else ''} under that schedule."
            raise InvalidValueError(("parallel", "vpp"), f"be {kind.num_chunks} with schedule.kind {name}", vpp, hint)
        if kind.needs_num_chunks and vpp is None and isinstance(self.workload, PassesWorkload):
            hint = "Write the number of chunks of each stage, such as 2."
            raise InvalidValueError(("parallel", "vpp"), f"be given with schedule.kind {name}", "nothing", hint)


def _given(value: object) -> tuple[str, object]:
    """Return whether a top-level value is a section or a key, and what a message shows of the value.

    >>> _given("compiled"), _given(("no_ep",)), _given(None), _given(JitterSection())
    (('key', 'compiled'), ('key', ['no_ep']), ('key', 'nothing'), ('section', 'a section'))
    """
    if value is None:
        return "key", "nothing"
    if isinstance(value, tuple):
        return "key", list(value)
    return ("key", value) if isinstance(value, (str, int, float)) else ("section", "a section")


def _check_claims(claims: tuple[ClaimSpec, ...]) -> None:
    """Check that claims have names of their own and support one another without a cycle."""
    positions: dict[str, int] = {}
    for i, claim in enumerate(claims):
        if claim.id in positions:
            hint = f"claims.{positions[claim.id]} has that id already; choose another."
            raise InvalidValueError(("claims", i, "id"), rule="be unique", value=claim.id, hint=hint)
        positions[claim.id] = i
    for key, verb in (("supports", "supports"), ("because_of", "follows from")):
        _check_links({claim.id: getattr(claim, key) for claim in claims}, key, verb, positions)


def _check_links(links: Mapping[str, str | None], key: str, verb: str, positions: Mapping[str, int]) -> None:
    """Check that a key of claims which names another claim names one that is there, and leads to no cycle."""
    given = {claim_id: other for claim_id, other in links.items() if other is not None}
    for claim_id, other in given.items():
        path = ("claims", positions[claim_id], key)
        if other not in positions:
            hint = "Write an id that stands in this list of claims."
            raise InvalidValueError(path, rule="be the id of a claim", value=other, hint=hint)
        chain = _chain(claim_id, given)
        if len(chain) > 1 and chain[-1] == claim_id:
            hint = f"{f' {verb} '.join(chain)}: remove one of these."
            words = {"supports": "support itself", "because_of": "follow from itself"}[key]
            raise InvalidValueError(path, rule=f"not {words} in the end", value=other, hint=hint)


def _chain(claim_id: str, following_of: Mapping[str, str]) -> list[str]:
    """Return the claims that follow one another from a claim, up to its end or its first repetition."""
    chain = {claim_id: None}
    following = following_of.get(claim_id)
    while following is not None and following not in chain:
        chain[following] = None
        following = following_of.get(following)
    return [*chain] if following is None else [*chain, following]
