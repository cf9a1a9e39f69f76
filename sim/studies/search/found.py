"""What a search has found, in words and for JSON: the best, the certificate, and where others stand.

A certificate says what excludes the rest. The rows of `Found.bounds` let anybody check it: each candidate that was not
simulated has a bound which is above the best over 1 + gap, or does not fit, or is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sim.build.layout import strategy_of
from sim.errors import InvalidValueError
from sim.results.quantities import format_quantity
from sim.run.parallel_runs import run_many
from sim.run.resources import NO_LIMITS, Limits
from sim.scenario.scenario import Scenario
from sim.scenario.search_section import SearchSpec
from sim.studies.search.branch import LEVELS, Progress, Searched, search
from sim.studies.search.kept import kept_simulations
from sim.studies.search.space import Candidate, Space, space_of
from sim.studies.search.workers import Outcome, simulate_candidate
from sim.studies.uncertainty import draw_factors, drawn

__all__ = ["OBJECTIVES", "Found", "search_scenario", "with_best_as_rival"]

OBJECTIVES: Final[dict[str, str]] = {
    "step_time": "the time of a step",
    "tokens_per_s": "tokens per second: the same order, for all run the same tokens",
    "tokens_per_s_per_gpu": "tokens per second and GPU: the same order, for all use all GPUs",
    "cost": "GPU seconds of a token: the same order, for all use all GPUs",
}
"""What may be searched for, by name. On one cluster and for one batch all have one order."""

_MOST_SHOWN: Final = 10
_CLOSE: Final = 1.05
"""Times the best step time up to which a strategy may be tied with the best."""
_MOST_CLOSE: Final = 3
_DRAWS: Final = 10
_SURE: Final = 0.9
"""A strategy that is slower in more of the draws is no tie."""
_LEAST_PART: Final = 0.01
"""Parts of the time that differ by less of the step are no reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tie:
    """A strategy that is nearly as fast as the best."""

    name: str
    """Its short name."""
    share_faster: float
    """In how many draws of uncertain constants the best is faster than it, of 1."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A search, with what its scenario says of itself."""

    searched: Searched
    scenario: Scenario
    """As it was loaded, with its own strategy."""
    own: Outcome | None
    """The scenario's own strategy, simulated; None where it names none."""
    objective: str = "step_time"
    tied: tuple[Tie, ...] = ()
    """Strategies that the uncertainty of constants cannot tell from the best."""

    @property
    def sentence(self) -> str:
        """The certificate, or what is known without one."""
        searched, best = self.searched, self.searched.best
        num = len(searched.space.candidates)
        if best is None or best.step_s is None:
            if searched.is_complete:
                return f"None of the {num:,} strategies in this space can be run: {_why_none(searched)}."
            tried = sum(searched.excluded.values()) - searched.excluded["bound"] - searched.excluded["left"]
            return (
                f"No strategy that fits was found among {num:,} so far: {len(searched.outcomes):,} simulated, "
                f"{tried:,} found not to fit or to run."
            )
        seen = f"{len(searched.outcomes):,} simulated"
        excluded = searched.excluded
        reasons = [
            f"{excluded[name]:,} {words}"
            for name, words in (
                ("bound", "excluded by bound"),
                ("memory", "that do not fit"),
                ("refused", "that cannot be run"),
                ("left", "not looked at"),
            )
            if excluded[name]
        ]
        rest = f"{seen}, {', '.join(reasons)}" if reasons else seen
        if searched.is_complete:
            gap = 100 * max(searched.wanted_gap, 0.0)
            return (
                f"No strategy of the {num:,} in this space beats {best.candidate.name} by more than {gap:g} % in this "
                f"model: {rest}."
            )
        known = 100 * (searched.gap or 0.0)
        return f"{best.candidate.name} is at most {known:.1f} % above the best of the {num:,} in this space: {rest}."

    def bounds(self) -> list[dict[str, Any]]:
        """Return every candidate with its bound, how closely it was looked at, and what became of it."""
        searched = self.searched
        simulated = {outcome.number: outcome for outcome in searched.outcomes}
        rows = []
        for number, candidate in enumerate(searched.space.candidates):
            outcome = simulated.get(number)
            rows.append(
                {
                    "name": candidate.name,
                    "bound_s": float(searched.bounds_s[number]),
                    "looked_at": LEVELS[int(searched.looked_at[number])],
                    "step_time_s": None if outcome is None else outcome.step_s,
                    "fits": None if outcome is None else outcome.fits,
                    "excluded_by": searched.reasons[number],
                }
            )
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON; times in seconds."""
        searched, best = self.searched, self.searched.best
        trains = searched.space.trains
        return {
            "name": self.scenario.spec.name,
            "objective": self.objective,
            "certificate": self.sentence,
            "is_complete": searched.is_complete,
            "best": None if best is None else {**searched.space.fixed, **best.candidate.changes(trains=trains)},
            "best_strategy": None if best is None else best.candidate.strategy.name,
            "best_name": None if best is None else best.candidate.name,
            "best_step_time_s": None if best is None else best.step_s,
            "best_tokens_per_s": None if best is None else best.tokens_per_s,
            "lower_bound_s": searched.lower_bound_s,
            "gap": searched.gap,
            "wanted_gap": searched.wanted_gap,
            "space": len(searched.space.candidates),
            "simulated": len(searched.outcomes),
            "excluded": sum(searched.excluded[name] for name in ("bound", "memory", "refused")),
            "excluded_by": searched.excluded,
            "problems": searched.problems,
            "axes": {key: list(values) for key, values in searched.space.values.items() if values},
            "pareto": [self._row(one) for one in self._pareto()],
            "top": [self._row(one) | {"loses": self._why_it_loses(one)} for one in self._fitting()[:_MOST_SHOWN]],
            "kinds": [self._row(one) for one in self._kinds()],
            "tied": [{"name": one.name, "share_best_is_faster": one.share_faster} for one in self.tied],
            "document": self._document(),
            "seconds": searched.seconds,
            "is_interrupted": searched.is_interrupted,
        }

    # ---- private -------------------------------------------------------------------------------------------------

    def _fitting(self) -> list[Outcome]:
        """Return what fits, the fastest first."""
        fitting = [one for one in self.searched.outcomes if one.fits and one.step_s is not None]
        return sorted(fitting, key=lambda one: (one.step_s or 0.0, one.number))

    def _pareto(self) -> list[Outcome]:
        """Return those than which none is both faster and smaller, of what fits, with the scenario's own strategy."""
        front: list[Outcome] = []
        own = [] if self.own is None or not self.own.fits or self.own.step_s is None else [self.own]
        for one in sorted([*self._fitting(), *own], key=lambda one: (one.step_s or 0.0, one.number)):
            if one.memory_bytes is not None and all(one.memory_bytes < (other.memory_bytes or 0.0) for other in front):
                front.append(one)
        return front

    def _kinds(self) -> list[Outcome]:
        """Return the fastest of each kind of strategy that was simulated."""
        best: dict[str, Outcome] = {}
        for one in self._fitting():
            best.setdefault(one.candidate.kind, one)
        return list(best.values())[:_MOST_SHOWN]

    def _row(self, one: Outcome) -> dict[str, Any]:
        best = self.searched.best
        return {
            "strategy": one.candidate.strategy.name,
            "name": one.candidate.name,
            "set": one.candidate.changes(trains=self.searched.space.trains),
            "step_time_s": one.step_s,
            "tokens_per_s": one.tokens_per_s,
            "memory_bytes": one.memory_bytes,
            "num_gpus": self.searched.space.cluster.num_gpus,
            "times_best": one.step_s / best.step_s if best and best.step_s and one.step_s else None,
        }

    def _why_it_loses(self, one: Outcome) -> str | None:
        """Return what takes longer than in the best; None for the best."""
        best = self.searched.best
        if best is None or one.number == best.number or one.step_s is None:
            return None
        return why_it_loses(one.parts_s, best.parts_s, one.step_s)

    def _document(self) -> dict[str, Any] | None:
        if self.own is None:
            return None
        best = self.searched.best
        step_s = self.own.step_s
        return {
            "strategy": self.own.candidate.strategy.name,
            "convention": self.own.candidate.convention,
            "step_time_s": step_s,
            "memory_bytes": self.own.memory_bytes,
            "fits": self.own.fits,
            "times_best": step_s / best.step_s if step_s and best and best.step_s else None,
            "problem": self.own.problem,
            "loses": why_it_loses(self.own.parts_s, best.parts_s, step_s) if best and step_s else None,
        }


