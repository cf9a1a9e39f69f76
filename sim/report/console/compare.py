"""The report of `moesim compare`, from its JSON: sentences, figures side by side, where the time differs, timelines."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console

from sim.engine.trace import Trace
from sim.report.console.tables import bullets, cell, heading, indented, new_table, print_written
from sim.report.console.timelines import NamedTrace, print_timelines
from sim.results.catalog import unit_of
from sim.results.quantities import format_quantity

__all__ = ["comparison_sentences", "figure_rows", "letters_of", "part_rows", "print_comparison"]

_FIGURES: Final = (
    "step_time_s",
    "latency_s",
    "tokens_per_s",
    "steady_tokens_per_s",
    "tokens_per_s_per_gpu",
    "bubble_fraction",
    "stall_fraction",
    "exposed_communication_s",
    "mfu",
    "imbalance_max_over_mean",
    "num_gpus",
    "total",
    "collective_time_s",
    "busbw_bytes_per_s",
)
"""Metrics that are printed where all runs have them; the JSON has all."""
_LEAST: Final = 0.0005
"""Parts below this fraction of the first step have no line."""


def print_comparison(
    data: Mapping[str, Any], console: Console, *, traces: Sequence[Trace | None], written: Mapping[str, str]
) -> None:
    """Print runs next to each other; letters name them. `traces` are those of the runs, as far as they have one."""
    runs, letters = data["runs"], letters_of(data)
    for letter, run in zip(letters, runs, strict=True):
        bullets(console, [run["name"] + _source(run)], mark=letter)
    console.print()
    for sentence in comparison_sentences(data):
        console.print(cell(sentence))
    bullets(console, data["warnings"], mark="!", style="yellow")
    heading(console, "figures", f"and the difference from {letters[0]}")
    _print_rows(figure_rows(data), letters, console)
    heading(console, "where the time differs", "mean over stages, in ms; each column sums to its step time")
    _print_rows(part_rows(data), letters, console)
    print_timelines(
        [NamedTrace(letter, trace) for letter, trace in zip(letters, traces, strict=True) if trace is not None], console
    )
    print_written(written, console)


def letters_of(data: Mapping[str, Any]) -> list[str]:
    """Return the letter of each run.

    >>> letters_of({"runs": [{}, {}]})
    ['A', 'B']
    """
    return [chr(ord("A") + i) if i < 26 else str(i) for i in range(len(data["runs"]))]


def comparison_sentences(data: Mapping[str, Any]) -> list[str]:
    """Return for each run after the first how much longer it takes, and for what."""
    return [
        _sentence(letter, difference)
        for letter, difference in zip(letters_of(data)[1:], data["differences"], strict=True)
    ]


def figure_rows(data: Mapping[str, Any]) -> list[list[str]]:
    """Return metrics that all runs have: name, value of the first, and of each other its value and how it differs."""
    runs, rows = data["runs"], []
    for name in _FIGURES:
        if not all(name in run["metrics"] for run in runs):
            continue
        first, unit = runs[0]["metrics"][name], unit_of(name)
        row = ["peak memory" if name == "total" else name, format_quantity(first, unit)]
        for run in runs[1:]:
            value = run["metrics"][name]
            row += [format_quantity(value, unit), _change(value, first, unit)]
        rows.append(row)
    return rows


def part_rows(data: Mapping[str, Any]) -> list[list[str]]:
    """Return parts of the step time in ms: name, time of the first run, and of each other its time and the difference.

    The last row is the step; parts below half a thousandth of it, in all runs, have no row.
    """
    runs, differences, rows = data["runs"], data["differences"], []
    step_s = sum(runs[0]["parts_s"].values())
    for part in runs[0]["parts_s"]:
        if max(run["parts_s"][part] for run in runs) < _LEAST * step_s:
            continue
        row = [part.replace("_", " "), f"{1e3 * runs[0]['parts_s'][part]:,.2f}"]
        for run, difference in zip(runs[1:], differences, strict=True):
            row += [f"{1e3 * run['parts_s'][part]:,.2f}", f"{1e3 * difference['parts_s'][part]:+,.2f}"]
        rows.append(row)
    last = ["step", f"{1e3 * step_s:,.2f}"]
    for run, difference in zip(runs[1:], differences, strict=True):
        last += [f"{1e3 * sum(run['parts_s'].values()):,.2f}", f"{1e3 * difference['step_time_s']:+,.2f}"]
    return [*rows, last]


# ---- private -----------------------------------------------------------------------------------------------------


def _source(run: Mapping[str, Any]) -> str:
    return "" if run["source"] == run["name"] else f"  ({run['source']})"


def _sentence(letter: str, difference: Mapping[str, Any]) -> str:
    """Return how much longer a run takes, and for what."""
    total_s = difference["step_time_s"]
    if abs(difference["relative"] or 0.0) < _LEAST:
        return f"{letter} takes as long as A."
    word = "longer" if total_s > 0 else "less"
    text = f"{letter} takes {format_quantity(abs(total_s), 's')} {word} than A ({100 * difference['relative']:+.1f} %)"
    causes = sorted(difference["parts_s"].items(), key=lambda item: -abs(item[1]))
    shown = [f"{part.replace('_', ' ')} {1e3 * s:+,.4g} ms" for part, s in causes[:3] if abs(s) >= 0.02 * abs(total_s)]
    return f"{text}: {', '.join(shown)}." if shown else f"{text}."


def _change(value: float, first: float, unit: str | None) -> str:
    if value == first:
        return "same"
    if unit == "ratio":
        return f"{100 * (value - first):+.2f} points"
    return f"{100 * (value / first - 1):+.1f} %" if first else "–"


def _print_rows(rows: Sequence[Sequence[str]], letters: Sequence[str], console: Console) -> None:
    """Print rows of texts; differences are dim, the row of the step bold."""
    columns = [letters[0], *(column for letter in letters[1:] for column in (letter, f"{letter} - {letters[0]}"))]
    table = new_table(console, "", *columns, right=range(1, 2 * len(letters)))
    for row in rows:
        is_sum = row[0] == "step"
        styles = ["bold" if is_sum else "dim" if at > 1 and at % 2 else "" for at in range(len(row))]
        table.add_row(*(cell(text, style) for text, style in zip(row, styles, strict=True)))
    indented(console, table)
