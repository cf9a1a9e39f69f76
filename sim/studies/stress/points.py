"""The simulations of a stress test, each kept as a line of a file, so that no simulation is run twice.

The key of a line is a digest of everything that a result depends on: the sections of the scenario, the content of the
files that the scenario refers to, the version of the program, and the content of its source files.
"""

import hashlib
import json
import math
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, Final

from sim.errors import InvalidValueError, OutputError
from sim.results.accounts import CATEGORIES, COMMUNICATION_CATEGORIES, COMPUTE_CATEGORIES, SLOWDOWNS
from sim.run.imbalance_bound import IMBALANCE_BOUND
from sim.run.parallel_runs import Observation, run_many
from sim.scenario.claims_section import ALTERABLE
from sim.scenario.file_bytes import parse_json, read_input
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

_MAX_BYTES: Final = 1 << 27
"""The largest file of points that is read."""
_MAX_INPUT_BYTES: Final = 1 << 28
"""No file that a scenario refers to is larger."""
_MAX_LINE: Final = 1 << 16
"""No line of a point is longer."""
_LARGEST: Final = 1e300
_NEEDED_VALUES: Final = frozenset(KEPT_VALUES) - {"steady_tokens_per_s", "fits", "capacity_bytes"}
_SHARES: Final = ("bubble_fraction", "stall_fraction", "fits")
_PARTS: Final = frozenset(CATEGORIES) | {
    f"{slowdown}_{kind}" for slowdown in SLOWDOWNS for kind in (*COMPUTE_CATEGORIES, *COMMUNICATION_CATEGORIES)
}
_TOKEN_COUNTS: Final = frozenset({"routed", "computed", "dropped", "padded", "rerouted"})


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
        """Read the results in the file; without a path nothing is kept. Lines that are no result are left out.

        Raises
        ------
        OutputError
            The path is no file, or the file cannot be read.
        """
        self._path, self._lock = path, threading.Lock()
        self.problem: OSError | None = None
        """Why a line could not be written."""
        self.results: dict[str, PointResult] = {}
        if path is not None and os.path.lexists(path):
            try:
                content = read_input(path, _MAX_BYTES)
            except InvalidValueError as error:
                reason = f"the file must {error.rule}, and it is {error.value}"
                hint = "Move it away, or choose another folder."
                raise OutputError(file=str(path), reason=reason, hint=hint) from None
            self.results = dict(_read(content.decode("utf-8", errors="replace").splitlines()))

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
        values = resolved[section] if isinstance(resolved[section], dict) else {}
        for key in ("file", "hf_config"):
            try:
                content = None if values.get(key) is None else read_input(folder / values[key], _MAX_INPUT_BYTES)
            except InvalidValueError:
                continue
            if content is not None:
                digests[f"{section}.{key}"] = hashlib.sha256(content).hexdigest()
    return digests


def _ends_a_line(stream: BinaryIO) -> bool:
    """Return whether a file is empty or ends in a newline, for an interrupt can cut off the last line."""
    if stream.seek(0, os.SEEK_END) == 0:
        return True
    stream.seek(-1, os.SEEK_END)
    return stream.read(1) == b"\n"


def _read(lines: Iterable[str]) -> Iterable[tuple[str, PointResult]]:
    """Return key and result of each line that is the whole line of a simulation that ran."""
    for line in lines:
        if "\ufffd" in line or len(line) > _MAX_LINE:
            continue  # the line has bytes that are no UTF-8, so that no name in it can be trusted, or is none of ours
        try:
            data: dict[str, Any] = parse_json(line)
            key, result = data.pop("key"), PointResult(**data)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # the line was cut off by an interrupt, or has another format: the point is simulated again
        if isinstance(key, str) and _is_whole(result):
            yield key, result


def _is_whole(result: PointResult) -> bool:
    """Return whether a result that was read has every figure that a summary needs, each a number that can be."""
    values, parts_s, tokens = result.values, result.parts_s, result.tokens
    return (
        result.problem is None
        and all(_is_table(table) for table in (values, parts_s, tokens))
        and _NEEDED_VALUES <= set(values) <= set(KEPT_VALUES)
        and values["step_time_s"] > 0
        and values["tokens_per_s"] > 0
        and all(value >= 0 for value in values.values())
        and all(values.get(share, 0) <= 1 for share in _SHARES)
        and set(parts_s) <= _PARTS
        and all(part_s >= 0 for part_s in parts_s.values())
        and math.isclose(sum(parts_s.values()), values["step_time_s"], rel_tol=1e-6)
        and set(tokens) == _TOKEN_COUNTS
        and all(isinstance(count, int) and count >= 0 for count in tokens.values())
        and tokens["routed"] == tokens["computed"] + tokens["dropped"]
    )


def _is_table(table: object) -> bool:
    """Return whether a value maps texts to finite numbers, which are no flags."""
    return isinstance(table, dict) and all(
        isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGEST
        for value in table.values()
    )
