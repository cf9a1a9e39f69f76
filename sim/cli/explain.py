"""`moesim explain`: a strategy's mesh under each convention, why it is illegal where it is, and legal names near it."""

import json

import numpy as np
import typer

from sim.errors import InvalidValueError
from workloads.conventions import CONVENTIONS
from workloads.mesh import Mesh, build_mesh
from workloads.strategy import Strategy

__all__ = ["explain_command", "explain_strategy"]


def explain_strategy(name: str, *, num_gpus: int, gpus_per_node: int) -> dict[str, object]:
    """Return, for each convention, whether the strategy is legal, its groups or why not, and legal names near it.

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
            entry["mesh"] = _describe(mesh, gpus_per_node)
        else:
            entry["why"] = why
            near = rules.nearest_legal(strategy, num_gpus=num_gpus, gpus_per_node=gpus_per_node)
            entry["nearest_legal"] = [other.name for other in near]
        conventions[convention] = entry
    return {"strategy": strategy.name, "num_gpus": num_gpus, "gpus_per_node": gpus_per_node, "conventions": conventions}


def explain_command(name: str, *, num_gpus: int, gpus_per_node: int, as_json: bool) -> None:
    """Print what `explain_strategy` says."""
    explained = explain_strategy(name, num_gpus=num_gpus, gpus_per_node=gpus_per_node)
    if as_json:
        typer.echo(json.dumps(explained, indent=1))
        return
    typer.echo(f"{explained['strategy']} on {num_gpus} GPUs, nodes of {gpus_per_node}\n")
    conventions = explained["conventions"]
    if not isinstance(conventions, dict):
        raise TypeError("conventions is a map")
    for convention, entry in conventions.items():
        typer.echo(f"{convention}: {'legal' if entry['legal'] else 'illegal'}")
        typer.echo(f"  rule     {entry['meaning']}")
        if entry["legal"]:
            for key, value in entry["mesh"].items():
                typer.echo(f"  {key:8s} {value}")
        else:
            typer.echo(f"  why      {entry['why']}")
            typer.echo(f"  nearest  {', '.join(entry['nearest_legal']) or 'none'}")
        typer.echo("")


def _describe(mesh: Mesh, gpus_per_node: int) -> dict[str, str]:
    s = mesh.strategy
    described = {
        "axes": f"TP{s.tp} PP{s.pp} EP{s.ep} DP{mesh.dp}" + (" with sequence parallelism" if mesh.sp else ""),
        "stages": "; ".join(f"{stage}: GPUs {_span(mesh.stage_ranks(stage))}" for stage in range(min(4, s.pp)))
        + ("; ..." if s.pp > 4 else ""),
        "lanes": f"{mesh.num_lanes} of {mesh.lane_size} GPUs per stage",
    }
    groups = {"TP": mesh.tp_groups(0), "EP": mesh.ep_groups(0), "DP": mesh.dp_groups(0)}
    for axis, ranks in groups.items():
        if ranks.shape[1] > 1:
            num_nodes = np.unique(ranks[0] // gpus_per_node).size
            where = "inside a node" if num_nodes == 1 else f"over {num_nodes} nodes"
            described[f"{axis} group"] = f"{ranks.shape[1]} GPUs {where}, the first is {_span(ranks[0])}"
    return described


def _span(ranks: np.ndarray) -> str:
    """Return ranks as a range where they are one.

    >>> _span(np.array([4, 5, 6])), _span(np.array([0, 8]))
    ('4-6', '0, 8')
    """
    if ranks.size > 1 and (np.diff(ranks) == 1).all():
        return f"{ranks[0]}-{ranks[-1]}"
    shown = ", ".join(str(rank) for rank in ranks[:8].tolist())
    return shown + (", ..." if ranks.size > 8 else "")
