"""The report of `moesim why`, from its JSON: a sentence, the path as a waterfall, and what would be gained."""

from collections.abc import Mapping
from typing import Any, Final

from rich.console import Console

from sim.report.console.tables import bullets, cell, heading, indented, new_table, print_written
from sim.results.quantities import format_quantity

__all__ = ["print_why"]

_BAR: Final = 40
"""Characters of the step time in the waterfall."""
_LEAST: Final = 0.0005
"""Parts and gains below this fraction of the step are not worth a line."""


def print_why(data: Mapping[str, Any], console: Console, *, written: Mapping[str, str] | None = None) -> None:
    """Print why a step takes as long as it does."""
    step_s = data["step_time_s"]
    console.print(cell(_sentence(data)))
    kernels = f" in {data['path_rows']:,} kernels and transfers" if data["path_rows"] > 1 else ""
    title = "critical path" if data["metric"] == "step_time_s" else "the server's time"
    heading(console, title, format_quantity(step_s, "s") + kernels)
    table = new_table(console, right=[1, 2])
    before = 0.0
    for part in data["path"]:
        after = before + part["fraction"]
        bar = " " * round(_BAR * before) + "█" * max(1, round(_BAR * after) - round(_BAR * before))
        if part["fraction"] >= _LEAST:
            table.add_row(
                cell(_words(part["part"])),
                cell(format_quantity(part["time_s"], "s")),
                cell(f"{100 * part['fraction']:.1f} %"),
                cell(bar, "cyan"),
            )
        before = after
    indented(console, table)
    if len(data["stretches"]) > 1:
        bullets(console, [_path_in_words(data)], mark="•")
    if data["what_ifs"]:
        heading(console, "what if", "each a simulation of its own; gains do not add up")
        _print_what_ifs(data, console)
    if data["stragglers"]:
        _print_stragglers(data, console)
    bullets(console, data["warnings"], mark="!", style="yellow")
    print_written(written or {}, console)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _sentence(data: Mapping[str, Any]) -> str:
    """Return what is slow, and what would help most."""
    name = f"{data['name']}: " if data["name"] else ""
    text = f"{name}the {_subject(data)} takes {format_quantity(data['time_s'], 's')}."
    parts = data["path"][:3]
    if parts:
        shown = [f"{_words(part['part'])} ({100 * part['fraction']:.0f} %)" for part in parts]
        where = "its critical path" if data["metric"] == "step_time_s" else "the server's time"
        text += f" Most of {where} is {', '.join(shown)}."
    gains = [one for one in data["what_ifs"] if one["gain_s"] is not None]
    if gains:
        best = gains[0]
        if best["gain_s"] > _LEAST * data["time_s"]:
            share = 100 * best["gain_s"] / data["time_s"]
            text += f" The most would be gained if {best['meaning']}: {share:.0f} % of it."
        else:
            text += " Nothing that was tried makes it shorter."
    if data["stragglers"]:
        text += f" Without stragglers it would be {data['stragglers']['slowdown']:.2f} times as fast."
    return text


def _subject(data: Mapping[str, Any]) -> str:
    return "step" if data["metric"] == "step_time_s" else "mean request"


def _path_in_words(data: Mapping[str, Any]) -> str:
    """Return where the path is longest."""
    pieces = [
        f"stage {one['stage']} {one['passes']} ({format_quantity(one['from_s'], 's')} to "
        f"{format_quantity(one['to_s'], 's')}, mostly {_words(one['largest'])})"
        for one in data["stretches"]
    ]
    hops = data["path_hops"]
    where = f"The path changes stage {hops:,} times" if hops > 1 else "The path stays on one stage"
    if hops == 1:
        where = "The path changes stage once"
    return f"{where}. Its longest stretches: {'; '.join(pieces)}."


def _print_what_ifs(data: Mapping[str, Any], console: Console) -> None:
    causes = {one["name"] for one in (data["stragglers"] or {"causes": ()})["causes"]}
    table = new_table(console, "what if", f"{_subject(data)} time", "gain", "", "if", right=[1, 2, 3])
    for one in data["what_ifs"]:
        if one["gain_s"] is None or one["name"] in causes:
            continue
        share = one["gain_s"] / data["time_s"]
        gain = format_quantity(one["gain_s"], "s") if abs(share) >= _LEAST else "none"
        table.add_row(
            cell(one["name"], "bold" if share >= _LEAST else "dim"),
            cell(format_quantity(one["time_s"], "s")),
            cell(gain),
            cell(f"{100 * share:.1f} %" if abs(share) >= _LEAST else ""),
            cell(one["meaning"]),
        )
    indented(console, table)
    failed = [f"{one['name']} could not be run: {one['problem']}" for one in data["what_ifs"] if one["problem"]]
    bullets(console, failed, mark="!", style="yellow")


def _print_stragglers(data: Mapping[str, Any], console: Console) -> None:
    """Print what each cause of straggling costs, from the run without it."""
    whole = data["stragglers"]
    without = f"{format_quantity(whole['time_s'], 's')} without any, a slowdown of {whole['slowdown']:.3f}"
    heading(console, "stragglers", f"{without}; {whole['basis']}")
    table = new_table(console, "cause", "without it", "slowdown", "of the whole", "if", right=[1, 2, 3])
    for cause in whole["causes"]:
        is_felt = cause["gain_s"] >= _LEAST * whole["as_it_is_s"]
        table.add_row(
            cell(cause["name"], "bold" if is_felt else "dim"),
            cell(format_quantity(cause["time_s"], "s")),
            cell(f"{cause['slowdown']:.3f}"),
            cell("–" if cause["share"] is None else f"{round(100 * cause['share'])} %"),
            cell(cause["meaning"]),
        )
    indented(console, table)
