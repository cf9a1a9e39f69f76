"""How commands are declared: the program, its groups of commands, arguments of several commands."""

import gc
import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from types import ModuleType
from typing import Annotated, Any, Final

import typer

from topology.limits import MAX_COUNT

__all__ = [
    "COMMANDS",
    "Changes",
    "Jobs",
    "Json",
    "Scenario",
    "Seed",
    "StoreOption",
    "Trace",
    "app",
    "command",
    "list_option",
    "measured",
    "out_option",
    "output_option",
    "results",
    "routing",
]

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


def out_option(files: str) -> Any:  # noqa: ANN401  # typer's own class for options
    """Return the option `--out`, the folder that a command writes some files into."""
    return typer.Option("--out", metavar="DIR", help=f"Write {files} into this folder.")


def output_option(suffixes: str) -> Any:  # noqa: ANN401  # typer's own class for options
    """Return the option `--output`, a file of one of some kinds."""
    return typer.Option("-o", "--output", metavar="FILE", help=f"File to write: {suffixes}.")


def list_option(name: str, values: str) -> Any:  # noqa: ANN401  # typer's own class for options
    """Return an option of several values, with commas between."""
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


# ---- registration ----------------------------------------------------------------------------------------------------


COMMANDS: Final[dict[str, Callable[..., None]]] = {}
"""Dotted name of the function that does the work of a command -> the command's declaration."""


def command(
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
