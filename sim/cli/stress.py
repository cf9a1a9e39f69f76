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
from sim.errors import InvalidValueError
from sim.report.console.run import make_console
from sim.report.console.studies import print_stress
from sim.report.files import STRESS_NAMES, write_stress
from sim.studies.stress.grid import OVERFLOWS, remedies_of
from sim.studies.stress.report import stress_test

__all__ = ["stress_command"]

_POINTS = "points.jsonl"
"""Simulations that are done, in the folder of `--out`."""


def stress_command(
    scenario: str,
    *,
    skew: Sequence[str],
    capacity: Sequence[str],
    placement: Sequence[str],
    replicas: Sequence[str],
    seeds: int | None,
    changes: Sequence[str],
    as_json: bool,
    out: str | None,
    jobs: int | None,
) -> None:
    """Run a stress test; lists of an option that is given several times are one."""
    check_changes(changes, None)
    folder = None if out is None else output_folder(out, STRESS_NAMES)
    skews = [_number("--skew", text) for text in _listed(skew)]
    capacities = [_capacity(text) for text in _listed(capacity)]
    placements = [text.strip() for text in _listed(placement)]
    copies = [_whole("--replicas", _number("--replicas", text)) for text in _listed(replicas)]
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


def _listed(texts: Sequence[str]) -> list[str]:
    """Return what stands between commas."""
    return [each for text in texts for each in text.split(",")]


def _number(option: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        hint = f"For example: {option} 0,0.5,1"
        raise InvalidValueError(
            field=option, rule="be numbers of at least 0 with commas between", value=text, hint=hint
        )
    return number


def _whole(option: str, number: float) -> int:
    if not number.is_integer():
        hint = f"For example: {option} 0,64"
        raise InvalidValueError(field=option, rule="be whole numbers", value=str(number), hint=hint)
    return int(number)


def _capacity(text: str) -> tuple[float, str | None] | None:
    """Return a capacity factor, with what becomes of more tokens where that is said."""
    if text.strip() == "none":
        return None
    factor, colon, overflow = text.partition(":")
    if colon and overflow.strip() not in OVERFLOWS:
        rule, hint = f"have one of {', '.join(OVERFLOWS)} behind a colon", "For example: --capacity 1.25:pad"
        raise InvalidValueError(field="--capacity", rule=rule, value=text, hint=hint)
    return _number("--capacity", factor), overflow.strip() if colon else None
