"""Which scenarios a stress test simulates: every skew under every remedy with every seed.

Seeds are the same for all, so that two remedies meet the same tokens and their difference has little noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Final

from sim.errors import InputError
from sim.scenario.scenario import Scenario
from sim.scenario.stress_section import RemedySpec, StressSpec

__all__ = ["Grid", "Point", "build_grid", "remedies_of"]


_OTHER_ROUTING: Final = frozenset({"routing", "routing.kind", "routing.skew"})
"""Keys by which a row of the grid has a routing of its own, the same at every skew: for comparison, no remedy."""


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
    """The first is what slowdowns are told against."""
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
    InputError
        A skew or a remedy makes a scenario that is refused.
    """
    stress = scenario.spec.stress or StressSpec(skew=(scenario.spec.routing.skew,))
    chosen = tuple(skews) if skews else stress.skew
    against = tuple(remedies) if remedies else stress.remedies
    seeds = range(scenario.spec.seed, scenario.spec.seed + (num_seeds or stress.seeds))
    points = []
    for skew, remedy, seed in product(dict.fromkeys(chosen), against, seeds):
        changes: dict[str, object] = {**(remedy.set or {}), "seed": seed}
        if not _OTHER_ROUTING & set(changes):
            changes["routing.skew"] = skew
        varied = scenario.variant(changes, at=("stress",))
        points.append(Point(skew=skew, remedy=remedy.name, seed=seed, scenario=varied))
    return Grid(
        skews=tuple(dict.fromkeys(chosen)),
        remedies=tuple(remedy.name for remedy in against),
        points=tuple(points),
        changes={remedy.name: dict(remedy.set or {}) for remedy in against},
        comparisons=frozenset(one.name for one in against if one.comparison or _OTHER_ROUTING & set(one.set or {})),
    )


def remedies_of(
    *, capacities: Sequence[float | None], placements: Sequence[str], replicas: Sequence[int]
) -> list[RemedySpec]:
    """Return remedies for each combination of capacity factors, placements and replicas; nothing done is the first.

    Replicas go with the placement eplb alone.

    Raises
    ------
    InputError
        A placement has no name, or there are replicas and no placement eplb.

    Examples
    --------
    >>> [one.name for one in remedies_of(capacities=[], placements=["eplb"], replicas=[0, 8])]
    ['nothing', 'eplb', 'eplb with 8 replicas']
    """
    if not all(placements):
        cure = "For example: --placement greedy,eplb"
        raise InputError(
            field="--placement", rule="be names with commas between", value=",".join(placements), cure=cure
        )
    if any(replicas) and "eplb" not in placements:
        cure = f"For example: --placement eplb --replicas {max(replicas)}"
        given = ",".join(str(copies) for copies in replicas)
        raise InputError(field="--replicas", rule="be given with --placement eplb", value=given, cure=cure)
    found = {"nothing": RemedySpec(name="nothing")}
    for capacity, placement, copies in product(capacities or [None], placements or [""], replicas or [0]):
        if copies and placement != "eplb":
            continue
        changes: dict[str, object] = {}
        names = []
        if placement:
            changes["placement.kind"] = placement
            names.append(f"{placement} with {copies} replicas" if copies else placement)
        if copies:
            changes["placement.replicas"] = copies
        if capacity is not None:
            changes["routing.capacity_factor"] = capacity
            names.append(f"capacity {capacity:g}")
        name = ", ".join(names) or "nothing"
        found.setdefault(name, RemedySpec(name=name, set=changes or None))
    return list(found.values())
