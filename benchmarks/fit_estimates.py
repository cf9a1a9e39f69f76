"""Fit what one of each count of `sim.run.estimates` takes of processor time and memory, and print its table `COSTS`.

    python benchmarks/fit_estimates.py --keep out/runs.jsonl       # measures 227 runs, which takes 10 minutes
    python benchmarks/fit_estimates.py --kept out/runs.jsonl       # fits again

Measured are bundled scenarios under changes, validation cases, some simulations of the table of large clusters, and 120
drawn scenarios of another seed than `compare_estimates` draws: what it compares was not fitted.

    minimise over c >= 0     sum over runs of log(counts . c / measured)^2

by Gauss-Newton steps, each a least-squares problem with c >= 0 that is solved a coordinate at a time.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np
from measured_runs import Measured, drawn_scenarios, measure
from numpy.typing import NDArray
from scale_cases import CASES

from sim.run.estimates import COSTS, Cost
from sim.scenario.load import load_scenario
from sim.scenario.scenario import Scenario
from sim.scenario.scenario_files import find_bundled, list_cases

FloatArray = NDArray[np.float64]
_SEED, _NUM_DRAWN, _MULTIPLES, _MOST_S = 1, 120, (1, 4, 16, 64), 60
_OF_TIME = (
    *("runs", "profile_rows", "graphs", "gpus", "planned_ops", "planned_loads", "reductions", "drawn_layers", "cells"),
    "adjusted_layers",
    *("events", "slowed_events", "compiled_ops", "numba", "rows", "flows", "kept_flows", "own_flows"),
)
"""Counts that take time; those left out were fitted to nothing."""
_OF_MEMORY = (
    *("runs", "links", "planned_loads", "drawn_exchanges", "slowed_events", "compiled_ops", "numba"),
    *("rows", "loads", "kept_flows", "own_flows"),
)
"""Counts that take memory, likewise."""
_NOT_FITTED = ("table_bytes", "compilations")
"""Counts whose costs are given."""
_LONG_CASES = {"document_16384", "experts_flow", "experts_multinomial", "experts_zipf"}
"""Simulations of the table that take over 20 s: they are not fitted to."""
_MEGATRON = "runtime.preset=megatron-core-2025 parallel.convention=megatron parallel.sp=true"
_BUNDLED: Mapping[str, Sequence[str]] = {
    "ep64_tp16_pp4": (
        "",
        "routing.kind=multinomial",
        "network.fidelity=flow",
        "network.fidelity=flow routing.kind=multinomial workload.batches=1",
        "workload.batches=16",
        "engine=compiled",
        "engine=compiled workload.batches=16",
        "routing.kind=multinomial workload.batches=8",
    ),
    "ep16_tp16_pp4": (
        "",
        "routing.kind=multinomial",
        "network.fidelity=flow",
        "network.fidelity=flow routing.kind=multinomial workload.batches=1",
        "engine=simpy workload.batches=64",
        "engine=compiled workload.batches=64",
        "routing.kind=multinomial workload.batches=16",
    ),
    "ep64_tp16_pp4_training": (
        "",
        "engine=compiled",
        "engine=compiled workload.microbatches=64 workload.sequences=512",
        "workload.microbatches=64 workload.sequences=512",
        "network.fidelity=flow",
        "routing.kind=multinomial",
        f"{_MEGATRON} parallel.strategy=EP16_TP4_PP2_DP8",
        f"{_MEGATRON} parallel.strategy=EP16_TP4_PP2_DP8 routing.kind=zipf routing.skew=0.6",
        f"{_MEGATRON} parallel.strategy=EP16_TP4_PP2_DP8 routing.kind=zipf workload.microbatches=64"
        " workload.sequences=1024",
        f"{_MEGATRON} parallel.strategy=EP16_TP16_PP4 schedule.kind=zb_h1",
    ),
    "stress/hot_expert": ("", "workload.microbatches=64 workload.sequences=4096"),
    "stress/deepseek_prefill": ("",),
    "stress/zipf_sweep": ("routing.skew=1",),
    "stress/drift_replanned": ("",),
    "stress/ep64_tp16_pp4_skewed": ("",),
    "stragglers/dense_pp4": ("",),
}
"""Bundled scenario -> changes under which it runs."""


def runs_to_fit() -> Iterator[tuple[str, str, str]]:
    """Yield name, text and file of each scenario."""
    bare = ["claims=[]", "alternatives=[]", "rivals=[]"]
    for name, variants in _BUNDLED.items():
        for changes in variants:
            yield _named(f"{name} {changes}", load_scenario(name, overrides=[*bare, *changes.split()]))
    for name in list_cases():
        scenario = load_scenario(find_bundled(f"validation/{name}"))
        num_figures = len(scenario.spec.published)
        if scenario.spec.workload.kind in {"forward", "training"}:
            for i in sorted({0, num_figures // 3, 2 * num_figures // 3}):
                yield _named(f"{name} {i}", scenario.case(i))
    for name, case in CASES.items():
        if name not in _LONG_CASES:
            yield _named(name, load_scenario("ep16_tp16_pp4", overrides=[*case.changes, "claims=[]"]))
    for microbatches in (2, 8, 24):
        changes = [f"workload.microbatches={microbatches}", f"workload.sequences={128 * microbatches}"]
        scenario = load_scenario("ep16_tp16_pp4", overrides=[*CASES["experts_flow"].changes, *changes, "claims=[]"])
        yield _named(f"experts_flow, {microbatches} microbatches", scenario)
    yield from islice(drawn_scenarios(_SEED, _MULTIPLES), _NUM_DRAWN)


def fit(counts: FloatArray, measured: FloatArray) -> FloatArray:
    """Return what one of each count takes [C], of counts [R, C] and what the runs took [R].

    >>> fit(np.array([[1.0, 0.0], [1.0, 2.0], [1.0, 8.0]]), np.array([3.0, 13.0, 43.0])).round(3)
    array([3., 5.])
    """
    scaled = counts / measured[:, None]
    largest = np.maximum(scaled.max(axis=0), 1e-300)
    scaled = scaled / largest
    costs = np.full(counts.shape[1], 1.0 / counts.shape[1])
    for _ in range(100):
        ratios = np.maximum(scaled @ costs, 1e-9)
        slopes = scaled / ratios[:, None]
        costs = (costs + _least_squares(slopes, 1.0 - np.log(ratios), costs)) / 2
    return np.asarray(costs / largest)


def _least_squares(slopes: FloatArray, target: FloatArray, start: FloatArray) -> FloatArray:
    """Return x >= 0 with the least |slopes x - target|, a coordinate at a time."""
    products, wanted, x = slopes.T @ slopes, slopes.T @ target, start.copy()
    products[np.diag_indices_from(products)] += 1e-6  # a count that no run has
    for _ in range(500):
        for i in range(x.size):
            x[i] = max(0.0, x[i] - (products[i] @ x - wanted[i]) / products[i, i])
    return x


def _compile_kernels() -> None:
    """Let the kernels of events and of flows be compiled and kept, so that no run has to."""
    bare = ["claims=[]", "alternatives=[]", "rivals=[]", "workload.batches=1"]
    for changes in (["engine=compiled"], ["network.fidelity=flow", "routing.kind=multinomial"]):
        measure(*_named("", load_scenario("ep16_tp16_pp4", overrides=[*bare, *changes])), most_s=600)


def _named(name: str, scenario: Scenario) -> tuple[str, str, str]:
    return name, json.dumps(scenario.raw), str(scenario.path)


def _fit_costs(runs: Sequence[Measured], names: Sequence[str], measured: FloatArray) -> dict[str, float]:
    """Return what one of each named count takes, and print how well that fits."""
    counts = np.array([[float(run.counts[name]) for name in names] for run in runs])
    costs = fit(counts, measured)
    ratios = np.sort(counts @ costs / measured)
    print(f"# {len(runs)} runs, {np.mean((ratios >= 0.5) & (ratios <= 2)):.1%} within a factor of 2: "
          f"{ratios[0]:.2f} to {ratios[-1]:.2f}")  # fmt: skip
    return dict(zip(names, costs.tolist(), strict=True))


def main() -> None:
    """Measure or read, fit, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--keep", type=Path, help="file into which measured runs are written")
    parser.add_argument("--kept", type=Path, help="file of measured runs, which are not measured again")
    given = parser.parse_args()
    runs = []
    if given.kept is not None:
        runs = [Measured(**json.loads(line)) for line in given.kept.read_text(encoding="utf-8").splitlines()]
    if given.kept is None:
        _compile_kernels()
    for case in () if runs else runs_to_fit():
        one = measure(*case, most_s=_MOST_S)
        if isinstance(one, str):
            print(f"{case[0]}: {one[:150]}", file=sys.stderr)
            continue
        runs.append(one)
        if given.keep is not None:
            with given.keep.open("a", encoding="utf-8") as file:
                print(json.dumps(asdict(one)), file=file)
    times_s = np.array([one.scaled_s(one.run_s) for one in runs])
    tables = np.array([one.counts["table_bytes"] for one in runs])
    bytes_of = np.array([one.peak_bytes for one in runs]) - tables
    cpu_s, num_bytes = _fit_costs(runs, _OF_TIME, times_s), _fit_costs(runs, _OF_MEMORY, bytes_of)
    print(f"PROCESS_S = {np.median([one.scaled_s(one.process_s - one.run_s) for one in runs]):.2f}")
    for name in COSTS:
        cost = COSTS[name] if name in _NOT_FITTED else Cost(cpu_s.get(name, 0.0), num_bytes.get(name, 0.0))
        print(f'    "{name}": Cost({cost.cpu_s:.2g}, {cost.num_bytes:.3g}),')


if __name__ == "__main__":
    main()
