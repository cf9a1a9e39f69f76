"""`moesim stress`: skews against remedies, printed and drawn."""

import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer

from sim.cli.changes import check_changes
from sim.cli.outputs import output_folder
from sim.cli.progress import showing_progress
from sim.errors import InputError
from sim.report.console import make_console
from sim.report.files import STRESS_NAMES, write_stress
from sim.report.stress import print_stress
from sim.studies.stress.grid import remedies_of
from sim.studies.stress.report import stress_test

__all__ = ["stress_command"]

_POINTS = "points.jsonl"
"""Simulations that are done, in the folder of `--out`."""


def stress_command(
    scenario: str,
    *,
    skew: str | None,
    capacity: str | None,
    placement: str | None,
    replicas: str | None,
    seeds: int | None,
    changes: Sequence[str],
    as_json: bool,
    out: str | None,
    jobs: int | None,
) -> None:
    """Run a stress test."""
    check_changes(changes, None)
    folder = None if out is None else output_folder(out, STRESS_NAMES)
    skews = _numbers("--skew", skew)
    capacities = [] if capacity is None else [_capacity(text) for text in capacity.split(",")]
    placements = [] if placement is None else [text.strip() for text in placement.split(",")]
    copies = [_whole("--replicas", number) for number in _numbers("--replicas", replicas)]
    remedies = remedies_of(capacities=capacities, placements=placements, replicas=copies)
    with _saying_what_is_kept(folder), showing_progress() as on_progress:
        data = stress_test(
            scenario,
            overrides=changes,
            skews=skews or None,
            remedies=remedies if capacities or placements or copies else None,
            num_seeds=seeds,
            jobs=jobs or os.cpu_count() or 1,
            file=None if folder is None else folder / _POINTS,
            on_progress=on_progress,
        )
    written = {} if folder is None else write_stress(data, folder)
    if as_json:
        typer.echo(json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False))
    else:
        print_stress(data, make_console(), written=written)


@contextmanager
def _saying_what_is_kept(folder: Path | None) -> Iterator[None]:
    """Say where points are that are done, where the command is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        file = None if folder is None else folder / _POINTS
        if file is not None and file.exists():
            typer.echo(f"Points that are done are kept in {file}: the same command goes on from there.", err=True)
        raise


def _numbers(option: str, text: str | None) -> list[float]:
    """Return the numbers of a list with commas."""
    return [] if text is None else [_number(option, each) for each in text.split(",")]


def _number(option: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        cure = f"For example: {option} 0,0.5,1"
        raise InputError(field=option, rule="be numbers of at least 0 with commas between", value=text, cure=cure)
    return number


def _whole(option: str, number: float) -> int:
    if not number.is_integer():
        cure = f"For example: {option} 0,64"
        raise InputError(field=option, rule="be whole numbers", value=str(number), cure=cure)
    return int(number)


def _capacity(text: str) -> float | None:
    return None if text.strip() == "none" else _number("--capacity", text)
