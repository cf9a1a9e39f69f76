"""Fit to published training steps the clock in a long run, the host's time of a pass, and the rate of older kernels.

Only rows that `scenarios/validation/training/suite.yaml` names as fitted are used, and of these the cheap ones below.
A fit tries a grid of values for the constants of one machine or era and prints, for each, the signed median error of
each table and their score, the mean over the tables of |signed median|. The values themselves stand in
`topology/presets/devices.py` and `workloads/runtime.py`, and are changed there by hand.

    python benchmarks/fit_software.py megatron-a100      # or another of FITS: one to some minutes each
"""

import argparse
import itertools
import re
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from unittest.mock import patch

from sim.run.parallel_runs import run_many
from sim.scenario.scenario import Scenario
from sim.studies.suites import find_suites, is_fitted
from topology.presets.devices import DEVICES
from workloads.runtime import RUNTIMES


@dataclass(frozen=True, kw_only=True)
class Fit:
    """One fit: whose constants, over which values, against which rows."""

    device: str
    presets: tuple[str, ...]
    clocks: tuple[float, ...]
    passes_s: tuple[float, ...]
    rates: tuple[float, ...] = (1.0,)
    launches_s: tuple[float, ...] = (60e-6,)
    tables: dict[str, str]
    """Table, with a word for a part of it -> pattern of the names of its rows; the fitted ones among them are used."""


FITS = {
    "megatron-a100": Fit(
        device="a100-sxm-80gb",
        presets=("megatron-2022",),
        clocks=(0.95, 0.96, 0.97, 0.98),
        passes_s=(0.4e-3, 0.6e-3, 0.8e-3),
        tables={
            "korthikanti_table4": ".",
            "korthikanti_table5": "22B",
            "zero_bubble": "1.5 B, (4|24) micro|14.6 B, 8 micro",
        },
    ),
    "megatron-2021": Fit(
        device="a100-sxm-80gb",
        presets=("megatron-2021",),
        clocks=(0.98,),
        passes_s=(0.8e-3,),
        rates=(0.92, 0.94, 0.96),
        tables={"megatron_2021 table 1": "table 1, (1.7|18.4) B", "megatron_2021 table 2": "table 2"},
    ),
    "deepspeed-a100": Fit(
        device="a100-sxm-80gb",
        presets=("deepspeed-2022",),
        clocks=(0.98,),
        passes_s=(0.8e-3, 1.2e-3),
        rates=(0.94, 0.97, 1.0),
        tables={
            "vtrain_multi": "PP1 .*micro-batch (4|8|16)$",
            "vtrain_single": "(PP1 DP2|TP4 PP1 DP1|TP[12] PP2 DP1), micro-batch (1|4)$",
        },
    ),
    "megatron-b200": Fit(
        device="b200-sxm",
        presets=("megatron-lm-2025",),
        clocks=(0.94, 0.96, 0.98),
        passes_s=(0.8e-3,),
        launches_s=(150e-6, 160e-6, 170e-6, 180e-6),
        tables={"simumax_b200_dense TP1": "TP1", "simumax_b200_dense TP8": "TP8"},
    ),
    "megatron-h100": Fit(
        device="h100-sxm",
        presets=("megatron-core-2025",),
        clocks=(0.76, 0.80, 0.84, 0.88),
        passes_s=(0.8e-3,),
        tables={"megatron_h100 small": "7.1 B", "megatron_h100 large": "119 B"},
    ),
}
"""The fits, by name."""


def main() -> None:
    """Run one fit and print its grid."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("fit", choices=FITS)
    fit = FITS[parser.parse_args().fit]
    for clock, pass_s, rate, launch_s in itertools.product(fit.clocks, fit.passes_s, fit.rates, fit.launches_s):
        with constants(fit, clock, pass_s, rate, launch_s):
            medians = {
                table: statistics.median(errors_pct(table.split()[0], rows)) for table, rows in fit.tables.items()
            }
        score = statistics.fmean(map(abs, medians.values()))
        shown = ", ".join(f"{table} {median:+.1f}" for table, median in medians.items())
        print(
            f"clock {clock:.2f}, pass {pass_s * 1e3:.1f} ms, rate {rate:.2f}, launch {launch_s * 1e6:.0f} us: "
            f"score {score:.2f} ({shown})",
            flush=True,
        )


@contextmanager
def constants(fit: Fit, clock: float, pass_s: float, rate: float, launch_s: float) -> Iterator[None]:
    """Put other constants in the place of those of the program."""
    device = replace(DEVICES[fit.device], sustained_clock=clock)
    changes = {"pass_host_s": pass_s, "kernel_rate": rate, "kernel_launch_s": launch_s}
    presets = {name: replace(RUNTIMES[name], **changes) for name in fit.presets}
    with patch.dict(DEVICES, {fit.device: device}), patch.dict(RUNTIMES, presets):
        yield


def errors_pct(table: str, rows: str) -> list[float]:
    """Return the errors in percent of the fitted rows of a table whose names match `rows`."""
    suite = find_suites([f"training/{table}"])[0]
    case = suite.cases[0]
    figures = [
        (figure, case.scenario.case(at), case.scenario.subtrahend(at))
        for at, figure in enumerate(case.scenario.spec.published)
        if is_fitted(suite, case, at) and figure.apart is None and re.search(rows, figure.name or "")
    ]
    times_s = iter(step_times_s([each for _, *pair in figures for each in pair if each is not None]))
    errors = []
    for figure, _, subtrahend in figures:
        time_s = next(times_s) - (0.0 if subtrahend is None else next(times_s))
        errors.append(100 * (time_s / figure.divide_by / figure.value - 1))
    return errors


def step_times_s(scenarios: list[Scenario]) -> list[float]:
    """Return the modelled time of a step of each scenario."""
    with run_many(scenarios, wanted=frozenset({"step_time_s"}), jobs=1) as observe:
        return [float(each.values["step_time_s"] or 0.0) for each in observe()]


if __name__ == "__main__":
    main()
