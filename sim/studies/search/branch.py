"""Branch and bound: candidates by their bounds, simulated until the best is proven to be within a gap.

Model
-----
Candidates wait in a heap by the best bound that is known of them. The one with the least bound is looked at more
closely: first its family (candidates whose layers take equally long) gets a bound from the layers' times, then it gets
its own tight bound, then it is simulated. The search ends when

    best simulated time <= (1 + gap) * least bound of all that remain

All that remain are then excluded: none is better than the best by more than the gap. A candidate whose least memory
does not fit is excluded as well, and so is one that `sim.build` refuses.

Bounds and simulations are worked out in the processes of `sim.studies.search.workers`.
"""

import heapq
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sim.build.runtime import runtime_of
from sim.run.resources import NO_LIMITS, Limits
from sim.studies.search.bounds import cheap_bounds_s
from sim.studies.search.kept import KeptSimulations
from sim.studies.search.space import Candidate, Space
from sim.studies.search.workers import Outcome, Submit, executors
from workloads.schedules import SCHEDULES

__all__ = ["DEFAULT_GAP", "LEVELS", "Progress", "Searched", "search"]

DEFAULT_GAP: Final = 0.01
LEVELS: Final = ("cheap", "family", "tight", "simulated")
"""How closely a candidate has been looked at."""
_MOST_KINDS: Final = 8
"""Kinds of strategies of which the best is simulated in any case."""
_MOST_TRIED: Final = 30
"""Candidates of such a kind that are tried for one that fits."""
_EXCLUDED: Final = -1
_SIMULATED: Final = -2


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a search is."""

    simulated: int
    space: int
    best_s: float | None
    """Best step time so far."""
    bound_s: float
    """No strategy that remains is faster."""


@dataclass(frozen=True, kw_only=True)
class Searched:
    """What a search has found, and what excludes the rest."""

    space: Space
    outcomes: list[Outcome]
    """All that were simulated, in the order in which they were."""
    bounds_s: NDArray[np.float64]
    """The best bound of each candidate. Shape [candidates]."""
    looked_at: NDArray[np.int64]
    """How closely each was looked at: position in cheap, family, tight, simulated. Shape [candidates]."""
    reasons: list[str | None]
    """Why each was not simulated: a key of `excluded`; None: it was."""
    excluded: dict[str, int]
    """Why candidates were not simulated -> how many: `bound`, `memory`, `refused`, `left`."""
    lower_bound_s: float
    """No strategy of the space that fits is faster."""
    gap: float | None
    """How far above that the best is; None where nothing fits."""
    wanted_gap: float
    is_complete: bool
    """Whether the gap that was wanted is proven."""
    is_interrupted: bool
    seconds: float
    problems: dict[str, int]
    """Rules that refused candidates -> how many."""

    @property
    def best(self) -> Outcome | None:
        """The fastest that was simulated and fits."""
        fitting = [one for one in self.outcomes if one.fits and one.step_s is not None]
        return min(fitting, key=lambda one: (one.step_s, one.number), default=None)


def search(
    space: Space,
    *,
    gap: float = DEFAULT_GAP,
    limit: int | None = None,
    jobs: int = 1,
    limits: Limits = NO_LIMITS,
    first: Sequence[Candidate] = (),
    kept: KeptSimulations | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Searched:
    """Search a space for the fastest strategy that fits.

    Parameters
    ----------
    space
        The candidates.
    gap
        How far above the best possible the result may be.
    limit
        Most simulations; None: as many as it takes.
    jobs
        Processes.
    limits
        What one simulation may need.
    first
        Candidates that are simulated before all others, such as the document's.
    kept
        What keeps simulations, and has those of earlier studies.
    on_progress
        Called after each simulation.

    An interrupt ends the search with what is known.
    """
    return _Search(space, gap, limit, limits, on_progress).run(jobs, first, kept)


# ---- private ------------------------------------------------------------------------------------------------------


class _Search:
    """The state of a search."""

    def __init__(
        self, space: Space, gap: float, limit: int | None, limits: Limits, on_progress: Callable[[Progress], None]
    ) -> None:
        self._space, self._gap, self._limit, self._limits = space, gap, limit, limits
        self._on_progress = on_progress
        self._bounds = cheap_bounds_s(space, runtime_of(space.scenario))
        self._level = np.zeros(len(space.candidates), dtype=np.int64)
        self._family_of, self._milder = _families(space)
        self._members: dict[int, list[int]] = {}
        for number, family in enumerate(self._family_of):
            self._members.setdefault(family, []).append(number)
        self._seen_families: set[int] = set()
        self._stamp = [0] * len(space.candidates)
        self._heap = [(float(bound), number, 0) for number, bound in enumerate(self._bounds)]
        heapq.heapify(self._heap)
        self._outcomes: list[Outcome] = []
        self._best_s = float("inf")
        self._excluded = {"memory": 0, "refused": 0}
        self._problems: dict[str, int] = {}
        self._why: dict[int, str] = {}
        self._pending: dict[Future[Any], tuple[str, tuple[int, ...], int]] = {}
        self._num_tasks = 0

    def run(self, jobs: int, first: Sequence[Candidate], kept: KeptSimulations | None) -> Searched:
        """Search until the gap is proven, the limit is reached, or an interrupt comes."""
        began, interrupted = time.perf_counter(), False
        with executors(jobs, self._space, self._limits, kept) as submit:
            try:
                self._start(first, submit)
                self._loop(submit, 2 * max(1, jobs))
                self._survey(submit)
            except KeyboardInterrupt:
                interrupted = True
        return self._searched(time.perf_counter() - began, interrupted=interrupted)

    # ---- steps ---------------------------------------------------------------------------------------------------

    def _start(self, first: Sequence[Candidate], submit: Submit) -> None:
        places = {candidate: number for number, candidate in enumerate(self._space.candidates)}
        for candidate in first:
            if candidate in places:
                self._stamp[places[candidate]] += 1
                self._submit(submit, "simulate", (places[candidate],))

    def _loop(self, submit: Submit, most_pending: int) -> None:
        while True:
            while len(self._pending) < most_pending and (number := self._next()) is not None:
                self._advance(submit, number)
            if not self._pending:
                return
            done, _ = wait(self._pending, return_when=FIRST_COMPLETED)
            for future in sorted(done, key=lambda one: self._pending[one][2]):
                task, numbers, _ = self._pending.pop(future)
                self._take(task, numbers, future.result())

    def _survey(self, submit: Submit) -> None:
        """Simulate the best of each kind of strategy, as far as kinds are among the best: they show what is lost."""
        done = {outcome.candidate.kind for outcome in self._outcomes if outcome.fits}
        tried: dict[str, int] = {}
        for number in np.argsort(self._bounds, kind="stable").tolist():
            kind = self._space.candidates[number].kind
            if self._level[number] < 1 or kind in done or tried.get(kind, 0) >= _MOST_TRIED:
                continue
            if len(done) > _MOST_KINDS or (self._limit is not None and self._num_simulated() >= self._limit):
                break
            tried[kind] = tried.get(kind, 0) + 1
            self._submit(submit, "tight", (number,))
            self._drain()
            if self._level[number] >= 0:
                self._submit(submit, "simulate", (number,))
                self._drain()
                if self._outcomes[-1].fits:
                    done.add(kind)
        self._drain()

    def _drain(self) -> None:
        while self._pending:
            done, _ = wait(self._pending, return_when=FIRST_COMPLETED)
            for future in sorted(done, key=lambda one: self._pending[one][2]):
                task, numbers, _ = self._pending.pop(future)
                self._take(task, numbers, future.result())

    def _next(self) -> int | None:
        """Return the candidate with the least bound; None where all that remain are excluded."""
        if self._limit is not None and self._num_simulated() >= self._limit:
            return None
        while self._heap:
            bound, number, stamp = self._heap[0]
            if stamp != self._stamp[number]:
                heapq.heappop(self._heap)  # its bound is better by now, or it is being looked at
                continue
            if bound * (1 + self._gap) >= self._best_s:
                return None
            heapq.heappop(self._heap)
            self._stamp[number] += 1
            return number
        return None

    def _num_simulated(self) -> int:
        return len(self._outcomes) + sum(task == "simulate" for task, _, _ in self._pending.values())

    def _advance(self, submit: Submit, number: int) -> None:
        """Look at a candidate more closely."""
        if self._level[number]:
            self._submit(submit, "tight" if self._level[number] == 1 else "simulate", (number,))
            return
        family = self._family_of[number]
        if self._milder[family] not in self._seen_families:
            family = self._milder[family]  # what is recomputed comes on top
        if family in self._seen_families:
            return  # it comes back with the family's bounds
        self._seen_families.add(family)
        members = list(self._members[family])
        if self._milder[family] == family:
            members += [
                one
                for other, milder in enumerate(self._milder)
                if milder == family != other
                for one in self._members[other]
            ]
        simplest = min(self._members[family], key=self._num_chunks)
        self._submit(submit, "family", (simplest, members))

    def _num_chunks(self, number: int) -> int:
        strategy = self._space.candidates[number].strategy
        return strategy.pp * strategy.vpp

    def _submit(self, submit: Submit, task: str, arguments: tuple[Any, ...]) -> None:
        family = self._family_of[arguments[0]]
        future = submit(self._milder[family], task, arguments)
        self._num_tasks += 1
        self._pending[future] = (task, arguments if task != "family" else arguments[1], self._num_tasks)

    def _take(self, task: str, numbers: Sequence[int], result: Any) -> None:  # noqa: ANN401  # by task
        number = numbers[0]
        if task == "family":
            for one, bound in zip(numbers, result, strict=True):
                is_own = self._family_of[one] == self._family_of[number]
                self._raise(one, bound, 1 if is_own else 0)
        elif task == "tight":
            bound, fits, problem = result
            if problem is not None:
                self._exclude(number, "refused", problem)
            elif not fits:
                self._exclude(number, "memory")
            else:
                self._raise(number, bound, 2)
        else:
            self._take_outcome(result)

    def _take_outcome(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        self._level[outcome.number] = _SIMULATED
        if outcome.problem is not None:
            self._excluded["refused"] += 1
            self._problems[outcome.problem] = self._problems.get(outcome.problem, 0) + 1
        elif outcome.step_s is not None and outcome.fits and outcome.step_s < self._best_s:
            self._best_s = outcome.step_s
        best_s = self._best_s if self._best_s < float("inf") else None
        self._on_progress(
            Progress(
                simulated=len(self._outcomes),
                space=len(self._space.candidates),
                best_s=best_s,
                bound_s=self._least_bound(),
            )
        )

    def _raise(self, number: int, bound: float, level: int) -> None:
        """Note a better bound; a bound never falls."""
        if self._level[number] < 0 or self._level[number] > level:
            return
        self._bounds[number] = max(self._bounds[number], bound)
        self._level[number] = level
        self._stamp[number] += 1
        heapq.heappush(self._heap, (float(self._bounds[number]), number, self._stamp[number]))

    def _exclude(self, number: int, why: str, problem: str | None = None) -> None:
        self._why[number] = why
        self._level[number] = _EXCLUDED
        self._excluded[why] += 1
        if problem is not None:
            self._problems[problem] = self._problems.get(problem, 0) + 1

    def _least_bound(self) -> float:
        """Return the least bound of all candidates that may still be strategies, the best one's time included."""
        open_ = self._level >= 0
        least = float(self._bounds[open_].min()) if open_.any() else float("inf")
        return min(least, self._best_s)

    def _searched(self, seconds: float, *, interrupted: bool) -> Searched:
        open_ = self._level >= 0
        is_over = self._bounds * (1 + self._gap) >= self._best_s
        bound_s = self._least_bound()
        has_best = self._best_s < float("inf")
        left = int((open_ & ~is_over).sum())
        simulated = self._level == _SIMULATED
        return Searched(
            space=self._space,
            outcomes=list(self._outcomes),
            bounds_s=self._bounds.copy(),
            looked_at=np.where(simulated, 3, np.maximum(self._level, np.where(self._level < 0, 2, 0))),
            reasons=[
                None if simulated[number] else self._why.get(number, "bound" if is_over[number] else "left")
                for number in range(len(self._level))
            ],
            excluded={**self._excluded, "bound": int((open_ & is_over).sum()), "left": left},
            lower_bound_s=bound_s if bound_s < float("inf") else 0.0,
            gap=self._best_s / bound_s - 1 if has_best else None,
            wanted_gap=self._gap,
            is_complete=left == 0 and not interrupted,
            is_interrupted=interrupted,
            seconds=seconds,
            problems=dict(sorted(self._problems.items(), key=lambda item: -item[1])),
        )


def _families(space: Space) -> tuple[list[int], list[int]]:
    """Return the family of each candidate, and of each family the one that recomputes nothing and is else the same.

    The layers of a family take equally long; layers that recompute take longer, for all else is as without.
    """
    numbers: dict[tuple[object, ...], int] = {}
    sequences = getattr(space.scenario.spec.workload, "sequences", 1)
    found, milder_keys = [], []
    for c in space.candidates:
        s, schedule = c.strategy, SCHEDULES[c.schedule]
        per_microbatch = sequences // ((s.dp or 1) * c.microbatches)
        dp = None if c.rules.splits_sequence_over_tp else s.dp  # of others the size of the expert groups
        rest: tuple[object, ...] = (
            c.convention,
            s.tp,
            s.ep,
            s.etp,
            s.cp,
            dp,
            s.pp > 1,
            per_microbatch,
            max(0, c.zero - 1),
            c.others,
        )
        rest = (*rest, schedule.splits_backward, schedule.pairs)
        key = (c.recompute, *rest)
        if key not in numbers:
            numbers[key] = len(numbers)
            milder_keys.append(("none", *rest))
        found.append(numbers[key])
    return found, [numbers.get(key, number) for number, key in enumerate(milder_keys)]
