"""What a user waits for: the command in a process of its own, on two cores, nothing kept but compiled bytecode."""

from measuring import Row, bare_timeout_s, note, run_fresh, run_rounds
from pytest_benchmark.fixture import BenchmarkFixture

COMMAND = ("-c", "from sim.cli import main; main()")


def test_run(benchmark: BenchmarkFixture) -> None:
    """The document's case with all of its alternatives and rivals."""
    arguments = [*COMMAND, "run", "ep64_tp16_pp4", "--jobs", "2"]
    found, bare = run_rounds(benchmark, lambda: run_fresh(arguments, num_cores=2)[0], bare_timeout_s, runs=3)
    note(benchmark, wait("moesim run ep64_tp16_pp4", found, bar=8.0), bare_s=bare)


def test_help(benchmark: BenchmarkFixture) -> None:
    """The command line alone."""
    found, bare = run_rounds(benchmark, lambda: run_fresh([*COMMAND, "--help"], num_cores=2)[0], bare_timeout_s)
    note(benchmark, wait("moesim --help", found, bar=0.5), bare_s=bare)


def wait(command: str, found: list[float], *, bar: float) -> Row:
    """Return the row of a command."""
    return Row(case=f"`{command}`", figure=min(found), unit="s", time_s=min(found), bar=bar)
