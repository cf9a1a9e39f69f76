"""All schedules on the same work: what each costs and what it needs.

Model
-----
Every schedule of the table that can run the scenario's work is simulated with the scenario's own costs, network and
routing. One that needs chunks takes the scenario's `parallel.vpp`, or 2; one that has none takes 1. A
`parallel.stage_layers` of another number of chunks is divided over its stages' chunks (`spread_over`).

    in flight    most microbatches of a stage between F and B, a chunk of v counting as 1 / v
    activations  at the peak; of passes with `workload.held` the most that a stage holds
    p2p          bytes that stages hand on to each other, over all lanes; hops where passes have no bytes
    fastest      least step time among those that fit into memory (among all, where there is no model)

The conclusion holds the fastest against the scenario's own schedule, and names the fastest that needs no more memory
than that one. Step times and memory within 1 % count as equal.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.engine.trace import Trace
from sim.errors import InvalidValueError, MoesimError
from sim.results.memory import most_in_flight
from sim.results.quantities import format_quantity
from sim.run.scenario_run import Simulated
from sim.run.simulate import simulate_scenario
from sim.scenario.scenario import Scenario
from sim.scenario.workload_section import PassesWorkload, TrainingWorkload
from sim.studies.chunks import under_schedule
from workloads.schedules import SCHEDULES

_EQUAL = 1.01
"""Largest ratio of two step times, or of two peaks of memory, that count as equal."""

__all__ = ["Comparison", "ScheduleRow", "compare_schedules"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ScheduleRow:
    """One schedule on the work."""

    schedule: str
    """A key of `SCHEDULES`, or custom."""
    set: dict[str, object]
    """Dotted keys that it was run with."""
    trace: Trace
    """Record of the run under the schedule."""
    simulated: Simulated
    """Metrics and memory of the run."""

    @property
    def step_time_s(self) -> float:
        """Time of a step."""
        return float(self.simulated.metrics["step_time_s"])

    @property
    def peak_bytes(self) -> int | None:
        """Peak of memory of the fullest GPU; None without a model."""
        peak = self.simulated.memory.get("peak_bytes_per_gpu")
        return None if peak is None else int(peak["total"])

    @property
    def fits(self) -> bool | None:
        """Whether it fits into memory; None without a model."""
        fits = self.simulated.memory.get("fits")
        return None if fits is None else bool(fits)

    def to_dict(self, *, is_cheapest: bool) -> dict[str, Any]:
        """Return the figures; those that have no meaning without a model are left out."""
        metrics, memory = self.simulated.metrics, self.simulated.memory
        row: dict[str, Any] = {"schedule": self.schedule, "set": self.set}
        known = ("step_time_s", "bubble_fraction", "bubble_fraction_published_form", "tokens_per_s", "mfu")
        row |= {name: metrics[name] for name in known if name in metrics}
        sends = np.flatnonzero(self.trace["kind"] == "pp")
        row |= {"in_flight_microbatches": most_in_flight(self.trace), "p2p_hops": int(sends.size)}
        row |= {"activation_bytes": metrics["held_bytes"]} if "held_bytes" in metrics else {}
        if memory:
            of_lane = [self.trace.num_of.get(lane, 1) for lane in self.trace.ints("lane")[sends].tolist()]
            peak = memory["peak_bytes_per_gpu"]
            row |= {
                "p2p_bytes": round(float((self.trace["bytes"][sends] * of_lane).sum())),
                "activation_bytes": peak["activations"] + peak["expert_activations"],
                "peak_bytes_per_gpu": peak["total"],
                "capacity_bytes": memory["capacity_bytes"],
            }
        return {**row, "fits": self.fits, "is_cheapest_that_fits": is_cheapest}


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """All schedules on one work."""

    scenario: Scenario
    rows: list[ScheduleRow]
    """Those that ran, fastest first."""
    refused: dict[str, str]
    """Those that cannot run the work, and why."""

    @property
    def cheapest(self) -> ScheduleRow | None:
        """The fastest that fits."""
        return next((row for row in self.rows if row.fits is not False), None)

    @property
    def own(self) -> ScheduleRow | None:
        """The scenario's own schedule; None where it cannot run the work."""
        return next((row for row in self.rows if row.schedule == self.scenario.spec.schedule.kind), None)

    def conclusion(self) -> list[str]:
        """Return what the rows say, in sentences."""
        best, own = self.cheapest, self.own
        unfit = [row.schedule for row in self.rows if row.fits is False]
        if best is None:
            return [f"None of the {len(self.rows)} schedules that can run this work fits into memory."]
        of = f"{len(self.rows) - len(unfit)} schedules that fit into memory" if unfit else f"{len(self.rows)} schedules"
        said = [f"{best.schedule} is the fastest of {of}: {_figures(best)}."]
        if own is best:
            said = [f"{best.schedule}, the scenario's own, is the fastest of {of}: {_figures(best)}."]
        elif own is not None:
            fit = " and does not fit into memory" if own.fits is False else ""
            times = own.step_time_s / best.step_time_s
            said.append(f"{own.schedule}, the scenario's own, takes {times:.2f} times as long{fit}: {_figures(own)}.")
            said += self._at_no_more_memory(own)
        if unfit:
            capacity = format_quantity(float(self.rows[0].simulated.memory["capacity_bytes"]), "bytes")
            said.append(f"{' and '.join(unfit)} {'does' if len(unfit) == 1 else 'do'} not fit into {capacity}.")
        return said

    def _at_no_more_memory(self, own: ScheduleRow) -> list[str]:
        """Return the sentence on the fastest schedule that needs no more memory than the scenario's own."""
        most = own.peak_bytes
        if most is None or own.fits is False:
            return []
        rows = [row for row in self.rows if (row.peak_bytes or 0) <= _EQUAL * most]
        if own.step_time_s <= _EQUAL * rows[0].step_time_s:
            return [f"At no more memory than {own.schedule} none is faster by more than 1 %."]
        return [f"At no more memory than {own.schedule} the fastest is {rows[0].schedule}: {_figures(rows[0])}."]

    def to_dict(self) -> dict[str, Any]:
        """Return one JSON object."""
        return {
            "schema_version": 1,
            "scenario": self.scenario.resolved(),
            "conclusion": self.conclusion(),
            "rows": [row.to_dict(is_cheapest=row is self.cheapest) for row in self.rows],
            "refused": [{"schedule": name, "reason": why} for name, why in self.refused.items()],
        }


