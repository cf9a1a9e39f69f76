"""Simulations side by side: the same results whatever the number of processes, in the order requested."""

import signal
import sys
import threading
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool

import pytest

from sim.errors import SimulationError
from sim.run import parallel_runs
from sim.run.parallel_runs import Observation, run_many
from sim.scenario.load import load_scenario

SMALL = ["claims=[]", "alternatives=[]", "rivals=[]", "workload.batches=1", "workload.sequences=16"]


def variants() -> list:
    """Return small runs, the longest last, and one that is refused."""
    small = load_scenario("ep64_tp16_pp4", overrides=SMALL)
    return [
        small.variant({"workload.microbatches": 1}),
        small.variant({"parallel.convention": "megatron"}),
        small.variant({"workload.microbatches": 2, "routing.kind": "multinomial"}),
        small.variant({"workload.microbatches": 8}),
    ]


def test_results_and_their_order_do_not_depend_on_the_number_of_processes():
    """The refused one keeps its place and its reason; progress counts up to all."""
    heard: dict[int, list[int]] = {1: [], 2: []}
    found = {}
    for jobs, done in heard.items():
        with run_many(variants(), jobs=jobs, on_done=done.append) as observe:
            found[jobs] = observe()
    assert found[1] == found[2]
    assert [observation.problem is None for observation in found[1]] == [True, False, True, True]
    assert heard[1] == heard[2] == [1, 2, 3, 4]


def test_progress_counts_what_is_done_and_not_what_is_first(monkeypatch):
    """The longest begin first: the first requested may be the last, and is done here once the others are heard of."""
    others_heard, first, heard = threading.Event(), [], []
    scenarios = variants()

    class Pool:
        def __init__(self, *_, **__):
            pass

        def submit(self, _, scenario=None, *__):
            if scenario is None:  # the task with which a process begins
                return Future()
            future: Future[Observation] = Future()
            seen = Observation(values={}, problem=str(scenarios.index(scenario)))
            if scenario is scenarios[0]:
                first.append(future)
                threading.Thread(target=lambda: (others_heard.wait(5), future.set_result(seen))).start()
            else:
                future.set_result(seen)
            return future

        def shutdown(self, **_):
            pass

    def hear(num_done):
        heard.append((num_done, first[0].done()))
        if num_done == 3:
            others_heard.set()

    monkeypatch.setattr("sim.run.parallel_runs.ProcessPoolExecutor", Pool)
    with run_many(scenarios, jobs=2, on_done=hear) as observe:
        assert [seen.problem for seen in observe()] == ["0", "1", "2", "3"]
    assert heard == [(1, False), (2, False), (3, False), (4, True)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_equal_scenarios_are_simulated_once_and_a_refusal_names_its_own_place(jobs):
    """The second of two equal ones counts as no simulation; what is refused is refused where it stands."""
    small = load_scenario(
        "ep64_tp16_pp4",
        overrides=[*SMALL[1:], "alternatives=[{parallel.convention: megatron}]", "workload.microbatches=1"],
    )
    illegal = [small.alternative(0), small.variant({"parallel.convention": "megatron"})]
    heard: dict[int, Observation] = {}
    with run_many([small, *illegal, small], jobs=jobs, on_each=heard.__setitem__) as observe:
        first, *refused, second = observe()
    assert (first.num_runs, second.num_runs) == (1, 0)
    assert second.values == first.values
    assert [("alternatives.0" in (seen.problem or ""), seen.num_runs) for seen in refused] == [(True, 0), (False, 0)]
    assert heard == dict(enumerate([first, *refused, second]))


def test_a_process_with_threads_is_not_forked():
    """A thread may hold a lock, which nobody would open in a fork."""
    begun, end = threading.Event(), threading.Event()
    is_alone = threading.active_count() == 1  # other tests may have left threads
    thread = threading.Thread(target=lambda: (begun.set(), end.wait()))
    alone = parallel_runs._start_context().get_start_method()
    thread.start()
    begun.wait()
    assert parallel_runs._start_context().get_start_method() == "spawn"
    end.set()
    thread.join()
    assert alone == ("fork" if sys.platform == "linux" and is_alone else "spawn")


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_of_the_caller_ends_the_simulations(jobs):
    """What goes wrong elsewhere comes through as it is."""
    with pytest.raises(SimulationError, match="elsewhere"), run_many(variants(), jobs=jobs):
        raise SimulationError("elsewhere")


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="interrupts cannot be blocked here")
def test_an_interrupt_that_another_thread_takes_waits_until_all_processes_have_begun(monkeypatch):
    """Blocked signals go to threads that do not block them; half a start would leave a traceback of a lost process."""
    interrupted, begun, ended = threading.Event(), [], []

    def take():
        interrupted.wait()
        signal.raise_signal(signal.SIGINT)

    class Pool:
        def __init__(self, *_, **__):
            pass

        def submit(self, task):
            interrupted.set()
            thread.join()
            begun.append(task)

        def shutdown(self, **how):
            ended.append(how)

    monkeypatch.setattr("sim.run.parallel_runs.ProcessPoolExecutor", Pool)
    thread = threading.Thread(target=take)
    thread.start()
    with pytest.raises(KeyboardInterrupt), run_many(variants(), jobs=2):
        raise AssertionError("it is stopped before anything else is done")
    assert len(begun) == 2
    assert ended == [{"wait": False, "cancel_futures": True}]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_simulation_that_finds_no_more_memory_is_told_as_one_that_could_not_be_run(monkeypatch):
    """The others go on."""

    def run_out(*_, **__):
        raise MemoryError

    monkeypatch.setattr(parallel_runs, "simulate_scenario", run_out)
    with run_many(variants()[:1]) as observe:
        assert [(seen.values, (seen.problem or "")[:40]) for seen in observe()] == [
            ({}, "the run must fit into the memory of this")
        ]


def test_a_process_that_the_system_ends_is_told_as_want_of_memory():
    """Linux ends one without a word."""
    future: Future[Observation] = Future()
    future.set_exception(BrokenProcessPool())
    with pytest.raises(SimulationError, match="found no more of it"):
        parallel_runs.result_of(future)
