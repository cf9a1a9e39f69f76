"""Which engine runs a plan: `engine` of a scenario.

Model
-----
`auto` takes the compiled kernel where

    operations of all runs like this * time of an operation in SimPy's engine  >  time until the kernel runs

A study that runs many scenarios in one process is `auto` unless its scenario says otherwise.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypedDict

from sim.engine.compiled.compiler import START_S, has_numba, start_s
from sim.engine.compiled.run import run_compiled
from sim.engine.run_state import Plan
from sim.engine.simulation import Run, run_plan
from sim.scenario.engine_names import AUTO_ENGINE, DEFAULT_ENGINE

__all__ = ["pays_to_compile", "run_on"]

_OP_S: Final = 10e-6
"""Time of an operation in SimPy's engine: 57 ms over the 5,760 of the reference step (`benchmarks/bench_engine.py`)."""


def pays_to_compile(num_ops: int) -> bool:
    """Tell whether the compiled kernel saves more time in so many operations than it takes to begin.

    >>> pays_to_compile(0)
    False
    """
    return num_ops * _OP_S > start_s() and has_numba()


def run_on(
    engine: str,
    plan: Plan,
    *,
    num_ops: Callable[[], int],
    max_events: int,
    link_timeline: bool,
    keep_ended: bool = False,
    links: bool = True,
) -> Run:
    """Run a plan on an engine of `ENGINES`; `num_ops` says how many operations this run and those like it have."""
    options: _Options = {
        "max_events": max_events,
        "link_timeline": link_timeline,
        "keep_ended": keep_ended,
        "links": links,
    }
    if engine == DEFAULT_ENGINE:
        return run_plan(plan, **options)
    if engine == AUTO_ENGINE and not pays_to_compile(num_ops()):
        run = run_plan(plan, **options)
        return replace(run, stats=replace(run.stats, why_not_compiled=_why_not(num_ops())))
    return run_compiled(plan, **options)


# ---- private ------------------------------------------------------------------------------------------------------


class _Options(TypedDict):
    """What both engines take."""

    max_events: int
    link_timeline: bool
    keep_ended: bool
    links: bool


def _why_not(num_ops: int) -> str | None:
    """Return what keeps the compiled kernel from paying; None where SimPy's processes are simply quicker."""
    if num_ops * _OP_S <= START_S["kept"] or not has_numba():
        return None
    return "no compiled kernel is kept: `--set engine=compiled` makes one, which takes about a minute"
