"""What a scenario may hold: `moesim list`, `moesim schema`, and `moesim init`, which writes a first scenario."""

import json
from collections.abc import Callable, Sequence
from decimal import Decimal

import typer

from sim.cli.steps import named_path, print_json
from sim.errors import InvalidValueError, OutputError, did_you_mean
from sim.report.console.tables import make_console, print_rows

__all__ = ["init_command", "list_command", "schema_command"]

Table = tuple[str, list[str], Sequence[Sequence[object]]]
"""Title, names of the columns, rows."""


def list_command(what: str, *, as_json: bool) -> None:
    """Print one of the lists."""
    if what not in _LISTS:
        hint = did_you_mean(what, _LISTS, otherwise="For example: moesim list presets")
        raise InvalidValueError(field="WHAT", rule=f"be one of {', '.join(_LISTS)}", value=what, hint=hint)
    tables = _LISTS[what]()
    if as_json:
        print_json({title: [dict(zip(columns, row, strict=True)) for row in body] for title, columns, body in tables})
        return
    console = make_console()
    for title, columns, body in tables:
        print_rows(title, columns, [[str(cell) for cell in row] for row in body], console)


def schema_command(*, as_json: bool) -> None:
    """Print the JSON Schema of a scenario."""
    del as_json
    from sim.scenario.json_schema import json_schema  # noqa: PLC0415  # no list needs it

    typer.echo(json.dumps(json_schema(), indent=2))


def init_command(file: str, *, as_json: bool) -> None:
    """Write the starter to the file of this name, which must not exist."""
    from sim.scenario.scenario_files import STARTER  # noqa: PLC0415  # no list needs it

    path = named_path("FILE", file, "moesim init mine.yaml")
    if path.suffix not in (".yaml", ".yml"):
        hint = f"For example: moesim init {path.stem or 'mine'}.yaml"
        raise InvalidValueError(field="FILE", rule="end in .yaml", value=str(path), hint=hint)
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(STARTER)
    except FileExistsError:
        hint = "Choose another name; nothing was overwritten."
        raise InvalidValueError(field="FILE", rule="not exist yet", value=str(path), hint=hint) from None
    except OSError as error:
        hint = "Choose a folder that exists and can be written."
        raise OutputError(file=str(path), reason=error.strerror or str(error), hint=hint) from error
    if as_json:
        print_json({"written": str(path)}, indent=None)
    else:
        typer.echo(f"Wrote {path}. Next: moesim run {path}")


# ---- private -----------------------------------------------------------------------------------------------------


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
            f"{device.memory_bytes / 1e9:.4g} GB{'' if device.memory_source else ' (assumed)'}",
            f"{device.memory_bandwidth_bytes_per_s / 1e12:g} TB/s",
            f"{device.peak_bf16_flops_per_s / 1e12:g} TFLOP/s",
            f"{device.source}; memory: {device.memory_source or 'assumed'}",
        ]
        for name, device in DEVICES.items()
    ]
    return [
        ("clusters", ["name", "GPUs per node", "device", "GPU in its node", "NIC"], clusters),
        ("devices", ["name", "memory", "bandwidth", "bf16 peak", "source"], devices),
    ]


def _models() -> list[Table]:
    from sim.scenario.hf_config import ARCHITECTURES  # noqa: PLC0415  # each list imports what it shows
    from workloads.presets import COUNTED_OTHERWISE, MODELS, PUBLISHED  # noqa: PLC0415

    rows = [
        [
            name,
            f"{model.num_params / 1e9:.1f} B",
            f"{model.num_active_params / 1e9:.1f} B",
            model.layers,
            model.hidden,
            f"{model.experts} top-{model.top_k}" if model.experts else "dense",
            f"{Decimal(published.total):f} B" + (f" / {published.active} B" if published.active else ""),
            "; ".join([published.source, *(COUNTED_OTHERWISE[way] for way in published.counts)]),
        ]
        for name, model in MODELS.items()
        for published in (PUBLISHED[name],)
    ]
    architectures = [[name, architecture.meaning] for name, architecture in ARCHITECTURES.items()]
    return [
        ("models", ["name", "parameters", "active", "layers", "hidden", "experts", "published", "source"], rows),
        ("model types of Hugging Face, for model.hf_config", ["name", "models"], architectures),
    ]


def _schedules() -> list[Table]:
    from workloads.schedules import SCHEDULES  # noqa: PLC0415  # each list imports what it shows

    rows = [[name, schedule.summary] for name, schedule in SCHEDULES.items()]
    return [("schedules", ["name", "what it is"], rows)]


def _metrics() -> list[Table]:
    from sim.results.catalog import CATALOG  # noqa: PLC0415  # each list imports what it shows

    rows = [
        [name, metric.group, (metric.unit or "").replace("ratio1", "ratio"), metric.meaning]
        for name, metric in CATALOG.items()
    ]
    return [("metrics", ["name", "stands in", "unit", "meaning"], rows)]


def _scenarios() -> list[Table]:
    from sim.scenario.scenario_files import list_bundled, list_cases, list_suites  # noqa: PLC0415  # each list imports what it shows

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
