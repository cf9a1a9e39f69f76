"""The reports of `moesim import`, from their JSON: what stragglers cost, and where the time of a measured step went."""

from collections.abc import Mapping
from typing import Any, Final

from rich.console import Console

from sim.report.console.tables import bullets, cell, heading, indented, new_table, print_written
from sim.results.quantities import format_quantity

__all__ = ["print_kineto", "print_replay"]

_LEAST: Final = 0.0005
"""Gains and parts below this fraction of the step are left out."""


def print_replay(data: Mapping[str, Any], console: Console, *, written: Mapping[str, str]) -> None:
    """Print what stragglers cost a job."""
    steps = f"{data['num_steps']} step" + ("s" if data["num_steps"] != 1 else "")
    text = (
        f"{data['name']}: {steps} of DP{data['num_replicas']} x PP{data['num_stages']}, "
        f"{format_quantity(data['step_time_s'], 's')} in the mean; without stragglers "
        f"{format_quantity(data['ideal_step_time_s'], 's')} (slowdown {data['slowdown']:.3f})."
    )
    gains = [cause for cause in data["causes"] if cause["gain_s"] > _LEAST * data["step_time_s"]]
    if gains:
        text += f" The most would be gained if {gains[0]['meaning']}: {format_quantity(gains[0]['step_time_s'], 's')}."
    console.print(cell(text))
    heading(console, "step time", "mean of all steps")
    table = new_table(console, right=[1])
    for name, key in (
        ("as measured", "measured_step_time_s"),
        ("replayed, without the host's launch delays", "step_time_s"),
        ("every operation as long as others of its name", "ideal_step_time_s"),
    ):
        table.add_row(cell(name), cell(format_quantity(data[key], "s")))
    indented(console, table)
    heading(console, "causes", "each mended alone, by a replay")
    table = new_table(console, "cause", "step time", "gain", "of the slowdown", "if", right=[1, 2, 3])
    for cause in data["causes"]:
        share = "–" if cause["share"] is None else f"{round(100 * cause['share'])} %"
        table.add_row(
            cell(cause["name"], "bold" if cause in gains else "dim"),
            cell(format_quantity(cause["step_time_s"], "s")),
            cell(f"{1e3 * cause['gain_s']:+,.1f} ms"),
            cell(share),
            cell(cause["meaning"]),
        )
    indented(console, table)
    bullets(console, data["warnings"], mark="!", style="yellow")
    print_written(written, console)


def print_kineto(data: Mapping[str, Any], console: Console, *, written: Mapping[str, str]) -> None:
    """Print where the time of a measured step went."""
    step_ns = data["metrics"]["step_time_s"] * 1e9
    ranks = data["metrics"]["num_gpus"]
    parts = {part: ns / step_ns for part, ns in data["stages_ns"][0].items() if ns > _LEAST * step_ns}
    largest = sorted(parts.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{part.replace('_', ' ')} ({100 * share:.0f} %)" for part, share in largest[:3])
    console.print(
        cell(
            f"{data['scenario']['name']}: {ranks} rank{'s' if ranks != 1 else ''}, "
            f"{format_quantity(data['metrics']['step_time_s'], 's')}; most of it is {shown}."
        )
    )
    heading(console, "where the time went", "mean over ranks; exposed communication alone counts")
    table = new_table(console, right=[1, 2])
    for part, share in largest:
        table.add_row(
            cell(part.replace("_", " ")),
            cell(format_quantity(share * step_ns * 1e-9, "s")),
            cell(f"{100 * share:.1f} %"),
        )
    indented(console, table)
    bullets(console, data["warnings"], mark="!", style="yellow")
    print_written(written, console)
