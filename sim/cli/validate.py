"""`moesim validate`: published figures beside modelled ones."""

import os
from collections.abc import Sequence

import typer

from sim.cli.outputs import output_folder
from sim.cli.progress import showing_progress
from sim.report.console.run import make_console
from sim.report.console.validation import print_validation
from sim.report.files import VALIDATION_NAMES, write_validation
from sim.studies.validate import validate

__all__ = ["validate_command"]


def validate_command(targets: Sequence[str], *, as_json: bool, out: str | None, jobs: int | None) -> int:
    """Hold cases against what was published, and return the exit code."""
    folder = None if out is None else output_folder(out, VALIDATION_NAMES)
    with showing_progress() as on_progress:
        validation = validate(targets, jobs=jobs or os.cpu_count() or 1, on_progress=on_progress)
    data = validation.to_dict()
    written = {} if folder is None else write_validation(data, folder)
    if as_json:
        typer.echo(validation.to_json())
    else:
        print_validation(data, make_console(), written=written)
    return 1 if validation.has_failed else 0
