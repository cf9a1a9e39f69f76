"""A scenario under draws of its uncertain constants: intervals of figures and claims, and what moves them most.

Model
-----
    factor of a constant = exp(z * log(1 + relative) / 1.645)           z a standard normal, relative of its `Spread`
    draw i               = all factors at once, and seed + i
    unexplained          = all times of a training step in draw i times (common factor of i) * (own factor of i)

Draws are a Latin hypercube: each constant has one z in each of as many equally likely strata as there are draws (McKay,
Beckman, Conover, "A comparison of three methods for selecting values of input variables", 1979). The same draws are
used for scenario, alternatives and rivals (common random numbers), so that what slows all alike cancels in their
differences. Then each constant alone is set to both ends of its interval.

Published steps are further from modelled ones than constants explain. What is left of an era's steps (`UNEXPLAINED` of
`workloads.runtime`) is drawn as well: a factor that scenario, alternatives and rivals have in common, and one that each
of them has of its own, for errors differ from strategy to strategy on the same cluster.

Assumptions
-----------
Constants are independent. No step is published of forward passes and of presets that `UNEXPLAINED` has not: what the
model leaves out of these has no interval, and a claim can fail for that reason too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.build.runtime import preset_of, runtime_of
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
    in_time,
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
from workloads.runtime import HOST_SPREADS, UNEXPLAINED, Unexplained

__all__ = ["DEFAULT_SAMPLES", "SPREADS", "draw_factors", "draw_unexplained", "drawn", "with_uncertainty"]

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
Floats = NDArray[np.float64]
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


def draw_unexplained(unexplained: Unexplained, *, num_bases: int, num_samples: int, seed: int) -> Floats:
    """Return the factors on all times of each of `num_bases` scenarios in each draw. Shape [B, N].

    >>> none = Unexplained(common=0.0, own=0.0, num_tables=1, source="")
    >>> draw_unexplained(none, num_bases=1, num_samples=2, seed=1).tolist()
    [[1.0, 1.0]]
    """
    generator = np.random.default_rng((seed, 1))  # the draws of constants stay as they are without it

    def normals() -> Floats:
        shares = (generator.permutation(num_samples) + generator.random(num_samples)) / num_samples
        return np.array([_NORMAL.inv_cdf(min(max(share, 1e-9), 1 - 1e-9)) for share in shares])

    sigma_common, sigma_own = (
        np.log1p(part) / _NORMAL.inv_cdf(LEVELS[1]) for part in (unexplained.common, unexplained.own)
    )
    common = normals()
    return np.exp([sigma_common * common + sigma_own * normals() for _ in range(num_bases)])


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
    unexplained = _unexplained_of(scenario)
    constants = _constants_of(result)
    scenarios = [drawn(base, draw, i) for base in bases for i, draw in enumerate(draws)]
    best = [variants.rival_names.index(name) for name in dict.fromkeys(v.rival.name for v in result.claims if v.rival)]
    for base in (scenario, *(rivals[i] for i in best)):
        scenarios += [drawn(base, {one.name: end}, 0) for one in constants for end in one.ends]
    with run_many(
        scenarios, jobs=jobs, limits=limits, on_done=lambda done: on_progress(done, len(scenarios))
    ) as observe:
        values: list[Values] = [observation.values for observation in observe()]
    if unexplained is not None:
        factors = draw_unexplained(unexplained, num_bases=len(bases), num_samples=num_samples, seed=scenario.spec.seed)
        of_draws = [in_time(one, float(factor)) for one, factor in zip(values, factors.flat, strict=False)]
        values = [*of_draws, *values[len(of_draws) :]]
    of_all = _Drawn.of(values, variants, best, num_samples=num_samples, constants=constants)
    claims = [_claim(verdict, of_all, result.simulated.values, unexplained) for verdict in result.claims]
    headline = result.simulated.values.get(_HEADLINE)
    effects = effects_on(_HEADLINE, headline, constants, of_all.ends)
    if unexplained is not None:
        both = unexplained.both_ends
        ends = [(in_time(result.simulated.values, both[0]), in_time(result.simulated.values, both[1]))]
        effects += effects_on(_HEADLINE, headline, [_as_constant(unexplained, both)], ends)
        effects.sort(key=lambda effect: -abs(effect.relative))
    uncertainty = Uncertainty(
        num_samples=num_samples,
        num_failed=sum(not one for one in of_all.own),
        figures=_figures(result, of_all.own),
        headline=_HEADLINE,
        effects=effects,
        unexplained=None if unexplained is None else unexplained.to_dict(preset_of(scenario)),
        claims=claims,
        num_runs=len(scenarios),
    )
    return _with(result, uncertainty)


# ---- private -----------------------------------------------------------------------------------------------------


def _with(result: Result, uncertainty: Uncertainty) -> Result:
    """Return a result with its intervals: in the reasons of its verdicts, and in its conclusion."""
    pairs = list(zip(result.claims, uncertainty.claims, strict=True))
    verdicts = [_explained(verdict, claim) for verdict, claim in pairs]
    intervals = {verdict.claim.id: one.interval for verdict, one in pairs if one.interval is not None}
    conclusion = conclude(
        result.scenario, result.simulated, verdicts, intervals=intervals, num_draws=uncertainty.num_samples
    )
    return replace(
        result,
        claims=verdicts,
        conclusion=conclusion.to_dict(),
        uncertainty=uncertainty,
        num_runs=result.num_runs + uncertainty.num_runs,
    )


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


def drawn(base: Scenario, factors: Mapping[str, float], number: int) -> Scenario:
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


def _claim(verdict: Verdict, of_all: _Drawn, values: Values, unexplained: Unexplained | None) -> ClaimInterval:
    """Return how sure a claim is; `values` are the model's own figures."""
    claim, metric = verdict.claim, verdict.claim.metric
    if not claim.is_simulated:
        return ClaimInterval(interval=None, share_met=None, moved_most_by=None)
    share = None
    if claim.is_met is not None:
        share = share_met(of_all.own, metric, claim.is_met)
    elif claim.superlative is not None:
        share = share_of_best(of_all.own, of_all.rivals, metric, claim.superlative)
    rival = None if verdict.rival is None else of_all.ends_of_rivals[verdict.rival.name]
    effects = effects_on(metric, verdict.evidence.value, of_all.constants, of_all.ends, rival)
    if unexplained is not None:  # what a rival has in common cancels
        ends = unexplained.both_ends if verdict.rival is None else unexplained.own_ends
        best = None if verdict.rival is None else verdict.rival.value
        rivals: list[tuple[Values, Values]] | None = None
        if verdict.rival is not None:
            rivals = [({}, {}) if best is None else ({metric: best}, {metric: best})]
        as_constant = [_as_constant(unexplained, ends)]
        of_ends = [(in_time(values, ends[0]), in_time(values, ends[1]))]
        effects += effects_on(metric, verdict.evidence.value, as_constant, of_ends, rivals)
        effects.sort(key=lambda effect: -abs(effect.relative))
    return ClaimInterval(
        interval=interval_of(of_all.own, metric),
        share_met=share,
        moved_most_by=effects[0] if effects and effects[0].relative else None,
        alternatives=[interval_of(draws, metric) for draws in of_all.alternatives],
    )


def _unexplained_of(scenario: Scenario) -> Unexplained | None:
    """Return what steps of the scenario's software leave unexplained; None where none is published."""
    if isinstance(scenario.spec.workload, CollectiveWorkload) or not scenario.spec.workload.trains:
        return None
    return UNEXPLAINED.get(preset_of(scenario))


def _as_constant(unexplained: Unexplained, ends: tuple[float, float]) -> Constant:
    return Constant(name="unexplained", ends=ends, num_groups=unexplained.num_tables, source=unexplained.source)


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
            most = claim.moved_most_by.constant.name
            sure += f", and {'what is unexplained' if most == 'unexplained' else most} moves it most"
    return replace(verdict, reason=f"{verdict.reason}; {sure}")
