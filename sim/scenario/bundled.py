"""The scenarios that come with the program."""

import importlib.resources
from pathlib import Path

__all__ = ["bundled_folder", "find_bundled", "list_bundled"]


def bundled_folder() -> Path:
    """Return the folder of bundled scenarios: package data when installed, `scenarios/` in a checkout."""
    installed = Path(str(importlib.resources.files("sim.scenario"))).parent / "_scenarios"
    return installed if installed.is_dir() else Path(__file__).resolve().parents[2] / "scenarios"


def list_bundled() -> list[str]:
    """Return the names of the bundled scenarios, in order, with their folders: `validation/zero_bubble`."""
    folder = bundled_folder()
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def find_bundled(name: str) -> Path | None:
    """Return the file of a bundled scenario, named with or without folder and `.yaml`; None if there is none."""
    wanted = name.removesuffix(".yaml")
    names = list_bundled()
    matches = [n for n in names if n == wanted] or [n for n in names if n.rpartition("/")[2] == wanted]
    return bundled_folder() / f"{matches[0]}.yaml" if len(matches) == 1 else None
