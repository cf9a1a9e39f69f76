"""The space of strategies: every legal combination of the axes for a model, a cluster and a work.

Axes
----
    convention        those under which frameworks run the work (training: megatron; forward: megatron and vllm)
    TP, PP, EP, CP    divisors of the number of GPUs; TP divides the heads, PP at most the layers, EP the experts
    ETP               1 and TP (megatron)
    DP                what the others leave, so that all GPUs are used
    VPP, schedule     1f1b; interleaved with 2 and 4 chunks a stage; zb_h1 in training. Where layers do not divide by
                      the stages, the first stages have one more
    microbatches      powers of two sequences a microbatch, and all that a replica has
    recomputation     none, selective and full in training
    ZeRO              0 and 1 in training with replicas

`fix` sets an axis, or any key, to one value, and `over` to a list of values. Combinations that a quick rule refuses are
no part of the space; those that `sim.build` refuses are counted as such when they are reached.
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sim.build.cluster import cluster_of
from sim.build.layout import model_of
from sim.build.runtime import runtime_of
from sim.errors import InvalidValueError
from sim.scenario.overrides import apply_variant
from sim.scenario.scenario import Scenario
from sim.scenario.workload_section import ForwardWorkload, TrainingWorkload
from topology.cluster import Cluster
from workloads.conventions import CONVENTIONS, Convention
from workloads.model import ModelSpec
from workloads.strategy import Strategy

__all__ = ["AXES", "MOST_CANDIDATES", "Candidate", "Space", "space_of"]

MOST_CANDIDATES: Final = 2_000_000
"""Combinations above which a space is refused."""

_STRATEGY: Final = ("tp", "pp", "ep", "etp", "cp", "vpp")
_FRAMEWORKS: Final = {True: ("megatron",), False: ("megatron", "vllm")}
"""Whether the work trains -> conventions under which it is run."""
_CHUNKS: Final = (1, 2, 4)
_SCHEDULES: Final = {True: ("1f1b", "interleaved", "zb_h1"), False: ("1f1b", "interleaved")}
_RECOMPUTE: Final = ("none", "selective", "full")
_ZERO: Final = (0, 1)
_MOST_TP: Final = 64
_MOST_CP: Final = 16

AXES: Final = (
    "parallel.convention",
    *(f"parallel.{axis}" for axis in _STRATEGY),
    "workload.microbatches",
    "schedule.kind",
    "schedule.recompute",
    "parallel.zero",
)
"""Keys that the space varies, unless they are fixed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One combination."""

    convention: str
    strategy: Strategy
    """With DP as it follows."""
    microbatches: int
    schedule: str
    recompute: str
    zero: int
    stage_layers: tuple[int, ...] | None = None
    """Layers of each stage, where they do not divide."""
    others: tuple[tuple[str, str], ...] = ()
    """Further keys of `fix` and `over` with their values, as JSON."""

    def changes(self, *, trains: bool) -> dict[str, Any]:
        """Return the keys of a scenario that say it."""
        named = self.rules.as_named(self.strategy)
        changes: dict[str, Any] = {
            "parallel.strategy": named.name,
            "parallel.convention": self.convention,
            "workload.microbatches": self.microbatches,
            "schedule.kind": self.schedule,
        }
        if trains:
            changes |= {"schedule.recompute": self.recompute, "parallel.zero": self.zero}
        if self.stage_layers is not None:
            changes["parallel.stage_layers"] = list(self.stage_layers)
        return changes | {key: json.loads(value) for key, value in self.others}

    @property
    def rules(self) -> Convention:
        """The convention itself, which answers for what follows from it."""
        return CONVENTIONS[self.convention]

    @property
    def has_own_runtime(self) -> bool:
        """Whether what the software does is not that of the scenario."""
        return any(key.startswith("runtime.") for key, _ in self.others)

    @property
    def name(self) -> str:
        """A short name, for tables."""
        parts = [self.kind]
        parts += [f"m{self.microbatches}"]
        parts += [self.schedule] if self.schedule != "1f1b" else []
        parts += [f"recompute {self.recompute}"] if self.recompute != "none" else []
        parts += [f"ZeRO {self.zero}"] if self.zero else []
        return " ".join([*parts, *(f"{key}={json.loads(value)}" for key, value in self.others)])

    @property
    def kind(self) -> str:
        """The sizes of its axes, without microbatches, schedule, recomputation and ZeRO."""
        return self.strategy.name + ("" if self.rules.splits_sequence_over_tp else f" ({self.convention})")


@dataclass(frozen=True, kw_only=True)
class Space:
    """All candidates of a scenario."""

    scenario: Scenario
    """Without claims, and without what the axes set."""
    cluster: Cluster
    model: ModelSpec
    trains: bool
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Keys that no axis has and that all candidates have; `scenario` has them."""
    candidates: list[Candidate] = field(default_factory=list)
    values: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Key -> values that were tried."""

    def scenario_of(self, candidate: Candidate) -> Scenario:
        """Return a candidate as a scenario; errors are those of `Scenario.variant`."""
        return self.scenario.variant(candidate.changes(trains=self.trains))


def space_of(
    scenario: Scenario, *, fix: Mapping[str, Any] | None = None, over: Mapping[str, Sequence[Any]] | None = None
) -> Space:
    """Return the space of a scenario of kind forward or training.

    Raises
    ------
    InvalidValueError
        The work has no strategy, a key is given twice, or nothing is legal.
    """
    workload = scenario.spec.workload
    if not isinstance(workload, (ForwardWorkload, TrainingWorkload)):
        rule, hint = "be forward or training for a search", "Collectives and given passes have no strategy."
        raise InvalidValueError("workload.kind", rule, workload.kind, hint)
    fixed = {key: [value] for key, value in (fix or {}).items()}
    listed = {key: list(values) for key, values in (over or {}).items()}
    for key in fixed:
        if key in listed:
            rule = "be left out where search.fix has it"
            raise InvalidValueError(f"search.over.{key}", rule, key, "Keep one of both.")
    given = fixed | listed
    _check(scenario, given)
    everywhere = {key: values[0] for key, values in fixed.items() if key not in AXES}
    bare = _without_axes(scenario.without_judgement(), given)
    bare = bare.variant(everywhere) if everywhere else bare
    cluster, model = cluster_of(bare), model_of(bare)
    trains = isinstance(workload, TrainingWorkload)
    can_split = runtime_of(bare).attention != "unfused"
    axes = _Axes(cluster, model, workload.sequences, workload.sequence_length, trains, can_split, given)
    others = {key: values for key, values in listed.items() if key not in AXES}
    candidates = list(axes.candidates(others))
    if not candidates:
        shown = ", ".join(f"{key} = {', '.join(map(str, values))}" for key, values in given.items()) or "nothing"
        rule = f"leave a legal strategy for {cluster.num_gpus} GPUs"
        hint = "DP is what the other axes leave; sequences must divide among DP and microbatches."
        raise InvalidValueError("search", rule, shown, hint)
    return Space(
        scenario=bare,
        cluster=cluster,
        model=model,
        trains=trains,
        fixed=everywhere,
        candidates=candidates,
        values=axes.values | others,
    )


# ---- private -----------------------------------------------------------------------------------------------------


def _check(scenario: Scenario, given: Mapping[str, Sequence[Any]]) -> None:
    """Refuse keys that do not exist, and what bounds say nothing of."""
    for key, values in given.items():
        try:
            apply_variant(scenario.raw, {key: values[0]})
        except InvalidValueError as error:
            raise InvalidValueError(f"search: {key}", error.rule, error.value, error.hint) from None
    for key in ("what_if", "jitter"):
        if scenario.is_given(key):
            hint = "Bounds are those of the exact run of the whole work: remove the key."
            raise InvalidValueError(key, "be left out in a search", "a value", hint)


def _without_axes(scenario: Scenario, given: Mapping[str, Sequence[Any]]) -> Scenario:
    """Return the scenario without the keys that belong to one strategy alone."""
    dropped = {
        "parallel.stage_layers": None,
        "parallel.layout": None,
        "parallel.sp": None,
        "parallel.exchange": "one_sided",
    }
    changes = {key: value for key, value in dropped.items() if scenario.is_given(key) and key not in given}
    if scenario.spec.parallel.strategy is None:
        changes |= {f"parallel.{axis}": None for axis in (*_STRATEGY, "dp") if scenario.is_given(f"parallel.{axis}")}
        changes["parallel.strategy"] = "TP1"
    return scenario.variant(changes) if changes else scenario


def _divisors(number: int, most: int) -> list[int]:
    return [d for d in range(1, min(number, most) + 1) if number % d == 0]


@dataclass(frozen=True)
class _Axes:
    """The values of the axes, and which combinations are legal."""

    cluster: Cluster
    model: ModelSpec
    sequences: int
    sequence_length: int
    trains: bool
    can_split: bool
    """Whether attention can be split over CP."""
    given: Mapping[str, Sequence[Any]]

    @property
    def values(self) -> dict[str, Sequence[Any]]:
        """Values of each axis; of microbatches those that are given."""
        gpus, experts, layers = self.cluster.num_gpus, self.model.experts, self.model.layers
        return {
            "parallel.convention": self._of("parallel.convention", _FRAMEWORKS[self.trains]),
            "parallel.tp": self._of("parallel.tp", [d for d in _divisors(gpus, _MOST_TP) if self._divides_heads(d)]),
            "parallel.pp": self._of("parallel.pp", _divisors(gpus, layers)),
            "parallel.ep": self._of("parallel.ep", [d for d in _divisors(gpus, experts or 1) if not experts % d]),
            "parallel.cp": self._of("parallel.cp", _divisors(gpus, _MOST_CP) if self.can_split else (1,)),
            "parallel.etp": self._of("parallel.etp", ()),
            "parallel.vpp": self._of("parallel.vpp", _CHUNKS),
            "schedule.kind": self._of("schedule.kind", _SCHEDULES[self.trains]),
            "schedule.recompute": self._of("schedule.recompute", _RECOMPUTE if self.trains else ("none",)),
            "parallel.zero": self._of("parallel.zero", _ZERO if self.trains else (0,)),
            "workload.microbatches": self._of("workload.microbatches", ()),
        }

    def candidates(self, others: Mapping[str, Sequence[Any]]) -> Iterator[Candidate]:
        """Yield the legal combinations, in a fixed order."""
        values, found = self.values, 0
        extra = [
            tuple((key, json.dumps(value)) for key, value in zip(others, combination, strict=True))
            for combination in itertools.product(*others.values())
        ]
        for convention, tp, pp, ep, cp in itertools.product(
            *(values[f"parallel.{axis}"] for axis in ("convention", "tp", "pp", "ep", "cp"))
        ):
            for etp in values["parallel.etp"] or ([1, tp] if tp > 1 and ep >= 1 and self.model.experts else [1]):
                strategy = self._legal(convention, Strategy(tp=tp, pp=pp, ep=ep, etp=etp, cp=cp))
                if strategy is None:
                    continue
                for inner in self._inner(strategy, values):
                    for keys in extra:
                        found += 1
                        if found > MOST_CANDIDATES:
                            rule, hint = f"have at most {MOST_CANDIDATES:,} strategies", "Fix some axes: search.fix."
                            raise InvalidValueError("search", rule, "more", hint)
                        yield Candidate(convention=convention, others=keys, **inner)

    def _inner(self, strategy: Strategy, values: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
        """Yield what a strategy leaves open."""
        dp = strategy.dp or 1
        zeros = [zero for zero in values["parallel.zero"] if dp * strategy.cp > 1 or not zero]
        for vpp, schedule in itertools.product(values["parallel.vpp"], values["schedule.kind"]):
            if not self._schedules(schedule, strategy.pp, vpp):
                continue
            for microbatches in self._microbatches(strategy, schedule):
                for recompute, zero in itertools.product(values["schedule.recompute"], zeros):
                    yield {
                        "strategy": Strategy(
                            tp=strategy.tp,
                            pp=strategy.pp,
                            ep=strategy.ep,
                            etp=strategy.etp,
                            cp=strategy.cp,
                            dp=strategy.dp,
                            vpp=vpp,
                        ),
                        "microbatches": microbatches,
                        "schedule": schedule,
                        "recompute": recompute,
                        "zero": zero,
                        "stage_layers": self._stage_layers(strategy.pp),
                    }

    def _of(self, key: str, default: Sequence[Any]) -> Sequence[Any]:
        return list(self.given.get(key, default))

    def _divides_heads(self, tp: int) -> bool:
        heads = self.model.heads
        return not heads or heads % tp == 0

    def _legal(self, convention: str, strategy: Strategy) -> Strategy | None:
        """Return a strategy with its DP where it is legal on all GPUs."""
        rules, gpus = CONVENTIONS[convention], self.cluster.num_gpus
        sizes = {"num_gpus": gpus, "gpus_per_node": self.cluster.gpus_per_node}
        if rules.why_illegal(strategy, **sizes) is not None:
            return None
        dp = rules.dp_of(strategy, gpus)
        if dp is None or strategy.tp * strategy.cp * strategy.pp * dp != gpus:
            return None
        if strategy.cp > 1 and self.sequence_length % (2 * strategy.cp):
            return None
        if self.sequences % dp:
            return None
        return Strategy(tp=strategy.tp, pp=strategy.pp, ep=strategy.ep, etp=strategy.etp, cp=strategy.cp, dp=dp)

    def _schedules(self, schedule: str, pp: int, vpp: int) -> bool:
        """Return whether a schedule runs so many stages and chunks."""
        if (schedule == "interleaved") != (vpp > 1):
            return False
        if pp == 1:
            return schedule == "1f1b"
        if self.model.layers % pp and vpp > 1:
            return False
        return pp * vpp <= self.model.layers and (vpp == 1 or self.model.layers % (pp * vpp) == 0)

    def _stage_layers(self, pp: int) -> tuple[int, ...] | None:
        """Return the layers of each stage, the first stages one more, where they do not divide."""
        each, more = divmod(self.model.layers, pp)
        if not more or "parallel.stage_layers" in self.given or "parallel.layout" in self.given:
            return None
        return tuple(each + (stage < more) for stage in range(pp))

    def _microbatches(self, strategy: Strategy, schedule: str) -> Sequence[int]:
        """Return numbers of microbatches of a replica."""
        own = self.sequences // (strategy.dp or 1)
        if self.given.get("workload.microbatches"):
            return [number for number in self.given["workload.microbatches"] if own % number == 0]
        sizes = [2**i for i in range(own.bit_length()) if own % 2**i == 0]
        numbers = sorted({own // size for size in sizes} | {1}, reverse=True)
        if schedule == "interleaved":
            numbers = [number for number in numbers if number % strategy.pp == 0]
        return numbers
