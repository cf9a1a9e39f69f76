"""The steps that commands share: check the arguments and the output, show progress, print the result.

The output of a command is checked before anything is simulated, and the check creates nothing. An output that passes
the check may still fail later, when the disk fills up or a folder is removed; that error is reported when it happens.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import typer
from rich.console import Console
from rich.progress import Progress

from sim.errors import InvalidValueError, KeyPath, OutputError, dotted, shown
from sim.report.console.tables import make_console
from sim.results.quantities import format_quantity
from sim.run.resources import Resources
from sim.run.saved import is_saved
from sim.scenario.places import key_path

__all__ = [
    "check_changes",
    "check_unsaved",
    "named_path",
    "num_processes",
    "output_file",
    "output_folder",
    "print_json",
    "print_result",
    "say_long_run",
    "show_progress",
    "trace_file",
]

_HINT: Final = "Choose a folder that can be written."


def check_changes(changes: Sequence[str], seed: int | None = None, trace: str | None = None) -> None:
    """Refuse a key that two of the arguments `--set KEY=VALUE`, `--seed` and `--trace` set.

    Raises
    ------
    InvalidValueError
        Both arguments are named.

    Examples
    --------
    >>> check_changes(["model.top_k=1", "model.top_k=2"])
    Traceback (most recent call last):
    sim.errors.InvalidValueError: model.top_k must be set once, got a second value. Remove --set model.top_k=1 ...
    """
    arguments = [(change.partition("=")[0].strip(), f"--set {shown(change)}") for change in changes]
    arguments += [] if seed is None else [("seed", f"--seed {seed}")]
    arguments += [] if trace is None else [(f"routing.{key}", "--trace") for key in ("kind", "file")]
    first: dict[KeyPath, str] = {}
    for key, argument in arguments:
        path = key_path(key)
        if path in first:
            hint = f"Remove {first[path]} or {argument}."
            raise InvalidValueError(
                field=dotted(path) or "--set", rule="be set once", value="a second value", hint=hint
            )
        first[path] = argument


def check_unsaved(
    sources: Sequence[str], changes: Sequence[str] = (), seed: int | None = None, trace: str | None = None
) -> None:
    """Refuse `--set`, `--seed` and `--trace` where a source is a saved result, for it is not simulated again.

    Raises
    ------
    InvalidValueError
        One of them is given with such a source.
    """
    given = [
        field
        for field, value in (("--set", changes or None), ("--trace", trace), ("--seed", seed))
        if value is not None
    ]
    saved = [source for source in sources if is_saved(source)]
    if given and saved:
        hint = "A saved result cannot be changed: name its scenario."
        raise InvalidValueError(field=given[0], rule="be left out for a saved result", value=saved[0], hint=hint)


def named_path(field: str, text: str, example: str) -> Path:
    """Return the path of an argument, with `~` at its start replaced; an empty text would be the current folder."""
    if not text.strip():
        raise InvalidValueError(field=field, rule="be a path", value="an empty text", hint=f"For example: {example}")
    try:
        return Path(text).expanduser()
    except RuntimeError:  # there is no user of that name
        return Path(text)


def trace_file(text: str | None) -> Path | None:
    """Return the recording of `--trace`, a path or the name of a bundled recording; None without `--trace`."""
    if text is None:
        return None
    from sim.scenario.recordings import find_recording  # noqa: PLC0415  # most runs need no recording

    named_path("--trace", text, "--trace routing.csv")
    return find_recording(text)


def output_folder(text: str | None, names: Mapping[str, str]) -> Path | None:
    """Return the folder of `--out`, which need not exist yet; None without `--out`.

    Parameters
    ----------
    text
        The argument.
    names
        Names of the files that will be written into the folder, as values.

    Raises
    ------
    InvalidValueError
        The folder has no name.
    OutputError
        The folder could not be created, or the files could not be written into it.
    """
    if text is None:
        return None
    folder = named_path("--out", text, "--out out/")
    _check_folder(folder, output=folder)
    for name in names.values():
        _check_no_folder(folder / name)
    return folder


def output_file(text: str, suffixes: Sequence[str]) -> Path:
    """Return the file of `--output`, whose folder must exist.

    Raises
    ------
    InvalidValueError
        The file has no name, or a name that ends in none of `suffixes`.
    OutputError
        The file could not be written.
    """
    example = f"-o out{'.png' if '.png' in suffixes else suffixes[0]}"
    file = named_path("--output", text, example)
    if file.suffix not in suffixes:
        rule = f"end in one of {', '.join(suffixes)}"
        raise InvalidValueError(field="--output", rule=rule, value=text, hint=f"For example: {example}")
    if not _exists(file.parent, output=file):
        raise OutputError(file=str(file), reason="No such folder", hint="Make its folder, or choose another.")
    _check_folder(file.parent, output=file)
    _check_no_folder(file)
    return file


def num_processes(jobs: int | None) -> int:
    """Return the number of processes of `--jobs`; without `--jobs` the number of cores."""
    return jobs or os.cpu_count() or 1


def say_long_run(expected: Resources, num_simulations: int) -> None:
    """Say on standard error how much time and memory a long run is expected to take."""
    time_s, memory = format_quantity(expected.cpu_s, "s"), format_quantity(expected.memory_bytes, "B")
    operations = f"({expected.num_ops:,} operations)"
    variants = "" if num_simulations == 1 else f"; {num_simulations - 1} variants are simulated too"
    typer.echo(f"expected: about {time_s} of processor time and {memory} of memory {operations}{variants}", err=True)


@contextmanager
def show_progress() -> Iterator[Callable[[int, int], None]]:
    """Show how many simulations have ended on standard error, where it is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, total: None
        return
    # a display that refreshes itself runs a thread, and a process with threads is not forked (`sim.run.parallel_runs`)
    with Progress(console=console, transient=True, auto_refresh=False) as progress:
        task = progress.add_task("simulations", total=None)
        progress.refresh()
        yield lambda done, total: progress.update(task, completed=done, total=total, refresh=True)


def print_json(data: object, *, indent: int | None = 1) -> None:
    """Print one JSON object, as `--json` of every command does."""
    typer.echo(json.dumps(data, indent=indent, allow_nan=False, ensure_ascii=False))


def print_result(data: Mapping[str, Any], print_tables: Callable[..., None], *, as_json: bool, **more: object) -> None:
    """Print the data of a command as JSON, or as tables by `print_tables(data, console, **more)`."""
    if as_json:
        print_json(data)
    else:
        print_tables(data, make_console(), **more)


# ---- private -----------------------------------------------------------------------------------------------------


def _check_folder(folder: Path, *, output: Path) -> None:
    """Refuse a folder that cannot be written or created; the message names `output`."""
    existing = next(path for path in (folder, *folder.parents) if _exists(path, output=output))
    if not existing.is_dir():
        reason = "Not a folder" if existing == output else f"{existing} is not a folder"
        raise OutputError(file=str(output), reason=reason, hint=_HINT)
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(file=str(output), reason="Permission denied", hint=_HINT)


def _check_no_folder(file: Path) -> None:
    """Refuse a file whose name a folder has."""
    if _exists(file, output=file) and file.is_dir():
        raise OutputError(file=str(file), reason="Is a directory", hint="Remove it, or choose another name.")


def _exists(path: Path, *, output: Path) -> bool:
    """Return whether a path exists; refuse a path that cannot exist, such as one with too long a name."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return path.is_symlink()
    except OSError as error:
        raise OutputError(file=str(output), reason=error.strerror or str(error), hint=_HINT) from None
    return True
