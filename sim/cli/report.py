"""`moesim report`: one HTML file that explains a run, of a scenario or of a result that was saved."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from sim.cli.steps import (
    check_changes,
    check_unsaved,
    named_path,
    num_processes,
    output_file,
    print_json,
    show_progress,
    trace_file,
)
from sim.errors import InvalidValueError
from sim.report.files import write_whole
from sim.report.html.cluster import cluster_picture
from sim.report.html.compare import comparison_content
from sim.report.html.details import RunDetails, details_of, details_of_saved, with_experts
from sim.report.html.page import write_page
from sim.report.html.stress import write_stress_page
from sim.run.result import Result
from sim.run.saved import SavedRun, is_saved, read_saved
from sim.scenario.load import load_scenario
from sim.studies.claims import simulate
from sim.studies.compare import Compared, Comparison, compared_run
from sim.studies.why import explain_step

__all__ = ["command_of", "report_command", "run_details"]


def report_command(
    scenario: str,
    *,
    output: str,
    changes: Sequence[str] = (),
    trace: str | None = None,
    seed: int | None = None,
    jobs: int | None = None,
    compare: Sequence[str] = (),
    as_json: bool,
) -> None:
    """Write the page of a scenario, which is simulated, or of a saved result; `compare` are other runs."""
    check_changes(changes, seed, trace)
    file = output_file(output, (".html",))
    if is_saved(scenario):
        check_unsaved([scenario], changes, seed, trace)
        _write_saved(read_saved(named_path("RESULT", scenario, "out/result.json")), file, compare)
    else:
        with show_progress() as on_progress:
            loaded = load_scenario(scenario, overrides=changes, seed=seed, trace=trace_file(trace))
            result = simulate(loaded, jobs=num_processes(jobs), on_progress=on_progress)
            why = explain_step(loaded, jobs=num_processes(jobs), on_progress=on_progress).to_dict()
            own = Compared.of_simulated(result.simulated, name=loaded.spec.name, source=scenario)
            comparison = _comparison(own, compare)
        command = command_of(scenario, changes=changes, trace=trace, seed=seed)
        details = run_details(result, command)
        data = result.to_dict()
        write_whole(file, lambda path: write_page(data, path, details=details, why=why, comparison=comparison))
    if as_json:
        print_json({"written": str(file)}, indent=None)
    else:
        typer.echo(f"Wrote {file}.")


def run_details(result: Result, command: str) -> RunDetails:
    """Return what the page shows of a run beyond its JSON object."""
    picture = cluster_picture(result.scenario, result.trace.link_use, result.trace.step_ns / 1e9)
    return with_experts(details_of(result.simulated, command=command, picture=picture), result.scenario)


def command_of(scenario: str, *, changes: Sequence[str], trace: str | None, seed: int | None) -> str:
    """Return the command that simulates a scenario again.

    >>> command_of("mine.yaml", changes=["name=a b"], trace=None, seed=2)
    "moesim run mine.yaml --set 'name=a b' --seed 2"
    """
    words = ["moesim", "run", scenario]
    words += [word for change in changes for word in ("--set", change)]
    words += [] if trace is None else ["--trace", trace]
    words += [] if seed is None else ["--seed", str(seed)]
    return shlex.join(words)


# ---- private -----------------------------------------------------------------------------------------------------


def _comparison(own: Compared, others: Sequence[str]) -> dict[str, Any] | None:
    """Return what the page says of other runs, scenarios as they are and saved results, next to its own."""
    return comparison_content(Comparison.of([own, *map(compared_run, others)])) if others else None


def _write_saved(run: SavedRun, file: Path, others: Sequence[str]) -> None:
    """Write the page of a saved result."""
    data, details, comparison = run.data, None, None
    if run.is_stress_test and others:
        hint = "Compare runs, not stress tests."
        raise InvalidValueError(field="--compare", rule="be left out for a stress test", value=others[0], hint=hint)
    if not run.is_stress_test:
        details = details_of_saved(run)
        comparison = _comparison(Compared.of_saved(run, source=str(run.path)), others) if others else None
    try:
        if run.is_stress_test:
            write_whole(file, lambda path: write_stress_page(data, path))
        else:
            write_whole(file, lambda path: write_page(data, path, details=details, comparison=comparison))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        hint = "Name the result.json that `moesim run SCENARIO --out DIR` wrote."
        value = f"{type(error).__name__}: {error}"
        raise InvalidValueError(
            file=str(run.path), field="RESULT", rule="be the JSON of a run", value=value, hint=hint
        ) from error
