"""Which scenarios a stress test simulates: every skew under every remedy with every seed.

All remedies have the same seeds, so that they meet the same tokens and their differences have little noise.

A placement is planned from loads. Where these have the popularity of the run, the plan knows what it is tested on, and
the remedy is the best case. Such a remedy gets a companion, which is no remedy but a comparison: its plan is made for
another draw of the popularity, so that it is wholly outdated. What a plan is worth in practice lies between the two.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Final

from sim.errors import InvalidValueError
from sim.scenario.claims_section import RemedySpec, StressSpec
from sim.scenario.scenario import Scenario
from workloads.placement import PLACEMENTS
from workloads.routing.kinds import ROUTINGS

__all__ = ["LOADS", "OVERFLOWS", "Grid", "Point", "build_grid", "plan_of", "remedies_of", "with_outdated_plans"]


_OTHER_ROUTING: Final = frozenset({"routing", "routing.kind", "routing.skew"})
"""Keys that give a remedy a routing of its own, equal at all skews: it is a comparison and no remedy."""


OVERFLOWS: Final = {"drop": " with drops", "pad": " padded", "reroute": " with rerouting"}
"""Value of `routing.overflow` -> its words in the name of a remedy."""


LOADS: Final = {0.0: "balanced", 1.0: "recorded"}
"""What stands for the skews where the routing is a recording, with its name."""


OUTDATED: Final = ", outdated plan"
"""Behind the name of a remedy: the name of its companion."""
_OTHER_SEEDS: Final = 1_000_000
"""Distance from the seed of a run to the seed of the loads of an outdated plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One simulation of the grid."""

    skew: float
    """Value of `routing.skew`."""
    remedy: str
    """Name of the remedy against the skew."""
    seed: int
    """Seed of all draws."""
    scenario: Scenario
    """Scenario that is simulated."""
    changes: Mapping[str, object]
    """What differs in it from the grid's scenario: dotted keys and values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """All simulations of a stress test."""

    scenario: Scenario
    """Scenario that the points change."""
    skews: tuple[float, ...]
    """Skews in ascending order; slowdowns are relative to the first. Of a recording 0 and 1: see `loads`."""
    remedies: tuple[str, ...]
    """Names of the remedies; the others are compared with the first."""
    points: tuple[Point, ...]
    """One point for every skew, remedy and seed, in this order."""
    changes: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """Remedy -> dotted keys and their values."""
    loads: Mapping[float, str] = field(default_factory=dict)
    """Skew -> its name, where the routing is a recording: 0 is the same tokens balanced, 1 the recording."""
    plans: Mapping[str, str | None] = field(default_factory=dict)
    """Remedy -> what its placement is planned from (`plan_of`)."""
    comparisons: frozenset[str] = frozenset()
    """Remedies that are shown and never recommended: marked in the scenario, or with a routing of their own."""


def build_grid(
    scenario: Scenario,
    *,
    skews: Sequence[float] | None = None,
    remedies: Sequence[RemedySpec] | None = None,
    num_seeds: int | None = None,
    is_other_routing: bool = False,
) -> Grid:
    """Return the grid of the scenario's section `stress`; arguments that are given replace parts of the section.

    Without a section, or where `routing.kind` is another than that of the file (`is_other_routing`), the skews are
    those that the routing sweeps by default, and the scenario's own.

    Raises
    ------
    InvalidValueError
        A skew or a remedy gives a scenario that is refused.
    """
    stress = scenario.spec.stress
    if stress is None or is_other_routing:
        own = (scenario.spec.routing.skew,) if scenario.spec.routing.skew else ()
        swept = (*own, *ROUTINGS[scenario.spec.routing.kind].swept_skews) or (scenario.spec.routing.skew,)
        stress = StressSpec(skew=swept) if stress is None else stress.model_copy(update={"skew": swept})
    is_recorded = scenario.spec.routing.kind == "trace"
    if is_recorded and skews:
        hint = "Leave it out: a recording is compared with the same tokens balanced."
        value = ",".join(f"{skew:g}" for skew in skews)
        raise InvalidValueError("--skew", rule="be left out with a recording", value=value, hint=hint)
    ascending = tuple(LOADS) if is_recorded else tuple(sorted(set(skews or stress.skew)))
    remedies = tuple(remedies) if remedies else stress.remedies
    seeds = range(scenario.spec.seed, scenario.spec.seed + (num_seeds or stress.seeds))
    points = []
    for skew, remedy, seed in product(ascending, remedies, seeds):
        changes: dict[str, object] = {**(remedy.set or {}), "seed": seed}
        if remedy.name.endswith(OUTDATED) and "placement.plan_seed" in changes:
            changes["placement.plan_seed"] = seed + _OTHER_SEEDS
        if not _OTHER_ROUTING & set(changes):
            changes |= _changes_of_load(skew) if is_recorded else {"routing.skew": skew}
        variant = scenario.variant(changes, at=("stress",))
        points.append(Point(skew=skew, remedy=remedy.name, seed=seed, scenario=variant, changes=changes))
    return Grid(
        scenario=scenario,
        skews=ascending,
        remedies=tuple(remedy.name for remedy in remedies),
        points=tuple(points),
        changes={remedy.name: dict(remedy.set or {}) for remedy in remedies},
        loads=LOADS if is_recorded else {},
        plans={point.remedy: plan_of(point.scenario) for point in points},
        comparisons=frozenset(
            remedy.name for remedy in remedies if remedy.comparison or _OTHER_ROUTING & set(remedy.set or {})
        ),
    )


