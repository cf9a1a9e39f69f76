"""Branch and bound: candidates by their bounds, simulated until the best is proven to be within a gap.

Model
-----
Candidates wait in a heap by the best bound that is known of them. The one with the least bound is looked at more
closely: first its family (candidates whose layers take equally long) gets a bound from the layers' times, then it gets
its own tight bound, then it is simulated. The search ends when

    best simulated time <= (1 + gap) * least bound of all that remain

All that remain are then excluded: none is better than the best by more than the gap. A candidate whose least memory
does not fit is excluded as well, and so is one that `sim.build` refuses.

Bounds and simulations are worked out in processes; a family always goes to the same one, which keeps its layers' times.
"""

import contextlib
import heapq
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sim.build.runtime import runtime_of
from sim.errors import InvalidValueError, MoesimError, out_of_memory
from sim.results.accounts import categories_by_kind
from sim.run.parent_watch import end_with_parent
from sim.run.resources import NO_LIMITS, Limits
from sim.run.simulate import simulate_scenario
from sim.scenario.scenario import Scenario
from sim.studies.search.bounds import TightBounds, cheap_bounds_s, has_alike_stages
from sim.studies.search.kept import KeptSimulations
from sim.studies.search.space import Candidate, Space
from sim.studies.store.record import Record
from workloads.schedules import SCHEDULES

__all__ = ["DEFAULT_GAP", "LEVELS", "Outcome", "Progress", "Searched", "search", "simulate_candidate"]

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
class Outcome:
    """A candidate that was simulated, or found to be no strategy."""

    number: int
    """Position in the space."""
    candidate: Candidate
    step_s: float | None = None
    """Simulated step time; None where it could not be run."""
    memory_bytes: float | None = None
    """Peak of memory per GPU."""
    fits: bool = False
    """Whether it fits into memory."""
    tokens_per_s: float | None = None
    parts_s: dict[str, float] = field(default_factory=dict)
    """Account of time, averaged over stages."""
    problem: str | None = None
    """Why it could not be run."""


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


def simulate_candidate(
    scenario: Scenario, candidate: Candidate, *, number: int, limits: Limits = NO_LIMITS, runs_alike: int = 1
) -> Outcome:
    """Simulate a scenario that says a candidate, one of about `runs_alike`; what cannot be run has a problem."""
    try:
        simulated = simulate_scenario(scenario, link_timeline=False, links=False, limits=limits, runs_alike=runs_alike)
    except MoesimError as error:
        return Outcome(number=number, candidate=candidate, problem=_rule(error))
    except MemoryError:
        return Outcome(number=number, candidate=candidate, problem=str(out_of_memory()))
    trace, memory = simulated.run.trace, simulated.memory
    step_s = trace.step_ns / 1e9
    return Outcome(
        number=number,
        candidate=candidate,
        step_s=step_s,
        memory_bytes=float(memory["peak_bytes_per_gpu"]["total"]),
        fits=bool(memory["fits"]),
        tokens_per_s=simulated.num_tokens / step_s,
        parts_s=categories_by_kind(trace, simulated.stages_ns),
    )


# ---- private: in processes ---------------------------------------------------------------------------------------


class _Worker:
    """What a process knows: the space, the limits, and the times of layers so far."""

    def __init__(self, space: Space, limits: Limits, kept: KeptSimulations | None) -> None:
        self.space, self.limits, self.bounds, self.kept = space, limits, TightBounds(), kept
        self._num_simulated = 0

    def family(self, representative: int, members: Sequence[int]) -> list[float]:
        """Return the bounds of a family in seconds, from the times of its layers."""
        if not has_alike_stages(self.space.scenario):
            return [0.0] * len(members)
        scenario, number = self.space.scenario_of(self.space.candidates[representative]), self.space.model.layers
        places = np.arange(number)
        few = _few_layers(self.space, representative)
        try:
            try:
                if few is None:
                    times = self.bounds.microbatch_ns(scenario) * 1e-9
                else:
                    times, places = self.bounds.microbatch_ns(scenario.variant({"model.layers": few[0]})) * 1e-9, few[1]
            except InvalidValueError:  # a list of the model has an entry for each layer
                times, places = self.bounds.microbatch_ns(scenario) * 1e-9, np.arange(number)
        except (MoesimError, MemoryError):
            return [0.0] * len(members)
        times = times[:, places]
        if runtime_of(scenario).overlap_moe:
            return [0.0] * len(members)
        return [_family_bound_s(self.space, self.space.candidates[member], times) for member in members]

    def tight(self, number: int) -> tuple[float, bool, str | None]:
        """Return the tight bound of a candidate, whether it may fit, and why it is none."""
        try:
            bound = self.bounds.of(self.space.scenario_of(self.space.candidates[number]))
        except MoesimError as error:
            return 0.0, False, _rule(error)
        except MemoryError:
            return 0.0, False, str(out_of_memory())
        return bound.step_s, bound.fits, None

    def simulate(self, number: int) -> Outcome:
        """Simulate a candidate; nobody knows how many follow, and as many as so far are expected."""
        candidate = self.space.candidates[number]
        self._num_simulated += 1
        try:
            scenario = self.space.scenario_of(candidate)
        except MoesimError as error:
            return Outcome(number=number, candidate=candidate, problem=_rule(error))
        if self.kept is not None:
            changes = candidate.changes(trains=self.space.trains)
            return _outcome(candidate, number, self.kept.record(scenario, changes, self.limits, self._num_simulated))
        return simulate_candidate(
            scenario, candidate, number=number, limits=self.limits, runs_alike=self._num_simulated
        )


