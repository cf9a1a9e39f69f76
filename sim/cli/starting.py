"""`moesim init`: a commented scenario to start from."""

import json

import typer

from sim.cli.paths import named_path
from sim.errors import InvalidValueError, OutputError
from sim.scenario.starter import STARTER

__all__ = ["init_command"]


def init_command(name: str, *, as_json: bool) -> None:
    """Write the starter to the file called `name`, which must not exist."""
    file = named_path("FILE", name, "For example: moesim init mine.yaml")
    if file.suffix not in (".yaml", ".yml"):
        raise InvalidValueError(
            field="FILE",
            rule="end in .yaml",
            value=str(file),
            hint=f"For example: moesim init {file.stem or 'mine'}.yaml",
        )
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(STARTER)
    except FileExistsError:
        raise InvalidValueError(
            field="FILE", rule="not exist yet", value=str(file), hint="Choose another name; nothing was overwritten."
        ) from None
    except OSError as error:
        hint = "Choose a folder that exists and can be written."
        raise OutputError(file=str(file), reason=error.strerror or str(error), hint=hint) from error
    typer.echo(json.dumps({"written": str(file)}) if as_json else f"Wrote {file}. Next: moesim run {file}")
