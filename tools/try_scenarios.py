"""Draw scenarios from the schema and try them: each runs with every invariant, or is refused with all parts.

    python tools/try_scenarios.py 2000 --seed 7      # seeds 7; without --seed another one each day
    python tools/try_scenarios.py 1 --seed 7 --first 1234 --show

A scenario that is refused is tried again without the key that the refusal names, so that most draws end in a run; each
attempt is checked. What is found is printed with the scenario; the exit code is 1 then.

Invariants
----------
    path, and each stage                    sum to the step time, and no part is negative
    tokens                                  routed = computed + dropped
    bytes                                   sent = received
    components of the peak of memory        sum to the total
    each link                               utilisation <= 1
    lower bounds on the time of a batch     <= latency of a batch, <= step time / batches
    result                                  JSON without NaN; tables that can be printed
    refusal                                 field, rule, value and hint; exit code 2 or 3
"""

import argparse
import io
import json
import math
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from scenario_draws import MOST_ATTEMPTS, draw_scenario, value_at, without_key

from sim.errors import InvalidValueError, MoesimError, SimulationError
from sim.report.console.run import print_report
from sim.run.result import Result
from sim.scenario.load import load_scenario_text
from sim.studies.claims import judge_scenario

__all__ = ["Trial", "broken_invariants", "try_scenario"]

MOST_SECONDS: Final = 5.0
"""A small scenario that computes longer is a fault, however busy the machine is."""
_TOLERANCE: Final = 1e-6
_ROUNDING_NS: Final = 2
"""By which a clock of whole nanoseconds may miss a bound, for each event that is rounded up."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """How a drawn scenario ended."""

    data: Mapping[str, Any]
    """Raw data of the last attempt."""
    outcome: str
    """`ran`, or `refused`."""
    faults: tuple[str, ...]
    """What is wrong with the program; empty where nothing is."""
    num_refused: int
    """Attempts that were refused."""


def try_scenario(seed: int, number: int, folder: Path, *, most_s: float = MOST_SECONDS) -> Trial:
    """Draw a scenario and try it, its files written into a folder; more than `most_s` of processor time is a fault."""
    drawn = draw_scenario(seed, number)
    for name, text in drawn.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    data = drawn.data
    for num_refused in range(MOST_ATTEMPTS):
        began = time.process_time()
        faults, error = _attempt(data, folder)
        spent_s = time.process_time() - began
        if spent_s > most_s:
            faults = [*faults, f"slow: {spent_s:.1f} s"]
        if error is None or faults:
            return Trial(data=data, outcome="ran", faults=tuple(faults), num_refused=num_refused)
        smaller = without_key(data, error.field, drawn.base) if isinstance(error, InvalidValueError) else None
        if smaller is None:
            break
        data = smaller
    return Trial(data=data, outcome="refused", faults=(), num_refused=num_refused + 1)


def broken_invariants(result: Result) -> Iterator[str]:
    """Yield a sentence on each invariant that a result breaks.

    >>> from sim.scenario.scenario_files import STARTER
    >>> list(broken_invariants(judge_scenario(load_scenario_text(STARTER))))
    []
    """
    data = json.loads(result.to_json())
    step_ns = result.trace.step_ns
    if data["metrics"].get("num_requests"):  # a server's time begins when the first request arrives
        step_ns = round(data["metrics"]["step_time_s"] * 1e9)
    accounts = {"path": data["path_ns"]} | {f"stage {i}": account for i, account in enumerate(data["stages_ns"])}
    for name, account in accounts.items():
        if sum(account.values()) != step_ns:
            yield f"{name} sums to {sum(account.values())} ns of {step_ns} ns"
        if min(account.values()) < 0:
            yield f"{name} has a negative part: {account}"
    conserved = data["conservation"]
    if conserved["tokens_routed"] != conserved["tokens_computed"] + conserved["tokens_dropped"]:
        yield f"tokens: {conserved}"
    if not math.isclose(conserved["bytes_sent"], conserved["bytes_received"], rel_tol=_TOLERANCE):
        yield f"bytes: {conserved}"
    peak = data["memory"].get("peak_bytes_per_gpu", {"total": 0.0})
    if not math.isclose(sum(peak.values()) - peak["total"], peak["total"], rel_tol=_TOLERANCE):
        yield f"memory: {peak}"
    if any(value < 0 for value in peak.values()):
        yield f"memory is negative: {peak}"
    for link in data["links"]:
        if link["utilisation"] > 1 + _TOLERANCE + _ROUNDING_NS / step_ns:
            yield f"link {link['name']} has utilisation {link['utilisation']}"
    yield from _metrics_out_of_range(data["metrics"])
    yield from _bounds_above_times(result)


def _metrics_out_of_range(metrics: Mapping[str, Any]) -> Iterator[str]:
    for name, value in metrics.items():
        is_share = name.endswith("_fraction")
        if value is None or value < -_TOLERANCE or (is_share and value > 1 + _TOLERANCE):
            yield f"{name} = {value}"
    if metrics.get("imbalance_max_over_mean", 1) < 1 - _TOLERANCE:
        yield f"imbalance_max_over_mean = {metrics['imbalance_max_over_mean']}"


def _bounds_above_times(result: Result) -> Iterator[str]:
    bounds, metrics = result.simulated.bounds, result.metrics
    if bounds is None:
        return
    for metric in ("latency_s", "step_time_s"):
        for name, bound_s in zip(("compute", "wires"), bounds.of_metric(metric, result.simulated.batches), strict=True):
            if bound_s is not None and bound_s > metrics[metric] * (1 + _TOLERANCE):
                yield f"bound by {name} of {metric} is {bound_s}, and the run has {metrics[metric]}"


# ---- private -----------------------------------------------------------------------------------------------------


def _attempt(data: Mapping[str, Any], folder: Path) -> tuple[list[str], MoesimError | None]:
    """Return the faults that an attempt shows, and the error with which it was refused."""
    try:
        warnings.simplefilter("error")
        result = judge_scenario(load_scenario_text(json.dumps(data), file=str(folder / "drawn.yaml")))
        faults = list(broken_invariants(result))
        print_report(result.to_dict(), Console(file=io.StringIO(), width=120), written={})
    except MoesimError as error:
        return _faults_of_refusal(error, data), error
    except Exception as error:  # any exception is a fault of the program
        frames = traceback.extract_tb(error.__traceback__)[-3:]
        where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
        return [f"{type(error).__name__}: {error} at {where}"], None
    return faults, None


def _faults_of_refusal(error: MoesimError, data: Mapping[str, Any]) -> list[str]:
    if isinstance(error, SimulationError):
        return [f"defect: {error}"] if "defect" in str(error) else []
    if not isinstance(error, InvalidValueError):
        return [f"ends with {type(error).__name__}: {error}"]
    if _ran(error):
        return [f"refused in mid-run: {error}"]
    missing = [name for name, part in (("field", error.field), ("rule", error.rule), ("hint", error.hint)) if not part]
    if error.value is None and _is_not_given(data, error.field):
        missing.append("value")
    if not error.is_located:
        missing.append("place in the file")
    return [f"refusal without {', '.join(missing)}: {error}"] if missing else []


def _ran(error: BaseException) -> bool:
    """Return whether a run had begun."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(frame.name == "run_plan" for frame in frames) or (
        error.__context__ is not None and _ran(error.__context__)
    )


