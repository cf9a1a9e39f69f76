"""`moesim run`: simulate, judge, print, write."""

import os
from collections.abc import Sequence

import typer

from sim.cli.changes import check_changes
from sim.cli.outputs import output_folder
from sim.cli.progress import showing_progress
from sim.errors import InvalidValueError
from sim.report.console.run import make_console, print_report
from sim.report.files import write_outputs
from sim.run.limits import Limits
from sim.scenario.units import parse_quantity
from sim.studies.claims import simulate

__all__ = ["run_command"]


def run_command(
    scenario: str,
    *,
    changes: Sequence[str],
    seed: int | None,
    as_json: bool,
    out: str | None,
    check: bool,
    jobs: int | None,
    max_events: int | None,
    max_memory: str | None,
) -> int:
    """Run a scenario and return the exit code."""
    check_changes(changes, seed)
    folder = None if out is None else output_folder(out)
    limits = Limits(max_events=max_events, max_memory_bytes=None if max_memory is None else _bytes(max_memory))
    with showing_progress() as on_progress:
        result = simulate(
            scenario,
            overrides=changes,
            seed=seed,
            jobs=jobs or os.cpu_count() or 1,
            limits=limits,
            pairs=out is not None,
            on_progress=on_progress,
        )
    data = result.to_dict()
    written = {} if folder is None else write_outputs(result.trace, data, folder, pairs=result.simulated.pairs)
    if as_json:
        typer.echo(result.to_json())
    else:
        print_report(data, make_console(), written=written)
    return 1 if check and (result.has_failed_claims or result.is_unfit) else 0


def _bytes(text: str) -> float:
    try:
        return parse_quantity(text, "bytes")
    except InvalidValueError as error:
        raise InvalidValueError(field="--max-memory", rule=error.rule, value=error.value, hint=error.hint) from None
