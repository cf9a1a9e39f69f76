"""Compute how far whole steps are from modelled ones beyond what constants explain, by era: `UNEXPLAINED_SPREADS`.

    python benchmarks/step_spreads.py VALIDATE.json [VALIDATE.json ...] [--samples 8] [--no-draws]

The files are what `moesim validate training/TABLE --json` prints. Needs moesim on the path (installed, or
`PYTHONPATH=.`). Rows that are set apart, and tables without a preset of `runtime`, are left out. Of each table the row
with the fewest microbatches is drawn `--samples` times for the width that constants give its step.

    e        = log(published / modelled) of a row
    total    = 90th percentile of |e|, every table with the same weight
    own      = 90th percentile of |e - median of its table|: what differs from strategy to strategy
    constant = 1.645 standard deviations of the logarithm of the draws, mean over the tables
    common   = root of max(0, total^2 - own^2 - constant^2)

Everything is computed of the rows that constants may be fitted to, and the share of all other rows that lie within the
root of common^2 + own^2 + constant^2 is printed; then without each table in turn, and its rows counted.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sim.build.runtime import preset_of
from sim.run.parallel_runs import run_many
from sim.scenario.scenario import Scenario
from sim.studies.suites import find_suites, is_fitted, system_of
from sim.studies.uncertainty import draw_factors, drawn

Z90 = 1.645
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Row:
    """A published step."""

    error: float
    """log(published / modelled)."""
    is_fitted: bool
    """Whether constants may be fitted to it."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Halves of the 90 % intervals of an era, of logarithms."""

    own: float
    common: float
    constant: float

    @property
    def total(self) -> float:
        """Half of the interval of a step."""
        return float(np.sqrt(self.own**2 + self.common**2 + self.constant**2))

    def share_within(self, errors: Sequence[float]) -> float:
        """Return the part of errors inside of the interval."""
        return float(np.mean(np.abs(errors) <= self.total))


def tables_of(files: Sequence[Path]) -> dict[str, dict[str, tuple[list[Row], Scenario]]]:
    """Return era -> system -> its rows, and the scenario of the row with the fewest microbatches."""
    modelled = {}
    for file in files:
        for row in json.loads(file.read_text(encoding="utf-8"))["rows"]:
            if row["modelled"] and row["metric"] in {"step_time_s", "mfu", "tokens_per_s_per_gpu"}:
                modelled[row["case"], json.dumps(row["set"], sort_keys=True), row["published"]] = row
    found: dict[str, dict[str, tuple[list[Row], Scenario]]] = defaultdict(dict)
    for suite in find_suites(["training"]):
        for case in suite.cases:
            for i, figure in enumerate(case.scenario.spec.published):
                row = modelled.get((case.name, json.dumps(figure.set or {}, sort_keys=True), figure.value))
                if row is None or figure.apart or figure.minus:
                    continue
                scenario = case.scenario.case(i)
                if scenario.spec.runtime.preset is None or scenario.spec.runtime.preset == "ideal":
                    continue
                error = -float(np.log1p(row["error_pct"] / 100))
                tables = found[preset_of(scenario)]
                rows, cheapest = tables.get(system_of(case, i), ([], scenario))
                rows.append(Row(error, is_fitted(suite, case, i)))
                few = min(scenario, cheapest, key=lambda one: one.spec.workload.microbatches or 1)
                tables[system_of(case, i)] = (rows, few)
    return found


def constant_spread(scenario: Scenario, num_samples: int) -> float:
    """Return half of the 90 % interval of the logarithm of a step over draws of constants."""
    draws = draw_factors(num_samples, seed=1)
    with run_many([drawn(scenario, draw, i) for i, draw in enumerate(draws)], jobs=1) as observe:
        steps = [float(one.values["step_time_s"]) for one in observe()]
    return Z90 * float(np.std(np.log(steps), ddof=1))


def percentile_90(tables: Sequence[Floats]) -> float:
    """Return the 90th percentile of the magnitudes of all rows, where every table has the same weight.

    >>> percentile_90([np.zeros(9), np.array([0.0, 3.0])])  # the last row has a quarter of the weight
    3.0
    """
    sizes = np.abs(np.concatenate([*tables]))
    order = np.argsort(sizes, kind="stable")
    weights = np.concatenate([np.full(len(rows), 1 / len(rows)) for rows in tables])[order]
    reached = np.cumsum(weights) / len(tables)
    return float(sizes[order][np.searchsorted(reached, 0.9 - 1e-12)])


def spread_of(tables: Mapping[str, Sequence[Row]], constants: Mapping[str, float]) -> Spread:
    """Return the intervals of an era."""
    fitted = {
        name: np.array([row.error for row in rows if row.is_fitted] or [row.error for row in rows])
        for name, rows in tables.items()
    }
    own = percentile_90([errors - np.median(errors) for errors in fitted.values() if errors.size > 1] or [np.zeros(1)])
    total = percentile_90(list(fitted.values()))
    constant = float(np.mean([constants[name] for name in fitted]))
    return Spread(own, float(np.sqrt(max(0.0, total**2 - own**2 - constant**2))), constant)


def main() -> None:
    """Print the spreads of each era, and what they are worth."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--no-draws", action="store_true", help="take 0 for what constants explain")
    options = parser.parse_args()
    for era, tables in tables_of(options.files).items():
        constants = {
            name: 0.0 if options.no_draws else constant_spread(scenario, options.samples)
            for name, (_, scenario) in tables.items()
        }
        rows = {name: table for name, (table, _) in tables.items()}
        spread = spread_of(rows, constants)
        print(
            f"{era}: common {np.expm1(spread.common):.3f}, own {np.expm1(spread.own):.3f}; "
            f"constants {np.expm1(spread.constant):.3f}, all {np.expm1(spread.total):.3f}"
        )
        for name, table in rows.items():
            errors = [row.error for row in table]
            scored = [row.error for row in table if not row.is_fitted]
            others = {other: value for other, value in rows.items() if other != name}
            without = spread_of(others, constants).share_within(errors) if others else float("nan")
            alone = Spread(0.0, 0.0, constants[name]).share_within(scored or errors)
            print(
                f"  {name}: {len(errors)} rows, median {100 * float(np.median(errors)):+.1f} %, constants "
                f"{100 * float(np.expm1(constants[name])):.0f} %; scored within constants alone {alone:.2f}, "
                f"with all {spread.share_within(scored or errors):.2f}; all rows, left out {without:.2f}"
            )
        scored = [row.error for table in rows.values() for row in table if not row.is_fitted]
        if scored:
            print(f"  scored rows within: {spread.share_within(scored):.2f} of {len(scored)}")


if __name__ == "__main__":
    main()
