"""`moesim timeline` and `moesim schedules`: when the passes of a pipeline run, under one or every schedule."""

import math
from collections.abc import Sequence
from pathlib import Path

import typer

from sim.cli.steps import check_changes, output_file, print_json, print_result, show_progress
from sim.engine.trace import Trace
from sim.errors import InvalidValueError
from sim.report.console.schedules import print_schedules
from sim.report.files import PICTURES, stage_notes, write_drawing, write_whole
from sim.run.simulate import simulate_scenario
from sim.scenario.load import load_scenario
from sim.studies.schedules import Comparison, compare_schedules

__all__ = ["schedules_command", "timeline_command"]


def timeline_command(
    scenario: str,
    *,
    output: str,
    changes: Sequence[str] = (),
    seed: int | None = None,
    window: tuple[float, float] | None = None,
    lane: int,
    as_json: bool,
) -> None:
    """Simulate a scenario once and write its timeline or Perfetto trace; `window` is in milliseconds."""
    check_changes(changes, seed)
    file = output_file(output, (*PICTURES, ".json"))
    if window is not None:
        _check_window(window, file)
    loaded = load_scenario(scenario, overrides=changes, seed=seed)
    simulated = simulate_scenario(loaded)
    trace = simulated.run.trace
    if lane >= trace.num_lanes:
        rule = f"be below the number of lanes, {trace.num_lanes}"
        raise InvalidValueError(field="--lane", rule=rule, value=lane, hint="Lanes count from 0.")
    window_ns = None if window is None else _window_ns(trace, window)
    # The notes are shares of the whole run: printed with a window they would be read as shares of the window.
    is_whole = window_ns is None or (window_ns[0] <= trace.start_ns and trace.end_ns <= window_ns[1])
    notes = stage_notes(simulated.stages_ns) if is_whole else None
    name = loaded.spec.name or Path(scenario).stem
    write_drawing(trace, file, name=name, notes=notes, window_ns=window_ns, lane=lane)
    if as_json:
        print_json({"written": str(file)}, indent=None)
    else:
        typer.echo(f"Wrote {file}.")


def schedules_command(
    scenario: str, *, output: str | None = None, changes: Sequence[str] = (), seed: int | None = None, as_json: bool
) -> None:
    """Simulate a scenario under every schedule, print the table and draw the picture."""
    check_changes(changes, seed)
    file = None if output is None else output_file(output, PICTURES)
    loaded = load_scenario(scenario, overrides=changes, seed=seed)
    with show_progress() as on_progress:
        comparison = compare_schedules(loaded, on_progress=on_progress)
    name = loaded.spec.name or Path(scenario).stem
    if file is not None:
        _draw(comparison, file, name)
    data = {**comparison.to_dict(), "written": None if file is None else str(file)}
    print_result(data, print_schedules, as_json=as_json, name=name)


# ---- private -----------------------------------------------------------------------------------------------------


def _check_window(window_ms: tuple[float, float], file: Path) -> None:
    """Refuse a window of which it is known without a run that nothing could be drawn."""
    if file.suffix == ".json":
        hint = "A Perfetto trace holds the whole run: zoom there, or write .png, .svg or .pdf."
        raise InvalidValueError(field="--window", rule="be left out for .json", value=_text(window_ms), hint=hint)
    if not 0 <= window_ms[0] < window_ms[1] < math.inf:
        rule = "be two times in ms, the first smaller"
        raise InvalidValueError(field="--window", rule=rule, value=_text(window_ms), hint="For example: --window 0 50")


def _window_ns(trace: Trace, window_ms: tuple[float, float]) -> tuple[int, int]:
    """Return the window in nanoseconds; refuse a window outside the run."""
    first, last = round(window_ms[0] * 1e6), round(window_ms[1] * 1e6)
    if first >= trace.end_ns or last <= trace.start_ns or first == last:
        length_ms = trace.end_ns / 1e6
        rule, hint = f"lie in the run, which lasts {length_ms:.6g} ms", f"For example: --window 0 {length_ms / 2:.3g}"
        raise InvalidValueError(field="--window", rule=rule, value=_text(window_ms), hint=hint)
    return first, last


def _text(window_ms: tuple[float, float]) -> str:
    return f"{window_ms[0]:g} {window_ms[1]:g}"


def _draw(comparison: Comparison, file: Path, name: str) -> None:
    from sim.report.charts.schedules import Band, draw_schedules  # noqa: PLC0415  # matplotlib

    bands = [
        Band(
            name=row.schedule,
            trace=row.trace,
            step_time_s=row.step_time_s,
            bubble_fraction=float(row.simulated.metrics["bubble_fraction"]),
            peak_bytes=row.peak_bytes,
            fits=row.fits,
            is_fastest=row is comparison.cheapest,
        )
        for row in comparison.rows
    ]
    sentences = comparison.conclusion()
    write_whole(file, lambda path: draw_schedules(bands, path, title=name, sentences=sentences))
