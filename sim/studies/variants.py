"""The further scenarios that are simulated for a scenario's claims: its alternatives, its rivals, and further seeds.

Each of these is a scenario of its own. A rival may be a bare strategy name: what the name leaves open is filled in.
Superlatives about a part of the strategy have rivals of their own, in which that part alone is changed
(`sim.studies.parts`).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from sim.build.build import check_values
from sim.build.cluster import cluster_of
from sim.build.layout import mesh_of, model_of, strategy_of
from sim.errors import InvalidValueError
from sim.scenario.scenario import Scenario
from sim.scenario.workload_section import CollectiveWorkload, ForwardWorkload, TrainingWorkload
from sim.studies.parts import FEW, changes_of_part
from sim.studies.sensitivity import Change, changes_of
from workloads.conventions import CONVENTIONS
from workloads.jitter import MEASURED
from workloads.strategy import Strategy

__all__ = ["Rival", "Variants", "suit_rival", "variants_of"]

_MICROBATCHES: Final = "workload.microbatches"
THOROUGH_SEEDS: Final = 8
"""Runs with jitter that the intervals of a thorough run are taken over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """Something that a superlative is judged against."""

    name: str
    """What it is called."""
    scenario: Scenario
    """What is simulated."""
    part: str | None = None
    """The part of the strategy that it changes; None: it is declared under `rivals`."""
    changes: Mapping[str, object] = field(default_factory=dict)
    """Dotted keys that a change of a part sets."""


@dataclass(frozen=True, kw_only=True)
class Variants:
    """The further scenarios of a scenario's claims, in the order in which they are simulated."""

    alternatives: list[Scenario]
    """One for each entry of `alternatives`; none where there is no claim."""
    rivals: list[Rival]
    """One or two for each entry of `rivals`, then those of parts; none where no superlative is about them."""
    seeds: list[Scenario]
    """The scenario under further seeds; none where there is no claim."""
    not_run: dict[str, list[str]] = field(default_factory=dict)
    """Part -> names of changes that a default run leaves out."""
    draws: str = "seeds"
    """What differs between the runs of `seeds`, in words."""
    are_jittered: bool = False
    """Whether the runs of `seeds` have a jitter that the scenario does not have."""
    crossed: list[list[Rival]] = field(default_factory=list)
    """For each alternative the declared rivals under it; none by default."""
    changes: list[Change] = field(default_factory=list)
    """Each assumption changed alone; none by default."""

    @property
    def scenarios(self) -> list[Scenario]:
        """All of them."""
        return [
            *self.alternatives,
            *(rival.scenario for rival in self.rivals),
            *self.seeds,
            *(rival.scenario for under in self.crossed for rival in under),
            *(change.scenario for change in self.changes),
        ]

    @property
    def rival_names(self) -> list[str]:
        """What each rival is called."""
        return [rival.name for rival in self.rivals]

    def rivals_about(self, part: str | None) -> list[int]:
        """Return the positions of the rivals of a superlative about a part; None: about the whole strategy."""
        return [i for i, rival in enumerate(self.rivals) if rival.part == part]


def variants_of(scenario: Scenario, *, thorough: bool = False) -> Variants:
    """Return the further scenarios that the claims of a scenario need.

    `thorough`: also all changes of parts, rivals under every alternative, seeds with jitter, and changed assumptions.

    Raises
    ------
    InvalidValueError
        An alternative or a rival names a preset that does not exist, or contradicts itself.
    """
    spec = scenario.spec
    has_claims = bool(spec.claims)
    parts = dict.fromkeys(claim.part for claim in spec.claims if claim.superlative)
    alternatives = [scenario.alternative(i) for i in range(len(spec.alternatives))] if has_claims else []
    declared = [suit_rival(scenario, i) for i in range(len(spec.rivals))] if None in parts else []
    rivals = [Rival(name=name, scenario=varied) for varied, name in declared]
    rivals += [whole for rival in rivals if (whole := _without_microbatches(rival)) is not None]
    for variant in (*alternatives, *(rival.scenario for rival in rivals)):
        check_values(variant)
    not_run: dict[str, list[str]] = {}
    for part in parts:
        if part is not None:
            of_part = _rivals_of_part(scenario, part)
            few = len(of_part) if thorough else FEW[part]
            rivals += of_part[:few]
            not_run |= {part: [rival.name for rival in of_part[few:]]} if of_part[few:] else {}
    seeds = [scenario.variant({"seed": spec.seed + i}) for i in range(1, spec.seeds)] if has_claims else []
    variants = Variants(alternatives=alternatives, rivals=rivals, seeds=seeds, not_run=not_run)
    return _thoroughly(scenario, variants) if thorough and has_claims else variants


def _thoroughly(scenario: Scenario, variants: Variants) -> Variants:
    """Return the variants with rivals under every alternative, seeds with jitter, and changed assumptions."""
    spec = scenario.spec
    can_vary = not isinstance(spec.workload, CollectiveWorkload)
    adds_jitter = can_vary and not spec.jitter.as_given.is_on
    jitter: dict[str, object] = (
        {"jitter.pass_cv": MEASURED.pass_cv, "jitter.rank_spread": MEASURED.rank_spread} if adds_jitter else {}
    )
    first = 0 if adds_jitter else 1  # the exact run is none of the draws
    number = max(spec.seeds, THOROUGH_SEEDS)
    crossed = []
    if any(rival.part is None for rival in variants.rivals):
        for alternative in variants.alternatives:
            crossed.append([rival for i in range(len(spec.rivals)) if (rival := _under(alternative, i)) is not None])
    return replace(
        variants,
        seeds=[scenario.variant({"seed": spec.seed + i, **jitter}) for i in range(first, number)],
        draws="seeds with jitter" if can_vary else "seeds",
        are_jittered=adds_jitter,
        crossed=crossed,
        changes=changes_of(scenario),
    )


