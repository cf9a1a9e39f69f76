"""Simulations side by side: each in a process of its own, results in the order asked for.

A simulation that cannot be run is an outcome as well, with its reason. With one job all run in this process.
"""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from sim.errors import InputError, MoesimError
from sim.scenario.scenario import Scenario
from sim.studies.build import Assumption
from sim.studies.simulate import Value, simulate_scenario
from topology.errors import TopologyError
from workloads.errors import WorkloadError

__all__ = ["Observation", "observe_all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one simulation says, without its trace."""

    values: dict[str, Value]
    """Metrics, memory and mesh by name; empty where it could not be run."""
    problem: str | None = None
    """Why it could not be run."""
    num_runs: int = 1
    """Simulations that it took; 0 where it was refused before it ran."""
    assumptions: tuple[Assumption, ...] = ()
    """Facts that were filled in."""


def observe_all(
    scenarios: Sequence[Scenario],
    *,
    wanted: frozenset[str] = frozenset(),
    jobs: int = 1,
    on_done: Callable[[int], None] = lambda _: None,
) -> list[Observation]:
    """Simulate each scenario once, on `jobs` processes; `on_done` hears how many are done."""
    if jobs <= 1 or len(scenarios) <= 1:
        done = []
        for scenario in scenarios:
            done.append(_observe(scenario, wanted))
            on_done(len(done))
        return done
    # spawn and not fork: the caller may run threads (a progress display does)
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(_observe, scenario, wanted) for scenario in scenarios]
        try:
            done = []
            for future in futures:
                done.append(future.result())
                on_done(len(done))
            return done
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _observe(scenario: Scenario, wanted: frozenset[str]) -> Observation:
    try:
        simulated = simulate_scenario(scenario, wanted=wanted, link_course=False)
    except InputError as error:
        return Observation(values={}, problem=f"{error.field} must {error.rule}, got {error.value}", num_runs=0)
    except (MoesimError, WorkloadError, TopologyError) as error:
        return Observation(values={}, problem=str(error))
    return Observation(values=simulated.values, num_runs=simulated.num_runs, assumptions=tuple(simulated.assumptions))
