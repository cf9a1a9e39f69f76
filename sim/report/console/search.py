"""The report of `moesim search`, from its JSON: the answer, the Pareto front, the kinds of strategies, the proof."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console

from sim.report.console.tables import bullets, cell, heading, indented, new_table, print_written
from sim.results.quantities import format_quantity

__all__ = ["print_search"]

_WIDTH: Final = 56
_HEIGHT: Final = 9
_MOST_ASSUMPTIONS: Final = 10


def print_search(data: Mapping[str, Any], console: Console) -> None:
    """Print what a search found."""
    console.print(cell(_answer(data), "bold"))
    console.print(cell(data["certificate"]))
    if data["tied"]:
        names = ", ".join(
            f"{one['name']} (slower in {100 * one['share_best_is_faster']:.0f} %)" for one in data["tied"]
        )
        console.print(cell(f"Draws of uncertain constants cannot tell these from the best: {names}."))
    document = data["document"]
    if document is not None:
        console.print(cell(_document(document, data)))
    _print_front(data["pareto"], data["top"], data["simulated"], console)
    _print_table(
        "kinds of strategies",
        "the best of each, of those that were simulated; m2: two microbatches",
        data["kinds"],
        console,
    )
    _print_why(data["top"], console)
    if data["flags"]:
        heading(console, "launch flags")
        console.print(cell(f"  {data['flags']}"))
    if data["assumptions"]:
        heading(console, "assumptions", "of the best")
        texts = [f"{one['key']}: {one['value']}: {one['why']}" for one in data["assumptions"]]
        more = [f"{len(texts) - _MOST_ASSUMPTIONS} more: --json has all"] if len(texts) > _MOST_ASSUMPTIONS else []
        bullets(console, [*texts[:_MOST_ASSUMPTIONS], *more], mark="•")
    if data["problems"]:
        heading(console, "what cannot be run")
        shown = list(data["problems"].items())[:3]
        bullets(console, [f"{count:,} strategies: {problem}" for problem, count in shown], mark="•")
    print_written(data["written"], console)


def _answer(data: Mapping[str, Any]) -> str:
    """Return the best strategy, and how far the next kind is."""
    if data["best"] is None:
        return "No strategy that fits was found."
    text = f"{data['best_name']}: {format_quantity(data['best_step_time_s'], 's')} a step"
    if data["best_tokens_per_s"]:
        text += f", {format_quantity(data['best_tokens_per_s'], 'tokens/s')}"
    others = [one for one in data["kinds"] if one["times_best"] and one["times_best"] > 1]
    if others:
        text += f"; {others[0]['times_best']:.3g} times faster than the next kind of strategy, {others[0]['strategy']}"
    return f"{text}."


def _document(document: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    name = f"The scenario's own strategy, {document['strategy']} (convention {document['convention']})"
    if document["problem"]:
        return f"{name}, cannot be run: {document['problem']}."
    text = f"{name}, takes {format_quantity(document['step_time_s'], 's')}"
    if document["times_best"]:
        text += f", {document['times_best']:.3g} times the best"
    if document["loses"] and data["best"] is not None:
        text += f" ({document['loses']})"
    return f"{text}{'' if document['fits'] else '; it does not fit into memory'}."


def _print_front(
    front: Sequence[Mapping[str, Any]], top: Sequence[Mapping[str, Any]], simulated: int, console: Console
) -> None:
    """Print step time against memory as a plot of characters; letters are the front."""
    points = [one for one in top if one["memory_bytes"]]
    if len(front) < 2 or len(points) < 2:  # one point is no plot
        return
    note = f"letters: of the {simulated:,} simulated, and the scenario's own, none is both faster and smaller"
    heading(console, "step time and memory", note)
    names = {one["name"]: chr(ord("A") + i) for i, one in enumerate(front[:26])}
    points = [*(one for one in points if one["name"] not in names), *front]
    times, sizes = [one["step_time_s"] for one in points], [one["memory_bytes"] for one in points]
    rows = [[" "] * _WIDTH for _ in range(_HEIGHT)]
    for one in points:
        x = round((_WIDTH - 1) * _share(one["memory_bytes"], sizes))
        y = round((_HEIGHT - 1) * (1 - _share(one["step_time_s"], times)))
        rows[y][x] = names.get(one["name"], "·")
    for number, row in enumerate(rows):
        label = {0: max(times), _HEIGHT - 1: min(times)}.get(number)
        text = "" if label is None else format_quantity(label, "s")
        console.print(cell(f"  {text:>9} │{''.join(row)}".rstrip()))
    least, most = (format_quantity(float(size), "bytes") for size in (min(sizes), max(sizes)))
    console.print(cell(f"  {'':>9} └{'─' * _WIDTH}"))
    console.print(cell(f"  {'':>9}  {least}{most:>{_WIDTH - len(least)}}"))
    table = new_table(console, "", "", "step time", "memory", right=[2, 3])
    for one in front[:26]:
        table.add_row(
            cell(names[one["name"]]),
            cell(one["name"]),
            cell(format_quantity(one["step_time_s"], "s")),
            cell(format_quantity(float(one["memory_bytes"]), "bytes")),
        )
    indented(console, table)


def _share(value: float, values: Sequence[float]) -> float:
    low, high = min(values), max(values)
    return (value - low) / (high - low) if high > low else 0.0


def _print_table(title: str, note: str, rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    if not rows:
        return
    heading(console, title, note)
    table = new_table(console, "strategy", "step time", "times the best", "tokens/s", "memory", right=[1, 2, 3, 4])
    for one in rows:
        table.add_row(
            cell(one["name"]),
            cell(format_quantity(one["step_time_s"], "s")),
            cell(f"{one['times_best']:.3f}" if one["times_best"] else "–"),
            cell(format_quantity(one["tokens_per_s"], "tokens/s")),
            cell(format_quantity(float(one["memory_bytes"]), "bytes")),
        )
    indented(console, table)


def _print_why(top: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print what the next best lose by."""
    losing = [one for one in top if one["loses"]]
    if not losing:
        return
    heading(console, "why the others lose", "parts of the step that take longer than in the best, mean over stages")
    table = new_table(console, "strategy", "step time", "takes longer for", right=[1])
    for one in losing:
        table.add_row(cell(one["name"]), cell(format_quantity(one["step_time_s"], "s")), cell(one["loses"]))
    indented(console, table)
