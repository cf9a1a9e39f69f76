"""Which engine runs a plan: `engine` of a scenario.

Model
-----
`auto` takes the compiled kernel where

    operations of all runs like this * time saved in an operation  >  time until the kernel runs

and never flow by flow: the kernel runs flows as well, but nothing is gained, for the time goes into the network, which
both engines share. It is the default.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypedDict

from sim.engine.compiled.compiler import START_S, start_s, why_not_kept
from sim.engine.compiled.run import run_compiled
from sim.engine.optional_numba import has_numba
from sim.engine.run_state import Plan
from sim.engine.simulation import Run, run_plan
from sim.scenario.engine_names import DEFAULT_ENGINE, SIMPY_ENGINE

__all__ = ["compiles", "pays_to_compile", "run_on"]

_OP_S: Final = 5.5e-6
"""Time that the kernel saves in an operation, its lowering and rows counted: the mean of the reference step (3.9 us in
SimPy's engine and 0.5), ep16_tp16_pp4 (4.8 and 1.3) and ep64_tp16_pp4 (11.7 and 2.1), the plans of
`benchmarks/bench_compiled.py`; both engines in one process, on one core of an AMD EPYC."""

_SLOWED_OP_S: Final = 20e-6
"""The same where transfers take SMs, so that kernels are claimed, slowed and issued one by one: the mean of
ep16_tp16_pp4 (11.8 and 1.3) and ep64_tp16_pp4 (27.7 and 3.4), each with `network.num_sms=20`, and of DeepSeek-V3 on
2,048 GPUs with 16 microbatches (29.5 and 3.9; `benchmarks/scale_cases.py`, experts_1f1b)."""


def pays_to_compile(num_ops: int, op_s: float = _OP_S) -> bool:
    """Tell whether the compiled kernel saves more time in so many operations of `op_s` than it takes to begin.

    >>> pays_to_compile(0)
    False
    """
    return has_numba() and num_ops * op_s > start_s()


def compiles(engine: str, plan: Plan, num_ops: int) -> bool:
    """Tell whether the compiled kernel is to run a plan, one of those that have `num_ops` operations together."""
    if engine != DEFAULT_ENGINE:
        return engine != SIMPY_ENGINE and has_numba()
    return plan.fidelity != "flow" and pays_to_compile(num_ops, _op_s(plan))


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
    if engine == SIMPY_ENGINE:
        return run_plan(plan, **options)
    if engine == DEFAULT_ENGINE and not compiles(engine, plan, num_ops()):
        run = run_plan(plan, **options)
        return replace(run, stats=replace(run.stats, why_not_compiled=_why_not(plan, num_ops())))
    return run_compiled(plan, **options)


# ---- private ------------------------------------------------------------------------------------------------------


class _Options(TypedDict):
    """What both engines take."""

    max_events: int
    link_timeline: bool
    keep_ended: bool
    links: bool


def _op_s(plan: Plan) -> float:
    """Return the time that the kernel saves in an operation of a plan."""
    return _OP_S if plan.num_sms is None else _SLOWED_OP_S


def _why_not(plan: Plan, num_ops: int) -> str | None:
    """Return what keeps the compiled kernel from paying; None where SimPy's processes are simply quicker."""
    if plan.fidelity == "flow" or num_ops * _op_s(plan) <= START_S["kept"] or not has_numba():
        return None
    unkept = why_not_kept()
    if unkept is not None:
        return f"no compiled kernel can be kept: {unkept}"
    return "no compiled kernel is kept: `--set engine=compiled` makes one, which takes about half a minute"
