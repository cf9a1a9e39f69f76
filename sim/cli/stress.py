"""`moesim stress`: skews of the routing against remedies, printed and drawn."""

import math
from collections.abc import Sequence

from sim.cli.kept import name_store_on_interrupt, store_of
from sim.cli.steps import check_changes, num_processes, output_folder, print_result, show_progress, trace_file
from sim.errors import InvalidValueError
from sim.report.console.stress import print_stress
from sim.report.files import STRESS_NAMES, write_stress
from sim.studies.stress.grid import OVERFLOWS, remedies_of
from sim.studies.stress.report import stress_test

__all__ = ["stress_command"]


def stress_command(
    scenario: str,
    *,
    skew: Sequence[str] = (),
    capacity: Sequence[str] = (),
    placement: Sequence[str] = (),
    replicas: Sequence[str] = (),
    seeds: int | None = None,
    changes: Sequence[str] = (),
    trace: str | None = None,
    as_json: bool,
    out: str | None = None,
    store: str | None = None,
    jobs: int | None = None,
) -> None:
    """Run a stress test; the lists of an option that is given several times are joined."""
    check_changes(changes, trace=trace)
    folder = output_folder(out, STRESS_NAMES)
    skews = [_number("--skew", text) for text in _listed(skew)]
    capacities = [_capacity(text) for text in _listed(capacity)]
    placements = [text.strip() for text in _listed(placement)]
    replica_counts = [_whole("--replicas", _number("--replicas", text)) for text in _listed(replicas)]
    remedies = remedies_of(capacities=capacities, placements=placements, replicas=replica_counts)
    where = store_of(store, folder)
    with name_store_on_interrupt(where), show_progress() as on_progress:
        data = stress_test(
            scenario,
            overrides=changes,
            trace=trace_file(trace),
            skews=skews or None,
            remedies=remedies if capacities or placements or replica_counts else None,
            num_seeds=seeds,
            jobs=num_processes(jobs),
            store=where,
            on_progress=on_progress,
        )
    written = {} if folder is None else write_stress(data, folder)
    print_result(data, print_stress, as_json=as_json, written=written)


def _listed(texts: Sequence[str]) -> list[str]:
    """Return the items between commas."""
    return [item for text in texts for item in text.split(",")]


def _number(option: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        rule, hint = "be numbers of at least 0 with commas between", f"For example: {option} 0,0.5,1"
        raise InvalidValueError(field=option, rule=rule, value=text, hint=hint)
    return number


def _whole(option: str, number: float) -> int:
    if not number.is_integer():
        hint = f"For example: {option} 0,64"
        raise InvalidValueError(field=option, rule="be whole numbers", value=str(number), hint=hint)
    return int(number)


def _capacity(text: str) -> tuple[float, str | None] | None:
    """Return a capacity factor, and what happens to tokens above it where the text says so; None for no capacity."""
    if text.strip() == "none":
        return None
    factor, colon, overflow = text.partition(":")
    if colon and overflow.strip() not in OVERFLOWS:
        rule, hint = f"have one of {', '.join(OVERFLOWS)} behind a colon", "For example: --capacity 1.25:pad"
        raise InvalidValueError(field="--capacity", rule=rule, value=text, hint=hint)
    return _number("--capacity", factor), overflow.strip() if colon else None
