"""`moesim why` and `moesim compare`: what a step's time is made of, what would shorten it, and how runs differ."""

import shlex
from collections.abc import Sequence
from typing import Any

from sim.cli.steps import check_changes, check_unsaved, num_processes, output_file, print_result, show_progress
from sim.errors import InvalidValueError
from sim.report.console.compare import print_comparison
from sim.report.console.why import print_why
from sim.report.files import PICTURES, write_whole
from sim.run.saved import is_saved, read_saved
from sim.scenario.load import load_scenario
from sim.studies.compare import compare_runs
from sim.studies.why import explain_step, why_of_saved

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
    if is_saved(scenario):
        check_unsaved([scenario], changes, seed)
        data = _of_saved(scenario)
    else:
        loaded = load_scenario(scenario, overrides=changes, seed=seed)
        with show_progress() as on_progress:
            data = explain_step(loaded, jobs=num_processes(jobs), on_progress=on_progress).to_dict()
    written: dict[str, str] = {}
    if file is not None:
        from sim.report.charts.why import draw_why  # noqa: PLC0415  # matplotlib only where a picture is drawn

        write_whole(file, lambda path: draw_why(data, path))
        written = {"waterfall and gains": str(file)}
    print_result({**data, "written": None if file is None else str(file)}, print_why, as_json=as_json, written=written)


def compare_command(
    runs: Sequence[str],
    *,
    output: str | None = None,
    changes: Sequence[str] = (),
    as_json: bool,
) -> None:
    """Compare scenarios or saved results, print the differences, and draw or write them where a file is given."""
    check_changes(changes)
    check_unsaved(runs, changes)
    file = None if output is None else output_file(output, (*PICTURES, ".html"))
    with show_progress() as on_progress:
        comparison = compare_runs(runs, changes=changes, on_progress=on_progress)
    data = comparison.to_dict()
    written: dict[str, str] = {}
    if file is not None and file.suffix == ".html":
        from sim.report.html.compare import write_comparison_page  # noqa: PLC0415  # jinja2 only where it writes

        words = [*runs, *(word for one in changes for word in ("--set", one)), "-o", file.name]
        command = shlex.join(["moesim", "compare", *words])
        write_whole(file, lambda path: write_comparison_page(comparison, path, command=command))
        written = {"page": str(file)}
    elif file is not None:
        from sim.report.charts.compare import draw_comparison  # noqa: PLC0415  # matplotlib only where it draws

        write_whole(file, lambda path: draw_comparison(comparison, path))
        written = {"timelines and where the time goes": str(file)}
    full = {**data, "written": None if file is None else str(file)}
    traces = [run.trace for run in comparison.runs]
    print_result(full, print_comparison, as_json=as_json, written=written, traces=traces)


# ---- private -----------------------------------------------------------------------------------------------------


def _of_saved(result: str) -> dict[str, Any]:
    """Return the path of a run that was saved or measured."""
    run = read_saved(result)
    if run.is_stress_test or not any((run.data.get("path_ns") or {}).values()):
        hint = "Name the result.json that `moesim run SCENARIO --out DIR` wrote."
        raise InvalidValueError(result, "be the result of a run, with path_ns", "another file", hint)
    return why_of_saved(run)
