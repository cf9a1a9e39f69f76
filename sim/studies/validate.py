"""Validation: published figures compared with modelled figures, and the errors of each suite.

Figures of one case with the same `set` share a simulation. A figure with `minus` is the difference of two. Figures that
are set apart, with a reason, are simulated and shown, but stand in no summary and fail nothing. The errors stand in
`sim.studies.figures`. The suite `kernels` is no folder of cases: it holds measured kernels against their own tables
(`sim.studies.kernel_tables`).
"""

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sim.build.build import check_values
from sim.build.collective import build_collective
from sim.results.catalog import CATALOG, unit_of
from sim.run.parallel_runs import Observation, run_many
from sim.run.result import SCHEMA_VERSION
from sim.scenario.claim_units import check_published_units
from sim.scenario.scenario import Scenario
from sim.scenario.workload_section import CollectiveWorkload
from sim.studies.figures import Figure, summarise
from sim.studies.kernel_tables import SUITE as KERNELS
from sim.studies.kernel_tables import KernelErrors, judge_kernels
from sim.studies.ranking import Ranking, rank_groups, summarise_rankings
from sim.studies.suites import Case, Suite, find_suites, is_fitted, system_of
from sim.studies.verdicts import known_metric

__all__ = ["Validation", "validate"]

_SIMULATIONS_PER_PROCESS = 8
"""Fewer are done before another process has started."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Validation:
    """Suites with their figures."""

    suites: list[Suite]
    """The suites that were validated."""
    figures: list[Figure]
    """All figures, in the order of suites, cases and files."""
    kernels: KernelErrors | None = None
    """Errors of the measured kernels, where a run names them."""

    @property
    def counted(self) -> list[Figure]:
        """The figures that are not set apart."""
        return [figure for figure in self.figures if figure.apart is None]

    @property
    def has_failed(self) -> bool:
        """Whether a figure is not within its tolerance; those apart do not matter."""
        return not all(figure.is_within for figure in self.counted)

    def rankings_of(self, suite: Suite) -> list[Ranking]:
        """Return the rankings of the groups of a suite; none where the suite does not rank."""
        return rank_groups(f for f in self.counted if f.suite == suite.name) if suite.spec.ranking else []

    def worst(self, num: int) -> list[Figure]:
        """Return the figures of each system with the largest errors, the worst first."""
        by_system: dict[tuple[str, str], list[Figure]] = {}
        for figure in self.counted:
            if figure.error_pct is not None and not figure.at_most:
                by_system.setdefault((figure.suite, figure.system), []).append(figure)
        worst_first = (sorted(figures, key=lambda f: -abs(f.error_pct or 0)) for figures in by_system.values())
        return [figure for figures in worst_first for figure in figures[:num]]

    def to_dict(self, *, num_worst: int = 0) -> dict[str, Any]:
        """Return the contract's JSON object; the worst figures of each system with the account of their time."""
        suites = {suite.name: self._of_suite(suite) for suite in self.suites if suite.cases}
        if self.kernels is not None:
            suites[KERNELS] = self.kernels.to_dict()
        fitted = sum(suite["num_fitted_constants"] for suite in suites.values())
        rankings = {ranking.name: ranking for suite in self.suites for ranking in self.rankings_of(suite)}
        worst = [{**figure.to_dict(), "parts_s": figure.parts_s} for figure in self.worst(num_worst)]
        return {
            "schema_version": SCHEMA_VERSION,
            "rows": [figure.to_dict() for figure in self.counted],
            "apart": [figure.to_dict() for figure in self.figures if figure.apart is not None],
            "suites": suites,
            "by_name": {suite.name: list(suite.by_name) for suite in self.suites if suite.by_name},
            "over_all": {**summarise(self.counted).to_dict(), "num_fitted_constants": fitted},
            **({"groups": {name: ranking.to_dict() for name, ranking in rankings.items()}} if rankings else {}),
            **({"worst": worst} if worst else {}),
        }

    def to_json(self) -> str:
        """Return `to_dict` as text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False, ensure_ascii=False)

    def _of_suite(self, suite: Suite) -> dict[str, Any]:
        figures = [figure for figure in self.counted if figure.suite == suite.name]
        systems = dict.fromkeys(figure.system for figure in figures)
        rankings = self.rankings_of(suite)
        return {
            "title": suite.spec.title,
            **_summary(suite, figures),
            "num_fitted_constants": suite.spec.num_fitted_constants,
            "systems": {name: _summary(suite, [f for f in figures if f.system == name]) for name in systems},
            "left_out": {
                name: {
                    **spec.model_dump(exclude={"cases"}),
                    "fitted": summarise(
                        f for f in figures if name in {f.system, f.case} or f.case in spec.cases
                    ).to_dict(),
                }
                for name, spec in suite.spec.left_out.items()
            },
            "skipped": list(suite.skipped),
            **({"ranking": summarise_rankings(rankings)} if rankings else {}),
        }


def _summary(suite: Suite, figures: Sequence[Figure]) -> dict[str, object]:
    """Return the errors of figures; apart those that constants may be fitted to, where the suite names such."""
    halves = {
        name: summarise(figure for figure in figures if figure.is_fitted == is_fitted_half).to_dict()
        for name, is_fitted_half in (("fitted", True), ("scored", False))
    }
    return {**summarise(figures).to_dict(), **(halves if suite.spec.fitted else {})}


def validate(
    targets: Sequence[str] = (),
    *,
    jobs: int = 1,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Validation:
    """Simulate validation cases and hold them against what was published.

    Parameters
    ----------
    targets
        Bundled suites or cases by name, files, folders, and `kernels`; none: all bundled suites and `kernels`.
    jobs
        Processes.
    on_progress
        Is called with the simulations that are done, and how many there are.

    Raises
    ------
    InvalidValueError
        A case cannot be found or is refused.

    Examples
    --------
    >>> validation = validate(["schedules"])
    >>> validation.has_failed, validation.figures[0].metric
    (False, 'bubble_fraction_published_form')
    """
    has_kernels = not targets or KERNELS in targets
    folders = [target for target in targets if target != KERNELS]
    suites = find_suites(folders) if folders or not targets else []
    simulations = _Simulations()
    requests = [
        _FigureRequest(
            suite=suite,
            case=case,
            position=i,
            metric=metric,
            simulation=simulations.number_of(case, i),
            subtrahend=simulations.number_of_subtrahend(case, i),
        )
        for suite in suites
        for case in suite.cases
        for i, metric in enumerate(_metrics_of(case))
    ]
    total = len(simulations.scenarios)
    processes = min(jobs, os.cpu_count() or 1, 1 + total // _SIMULATIONS_PER_PROCESS)
    wanted = frozenset(request.metric for request in requests)
    on_progress(0, total)
    with run_many(
        simulations.scenarios, wanted=wanted, jobs=processes, on_done=lambda n: on_progress(n, total)
    ) as observe:
        observations = observe()
    kernels = judge_kernels() if has_kernels else None
    figures = [_figure(request, observations) for request in requests]
    return Validation(suites=suites, figures=[*figures, *(() if kernels is None else kernels.figures)], kernels=kernels)


# ---- private -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _FigureRequest:
    """One published figure, and which simulation gives the modelled one."""

    suite: Suite
    case: Case
    position: int
    metric: str
    simulation: int
    subtrahend: int | None


class _Simulations:
    """The scenarios to simulate, each once."""

    def __init__(self) -> None:
        self.scenarios: list[Scenario] = []
        self._numbers: dict[tuple[str, str], int] = {}

    def number_of(self, case: Case, position: int) -> int:
        """Return the position of a figure's simulation in `scenarios`; refuse facts that cannot be."""
        changes = case.scenario.spec.published[position].set
        return self._number(case, changes, lambda: case.scenario.case(position))

    def number_of_subtrahend(self, case: Case, position: int) -> int | None:
        """Return the position of the simulation that a figure is less; None where it is no difference."""
        figure = case.scenario.spec.published[position]
        subtrahend = case.scenario.subtrahend(position)
        if subtrahend is None:
            return None
        return self._number(case, {**(figure.set or {}), **(figure.minus or {})}, lambda: subtrahend)

    def _number(self, case: Case, changes: dict[str, Any] | None, make: Callable[[], Scenario]) -> int:
        """Return the position of a simulation of a case under changes, which two suites share that have the case."""
        key = (case.scenario.path or str(id(case)), json.dumps(changes, sort_keys=True))
        if key not in self._numbers:
            scenario = make()
            if isinstance(scenario.spec.workload, CollectiveWorkload):
                build_collective(scenario)
            else:
                check_values(scenario)
            self._numbers[key] = len(self.scenarios)
            self.scenarios.append(scenario)
        return self._numbers[key]


