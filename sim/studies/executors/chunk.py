"""A few points that are simulated together: the unit of work of every executor.

A task costs a cluster some milliseconds, whatever it does, so that a chunk has as many points as take about a second.
What runs a chunk is a process that may be on another machine: it checks that it has the same program and the same files
before it simulates anything.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sim.errors import InvalidValueError
from sim.run.parallel_runs import Observation, observe
from sim.run.resources import NO_LIMITS
from sim.scenario.scenario import Scenario
from sim.studies.store.keys import point_key, program_digest
from sim.studies.store.record import Record

__all__ = ["Chunk", "ChunkRefusedError", "StudyPoint", "program_of_worker", "run_chunk", "variant_of"]

_ONE_AT_A_TIME: Final = threading.Lock()
"""A worker of a cluster may have several threads; a simulation bounds the memory of its whole process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPoint:
    """One simulation of a study."""

    key: str
    """Digest of everything that its result depends on."""
    changes: Mapping[str, object]
    """Dotted keys and values that differ from the study's scenario."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Points that are simulated together."""

    id: int
    """Number in its study."""
    scenario: Scenario
    """What the changes of the points are made to."""
    points: tuple[StudyPoint, ...]
    """The points."""
    program: str
    """Digest of the program that computed the keys."""
    wanted: frozenset[str] = frozenset()
    """Metrics that are computed only where they are wanted."""
    runs_alike: int = 1
    """About how many points a process of the study has to simulate."""


class ChunkRefusedError(Exception):
    """A process that cannot run a chunk because its program or its files are others."""


def run_chunk(chunk: Chunk) -> list[Record]:
    """Return the results of the points of a chunk, in their order.

    Raises
    ------
    ChunkRefusedError
        The program or the files of this process are not those of the study.
    """
    if program_digest() != chunk.program:
        raise ChunkRefusedError("have the same version of the program")
    with _ONE_AT_A_TIME:
        return [_record(chunk, i) for i in range(len(chunk.points))]


def program_of_worker() -> str:
    """Return the digest of the program of the process that runs this."""
    return program_digest()


def variant_of(scenario: Scenario, changes: Mapping[str, object]) -> Scenario:
    """Return a scenario under the changes of a point, without what is not simulated.

    Raises
    ------
    InvalidValueError
        The changed scenario is refused.
    """
    return scenario.variant(changes) if changes else scenario


def _record(chunk: Chunk, number: int) -> Record:
    point, began = chunk.points[number], time.perf_counter()
    try:
        scenario = variant_of(chunk.scenario, point.changes)
    except InvalidValueError as error:
        return Record(values={}, problem=error.problem)
    if number == 0 and point_key(scenario, wanted=chunk.wanted) != point.key:
        raise ChunkRefusedError("read the same files of the scenario")
    observation: Observation = observe(scenario, chunk.wanted, NO_LIMITS, chunk.runs_alike)
    return Record.of(observation, time.perf_counter() - began)
