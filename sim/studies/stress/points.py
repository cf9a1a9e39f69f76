"""The simulations of a stress test, each kept as a line of a file, so that no simulation is run twice.

The key of a line is a digest of everything that a result depends on: the sections of the scenario, the content of the
files that the scenario refers to, the version of the program, and the content of its source files.
"""

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, Final

from sim.errors import OutputError
from sim.run.imbalance_bound import IMBALANCE_BOUND
from sim.run.parallel_runs import Observation, run_many
from sim.scenario.claims_section import ALTERABLE
from sim.scenario.scenario import Scenario
from sim.studies.source_digest import source_digest
from sim.studies.stress.grid import Grid

__all__ = ["KEPT_VALUES", "PointFile", "PointResult", "point_key", "run_grid"]

KEPT_VALUES: Final = (
    "step_time_s",
    "tokens_per_s",
    "steady_tokens_per_s",
    "bubble_fraction",
    "stall_fraction",
    "imbalance_max_over_mean",
    IMBALANCE_BOUND,
    "fits",
    "capacity_bytes",
    "weights",
    "total",
)
"""Values of a simulation that are kept; the last three are bytes per GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointResult:
    """The part of a simulation's result that a stress test keeps."""

    values: Mapping[str, float]
    """Metrics and memory by name (`KEPT_VALUES`)."""
    parts_s: Mapping[str, float]
    """Account of time by part, averaged over the stages."""
    tokens: Mapping[str, int]
    """Token copies that were routed, computed, dropped, padded and rerouted."""
    problem: str | None = None
    """Why the scenario could not be simulated."""

    @classmethod
    def of(cls, observation: Observation) -> "PointResult":
        """Return the kept part of a simulation's result."""
        values: dict[str, float] = {
            name: float(observation.values[name]) for name in KEPT_VALUES if name in observation.values
        }
        return cls(values=values, parts_s=observation.parts_s, tokens=observation.tokens, problem=observation.problem)


def point_key(scenario: Scenario) -> str:
    """Return the key of a simulation: a digest of everything that its result depends on."""
    resolved = scenario.resolved()
    inputs = {section: resolved[section] for section in ALTERABLE} | {
        "version": version("moesim"),
        "sources": source_digest(),
    }
    inputs |= _file_digests(scenario, resolved)
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:32]


def run_grid(
    grid: Grid,
    *,
    jobs: int = 1,
    file: Path | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[PointResult], int]:
    """Return the result of each point of the grid, and how many results were found in `file`.

    Each result is written to `file` as soon as it is known, so that an interrupt loses none. Equal points are simulated
    once.

    Parameters
    ----------
    grid
        Simulations.
    jobs
        Processes.
    file
        File that keeps results; None: nothing is kept.
    on_progress
        Receives the number of finished simulations, and the number of all simulations.

    Raises
    ------
    OutputError
        The file could not be read or written.
    """
    kept = PointFile(file)
    keys = [point_key(point.scenario) for point in grid.points]
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    missing = [i for i in sorted(first.values()) if keys[i] not in kept.results]
    num_kept = len(first) - len(missing)
    on_progress(num_kept, len(first))
    with run_many(
        [grid.points[i].scenario for i in missing],
        wanted=frozenset({IMBALANCE_BOUND}),
        jobs=jobs,
        on_done=lambda done: on_progress(num_kept + done, len(first)),
        on_each=lambda number, observation: kept.add(keys[missing[number]], PointResult.of(observation)),
    ) as observe:
        observations = observe()
    kept.check()
    fresh = {keys[i]: PointResult.of(observation) for i, observation in zip(missing, observations, strict=True)}
    return [fresh[key] if key in fresh else kept.results[key] for key in keys], num_kept


class PointFile:
    """The results of finished simulations by key; each result is written to the file as soon as it is known."""

    def __init__(self, path: Path | None) -> None:
        """Read the results in the file; without a path nothing is kept. Incomplete and damaged lines are left out.

        Raises
        ------
        OutputError
            The path is no file, or the file cannot be read.
        """
        self._path, self._lock = path, threading.Lock()
        self.problem: OSError | None = None
        """Why a line could not be written."""
        self.results: dict[str, PointResult] = {}
        if path is not None and path.exists():
            try:
                self.results = dict(_read(path.read_text(encoding="utf-8", errors="replace").splitlines()))
            except OSError as error:
                reason = error.strerror or str(error)
                raise OutputError(
                    file=str(path), reason=reason, hint="Move it away, or choose another folder."
                ) from None

    def add(self, key: str, result: PointResult) -> None:
        """Keep a result, on a line of its own even after an incomplete line."""
        with self._lock:
            self.results[key] = result
            if self._path is None or result.problem is not None:
                return
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("ab+") as stream:
                    line = json.dumps({"key": key, **asdict(result)}) + "\n"
                    stream.write((line if _ends_a_line(stream) else "\n" + line).encode())
            except OSError as error:
                self.problem = error

    def check(self) -> None:
        """Raise the error of `add`, which runs in a thread where an exception would be lost."""
        if self.problem is not None:
            reason = self.problem.strerror or str(self.problem)
            raise OutputError(file=str(self._path), reason=reason, hint="Choose a folder that can be written.")


def _file_digests(scenario: Scenario, resolved: Mapping[str, Any]) -> dict[str, str]:
    """Return the digest of each file that the scenario refers to; a build of the scenario refuses unreadable files."""
    folder, digests = Path(scenario.path or ".").parent, dict[str, str]()
    for section in ALTERABLE:
        values = resolved[section]
        file = values.get("file") if isinstance(values, dict) else None
        if file is None:
            continue
        try:
            if (folder / file).is_file():
                digests[f"{section}.file"] = hashlib.sha256((folder / file).read_bytes()).hexdigest()
        except (OSError, ValueError):
            continue
    return digests


def _ends_a_line(stream: BinaryIO) -> bool:
    """Return whether a file is empty or ends in a newline, for an interrupt can cut off the last line."""
    if stream.seek(0, os.SEEK_END) == 0:
        return True
    stream.seek(-1, os.SEEK_END)
    return stream.read(1) == b"\n"


def _read(lines: Iterable[str]) -> Iterable[tuple[str, PointResult]]:
    """Return key and result of each line that is complete."""
    for line in lines:
        if "\ufffd" in line:
            continue  # the line had bytes that are no UTF-8, so that no name in it can be trusted
        try:
            data: dict[str, Any] = json.loads(line)
            key, result = data.pop("key"), PointResult(**data)
            if "rerouted" in result.tokens:  # lines of earlier versions lack this count
                yield key, result
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # the line was cut off by an interrupt, or has another format: the point is simulated again
