"""All commands, with their arguments and an example each; the other modules of `sim.cli` do what the commands say."""

import gc
import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from types import ModuleType
from typing import Annotated, Any, Final

import typer

from topology.limits import MAX_COUNT, MAX_GPUS

__all__ = ["COMMANDS", "app"]

app = typer.Typer(
    name="moesim",
    help="Simulate GPU clusters that run mixture-of-experts language models, and judge claims about them.",
    epilog="Example: moesim run ep64_tp16_pp4 --out out/",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
routing = typer.Typer(name="routing", help="Describe recorded traces of routing.", no_args_is_help=True)
measured = typer.Typer(
    name="import", help="Read measured runs: what they lost, and in the form of simulated runs.", no_args_is_help=True
)
results = typer.Typer(name="results", help="Look into a store of finished simulations.", no_args_is_help=True)
app.add_typer(results, epilog="Example: moesim results list out/results.sqlite")
app.add_typer(measured, epilog="Example: moesim import kineto rank0.json.gz --out measured/")
app.add_typer(routing, epilog="Example: moesim routing summary sglang_sample")


# ---- arguments of several commands -------------------------------------------------------------------------------


def _out(files: str) -> Any:  # noqa: ANN401  # typer's own class for options
    return typer.Option("--out", metavar="DIR", help=f"Write {files} into this folder.")


def _output(suffixes: str) -> Any:  # noqa: ANN401  # typer's own class for options
    return typer.Option("-o", "--output", metavar="FILE", help=f"File to write: {suffixes}.")


def _list(name: str, values: str) -> Any:  # noqa: ANN401  # typer's own class for options
    return typer.Option(name, metavar="A,B,...", help=f"{values}; may be given several times.")


Scenario = Annotated[
    str, typer.Argument(help="A scenario file, or the name of a bundled scenario.", metavar="SCENARIO")
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a key of the scenario, for example --set model.top_k=1; may be given several times.",
    ),
]
Trace = Annotated[
    str | None,
    typer.Option(
        "--trace",
        metavar="FILE",
        help="Replay this recording: stands for routing.kind=trace and routing.file=FILE, wherever FILE is.",
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Replace the scenario's seed.", min=0, max=MAX_COUNT)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="FILE|URL",
        help="Keep results in this SQLite file or SQLAlchemy URL, and take from it what is finished.",
    ),
]
Jobs = Annotated[
    int | None, typer.Option("--jobs", min=1, help="Number of processes; without it, the number of cores.")
]


# ---- commands ----------------------------------------------------------------------------------------------------


COMMANDS: Final[dict[str, Callable[..., None]]] = {}
"""Dotted name of the function that does the work of a command -> the command's declaration."""


