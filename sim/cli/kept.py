"""The store of a study: where `--store` and `--out` put it, and what is said of it when the study is interrupted."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import typer

from sim.cli.steps import named_path
from sim.studies.store.open_database import IN_MEMORY, named

__all__ = ["name_store_on_interrupt", "store_of"]

_STORE: Final = "results.sqlite"
"""File in the folder of `--out` with the results."""


def store_of(store: str | None, folder: Path | None) -> str:
    """Return the path or URL of a store: of `--store`, else in the folder of `--out`, else one of this process."""
    if store is not None:
        named_path("--store", store, "--store results.sqlite")
        return store
    if folder is None:
        return IN_MEMORY
    return str(folder / _STORE)


@contextmanager
def name_store_on_interrupt(where: str) -> Iterator[None]:
    """Print which store holds the points that are done, where the command is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        if where != IN_MEMORY and ("://" in where or Path(where).exists()):
            typer.echo(
                f"Points that are done are kept in {named(where)}: the same command goes on from there.", err=True
            )
        raise
