"""`moesim sweep`: a scenario under every combination of some keys' values, as a table and a picture."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import typer

from sim.cli.kept import name_store_on_interrupt, store_of
from sim.cli.steps import (
    check_changes,
    num_processes,
    output_file,
    output_folder,
    print_result,
    show_progress,
)
from sim.errors import InvalidValueError
from sim.report.console.sweep import plan_lines, print_sweep
from sim.report.files import PICTURES, SWEEP_NAMES, write_sweep, write_whole
from sim.studies.executors.choose import choose_executor
from sim.studies.store.export import TABLES, check_table, write_table
from sim.studies.store.open_database import IN_MEMORY
from sim.studies.store.store import Store
from sim.studies.sweep.grid import parse_axis
from sim.studies.sweep.plan import Plan
from sim.studies.sweep.points import Watch
from sim.studies.sweep.report import check_metrics, load_sweep, sweep

__all__ = ["sweep_command"]

_MAX_UNKEPT: Final = 100_000
"""A larger sweep needs a store: its results would be lost with the process."""
_LONG_S: Final = 20.0
"""A plan of a longer time is printed before the rest begins."""


def sweep_command(
    scenario: str,
    *,
    grid: Sequence[str] = (),
    seeds: int | None = None,
    metric: Sequence[str] = (),
    against: str | None = None,
    changes: Sequence[str] = (),
    store: str | None = None,
    cluster: str | None = None,
    plan: bool = False,
    output: str | None = None,
    out: str | None = None,
    jobs: int | None = None,
    as_json: bool,
) -> int:
    """Sweep, print and write; return 1 where no point could be simulated."""
    check_changes(changes)
    folder = output_folder(out, SWEEP_NAMES)
    file = None if output is None else output_file(output, (*TABLES, *PICTURES))
    if file is not None:
        check_table(file)
    metrics = [name.strip() for text in metric for name in text.split(",")]
    check_metrics(metrics)
    if against is not None:
        check_metrics([against], "--against")
    loaded, points = load_sweep(scenario, [parse_axis(text) for text in grid], num_seeds=seeds, overrides=changes)
    where = store_of(store, folder)
    if where == IN_MEMORY and points.num_points > _MAX_UNKEPT:
        hint = "Give --store results.sqlite, or --out out/."
        rule = f"be given for more than {_MAX_UNKEPT:,} points"
        raise InvalidValueError("--store", rule, f"nothing for {points.num_points:,} points", hint)
    with (
        choose_executor(cluster, num_processes(jobs)) as executor,
        Store(where) as kept,
        name_store_on_interrupt(where),
        show_progress() as on_progress,
    ):
        watch = Watch(on_progress=on_progress, on_plan=_on_plan(stops=plan, as_json=as_json))
        data = sweep(loaded, points, store=kept, executor=executor, metrics=metrics, against=against, watch=watch)
        data["store"] = kept.name if kept.is_kept else None
    written = {} if folder is None else write_sweep(data, folder)
    if file is not None:
        write_whole(file, lambda path: _write(data, path))
        written = {**written, "picture" if file.suffix in PICTURES else "table": str(file)}
    if data["store"] is not None:
        written = {**written, "store": data["store"]}
    print_result(data, print_sweep, as_json=as_json, written=written)
    return 1 if data["num_problems"] == len(data["rows"]) else 0


# ---- private -----------------------------------------------------------------------------------------------------


def _on_plan(*, stops: bool, as_json: bool) -> Callable[[Plan], bool]:
    """Return what prints a plan of a long study on standard error, and says whether the study goes on."""

    def on_plan(plan: Plan) -> bool:
        if not as_json and (stops or plan.time_left_s > _LONG_S):
            for line in plan_lines(plan.as_dict()):
                typer.echo(line, err=True)
        return not stops

    return on_plan


def _write(data: Mapping[str, Any], path: Path) -> None:
    if path.suffix in PICTURES:
        from sim.report.charts.sweep import draw_sweep  # noqa: PLC0415  # matplotlib

        draw_sweep(data, path)
    else:
        write_table(data["rows"], path)
