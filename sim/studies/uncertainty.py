"""A scenario under draws of its uncertain constants: intervals of figures and claims, and what moves them most.

Model
-----
    factor of a constant = exp(z * log(1 + relative) / 1.645)           z a standard normal, relative of its `Spread`
    draw i               = all factors at once, and seed + i

Draws are a Latin hypercube: each constant has one z in each of as many equally likely strata as there are draws (McKay,
Beckman, Conover, "A comparison of three methods for selecting values of input variables", 1979). The same draws are
used for scenario, alternatives and rivals (common random numbers), so that what slows all alike cancels in their
differences. Then each constant alone is set to both ends of its interval.

Assumptions
-----------
Constants are independent, and what the model leaves out has no interval: a claim can fail for that reason too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Final

import numpy as np

from sim.build.runtime import runtime_of
from sim.errors import InvalidValueError
from sim.results.catalog import CATALOG
from sim.results.claims import Verdict
from sim.results.uncertainty import (
    LEVELS,
    ClaimInterval,
    Constant,
    Uncertainty,
    Values,
    effects_on,
    interval_of,
    share_met,
    share_of_best,
)
from sim.run.parallel_runs import run_many
from sim.run.resources import NO_LIMITS, Limits
from sim.run.result import Result
from sim.scenario.scenario import Scenario
from sim.scenario.workload_section import CollectiveWorkload, PassesWorkload
from sim.studies.conclusion import conclude
from sim.studies.variants import Variants, variants_of
from topology.uncertainty import KERNEL_AND_LINK_SPREADS, LINK_FACTORS, Spread
from workloads.runtime import HOST_SPREADS

__all__ = ["DEFAULT_SAMPLES", "SPREADS", "draw_factors", "with_uncertainty"]

DEFAULT_SAMPLES: Final = 20
"""Draws: the fewest with one beyond each end of the interval."""
_FEWEST_SAMPLES: Final = 2
_HEADLINE: Final = "step_time_s"
"""The metric whose effects are listed; a claim names the constant that moves its own."""

SPREADS: Final[Mapping[str, Spread]] = {
    **KERNEL_AND_LINK_SPREADS,
    **{name: Spread(*row) for name, row in HOST_SPREADS.items()},
}
"""Key below `factors` -> its interval."""

_NORMAL: Final = NormalDist()
_ACROSS: Final = ("latency_across_nodes", "byte_time_across_nodes")
"""Constants that nothing has on one node."""


def draw_factors(num_samples: int, seed: int) -> list[dict[str, float]]:
    """Return the factors of all constants in each draw; a constant has the same draws whatever the scenario.

    >>> [sorted(draw)[0] for draw in draw_factors(2, seed=1)]
    ['all_to_all', 'all_to_all']
    """
    generator = np.random.default_rng(seed)
    factors: list[dict[str, float]] = [{} for _ in range(num_samples)]
    for name, spread in SPREADS.items():
        shares = (generator.permutation(num_samples) + generator.random(num_samples)) / num_samples
        sigma = np.log1p(spread.relative) / _NORMAL.inv_cdf(LEVELS[1])
        for draw, share in zip(factors, shares, strict=True):
            draw[name] = float(np.exp(sigma * _NORMAL.inv_cdf(min(max(share, 1e-9), 1 - 1e-9))))
    return factors


def with_uncertainty(
    result: Result,
    *,
    num_samples: int = DEFAULT_SAMPLES,
    jobs: int = 1,
    limits: Limits = NO_LIMITS,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Result:
    """Return a result with intervals of its figures and claims; the other parameters are those of `simulate`.

    Raises
    ------
    InvalidValueError
        There are too few draws, or the scenario has no constant that was fitted.
    """
    scenario = result.scenario
    if num_samples < _FEWEST_SAMPLES:
        raise InvalidValueError("--samples", f"be at least {_FEWEST_SAMPLES}", num_samples, "Leave it out.")
    if isinstance(scenario.spec.workload, PassesWorkload):
        rule, hint = "be left out with workload.kind passes", "Times of passes are given: no constant makes them."
        raise InvalidValueError("--uncertainty", rule, "a pipeline of given passes", hint)
    variants = variants_of(scenario)
    rivals = [rival.scenario for rival in variants.rivals]
    bases = [scenario, *variants.alternatives, *rivals]
    draws = draw_factors(num_samples, scenario.spec.seed)
    constants = _constants_of(result)
    scenarios = [_drawn(base, draw, i) for base in bases for i, draw in enumerate(draws)]
    best = [variants.rival_names.index(name) for name in dict.fromkeys(v.rival.name for v in result.claims if v.rival)]
    for base in (scenario, *(rivals[i] for i in best)):
        scenarios += [_drawn(base, {one.name: end}, 0) for one in constants for end in one.ends]
    with run_many(
        scenarios, jobs=jobs, limits=limits, on_done=lambda done: on_progress(done, len(scenarios))
    ) as observe:
        values: list[Values] = [observation.values for observation in observe()]
    drawn = _Drawn.of(values, variants, best, num_samples=num_samples, constants=constants)
    claims = [_claim(verdict, drawn) for verdict in result.claims]
    uncertainty = Uncertainty(
        num_samples=num_samples,
        num_failed=sum(not one for one in drawn.own),
        figures=_figures(result, drawn.own),
        headline=_HEADLINE,
        effects=effects_on(_HEADLINE, result.simulated.values.get(_HEADLINE), constants, drawn.ends),
        claims=claims,
        num_runs=len(scenarios),
    )
    verdicts = [_explained(verdict, claim) for verdict, claim in zip(result.claims, claims, strict=True)]
    intervals = {v.claim.id: one.interval for v, one in zip(verdicts, claims, strict=True) if one.interval is not None}
    conclusion = conclude(scenario, result.simulated, verdicts, intervals=intervals, num_draws=num_samples)
    return replace(
        result,
        claims=verdicts,
        conclusion=conclusion.to_dict(),
        uncertainty=uncertainty,
        num_runs=result.num_runs + len(scenarios),
    )


# ---- private -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drawn:
    """The figures of all draws."""

    own: Sequence[Values]
    """Of the scenario, by draw."""
    alternatives: Sequence[Sequence[Values]]
    """Of each alternative, by draw."""
    rivals: Sequence[Sequence[Values]]
    """Of each rival, by draw."""
    constants: Sequence[Constant]
    """Constants that are set to the ends of their intervals one by one."""
    ends: Sequence[tuple[Values, Values]]
    """Of the scenario with each of them at both ends."""
    ends_of_rivals: Mapping[str, Sequence[tuple[Values, Values]]]
    """The same of rivals that are the best for a claim, by name."""
    variants: Variants
    """What was drawn."""

    @classmethod
    def of(
        cls,
        values: Sequence[Values],
        variants: Variants,
        best: Sequence[int],
        *,
        num_samples: int,
        constants: Sequence[Constant],
    ) -> "_Drawn":
        """Return what simulations gave, in the order in which `with_uncertainty` lists them."""
        num_alternatives, num_bases = len(variants.alternatives), 1 + len(variants.alternatives) + len(variants.rivals)
        of_bases = [values[i * num_samples : (i + 1) * num_samples] for i in range(num_bases)]
        pairs = list(zip(*(values[num_bases * num_samples + end :: 2] for end in (0, 1)), strict=True))
        of_ends = [pairs[i : i + len(constants)] for i in range(0, len(pairs), len(constants))]
        return cls(
            own=of_bases[0],
            alternatives=of_bases[1 : 1 + num_alternatives],
            rivals=of_bases[1 + num_alternatives :],
            constants=constants,
            ends=of_ends[0],
            variants=variants,
            ends_of_rivals={variants.rival_names[i]: ends for i, ends in zip(best, of_ends[1:], strict=True)},
        )


def _constants_of(result: Result) -> list[Constant]:
    """Return the constants that a scenario may use."""
    scenario = result.scenario
    if isinstance(scenario.spec.workload, CollectiveWorkload):
        names = list(LINK_FACTORS)
    else:
        host = set() if runtime_of(scenario).has_host else set(HOST_SPREADS)
        names = [name for name in SPREADS if name not in host]
    if result.simulated.num_nodes == 1:
        names = [name for name in names if name not in _ACROSS]
    return [
        Constant(
            name=name,
            ends=(1 / (1 + SPREADS[name].relative), 1 + SPREADS[name].relative),
            num_groups=SPREADS[name].num_groups,
            source=SPREADS[name].source,
        )
        for name in names
    ]


def _drawn(base: Scenario, factors: Mapping[str, float], number: int) -> Scenario:
    """Return a scenario under the factors of a draw, on top of its own, and under the draw's seed."""
    is_collective = isinstance(base.spec.workload, CollectiveWorkload)
    changes: dict[str, object] = {
        f"factors.{name}": factor * getattr(base.spec.factors, name)
        for name, factor in factors.items()
        if not is_collective or name in LINK_FACTORS
    }
    return base.without_judgement().variant({**changes, "seed": base.spec.seed + number})


