"""`moesim validate`: published figures beside modelled ones."""

import os
from collections.abc import Sequence
from pathlib import Path

import typer

from sim.cli.progress import showing_progress
from sim.report.console import make_console
from sim.report.files import write_validation
from sim.report.validation import print_validation
from sim.studies.validate import validate

__all__ = ["validate_command"]


def validate_command(targets: Sequence[str], *, as_json: bool, out: Path | None, jobs: int | None) -> int:
    """Hold cases against what was published, and return the exit code."""
    with showing_progress() as on_progress:
        validation = validate(targets, jobs=jobs or os.cpu_count() or 1, on_progress=on_progress)
    data = validation.to_dict()
    written = {} if out is None else write_validation(data, out)
    if as_json:
        typer.echo(validation.to_json())
    else:
        print_validation(data, make_console(), written=written)
    return 1 if validation.has_failed else 0
