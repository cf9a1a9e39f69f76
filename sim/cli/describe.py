"""Commands that describe their input without a simulation: `moesim explain` and `moesim routing summary`."""

from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from sim.cli.steps import named_path, print_json
from sim.errors import InvalidValueError
from sim.report.console.tables import make_console, print_rows
from sim.scenario.recordings import Recording, find_recording, read_recording
from sim.scenario.recordings.arrays import Shape
from workloads.conventions import CONVENTIONS
from workloads.mesh import Mesh, build_mesh
from workloads.placement.bound import max_over_mean
from workloads.routing.skew import load_imbalance
from workloads.strategy import Strategy

__all__ = ["explain_command", "explain_strategy", "summary_command"]

_COLUMNS = ["layer", "tokens", "max/mean", "Gini", "entropy", "CV", "idle experts"]
_OVER_RANKS = {"contiguous": "contiguous", "greedy": "greedy", "eplb": "EPLB", "bound": "at best"}
"""Key of the JSON -> heading of the column with the busiest rank over the mean."""


def explain_strategy(name: str, *, num_gpus: int, gpus_per_node: int) -> dict[str, Any]:
    """Return, for each convention, whether the strategy is legal, and its groups or the reason and legal names near.

    >>> explain_strategy("EP64_TP16_PP4", num_gpus=64, gpus_per_node=8)["conventions"]["vllm"]["legal"]
    False
    """
    try:
        strategy = Strategy.parse(name)
    except InvalidValueError as error:
        raise InvalidValueError(field="STRATEGY", rule=error.rule, value=error.value, hint=error.hint) from None
    conventions = {}
    for convention, rules in CONVENTIONS.items():
        why = rules.why_illegal(strategy, num_gpus=num_gpus, gpus_per_node=gpus_per_node)
        entry: dict[str, object] = {"meaning": rules.meaning, "legal": why is None}
        if why is None:
            mesh = build_mesh(strategy, convention, num_gpus=num_gpus, gpus_per_node=gpus_per_node)
            entry["runs"] = True  # what is legal runs; the key is for who reads it
            entry["mesh"] = _describe(mesh, gpus_per_node)
            etp = rules.default_etp(strategy, num_gpus=num_gpus, gpus_per_node=gpus_per_node)
            if etp is not None and "ETP" not in name.upper():
                entry["assumed_etp"] = etp
        else:
            entry["why"] = why
            meant = rules.what_was_meant(strategy, num_gpus=num_gpus, gpus_per_node=gpus_per_node)
            if meant is not None:
                entry["meant"] = meant
            near = rules.nearest_legal(strategy, num_gpus=num_gpus, gpus_per_node=gpus_per_node)
            entry["nearest_legal"] = [other.name for other in near]
        conventions[convention] = entry
    return {"strategy": strategy.name, "num_gpus": num_gpus, "gpus_per_node": gpus_per_node, "conventions": conventions}


def explain_command(strategy: str, *, gpus: int, gpus_per_node: int, as_json: bool) -> None:
    """Print the result of `explain_strategy`."""
    explanation = explain_strategy(strategy, num_gpus=gpus, gpus_per_node=gpus_per_node)
    if as_json:
        print_json(explanation)
        return
    typer.echo(f"{explanation['strategy']} on {gpus} GPUs, nodes of {gpus_per_node}\n")
    for convention, entry in explanation["conventions"].items():
        typer.echo(f"{convention}: {'legal' if entry['legal'] else 'illegal'}")
        typer.echo(f"  rule     {entry['meaning']}")
        if entry["legal"]:
            for key, value in entry["mesh"].items():
                typer.echo(f"  {key:8s} {value}")
            if "assumed_etp" in entry:
                typer.echo(f"  assumed  ETP1. {entry['assumed_etp']}")
        else:
            typer.echo(f"  why      {entry['why']}")
            if "meant" in entry:
                typer.echo(f"  meant    {entry['meant']}")
            typer.echo(f"  nearest  {', '.join(entry['nearest_legal']) or 'none'}")
        typer.echo("")


