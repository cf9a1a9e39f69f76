"""The picture of the cluster with the load of its links, and the shapes of what kernels and transfers work on."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sim.build.build import build_scenario_cluster
from sim.engine.trace import LinkUse
from sim.results.quantities import format_quantity
from sim.scenario.scenario import Scenario

__all__ = ["cluster_picture", "shapes_of"]

_MOST_GPUS: Final = 1024
"""The graph of a larger cluster is not made for its picture."""


def cluster_picture(scenario: Scenario, use: LinkUse, step_s: float) -> bytes:
    """Return an SVG of a scenario's cluster whose links are coloured by their load; nothing without a cluster.

    Nothing either where its temporary file cannot be written: files that the user names say what is wrong.
    """
    if scenario.spec.cluster is None or not use.names or step_s <= 0:
        return b""
    cluster = build_scenario_cluster(scenario)
    if cluster.num_gpus > _MOST_GPUS:
        return b""
    from sim.report.topology.picture import draw_topology  # noqa: PLC0415  # matplotlib

    by_name = {f"{a}->{b}": (a, b) for a, b in cluster.graph.edges}
    loads = use.num_bytes / (use.capacity_bytes_per_s * step_s)
    shares = {by_name[name]: float(load) for name, load in zip(use.names, loads, strict=True) if name in by_name}
    title = f"{cluster.num_nodes:,} nodes, {cluster.num_gpus:,} GPUs ({cluster.device.name})"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cluster.svg"
        subtitle = "links by their mean load over the step"
        try:
            draw_topology(cluster.graph, path, title=title, subtitle=subtitle, use=shares)
            return path.read_bytes()
        except OSError:
            return b""


def shapes_of(data: Mapping[str, Any]) -> dict[str, str]:
    """Return, by kind of span, the shape of what a rank works on in one microbatch; nothing where it is not known.

    >>> data = {"scenario": {"model": {"hidden": 1024, "heads": 16, "head_dim": 64}, "workload": {"sequences": 8,
    ...         "sequence_length": 2048, "microbatches": 4}}, "mesh": {"tp": 2, "dp": 2}}
    >>> shapes_of(data)["attention"]
    '2,048 tokens x hidden 1,024, 8 of 16 heads of 64'
    """
    scenario, mesh = data.get("scenario") or {}, data.get("mesh") or {}
    model, workload = scenario.get("model") or {}, scenario.get("workload") or {}
    sequences, length, microbatches = (
        int(workload.get(key) or 0) for key in ("sequences", "sequence_length", "microbatches")
    )
    hidden = model.get("hidden")
    if not hidden or not sequences * length * microbatches:
        return {}
    tp, dp = mesh.get("tp") or 1, mesh.get("dp") or 1
    tokens = f"{sequences * length / microbatches / dp:,.0f} tokens"
    rows = f"{tokens} x hidden {hidden:,}"
    shapes = {"tp": rows, "pp": rows, "cp": rows}
    if model.get("heads") and model.get("head_dim"):
        heads = f"{format_quantity(model['heads'] / tp)} of {model['heads']} heads of {model['head_dim']}"
        shapes["attention"] = f"{rows}, {heads}"
    if model.get("experts"):
        routed = f"top {model.get('top_k') or '?'} of {model['experts']} experts"
        shapes["ep_dispatch"] = shapes["ep_combine"] = f"{rows}, {routed}"
        if model.get("ffn"):
            matrices = "gated, " if model.get("gated") else ""
            shapes["expert"] = f"{matrices}hidden {hidden:,} to {model['ffn']:,} and back, {routed}"
    return shapes
