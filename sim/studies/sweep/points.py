"""Points of a study: found in the store, or simulated by an executor and kept at once.

Way of a study
--------------
1. Some points, spread over the study, are looked up: their keys are computed, and the store says which are finished.
2. Some of those that are not finished are simulated: their cost plans the rest. They do not wait for a kernel that is
   compiled for the rest, so that the plan may be too long by what that saves.
3. The rest is looked up block by block, while what was found missing is simulated: a study of a million points has its
   first results as soon as one of a thousand.
4. Points are claimed and simulated in chunks of about a second; a chunk's results are written in one transaction. A
   process that is killed loses the chunks that it had not finished.
5. Points that another process has claimed are waited for, and taken over when that process ends without a result.

Equal points are simulated once.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from sim.scenario.scenario import Scenario
from sim.studies.executors.chunk import Chunk, StudyPoint
from sim.studies.executors.executor import Ended, Executor
from sim.studies.store.keys import program_digest
from sim.studies.store.record import Record
from sim.studies.store.store import Store
from sim.studies.sweep.look_up import LookUp, PointKeys, Points
from sim.studies.sweep.plan import Plan, make_plan

__all__ = ["Outcome", "Watch", "run_points"]

_CHUNK_S: Final = 1.0
"""A chunk takes about so long: a killed process loses no more, and a cluster takes some milliseconds for each."""
_LEAST_CHUNK_S: Final = 0.1
"""Chunks get smaller towards the end, that no process is left to work alone, but not smaller than this."""
_MAX_CHUNK: Final = 2000
"""Points of a chunk, and of a claim, however short they are."""
_LOOKED_UP: Final = 2000
"""Points that are looked up before the rest is planned: the share that the store has is within 3 % then."""
_SAMPLE: Final = 16
"""Points that are simulated one by one before the rest is planned."""
_CLAIMED_CHUNKS: Final = 4
"""Chunks that are claimed together."""
_POLL_S: Final = 0.25
_KILLED: Final = "the process that simulated it ended without a word, which happens where memory runs out"


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

    keys: PointKeys
    """Key of each point; none where the study was stopped before it."""
    num_simulated: int = 0
    """Points that this process simulated, or refused."""
    num_kept: int = 0
    """Results that the store had at the beginning, or that another process finished meanwhile."""
    plan: Plan | None = None
    """What the rest was expected to take; None where nothing was left."""
    passing: dict[str, Record] = field(default_factory=dict)
    """Results that are not kept, by key: a later study tries them again."""

    def records(self, store: Store, numbers: Sequence[int]) -> list[Record | None]:
        """Return the result of each of some points; None for one that is not finished."""
        keys = [self.keys.of(number) for number in numbers]
        known = {key for key in keys if key is not None}
        found = {**store.results(sorted(known)), **self.passing}
        return [None if key is None else found.get(key) for key in keys]


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
    study_run = _StudyRun(
        scenario, points, study=study, store=store, executor=executor, wanted=wanted, watch=watch or Watch()
    )
    study_run.run()
    return study_run.outcome


# ---- private -----------------------------------------------------------------------------------------------------


class _StudyRun:
    """A study that runs: what waits, what runs, what is finished. Points go by their numbers."""

    def __init__(
        self,
        scenario: Scenario,
        points: Points,
        *,
        study: str,
        store: Store,
        executor: Executor,
        wanted: frozenset[str],
        watch: Watch,
    ) -> None:
        self._scenario, self._points, self._study = scenario, points, study
        self._store, self._executor, self._wanted, self._watch = store, executor, wanted, watch
        self._look_up = LookUp(scenario, points, store, wanted)
        self.outcome = Outcome(keys=self._look_up.keys)
        self._unseen: Iterator[int] | None = None
        """Points that are still to be looked up; None where there are no more."""
        self._waiting: deque[int] = deque()
        """Points that nobody simulates yet, as far as is known."""
        self._ready: deque[int] = deque()
        """Points that are claimed for this process and not yet given to the executor."""
        self._running: dict[int, list[int]] = {}
        """Number of a chunk that runs -> its points."""
        self._mine: set[str] = set()
        """Keys of points that are ready or run."""
        self._elsewhere: deque[int] = deque()
        """Points that another process simulates."""
        self._num_done = self._num_chunks = 0
        self._costs: deque[tuple[float, int]] = deque(maxlen=max(_SAMPLE, executor.num_workers))
        """Seconds and points of the newest chunks."""
        self._is_sample = True
        """Whether what is simulated is the sample."""
        self._looked_s = 0.0

    def run(self) -> None:
        """Run the study: the sample, then the rest."""
        num_points = self._points.num_points
        first = _spread(range(num_points), min(num_points, _LOOKED_UP))
        missing, blocks = list[int](), iter(first)
        while (found := self._look_up_block(blocks)) is not None:
            missing += found
        num_missing = len({self._key(number) for number in missing})
        self.outcome.num_kept = self._look_up.keys.num_different() - num_missing
        if not missing and not self._look_up.num_unseen:
            return
        sample = _spread(missing, min(len(missing), max(_SAMPLE, self._executor.num_workers)))
        self._waiting.extend(sample)
        self._drain()
        chosen = set(sample)
        rest = [number for number in missing if number not in chosen]
        num_left = len(rest) + self._look_up.num_unseen * len(missing) // len(first)
        self.outcome.plan = self._plan(num_left=num_left, num_looked_up=len(first))
        if (rest or self._look_up.num_unseen) and self._watch.on_plan(self.outcome.plan):
            seen = set(first)
            self._waiting.extend(rest)
            self._unseen = (number for number in range(num_points) if number not in seen)
            self._is_sample = False
            self._drain()
            self.outcome.num_kept = self._look_up.keys.num_different() - self.outcome.num_simulated

    def _plan(self, *, num_left: int, num_looked_up: int) -> Plan:
        return make_plan(
            num_points=self._points.num_points,
            num_looked_up=num_looked_up,
            num_left=num_left,
            mean_cost_s=self._mean_cost_s,
            look_up_s=self._look_up.cost_s,
            sample=self.outcome.num_simulated,
            num_workers=self._executor.num_workers,
            store=self._store,
            executor=self._executor.name,
        )

    # ---- the loop ------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Simulate what waits until nothing waits any more, neither here nor in another process."""
        while True:
            self._look_up_more()
            self._fill()
            self._store.renew()
            has_work = bool(self._waiting or self._ready or self._unseen)
            if self._running:
                for ended in self._executor.ended(0.0 if has_work and self._has_room else _POLL_S):
                    self._keep(ended)
            elif not has_work:
                if not self._elsewhere:
                    return
                time.sleep(_POLL_S)
            if self._elsewhere and not self._waiting and time.monotonic() - self._looked_s > _POLL_S:
                self._waiting.extend(self._elsewhere)  # finished meanwhile, or free since its process ended
                self._elsewhere.clear()
                self._looked_s = time.monotonic()

    @property
    def _has_room(self) -> bool:
        """Whether some worker has no chunk that waits for it."""
        return len(self._running) < 2 * self._executor.num_workers

    def _look_up_more(self) -> None:
        """Look up one block of points, where fewer wait than a claim takes."""
        if self._unseen is not None and len(self._waiting) < self._chunk_size() * _CLAIMED_CHUNKS:
            missing = self._look_up_block(self._unseen)
            if missing is None:
                self._unseen = None
            else:
                self._waiting.extend(missing)

    def _look_up_block(self, numbers: Iterator[int]) -> list[int] | None:
        """Look up some points; return those that are missing, or None where there are no more."""
        num_seen, missing = self._look_up.num_seen, self._look_up.block(numbers)
        if missing is not None:
            self._count_done(self._look_up.num_seen - num_seen - len(missing))
        return missing

    def _fill(self) -> None:
        """Give the executor chunks until each worker has one that runs and one that waits."""
        while self._has_room:
            size = 1 if self._is_sample else self._chunk_size()
            while len(self._ready) < size and self._waiting:
                self._claim(size * _CLAIMED_CHUNKS)
            is_short = len(self._ready) < size and self._unseen is not None  # the next block may have more
            if not self._ready or (is_short and len(self._running) >= self._executor.num_workers):
                return
            self._submit([self._ready.popleft() for _ in range(min(size, len(self._ready)))])

    def _claim(self, num: int) -> None:
        numbers = [self._waiting.popleft() for _ in range(min(num, _MAX_CHUNK, len(self._waiting)))]
        key_of = {number: self._key(number) for number in numbers}
        known = self._mine | self.outcome.passing.keys()
        claimed = self._store.claim([key for key in key_of.values() if key not in known])
        num_done = 0
        for number, key in key_of.items():
            if key in claimed.elsewhere:
                self._elsewhere.append(number)
            elif key in claimed.mine and key not in self._mine:
                self._ready.append(number)
                self._mine.add(key)
            else:  # finished, or equal to a point that is simulated here
                num_done += 1
        self._count_done(num_done)

    def _submit(self, numbers: list[int]) -> None:
        points = tuple(StudyPoint(key=self._key(number), changes=self._points.changes(number)) for number in numbers)
        num_alike = max(1, self._points.num_points // self._executor.num_workers)
        self._num_chunks += 1
        self._running[self._num_chunks] = numbers
        self._executor.submit(
            Chunk(
                id=self._num_chunks,
                scenario=self._scenario,
                points=points,
                program=program_digest(),
                wanted=self._wanted,
                runs_alike=1 if self._is_sample else num_alike,
            )
        )

    def _keep(self, ended: Ended) -> None:
        """Keep the results of a chunk; a chunk that nothing came back of is tried again, point by point."""
        numbers, points = self._running.pop(ended.chunk.id), ended.chunk.points
        if ended.records is None and len(points) > 1:
            for number in numbers:
                self._submit([number])
            return
        records = ended.records or [Record(values={}, problem=_KILLED, is_final=False)]
        found = {point.key: (point.changes, record) for point, record in zip(points, records, strict=True)}
        self._store.add(self._study, found)
        self.outcome.passing |= {key: record for key, (_, record) in found.items() if not record.is_final}
        self.outcome.num_simulated += len(found)
        self._mine -= found.keys()
        self._costs.append((sum(record.cost_s for record in records), len(records)))
        self._count_done(len(records))

    def _key(self, number: int) -> str:
        """Return the key of a point that was looked up."""
        return self.outcome.keys.of(number) or ""

    @property
    def _mean_cost_s(self) -> float:
        return sum(cost_s for cost_s, _ in self._costs) / max(sum(num for _, num in self._costs), 1)

    def _chunk_size(self) -> int:
        """Return how many points take about a second, or less where there is too little left for all workers."""
        cost_s = max(self._mean_cost_s, 1e-5)
        left = len(self._waiting) + len(self._ready) + self._look_up.num_unseen
        share = left // (2 * self._executor.num_workers)
        least, most = int(_LEAST_CHUNK_S / cost_s), int(_CHUNK_S / cost_s)
        return max(1, min(most, max(share, least), _MAX_CHUNK))

    def _count_done(self, num: int) -> None:
        if num:
            self._num_done += num
            self._watch.on_progress(self._num_done, self._points.num_points)


def _spread(numbers: Sequence[int], num: int) -> list[int]:
    """Return some points, spread evenly over all."""
    return [numbers[i * len(numbers) // num] for i in range(num)]
