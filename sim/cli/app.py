"""All commands, with their arguments and an example each; what they do stands in modules of their own."""

from typing import Annotated, Final

import typer

from topology.limits import MAX_GPUS

__all__ = ["app"]

app = typer.Typer(
    name="moesim",
    help="Simulate GPU clusters that run mixture-of-experts language models, and judge claims about them.",
    epilog="Example: moesim run ep64_tp16_pp4 --out out/",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

MAX_SEED: Final = 10**12
"""No count of a scenario is larger."""

ScenarioArgument = Annotated[
    str, typer.Argument(help="A scenario file, or the name of a bundled one.", metavar="SCENARIO")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key, for example --set model.top_k=1 (repeatable)."),
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Replace the scenario's seed.", min=0, max=MAX_SEED)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from sim import __version__  # noqa: PLC0415  # see sim.cli

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


@app.command(epilog="Example: moesim run ep64_tp16_pp4 --set model.top_k=1 --out out/")
def run(
    scenario: ScenarioArgument,
    changes: SetOption = None,
    seed: SeedOption = None,
    as_json: JsonOption = False,
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="DIR", help="Write result.json, trace.npz, trace.json, pairs.npz and pictures."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 1 when a claim is refuted or depends, or memory is exceeded.")
    ] = False,
    jobs: Annotated[int | None, typer.Option("--jobs", min=1, help="Processes; default: all cores.")] = None,
    max_events: Annotated[
        int | None,
        typer.Option("--max-events", metavar="N", min=1, help="Refuse a simulation that would need more events."),
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option("--max-memory", metavar="SIZE", help='Refuse one that would need more, such as "4 GB".'),
    ] = None,
) -> None:
    """Simulate a scenario with its alternatives and rivals, and judge its claims."""
    from sim.cli.run import run_command  # noqa: PLC0415  # heavy imports wait until a command needs them

    code = run_command(
        scenario,
        changes=changes or [],
        seed=seed,
        as_json=as_json,
        out=out,
        check=check,
        jobs=jobs,
        max_events=max_events,
        max_memory=max_memory,
    )
    raise typer.Exit(code)


@app.command(epilog="Example: moesim validate schedules --out out/")
def validate(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            help="Bundled suites or cases, files or folders of your own; default: all bundled suites.",
            metavar="[NAME|FILE|FOLDER]...",
        ),
    ] = None,
    as_json: JsonOption = False,
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="Write validate.json and validate.png.")
    ] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", min=1, help="Processes; default: all cores.")] = None,
) -> None:
    """Hold validation cases against published figures; exit with 1 when one is not within its tolerance."""
    from sim.cli.validate import validate_command  # noqa: PLC0415  # heavy imports wait until a command needs them

    raise typer.Exit(validate_command(targets or [], as_json=as_json, out=out, jobs=jobs))


@app.command(epilog="Example: moesim stress zipf_sweep --seeds 2 --out out/")
def stress(
    scenario: ScenarioArgument,
    skew: Annotated[
        list[str] | None,
        typer.Option(
            "--skew", metavar="A,B,...", help="Values of routing.skew, instead of the scenario's; repeatable."
        ),
    ] = None,
    capacity: Annotated[
        list[str] | None,
        typer.Option(
            "--capacity",
            metavar="A,B,...",
            help="Capacity factors to try, alone and with each placement; 1.25:pad and 1.25:reroute say what "
            "becomes of more tokens; repeatable.",
        ),
    ] = None,
    placement: Annotated[
        list[str] | None,
        typer.Option("--placement", metavar="A,B,...", help="Placements to try, such as greedy,eplb; repeatable."),
    ] = None,
    replicas: Annotated[
        list[str] | None,
        typer.Option("--replicas", metavar="A,B,...", help="Replicas to try with placement eplb; repeatable."),
    ] = None,
    seeds: Annotated[int | None, typer.Option("--seeds", min=1, max=100, help="Seeds of each point.")] = None,
    changes: SetOption = None,
    as_json: JsonOption = False,
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="DIR", help="Write stress.json, stress.png; points done there are kept."),
    ] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", min=1, help="Processes; default: all cores.")] = None,
) -> None:
    """Simulate a scenario at several skews of its routing, under each remedy, and say which helps."""
    from sim.cli.stress import stress_command  # noqa: PLC0415  # heavy imports wait until a command needs them

    stress_command(
        scenario,
        skew=skew or [],
        capacity=capacity or [],
        placement=placement or [],
        replicas=replicas or [],
        seeds=seeds,
        changes=changes or [],
        as_json=as_json,
        out=out,
        jobs=jobs,
    )


routing = typer.Typer(name="routing", help="Describe recorded traces of routing.", no_args_is_help=True)
app.add_typer(routing, epilog="Example: moesim routing summary trace.csv")


