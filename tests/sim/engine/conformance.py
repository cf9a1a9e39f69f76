"""Whether the kernel of `sim.engine.compiled` says the same of a plan as SimPy's processes."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from itertools import count
from pathlib import Path
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from scenario_draws import accepted_scenario, draw_scenario

from sim.engine.compiled import loop
from sim.engine.compiled.arrays import KeptPlan, NotLoweredError
from sim.engine.compiled.compiler import RunKernel
from sim.engine.compiled.run import STOPPED, run_kernel
from sim.engine.run_state import Plan
from sim.engine.simulation import Run, run_plan
from sim.engine.trace import LinkUse
from sim.errors import MoesimError
from sim.run.simulate import simulate_scenario
from sim.scenario.load import load_scenario
from sim.scenario.scenario import Scenario
from sim.scenario.scenario_files import find_bundled, list_bundled, list_cases
from sim.studies.variants import variants_of

__all__ = [
    "CheckedArray",
    "bundled_files",
    "checked_run",
    "compare_drawn",
    "differences",
    "differences_of",
    "differences_of_scenario",
    "scenarios_of_file",
    "shortened_file",
]

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


@dataclass(frozen=True, slots=True, eq=False)
class CheckedArray:
    """An array that refuses the indices that the compiled kernel must not use, because its arrays are bare pointers.

    numpy takes a negative index from the end, so that an interpreted run on plain arrays does not notice one.
    """

    array: NDArray[np.int64] | NDArray[np.float64]
    """The array that is read and written."""

    def __getitem__(self, index: int) -> np.int64 | np.float64:
        """Return an entry, by an index of at least 0 that is less than the length."""
        if not 0 <= index < self.array.size:
            raise IndexError(f"an index must be from 0 to {self.array.size - 1}, got {index}")
        return self.array[index]

    def __setitem__(self, index: int, value: float) -> None:
        """Write an entry, by an index of at least 0 that is less than the length."""
        if not 0 <= index < self.array.size:
            raise IndexError(f"an index must be from 0 to {self.array.size - 1}, got {index}")
        self.array[index] = value


def checked_run(m: NDArray[np.int64], f: NDArray[np.float64]) -> int:
    """Run the interpreted kernel on arrays that refuse negative indices and those beyond the end."""
    return loop.run(CheckedArray(m), CheckedArray(f))


def compare_drawn(
    seed: int, first: int, num_compared: int, folder: Path, kernel: RunKernel = loop.run
) -> Iterator[tuple[str, list[str] | None]]:
    """Draw scenarios from a number on until so many are compared; yield the name of each, and what differs.

    None says that nothing can be compared. Every other scenario runs flow by flow.
    """
    numbers = count(first)
    while num_compared > 0:
        number = next(numbers)
        found = _differences_of_drawn(seed, number, folder, kernel)
        num_compared -= found is not None
        yield f"scenario {number} of seed {seed}", found


def differences_of_scenario(scenario: Scenario, kernel: RunKernel = loop.run) -> list[str] | None:
    """Run a scenario by both engines; return what differs, and None where nothing can be compared.

    Nothing can be compared where the scenario is refused before it runs, where its workload runs no plan, and where the
    kernel leaves the plan to SimPy's processes. Where SimPy's processes fail, the kernel must fail too: it has no
    messages of its own, because `run_compiled` then runs SimPy's processes, whose message the user reads.
    """
    compared: list[list[str] | None] = []

    def run_both(engine: str, plan: Plan, **options: object) -> Run:
        del engine, options
        kept = KeptPlan(plan)
        try:
            reference = run_plan(kept, keep_ended=True)
        except MoesimError as error:
            compared.append(_differences_where_the_reference_fails(error, kept, kernel))
            raise
        compared.append(_differences_where_the_reference_ends(reference, kept, kernel))
        return reference

    with patch("sim.run.scenario_run.run_on", run_both), suppress(MoesimError):
        simulate_scenario(scenario)
    comparable = [names for names in compared if names is not None]
    return [name for names in comparable for name in names] if comparable else None


def bundled_files() -> list[str]:
    """Return the names of the bundled scenario files whose workload runs a plan: all but those that serve requests."""
    names = [*list_bundled(), *(f"validation/{case}" for case in list_cases())]
    return [name for name in names if load_scenario(find_bundled(name)).spec.workload.kind != "serving"]


def scenarios_of_file(name: str) -> Iterator[tuple[str, Scenario]]:
    """Yield all scenarios of a bundled file: its own, those of its claims, and that of each published figure."""
    scenario = load_scenario(find_bundled(name))
    yield name, scenario
    for i, variant in enumerate(variants_of(scenario).scenarios):
        yield f"{name}, variant {i}", variant
    for i, figure in enumerate(scenario.spec.published):
        if figure.set:
            yield f"{name}, figure {i}", scenario.case(i)


def shortened_file(name: str) -> Scenario:
    """Return the scenario of a bundled file, with one batch of at most one microbatch for each stage.

    DualPipe needs two for each stage. A file with published figures is taken as its first figure, which gives what
    the file leaves open.
    """
    scenario = load_scenario(find_bundled(name))
    if scenario.spec.published:
        scenario = scenario.case(0)
    workload, changes = scenario.spec.workload, dict[str, object]()
    most = (scenario.spec.parallel.pp or 1) * (2 if scenario.spec.schedule.kind.startswith("dualpipe") else 1)
    if workload.kind != "collective" and workload.microbatches > most:
        changes["workload.microbatches"] = most
        if workload.kind != "passes":
            changes["workload.sequences"] = workload.sequences * most // workload.microbatches
    if workload.kind == "forward":
        changes["workload.batches"] = 1
    return scenario.variant(changes) if changes else scenario


# ---- private -----------------------------------------------------------------------------------------------------


def _differences_of_drawn(seed: int, number: int, folder: Path, kernel: RunKernel) -> list[str] | None:
    drawn = draw_scenario(seed, number)
    data = drawn.data
    if number % 2:
        network = data.get("network")
        data = {**data, "network": {**(network if isinstance(network, dict) else {}), "fidelity": "flow"}}
    scenario = accepted_scenario(data, drawn, folder)
    return None if scenario is None else differences_of_scenario(scenario, kernel)


def _differences_where_the_reference_fails(error: MoesimError, plan: KeptPlan, kernel: RunKernel) -> list[str] | None:
    """Return what is wrong unless the kernel fails too; None where it leaves the plan to SimPy's processes."""
    try:
        run_kernel(plan, kernel)
    except NotLoweredError as why:
        return [] if str(why) == STOPPED else None
    except MoesimError:
        return []
    return [f"the kernel ends a run that must fail: {error}"]


def _differences_where_the_reference_ends(reference: Run, plan: KeptPlan, kernel: RunKernel) -> list[str] | None:
    """Return what differs in a run that ends well; None where the kernel leaves the plan to SimPy's processes.

    The kernel must end the run with exactly as many events as `reference` has, and stop with one less.
    """
    num_events = reference.stats.num_events
    try:
        names = differences_of(reference, run_kernel(plan, kernel, max_events=num_events, keep_ended=True))
    except NotLoweredError as why:
        return ["the kernel stopped"] if str(why) == STOPPED else None
    except MoesimError as error:
        return [f"the kernel failed: {error}"]
    try:
        run_kernel(plan, kernel, max_events=num_events - 1)
    except NotLoweredError:
        return names
    return [*names, "event budget"]


def _equal(one: object, other: object) -> bool:
    return bool(np.array_equal(one, other)) if isinstance(one, np.ndarray) else one == other


def _by_pass(received: object) -> dict[object, object]:
    return {place: {key: rows.tolist() for key, rows in of.items()} for place, of in received.items()}
