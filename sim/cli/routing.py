"""`moesim routing summary`: how uneven a recorded trace is."""

import json

import typer

from sim.cli.paths import named_path
from sim.report.console import make_console, print_rows
from sim.scenario.routing_trace import read_routing_trace
from workloads.routing.unevenness import unevenness

__all__ = ["summary_command"]

_COLUMNS = ["layer", "tokens", "max/mean", "Gini", "entropy", "CV", "idle experts"]


def summary_command(file: str, *, as_json: bool) -> None:
    """Show the unevenness of each layer, summed over the recorded microbatches."""
    tokens = read_routing_trace(named_path("FILE", file, "For example: moesim routing summary trace.csv"))
    rows = [{"layer": layer, **unevenness(loads)} for layer, loads in enumerate(tokens.sum(axis=0))]
    num_microbatches, num_layers, num_experts = tokens.shape
    if as_json:
        shape = {"microbatches": num_microbatches, "layers": num_layers, "experts": num_experts}
        typer.echo(json.dumps({"schema_version": 1, **shape, "rows": rows}, indent=1))
        return
    body = [
        [
            str(row["layer"]),
            f"{row['tokens']:,.0f}",
            f"{row['max_over_mean']:.3f}",
            f"{row['gini']:.3f}",
            f"{row['entropy']:.3f}",
            f"{row['cv']:.3f}",
            str(row["idle_experts"]),
        ]
        for row in rows
    ]
    title = f"{num_experts} experts, {num_layers} layers, {num_microbatches} microbatches"
    print_rows(title, _COLUMNS, body, make_console())
