"""`moesim init`: a commented scenario to start from."""

import json
from pathlib import Path

import typer

from sim.errors import InputError, OutputError
from sim.scenario.starter import STARTER

__all__ = ["init_command"]


def init_command(file: Path, *, as_json: bool) -> None:
    """Write the starter to `file`, which must not exist."""
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
