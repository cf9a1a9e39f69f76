"""Estimates of time and memory against measurements, over the table's simulations and over drawn scenarios.

    python benchmarks/compare_estimates.py --drawn 200                     # seed and limits have defaults
    python benchmarks/compare_estimates.py --drawn 0 document_1024 dense_2048

Each simulation runs in a process of its own, which the system ends after `--most-s` seconds of processor time: nothing
can hang. A drawn scenario is its coherent base, with 1, 4 or 16 times the microbatches. Time of the process is from the
start of Python, time of the run from the loaded scenario; both are those of the machine of `sim.run.estimates`, by a
bare timeout of SimPy after each run (`measured_runs`).
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

from measured_runs import Measured, drawn_scenarios, measure
from scale_cases import CASES

from sim.scenario.load import load_scenario

_MULTIPLES = (1, 4, 16)
"""By which microbatches and sequences of drawn scenarios are multiplied, by turns."""
_FACTOR = 2.0
_NUM_WORST = 5


RATIOS: Mapping[str, Callable[[Measured], float]] = {
    "run": lambda one: one.expected_run_s / one.scaled_s(one.run_s),
    "process": lambda one: one.expected_process_s / one.scaled_s(one.process_s),
    "memory": lambda one: one.expected_bytes / one.peak_bytes,
    "minimum": lambda one: one.least_bytes / one.peak_bytes,
    "events": lambda one: one.expected_events / one.num_events,
}
"""Expected over measured: time of the run, time of the process, memory, the minimum of memory, events.

Flows that end on their own are no events of the clock and count as what they take: they are left out of the shares."""


def print_row(one: Measured) -> None:
    """Print what a simulation took, and what it was expected to take."""
    memory = f"{one.peak_bytes / 1e6:>7,.0f} MB{one.expected_bytes / 1e6:>7,.0f} MB"
    ratios = [ratio_of(one) for ratio_of in RATIOS.values()]
    said = "  ".join(f"{ratio:.2f}" for ratio in ratios)
    times = f"{one.scaled_s(one.run_s):>7.2f} s{one.expected_run_s:>8.2f} s"
    print(f"{one.name:<24}{times}{memory}   {said}", flush=True)


def print_shares(found: Sequence[Measured]) -> None:
    """Print how many estimates are within a factor of 2, how they are distributed, and the worst."""
    for what, ratio_of in RATIOS.items():
        ordered = sorted((ratio_of(one), one.name) for one in found if what != "events" or not one.counts["own_flows"])
        ratios = [ratio for ratio, _ in ordered]
        within = sum(1 / _FACTOR <= ratio <= _FACTOR for ratio in ratios)
        quantiles = ", ".join(
            f"{ratios[round(q * (len(ratios) - 1))]:.2f}" for q in (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)
        )
        print(f"{what}: {within} of {len(ratios)} within a factor of {_FACTOR:g}")
        print(f"    least, 5, 25, 50, 75, 95 %, most: {quantiles}")
        outer = [*ordered[:_NUM_WORST], *ordered[-_NUM_WORST:]]
        print(f"    {', '.join(f'{name} {ratio:.2f}' for ratio, name in outer)}")


def main() -> None:
    """Compare what the arguments say, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], help="simulations of the table")
    parser.add_argument("--drawn", type=int, default=200, help="scenarios to draw")
    parser.add_argument("--seed", type=int, default=21, help="seed of the draws")
    parser.add_argument("--most-s", type=int, default=30, help="processor time after which a simulation is ended")
    arguments = parser.parse_args()
    found: list[Measured] = []
    print(f"{'simulation':<24}{'run':>9}{'expected':>10}{'memory':>10}{'expected':>10}   ratios of {', '.join(RATIOS)}")
    for name in arguments.cases:
        scenario = load_scenario("ep16_tp16_pp4", overrides=[*CASES[name].changes, "claims=[]"])
        _add(found, name, json.dumps(scenario.raw), str(scenario.path), arguments.most_s)
    for drawn in islice(drawn_scenarios(arguments.seed, _MULTIPLES), arguments.drawn):
        _add(found, *drawn, arguments.most_s)
    if found:
        print_shares(found)


def _add(found: list[Measured], name: str, text: str, file: str, most_s: int) -> None:
    one = measure(name, text, file, most_s=most_s)
    if isinstance(one, str):
        print(f"{name}: {one[:200]}", file=sys.stderr)
    else:
        found.append(one)
        print_row(one)


if __name__ == "__main__":
    main()
