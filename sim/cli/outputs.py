"""Where a command shall write: checked before anything is simulated, and nothing is made by the check.

What the check finds in order may still fail when it is written to: a disk fills up, a folder goes. That is told then.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from sim.cli.paths import named_path
from sim.errors import InvalidValueError, OutputError
from sim.report.files import OUTPUT_NAMES

__all__ = ["output_file", "output_folder"]

_HINT = "Choose a folder that can be written."


def output_folder(text: str, names: Mapping[str, str] = OUTPUT_NAMES) -> Path:
    """Return the folder of `--out`, which need not exist yet; files called `names` are to be written into it.

    Raises
    ------
    InvalidValueError
        It has no name.
    OutputError
        It could not be made, or the files of a run could not be written into it.
    """
    folder = named_path("--out", text, "For example: --out out/")
    _check_folder(folder, told=folder)
    for name in names.values():
        _check_no_folder(folder / name)
    return folder


def output_file(text: str, suffixes: Sequence[str]) -> Path:
    """Return the file of `--output`, whose folder must exist.

    Raises
    ------
    InvalidValueError
        It has no name, or none that ends in one of `suffixes`.
    OutputError
        It could not be written.
    """
    file = named_path("--output", text, "For example: -o out.png")
    if file.suffix not in suffixes:
        rule = f"end in one of {', '.join(suffixes)}"
        raise InvalidValueError(field="--output", rule=rule, value=text, hint="For example: -o out.png")
    if not _exists(file.parent, told=file):
        raise OutputError(file=str(file), reason="No such folder", hint="Make its folder, or choose another.")
    _check_folder(file.parent, told=file)
    _check_no_folder(file)
    return file


def _check_folder(folder: Path, *, told: Path) -> None:
    """Refuse a folder that cannot be written, or could not be made."""
    there = next(place for place in (folder, *folder.parents) if _exists(place, told=told))
    if not there.is_dir():
        reason = "Not a folder" if there == told else f"{there} is not a folder"
        raise OutputError(file=str(told), reason=reason, hint=_HINT)
    if not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(file=str(told), reason="Permission denied", hint=_HINT)


def _check_no_folder(file: Path) -> None:
    """Refuse a file in whose place there is a folder."""
    if _exists(file, told=file) and file.is_dir():
        raise OutputError(file=str(file), reason="Is a directory", hint="Remove it, or choose another name.")


def _exists(path: Path, *, told: Path) -> bool:
    """Return whether there is something at a path; refuse one that cannot be."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return path.is_symlink()
    except OSError as error:
        raise OutputError(file=str(told), reason=error.strerror or str(error), hint=_HINT) from None
    return True
