"""Estimates of time and memory against measurements, over the table's simulations and over drawn scenarios.

    python benchmarks/compare_estimates.py --drawn 60                      # seed and limits have defaults
    python benchmarks/compare_estimates.py --drawn 0 document_1024 dense_2048

Each simulation runs in a process of its own, which the system ends after `--most-s` seconds of processor time: nothing
can hang. The process is forked from this one, which has imported everything: its time is that of the run, and the time
in which a process starts is added to it. A drawn scenario is its coherent base, with 1, 4 or 16 times the microbatches.
"""

import argparse
import copy
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path

from scale_cases import CASES

from sim.errors import MoesimError
from sim.run.resources import PROCESS_S
from sim.run.scenario_run import RunOptions
from sim.run.simulate import build_run
from sim.scenario.load import load_scenario, load_scenario_text
from sim.scenario.scenario import Scenario

_TIMES = (1, 4, 16)
"""By which microbatches and sequences of drawn scenarios are multiplied, by turns."""
_FACTOR = 2.0


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A simulation: what it took, and what it was expected to take."""

    name: str
    run_s: float
    """Processor time from the scenario to the metrics."""
    run_expected_s: float
    peak_bytes: float
    expected_bytes: float

    @property
    def ratios(self) -> tuple[float, float, float]:
        """Expected over measured: time of the run, time of the process, memory."""
        of_process = (PROCESS_S + self.run_expected_s) / (PROCESS_S + self.run_s)
        return self.run_expected_s / max(self.run_s, 1e-3), of_process, self.expected_bytes / self.peak_bytes


def drawn_scenarios(seed: int) -> Iterator[tuple[str, Scenario]]:
    """Yield scenarios of a model with their names, for ever; a scenario that is refused is left out."""
    sys.path.append(str(Path(__file__).parents[1] / "tools"))
    from scenario_draws import draw_scenario  # noqa: PLC0415  # reads the whole schema, which takes seconds

    number = 0
    with tempfile.TemporaryDirectory() as folder:
        while True:
            drawn, times = draw_scenario(seed, number), _TIMES[number % len(_TIMES)]
            number += 1
            data = copy.deepcopy(drawn.base)
            if data["workload"]["kind"] not in {"forward", "training"}:
                continue
            for name, text in drawn.files.items():
                Path(folder, name).write_text(text, encoding="utf-8")
            data["workload"]["microbatches"] *= times
            data["workload"]["sequences"] *= times
            try:
                yield f"drawn {number - 1} x {times}", load_scenario_text(json.dumps(data), file=f"{folder}/drawn.yaml")
            except MoesimError:
                continue


def compare(name: str, scenario: Scenario, *, most_s: int) -> Compared | str:
    """Run a scenario in a process of its own and compare; or return why there is nothing to compare."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(theirs, name, scenario, most_s))
    process.start()
    theirs.close()
    try:
        found: Compared | str = ours.recv()
    except EOFError:
        found = f"ended by the system: over {most_s} s of processor time, or out of memory"
    process.join()
    return found


def print_row(one: Compared) -> None:
    """Print what a simulation took, and what it was expected to take."""
    memory = f"{one.peak_bytes / 1e6:>7,.0f} MB{one.expected_bytes / 1e6:>7,.0f} MB"
    ratios = "  ".join(f"{ratio:.2f}" for ratio in one.ratios)
    print(f"{one.name:<24}{one.run_s:>7.2f} s{one.run_expected_s:>8.2f} s{memory}   {ratios}", flush=True)


def print_shares(found: Sequence[Compared]) -> None:
    """Print how many estimates are within a factor of 2."""
    for position, what in enumerate(("time of the run", "time of the process", "memory")):
        ratios = sorted(one.ratios[position] for one in found)
        within = sum(1 / _FACTOR <= ratio <= _FACTOR for ratio in ratios)
        print(f"{what}: {within} of {len(ratios)} within a factor of {_FACTOR:g}, {ratios[0]:.2f} to {ratios[-1]:.2f}")


# ---- private -----------------------------------------------------------------------------------------------------


def _run(out: Connection, name: str, scenario: Scenario, most_s: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (most_s, most_s + 1))
    began = time.process_time()
    try:
        run = build_run(scenario)
        run.simulate(RunOptions())
        run_s = time.process_time() - began
        peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
        expected = run.estimated_resources()
    except MoesimError as error:
        out.send(f"refused: {error}")
        return
    out.send(
        Compared(
            name=name,
            run_s=run_s,
            run_expected_s=expected.cpu_s - PROCESS_S,
            peak_bytes=peak_bytes,
            expected_bytes=expected.memory_bytes,
        )
    )


def main() -> None:
    """Compare what the arguments say, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], help="simulations of the table")
    parser.add_argument("--drawn", type=int, default=60, help="scenarios to draw")
    parser.add_argument("--seed", type=int, default=21, help="seed of the draws")
    parser.add_argument("--most-s", type=int, default=100, help="processor time after which a simulation is ended")
    arguments = parser.parse_args()
    build_run(load_scenario("ep16_tp16_pp4")).simulate(RunOptions())  # imports what is imported at a first run
    found: list[Compared] = []
    print(f"{'simulation':<24}{'run':>9}{'expected':>10}{'memory':>10}{'expected':>10}   ratio of run, process, memory")
    for name in arguments.cases:
        changes = [*CASES[name].changes, "claims=[]"]
        _add(found, name, load_scenario("ep16_tp16_pp4", overrides=changes), arguments.most_s)
    num_wanted = len(found) + arguments.drawn
    for name, scenario in islice(drawn_scenarios(arguments.seed), 10 * arguments.drawn):
        if len(found) < num_wanted:
            _add(found, name, scenario, arguments.most_s)
    if found:
        print_shares(found)


def _add(found: list[Compared], name: str, scenario: Scenario, most_s: int) -> None:
    one = compare(name, scenario, most_s=most_s)
    if isinstance(one, str):
        print(f"{name}: {one[:100]}", file=sys.stderr)
    else:
        found.append(one)
        print_row(one)


if __name__ == "__main__":
    main()