@routing.command(epilog="Example: moesim routing summary trace.csv --ranks 8 --replicas 8")
def summary(
    file: Annotated[str, typer.Argument(help="A recording: .csv, .npz or .parquet.", metavar="FILE")],
    ranks: Annotated[
        int | None, typer.Option("--ranks", min=1, help="Also the busiest of so many ranks, by placement and at best.")
    ] = None,
    replicas: Annotated[
        int | None, typer.Option("--replicas", min=0, help="Replicas that these ranks hold, placed by EPLB.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show how uneven a recorded trace is, layer by layer: max/mean, Gini, entropy, coefficient of variation."""
    from sim.cli.routing import summary_command  # noqa: PLC0415  # heavy imports wait until a command needs them

    summary_command(file, ranks=ranks, replicas=replicas, as_json=as_json)


@app.command(epilog="Example: moesim timeline ep64_tp16_pp4 -o timeline.svg")
def timeline(
    scenario: ScenarioArgument,
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help=".png, .svg or .pdf; .json for Perfetto.")
    ],
    changes: SetOption = None,
    seed: SeedOption = None,
    window: Annotated[
        tuple[float, float] | None, typer.Option("--window", metavar="FROM TO", help="Part to draw, in ms.")
    ] = None,
    lane: Annotated[int, typer.Option("--lane", min=0, help="Lane to draw where a stage has several.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Draw the pipeline of a scenario, without its alternatives and claims."""
    from sim.cli.timeline import timeline_command  # noqa: PLC0415  # heavy imports wait until a command needs them

    timeline_command(
        scenario, output=output, changes=changes or [], seed=seed, window_ms=window, lane=lane, as_json=as_json
    )


@app.command(epilog="Example: moesim schedules ep64_tp16_pp4_training -o schedules.png")
def schedules(
    scenario: ScenarioArgument,
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FILE", help="Picture: .png, .svg or .pdf.")
    ] = None,
    changes: SetOption = None,
    seed: SeedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the work of a scenario under every schedule: time, bubble, memory, and one picture."""
    from sim.cli.schedules import schedules_command  # noqa: PLC0415  # heavy imports wait until a command needs them

    schedules_command(scenario, output=output, changes=changes or [], seed=seed, as_json=as_json)


@app.command(epilog="Example: moesim topology ep64_tp16_pp4 -o fabric.png")
def topology(
    scenario: ScenarioArgument,
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="FILE", help="Picture .png, .svg, .pdf; or graph .graphml, .yaml."),
    ] = None,
    changes: SetOption = None,
    load: Annotated[
        str | None, typer.Option("--load", metavar="RESULT", help="Colour links by their use in this result.json.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the cluster of a scenario: its kinds of links, and a picture."""
    from sim.cli.topology import topology_command  # noqa: PLC0415  # heavy imports wait until a command needs them

    topology_command(scenario, output=output, changes=changes or [], load=load, as_json=as_json)


@app.command(epilog="Example: moesim explain EP64_TP16_PP4 --gpus 64")
def explain(
    strategy: Annotated[str, typer.Argument(help="A strategy's name, such as EP64_TP16_PP4.", metavar="STRATEGY")],
    gpus: Annotated[int, typer.Option("--gpus", min=1, max=MAX_GPUS, help="GPUs of the cluster.")] = 64,
    gpus_per_node: Annotated[int, typer.Option("--gpus-per-node", min=1, max=MAX_GPUS, help="GPUs of a node.")] = 8,
    as_json: JsonOption = False,
) -> None:
    """Show the mesh of a strategy under each convention, why it is illegal where it is, and legal names near it."""
    from sim.cli.explain import explain_command  # noqa: PLC0415  # heavy imports wait until a command needs them

    explain_command(strategy, num_gpus=gpus, gpus_per_node=gpus_per_node, as_json=as_json)


@app.command("list", epilog="Example: moesim list presets")
def list_(
    what: Annotated[str, typer.Argument(help="presets, models, schedules, metrics or scenarios.", metavar="WHAT")],
    as_json: JsonOption = False,
) -> None:
    """List what names a scenario may use."""
    from sim.cli.listing import list_command  # noqa: PLC0415  # heavy imports wait until a command needs them

    list_command(what, as_json=as_json)


@app.command(epilog="Example: moesim schema > moesim.schema.json")
def schema(as_json: Annotated[bool, typer.Option("--json", help="The schema is JSON in any case.")] = False) -> None:
    """Print the JSON Schema of a scenario, with which editors complete one."""
    del as_json
    import json  # noqa: PLC0415  # heavy imports wait until a command needs them

    from sim.scenario.json_schema import json_schema  # noqa: PLC0415

    typer.echo(json.dumps(json_schema(), indent=2))


@app.command(epilog="Example: moesim init mine.yaml && moesim run mine.yaml")
def init(
    file: Annotated[str, typer.Argument(help="File to write; it must not exist.", metavar="FILE")],
    as_json: JsonOption = False,
) -> None:
    """Write a commented scenario to start from."""
    from sim.cli.starting import init_command  # noqa: PLC0415  # heavy imports wait until a command needs them

    init_command(file, as_json=as_json)
