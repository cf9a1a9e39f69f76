"""Points of a study: found in the store, or simulated by an executor and kept at once.

Way of a study
--------------
1. The key of each point is computed, and the store says which are finished. Equal points are one.
2. Some points, spread over the study, are simulated first: their cost plans the rest.
3. Points are claimed and simulated in chunks of about a second; a chunk's results are written in one transaction. A
   process that is killed loses the chunks that it had not finished.
4. Points that another process has claimed are waited for, and taken over when that process ends without a result.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from sim.errors import InvalidValueError
from sim.scenario.scenario import Scenario
from sim.studies.executors.chunk import Chunk, StudyPoint, variant_of
from sim.studies.executors.executor import Ended, Executor
from sim.studies.store.keys import point_key, program_digest, refused_key
from sim.studies.store.record import Record
from sim.studies.store.store import Store
from sim.studies.sweep.plan import Plan, make_plan

__all__ = ["Outcome", "Points", "Watch", "run_points"]

_CHUNK_S: Final = 1.0
"""A chunk takes about so long: a killed process loses no more, and a cluster takes some milliseconds for each."""
_LEAST_CHUNK_S: Final = 0.1
"""Chunks get smaller towards the end, that no process is left to work alone, but not smaller than this."""
_MAX_CHUNK: Final = 2000
"""Points of a chunk, and of a claim, however short they are."""
_SAMPLE: Final = 16
"""Points that are simulated one by one before the rest is planned."""
_POLL_S: Final = 0.25
_KILLED: Final = "the process that simulated it ended without a word, which happens where memory runs out"


class Points(Protocol):
    """The points of a study."""

    @property
    def num_points(self) -> int:
        """How many there are."""

    def changes(self, number: int) -> Mapping[str, object]:
        """Return the dotted keys and values of a point that differ from the study's scenario."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What hears how far a study is."""

    on_progress: Callable[[int, int], None] = lambda done, total: None
    """Receives the number of finished points, and of all points."""
    on_plan: Callable[[Plan], bool] = lambda plan: True
    """Receives the plan of what is left, and says whether to go on."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of the points of a study."""

    keys: list[str]
    """Key of each point, in order."""
    num_simulated: int = 0
    """Points that this process simulated, or refused."""
    num_kept: int = 0
    """Points that the store had at the beginning, or that another process finished meanwhile."""
    plan: Plan | None = None
    """What the rest was expected to take; None where nothing was left."""
    passing: dict[str, Record] = field(default_factory=dict)
    """Results that are not kept, by key: a later study tries them again."""


def run_points(
    scenario: Scenario,
    points: Points,
    *,
    study: str,
    store: Store,
    executor: Executor,
    wanted: frozenset[str] = frozenset(),
    watch: Watch | None = None,
) -> Outcome:
    """Simulate the points of a study that the store does not have, and keep each result as soon as it is known.

    Raises
    ------
    OutputError
        The store could not be written; what was finished is kept.
    SimulationError
        The executor cannot go on; what was finished is kept.
    """
    keys = [_key(scenario, points.changes(i), wanted) for i in range(points.num_points)]
    needs = _Needs(store=store, executor=executor, wanted=wanted, watch=watch or Watch())
    study_run = _StudyRun(scenario, points, keys, study=study, needs=needs)
    study_run.run()
    return study_run.outcome


# ---- private -----------------------------------------------------------------------------------------------------


