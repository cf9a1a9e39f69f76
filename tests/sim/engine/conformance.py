"""Whether the kernel of `sim.engine.compiled` says the same of a plan as SimPy's processes."""

from dataclasses import fields

import numpy as np

from sim.engine.compiled import loop
from sim.engine.compiled.arrays import KeptPlan
from sim.engine.compiled.compiler import RunKernel
from sim.engine.compiled.run import run_kernel
from sim.engine.run_state import Plan
from sim.engine.simulation import Run, run_plan
from sim.engine.trace import LinkUse

__all__ = ["differences", "differences_of"]

_FIGURES = (
    "tokens_routed",
    "tokens_computed",
    "tokens_dropped",
    "tokens_padded",
    "tokens_rerouted",
    "imbalance_max_over_mean",
    "tokens_sent",
    "exchange_skew",
    "bytes_sent",
    "bytes_received",
    "num_ended",
)


def differences(plan: Plan, kernel: RunKernel = loop.run) -> list[str]:
    """Run a plan by SimPy's processes and by the kernel (interpreted by default); return what differs."""
    kept = KeptPlan(plan)
    reference = run_plan(kept, keep_ended=True)
    return differences_of(reference, run_kernel(kept, kernel, keep_ended=True))


def differences_of(reference: Run, run: Run) -> list[str]:
    """Return what differs in two runs: columns of the trace, what links carried, tokens, bytes and events."""
    expected, found = reference.trace, run.trace
    names = [f"trace {name}" for name in expected.columns if not _equal(expected.columns[name], found.columns[name])]
    names += [
        f"links {item.name}"
        for item in fields(LinkUse)
        if not _equal(getattr(expected.link_use, item.name), getattr(found.link_use, item.name))
    ]
    names += [name for name in _FIGURES if getattr(reference, name) != getattr(run, name)]
    received = [_by_pass(of.tokens_received) for of in (reference, run)]
    names += ["tokens_received"] if received[0] != received[1] else []
    return names + (["events"] if reference.stats.num_events != run.stats.num_events else [])


def _equal(one: object, other: object) -> bool:
    return bool(np.array_equal(one, other)) if isinstance(one, np.ndarray) else one == other


def _by_pass(received: object) -> dict[object, object]:
    return {place: {key: rows.tolist() for key, rows in of.items()} for place, of in received.items()}
