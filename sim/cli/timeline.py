"""`moesim timeline` and `moesim schedules`: when the passes of a pipeline run, of runs or under every schedule."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray

from sim.cli.steps import check_changes, check_unsaved, output_file, print_json, print_result, show_progress
from sim.engine.trace import Trace
from sim.errors import InvalidValueError
from sim.report.console.schedules import print_schedules
from sim.report.files import PICTURES, stage_notes, write_drawing, write_whole
from sim.report.html.details import details_of, details_of_saved
from sim.run.saved import is_saved, read_saved
from sim.run.simulate import simulate_scenario
from sim.scenario.load import load_scenario
from sim.scenario.units import parse_quantity
from sim.studies.schedules import Comparison, compare_schedules

__all__ = ["schedules_command", "timeline_command"]

_TRACES: Final = (".pftrace", ".json")
"""Suffixes of Perfetto traces."""


class _Run(NamedTuple):
    """What is drawn of a run."""

    name: str
    trace: Trace
    stages_ns: Sequence[Mapping[str, int]]
    """The stages account, for the notes in the margin."""
    memory: Mapping[str, Any] | None
    rank_tokens: NDArray[np.int64] | None
    """Tokens of ranks, for Perfetto."""


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
    """Write the timeline or Perfetto trace of runs, scenarios or saved results; `window` is in milliseconds."""
    check_changes(changes, seed)
    check_unsaved(scenarios, changes, seed)
    file = output_file(output, (*PICTURES, *_TRACES))
    by_step = _is_by_step(scenarios, by, colour, file)
    window_ms = _window_ms(window, begin, end)
    if window_ms is not None and file.suffix in _TRACES:
        given = "--window" if window is not None else "--from" if begin is not None else "--to"
        hint = "A Perfetto trace holds the whole run: zoom there, or write .png, .svg or .pdf."
        rule = f"be left out for {file.suffix}"
        raise InvalidValueError(field=given, rule=rule, value=begin or end or _text(window_ms), hint=hint)
    runs = [_run_of(scenario, changes, seed, has_tokens=file.suffix == ".pftrace") for scenario in scenarios]
    for run in runs:
        _check_lane(run.trace, lane)
    if by_step:
        _draw_runs(runs, file, window_ms, colour=colour, lane=lane)
    else:
        _draw_one(runs[0], file, window_ms, colour=colour, lane=lane)
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


def _run_of(source: str, changes: Sequence[str], seed: int | None, *, has_tokens: bool) -> _Run:
    """Return what is drawn of a saved result, or of a scenario, which is simulated."""
    if is_saved(source):
        run = read_saved(source)
        details = None if run.is_stress_test else details_of_saved(run)
        if details is None:
            rule, hint = (
                "stand in the folder of its trace.npz and details.npz",
                "Name the result.json of a run's --out.",
            )
            raise InvalidValueError(field="RUN", rule=rule, value=source, hint=hint)
        return _Run(
            name=run.name,
            trace=details.trace,
            stages_ns=run.data.get("stages_ns") or (),
            memory=run.data.get("memory") or None,
            rank_tokens=details.rank_tokens,
        )
    loaded = load_scenario(source, overrides=changes, seed=seed)
    simulated = simulate_scenario(loaded)
    return _Run(
        name=loaded.spec.name or Path(source).stem,
        trace=simulated.run.trace,
        stages_ns=simulated.stages_ns,
        memory=simulated.memory,
        rank_tokens=details_of(simulated).rank_tokens if has_tokens else None,
    )


def _draw_one(run: _Run, file: Path, window_ms: tuple[float, float] | None, *, colour: str, lane: int) -> None:
    """Write the timeline of one run by stages, or its Perfetto trace."""
    trace = run.trace
    window_ns = None if window_ms is None else _window_ns(trace, window_ms)
    # The notes are shares of the whole run: printed with a window they would be read as shares of the window.
    is_whole = window_ns is None or (window_ns[0] <= trace.start_ns and trace.end_ns <= window_ns[1])
    write_drawing(
        trace,
        file,
        name=run.name,
        notes=stage_notes(run.stages_ns) if is_whole else None,
        window_ns=window_ns,
        lane=lane,
        colour=colour,
        memory=run.memory,
        rank_tokens=run.rank_tokens,
    )


def _draw_runs(
    runs: Sequence[_Run], file: Path, window_ms: tuple[float, float] | None, *, colour: str, lane: int
) -> None:
    """Write the picture of several runs on one axis."""
    from sim.report.timeline.runs import ShownRun, draw_runs  # noqa: PLC0415  # matplotlib

    longest = max((run.trace for run in runs), key=lambda trace: trace.step_ns)
    window_ns = None if window_ms is None else _window_ns(longest, window_ms)
    shown = [ShownRun(name=run.name, trace=run.trace, lane=lane) for run in runs]
    title = runs[0].name if len(runs) == 1 else f"{len(runs)} runs on one axis of time"
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
