"""`moesim list`: the names that a scenario may use, with their figures."""

import json
from collections.abc import Callable, Sequence

import typer

from sim.errors import InvalidValueError, did_you_mean
from sim.report.console.run import make_console, print_rows

__all__ = ["list_command"]

Table = tuple[str, list[str], Sequence[Sequence[object]]]


def list_command(what: str, *, as_json: bool) -> None:
    """Print one of the lists."""
    if what not in _LISTS:
        raise InvalidValueError(
            field="WHAT",
            rule=f"be one of {', '.join(_LISTS)}",
            value=what,
            hint=did_you_mean(what, _LISTS, otherwise="For example: moesim list presets"),
        )
    tables = _LISTS[what]()
    if as_json:
        rows = {title: [dict(zip(columns, row, strict=True)) for row in body] for title, columns, body in tables}
        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    console = make_console()
    for title, columns, body in tables:
        print_rows(title, columns, [[str(cell) for cell in row] for row in body], console)


def _presets() -> list[Table]:
    from topology.presets.clusters import CLUSTERS  # noqa: PLC0415  # each list imports what it shows
    from topology.presets.devices import DEVICES  # noqa: PLC0415

    clusters = [
        [
            name,
            preset.fabric.gpus_per_node,
            preset.device,
            f"{preset.fabric.in_node_bytes_per_s / 1e9:g} GB/s",
            f"{preset.fabric.nic.bandwidth_bytes_per_s / 1e9:g} GB/s",
        ]
        for name, preset in CLUSTERS.items()
    ]
    devices = [
        [
            name,
            f"{device.memory_bytes / 1e9:g} GB",
            f"{device.memory_bandwidth_bytes_per_s / 1e12:g} TB/s",
            f"{device.peak_bf16_flops_per_s / 1e12:g} TFLOP/s",
            device.source,
        ]
        for name, device in DEVICES.items()
    ]
    return [
        ("clusters", ["name", "GPUs per node", "device", "GPU in its node", "NIC"], clusters),
        ("devices", ["name", "memory", "bandwidth", "bf16 peak", "source"], devices),
    ]


def _models() -> list[Table]:
    from workloads.presets import MODELS  # noqa: PLC0415  # each list imports what it shows

    rows = [
        [
            name,
            f"{model.num_params / 1e9:.1f} B",
            f"{model.num_active_params / 1e9:.1f} B",
            model.layers,
            model.hidden,
            f"{model.experts} top-{model.top_k}" if model.experts else "dense",
        ]
        for name, model in MODELS.items()
    ]
    return [("models", ["name", "parameters", "active", "layers", "hidden", "experts"], rows)]


def _schedules() -> list[Table]:
    from workloads.schedules import SCHEDULES  # noqa: PLC0415  # each list imports what it shows

    rows = [[name, family.summary] for name, family in SCHEDULES.items()]
    return [("schedules", ["name", "what it is"], rows)]


def _metrics() -> list[Table]:
    from sim.results.catalog import CATALOG  # noqa: PLC0415  # each list imports what it shows

    rows = [
        [name, metric.group, (metric.unit or "").replace("ratio1", "ratio"), metric.meaning]
        for name, metric in CATALOG.items()
    ]
    return [("metrics", ["name", "stands in", "unit", "meaning"], rows)]


def _scenarios() -> list[Table]:
    from sim.scenario.bundled import list_bundled, list_cases, list_suites  # noqa: PLC0415  # each list imports what it shows

    cases = list_cases()
    suites = [[suite, sum(case.startswith(f"{suite}/") for case in cases)] for suite in list_suites()]
    return [
        ("bundled scenarios", ["name"], [[name] for name in list_bundled()]),
        ("validation suites", ["name", "cases"], suites),
        ("validation cases", ["name"], [[name] for name in cases]),
    ]


_LISTS: dict[str, Callable[[], list[Table]]] = {
    "presets": _presets,
    "models": _models,
    "schedules": _schedules,
    "metrics": _metrics,
    "scenarios": _scenarios,
}
