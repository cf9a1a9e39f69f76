"""What a user waits for: the command in a process of its own, on two cores, nothing kept but compiled bytecode."""

import time

from measuring import Row, bare_timeout_s, note, run_fresh, run_rounds
from pytest_benchmark.fixture import BenchmarkFixture

from sim.scenario.load import load_scenario
from sim.studies.stress.grid import build_grid
from sim.studies.stress.points import run_grid

COMMAND = ("-c", "from sim.cli import main; main()")
STRESS_CORES = 2


def test_run(benchmark: BenchmarkFixture) -> None:
    """The document's case with all of its alternatives and rivals."""
    arguments = [*COMMAND, "run", "ep64_tp16_pp4", "--jobs", "2"]
    found, bare = run_rounds(benchmark, lambda: run_fresh(arguments, num_cores=2)[0], bare_timeout_s, runs=3)
    note(benchmark, wait("moesim run ep64_tp16_pp4", found, bar=8.0), bare_s=bare)


def test_help(benchmark: BenchmarkFixture) -> None:
    """The command line alone."""
    found, bare = run_rounds(benchmark, lambda: run_fresh([*COMMAND, "--help"], num_cores=2)[0], bare_timeout_s)
    note(benchmark, wait("moesim --help", found, bar=0.5), bare_s=bare)


def test_stress(benchmark: BenchmarkFixture) -> None:
    """8 skews, 4 remedies and 5 seeds on 64 GPUs, once: the longest wait that a shipped scenario asks for."""
    arguments = [*COMMAND, "stress", "zipf_sweep", "--jobs", str(STRESS_CORES)]
    found, bare, one_seed = run_rounds(
        benchmark, lambda: run_fresh(arguments, num_cores=STRESS_CORES)[0], bare_timeout_s, one_seed_s, runs=1
    )
    seeds = 5
    note(
        benchmark,
        wait("moesim stress zipf_sweep", found, bar=60.0),
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
