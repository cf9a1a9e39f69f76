"""What a user waits for: the command in a process of its own, on two cores, nothing kept but compiled bytecode."""

import random
import statistics
import time
from collections.abc import Callable
from functools import partial

from measuring import Row, bare_timeout_s, note, run_fresh, run_rounds
from pytest_benchmark.fixture import BenchmarkFixture

from sim.engine.compiled.compiler import compiled_run
from sim.engine.optional_numba import has_numba
from sim.scenario.load import load_scenario
from sim.scenario.scenario import Scenario
from sim.studies.search.space import Candidate, space_of
from sim.studies.search.workers import simulate_candidate
from sim.studies.stress.grid import build_grid
from sim.studies.stress.points import run_grid
from workloads.strategy import Strategy

COMMAND = ("-c", "from sim.cli import main; main()")
STRESS_CORES = 2
NUM_CANDIDATES, NUM_WARM = 90, 30
"""Candidates of the document's space that are drawn, and how many of them run before the others are timed."""
LENGTHS = (1024, 2048, 3072, 4096, 5120, 6144, 7168, 8192, 9216, 10240)
"""Sequence lengths of the document's own strategy, each simulated once."""
OWN_MICROBATCHES = 16
"""Microbatches of the document's own strategy."""
MANY_RUNS = 1000
"""Runs of a long search, for which the compiled kernel pays."""


def test_run(benchmark: BenchmarkFixture) -> None:
    """The document's case with all of its alternatives and rivals."""
    arguments = [*COMMAND, "run", "ep64_tp16_pp4", "--jobs", "2"]
    found, bare = run_rounds(benchmark, lambda: run_fresh(arguments, num_cores=2)[0], bare_timeout_s, runs=3)
    note(benchmark, wait("moesim run ep64_tp16_pp4", found, bar=3.0), bare_s=bare)


def test_help(benchmark: BenchmarkFixture) -> None:
    """The command line alone."""
    found, bare = run_rounds(benchmark, lambda: run_fresh([*COMMAND, "--help"], num_cores=2)[0], bare_timeout_s)
    note(benchmark, wait("moesim --help", found, bar=0.15), bare_s=bare)


def test_candidate(benchmark: BenchmarkFixture) -> None:
    """Strategies of 64 GPUs, one forward batch, each seen for the first time by a process that has run others.

    The compiled kernel is kept on disk, as after the first long search.
    """
    if has_numba():
        compiled_run()
    document = load_scenario(
        "ep64_tp16_pp4", overrides=["claims=[]", "alternatives=[]", "rivals=[]", "workload.batches=1"]
    )
    space = space_of(document)
    drawn = random.Random(1).sample(space.candidates, NUM_CANDIDATES)
    (found,), (own,), bare = run_rounds(
        benchmark,
        lambda: [candidate_s(partial(space.scenario_of, one), one) for one in drawn],
        lambda: [own_s(document, length) for length in LENGTHS],
        bare_timeout_s,
        runs=1,
    )
    of_each, of_own = found[NUM_WARM:], own[2:]
    cases = (
        ("a candidate of the space of 64 GPUs, median of 60 first visits", statistics.median(of_each), 8.0),
        ("... mean", statistics.mean(of_each), None),
        ("the document's own candidate, experts serve all stages, mean of 8", statistics.mean(of_own), 17.0),
    )
    rows = [Row(case=case, figure=1e3 * time_s, unit="ms", time_s=time_s, bar=bar) for case, time_s, bar in cases]
    note(benchmark, *rows, bare_s=bare)


def candidate_s(scenario_of: Callable[[], Scenario], candidate: Candidate) -> float:
    """Return the time from a candidate to what a search needs of it: step time, memory and account of time."""
    began = time.process_time()
    simulate_candidate(scenario_of(), candidate, number=0, runs_alike=MANY_RUNS)
    return time.process_time() - began


def own_s(document: Scenario, length: int) -> float:
    """Return the time of the document's own strategy, for a sequence length."""
    changes = {"workload.sequence_length": length, "workload.microbatches": OWN_MICROBATCHES}
    candidate = Candidate(
        convention=document.spec.parallel.convention,
        strategy=Strategy.parse(document.spec.parallel.strategy),
        microbatches=OWN_MICROBATCHES,
        schedule=document.spec.schedule.kind,
        recompute="none",
        zero=0,
    )
    return candidate_s(partial(document.variant, changes), candidate)


def test_stress(benchmark: BenchmarkFixture) -> None:
    """8 skews, 4 remedies and 5 seeds on 64 GPUs, once: the longest wait that a shipped scenario asks for."""
    arguments = [*COMMAND, "stress", "zipf_sweep", "--jobs", str(STRESS_CORES)]
    found, bare, one_seed = run_rounds(
        benchmark, lambda: run_fresh(arguments, num_cores=STRESS_CORES)[0], bare_timeout_s, one_seed_s, runs=1
    )
    seeds = 5
    note(
        benchmark,
        wait("moesim stress zipf_sweep", found, bar=4.0),
        Row(
            case="... over its simulations in one process, on as many cores",
            figure=min(found) * STRESS_CORES / (seeds * min(one_seed)),
            unit="",
        ),
        bare_s=bare,
    )


def one_seed_s() -> float:
    """Return the time of the grid's simulations of one seed, one after another in this process."""
    grid = build_grid(load_scenario("zipf_sweep"), num_seeds=1)
    began = time.perf_counter()
    run_grid(grid)
    return time.perf_counter() - began


def wait(command: str, found: list[float], *, bar: float) -> Row:
    """Return the row of a command."""
    return Row(case=f"`{command}`", figure=min(found), unit="s", time_s=min(found), bar=bar)
