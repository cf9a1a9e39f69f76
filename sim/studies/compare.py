"""Runs next to each other: metrics, and where the time went, with differences that sum to the total difference.

Model
-----
The first run is what the others are compared with. Of each run

    part = mean over stages of what the stages account gives it         parts sum to the step time
    difference of a part = part of the run - part of the first          they sum to the difference of the step times

A run is simulated, or read from the `result.json` of an earlier one (`sim.run.saved`); of those only what the file
says is compared, and without the arrays in its folder the run has no trace.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Final

from sim.engine.trace import Trace
from sim.errors import InvalidValueError
from sim.results.accounts import CATEGORIES
from sim.results.catalog import CATALOG
from sim.run.resources import NO_LIMITS, Limits
from sim.run.saved import SavedRun, is_saved, read_saved
from sim.run.scenario_run import Simulated
from sim.run.simulate import simulate_scenario
from sim.scenario.load import load_scenario

__all__ = ["Compared", "Comparison", "compare_runs", "compared_run"]

_FEWEST: Final = 2
_SAME_WORK: Final = 1e-6
"""Tokens of two runs that differ by less are the same work."""
_HINT: Final = "Name the result.json that `moesim run SCENARIO --out DIR` wrote, or a scenario."


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What is compared of a run."""

    name: str
    """Name of the scenario, with its strategy."""
    source: str
    """The argument: a scenario or a saved result."""
    metrics: Mapping[str, float]
    """Metrics by name, SI units."""
    parts_ns: Mapping[str, float]
    """Part of the stages account -> mean over stages; they sum to the step time."""
    trace: Trace | None = None
    """What happened when; None of a saved result whose arrays are not there."""

    @classmethod
    def of_simulated(cls, simulated: Simulated, *, name: str | None, source: str) -> "Compared":
        """Return what is compared of a simulation of the scenario `source`."""
        return cls(
            name=name or Path(source).stem,
            source=source,
            metrics={key: float(value) for key, value in simulated.values.items() if _is_number(value)},
            parts_ns=_mean(simulated.stages_ns),
            trace=simulated.run.trace,
        )

    @classmethod
    def of_saved(cls, run: SavedRun, *, source: str) -> "Compared":
        """Return what is compared of a saved result.

        Raises
        ------
        InvalidValueError
            It is not the result of a run.
        """
        data = run.data
        try:
            stages = [{str(part): int(ns) for part, ns in stage.items()} for stage in data["stages_ns"]]
            found = {**data.get("mesh", {}), **_memory(data.get("memory", {})), **data["metrics"]}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise _no_result(source) from None
        if not stages or not {part for stage in stages for part in stage} <= set(CATEGORIES):
            raise _no_result(source)
        return cls(
            name=run.name,
            source=source,
            metrics={key: float(value) for key, value in found.items() if key in CATALOG and _is_number(value)},
            parts_ns=_mean(stages),
            trace=run.trace,
        )

    @property
    def step_ns(self) -> float:
        """Step time."""
        return sum(self.parts_ns.values())

    @property
    def num_tokens(self) -> float | None:
        """Tokens of all batches; None where there are none."""
        rate = self.metrics.get("tokens_per_s")
        return None if rate is None else rate * self.step_ns * 1e-9


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs, the first of which the others are compared with."""

    runs: list[Compared]

    @classmethod
    def of(cls, runs: Sequence[Compared]) -> "Comparison":
        """Return the comparison of runs, each under a name of its own."""
        return cls(runs=_named_apart(runs))

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON; times in seconds."""
        first = self.runs[0]
        return {
            "runs": [
                {
                    "name": run.name,
                    "source": run.source,
                    "metrics": dict(run.metrics),
                    "parts_s": {part: ns * 1e-9 for part, ns in run.parts_ns.items()},
                }
                for run in self.runs
            ],
            "warnings": list(_warnings(self.runs)),
            "differences": [_difference(first, run) for run in self.runs[1:]],
        }


