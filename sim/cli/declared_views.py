"""The commands that read recordings and measured runs, draw pictures, and list names."""

from typing import Annotated

import typer

from sim.cli.declare import (
    Changes,
    Jobs,
    Json,
    Scenario,
    Seed,
    Trace,
    command,
    measured,
    out_option,
    output_option,
    routing,
)
from topology.limits import MAX_GPUS

__all__ = [
    "explain",
    "import_kineto",
    "import_trace",
    "init",
    "list_",
    "report",
    "schedules",
    "schema",
    "summary",
    "timeline",
    "topology",
]


@command("sim.cli.describe.summary_command", "routing summary sglang_sample --ranks 8 --replicas 8", group=routing)
def summary(
    file: Annotated[
        str,
        typer.Argument(
            help="A recording: .csv, .parquet, .jsonl, .json, .npz, .npy or .pt, or the name of a bundled one.",
            metavar="FILE",
        ),
    ],
    ranks: Annotated[
        int | None,
        typer.Option(
            "--ranks", min=1, help="Show the busiest of this many ranks as well, under each placement and at best."
        ),
    ] = None,
    replicas: Annotated[
        int | None,
        typer.Option("--replicas", min=0, help="Number of replicas that these ranks hold, placed by EPLB."),
    ] = None,
    experts: Annotated[
        int | None,
        typer.Option(
            "--experts", min=2, max=4096, help="Number of experts of the model, where the file lists only busy ones."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show how uneven a recorded trace is, layer by layer: max/mean, Gini, entropy, coefficient of variation."""


@command(
    "sim.cli.measured.import_trace_command", "import trace operations.csv --out measured/", name="trace", group=measured
)
def import_trace(
    file: Annotated[str, typer.Argument(help="A table of operations, .csv.", metavar="FILE")],
    step: Annotated[
        int | None, typer.Option("--step", min=0, help="The step that --out shows; else the middle one.")
    ] = None,
    as_json: Json = False,
    out: Annotated[
        str | None, out_option("result.json, report.html, trace.npz, trace.pftrace and timeline.png of one step")
    ] = None,
) -> None:
    """Replay a job that was measured operation by operation, and say what each kind of straggler costs."""


@command(
    "sim.cli.measured.import_kineto_command",
    "import kineto rank0.json.gz --out measured/",
    name="kineto",
    group=measured,
)
def import_kineto(
    files: Annotated[
        list[str],
        typer.Argument(help="Traces of PyTorch's profiler, .json or .json.gz, one for each rank.", metavar="TRACE..."),
    ],
    step: Annotated[int | None, typer.Option("--step", min=0, help="The ProfilerStep to read; else the last.")] = None,
    as_json: Json = False,
    out: Annotated[
        str | None, out_option("result.json, report.html, trace.npz, trace.pftrace and timeline.png")
    ] = None,
) -> None:
    """Read a step that PyTorch's profiler measured, and say where its time went."""


@command("sim.cli.report.report_command", "report ep64_tp16_pp4 -o report.html")
def report(
    scenario: Annotated[
        str,
        typer.Argument(
            help="A scenario file, the name of a bundled scenario, or a result.json or stress.json.",
            metavar="SCENARIO|RESULT",
        ),
    ],
    output: Annotated[str, output_option("a page .html, which is complete in itself")],
    changes: Changes = None,
    trace: Trace = None,
    seed: Seed = None,
    jobs: Jobs = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            "--compare",
            metavar="RUN",
            help="Another scenario or result.json, shown next to the run; may be given several times.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write one HTML file that explains a run: claims and what decided them, timeline, time, memory, links."""


@command("sim.cli.timeline.timeline_command", "timeline ep64_tp16_pp4 -o timeline.svg")
def timeline(
    scenarios: Annotated[
        list[str],
        typer.Argument(
            help="Scenario files, names of bundled scenarios, or result.json files of earlier runs; several are drawn "
            "on one axis of time.",
            metavar="RUN...",
        ),
    ],
    output: Annotated[str, output_option("a picture .png, .svg or .pdf, or .pftrace or .json for Perfetto")],
    changes: Changes = None,
    seed: Seed = None,
    window: Annotated[
        tuple[float, float] | None,
        typer.Option("--window", metavar="FROM TO", help="First and last time to draw, in ms."),
    ] = None,
    begin: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help='First time to draw, such as "20 ms".')
    ] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help='Last time to draw, such as "1.5 s".')] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="stage|step",
            help="A band for each stage, with kernels and waits; or for each step, with a line for each stage: the "
            "latter for several scenarios, and for many stages.",
        ),
    ] = None,
    colour: Annotated[
        str, typer.Option("--colour", metavar="microbatch|kind", help="What the colour of a pass is.")
    ] = "microbatch",
    lane: Annotated[int, typer.Option("--lane", min=0, help="Lane to draw where a stage has several lanes.")] = 0,
    as_json: Json = False,
) -> None:
    """Draw the pipeline of scenarios, without their alternatives and claims, and of saved or measured runs."""


@command("sim.cli.timeline.schedules_command", "schedules ep64_tp16_pp4_training -o schedules.png")
def schedules(
    scenario: Scenario,
    output: Annotated[str | None, output_option("a picture .png, .svg or .pdf")] = None,
    changes: Changes = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Run the work of a scenario under every schedule: time, bubble, memory, and one picture."""


@command("sim.cli.topology.topology_command", "topology ep64_tp16_pp4 -o fabric.png")
def topology(
    scenario: Scenario,
    output: Annotated[str | None, output_option("a picture .png, .svg or .pdf, or a graph .graphml or .yaml")] = None,
    changes: Changes = None,
    load: Annotated[
        str | None,
        typer.Option("--load", metavar="RESULT", help="Colour the links by their use in this result.json of a run."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the cluster of a scenario: its kinds of links, and a picture."""


@command("sim.cli.describe.explain_command", "explain EP64_TP16_PP4 --gpus 64")
def explain(
    strategy: Annotated[str, typer.Argument(help="A strategy's name, such as EP64_TP16_PP4.", metavar="STRATEGY")],
    gpus: Annotated[int, typer.Option("--gpus", min=1, max=MAX_GPUS, help="Number of GPUs of the cluster.")] = 64,
    gpus_per_node: Annotated[
        int, typer.Option("--gpus-per-node", min=1, max=MAX_GPUS, help="Number of GPUs of a node.")
    ] = 8,
    as_json: Json = False,
) -> None:
    """Show the mesh of a strategy under each convention, or why it is illegal and which legal names are near."""


@command("sim.cli.listing.list_command", "list presets", name="list")
def list_(
    what: Annotated[str, typer.Argument(help="presets, models, schedules, metrics or scenarios.", metavar="WHAT")],
    as_json: Json = False,
) -> None:
    """List the names that a scenario may use."""


@command("sim.cli.listing.schema_command", "schema > moesim.schema.json")
def schema(as_json: Annotated[bool, typer.Option("--json", help="The schema is JSON in any case.")] = False) -> None:
    """Print the JSON Schema of a scenario, with which editors complete and check a scenario file."""


@command("sim.cli.listing.init_command", "init mine.yaml && moesim run mine.yaml")
def init(
    file: Annotated[str, typer.Argument(help="File to write; it must not exist.", metavar="FILE")],
    as_json: Json = False,
) -> None:
    """Write a commented scenario to start from."""
