"""Whether the kernel of `sim.engine.compiled` says the same of a plan as SimPy's processes."""

import json
from dataclasses import fields
from pathlib import Path
from unittest.mock import patch

import numpy as np
from scenario_draws import draw_scenario

from sim.engine.compiled import loop
from sim.engine.compiled.arrays import KeptPlan, NotLoweredError
from sim.engine.compiled.compiler import RunKernel
from sim.engine.compiled.run import run_kernel
from sim.engine.run_state import Plan
from sim.engine.simulation import Run, run_plan
from sim.engine.trace import LinkUse
from sim.errors import MoesimError
from sim.run.simulate import simulate_scenario
from sim.scenario.load import load_scenario

__all__ = ["differences", "differences_of", "differences_of_drawn"]

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


def differences_of_drawn(seed: int, number: int, folder: Path, kernel: RunKernel = loop.run) -> list[str] | None:
    """Run a drawn scenario by both engines; return what differs, and None where it is refused.

    Every other scenario runs flow by flow, unless that is refused. The keys that are set at random are left out: with
    them most draws are refused.
    """
    drawn = draw_scenario(seed, number)
    for name, text in drawn.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    base = drawn.base
    if number % 2:
        network = base.get("network")
        base = {**base, "network": {**(network if isinstance(network, dict) else {}), "fidelity": "flow"}}
        found = _differences_of_file(base, folder, kernel)
        if found is not None:
            return found
    return _differences_of_file(drawn.base, folder, kernel)


def _differences_of_file(base: object, folder: Path, kernel: RunKernel) -> list[str] | None:
    (folder / "drawn.yaml").write_text(json.dumps(base), encoding="utf-8")
    found: list[list[str]] = []

    def run_both(engine: str, plan: Plan, **options: object) -> Run:
        del engine, options
        kept = KeptPlan(plan)
        runs = (run_plan(kept), run_kernel(kept, kernel))
        found.append(differences_of(*runs))
        return runs[1]

    with patch("sim.run.scenario_run.run_on", run_both):
        try:
            simulate_scenario(load_scenario(folder / "drawn.yaml"))
        except (MoesimError, NotLoweredError):
            return None
    return [name for names in found for name in names]


def _equal(one: object, other: object) -> bool:
    return bool(np.array_equal(one, other)) if isinstance(one, np.ndarray) else one == other


def _by_pass(received: object) -> dict[object, object]:
    return {place: {key: rows.tolist() for key, rows in of.items()} for place, of in received.items()}
