"""`moesim schedules`: every schedule on the same work, in a table and a picture."""

import json
from collections.abc import Sequence
from pathlib import Path

import typer

from sim.cli.changes import check_changes
from sim.cli.outputs import output_file
from sim.cli.progress import showing_progress
from sim.report.console.run import make_console
from sim.report.console.studies import print_schedules
from sim.report.files import write_whole
from sim.scenario.load import load_scenario
from sim.studies.schedules import Comparison, ScheduleRow, compare_schedules

__all__ = ["schedules_command"]

_SUFFIXES = (".png", ".svg", ".pdf")


def schedules_command(
    scenario: str, *, output: str | None, changes: Sequence[str], seed: int | None, as_json: bool
) -> None:
    """Simulate a scenario under every schedule, print the table and draw the picture."""
    check_changes(changes, seed)
    file = None if output is None else output_file(output, _SUFFIXES)
    loaded = load_scenario(scenario, overrides=changes, seed=seed)
    with showing_progress() as on_progress:
        compared = compare_schedules(loaded, on_progress=on_progress)
    name = loaded.spec.name or Path(scenario).stem
    if file is not None:
        _draw(compared, file, name)
    data = {**compared.to_dict(), "written": None if file is None else str(file)}
    if as_json:
        typer.echo(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False))
    else:
        print_schedules(data, make_console(), name=name)


def _note(row: ScheduleRow, compared: Comparison) -> str:
    """Return what is said of a schedule beside its name."""
    if row is compared.cheapest:
        return "* fastest" if row.fits is None else "* cheapest that fits"
    return "does not fit" if row.fits is False else ""


def _draw(compared: Comparison, file: Path, name: str) -> None:
    from sim.report.charts.schedules import draw_schedules  # noqa: PLC0415  # matplotlib

    bands = [
        (row.schedule, f"{row.step_time_s * 1e3:.4g} ms", row.trace, _note(row, compared)) for row in compared.rows
    ]
    write_whole(file, lambda path: draw_schedules(bands, path, title=name))
