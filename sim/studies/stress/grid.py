"""Which scenarios a stress test simulates: every skew under every remedy with every seed.

Seeds are the same for all, so that two remedies meet the same tokens and their difference has little noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Final

from sim.errors import InvalidValueError
from sim.scenario.scenario import Scenario
from sim.scenario.stress_section import RemedySpec, StressSpec

__all__ = ["OVERFLOWS", "Grid", "Point", "build_grid", "remedies_of"]


_OTHER_ROUTING: Final = frozenset({"routing", "routing.kind", "routing.skew"})
"""Keys by which a row of the grid has a routing of its own, the same at every skew: for comparison, no remedy."""


OVERFLOWS: Final = {"drop": " with drops", "pad": " padded", "reroute": " with rerouting"}
"""What becomes of tokens beyond capacity, as names of remedies say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One simulation of the grid."""

    skew: float
    """Value of `routing.skew`."""
    remedy: str
    """Name of what is done against it."""
    seed: int
    """Seed."""
    scenario: Scenario
    """What is simulated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """All simulations."""

    skews: tuple[float, ...]
    """From the smallest on, which is what slowdowns are told against."""
    remedies: tuple[str, ...]
    """The first is what others are told against."""
    points: tuple[Point, ...]
    """Every skew, remedy and seed."""
    changes: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """Remedy -> dotted keys and their values."""
    comparisons: frozenset[str] = frozenset()
    """Remedies that are for comparison alone: as the scenario says, or with a routing of their own."""


def build_grid(
    scenario: Scenario,
    *,
    skews: Sequence[float] | None = None,
    remedies: Sequence[RemedySpec] | None = None,
    num_seeds: int | None = None,
) -> Grid:
    """Return the grid of the scenario's section `stress`, with the parts that are given instead of its own.

    Raises
    ------
    InvalidValueError
        A skew or a remedy makes a scenario that is refused.
    """
    stress = scenario.spec.stress or StressSpec(skew=(scenario.spec.routing.skew,))
    chosen = tuple(sorted(set(skews or stress.skew)))
    against = tuple(remedies) if remedies else stress.remedies
    seeds = range(scenario.spec.seed, scenario.spec.seed + (num_seeds or stress.seeds))
    points = []
    for skew, remedy, seed in product(chosen, against, seeds):
        changes: dict[str, object] = {**(remedy.set or {}), "seed": seed}
        if not _OTHER_ROUTING & set(changes):
            changes["routing.skew"] = skew
        varied = scenario.variant(changes, at=("stress",))
        points.append(Point(skew=skew, remedy=remedy.name, seed=seed, scenario=varied))
    return Grid(
        skews=chosen,
        remedies=tuple(remedy.name for remedy in against),
        points=tuple(points),
        changes={remedy.name: dict(remedy.set or {}) for remedy in against},
        comparisons=frozenset(one.name for one in against if one.comparison or _OTHER_ROUTING & set(one.set or {})),
    )


def remedies_of(
    *, capacities: Sequence[tuple[float, str | None] | None], placements: Sequence[str], replicas: Sequence[int]
) -> list[RemedySpec]:
    """Return remedies for capacities, for placements and for each combination of both; nothing done is the first.

    Parameters
    ----------
    capacities
        Capacity factors, each with what becomes of more tokens (`routing.overflow`; None: what the scenario says). None
        is no capacity, which is tried with every placement in any case.
    placements
        Values of `placement.kind`.
    replicas
        Replicas of the placement eplb; they go with no other.

    Raises
    ------
    InvalidValueError
        A placement has no name, or there are replicas and no placement eplb.

    Examples
    --------
    >>> [one.name for one in remedies_of(capacities=[], placements=["eplb"], replicas=[0, 8])]
    ['nothing', 'eplb', 'eplb with 8 replicas']
    >>> [one.name for one in remedies_of(capacities=[(1.25, "pad")], placements=["greedy"], replicas=[])]
    ['nothing', 'greedy', 'capacity 1.25 padded', 'greedy, capacity 1.25 padded']
    """
    if not all(placements):
        hint = "For example: --placement greedy,eplb"
        raise InvalidValueError(
            field="--placement", rule="be names with commas between", value=",".join(placements), hint=hint
        )
    if any(replicas) and "eplb" not in placements:
        hint = f"For example: --placement eplb --replicas {max(replicas)}"
        given = ",".join(str(copies) for copies in replicas)
        raise InvalidValueError(field="--replicas", rule="be given with --placement eplb", value=given, hint=hint)
    found = {"nothing": RemedySpec(name="nothing")}
    placed = [
        ("", 0),
        *((one, copies) for one in placements for copies in ((replicas or [0]) if one == "eplb" else [0])),
    ]
    for capacity, (placement, copies) in product([None, *capacities], placed):
        changes: dict[str, object] = {}
        names = []
        if placement:
            changes["placement.kind"] = placement
            names.append(f"{placement} with {copies} replicas" if copies else placement)
        if copies:
            changes["placement.replicas"] = copies
        if capacity is not None:
            factor, overflow = capacity
            changes["routing.capacity_factor"] = factor
            if overflow is not None:
                changes["routing.overflow"] = overflow
            names.append(f"capacity {factor:g}{OVERFLOWS.get(overflow or '', '')}")
        name = ", ".join(names) or "nothing"
        found.setdefault(name, RemedySpec(name=name, set=changes or None))
    return list(found.values())
