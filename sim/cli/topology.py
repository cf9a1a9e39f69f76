"""`moesim topology`: the cluster of a scenario as a table, a picture or a graph."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from sim.build.build import build_scenario_cluster
from sim.cli.steps import check_changes, named_path, output_file, print_result
from sim.errors import InvalidValueError
from sim.report.console.tables import bullets, heading, print_rows
from sim.report.files import PICTURES, write_whole
from sim.report.topology.links import read_link_use
from sim.results.quantities import format_quantity
from sim.scenario.load import load_scenario
from topology.cluster import Cluster
from topology.link_groups import LinkGroup

__all__ = ["topology_command"]

_GRAPHS = (".graphml", ".yaml")
_MOST_NAMES = 16
_COLUMNS = ["kind", "links", "bandwidth", "efficiency", "reachable", "latency", "source"]


def topology_command(
    scenario: str, *, output: str | None = None, changes: Sequence[str] = (), load: str | None = None, as_json: bool
) -> None:
    """Show the cluster of a scenario, and write its picture or its graph."""
    check_changes(changes)
    file = None if output is None else output_file(output, (*PICTURES, *_GRAPHS))
    if load is not None and (file is None or file.suffix in _GRAPHS):
        hint = "For example: -o fabric.png --load out/result.json"
        raise InvalidValueError(field="--load", rule="be given with a picture to colour", value=load, hint=hint)
    loaded = load_scenario(scenario, overrides=changes)
    cluster = build_scenario_cluster(loaded)
    use = None
    if load is not None:
        use = read_link_use(named_path("--load", load, "--load out/result.json"), cluster.graph)
    name = loaded.spec.name or Path(scenario).stem
    if file is not None:
        _write(cluster, file, name=name, use=use)
    print_result(
        _as_dict(cluster, name, file), lambda _, console: _print(cluster, name, file, console), as_json=as_json
    )


def _write(cluster: Cluster, output: Path, *, name: str, use: Mapping[tuple[str, str], float] | None) -> None:
    if output.suffix == ".graphml":
        from topology.files.graphml import graph_to_graphml  # noqa: PLC0415  # only what is written is imported

        _write_text(output, graph_to_graphml(cluster.graph))
    elif output.suffix == ".yaml":
        from sim.scenario.cluster_file import graph_to_yaml  # noqa: PLC0415  # only what is written is imported
        from sim.scenario.yaml_file import MAX_BYTES, MAX_VALUES  # noqa: PLC0415

        text = graph_to_yaml(cluster.graph)
        if len(text.encode()) > MAX_BYTES or text.count(": ") + text.count("{") > MAX_VALUES:
            rule, hint = "be .graphml for a cluster of this size", "A YAML file would be too large to be read back."
            raise InvalidValueError(field="--output", rule=rule, value=str(output), hint=hint)
        _write_text(output, text)
    else:
        from sim.report.topology.picture import draw_topology  # noqa: PLC0415  # matplotlib

        title, subtitle = _titles(cluster, name)
        write_whole(output, lambda path: draw_topology(cluster.graph, path, title=title, subtitle=subtitle, use=use))


def _write_text(output: Path, text: str) -> None:
    write_whole(output, lambda path: path.write_text(text, encoding="utf-8"))


def _titles(cluster: Cluster, name: str) -> tuple[str, str]:
    """Return the heading of the picture: the cluster's name and size, and the bandwidths of one GPU."""
    nodes = "1 node" if cluster.num_nodes == 1 else f"{cluster.num_nodes:,} nodes"
    title = f"{_cluster_name(cluster)}: {nodes}, {cluster.num_gpus:,} GPUs ({cluster.device.name})"
    per_kind = {group.kind: group for group in reversed(cluster.inventory.links)}
    rates = [f"{kind} {format_quantity(g.bandwidth_bytes_per_s, 'bytes/s')}" for kind, g in per_kind.items()]
    return title, f"cluster of {name}; one link in one direction: {', '.join(reversed(rates))}"


def _cluster_name(cluster: Cluster) -> str:
    return cluster.inventory.name or "cluster"


def _kinds(cluster: Cluster) -> dict[str, int]:
    """Return how many vertices there are of each kind, GPUs first."""
    return dict(sorted(cluster.inventory.vertices.items(), key=lambda item: item[0] != "gpu"))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMES])
    return shown + (f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else "") or "none"


def _as_dict(cluster: Cluster, name: str, output: Path | None) -> dict[str, Any]:
    return {
        "scenario": name,
        "cluster": _cluster_name(cluster),
        "device": cluster.device.name,
        "num_nodes": cluster.num_nodes,
        "num_gpus": cluster.num_gpus,
        "vertices": _kinds(cluster),
        "nics_in_use": cluster.inventory.nics_in_use,
        "nics_not_in_use": cluster.inventory.nics_not_in_use,
        "link_kinds": [
            {
                "kind": group.kind,
                "count": group.count,
                "bandwidth_bytes_per_s": group.bandwidth_bytes_per_s,
                "efficiency": group.efficiency,
                "reachable_bytes_per_s": group.reachable_bytes_per_s,
                "latency_s": group.latency_s,
                "source": group.source,
            }
            for group in cluster.inventory.links
        ],
        "warnings": list(cluster.warnings),
        "written": None if output is None else str(output),
    }


def _print(cluster: Cluster, name: str, output: Path | None, console: Console) -> None:
    rows = [["cluster", f"{_cluster_name(cluster)} of {name}"], ["nodes", f"{cluster.num_nodes:,}"]]
    rows += [["device", cluster.device.name], *([kind, f"{count:,}"] for kind, count in _kinds(cluster).items())]
    if num_cpus := _kinds(cluster).get("cpu"):
        rows.append(["NUMA nodes a node", f"{num_cpus / cluster.num_nodes:g}"])
    if unused := cluster.inventory.nics_not_in_use:
        rows += [["NICs in use", _listed(cluster.inventory.nics_in_use)], ["NICs not in use", _listed(unused)]]
    print_rows("cluster", ["", ""], rows, console)
    print_rows("link kinds", _COLUMNS, [_row(group) for group in cluster.inventory.links], console)
    if cluster.warnings:
        heading(console, "warnings")
        bullets(console, cluster.warnings, mark="!", style="bold yellow")
    if output is not None:
        console.print()
        typer.echo(f"Wrote {output}.")


def _row(group: LinkGroup) -> list[str]:
    return [
        group.kind,
        f"{group.count:,}",
        format_quantity(group.bandwidth_bytes_per_s, "bytes/s"),
        format_quantity(group.efficiency, "ratio"),
        format_quantity(group.reachable_bytes_per_s, "bytes/s"),
        format_quantity(group.latency_s, "s"),
        group.source or "not said",
    ]
