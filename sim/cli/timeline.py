"""`moesim timeline` and `moesim schedules`: when the passes of a pipeline run, under one or every schedule."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import typer

from sim.cli.steps import check_changes, output_file, print_json, print_result, show_progress
from sim.engine.trace import Trace
from sim.errors import InvalidValueError
from sim.report.console.schedules import print_schedules
from sim.report.files import PICTURES, stage_notes, write_drawing, write_whole
from sim.report.html.details import details_of
from sim.run.scenario_run import Simulated
from sim.run.simulate import simulate_scenario
from sim.scenario.load import load_scenario
from sim.scenario.units import parse_quantity
from sim.studies.schedules import Comparison, compare_schedules

__all__ = ["schedules_command", "timeline_command"]

_TRACES: Final = (".pftrace", ".json")
"""Suffixes of Perfetto traces."""


def timeline_command(
    scenarios: Sequence[str],
    *,
    output: str,
    changes: Sequence[str] = (),
    seed: int | None = None,
    window: tuple[float, float] | None = None,
    begin: str | None = None,
    end: str | None = None,
    by: str | None = None,
    colour: str,
    lane: int,
    as_json: bool,
) -> None:
    """Simulate each scenario once and write the timeline or Perfetto trace; `window` is in milliseconds."""
    check_changes(changes, seed)
    file = output_file(output, (*PICTURES, *_TRACES))
    by_step = _is_by_step(scenarios, by, colour, file)
    window_ms = _window_ms(window, begin, end)
    if window_ms is not None and file.suffix in _TRACES:
        given = "--window" if window is not None else "--from" if begin is not None else "--to"
        hint = "A Perfetto trace holds the whole run: zoom there, or write .png, .svg or .pdf."
        rule = f"be left out for {file.suffix}"
        raise InvalidValueError(field=given, rule=rule, value=begin or end or _text(window_ms), hint=hint)
    loaded = [load_scenario(scenario, overrides=changes, seed=seed) for scenario in scenarios]
    names = [one.spec.name or Path(scenario).stem for one, scenario in zip(loaded, scenarios, strict=True)]
    runs = [simulate_scenario(one) for one in loaded]
    for run in runs:
        _check_lane(run.run.trace, lane)
    if by_step:
        _draw_runs(runs, names, file, window_ms, colour=colour, lane=lane)
    else:
        _draw_one(runs[0], names[0], file, window_ms, colour=colour, lane=lane)
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


def _is_by_step(scenarios: Sequence[str], by: str | None, colour: str, file: Path) -> bool:
    """Tell whether steps are drawn and not stages; refuse what does not go together."""
    from sim.report.timeline.runs import COLOURINGS  # noqa: PLC0415  # matplotlib

    _check_word("--by", by, (None, "stage", "step"))
    _check_word("--colour", colour, COLOURINGS)
    several = len(scenarios) > 1
    if several and file.suffix in _TRACES:
        rule, hint = "be a picture for several scenarios", "Write .png, .svg or .pdf, or a trace for each scenario."
        raise InvalidValueError(field="--output", rule=rule, value=str(file), hint=hint)
    if file.suffix in _TRACES and (by is not None or colour != "microbatch"):
        field, value = ("--by", by) if by is not None else ("--colour", colour)
        hint = "A Perfetto trace has all stages, and colours of its own."
        raise InvalidValueError(field=field, rule=f"be left out for {file.suffix}", value=value, hint=hint)
    if several and by == "stage":
        hint = "Leave it out, or draw each scenario on its own."
        raise InvalidValueError(field="--by", rule="be step for several scenarios", value=by, hint=hint)
    return several or by == "step"


def _check_word(field: str, word: str | None, allowed: Sequence[str | None]) -> None:
    if word not in allowed:
        words = [one for one in allowed if one]
        hint = f"For example: {field} {words[-1]}"
        raise InvalidValueError(field=field, rule=f"be one of {', '.join(words)}", value=word, hint=hint)


def _window_ms(window: tuple[float, float] | None, begin: str | None, end: str | None) -> tuple[float, float] | None:
    """Return the window of --window, or of --from and --to, in ms; infinity where there is no end."""
    if window is not None and begin is None and end is None:
        if not 0 <= window[0] < window[1] < math.inf:
            rule = "be two times in ms, the first smaller"
            raise InvalidValueError(field="--window", rule=rule, value=_text(window), hint="For example: --window 0 50")
        return window
    if begin is None and end is None:
        return None
    if window is not None:
        field, hint = "--from" if begin is not None else "--to", "Remove --window, or --from and --to."
        raise InvalidValueError(field=field, rule="be left out with --window", value=begin or end, hint=hint)
    first = 0.0 if begin is None else _milliseconds("--from", begin)
    last = math.inf if end is None else _milliseconds("--to", end)
    if first >= last:
        hint = 'For example: --from "20 ms" --to "50 ms"'
        raise InvalidValueError(field="--to", rule="be later than --from", value=end, hint=hint)
    return first, last


def _milliseconds(field: str, text: str) -> float:
    try:
        return 1e3 * parse_quantity(text, "s")
    except InvalidValueError as error:
        raise InvalidValueError(field=field, rule=error.rule, value=error.value, hint=error.hint) from None


def _check_lane(trace: Trace, lane: int) -> None:
    if lane >= trace.num_lanes:
        rule = f"be below the number of lanes, {trace.num_lanes}"
        raise InvalidValueError(field="--lane", rule=rule, value=lane, hint="Lanes count from 0.")


def _draw_one(
    simulated: Simulated,
    name: str,
    file: Path,
    window_ms: tuple[float, float] | None,
    *,
    colour: str,
    lane: int,
) -> None:
    """Write the timeline of one run by stages, or its Perfetto trace."""
    trace = simulated.run.trace
    window_ns = None if window_ms is None else _window_ns(trace, window_ms)
    # The notes are shares of the whole run: printed with a window they would be read as shares of the window.
    is_whole = window_ns is None or (window_ns[0] <= trace.start_ns and trace.end_ns <= window_ns[1])
    write_drawing(
        trace,
        file,
        name=name,
        notes=stage_notes(simulated.stages_ns) if is_whole else None,
        window_ns=window_ns,
        lane=lane,
        colour=colour,
        memory=simulated.memory,
        rank_tokens=details_of(simulated).rank_tokens if file.suffix == ".pftrace" else None,
    )


def _draw_runs(
    runs: Sequence[Simulated],
    names: Sequence[str],
    file: Path,
    window_ms: tuple[float, float] | None,
    *,
    colour: str,
    lane: int,
) -> None:
    """Write the picture of several runs on one axis."""
    from sim.report.timeline.runs import ShownRun, draw_runs  # noqa: PLC0415  # matplotlib

    longest = max((simulated.run.trace for simulated in runs), key=lambda trace: trace.step_ns)
    window_ns = None if window_ms is None else _window_ns(longest, window_ms)
    shown = [ShownRun(name=name, trace=run.run.trace, lane=lane) for name, run in zip(names, runs, strict=True)]
    title = names[0] if len(names) == 1 else f"{len(names)} runs on one axis of time"
    write_whole(file, lambda path: draw_runs(shown, path, title=title, window_ns=window_ns, colour=colour))


def _window_ns(trace: Trace, window_ms: tuple[float, float]) -> tuple[int, int]:
    """Return the window in nanoseconds; refuse a window outside the run."""
    first, last = round(window_ms[0] * 1e6), round(min(window_ms[1] * 1e6, 2.0**62))
    if first >= trace.end_ns or last <= trace.start_ns or first == last:
        length_ms = trace.end_ns / 1e6
        rule, hint = f"lie in the run, which lasts {length_ms:.6g} ms", f"For example: --window 0 {length_ms / 2:.3g}"
        raise InvalidValueError(field="--window", rule=rule, value=_text(window_ms), hint=hint)
    return first, last if math.isfinite(window_ms[1]) else trace.end_ns


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
