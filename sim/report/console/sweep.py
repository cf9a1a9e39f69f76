"""The report of `moesim sweep`, from its JSON: what was run, the best points, and why others could not be run."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console

from sim.report.console.tables import bullets, heading, print_rows, print_written
from sim.results.catalog import CATALOG
from sim.results.quantities import format_quantity
from sim.studies.sweep.grid import label_of

__all__ = ["plan_lines", "print_sweep"]

_MAX_ROWS: Final = 20
"""Points that are shown."""
_MAX_METRICS: Final = 5
"""Metrics that are shown."""
_MAX_PROBLEMS: Final = 5
"""Different problems that are shown."""

Row = Mapping[str, Any]


def print_sweep(data: Mapping[str, Any], console: Console, *, written: Mapping[str, str]) -> None:
    """Print a sweep.

    Parameters
    ----------
    data
        The JSON object of `sweep`.
    console
        Where to.
    written
        Content of each file -> its path.
    """
    axes = [axis["key"] for axis in data["axes"]]
    note = f"{_points(data['num_points'])} over {', '.join(axes)}: {data['num_simulated']:,} simulated"
    note += f", {data['num_kept']:,} from {data['store'] or 'equal ones'}" if data["num_kept"] else ""
    heading(console, "sweep", f"{data['scenario']}: {note}")
    rows = [row for row in data["rows"] if "problem" not in row]
    metrics = data["metrics"][:_MAX_METRICS]
    if rows and metrics:
        first = metrics[0]
        is_more_better = CATALOG[first].unit not in {"s", "bytes", "ratio1"} and not first.endswith("_fraction")
        ordered = sorted(rows, key=lambda row: _place(row.get(first), is_more_better=is_more_better))
        cells = [
            [label_of(row[axis]) for axis in axes] + [_metric_text(name, row.get(name)) for name in metrics]
            for row in ordered[:_MAX_ROWS]
        ]
        title = f"by {first}" + (f", the first {_MAX_ROWS} of {len(rows):,}" if len(rows) > _MAX_ROWS else "")
        print_rows(title, [*axes, *metrics], cells, console)
    elif rows:
        bullets(console, ["no point has a value of the metrics that --metric names"], mark="•")
    _print_problems(data["rows"], console)
    missing = data["num_points"] - len(data["rows"])
    if missing:
        bullets(console, [f"not simulated yet: {_points(missing)}"], mark="•")
    print_written(written, console)


def plan_lines(plan: Mapping[str, Any]) -> list[str]:
    """Return a plan in a few lines."""
    is_estimate = plan["num_looked_up"] < plan["num_points"]
    left = f"{'about ' if is_estimate else ''}{plan['num_left']:,} of {plan['num_points']:,} points are left"
    left += f" (looked up: {plan['num_looked_up']:,})" if is_estimate else ""
    if plan["sample"]:
        cost, own = format_quantity(plan["mean_cost_s"], "s"), format_quantity(plan["study_cost_s"], "s")
        left += f"; a point takes {cost} (a sample of {plan['sample']}), and {own} in the process of the study"
    clusters = ", ".join(f"{_duration(time_s)} on {num} workers" for num, time_s in plan["time_on_workers_s"].items())
    store = f"; {format_quantity(plan['store_bytes'], 'bytes')} in the store" if plan["store_bytes"] else ""
    return [
        left,
        f"about {_duration(plan['time_left_s'])} on {plan['executor']}; on a cluster {clusters}{store}",
    ]


# ---- private -----------------------------------------------------------------------------------------------------


def _place(value: float | None, *, is_more_better: bool) -> float:
    if value is None:
        return float("inf")
    return -value if is_more_better else value


def _metric_text(name: str, value: float | bool | None) -> str:
    return "–" if value is None else format_quantity(value, CATALOG[name].unit)


def _print_problems(rows: Sequence[Row], console: Console) -> None:
    problems = Counter(str(row["problem"]) for row in rows if "problem" in row)
    if not problems:
        return
    heading(console, "could not be simulated", _points(problems.total()))
    shown = [
        f"{'once' if num == 1 else f'{num:,} times'}: {problem}" for problem, num in problems.most_common(_MAX_PROBLEMS)
    ]
    more = len(problems) - len(shown)
    bullets(console, [*shown, *([f"and {more:,} other reasons"] if more > 0 else [])], mark="•")


def _points(num: int) -> str:
    return f"{num:,} point" + ("s" if num != 1 else "")


def _duration(time_s: float) -> str:
    """Return a time in the unit a person would choose.

    >>> _duration(0.5), _duration(90), _duration(7200), _duration(4e5)
    ('1 s', '90 s', '120 min', '111 h')
    """
    if time_s < 120:
        return f"{max(time_s, 1):.0f} s"
    return f"{time_s / 60:.0f} min" if time_s < 3 * 3600 else f"{time_s / 3600:.0f} h"