def search_scenario(
    scenario: Scenario,
    *,
    fix: Mapping[str, Any] | None = None,
    over: Mapping[str, Sequence[Any]] | None = None,
    gap: float | None = None,
    limit: int | None = None,
    objective: str = "step_time",
    jobs: int = 1,
    limits: Limits = NO_LIMITS,
    store: str | None = None,
    on_space: Callable[[Space], None] = lambda _: None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Found:
    """Search the strategies of a scenario; what is not given here is as its section `search:` has it.

    Simulations of candidates are kept in the store at the path or URL `store`, and taken from it.

    Raises
    ------
    InvalidValueError
        The scenario has no strategies, a key is no axis, nothing is legal, or the database is no store.
    OutputError
        The store cannot be written.
    """
    section = scenario.spec.search or SearchSpec()
    if objective not in OBJECTIVES:
        raise InvalidValueError("--objective", f"be one of {', '.join(OBJECTIVES)}", objective, "Leave it out.")
    space = space_of(scenario, fix={**section.fix, **(fix or {})}, over={**section.over, **(over or {})})
    on_space(space)
    kept = None if store is None else kept_simulations(store, scenario, space.values, len(space.candidates))
    own = _own_outcome(scenario, limits)
    try:
        searched = search(
            space,
            gap=section.gap if gap is None else gap,
            limit=section.limit if limit is None else limit,
            jobs=jobs,
            limits=limits,
            kept=kept,
            first=_usual(space),
            on_progress=on_progress,
        )
    finally:
        if kept is not None:
            kept.close()
    tied = () if searched.is_interrupted else _ties(searched, jobs, limits)
    return Found(searched=searched, scenario=scenario, own=own, objective=objective, tied=tied)


def _usual(space: Space) -> list[Candidate]:
    """Return two strategies that people would begin with: an interrupt then has something to show.

    No pipeline, experts within a node, and as many microbatches as there are; with and without full recomputation.
    """

    def distance(candidate: Candidate) -> tuple[int, ...]:
        s, node = candidate.strategy, space.cluster.gpus_per_node
        return (
            s.cp,
            s.pp,
            abs(s.ep - min(node, space.model.experts or 1)),
            s.tp,
            -candidate.zero,
            -candidate.microbatches,
        )

    kinds = {candidate.recompute for candidate in space.candidates}
    of_kind = [[one for one in space.candidates if one.recompute == kind] for kind in sorted(kinds & {"none", "full"})]
    return [min(candidates, key=distance) for candidates in of_kind]


def with_best_as_rival(
    scenario: Scenario, *, limit: int | None = None, jobs: int = 1, limits: Limits = NO_LIMITS
) -> tuple[Scenario, Found]:
    """Search a scenario, and return it with the best strategy among its rivals, by which superlatives are judged.

    Errors are those of `search_scenario`.
    """
    found = search_scenario(scenario, limit=limit, jobs=jobs, limits=limits)
    best = found.searched.best
    if best is None:
        return scenario, found
    rival = best.candidate.changes(trains=found.searched.space.trains)
    rivals = [*(scenario.raw.get("rivals") or ()), rival]
    return scenario.variant({"rivals": rivals}), found


def _ties(searched: Searched, jobs: int, limits: Limits) -> tuple[Tie, ...]:
    """Return the strategies close to the best that draws of uncertain constants put first in a tenth of all at least.

    All strategies have the same draws, so that what makes all slower alike cancels.
    """
    best = searched.best
    if best is None or best.step_s is None:
        return ()
    close = [
        one
        for one in searched.outcomes
        if one.fits and one.number != best.number and one.step_s and one.step_s <= _CLOSE * best.step_s
    ]
    close = sorted(close, key=lambda one: (one.step_s or 0.0, one.number))[:_MOST_CLOSE]
    if not close:
        return ()
    draws = draw_factors(_DRAWS, searched.space.scenario.spec.seed)
    scenarios = [
        drawn(searched.space.scenario_of(one.candidate), draw, number)
        for one in (best, *close)
        for number, draw in enumerate(draws)
    ]
    with run_many(scenarios, jobs=jobs, limits=limits) as observe:
        times = [observation.values.get("step_time_s") for observation in observe()]
    rows = [times[i : i + _DRAWS] for i in range(0, len(times), _DRAWS)]
    ties = []
    for one, row in zip(close, rows[1:], strict=True):
        pairs = [(a, b) for a, b in zip(rows[0], row, strict=True) if a is not None and b is not None]
        share = sum(a < b for a, b in pairs) / len(pairs) if pairs else 1.0
        if share <= _SURE:
            ties.append(Tie(name=one.candidate.name, share_faster=share))
    return tuple(ties)


def _own_outcome(scenario: Scenario, limits: Limits) -> Outcome | None:
    """Simulate the scenario's own strategy."""
    try:
        candidate = own_candidate(scenario)
    except InvalidValueError:
        return None
    if candidate is None:
        return None
    return simulate_candidate(scenario.without_judgement(), candidate, number=-1, limits=limits)


def why_it_loses(parts_s: Mapping[str, float], best_s: Mapping[str, float], step_s: float) -> str:
    """Return the parts of the time that are longer than in the best, largest first.

    >>> why_it_loses({"tp": 0.3, "expert": 0.1}, {"expert": 0.2}, 0.4)
    '+300 ms tp'
    """
    names = {**parts_s, **best_s}
    more = {name: parts_s.get(name, 0.0) - best_s.get(name, 0.0) for name in names}
    longest = [(name, more[name]) for name in sorted(more, key=lambda name: -more[name])[:3]]
    shown = [
        f"+{format_quantity(value, 's')} {name.replace('_', ' ')}"
        for name, value in longest
        if value >= _LEAST_PART * step_s
    ]
    return ", ".join(shown) or "nothing in particular"


def _why_none(searched: Searched) -> str:
    """Return why no candidate can be run, and what would have to change."""
    excluded = searched.excluded
    too_large = sum(not one.fits and one.problem is None for one in searched.outcomes) + excluded["memory"]
    reasons: Sequence[str] = [
        *([f"{too_large:,} do not fit into memory (more GPUs, recomputation or ZeRO would help)"] if too_large else []),
        *(f"{count:,}: {problem}" for problem, count in list(searched.problems.items())[:3]),
    ]
    return "; ".join(reasons) or "there are none"


def own_candidate(scenario: Scenario) -> Candidate | None:
    """Return the scenario's own strategy as a candidate; None where it names none that can be read."""
    spec = scenario.spec
    if spec.parallel.strategy is None and not scenario.is_given("parallel.tp"):
        return None
    strategy = strategy_of(scenario)
    return Candidate(
        convention=spec.parallel.convention,
        strategy=strategy,
        microbatches=getattr(spec.workload, "microbatches", 1),
        schedule=spec.schedule.kind,
        recompute=spec.schedule.recompute,
        zero=spec.parallel.zero,
    )
