"""The commands of studies, and of the store that keeps their results: search, stress, sweep, results."""

from typing import Annotated

import typer

from sim.cli.declare import (
    Changes,
    Jobs,
    Json,
    Scenario,
    Seed,
    StoreOption,
    Trace,
    command,
    list_option,
    out_option,
    output_option,
    results,
)
from topology.limits import MAX_GPUS

__all__ = ["results_export", "results_list", "results_prune", "results_show", "search", "stress", "sweep"]


@command("sim.cli.search.search_command", "search ep64_tp16_pp4 -o best.yaml")
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
    output: Annotated[str | None, output_option("the best strategy as a scenario, .yaml")] = None,
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


@command("sim.cli.stress.stress_command", "stress zipf_sweep --seeds 2 --out out/")
def stress(
    scenario: Scenario,
    skew: Annotated[
        list[str] | None, list_option("--skew", "Values of routing.skew, instead of the scenario's")
    ] = None,
    capacity: Annotated[
        list[str] | None,
        list_option(
            "--capacity",
            "Capacity factors to try, alone and with each placement; 1.25:pad or 1.25:reroute says what happens to "
            "tokens above the capacity",
        ),
    ] = None,
    placement: Annotated[list[str] | None, list_option("--placement", "Placements to try, such as greedy,eplb")] = None,
    replicas: Annotated[
        list[str] | None, list_option("--replicas", "Numbers of replicas to try with the placement eplb")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, max=100, help="Number of seeds for each point.")
    ] = None,
    changes: Changes = None,
    trace: Trace = None,
    as_json: Json = False,
    out: Annotated[
        str | None, out_option("stress.json, stress.html, stress.png, and results.sqlite, the store,")
    ] = None,
    store: StoreOption = None,
    jobs: Jobs = None,
) -> None:
    """Simulate a scenario at several skews of its routing, under each remedy, and say which remedy helps."""


@command("sim.cli.sweep.sweep_command", "sweep ep64_tp16_pp4 --grid model.top_k=1,2,4 --out out/")
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
        list[str] | None,
        list_option("--metric", "Metrics of the table, the first of them drawn, instead of the usual ones"),
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
    output: Annotated[
        str | None, output_option("a table .csv, .json or .parquet, or a picture .png, .svg or .pdf")
    ] = None,
    out: Annotated[str | None, out_option("sweep.json, sweep.csv, sweep.png, and results.sqlite, the store,")] = None,
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


@command("sim.cli.results.list_command", "results list out/results.sqlite", name="list", group=results)
def results_list(store: Store, as_json: Json = False) -> None:
    """List the studies of a store, with the points that each has simulated."""


@command("sim.cli.results.show_command", "results show out/results.sqlite 3f2a", name="show", group=results)
def results_show(
    store: Store,
    key: Annotated[str, typer.Argument(help="The key of a point, or its start; `export` has them.", metavar="KEY")],
    as_json: Json = False,
) -> None:
    """Show everything that is kept of one point."""


@command("sim.cli.results.export_command", "results export out/results.sqlite -o all.csv", name="export", group=results)
def results_export(
    store: Store,
    output: Annotated[str, output_option("a table .csv, .json or .parquet")],
    study: Studies = None,
    as_json: Json = False,
) -> None:
    """Write all points as a table: key, study, changes, every value, the account of time."""


@command(
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