def compare_runs(
    sources: Sequence[str],
    *,
    changes: Sequence[str] = (),
    limits: Limits = NO_LIMITS,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Comparison:
    """Compare scenarios, under `changes`, and saved results, as they are.

    Raises
    ------
    InvalidValueError
        There are fewer than two, or a file is neither a scenario nor a result of a run.
    """
    if len(sources) < _FEWEST:
        hint = "For example: moesim compare a.yaml b.yaml"
        raise InvalidValueError("RUN", "be given twice or more", len(sources), hint)
    runs = []
    for done, source in enumerate(sources):
        on_progress(done, len(sources))
        runs.append(compared_run(source, changes=changes, limits=limits))
    return Comparison.of(runs)


def compared_run(source: str, *, changes: Sequence[str] = (), limits: Limits = NO_LIMITS) -> Compared:
    """Return what is compared of a saved result, or of a scenario, which is simulated under `changes`.

    Raises
    ------
    InvalidValueError
        The file is neither a scenario nor a result of a run.
    """
    if is_saved(source):
        run = read_saved(source)
        if run.is_stress_test:
            raise _no_result(source)
        return Compared.of_saved(run, source=source)
    scenario = load_scenario(source, overrides=changes)
    simulated = simulate_scenario(scenario.without_judgement(), link_timeline=False, limits=limits)
    return Compared.of_simulated(simulated, name=scenario.spec.name, source=source)


# ---- private -----------------------------------------------------------------------------------------------------


def _named_apart(runs: Sequence[Compared]) -> list[Compared]:
    """Return runs of which no two have one name: those that do are named by what they were read from, or numbered."""
    names = [run.name for run in runs]
    names = [name if names.count(name) == 1 else run.source for name, run in zip(names, runs, strict=True)]
    if len(set(names)) < len(names):
        names = [f"{name} ({number})" for number, name in enumerate(names, start=1)]
    return [replace(run, name=name) for name, run in zip(names, runs, strict=True)]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _mean(stages: Sequence[Mapping[str, int]]) -> dict[str, float]:
    """Return the account averaged over stages."""
    return {part: sum(stage.get(part, 0) for stage in stages) / len(stages) for part in CATEGORIES}


def _memory(memory: Mapping[str, Any]) -> dict[str, Any]:
    return {**memory.get("peak_bytes_per_gpu", {}), **{k: v for k, v in memory.items() if _is_number(v)}}


def _no_result(source: str) -> InvalidValueError:
    return InvalidValueError(source, "be the result of a run, with metrics and stages_ns", "another file", _HINT)


def _warnings(runs: Sequence[Compared]) -> Iterator[str]:
    """Yield why the time of runs should not be compared."""
    first = runs[0]
    for letter, run in zip(ascii_uppercase[1:], runs[1:], strict=False):
        if first.num_tokens and run.num_tokens and abs(run.num_tokens / first.num_tokens - 1) > _SAME_WORK:
            yield (
                f"A has {first.num_tokens:,.0f} tokens and {letter} has {run.num_tokens:,.0f}: compare tokens "
                "per second, not times"
            )


def _difference(first: Compared, run: Compared) -> dict[str, Any]:
    """Return how a run differs from the first."""
    step_s = (run.step_ns - first.step_ns) * 1e-9
    parts = {part: (ns - first.parts_ns[part]) * 1e-9 for part, ns in run.parts_ns.items()}
    metrics = {
        name: {
            "first": first.metrics[name],
            "value": value,
            "difference": value - first.metrics[name],
            "relative": (value / first.metrics[name] - 1) if first.metrics[name] else None,
        }
        for name, value in run.metrics.items()
        if name in first.metrics
    }
    return {
        "run": run.name,
        "with": first.name,
        "step_time_s": step_s,
        "relative": step_s / (first.step_ns * 1e-9) if first.step_ns else None,
        "parts_s": parts,
        "metrics": metrics,
    }
