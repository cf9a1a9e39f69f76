"""The key of a simulation: a digest of everything that its result depends on.

These are the sections of the scenario, the content of the files that it refers to, the version of the program and the
content of its source files, and the metrics that are computed only where they are wanted.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Set
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from sim.errors import InvalidValueError
from sim.scenario.file_bytes import read_input
from sim.scenario.scenario import FILE_KEYS, Scenario
from sim.studies.source_digest import source_digest

__all__ = ["point_key", "program_digest", "refused_key"]

_MAX_INPUT_BYTES: Final = 1 << 28
"""No file that a scenario refers to is larger."""
_NOT_SIMULATED: Final = frozenset(
    {
        "name",
        "seeds",
        "assumed",
        "document",
        "claims",
        "alternatives",
        "rivals",
        "stress",
        "search",
        "uncertainty",
        "published",
        "published_table",
    }
)
"""Sections that no single simulation depends on; every other section counts."""


def point_key(scenario: Scenario, *, wanted: Set[str] = frozenset()) -> str:
    """Return the key of a simulation of a scenario in which the metrics `wanted` are computed as well.

    Examples
    --------
    >>> workload = {"kind": "passes", "microbatches": 8, "pass_times": {"F": "1 ms", "B": "2 ms"}}
    >>> scenario = Scenario.validated({"parallel": {"pp": 4}, "workload": workload})
    >>> point_key(scenario) == point_key(scenario.variant({"name": "other"}))
    True
    >>> point_key(scenario) == point_key(scenario.variant({"parallel.pp": 2}))
    False
    """
    resolved = scenario.spec.model_dump(mode="json", exclude=set(_NOT_SIMULATED))
    inputs = {
        "scenario": resolved,
        "program": program_digest(),
        "wanted": sorted(wanted),
        "files": dict(_files(scenario, resolved)),
    }
    return _digest(json.dumps(inputs, sort_keys=True).encode())


def refused_key(key: str, changes: Mapping[str, object]) -> str:
    """Return the key of a point whose changes to the scenario with `key` are refused, so that nothing is simulated."""
    return _digest(json.dumps([key, changes], sort_keys=True, default=str).encode())


@cache
def program_digest() -> str:
    """Return a digest of the version of the program and of its source files."""
    return _digest(f"{version('moesim')} {source_digest()}".encode())


def _files(scenario: Scenario, resolved: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield dotted key and digest of the content of each file that the scenario names, as far as it can be read."""
    folder = Path(scenario.path or ".").parent
    for key in FILE_KEYS:
        value: Any = resolved
        for name in key.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, str):
            path = Path(value) if value in scenario.places.given_files else folder / value
            digest = _content(path)
            if digest is not None:
                yield key, digest


def _content(path: Path) -> str | None:
    """Return a digest of a file's content; None for a file that cannot be read, which the run will refuse."""
    try:
        status = path.stat()
        return _file_digest(path, status.st_mtime_ns, status.st_size, status.st_ino)
    except (InvalidValueError, OSError, ValueError):
        return None


@lru_cache(maxsize=256)
def _file_digest(path: Path, *_state: int) -> str:
    """Return the digest of a file's content; it is read again where its time, size or inode is another."""
    return _digest(read_input(path, _MAX_INPUT_BYTES))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