def compare_schedules(
    scenario: Scenario, *, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> Comparison:
    """Simulate a scenario under every schedule.

    Raises
    ------
    InvalidValueError
        The scenario does not train: forward passes have no schedule.
    """
    workload = scenario.spec.workload
    if not isinstance(workload, (TrainingWorkload, PassesWorkload)):
        hint = "Schedules order forward and backward passes."
        raise scenario.located(
            InvalidValueError("workload.kind", rule="be training or passes", value=workload.kind, hint=hint)
        )
    own = scenario.spec.schedule.kind
    names = [*SCHEDULES, *([own] if own not in SCHEDULES else [])]
    rows, refused = [], {}
    for done, name in enumerate(names):
        on_progress(done, len(names))
        outcome = _run(scenario, name)
        if isinstance(outcome, str):
            refused[name] = outcome
        else:
            rows.append(outcome)
    on_progress(len(names), len(names))
    if not rows:
        reasons = "; ".join(f"{name}: {why}" for name, why in refused.items())
        raise InvalidValueError(field="the work", rule="run under a schedule", value="none", hint=reasons)
    return Comparison(scenario=scenario, rows=sorted(rows, key=lambda row: row.step_time_s), refused=refused)


# ---- private -----------------------------------------------------------------------------------------------------


def _figures(row: ScheduleRow) -> str:
    """Return the step time, the bubble and the memory of a schedule in words."""
    bubble = f"bubble {100 * row.simulated.metrics['bubble_fraction']:.1f} %"
    words = [format_quantity(row.step_time_s, "s"), bubble]
    return ", ".join(words if row.peak_bytes is None else [*words, format_quantity(float(row.peak_bytes), "bytes")])


def _run(scenario: Scenario, name: str) -> ScheduleRow | str:
    """Return a schedule's run, or why it cannot run the work."""
    changes = under_schedule(scenario, name)
    try:
        simulated = simulate_scenario(
            scenario.variant(changes),
            link_timeline=False,
            links=False,
            runs_alike=len(SCHEDULES),
        )
    except InvalidValueError as error:
        return error.problem
    except MoesimError as error:
        return str(error)
    given = {key: value for key, value in changes.items() if not key.startswith("schedule.")}
    return ScheduleRow(schedule=name, set=given, trace=simulated.run.trace, simulated=simulated)
