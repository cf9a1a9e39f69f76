"""The scenarios that come with the program, and the suites of validation cases among them.

A suite is a folder below `validation/`; its files are scenarios with `published` figures, but for `suite.yaml`, which
says what the suite is. Cases are scenarios too and run like any other, but are found only where no ordinary scenario
has the name, and are listed apart.
"""

import importlib.resources
from pathlib import Path
from typing import Final

__all__ = ["SUITE_FILE", "bundled_folder", "find_bundled", "list_bundled", "list_cases", "list_suites", "suites_folder"]

SUITE_FILE: Final = "suite.yaml"
"""The file of a suite that is no case."""

_SUITES: Final = "validation"


def bundled_folder() -> Path:
    """Return the folder of bundled scenarios: package data when installed, `scenarios/` in a checkout."""
    installed = Path(str(importlib.resources.files("sim.scenario"))).parent / "_scenarios"
    return installed if installed.is_dir() else Path(__file__).resolve().parents[2] / "scenarios"


def suites_folder() -> Path:
    """Return the folder of the bundled suites."""
    return bundled_folder() / _SUITES


def list_bundled() -> list[str]:
    """Return the names of the bundled scenarios, in order, with their folders; cases are not among them."""
    return [name for name in _names(bundled_folder()) if name.partition("/")[0] != _SUITES]


def list_suites() -> list[str]:
    """Return the names of the bundled suites, in order."""
    return sorted({name.partition("/")[0] for name in list_cases()})


def list_cases() -> list[str]:
    """Return the names of the bundled validation cases, in order, with their suite: `schedules/zero_bubble`."""
    return [name for name in _names(suites_folder()) if "/" in name]


def find_bundled(name: str) -> Path | None:
    """Return the file of a bundled scenario or case, named with or without folder and `.yaml`; None: none."""
    wanted = name.removesuffix(".yaml")
    cases = [f"{_SUITES}/{case}" for case in list_cases()]
    for names in (list_bundled(), cases):
        matches = [n for n in names if n == wanted] or [n for n in names if n.endswith(f"/{wanted}")]
        if matches:
            return bundled_folder() / f"{matches[0]}.yaml" if len(matches) == 1 else None
    return None


def _names(folder: Path) -> list[str]:
    """Return the names of the scenarios below a folder, in order."""
    paths = (path for path in folder.rglob("*.yaml") if path.name != SUITE_FILE)
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in paths)
