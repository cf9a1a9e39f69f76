"""Run NVIDIA's tuned recipes of Megatron-Bridge: which are legal, run, and fit the memory of their GPUs.

    python benchmarks/megatron_bridge_recipes.py TABLE.csv [--full] [--list] [--write FOLDER] [--only WORDS]

TABLE.csv has either the columns of the tuned recipes (model, gpu, gpus, precision, TP, PP, ...) or those of the
published results (release, model, System, Precision, num_gpus, ...). Needs moesim on the path (installed, or
`PYTHONPATH=.`). `docs/recipes.md` quotes what it prints.

A row of NVFP4, of vision, of LoRA or of a model without a preset is refused by name, and not counted. A run has at most
2 microbatches for each stage of its pipeline, unless `--full` is given; all else is as the recipe says. Blank cells are
filled from `benchmarks/recipes/bases.yaml`.
"""

import argparse
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recipes.recipe import Recipe, RefusedError
from recipes.scenarios import ILLEGAL_IN_MEGATRON, scenario_of
from recipes.tables import Row, read_table
from ruamel.yaml import YAML

from sim.errors import InvalidValueError, SimulationError
from sim.run.scenario_run import Simulated
from sim.run.simulate import simulate_scenario
from sim.scenario.scenario import Scenario

NOT_COUNTED = ("NVFP4", "vision", "audio", "LoRA", "model without a preset", "GPU without a preset")
"""Causes of refusal that say nothing about the simulator."""


@dataclass(kw_only=True)
class Outcome:
    """What became of one row."""

    name: str
    cause: str
    """Empty: legal, run, and fits."""
    detail: str = ""
    recipe: Recipe | None = None
    peak_bytes: float = 0.0
    capacity_bytes: float = 0.0
    tokens_per_s_per_gpu: float = 0.0
    scenario: dict[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    """Keys of `runtime` that the scenario cannot have with its other keys; they are of time, not of legality."""

    @property
    def is_counted(self) -> bool:
        """Whether the row counts."""
        return not self.cause.startswith(NOT_COUNTED)


def outcome_of(row: Row, *, full: bool = False) -> Outcome:
    """Return what becomes of a row: refused, illegal, too large, or legal, run and fitting."""
    outcome = Outcome(name=row.name, cause="")
    try:
        outcome.recipe = row.recipe()
        outcome.scenario = scenario_of(outcome.recipe, full=full)
        simulated = simulated_without_refused(outcome)
    except RefusedError as error:
        outcome.cause, outcome.detail = error.cause, str(error)
        return outcome
    except InvalidValueError as error:
        outcome.cause, outcome.detail = f"refused: {re.sub(r'[.][0-9]+$', '', error.field)}", str(error)
        return outcome
    except SimulationError as error:
        outcome.cause, outcome.detail = "does not run", str(error)
        return outcome
    except (ValueError, KeyError, TypeError) as error:  # a cell that is no number, a column that is missing
        outcome.cause, outcome.detail = "the row cannot be read", f"{type(error).__name__}: {error}"
        return outcome
    memory = simulated.memory
    outcome.peak_bytes = memory["peak_bytes_per_gpu"]["total"] + memory["reserved_bytes"]["total"]
    outcome.capacity_bytes = memory["capacity_bytes"]
    outcome.tokens_per_s_per_gpu = float(simulated.metrics["tokens_per_s_per_gpu"])
    if not memory["fits"]:
        outcome.cause = "does not fit"
        outcome.detail = f"{outcome.peak_bytes / 1e9:.1f} GB of {outcome.capacity_bytes / 1e9:.1f} GB"
    return outcome


def simulated_without_refused(outcome: Outcome) -> Simulated:
    """Simulate the scenario of `outcome`, without keys of `runtime` that are refused, which are noted."""
    while True:
        try:
            return simulate_scenario(Scenario.validated(outcome.scenario), link_timeline=False)
        except InvalidValueError as error:
            section, _, key = error.field.partition(".")
            if section != "runtime" or key not in outcome.scenario.get("runtime", {}):
                raise
            del outcome.scenario["runtime"][key]
            outcome.left_out.append(f"runtime.{key}: {error.rule}")


def print_outcome(outcome: Outcome) -> None:
    """Print a row."""
    ok = "ok  " if not outcome.cause else "    "
    used = f"{outcome.peak_bytes / outcome.capacity_bytes:6.1%}" if outcome.capacity_bytes else "     -"
    rate = f"{outcome.tokens_per_s_per_gpu:9.0f}" if outcome.tokens_per_s_per_gpu else "        -"
    measured = (outcome.recipe.published if outcome.recipe else {}).get("tokens_per_s_per_gpu")
    comparison = f" measured {measured:.0f} ({outcome.tokens_per_s_per_gpu / measured - 1:+.0%})" if measured else ""
    print(f"{ok}{outcome.name:58s} {used} {rate}{comparison}  {outcome.cause} {outcome.detail}".rstrip())


def print_summary(outcomes: Sequence[Outcome], seconds: float) -> None:
    """Print how many rows are counted, how many of these are legal, run and fit, and the others by cause."""
    counted = [outcome for outcome in outcomes if outcome.is_counted]
    good = [outcome for outcome in counted if not outcome.cause]
    print(f"rows {len(outcomes)}, counted {len(counted)}, legal, run and fit {len(good)}", end="")
    print(f" = {len(good) / len(counted):.1%}" if counted else "", f"in {seconds:.0f} s")
    possible = [outcome for outcome in counted if outcome.cause != ILLEGAL_IN_MEGATRON]
    if 0 < len(possible) < len(counted):
        print(f"of the {len(possible)} that Megatron itself runs, {len(good)} = {len(good) / len(possible):.1%}")
    for title, group in (
        ("not counted", [outcome for outcome in outcomes if not outcome.is_counted]),
        ("counted, and not legal, run and fitting", [outcome for outcome in counted if outcome.cause]),
    ):
        print(f"{title}: {len(group)}")
        for cause, count in Counter(outcome.cause for outcome in group).most_common():
            print(f"  {count:4d}  {cause}")
    left_out = Counter(key for outcome in outcomes for key in outcome.left_out)
    if left_out:
        print("left out of scenarios, for they are refused there:")
        for key, count in left_out.most_common():
            print(f"  {count:4d}  {key}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all rows of a table; return 0 where 95 % of the counted rows are legal, run and fit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--full", action="store_true", help="run all microbatches of a step")
    parser.add_argument("--list", action="store_true", help="print every row")
    parser.add_argument("--only", default="", help="rows whose name has this text")
    parser.add_argument("--write", type=Path, help="folder for the scenarios")
    options = parser.parse_args(arguments)
    start, outcomes = time.perf_counter(), []
    for row in read_table(options.table):
        if options.only not in row.name:
            continue
        outcome = outcome_of(row, full=options.full)
        outcomes.append(outcome)
        if options.list or (outcome.is_counted and outcome.cause):
            print_outcome(outcome)
        if options.write is not None and outcome.scenario:
            options.write.mkdir(parents=True, exist_ok=True)
            with (options.write / f"{row.name.replace(' ', '_')}.yaml").open("w", encoding="utf-8") as file:
                YAML().dump(outcome.scenario, file)
    print_summary(outcomes, time.perf_counter() - start)
    counted = [outcome for outcome in outcomes if outcome.is_counted]
    return 0 if sum(not outcome.cause for outcome in counted) >= 0.95 * len(counted) else 1


if __name__ == "__main__":
    sys.exit(main())