def _command(
    function: str, example: str, *, name: str | None = None, group: typer.Typer = app
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command; the decorated function declares its name, arguments and help, `function` does the work.

    The module of `function` is imported when the command runs, so that `--help` loads nothing heavy. Arguments that
    were not given and have no default are left out.
    """
    module, _, attribute = function.rpartition(".")

    def register(declaration: Callable[..., None]) -> Callable[..., None]:
        COMMANDS[function] = declaration

        @group.command(name, epilog=f"Example: moesim {example}")
        @wraps(declaration)
        def run(**arguments: Any) -> None:  # noqa: ANN401  # as declared
            given = {key: value for key, value in arguments.items() if value is not None}
            raise typer.Exit(getattr(_imported(module), attribute)(**given) or 0)

        return declaration

    return register


def _imported(module: str) -> ModuleType:
    """Import what a command needs, with the collector of cycles paused: a module makes many objects that all stay."""
    if module in sys.modules:
        return sys.modules[module]
    gc.disable()
    try:
        return import_module(module)
    finally:
        gc.freeze()  # the collector need not look at them again
        gc.enable()


def _print_version(version: bool) -> None:
    if version:
        from sim import __version__  # noqa: PLC0415  # only where it is printed

        typer.echo(f"moesim {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""
    del version


@_command("sim.cli.run.run_command", "run ep64_tp16_pp4 --set model.top_k=1 --out out/")
def run(
    scenario: Scenario,
    changes: Changes = None,
    trace: Trace = None,
    seed: Seed = None,
    as_json: Json = False,
    out: Annotated[
        str | None, _out("result.json, report.html, trace.npz, trace.json, further arrays and pictures")
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Exit with 1 when a claim is refuted or depends, or when memory is exceeded."),
    ] = False,
    jobs: Jobs = None,
    max_events: Annotated[
        int | None,
        typer.Option("--max-events", metavar="N", min=1, help="Refuse a simulation that would need more events."),
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option(
            "--max-memory", metavar="SIZE", help='Refuse a simulation that would need more memory, such as "4 GB".'
        ),
    ] = None,
    uncertainty: Annotated[
        bool,
        typer.Option(
            "--uncertainty", help="Give intervals over draws of fitted constants and seeds, and say what moves them."
        ),
    ] = False,
    samples: Annotated[
        int | None, typer.Option("--samples", metavar="N", min=2, max=1000, help="Number of draws; without it 20.")
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print all reasons, metrics, links and assumptions, not a screen.")
    ] = False,
    search: Annotated[
        int | None,
        typer.Option(
            "--search", metavar="N", min=1, help="Search the best strategy in up to N simulations; it becomes a rival."
        ),
    ] = None,
    thorough: Annotated[
        bool,
        typer.Option(
            "--thorough",
            help="Run rivals under every alternative, all changes of parts, seeds with jitter, and each assumption "
            "changed alone: some 200 simulations.",
        ),
    ] = False,
) -> None:
    """Simulate a scenario with its alternatives and rivals, and judge its claims."""


@_command("sim.cli.run.validate_command", "validate schedules --out out/")
def validate(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            help="Bundled suites or cases, `kernels` for measured kernels, or files or folders of your own; without "
            "any, all bundled suites but for their long tables.",
            metavar="[NAME|FILE|FOLDER]...",
        ),
    ] = None,
    as_json: Json = False,
    out: Annotated[
        str | None, _out("validate.json, validate.png and, of suites that rank strategies, ranking.png")
    ] = None,
    jobs: Jobs = None,
    worst: Annotated[
        int | None,
        typer.Option(
            "--worst", metavar="N", min=0, help="Show the N largest errors of each system with where the time goes."
        ),
    ] = None,
) -> None:
    """Compare validation cases with published figures; exit with 1 when a figure is outside its tolerance."""


@_command("sim.cli.why.why_command", "why ep64_tp16_pp4 -o why.png")
def why(
    scenario: Scenario,
    output: Annotated[str | None, _output("a picture .png, .svg or .pdf")] = None,
    changes: Changes = None,
    seed: Seed = None,
    as_json: Json = False,
    jobs: Jobs = None,
) -> None:
    """Say why a step takes as long as it does: its critical path, and what each part being free would gain."""


@_command("sim.cli.why.compare_command", "compare ep64_tp16_pp4 ep16_tp16_pp4 -o compare.png")
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(help="Scenarios, and result.json files of earlier runs; two or more.", metavar="RUN..."),
    ],
    output: Annotated[str | None, _output("a picture .png, .svg or .pdf")] = None,
    changes: Changes = None,
    as_json: Json = False,
) -> None:
    """Show runs next to each other: figures, and differences of time that sum to the whole difference."""


@_command("sim.cli.search.search_command", "search ep64_tp16_pp4 -o best.yaml")
def search(
    scenario: Annotated[
        str | None, typer.Argument(help="A scenario; or none, and flags in its place.", metavar="[SCENARIO]")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="NAME", help="Model, without a scenario.")] = None,
    cluster: Annotated[
        str | None, typer.Option("--cluster", metavar="NAME", help="Cluster preset, without a scenario.")
    ] = None,
    gpus: Annotated[int | None, typer.Option("--gpus", min=1, max=MAX_GPUS, help="GPUs, without a scenario.")] = None,
    training: Annotated[
        bool, typer.Option("--training", help="Train; else a forward pass, without a scenario.")
    ] = False,
    sequences: Annotated[
        int | None, typer.Option("--sequences", min=1, help="Sequences of the global batch, without a scenario.")
    ] = None,
    sequence_length: Annotated[
        int | None, typer.Option("--sequence-length", min=1, help="Tokens of a sequence, without a scenario.")
    ] = None,
    write: Annotated[
        str | None, typer.Option("--write", metavar="FILE", help="Write the scenario that the flags stand for.")
    ] = None,
    fix: Annotated[
        list[str] | None, typer.Option("--fix", metavar="KEY=VALUE", help="Hold a key; may be given several times.")
    ] = None,
    over: Annotated[
        list[str] | None,
        typer.Option("--over", metavar="KEY=A,B", help="Try these values of a key; may be given several times."),
    ] = None,
    gap: Annotated[
        str | None,
        typer.Option(
            "--gap", metavar="SHARE", help='How far above the best possible the result may be, such as "1 %".'
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Most simulations; else as many as it takes.")
    ] = None,
    objective: Annotated[
        str, typer.Option("--objective", help="step_time, tokens_per_s, tokens_per_s_per_gpu or cost.")
    ] = "step_time",
    output: Annotated[str | None, _output("the best strategy as a scenario, .yaml")] = None,
    bounds: Annotated[
        str | None, typer.Option("--bounds", metavar="FILE", help="Write the bound of every strategy, .json.")
    ] = None,
    framework: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Print launch flags of megatron, vllm or sglang.")
    ] = None,
    changes: Changes = None,
    seed: Seed = None,
    store: StoreOption = None,
    as_json: Json = False,
    jobs: Jobs = None,
) -> None:
    """Find the best strategy of all legal ones, and prove how close to the best possible it is."""


@_command("sim.cli.stress.stress_command", "stress zipf_sweep --seeds 2 --out out/")
def stress(
    scenario: Scenario,
    skew: Annotated[list[str] | None, _list("--skew", "Values of routing.skew, instead of the scenario's")] = None,
    capacity: Annotated[
        list[str] | None,
        _list(
            "--capacity",
            "Capacity factors to try, alone and with each placement; 1.25:pad or 1.25:reroute says what happens to "
            "tokens above the capacity",
        ),
    ] = None,
    placement: Annotated[list[str] | None, _list("--placement", "Placements to try, such as greedy,eplb")] = None,
    replicas: Annotated[
        list[str] | None, _list("--replicas", "Numbers of replicas to try with the placement eplb")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, max=100, help="Number of seeds for each point.")
    ] = None,
    changes: Changes = None,
    trace: Trace = None,
    as_json: Json = False,
    out: Annotated[str | None, _out("stress.json, stress.html, stress.png, and results.sqlite, the store,")] = None,
    store: StoreOption = None,
    jobs: Jobs = None,
) -> None:
    """Simulate a scenario at several skews of its routing, under each remedy, and say which remedy helps."""


@_command("sim.cli.sweep.sweep_command", "sweep ep64_tp16_pp4 --grid model.top_k=1,2,4 --out out/")
def sweep(
    scenario: Scenario,
    grid: Annotated[
        list[str],
        typer.Option(
            "--grid",
            metavar="KEY=A,B,...",
            help="A key and its values, for example --grid parallel.tp=1,2,4; every combination of several is a point.",
        ),
    ],
    seeds: Annotated[
        int | None, typer.Option("--seeds", metavar="N", min=1, max=1000, help="Number of seeds of each point.")
    ] = None,
    metric: Annotated[
        list[str] | None, _list("--metric", "Metrics of the table, the first of them drawn, instead of the usual ones")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="METRIC",
            help="Draw the first metric over this metric, a point for each value: throughput over what each user gets.",
        ),
    ] = None,
    changes: Changes = None,
    store: StoreOption = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="dask://HOST:PORT|ray",
            help="Simulate on a Dask or Ray cluster, not in processes of this machine.",
        ),
    ] = None,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Simulate a sample, say what the rest would take, and stop; the sample is kept."),
    ] = False,
    output: Annotated[str | None, _output("a table .csv, .json or .parquet, or a picture .png, .svg or .pdf")] = None,
    out: Annotated[str | None, _out("sweep.json, sweep.csv, sweep.png, and results.sqlite, the store,")] = None,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Simulate a scenario under every combination of some keys' values; exit with 1 where none can be simulated."""


Store = Annotated[
    str, typer.Argument(help="A store: a file such as out/results.sqlite, or a SQLAlchemy URL.", metavar="STORE")
]
Studies = Annotated[
    list[str] | None,
    typer.Option("--study", metavar="ID", help="A study, or the start of its id; may be given several times."),
]


@_command("sim.cli.results.list_command", "results list out/results.sqlite", name="list", group=results)
def results_list(store: Store, as_json: Json = False) -> None:
    """List the studies of a store, with the points that each has simulated."""


@_command("sim.cli.results.show_command", "results show out/results.sqlite 3f2a", name="show", group=results)
def results_show(
    store: Store,
    key: Annotated[str, typer.Argument(help="The key of a point, or its start; `export` has them.", metavar="KEY")],
    as_json: Json = False,
) -> None:
    """Show everything that is kept of one point."""


@_command(
    "sim.cli.results.export_command", "results export out/results.sqlite -o all.csv", name="export", group=results
)
def results_export(
    store: Store,
    output: Annotated[str, _output("a table .csv, .json or .parquet")],
    study: Studies = None,
    as_json: Json = False,
) -> None:
    """Write all points as a table: key, study, changes, every value, the account of time."""


@_command(
    "sim.cli.results.prune_command", "results prune out/results.sqlite --other-versions", name="prune", group=results
)
def results_prune(
    store: Store,
    study: Studies = None,
    other_versions: Annotated[
        bool,
        typer.Option("--other-versions", help="Remove studies of every other version of the program or its sources."),
    ] = False,
    older_than: Annotated[
        float | None, typer.Option("--older-than", metavar="DAYS", min=0, help="Remove studies begun before that.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Remove studies with the points that they simulated; all given conditions must hold."""


@_command("sim.cli.describe.summary_command", "routing summary sglang_sample --ranks 8 --replicas 8", group=routing)
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


@_command(
    "sim.cli.measured.import_trace_command", "import trace operations.csv --out measured/", name="trace", group=measured
)
def import_trace(
    file: Annotated[str, typer.Argument(help="A table of operations, .csv.", metavar="FILE")],
    step: Annotated[
        int | None, typer.Option("--step", min=0, help="The step that --out shows; else the middle one.")
    ] = None,
    as_json: Json = False,
    out: Annotated[
        str | None, _out("result.json, report.html, trace.npz, trace.pftrace and timeline.png of one step")
    ] = None,
) -> None:
    """Replay a job that was measured operation by operation, and say what each kind of straggler costs."""


@_command(
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
    out: Annotated[str | None, _out("result.json, report.html, trace.npz, trace.pftrace and timeline.png")] = None,
) -> None:
    """Read a step that PyTorch's profiler measured, and say where its time went."""


@_command("sim.cli.report.report_command", "report ep64_tp16_pp4 -o report.html")
def report(
    scenario: Annotated[
        str,
        typer.Argument(
            help="A scenario file, the name of a bundled scenario, or a result.json or stress.json.",
            metavar="SCENARIO|RESULT",
        ),
    ],
    output: Annotated[str, _output("a page .html, which is complete in itself")],
    changes: Changes = None,
    trace: Trace = None,
    seed: Seed = None,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Write one HTML file that explains a run: claims and what decided them, timeline, time, memory, links."""


@_command("sim.cli.timeline.timeline_command", "timeline ep64_tp16_pp4 -o timeline.svg")
def timeline(
    scenarios: Annotated[
        list[str],
        typer.Argument(
            help="Scenario files, or names of bundled scenarios; several are drawn on one axis of time.",
            metavar="SCENARIO...",
        ),
    ],
    output: Annotated[str, _output("a picture .png, .svg or .pdf, or .pftrace or .json for Perfetto")],
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
    """Draw the pipeline of scenarios, without their alternatives and claims."""


@_command("sim.cli.timeline.schedules_command", "schedules ep64_tp16_pp4_training -o schedules.png")
def schedules(
    scenario: Scenario,
    output: Annotated[str | None, _output("a picture .png, .svg or .pdf")] = None,
    changes: Changes = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Run the work of a scenario under every schedule: time, bubble, memory, and one picture."""


@_command("sim.cli.topology.topology_command", "topology ep64_tp16_pp4 -o fabric.png")
def topology(
    scenario: Scenario,
    output: Annotated[str | None, _output("a picture .png, .svg or .pdf, or a graph .graphml or .yaml")] = None,
    changes: Changes = None,
    load: Annotated[
        str | None,
        typer.Option("--load", metavar="RESULT", help="Colour the links by their use in this result.json of a run."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the cluster of a scenario: its kinds of links, and a picture."""


@_command("sim.cli.describe.explain_command", "explain EP64_TP16_PP4 --gpus 64")
def explain(
    strategy: Annotated[str, typer.Argument(help="A strategy's name, such as EP64_TP16_PP4.", metavar="STRATEGY")],
    gpus: Annotated[int, typer.Option("--gpus", min=1, max=MAX_GPUS, help="Number of GPUs of the cluster.")] = 64,
    gpus_per_node: Annotated[
        int, typer.Option("--gpus-per-node", min=1, max=MAX_GPUS, help="Number of GPUs of a node.")
    ] = 8,
    as_json: Json = False,
) -> None:
    """Show the mesh of a strategy under each convention, or why it is illegal and which legal names are near."""


@_command("sim.cli.listing.list_command", "list presets", name="list")
def list_(
    what: Annotated[str, typer.Argument(help="presets, models, schedules, metrics or scenarios.", metavar="WHAT")],
    as_json: Json = False,
) -> None:
    """List the names that a scenario may use."""


@_command("sim.cli.listing.schema_command", "schema > moesim.schema.json")
def schema(as_json: Annotated[bool, typer.Option("--json", help="The schema is JSON in any case.")] = False) -> None:
    """Print the JSON Schema of a scenario, with which editors complete and check a scenario file."""


@_command("sim.cli.listing.init_command", "init mine.yaml && moesim run mine.yaml")
def init(
    file: Annotated[str, typer.Argument(help="File to write; it must not exist.", metavar="FILE")],
    as_json: Json = False,
) -> None:
    """Write a commented scenario to start from."""