def _describe(mesh: Mesh, gpus_per_node: int) -> dict[str, str]:
    s = mesh.strategy
    described = {
        "axes": f"TP{s.tp} PP{s.pp} EP{s.ep} DP{mesh.dp} ETP{s.etp}"
        + (f" CP{s.cp}" if s.cp > 1 else "")
        + (" with sequence parallelism" if mesh.sp else ""),
        "stages": "; ".join(f"{stage}: GPUs {_span(mesh.stage_ranks(stage))}" for stage in range(min(4, s.pp)))
        + ("; ..." if s.pp > 4 else ""),
        "lanes": f"{mesh.num_lanes} of {mesh.lane_size} GPUs per stage",
    }
    groups = {
        "TP": mesh.tp_groups(0),
        "CP": mesh.cp_groups(0),
        "EP": mesh.ep_groups(0),
        "ETP": mesh.etp_groups(0),
        "DP": mesh.dp_groups(0),
        "EDP": mesh.expert_dp_groups(0),
    }
    for axis, ranks in groups.items():
        if ranks.shape[1] > 1:
            num_nodes = np.unique(ranks[0] // gpus_per_node).size
            where = "inside a node" if num_nodes == 1 else f"over {num_nodes} nodes"
            described[f"{axis} group"] = f"{ranks.shape[1]} GPUs {where}, the first is {_span(ranks[0])}"
    return described


def _span(ranks: np.ndarray) -> str:
    """Return ranks as a range where they are consecutive.

    >>> _span(np.array([4, 5, 6])), _span(np.array([0, 8]))
    ('4-6', '0, 8')
    """
    if ranks.size > 1 and (np.diff(ranks) == 1).all():
        return f"{ranks[0]}-{ranks[-1]}"
    first = ", ".join(str(rank) for rank in ranks[:8].tolist())
    return first + (", ..." if ranks.size > 8 else "")


def summary_command(
    file: str,
    *,
    ranks: int | None = None,
    replicas: int | None = None,
    experts: int | None = None,
    as_json: bool,
) -> None:
    """Show the unevenness of each layer, summed over the recorded steps, and that of `ranks` ranks."""
    named_path("FILE", file, "moesim routing summary trace.csv")
    recording = read_recording(find_recording(file), shape=Shape(num_experts=experts))
    tokens = recording.tokens
    if experts is not None and tokens.shape[2] != experts:
        hint = "Leave --experts out, or give the number of experts of the model that was recorded."
        value = f"{tokens.shape[2]} (read as {recording.described})"
        raise InvalidValueError(field="FILE", rule=f"have --experts = {experts} experts", value=value, hint=hint)
    num_replicas = replicas or 0
    if ranks is not None:
        _check_ranks(tokens.shape[2], ranks, num_replicas)
    elif replicas is not None:
        hint = f"For example: --ranks 8 --replicas {replicas}"
        raise InvalidValueError(field="--replicas", rule="be given with --ranks", value=str(replicas), hint=hint)
    rows = [
        {"layer": layer, **load_imbalance(loads), **({} if ranks is None else _over_ranks(loads, ranks, num_replicas))}
        for layer, loads in zip(recording.layers, tokens.sum(axis=0), strict=True)
    ]
    num_microbatches, num_layers, num_experts = tokens.shape
    if as_json:
        shape = {"microbatches": num_microbatches, "layers": num_layers, "experts": num_experts}
        if ranks is not None:
            shape |= {"ranks": ranks, "replicas": num_replicas}
        print_json({"schema_version": 1, **shape, "read_as": recording.described, "rows": rows})
        return
    _print_read_as(recording)
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
    counts = {"expert": num_experts, "layer": num_layers, "step": num_microbatches}
    title = ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for noun, count in counts.items())
    console = make_console()
    print_rows(title, [*_COLUMNS, *(_OVER_RANKS[name] for name in over_ranks)], body, console)
    if over_ranks:
        slots = f"; EPLB and at best with {num_replicas} replicas" if num_replicas else ""
        note = f"  last columns: busiest of {ranks} ranks over the mean{slots}; no placement is below at best"
        console.print(note, highlight=False)


def _print_read_as(recording: Recording) -> None:
    """Print what the file was taken for."""
    hint = ": give --experts" if recording.assumes_experts else ""
    typer.echo(f"Read as {recording.described}{hint}.")


def _check_ranks(num_experts: int, num_ranks: int, replicas: int) -> None:
    """Refuse ranks that cannot hold equally many experts, or slots."""
    needed = -num_experts % num_ranks
    if needed and not replicas:
        hint = f"Give a number that divides the number of experts, such as the EP of the run, or --replicas {needed}."
        raise InvalidValueError(field="--ranks", rule=f"divide {num_experts} experts", value=str(num_ranks), hint=hint)
    if (replicas - needed) % num_ranks:
        rule, hint = f"give {num_ranks} ranks equally many slots", f"For example: --replicas {needed or num_ranks}"
        raise InvalidValueError(field="--replicas", rule=rule, value=str(replicas), hint=hint)


def _over_ranks(loads: NDArray[np.float64], num_ranks: int, num_replicas: int) -> dict[str, float]:
    ratios = max_over_mean(loads, num_ranks=num_ranks, replicas=num_replicas)
    return {f"{name}_max_over_mean": value for name, value in ratios.items()}