def _figures(result: Result, draws: Sequence[Values]) -> dict[str, tuple[float, float]]:
    """Return the interval of each metric of the run."""
    names = [name for name in result.metrics if CATALOG[name].group == "metrics"]
    intervals = {name: interval_of(draws, name) for name in names}
    return {name: interval for name, interval in intervals.items() if interval is not None}


def _claim(verdict: Verdict, drawn: _Drawn) -> ClaimInterval:
    """Return how sure a claim is."""
    claim, metric = verdict.claim, verdict.claim.metric
    if not claim.is_simulated:
        return ClaimInterval(interval=None, share_met=None, moved_most_by=None)
    share = None
    if claim.is_met is not None:
        share = share_met(drawn.own, metric, claim.is_met)
    elif claim.superlative is not None:
        about = [drawn.rivals[i] for i in drawn.variants.rivals_about(claim.part)]
        share = share_of_best(drawn.own, about, metric, claim.superlative)
    rival = None if verdict.rival is None else drawn.ends_of_rivals[verdict.rival.name]
    effects = effects_on(metric, verdict.evidence.value, drawn.constants, drawn.ends, rival)
    return ClaimInterval(
        interval=interval_of(drawn.own, metric),
        share_met=share,
        moved_most_by=effects[0] if effects and effects[0].relative else None,
        alternatives=[interval_of(draws, metric) for draws in drawn.alternatives],
    )


def _explained(verdict: Verdict, claim: ClaimInterval) -> Verdict:
    """Return a verdict whose reason says how sure it is."""
    low, high = claim.interval or (0.0, 0.0)
    if claim.share_met is None or (low == high and claim.share_met in {0.0, 1.0}):
        return verdict  # no draw changes it
    what = "it is the best" if verdict.claim.superlative else "it is met"
    sure = f"{what} in {100 * claim.share_met:.0f} % of the draws of constants and seeds"
    if claim.straddles:
        sure += ": the interval reaches over what is claimed"
        if claim.moved_most_by is not None:
            sure += f", and {claim.moved_most_by.constant.name} moves it most"
    return replace(verdict, reason=f"{verdict.reason}; {sure}")
