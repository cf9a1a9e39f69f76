"""`moesim why` and `moesim compare`: what a step's time is made of, what would shorten it, and how runs differ."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sim.cli.steps import check_changes, num_processes, output_file, print_result, show_progress
from sim.errors import InvalidValueError
from sim.report.console.compare import print_comparison
from sim.report.console.why import print_why
from sim.report.files import PICTURES
from sim.report.html.saved import is_stress_test, read_result
from sim.scenario.load import load_scenario
from sim.studies.compare import compare_runs
from sim.studies.why import explain_step, path_of_saved

__all__ = ["compare_command", "why_command"]


def why_command(
    scenario: str,
    *,
    output: str | None = None,
    changes: Sequence[str] = (),
    seed: int | None = None,
    as_json: bool,
    jobs: int | None = None,
) -> None:
    """Simulate a scenario and its what-ifs, print them, and draw them where a file is given."""
    check_changes(changes, seed)
    file = None if output is None else output_file(output, PICTURES)
    if Path(scenario).suffix == ".json":
        data = _of_saved(scenario, changes, seed)
    else:
        loaded = load_scenario(scenario, overrides=changes, seed=seed)
        with show_progress() as on_progress:
            data = explain_step(loaded, jobs=num_processes(jobs), on_progress=on_progress).to_dict()
    written: dict[str, str] = {}
    if file is not None:
        from sim.report.charts.why import draw_why  # noqa: PLC0415  # matplotlib only where a picture is drawn

        draw_why(data, file)
        written = {"waterfall and gains": str(file)}
    print_result({**data, "written": None if file is None else str(file)}, print_why, as_json=as_json, written=written)


def compare_command(
    runs: Sequence[str],
    *,
    output: str | None = None,
    changes: Sequence[str] = (),
    as_json: bool,
) -> None:
    """Compare scenarios or saved results, print the differences, and draw them where a file is given."""
    check_changes(changes)
    file = None if output is None else output_file(output, PICTURES)
    with show_progress() as on_progress:
        comparison = compare_runs(runs, changes=changes, on_progress=on_progress)
    data = comparison.to_dict()
    written: dict[str, str] = {}
    if file is not None:
        from sim.report.charts.compare import draw_comparison  # noqa: PLC0415  # matplotlib only where it draws

        draw_comparison(data, file)
        written = {"where the time goes": str(file)}
    full = {**data, "written": None if file is None else str(file)}
    print_result(full, print_comparison, as_json=as_json, written=written)


# ---- private -----------------------------------------------------------------------------------------------------


def _of_saved(result: str, changes: Sequence[str], seed: int | None) -> dict[str, Any]:
    """Return the path of a run that was saved or measured."""
    if changes or seed is not None:
        hint = "A saved result cannot be changed: name its scenario."
        raise InvalidValueError("--set", "be left out with a saved result", result, hint)
    data = read_result(Path(result))
    if is_stress_test(data) or not any((data.get("path_ns") or {}).values()):
        hint = "Name the result.json that `moesim run SCENARIO --out DIR` wrote."
        raise InvalidValueError(result, "be the result of a run, with path_ns", "another file", hint)
    return path_of_saved(data)