def with_outdated_plans(scenario: Scenario, remedies: Sequence[RemedySpec]) -> list[RemedySpec]:
    """Return remedies with a companion behind each that plans a placement from the popularity that it is tested on."""
    found: list[RemedySpec] = []
    for remedy in remedies:
        found.append(remedy)
        changes = dict(remedy.set or {})
        if _OTHER_ROUTING & set(changes) or "placement" in changes or any("capacity" in key for key in changes):
            continue
        variant = scenario.variant(changes, at=("stress",)) if changes else scenario
        routing = variant.spec.routing
        can_be_outdated = ROUTINGS[routing.kind].uses("shuffled") and routing.shuffled
        if plan_of(variant) == "own" and can_be_outdated:
            plan = {"placement.plan_seed": scenario.spec.seed + _OTHER_SEEDS}
            found.append(RemedySpec(name=f"{remedy.name}{OUTDATED}", set={**changes, **plan}, comparison=True))
    return found


def plan_of(scenario: Scenario) -> str | None:
    """Return what loads the placement of a scenario is planned from; None without a plan.

    `own`: loads of the popularity that the run has; `outdated`: another draw of it; `earlier`: of a load that changes.
    """
    placement, routing = scenario.spec.placement, scenario.spec.routing
    if not placement.is_planned or ROUTINGS[routing.kind].has_equal_shares:
        return None
    if placement.plan_seed is not None:
        return "outdated"
    changes_in_time = ROUTINGS[routing.kind].uses("persistence") or placement.every is not None
    return "earlier" if changes_in_time else "own"


def _changes_of_load(load: float) -> dict[str, object]:
    """Return what balances the tokens of a recording; nothing for the recording."""
    return {} if load else {"routing.kind": "balanced", "routing.file": None}


def remedies_of(
    *, capacities: Sequence[tuple[float, str | None] | None], placements: Sequence[str], replicas: Sequence[int]
) -> list[RemedySpec]:
    """Return remedies for capacities, for placements and for each combination; the first remedy changes nothing.

    Parameters
    ----------
    capacities
        Capacity factors, each with a value of `routing.overflow` (None: that of the scenario). None stands for no
        capacity, which is tried with every placement in any case.
    placements
        Values of `placement.kind`.
    replicas
        Values of `placement.replicas`, for placements that take replicas.

    Raises
    ------
    InvalidValueError
        A placement has no name, or there are replicas and no placement that takes replicas.

    Examples
    --------
    >>> [remedy.name for remedy in remedies_of(capacities=[], placements=["eplb"], replicas=[0, 8])]
    ['nothing', 'eplb', 'eplb with 8 replicas']
    >>> [remedy.name for remedy in remedies_of(capacities=[(1.25, "pad")], placements=["greedy"], replicas=[])]
    ['nothing', 'greedy', 'capacity 1.25 padded', 'greedy, capacity 1.25 padded']
    """
    if not all(placements):
        hint = "For example: --placement greedy,eplb"
        raise InvalidValueError(
            field="--placement", rule="be names with commas between", value=",".join(placements), hint=hint
        )
    takes_replicas = [name for name, kind in PLACEMENTS.items() if kind.uses("groups")]  # replicas are its remedy
    if any(replicas) and not set(takes_replicas) & set(placements):
        hint = f"For example: --placement {takes_replicas[0]} --replicas {max(replicas)}"
        value = ",".join(str(num_replicas) for num_replicas in replicas)
        rule = f"be given with --placement {' or '.join(takes_replicas)}"
        raise InvalidValueError(field="--replicas", rule=rule, value=value, hint=hint)
    found = {"nothing": RemedySpec(name="nothing")}
    variants = [("", 0)]
    for name in placements:
        variants += [(name, num_replicas) for num_replicas in ((replicas or [0]) if name in takes_replicas else [0])]
    for capacity, (placement, num_replicas) in product([None, *capacities], variants):
        changes: dict[str, object] = {}
        names = []
        if placement:
            changes["placement.kind"] = placement
            names.append(f"{placement} with {num_replicas} replicas" if num_replicas else placement)
        if num_replicas:
            changes["placement.replicas"] = num_replicas
        if capacity is not None:
            factor, overflow = capacity
            changes["routing.capacity_factor"] = factor
            if overflow is not None:
                changes["routing.overflow"] = overflow
            names.append(f"capacity {factor:g}{OVERFLOWS.get(overflow or '', '')}")
        name = ", ".join(names) or "nothing"
        found.setdefault(name, RemedySpec(name=name, set=changes or None))
    return list(found.values())
