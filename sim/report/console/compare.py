"""The report of `moesim compare`, from its JSON: a sentence, figures side by side, and where the time differs."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console

from sim.report.console.tables import bullets, cell, heading, indented, new_table, print_written
from sim.results.catalog import unit_of
from sim.results.quantities import format_quantity

__all__ = ["print_comparison"]

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


def print_comparison(data: Mapping[str, Any], console: Console, *, written: Mapping[str, str]) -> None:
    """Print runs next to each other; letters name them."""
    runs, differences = data["runs"], data["differences"]
    bullets(console, [f"{run['name']}" + _source(run) for run in runs[:1]], mark="A")
    for letter, run in zip(_letters(runs)[1:], runs[1:], strict=True):
        bullets(console, [run["name"] + _source(run)], mark=letter)
    console.print()
    for letter, difference in zip(_letters(runs)[1:], differences, strict=True):
        console.print(cell(_sentence(letter, difference)))
    bullets(console, data["warnings"], mark="!", style="yellow")
    heading(console, "figures", "and the difference from A")
    _print_figures(runs, console)
    heading(console, "where the time differs", "mean over stages, in ms; each column sums to its step time")
    _print_parts(runs, differences, console)
    print_written(written, console)


def _source(run: Mapping[str, Any]) -> str:
    return "" if run["source"] == run["name"] else f"  ({run['source']})"


def _letters(runs: Sequence[Any]) -> list[str]:
    return [chr(ord("A") + i) if i < 26 else str(i) for i in range(len(runs))]


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


def _print_figures(runs: Sequence[Mapping[str, Any]], console: Console) -> None:
    table = new_table(console, "", *_columns(runs), right=range(1, 2 * len(runs)))
    for name in _FIGURES:
        if not all(name in run["metrics"] for run in runs):
            continue
        first, unit = runs[0]["metrics"][name], unit_of(name)
        row = [cell("peak memory" if name == "total" else name), cell(format_quantity(first, unit))]
        for run in runs[1:]:
            value = run["metrics"][name]
            row += [cell(format_quantity(value, unit)), cell(_change(value, first, unit), "dim")]
        table.add_row(*row)
    indented(console, table)


def _columns(runs: Sequence[Any]) -> list[str]:
    letters = _letters(runs)
    return [letters[0], *(column for letter in letters[1:] for column in (letter, f"{letter} - A"))]


def _change(value: float, first: float, unit: str | None) -> str:
    if value == first:
        return "same"
    if unit == "ratio":
        return f"{100 * (value - first):+.2f} points"
    return f"{100 * (value / first - 1):+.1f} %" if first else "–"


def _print_parts(runs: Sequence[Mapping[str, Any]], differences: Sequence[Mapping[str, Any]], console: Console) -> None:
    table = new_table(console, "", *_columns(runs), right=range(1, 2 * len(runs)))
    step_s = sum(runs[0]["parts_s"].values())
    for part in runs[0]["parts_s"]:
        if max(run["parts_s"][part] for run in runs) < _LEAST * step_s:
            continue
        row = [cell(part.replace("_", " ")), cell(f"{1e3 * runs[0]['parts_s'][part]:,.2f}")]
        for run, difference in zip(runs[1:], differences, strict=True):
            change_ms = 1e3 * difference["parts_s"][part]
            row += [cell(f"{1e3 * run['parts_s'][part]:,.2f}"), cell(f"{change_ms:+,.2f}", "dim")]
        table.add_row(*row)
    row = [cell("step", "bold"), cell(f"{1e3 * step_s:,.2f}", "bold")]
    for run, difference in zip(runs[1:], differences, strict=True):
        row += [
            cell(f"{1e3 * sum(run['parts_s'].values()):,.2f}", "bold"),
            cell(f"{1e3 * difference['step_time_s']:+,.2f}", "bold"),
        ]
    table.add_row(*row)
    indented(console, table)