def _key(scenario: Scenario, changes: Mapping[str, object], wanted: frozenset[str]) -> str:
    """Return the key of a point; a point whose changes are refused has that of its changes."""
    try:
        return point_key(variant_of(scenario, changes), wanted=wanted)
    except InvalidValueError:
        return refused_key(point_key(scenario, wanted=wanted), changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Needs:
    """What a study works with."""

    store: Store
    executor: Executor
    wanted: frozenset[str]
    watch: Watch


class _StudyRun:
    """A study that runs: what waits, what runs, what is finished."""

    def __init__(self, scenario: Scenario, points: Points, keys: list[str], *, study: str, needs: _Needs) -> None:
        self._scenario, self._points, self._study, self._needs = scenario, points, study, needs
        self._store, self._executor = needs.store, needs.executor
        self.outcome = Outcome(keys=keys)
        self._number_of = {key: i for i, key in reversed(list(enumerate(keys)))}
        self._waiting: deque[str] = deque()
        """Keys that nobody simulates yet, as far as is known."""
        self._ready: deque[str] = deque()
        """Keys that are claimed for this process and not yet given to the executor."""
        self._elsewhere: deque[str] = deque()
        """Keys that another process simulates."""
        self._num_running = self._num_chunks = 0
        self._cost_s, self._num_measured = 0.0, 0
        self._looked_s = 0.0

    def run(self) -> None:
        """Run the study: the sample, then the rest."""
        finished = self._store.finished(list(self._number_of))
        missing = [key for key in self._number_of if key not in finished]
        self.outcome.num_kept = len(finished)
        self._report()
        if not missing:
            return
        sample = _spread(missing, min(len(missing), max(_SAMPLE, self._executor.num_workers)))
        self._waiting.extend(sample)
        self._drain(chunk=1)
        chosen = set(sample)
        rest = [key for key in missing if key not in chosen]
        self.outcome.plan = make_plan(
            num_points=len(self._number_of),
            num_left=len(rest),
            mean_cost_s=self._mean_cost_s,
            sample=self._num_measured,
            num_workers=self._executor.num_workers,
            store=self._store,
            executor=self._executor.name,
        )
        if rest and self._needs.watch.on_plan(self.outcome.plan):
            self._waiting.extend(rest)
            self._drain(chunk=None)

    # ---- the loop ------------------------------------------------------------------------------------------------

    def _drain(self, *, chunk: int | None) -> None:
        """Simulate what waits until nothing waits any more, neither here nor in another process."""
        while self._waiting or self._ready or self._num_running or self._elsewhere:
            self._fill(chunk)
            self._store.renew()
            if self._num_running:
                for ended in self._executor.ended(_POLL_S):
                    self._keep(ended)
            elif not (self._waiting or self._ready):
                time.sleep(_POLL_S)
            if self._elsewhere and not self._waiting and time.monotonic() - self._looked_s > _POLL_S:
                self._waiting.extend(self._elsewhere)  # finished meanwhile, or free since its process ended
                self._elsewhere.clear()
                self._looked_s = time.monotonic()

    def _fill(self, chunk: int | None) -> None:
        """Give the executor chunks until each worker has one that runs and one that waits."""
        while self._num_running < 2 * self._executor.num_workers:
            size = chunk or self._chunk_size()
            while len(self._ready) < size and self._waiting:
                self._claim(size * 4)
            if not self._ready:
                return
            keys = [self._ready.popleft() for _ in range(min(size, len(self._ready)))]
            self._submit(keys)

    def _claim(self, num: int) -> None:
        keys = [self._waiting.popleft() for _ in range(min(num, _MAX_CHUNK, len(self._waiting)))]
        claimed = self._store.claim(keys)
        self._ready.extend(key for key in keys if key in claimed.mine)
        self._elsewhere.extend(key for key in keys if key in claimed.elsewhere)
        self.outcome.num_kept += len(claimed.finished)
        if claimed.finished:
            self._report()

    def _submit(self, keys: list[str]) -> None:
        points = tuple(StudyPoint(key=key, changes=self._points.changes(self._number_of[key])) for key in keys)
        self._num_chunks += 1
        self._num_running += 1
        self._executor.submit(
            Chunk(
                id=self._num_chunks,
                scenario=self._scenario,
                points=points,
                program=program_digest(),
                wanted=self._needs.wanted,
                runs_alike=max(1, len(self._number_of) // self._executor.num_workers),
            )
        )

    def _keep(self, ended: Ended) -> None:
        """Keep the results of a chunk; a chunk that nothing came back of is tried again, point by point."""
        self._num_running -= 1
        points = ended.chunk.points
        if ended.records is None and len(points) > 1:
            for point in points:
                self._submit([point.key])
            return
        records = ended.records or [Record(values={}, problem=_KILLED, is_final=False)]
        found = {point.key: (point.changes, record) for point, record in zip(points, records, strict=True)}
        self._store.add(self._study, found)
        self.outcome.passing |= {key: record for key, (_, record) in found.items() if not record.is_final}
        self.outcome.num_simulated += len(found)
        self._cost_s += sum(record.cost_s for record in records)
        self._num_measured += len(records)
        self._report()

    @property
    def _mean_cost_s(self) -> float:
        return self._cost_s / max(self._num_measured, 1)

    def _chunk_size(self) -> int:
        """Return how many points take about a second, or less where there is too little left for all workers."""
        cost_s = max(self._mean_cost_s, 1e-5)
        left = len(self._waiting) + len(self._ready)
        share = left // (2 * self._executor.num_workers)
        least, most = int(_LEAST_CHUNK_S / cost_s), int(_CHUNK_S / cost_s)
        return max(1, min(most, max(share, least), _MAX_CHUNK))

    def _report(self) -> None:
        done = self.outcome.num_simulated + self.outcome.num_kept
        self._needs.watch.on_progress(done, len(self._number_of))


def _spread(keys: list[str], num: int) -> list[str]:
    """Return some keys, spread evenly over all."""
    return [keys[i * len(keys) // num] for i in range(num)]
