"""Measure what a store and the distribution of points add to a sweep, on processes, Dask and Ray.

    python benchmarks/sweep_overheads.py --points 50 --pairs 5

Each round simulates points of about 40 ms bare, and then as a sweep with a SQLite store: on processes of this machine,
on a Dask cluster and on a Ray cluster with two workers each, where these are installed. What counts is the processor
time of all processes that take part, those of the cluster among them, less what the cluster takes when it idles. The
median of the rounds is printed, as a share of the simulations themselves.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "tests/sim/studies"))

from sim.run.parallel_runs import observe  # noqa: E402
from sim.run.resources import NO_LIMITS  # noqa: E402
from sim.scenario.load import load_scenario_text  # noqa: E402
from sim.studies.executors.choose import choose_executor  # noqa: E402
from sim.studies.executors.executor import Executor  # noqa: E402
from sim.studies.store.store import Store  # noqa: E402
from sim.studies.sweep.grid import Axis, Grid  # noqa: E402
from sim.studies.sweep.points import run_points  # noqa: E402

PASSES = """
parallel: {pp: 8}
workload: {kind: passes, microbatches: 48, pass_times: {F: 1 ms, B: 2 ms}}
engine: simpy
"""
"""A point takes about 40 ms, whatever its seed."""
SCENARIO = load_scenario_text(PASSES)
IDLE_S = 3.0

Processes = Callable[[], Iterator[psutil.Process]]


def used_s(processes: Processes) -> float:
    """Return the processor time of this process, of children of it that have ended, and of some others."""
    found = sum(os.times()[:4])
    for process in processes():
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        found += times.user + times.system
    return found


def bare_s(seeds: range) -> float:
    """Return what simulations take without a study."""
    began = time.process_time()
    for seed in seeds:
        observe(SCENARIO.variant({"seed": seed}), frozenset(), NO_LIMITS)
    return time.process_time() - began


def sweep_s(seeds: range, executor: Callable[[], Executor], others: Processes, idle: float, folder: Path) -> float:
    """Return what a sweep takes on an executor that runs already; others than this process idle at a rate."""
    grid = Grid(axes=(Axis(key="seed", values=tuple(seeds)),))
    with Store(str(folder / "store.sqlite")) as store, executor() as running:
        run_points(SCENARIO, grid_of_one(), study="warm", store=store, executor=running)
        began, began_s = used_s(others), time.monotonic()
        outcome = run_points(SCENARIO, grid, study="s", store=store, executor=running)
        used = used_s(others) - began - idle * (time.monotonic() - began_s)
    if outcome.num_simulated != len(seeds):
        raise ValueError(f"{outcome.num_simulated} points were simulated, not {len(seeds)}")
    return used


def grid_of_one() -> Grid:
    """Return points that start each worker, before anything is measured."""
    first = time.time_ns() % 10**9 + 10**9
    return Grid(axes=(Axis(key="seed", values=tuple(range(first, first + 4))),))


def idle_rate(processes: Processes) -> float:
    """Return what a cluster takes a second when it has nothing to do."""
    began, began_s = used_s(processes), time.monotonic()
    time.sleep(IDLE_S)
    return (used_s(processes) - began) / (time.monotonic() - began_s)


def below(pid: int) -> Processes:
    """Return what lists a process and all that it has started."""
    return lambda: iter([psutil.Process(pid), *psutil.Process(pid).children(recursive=True)])


def places(stack: ExitStack, folder: Path) -> dict[str, tuple[Callable[[], Executor], Processes]]:
    """Return where a sweep can run here, with the processes that take part."""
    found: dict[str, tuple[Callable[[], Executor], Processes]] = {}
    if find_spec("distributed"):
        from local_dask import local_dask  # noqa: PLC0415  # needs Dask

        dask = stack.enter_context(local_dask(folder, workers=2))
        pids = [process.pid for process in dask.processes.values()]
        found["Dask"] = (lambda: choose_executor(dask.url, 1), lambda: map(psutil.Process, pids))
    if find_spec("ray"):
        from local_ray import local_ray  # noqa: PLC0415  # needs Ray

        found["Ray"] = (lambda: choose_executor("ray", 1), below(stack.enter_context(local_ray()).pid))
    clusters = {process.pid for process in psutil.Process().children()}
    workers = lambda: (one for one in psutil.Process().children() if one.pid not in clusters)  # noqa: E731  # as above
    return {"2 processes": (lambda: choose_executor(None, 2), workers), **found}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--pairs", type=int, default=5)
    given = parser.parse_args()
    bare_s(range(5))
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder, added = Path(name), dict[str, list[float]]()
        ways = places(stack, folder)
        for round_ in range(given.pairs):
            for way, (executor, others) in ways.items():
                seeds = range(given.points * round_, given.points * (round_ + 1))
                own = tempfile.mkdtemp(dir=folder)
                idle = 0.0 if way == "2 processes" else idle_rate(others)
                before = bare_s(seeds)
                swept = sweep_s(seeds, executor, others, idle, Path(own))
                bare = (before + bare_s(seeds)) / 2
                added.setdefault(way, []).append(swept / bare - 1)
                print(f"{way}: {bare / given.points * 1e3:.1f} ms a point, {swept / bare - 1:+.1%}", flush=True)
        for way, shares in added.items():
            print(f"{way}: {statistics.median(shares):+.1%}, the median of {len(shares)} pairs", flush=True)


if __name__ == "__main__":
    main()
