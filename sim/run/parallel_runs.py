"""Simulations side by side: each in one of several processes, results in the order of the scenarios.

They start at once and go on while the caller does other work; the longest begin first, so that none is left to run
alone at the end. A simulation that cannot be run is an outcome as well, with its reason. With one job all run in this
process, when their results are collected. Equal scenarios are simulated once.

Where it is safe, processes are forks of this one: they have its modules and what is known of its clusters, which a
process that starts anew would take most of a second to read.
"""

import multiprocessing
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.context import BaseContext
from typing import TypeVar

from sim.build.assumptions import Assumption
from sim.errors import DeadlockError, InvalidValueError, MoesimError, out_of_memory
from sim.results.accounts import categories_by_kind
from sim.run.memory_guard import share_memory
from sim.run.model_run import EXCHANGE
from sim.run.parent_watch import end_with_parent
from sim.run.resources import NO_LIMITS, Limits
from sim.run.scenario_run import Value
from sim.run.simulate import simulate_scenario
from sim.scenario.scenario import Scenario
from sim.scenario.workload_section import ForwardWorkload, TrainingWorkload
from workloads.routing import ROUTINGS

__all__ = ["Observation", "observe", "process_pool", "result_of", "run_many"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one simulation says, without its trace."""

    values: dict[str, Value]
    """Metrics, memory and mesh by name; empty where it could not be run."""
    problem: str | None = None
    """Why it could not be run."""
    num_runs: int = 1
    """Simulations that it took; 0 where it was refused before it ran, or where an equal scenario was simulated."""
    assumptions: tuple[Assumption, ...] = ()
    """Facts that were filled in."""
    parts_s: dict[str, float] = field(default_factory=dict)
    """Account of time, averaged over stages, with imbalance, contention and latency by kind; sums to the step time."""
    tokens: dict[str, int] = field(default_factory=dict)
    """Copies of tokens that were routed, computed, dropped, padded and rerouted."""


@contextmanager
def run_many(
    scenarios: Sequence[Scenario],
    *,
    wanted: frozenset[str] = frozenset(),
    jobs: int = 1,
    limits: Limits = NO_LIMITS,
    on_done: Callable[[int], None] = lambda _: None,
    on_each: Callable[[int, Observation], None] | None = None,
) -> Iterator[Callable[[], list[Observation]]]:
    """Begin to simulate each scenario once, on `jobs` processes; what is handed out waits for them.

    `on_done` is called with the number of finished simulations after each of them, in whatever order they end.
    `on_each` is called with the position and the observation of each finished simulation, in a thread of its own where
    there are several processes. Simulations that have not begun when the context is left by an error are dropped.
    """
    equal = _equal_scenarios(scenarios)
    runs_alike = -(-len(equal) // max(jobs, 1))
    if jobs <= 1 or len(equal) <= 1:
        yield lambda: _collected(_one_by_one(scenarios, wanted, limits, on_each), on_done)
        return
    observe_equal = partial(_observe_equal, scenarios, wanted, limits)
    with process_pool(min(jobs, len(equal))) as pool:
        order = sorted(equal, key=lambda i: -_effort(scenarios[i]))
        futures = {i: pool.submit(observe, scenarios[i], wanted, limits, runs_alike) for i in order}
        if on_each is not None:
            for i, future in futures.items():
                future.add_done_callback(partial(_report, on_each, equal[i], observe_equal))
        yield lambda: _waited_for(futures, equal, observe_equal, on_done)


@contextmanager
def process_pool(num_workers: int) -> Iterator[ProcessPoolExecutor]:
    """Start processes that simulate; when the context is left by an error, they end at once."""
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        num_workers, mp_context=_start_context(), initializer=_begin_worker, initargs=(num_workers,)
    )
    try:
        with _interrupts_blocked(), warnings.catch_warnings():  # the first is what the processes inherit
            # from Python 3.12 on a fork warns of all threads: those of linear algebra stop and start again
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
            for _ in range(num_workers):  # forks are all started by the first task, other processes one by one
                pool.submit(_do_nothing)
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()  # nobody waits for its result
        raise
    pool.shutdown()


def _do_nothing() -> None:
    """Do nothing, in a process that starts."""


def _begin_worker(num_workers: int) -> None:
    """Begin a worker process: one of so many that share the memory of the machine."""
    end_with_parent()
    share_memory(num_workers)


def _start_context() -> BaseContext:
    """Return how processes start: as forks where the system forks safely and this process runs no other thread."""
    forks = sys.platform == "linux" and threading.active_count() == 1
    return multiprocessing.get_context("fork" if forks else "spawn")


def _equal_scenarios(scenarios: Sequence[Scenario]) -> dict[int, list[int]]:
    """Return the position of each scenario that is unlike all before it, with the positions of all that equal it.

    >>> workload = {"kind": "passes", "microbatches": 8, "pass_times": {"F": "1 ms", "B": "2 ms"}}
    >>> scenario = Scenario.validated({"parallel": {"pp": 4}, "workload": workload})
    >>> _equal_scenarios([scenario, scenario.variant({"seed": 2}), scenario.variant({})])
    {0: [0, 2], 1: [1]}
    """
    first: dict[tuple[str | None, str], int] = {}
    equal: dict[int, list[int]] = {}
    for i, scenario in enumerate(scenarios):
        key = (scenario.path, repr(scenario.without_judgement().raw))
        equal.setdefault(first.setdefault(key, i), []).append(i)
    return equal


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block interrupts until the context is left; do nothing where the system cannot block them.

    To block the signal is what started processes inherit, but it holds for this thread alone: where another one (of a
    library for linear algebra) takes the signal, Python raises in the main thread all the same, and would leave a
    process half started. So the handler waits as well.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _handler_waiting() if threading.current_thread() is threading.main_thread() else nullcontext():
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _handler_waiting() -> Iterator[None]:
    """Call the main thread's handler of interrupts when the context is left, if an interrupt came meanwhile."""
    interrupts: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if interrupts and callable(handler):
            handler(signal.SIGINT, None)


def _one_by_one(
    scenarios: Sequence[Scenario],
    wanted: frozenset[str],
    limits: Limits,
    on_each: Callable[[int, Observation], None] | None,
) -> Iterator[Observation]:
    first = {i: positions[0] for positions in _equal_scenarios(scenarios).values() for i in positions}
    known: dict[int, Observation] = {}
    for i, scenario in enumerate(scenarios):
        observation = (
            observe(scenario, wanted, limits, len(set(first.values())))
            if first[i] == i
            else _observe_equal(scenarios, wanted, limits, i, known[first[i]])
        )
        known[i] = observation
        if on_each is not None:
            on_each(i, observation)
        yield observation


def _observe_equal(
    scenarios: Sequence[Scenario], wanted: frozenset[str], limits: Limits, position: int, observation: Observation
) -> Observation:
    """Return what a scenario says of which an equal one was simulated; a refusal names the place of its own."""
    if observation.problem is not None:
        return observe(scenarios[position], wanted, limits)
    return replace(observation, num_runs=0)


def _report(
    on_each: Callable[[int, Observation], None],
    positions: Sequence[int],
    observe_equal: Callable[[int, Observation], Observation],
    future: Future[Observation],
) -> None:
    """Call `on_each` for a finished simulation, unless the simulation was dropped or its process ended early."""
    if not future.cancelled() and future.exception() is None:
        observation = future.result()
        on_each(positions[0], observation)
        for i in positions[1:]:
            on_each(i, observe_equal(i, observation))


def _collected(observations: Iterator[Observation], on_done: Callable[[int], None]) -> list[Observation]:
    done: list[Observation] = []
    for observation in observations:
        done.append(observation)
        on_done(len(done))
    return done


def _waited_for(
    futures: Mapping[int, Future[Observation]],
    equal: Mapping[int, Sequence[int]],
    observe_equal: Callable[[int, Observation], Observation],
    on_done: Callable[[int], None],
) -> list[Observation]:
    """Return the observations of the processes in the order of the scenarios, whatever the order in which they end."""
    found: dict[int, Observation] = {}
    position_of = {future: i for i, future in futures.items()}
    for future in as_completed(position_of):
        first = position_of[future]
        observation = result_of(future)
        for i in equal[first]:
            found[i] = observation if i == first else observe_equal(i, observation)
            on_done(len(found))
    return [found[i] for i in range(len(found))]


def result_of(future: Future[_T]) -> _T:
    """Return what a process returned; a system ends a process without a word where memory runs out."""
    try:
        return future.result()
    except BrokenProcessPool:
        raise out_of_memory() from None


def _effort(scenario: Scenario) -> int:
    """Return about how long a simulation takes, next to others: microbatches, and draws where each has its own."""
    workload = scenario.spec.workload
    if not isinstance(workload, (ForwardWorkload, TrainingWorkload)):
        return 0
    batches = workload.batches if isinstance(workload, ForwardWorkload) else 2  # a backward pass is another
    return batches * workload.microbatches * (1 if ROUTINGS[scenario.spec.routing.kind].is_balanced else 4)


def observe(scenario: Scenario, wanted: frozenset[str], limits: Limits, runs_alike: int = 1) -> Observation:
    """Simulate a scenario, one of about `runs_alike` of this process."""
    try:
        simulated = simulate_scenario(
            scenario,
            wanted=wanted,
            link_timeline=False,
            links=False,
            limits=limits,
            runs_alike=runs_alike,
        )
    except InvalidValueError as error:
        return Observation(values={}, problem=error.problem, num_runs=0)
    except DeadlockError as error:  # an outcome: the exchange that is entered so does not end
        return Observation(values={EXCHANGE: False}, problem=str(error))
    except MoesimError as error:
        return Observation(values={}, problem=str(error))
    except MemoryError:
        return Observation(values={}, problem=str(out_of_memory()))
    run, stages = simulated.run, simulated.stages_ns
    return Observation(
        values=simulated.values,
        num_runs=simulated.num_runs,
        assumptions=tuple(simulated.assumptions),
        parts_s=categories_by_kind(run.trace, stages),
        tokens={
            "routed": run.tokens_routed,
            "computed": run.tokens_computed,
            "dropped": run.tokens_dropped,
            "padded": run.tokens_padded,
            "rerouted": run.tokens_rerouted,
        },
    )
