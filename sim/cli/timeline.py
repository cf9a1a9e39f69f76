"""`moesim timeline`: the picture of a scenario's pipeline, without its alternatives and claims."""

import json
from collections.abc import Sequence
from pathlib import Path

import typer

from sim.errors import InputError
from sim.report.files import stage_notes, write_drawing
from sim.scenario.load import load_scenario
from sim.studies.simulate import simulate_scenario

__all__ = ["timeline_command"]

_SUFFIXES = (".png", ".svg", ".pdf", ".json")


def timeline_command(
    scenario: str,
    *,
    output: Path,
    changes: Sequence[str],
    seed: int | None,
    window_ms: tuple[float, float] | None,
    lane: int,
    as_json: bool,
) -> None:
    """Simulate a scenario once and write its timeline or Perfetto trace."""
    if output.suffix not in _SUFFIXES:
        raise InputError(
            field="--output",
            rule=f"end in one of {', '.join(_SUFFIXES)}",
            value=str(output),
            cure="For example: -o out.png",
        )
    if window_ms is not None and not 0 <= window_ms[0] < window_ms[1]:
        raise InputError(
            field="--window",
            rule="be two times in ms, the first smaller",
            value=window_ms,
            cure="For example: --window 0 50",
        )
    loaded = load_scenario(scenario, overrides=[*changes, *([] if seed is None else [f"seed={seed}"])])
    simulated = simulate_scenario(loaded)
    trace = simulated.run.trace
    if lane >= trace.num_lanes:
        raise InputError(
            field="--lane",
            rule=f"be below the number of lanes, {trace.num_lanes}",
            value=lane,
            cure="Lanes count from 0.",
        )
    window_ns = None if window_ms is None else (round(window_ms[0] * 1e6), round(window_ms[1] * 1e6))
    name = loaded.spec.name or Path(scenario).stem
    write_drawing(trace, output, name=name, notes=stage_notes(simulated.stages_ns), window_ns=window_ns, lane=lane)
    typer.echo(json.dumps({"written": str(output)}) if as_json else f"Wrote {output}.")
