"""The further scenarios that are simulated for a scenario's claims: its alternatives, its rivals, and further seeds.

Each of these is a scenario of its own. A rival may be a bare strategy name: what the name leaves open is filled in.
"""

import math
from dataclasses import dataclass

from sim.build.build import check_values
from sim.build.cluster import cluster_of
from sim.build.layout import mesh_of, model_of
from sim.scenario.scenario import Scenario
from sim.scenario.workload_section import ForwardWorkload, TrainingWorkload
from workloads.conventions import CONVENTIONS
from workloads.strategy import Strategy

__all__ = ["Variants", "suit_rival", "variants_of"]


@dataclass(frozen=True, kw_only=True)
class Variants:
    """The further scenarios of a scenario's claims, in the order in which they are simulated."""

    alternatives: list[Scenario]
    """One for each entry of `alternatives`; none where there is no claim."""
    rivals: list[Scenario]
    """One for each entry of `rivals`; none where no claim is a superlative."""
    rival_names: list[str]
    """What each rival is called."""
    seeds: list[Scenario]
    """The scenario under further seeds; none where there is no claim."""

    @property
    def scenarios(self) -> list[Scenario]:
        """All of them."""
        return [*self.alternatives, *self.rivals, *self.seeds]


def variants_of(scenario: Scenario) -> Variants:
    """Return the further scenarios that the claims of a scenario need.

    Raises
    ------
    InvalidValueError
        An alternative or a rival names a preset that does not exist, or contradicts itself.
    """
    spec = scenario.spec
    has_claims = bool(spec.claims)
    has_superlatives = any(claim.superlative for claim in spec.claims)
    alternatives = [scenario.alternative(i) for i in range(len(spec.alternatives))] if has_claims else []
    rivals = [suit_rival(scenario, i) for i in range(len(spec.rivals))] if has_superlatives else []
    variants = Variants(
        alternatives=alternatives,
        rivals=[rival for rival, _ in rivals],
        rival_names=[name for _, name in rivals],
        seeds=[scenario.variant({"seed": spec.seed + i}) for i in range(1, spec.seeds)] if has_claims else [],
    )
    for variant in (*variants.alternatives, *variants.rivals):
        check_values(variant)
    return variants


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
    workload = varied.spec.workload
    if "workload.microbatches" not in given and isinstance(workload, (ForwardWorkload, TrainingWorkload)):
        with varied.located_errors():
            dp = mesh_of(varied, cluster, model_of(varied)).dp
        if workload.sequences % dp == 0:
            per_replica = workload.sequences // dp
            changes["workload.microbatches"] = _largest_divisor(per_replica, at_most=workload.microbatches)
            varied = varied.variant({**given, **changes}, at=("rivals", position))
    shown = {key: value for key, value in given.items() if key != "parallel.strategy"}
    extra = "".join(
        f", {key.rpartition('.')[2]} {value}" for key, value in {**shown, **changes}.items() if value is not None
    )
    return varied, f"{name} ({extra[2:]})" if extra else str(name)


def _largest_divisor(number: int, *, at_most: int) -> int:
    """Return the largest divisor of a number that is no larger than `at_most`.

    >>> _largest_divisor(12, at_most=5), _largest_divisor(7, at_most=6)
    (4, 1)
    """
    small = [divisor for divisor in range(1, math.isqrt(number) + 1) if number % divisor == 0]
    return max(divisor for low in small for divisor in (low, number // low) if divisor <= at_most)
