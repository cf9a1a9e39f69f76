"""`moesim timeline`: the picture of a scenario's pipeline, without its alternatives and claims."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import typer

from sim.cli.changes import check_changes
from sim.cli.outputs import output_file
from sim.engine.trace import Trace
from sim.errors import InvalidValueError
from sim.report.files import stage_notes, write_drawing
from sim.run.simulate import simulate_scenario
from sim.scenario.load import load_scenario

__all__ = ["timeline_command"]

_SUFFIXES = (".png", ".svg", ".pdf", ".json")


def timeline_command(
    scenario: str,
    *,
    output: str,
    changes: Sequence[str],
    seed: int | None,
    window_ms: tuple[float, float] | None,
    lane: int,
    as_json: bool,
) -> None:
    """Simulate a scenario once and write its timeline or Perfetto trace."""
    check_changes(changes, seed)
    file = output_file(output, _SUFFIXES)
    if window_ms is not None and file.suffix == ".json":
        raise InvalidValueError(
            field="--window",
            rule="be left out for .json",
            value=_shown(window_ms),
            hint="A Perfetto trace holds the whole run: zoom there, or write .png, .svg or .pdf.",
        )
    if window_ms is not None and not 0 <= window_ms[0] < window_ms[1] < math.inf:
        raise InvalidValueError(
            field="--window",
            rule="be two times in ms, the first smaller",
            value=_shown(window_ms),
            hint="For example: --window 0 50",
        )
    loaded = load_scenario(scenario, overrides=changes, seed=seed)
    simulated = simulate_scenario(loaded)
    trace = simulated.run.trace
    if lane >= trace.num_lanes:
        raise InvalidValueError(
            field="--lane",
            rule=f"be below the number of lanes, {trace.num_lanes}",
            value=lane,
            hint="Lanes count from 0.",
        )
    window_ns = None if window_ms is None else _window_ns(trace, window_ms)
    # The notes are shares of the whole run: beside a part of it they would be read as that part's.
    is_part = window_ns is not None and not (window_ns[0] <= trace.start_ns and trace.end_ns <= window_ns[1])
    notes = None if is_part else stage_notes(simulated.stages_ns)
    name = loaded.spec.name or Path(scenario).stem
    write_drawing(trace, file, name=name, notes=notes, window_ns=window_ns, lane=lane)
    typer.echo(json.dumps({"written": str(file)}) if as_json else f"Wrote {file}.")


def _window_ns(trace: Trace, window_ms: tuple[float, float]) -> tuple[int, int]:
    """Return the window in nanoseconds; refuse one in which nothing of the run is seen."""
    first, last = round(window_ms[0] * 1e6), round(window_ms[1] * 1e6)
    if first >= trace.end_ns or last <= trace.start_ns or first == last:
        length_ms = trace.end_ns / 1e6
        raise InvalidValueError(
            field="--window",
            rule=f"show a part of the run, which lasts {length_ms:.6g} ms",
            value=_shown(window_ms),
            hint=f"For example: --window 0 {length_ms / 2:.3g}",
        )
    return first, last


def _shown(window_ms: tuple[float, float]) -> str:
    return f"{window_ms[0]:g} {window_ms[1]:g}"