def _metrics_of(case: Case) -> list[str]:
    """Return the catalogue's name of the metric of each figure, or refuse one."""
    figures = case.scenario.spec.published
    metrics = [known_metric(case.scenario, "published", i, figure.metric) for i, figure in enumerate(figures)]
    check_published_units(case.scenario, CATALOG)
    return metrics


def _figure(request: _FigureRequest, observations: Sequence[Observation]) -> Figure:
    """Return one figure with its modelled value."""
    case, spec = request.case, request.case.scenario.spec.published[request.position]
    observation = observations[request.simulation]
    value, problem = _value(observation, request)
    if value is not None and request.subtrahend is not None:
        less, problem = _value(observations[request.subtrahend], request)
        value = None if less is None else value - less
    return Figure(
        suite=request.suite.name,
        case=case.name,
        system=system_of(case, request.position),
        metric=request.metric,
        unit=unit_of(request.metric),
        published=spec.value,
        at_most=spec.at_most,
        modelled=None if value is None else value / spec.divide_by,
        source=spec.source,
        tolerance_pct=spec.tolerance_pct,
        changes=dict(spec.set or {}),
        apart=spec.apart,
        note=spec.note,
        problem=problem,
        name=spec.name,
        group=spec.group,
        is_fitted=is_fitted(request.suite, case, request.position),
        parts_s={} if request.subtrahend is not None else observation.parts_s,
    )


def _value(observation: Observation, request: _FigureRequest) -> tuple[float | None, str | None]:
    """Return what a simulation gives for the metric of a figure, or why it gives nothing."""
    value = observation.values.get(request.metric)
    if value is not None and math.isfinite(value):
        return float(value), None
    kind = request.case.scenario.spec.workload.kind
    return None, observation.problem or f"a simulation of kind {kind} does not give {request.metric}"
