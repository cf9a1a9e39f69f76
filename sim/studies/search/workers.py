"""Candidates in processes: their bounds, their simulations, and what gives tasks to a process.

A family of candidates always goes to the same process, which keeps its layers' times.
"""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.build.runtime import runtime_of
from sim.errors import InvalidValueError, MoesimError, out_of_memory
from sim.results.accounts import categories_by_kind
from sim.run.parent_watch import end_with_parent
from sim.run.resources import NO_LIMITS, Limits
from sim.run.simulate import simulate_scenario
from sim.scenario.scenario import Scenario
from sim.studies.search.bounds import TightBounds, has_alike_stages
from sim.studies.search.kept import KeptSimulations
from sim.studies.search.space import Candidate, Space
from sim.studies.store.record import Record
from workloads.schedules import SCHEDULES

__all__ = ["Outcome", "Submit", "Worker", "executors", "simulate_candidate"]

Submit = Callable[[int, str, tuple[Any, ...]], "Future[Any]"]
"""Gives a task of a family (its number, the name of a method of `Worker`, arguments) to the process of the family."""


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


class Worker:
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


@contextlib.contextmanager
def executors(jobs: int, space: Space, limits: Limits, kept: KeptSimulations | None) -> Iterator[Submit]:
    """Yield what gives a task to the process of its family; with one job, tasks run here when they are given."""
    if jobs <= 1:
        worker = Worker(space, limits, kept)

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


# ---- private -----------------------------------------------------------------------------------------------------


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


_worker: Worker | None = None


def _begin(space: Space, limits: Limits, kept: KeptSimulations | None) -> None:
    global _worker  # noqa: PLW0603  # one for each process
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the process that searches
    end_with_parent()
    _worker = Worker(space, limits, kept)


def _do(task: str, arguments: tuple[Any, ...]) -> Any:  # noqa: ANN401  # what the task returns
    if _worker is None:
        raise RuntimeError("a process begins with the space")
    return getattr(_worker, task)(*arguments)


def _rule(error: MoesimError) -> str:
    """Return the rule that refuses a candidate, without its value."""
    return str(getattr(error, "problem", error))


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
