"""One simulation of a stress test as a line of a file, so that those that are done need not be done again.

A line is found again by what was simulated: all sections that a result depends on, the version of the program and its
source files. Of these, and of files that a scenario refers to, it is the content that counts.
"""

import hashlib
import json
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, Final

from sim.errors import OutputError
from sim.run.imbalance_bound import IMBALANCE_BOUND
from sim.run.parallel_runs import Observation
from sim.scenario.claims_section import ALTERABLE
from sim.scenario.scenario import Scenario
from sim.studies.source_digest import source_digest

__all__ = ["KEPT_VALUES", "Done", "PointFile", "point_key"]

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
"""What is kept of a simulation's values; the last three are bytes per GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What is kept of one simulation."""

    values: Mapping[str, float]
    """Metrics and memory by name."""
    parts_s: Mapping[str, float]
    """Account of time, averaged over the stages."""
    tokens: Mapping[str, int]
    """Copies of tokens routed, computed, dropped, padded, rerouted."""
    problem: str | None = None
    """Why it could not be run."""

    @classmethod
    def of(cls, observation: Observation) -> "Done":
        """Return what is kept of a simulation."""
        values: dict[str, float] = {
            name: float(observation.values[name]) for name in KEPT_VALUES if name in observation.values
        }
        return cls(values=values, parts_s=observation.parts_s, tokens=observation.tokens, problem=observation.problem)


def point_key(scenario: Scenario) -> str:
    """Return what tells simulations apart."""
    resolved = scenario.resolved()
    told = {section: resolved[section] for section in ALTERABLE} | {
        "version": version("moesim"),
        "sources": source_digest(),
    }
    told |= _digests(scenario, resolved)
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]


class PointFile:
    """Simulations that are done, by their keys; each is written as soon as it is known."""

    def __init__(self, path: Path | None) -> None:
        """Read what is there; without a path nothing is kept. Lines that are cut off or torn are left out.

        Raises
        ------
        OutputError
            What is there is no file, or cannot be read.
        """
        self._path, self._lock = path, threading.Lock()
        self.problem: OSError | None = None
        """Why a line could not be written, if so."""
        self.done: dict[str, Done] = {}
        if path is not None and path.exists():
            try:
                self.done = dict(_read(path.read_text(encoding="utf-8", errors="replace").splitlines()))
            except OSError as error:
                reason = error.strerror or str(error)
                raise OutputError(
                    file=str(path), reason=reason, hint="Move it away, or choose another folder."
                ) from None

    def add(self, key: str, done: Done) -> None:
        """Keep a simulation, on a line of its own even after one that was cut off."""
        with self._lock:
            self.done[key] = done
            if self._path is None or done.problem is not None:
                return
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("ab+") as stream:
                    line = json.dumps({"key": key, **asdict(done)}) + "\n"
                    stream.write((line if _ends_a_line(stream) else "\n" + line).encode())
            except OSError as error:
                self.problem = error

    def check(self) -> None:
        """Raise what could not be written: simulations report to a thread where nobody would hear of it."""
        if self.problem is not None:
            reason = self.problem.strerror or str(self.problem)
            raise OutputError(file=str(self._path), reason=reason, hint="Choose a folder that can be written.")


def _digests(scenario: Scenario, resolved: Mapping[str, Any]) -> dict[str, str]:
    """Return the digest of each file the scenario refers to; one that cannot be read is refused when it is built."""
    folder, found = Path(scenario.path or ".").parent, dict[str, str]()
    for section in ALTERABLE:
        values = resolved[section]
        file = values.get("file") if isinstance(values, dict) else None
        if file is None:
            continue
        try:
            if (folder / file).is_file():
                found[f"{section}.file"] = hashlib.sha256((folder / file).read_bytes()).hexdigest()
        except (OSError, ValueError):
            continue
    return found


def _ends_a_line(stream: BinaryIO) -> bool:
    """Return whether a file is empty or ends in a newline; an interrupt can cut off its last line."""
    if stream.seek(0, os.SEEK_END) == 0:
        return True
    stream.seek(-1, os.SEEK_END)
    return stream.read(1) == b"\n"


def _read(lines: Iterable[str]) -> Iterable[tuple[str, Done]]:
    for line in lines:
        if "\ufffd" in line:
            continue  # bytes that are no text: no name in it can be trusted
        try:
            data: dict[str, Any] = json.loads(line)
            key, done = data.pop("key"), Done(**data)
            if "rerouted" in done.tokens:  # a line of an earlier version does not know
                yield key, done
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # cut off by an interrupt, or not ours: simulated again