def _is_not_given(data: Mapping[str, Any], field: str) -> bool:
    *section, key = field.partition(" ")[0].split(".")
    node = value_at(data, section)
    return not isinstance(node, dict) or key not in node


def main() -> None:
    """Try as many scenarios as the arguments say, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("num", type=int, nargs="?", default=2000, help="scenarios to draw")
    parser.add_argument("--seed", type=int, default=datetime.now(UTC).toordinal(), help="seed of the draws")
    parser.add_argument("--first", type=int, default=0, help="number of the first scenario")
    parser.add_argument("--show", action="store_true", help="print the outcome of each scenario")
    arguments = parser.parse_args()
    outcomes: Counter[str] = Counter()
    for number in range(arguments.first, arguments.first + arguments.num):
        with tempfile.TemporaryDirectory() as folder:
            trial = try_scenario(arguments.seed, number, Path(folder))
        outcomes[trial.outcome] += 1
        outcomes["attempts refused"] += trial.num_refused
        outcomes["with faults"] += bool(trial.faults)
        if trial.faults or arguments.show:
            print(f"seed {arguments.seed}, number {number}: {trial.outcome}")
            print("".join(f"  {fault}\n" for fault in trial.faults) + f"  {json.dumps(trial.data)}")
    print(f"seed {arguments.seed}: {arguments.num} scenarios; {dict(outcomes)}")
    sys.exit(1 if outcomes["with faults"] else 0)


if __name__ == "__main__":
    main()
