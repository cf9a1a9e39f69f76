"""`moesim init`: a commented scenario to start from."""

import json

import typer

from sim.cli.paths import named_path
from sim.errors import InputError, OutputError
from sim.scenario.starter import STARTER

__all__ = ["init_command"]


def init_command(name: str, *, as_json: bool) -> None:
    """Write the starter to the file called `name`, which must not exist."""
    file = named_path("FILE", name, "For example: moesim init mine.yaml")
    if file.suffix not in (".yaml", ".yml"):
        raise InputError(
            field="FILE",
            rule="end in .yaml",
            value=str(file),
            cure=f"For example: moesim init {file.stem or 'mine'}.yaml",
        )
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(STARTER)
    except FileExistsError:
        raise InputError(
            field="FILE", rule="not exist yet", value=str(file), cure="Choose another name; nothing was overwritten."
        ) from None
    except OSError as error:
        cure = "Choose a folder that exists and can be written."
        raise OutputError(file=str(file), reason=error.strerror or str(error), cure=cure) from error
    typer.echo(json.dumps({"written": str(file)}) if as_json else f"Wrote {file}. Next: moesim run {file}")
