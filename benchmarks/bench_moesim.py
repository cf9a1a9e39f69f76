"""What a user waits for: the command in a process of its own, on two cores, nothing kept but compiled bytecode."""

import time

from measuring import Row, bare_timeout_s, note, run_fresh, run_rounds
from pytest_benchmark.fixture import BenchmarkFixture

from sim.engine.compiled.compiler import compiled_run
from sim.engine.optional_numba import has_numba
from sim.scenario.load import load_scenario
from sim.scenario.scenario import Scenario
from sim.studies.search.space import Candidate
from sim.studies.search.workers import simulate_candidate
from sim.studies.stress.grid import build_grid
from sim.studies.stress.points import run_grid
from workloads.strategy import Strategy

COMMAND = ("-c", "from sim.cli import main; main()")
STRESS_CORES = 2
CANDIDATES = {
    "EP16_TP4_PP4_DP4": 16,
    "EP16_TP8_PP4_DP2": 16,
    "EP32_TP4_PP2_DP8": 16,
    "EP64_TP8_PP1_DP8": 2,
    "EP64_TP1_PP1_DP64": 2,
}
"""Strategy -> microbatches, of strategies that are legal on 64 GPUs."""
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
    """A legal strategy on 64 GPUs, one forward batch, in a process that has run others, as a search runs it.

    The compiled kernel is kept on disk, as after the first long search.
    """
    if has_numba():
        compiled_run()
    document = load_scenario(
        "ep64_tp16_pp4", overrides=["claims=[]", "alternatives=[]", "rivals=[]", "workload.batches=1"]
    )
    found, own, bare = run_rounds(
        benchmark,
        lambda: [candidate_s(document, name) for name in CANDIDATES],
        lambda: candidate_s(document, None),
        bare_timeout_s,
    )
    of_each = [min(times) for times in zip(*found[1:], strict=True)]  # the first round warms up
    mean_s = sum(of_each) / len(of_each)
    cases = (
        ("a legal candidate of 64 GPUs, mean of 5", mean_s, 8.0),
        ("... the slowest", max(of_each), 20.0),
        ("the document's candidate, whose experts serve all stages", min(own[1:]), 17.0),
    )
    rows = [Row(case=case, figure=1e3 * time_s, unit="ms", time_s=time_s, bar=bar) for case, time_s, bar in cases]
    note(benchmark, *rows, bare_s=bare)


def candidate_s(document: Scenario, strategy: str | None) -> float:
    """Return the time from a strategy, None: the document's own, to what a search needs of it.

    That is the step time, memory and the account of time.
    """
    changes: dict[str, object] = {"workload.microbatches": OWN_MICROBATCHES}
    if strategy is not None:
        changes = {"parallel.convention": "megatron", "parallel.sp": None, "parallel.strategy": strategy}
        changes["workload.microbatches"] = CANDIDATES[strategy]
    began = time.perf_counter()
    scenario = document.variant(changes)
    candidate = Candidate(
        convention=scenario.spec.parallel.convention,
        strategy=Strategy.parse(scenario.spec.parallel.strategy),
        microbatches=scenario.spec.workload.microbatches,
        schedule=scenario.spec.schedule.kind,
        recompute="none",
        zero=0,
    )
    simulate_candidate(scenario, candidate, number=0, runs_alike=MANY_RUNS)
    return time.perf_counter() - began


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