def _without_microbatches(rival: Rival) -> Rival | None:
    """Return a rival of one stage with one microbatch where the number was filled in: one stage has no bubble."""
    chosen = re.search(r"microbatches (\d+)\)$", rival.name)
    workload = rival.scenario.spec.workload
    is_forward = isinstance(workload, ForwardWorkload) and workload.microbatches > 1
    if chosen is None or not is_forward or strategy_of(rival.scenario).pp > 1:
        return None
    name = f"{rival.name[: chosen.start()]}microbatches 1)"
    return replace(rival, name=name, scenario=rival.scenario.variant({_MICROBATCHES: 1}))


def _under(alternative: Scenario, position: int) -> Rival | None:
    """Return a rival under an alternative; None where there is no such strategy."""
    try:
        varied, name = suit_rival(alternative, position)
        check_values(varied)
    except InvalidValueError:
        return None
    return Rival(name=name, scenario=varied)


def _rivals_of_part(scenario: Scenario, part: str) -> list[Rival]:
    """Return the changes of a part as rivals, without those that make no valid scenario."""
    found = []
    for name, changes in changes_of_part(scenario, part).items():
        suffix = ""
        try:
            varied = scenario.variant(changes)
            if part == "tp":
                varied, more = _with_suited_microbatches(scenario, varied, changes)
                number = more.get(_MICROBATCHES)
                given = scenario.raw["workload"].get("microbatches")
                suffix = "" if number in (None, given) else f" (microbatches {number})"
            check_values(varied)
        except InvalidValueError:
            continue  # no choice that the strategy has
        found.append(Rival(name=f"{name}{suffix}", scenario=varied, part=part, changes=changes))
    return found


def suit_rival(scenario: Scenario, position: int) -> tuple[Scenario, str]:
    """Return a rival as a scenario, and its name, with what a bare strategy name leaves open filled in.

    A rival that names a strategy and no convention takes the first convention under which it is legal; one that gives
    no microbatches takes as many as divide its sequences, at most the scenario's.
    """
    rival = scenario.spec.rivals[position]
    given = {"parallel.strategy": rival} if isinstance(rival, str) else dict(rival)
    varied = scenario.rival(position)
    changes: dict[str, object] = {}
    name = given.get("parallel.strategy")
    if name is None:
        return varied, ", ".join(f"{key}: {value}" for key, value in given.items())
    with varied.located_errors():
        cluster, strategy = cluster_of(varied), Strategy.parse(str(name))
    if "parallel.convention" not in given:
        sizes = {"num_gpus": cluster.num_gpus, "gpus_per_node": cluster.gpus_per_node}
        trains = isinstance(varied.spec.workload, TrainingWorkload)
        possible = [c for c in CONVENTIONS.values() if c.supports_training or not trains]
        legal = [c.name for c in possible if c.why_illegal(strategy, **sizes) is None]
        changes["parallel.convention"] = legal[0] if legal else scenario.spec.parallel.convention
        if varied.spec.parallel.sp is not None and changes["parallel.convention"] != scenario.spec.parallel.convention:
            changes["parallel.sp"] = None
    varied = varied.variant({**given, **changes}, at=("rivals", position))
    if _MICROBATCHES not in given:
        varied, more = _with_suited_microbatches(scenario, varied, {**given, **changes}, position)
        changes |= more
    shown = {key: value for key, value in given.items() if key != "parallel.strategy"}
    extra = "".join(
        f", {key.rpartition('.')[2]} {value}" for key, value in {**shown, **changes}.items() if value is not None
    )
    return varied, f"{name} ({extra[2:]})" if extra else str(name)


def _with_suited_microbatches(
    scenario: Scenario, varied: Scenario, changes: Mapping[str, object], position: int | None = None
) -> tuple[Scenario, dict[str, object]]:
    """Return a scenario with as many microbatches as divide the sequences of its replicas, and the key that is set.

    Parameters
    ----------
    scenario, varied
        The scenario, and what changes make of it.
    changes, position
        These changes, and the position of the rival that they are.
    """
    workload = varied.spec.workload
    if not isinstance(workload, (ForwardWorkload, TrainingWorkload)):
        return varied, {}
    with varied.located_errors():
        dp = mesh_of(varied, cluster_of(varied), model_of(varied)).dp
    if workload.sequences % dp:
        return varied, {}
    more: dict[str, object] = {_MICROBATCHES: _largest_divisor(workload.sequences // dp, at_most=workload.microbatches)}
    at = None if position is None else ("rivals", position)
    return scenario.variant({**changes, **more}, at=at), more


def _largest_divisor(number: int, *, at_most: int) -> int:
    """Return the largest divisor of a number that is no larger than `at_most`.

    >>> _largest_divisor(12, at_most=5), _largest_divisor(7, at_most=6)
    (4, 1)
    """
    small = [divisor for divisor in range(1, math.isqrt(number) + 1) if number % divisor == 0]
    return max(divisor for low in small for divisor in (low, number // low) if divisor <= at_most)
