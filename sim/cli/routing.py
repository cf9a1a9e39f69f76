"""`moesim routing summary`: how uneven a recorded trace is, over its experts and over ranks that would hold them."""

import json

import numpy as np
import typer
from numpy.typing import NDArray

from sim.cli.paths import named_path
from sim.errors import InvalidValueError
from sim.report.console.run import make_console, print_rows
from sim.scenario.routing_trace import read_routing_trace
from workloads.placement.compare import max_over_mean
from workloads.routing.unevenness import unevenness

__all__ = ["summary_command"]

_COLUMNS = ["layer", "tokens", "max/mean", "Gini", "entropy", "CV", "idle experts"]


_OVER_RANKS = {"contiguous": "contiguous", "greedy": "greedy", "eplb": "EPLB", "bound": "at best"}
"""Key of the JSON -> heading, of the busiest rank over the mean."""


def summary_command(file: str, *, ranks: int | None, replicas: int | None, as_json: bool) -> None:
    """Show the unevenness of each layer, summed over the recorded microbatches, and that of `ranks` ranks."""
    tokens = read_routing_trace(named_path("FILE", file, "For example: moesim routing summary trace.csv"))
    copies = replicas or 0
    if ranks is not None:
        _check_ranks(tokens.shape[2], ranks, copies)
    elif replicas is not None:
        hint = f"For example: --ranks 8 --replicas {replicas}"
        raise InvalidValueError(field="--replicas", rule="be given with --ranks", value=str(replicas), hint=hint)
    rows = [
        {"layer": layer, **unevenness(loads), **({} if ranks is None else _over_ranks(loads, ranks, copies))}
        for layer, loads in enumerate(tokens.sum(axis=0))
    ]
    num_microbatches, num_layers, num_experts = tokens.shape
    if as_json:
        shape = {"microbatches": num_microbatches, "layers": num_layers, "experts": num_experts}
        if ranks is not None:
            shape |= {"ranks": ranks, "replicas": copies}
        typer.echo(json.dumps({"schema_version": 1, **shape, "rows": rows}, indent=1))
        return
    over_ranks = [] if ranks is None else [name for name in _OVER_RANKS if f"{name}_max_over_mean" in rows[0]]
    body = [
        [
            str(row["layer"]),
            f"{row['tokens']:,.0f}",
            f"{row['max_over_mean']:.3f}",
            f"{row['gini']:.3f}",
            f"{row['entropy']:.3f}",
            f"{row['cv']:.3f}",
            str(row["idle_experts"]),
            *(f"{row[f'{name}_max_over_mean']:.3f}" for name in over_ranks),
        ]
        for row in rows
    ]
    title = f"{num_experts} experts, {num_layers} layers, {num_microbatches} microbatches"
    console = make_console()
    print_rows(title, [*_COLUMNS, *(_OVER_RANKS[name] for name in over_ranks)], body, console)
    if over_ranks:
        held = f"; EPLB and at best with {copies} replicas" if copies else ""
        said = f"  last columns: busiest of {ranks} ranks over the mean{held}; no placement is below at best"
        console.print(said, highlight=False)


def _check_ranks(num_experts: int, num_ranks: int, replicas: int) -> None:
    """Refuse ranks that cannot hold equally many experts, or slots."""
    if num_ranks > num_experts or num_experts % num_ranks:
        hint = "Give a number that divides them, such as the EP of the run."
        raise InvalidValueError(field="--ranks", rule=f"divide {num_experts} experts", value=str(num_ranks), hint=hint)
    if replicas % num_ranks:
        rule, hint = f"give {num_ranks} ranks equally many slots", f"For example: --replicas {num_ranks}"
        raise InvalidValueError(field="--replicas", rule=rule, value=str(replicas), hint=hint)


def _over_ranks(loads: NDArray[np.float64], ranks: int, copies: int) -> dict[str, float]:
    found = max_over_mean(loads, num_ranks=ranks, replicas=copies)
    return {f"{name}_max_over_mean": value for name, value in found.items()}
