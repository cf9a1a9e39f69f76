"""How everything here is timed, and the rows that the table is made of.

A benchmark runs in rounds; each round runs every case once, one after another, so that a busy machine slows all of them
alike. A case's figure is the least of its rounds. One of the cases is a bare SimPy timeout: figures over it can be
compared between machines, and only figures of one run make a ratio. The timeout that figures are divided by is the
least of the whole run, not that of the case's own rounds: when all of those are disturbed, the case would look fast.

Garbage is collected before each timing, and the collector stays on during it, as it does for users.

A row goes to the JSON with its benchmark (`extra_info["rows"]`); `benchmarks/table.py` reads it there.
"""

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import simpy
from pytest_benchmark.fixture import BenchmarkFixture

from sim.build.build import build
from sim.build.work import Work
from sim.engine.run_state import Plan
from sim.engine.simulation import EngineStats, run_plan
from sim.plan.pipeline import PipelinePlan
from sim.scenario.load import load_scenario
from workloads.routing import draw
from workloads.routing.kept_draws import KeptDraws

__all__ = [
    "ROOT",
    "RUNS",
    "Cost",
    "Row",
    "bare_timeout_s",
    "note",
    "run_fresh",
    "run_rounds",
    "time_plan",
    "without_kept_draws",
    "work_of",
]

ROOT = Path(__file__).parent.parent
RUNS = 5
_PROCESSES, _TIMEOUTS = 4, 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table."""

    case: str
    """What was measured."""
    figure: float
    """The least of the rounds."""
    unit: str
    """Unit of the figure; empty for a ratio."""
    time_s: float | None = None
    """The figure in seconds, where it is to be given in bare timeouts too."""
    bar: float | None = None
    """The most that is allowed, if anything is."""
    bar_on_timeouts: bool = False
    """Whether the bar is in bare timeouts and not on the figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one simulation cost."""

    engine_s: float
    """Engine time as the engine counts it: from the first event to the columns of the trace."""
    plan_s: float
    """Planning while it ran: routing draws, kernel times, loads on links."""
    whole_s: float
    """From the work to the run: the plan, its lanes, the engine, the course of the links' load."""
    stats: EngineStats
    """The engine's own account."""

    @property
    def run_s(self) -> float:
        """All but planning."""
        return self.whole_s - self.plan_s


def bare_timeout_s() -> float:
    """Return the time of one bare timeout: 4 processes of 50,000 each."""

    def process(env: simpy.Environment) -> Generator[simpy.Event, None, None]:
        for _ in range(_TIMEOUTS):
            yield env.timeout(1)

    env = simpy.Environment()
    for _ in range(_PROCESSES):
        env.process(process(env))
    began = time.perf_counter()
    env.run()
    return (time.perf_counter() - began) / (_PROCESSES * _TIMEOUTS)


def without_kept_draws() -> AbstractContextManager[Any]:
    """Return a context in which each round draws its tokens anew, as a process does for its first run."""
    return patch.object(draw, "_kept", KeptDraws(most_bytes=0))


def time_plan(make: Callable[[], Plan]) -> Cost:
    """Make a plan and run it to its end; making counts as planning, and so do all draws."""
    began = time.perf_counter()
    plan = make()
    made_s = time.perf_counter() - began
    with without_kept_draws():
        stats = run_plan(plan).stats
    whole_s = time.perf_counter() - began
    return Cost(engine_s=stats.wall_s, plan_s=made_s + stats.plan_wall_s, whole_s=whole_s, stats=stats)


def work_of(scenario: str, *overrides: str) -> Work:
    """Return the work of a bundled scenario."""
    return build(load_scenario(scenario, overrides=list(overrides))).work


def pipeline_plan(work: Work) -> Callable[[], Plan]:
    """Return what makes a new plan of `work`, with nothing planned yet."""
    return lambda: PipelinePlan(work)


def run_rounds(
    benchmark: BenchmarkFixture, measured: Callable[[], Any], *others: Callable[[], Any], runs: int = RUNS
) -> list[list[Any]]:
    """Run `others` and then `measured` in each round; pytest-benchmark times the last.

    Returns
    -------
    list[list]
        What each gave in each round: that of `measured` first, then those of `others` in their order.
    """
    results: list[list[Any]] = [[] for _ in (measured, *others)]

    def before() -> None:
        for kept, one in zip(results[1:], others, strict=True):
            gc.collect()
            kept.append(one())
        gc.collect()

    benchmark.pedantic(lambda: results[0].append(measured()), setup=before, rounds=runs)
    return results


def run_fresh(arguments: Sequence[str], *, num_cores: int) -> tuple[float, str]:
    """Run Python with `arguments` in a process of its own on so many cores; return wall time and what it printed."""
    env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS=str(num_cores), OPENBLAS_NUM_THREADS=str(num_cores))
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    if before is not None:  # a child starts with the cores of its parent
        os.sched_setaffinity(0, sorted(before)[:num_cores])
    try:
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *arguments], env=env, capture_output=True, text=True, check=True, cwd=Path(__file__).parent
        )
        return time.perf_counter() - began, done.stdout
    finally:
        if before is not None:
            os.sched_setaffinity(0, before)


def note(benchmark: BenchmarkFixture, *rows: Row, bare_s: Sequence[float] = ()) -> None:
    """Keep `rows` with the benchmark, and the least of the bare timeouts that ran between its rounds."""
    benchmark.extra_info["rows"] = [asdict(row) for row in rows]
    if bare_s:
        benchmark.extra_info["timeout_s"] = min(bare_s)
    json.dumps(benchmark.extra_info)  # numbers of numpy would fail when all is done; here they are easier to find
