"""The commands that run scenarios and explain the results: run, validate, why, compare."""

from typing import Annotated

import typer

from sim.cli.declare import Changes, Jobs, Json, Scenario, Seed, Trace, command, out_option, output_option

__all__ = ["compare", "run", "validate", "why"]


@command("sim.cli.run.run_command", "run ep64_tp16_pp4 --set model.top_k=1 --out out/")
def run(
    scenario: Scenario,
    changes: Changes = None,
    trace: Trace = None,
    seed: Seed = None,
    as_json: Json = False,
    out: Annotated[
        str | None, out_option("result.json, report.html, trace.npz, trace.json, further arrays and pictures")
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Exit with 1 when a claim is refuted or depends, or when memory is exceeded."),
    ] = False,
    jobs: Jobs = None,
    max_events: Annotated[
        int | None,
        typer.Option(
            "--max-events",
            metavar="N",
            min=1,
            help="Refuse a simulation before it runs, if its minimum or estimate of events is more.",
        ),
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option(
            "--max-memory",
            metavar="SIZE",
            help='Refuse a simulation before it runs, if its minimum or estimate of memory is more, such as "4 GB".',
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


@command("sim.cli.run.validate_command", "validate schedules --out out/")
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
        str | None, out_option("validate.json, validate.png and, of suites that rank strategies, ranking.png")
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


@command("sim.cli.why.why_command", "why ep64_tp16_pp4 -o why.png")
def why(
    scenario: Scenario,
    output: Annotated[str | None, output_option("a picture .png, .svg or .pdf")] = None,
    changes: Changes = None,
    seed: Seed = None,
    as_json: Json = False,
    jobs: Jobs = None,
) -> None:
    """Say why a step takes as long as it does: its critical path, and what each part being free would gain."""


@command("sim.cli.why.compare_command", "compare ep64_tp16_pp4 ep16_tp16_pp4 -o compare.png")
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(help="Scenarios, and result.json files of earlier runs; two or more.", metavar="RUN..."),
    ],
    output: Annotated[str | None, output_option("a picture .png, .svg or .pdf, or a page .html")] = None,
    changes: Changes = None,
    as_json: Json = False,
) -> None:
    """Show runs next to each other: figures, differences of time that sum to the whole difference, and timelines."""