def _outcome(candidate: Candidate, number: int, record: Record) -> Outcome:
    """Return the outcome of a candidate whose simulation is kept."""
    if record.problem is not None:
        return Outcome(number=number, candidate=candidate, problem=record.problem)
    values = record.values
    return Outcome(
        number=number,
        candidate=candidate,
        step_s=float(values["step_time_s"]),
        memory_bytes=float(values["total"]),
        fits=bool(values["fits"]),
        tokens_per_s=float(values["tokens_per_s"]),
        parts_s=dict(record.parts_s),
    )


_worker: _Worker | None = None


def _begin(space: Space, limits: Limits, kept: KeptSimulations | None) -> None:
    global _worker  # noqa: PLW0603  # one for each process
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the process that searches
    end_with_parent()
    _worker = _Worker(space, limits, kept)


def _do(task: str, arguments: tuple[Any, ...]) -> Any:  # noqa: ANN401  # what the task returns
    if _worker is None:
        raise RuntimeError("a process begins with the space")
    return getattr(_worker, task)(*arguments)


def _rule(error: MoesimError) -> str:
    """Return the rule that refuses a candidate, without its value."""
    return str(getattr(error, "problem", error))


# ---- private: the search -----------------------------------------------------------------------------------------


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
        with _executors(jobs, self._space, self._limits, kept) as submit:
            try:
                self._start(first, submit)
                self._loop(submit, 2 * max(1, jobs))
                self._survey(submit)
            except KeyboardInterrupt:
                interrupted = True
        return self._searched(time.perf_counter() - began, interrupted=interrupted)

    # ---- steps ---------------------------------------------------------------------------------------------------

    def _start(self, first: Sequence[Candidate], submit: "_Submit") -> None:
        places = {candidate: number for number, candidate in enumerate(self._space.candidates)}
        for candidate in first:
            if candidate in places:
                self._stamp[places[candidate]] += 1
                self._submit(submit, "simulate", (places[candidate],))

    def _loop(self, submit: "_Submit", most_pending: int) -> None:
        while True:
            while len(self._pending) < most_pending and (number := self._next()) is not None:
                self._advance(submit, number)
            if not self._pending:
                return
            done, _ = wait(self._pending, return_when=FIRST_COMPLETED)
            for future in sorted(done, key=lambda one: self._pending[one][2]):
                task, numbers, _ = self._pending.pop(future)
                self._take(task, numbers, future.result())

    def _survey(self, submit: "_Submit") -> None:
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

    def _advance(self, submit: "_Submit", number: int) -> None:
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

    def _submit(self, submit: "_Submit", task: str, arguments: tuple[Any, ...]) -> None:
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


_Submit = Callable[[int, str, tuple[Any, ...]], "Future[Any]"]


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


def _few_layers(space: Space, number: int) -> tuple[int, NDArray[np.int64]] | None:
    """Return so few layers that all kinds are among them, and where each layer's kind is; None: all are needed."""
    strategy, model = space.candidates[number].strategy, space.model
    kinds = [model.layer(layer) for layer in range(model.layers)]
    first = {kind: layer for layer, kind in reversed(list(enumerate(kinds)))}
    chunks = strategy.pp * strategy.vpp
    least = -(-(max(first.values()) + 1) // chunks) * chunks
    if least >= model.layers or model.num_nextn_predict_layers:
        return None
    return least, np.array([first[kind] for kind in kinds])


def _family_bound_s(space: Space, candidate: Candidate, times_s: NDArray[np.float64]) -> float:
    """Return a candidate's bound from the times of a microbatch in the layers [2, layers]: see `cheap_bounds_s`."""
    s, workload = candidate.strategy, space.scenario.spec.workload
    number = s.pp * s.vpp
    batches = getattr(workload, "batches", 1)
    microbatches = candidate.microbatches * batches
    layers = times_s[:, : space.model.layers]
    forward, whole = layers
    kind = SCHEDULES[candidate.schedule]
    if kind.pairs or kind.layout not in {"row", "round_robin"}:
        return 0.0  # passes run at the same time, or the ways of microbatches are others
    if space.model.layers % number:
        return float(whole.sum() / s.pp * microbatches)
    chunks = whole.reshape(number, -1).sum(axis=1)
    before = forward.reshape(number, -1).sum(axis=1) if SCHEDULES[candidate.schedule].splits_backward else chunks
    own = chunks.reshape(s.vpp, s.pp).sum(axis=0) * microbatches
    fill = np.concatenate([[0.0], np.cumsum(before[: s.pp - 1])])
    return float((own + fill).max())


@contextlib.contextmanager
def _executors(jobs: int, space: Space, limits: Limits, kept: KeptSimulations | None) -> Iterator[_Submit]:
    """Yield what gives a task to the process of its family; with one job, tasks run here when they are given."""
    if jobs <= 1:
        worker = _Worker(space, limits, kept)

        def run_here(family: int, task: str, arguments: tuple[Any, ...]) -> "Future[Any]":
            del family
            future: Future[Any] = Future()
            future.set_result(getattr(worker, task)(*arguments))
            return future

        yield run_here
        return
    context = multiprocessing.get_context("spawn" if os.name == "nt" else "fork")
    pools = [
        ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=(space, limits, kept))
        for _ in range(jobs)
    ]
    given: list[Future[Any]] = []

    def submit(family: int, task: str, arguments: tuple[Any, ...]) -> "Future[Any]":
        given[:] = [future for future in given if not future.done()]
        given.append(pools[family % jobs].submit(_do, task, arguments))
        return given[-1]

    try:
        yield submit
    finally:
        if any(not future.done() for future in given):  # interrupted: nobody waits for these results
            for pool in pools:
                for process in list((pool._processes or {}).values()):  # there is no other way
                    process.terminate()
        for pool in pools:
            pool.shutdown(cancel_futures=True)
