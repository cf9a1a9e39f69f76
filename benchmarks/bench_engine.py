"""What an operation of a stage costs in the engine, as a ratio to a bare SimPy timeout taken in the same run.

An operation is a collective, or the kernels between two synchronisation points. Planning (routing draws, kernel times,
loads on links) is printed apart. `make bench` runs this and writes `out/benchmarks.json`.

A bare timeout is the least of 5 runs of 4 processes x 50,000 timeouts, interleaved with the cases; a case is the least
of 5 runs.
"""

import json
import sys
import time
from pathlib import Path
from unittest.mock import patch

import simpy

import sim.engine.simulation
from sim.engine.plain_network import FluidNetwork as PlainNetwork
from sim.engine.plan.pipeline import PipelinePlan
from sim.engine.simulation import EngineStats, run_plan
from sim.scenario.load import load_scenario
from sim.studies.build import build

RUNS = 5
CASES = {
    "collectives share no link": ("ep16_tp16_pp4", ["workload.batches=1"]),
    "exchanges of 4 stages collide, equal": ("ep64_tp16_pp4", ["workload.batches=1"]),
    "exchanges of 4 stages collide, random": ("ep64_tp16_pp4_multinomial", ["workload.batches=1"]),
}


def bare_timeout_s() -> float:
    """Return the time of one timeout of 4 processes x 50,000."""

    def process(env: simpy.Environment):  # noqa: ANN202  # a generator of timeouts
        for _ in range(50_000):
            yield env.timeout(1)

    env = simpy.Environment()
    for _ in range(4):
        env.process(process(env))
    began = time.perf_counter()
    env.run()
    return (time.perf_counter() - began) / 200_000


def measure() -> list[dict[str, object]]:
    """Return a row for each case."""
    works = {name: build(load_scenario(*case[:1], overrides=case[1])).work for name, case in CASES.items()}
    timeouts: list[float] = []
    fast: dict[str, list[EngineStats]] = {name: [] for name in works}
    plain: dict[str, list[EngineStats]] = {name: [] for name in works}
    for _ in range(RUNS):
        timeouts.append(bare_timeout_s())
        for name, work in works.items():
            fast[name].append(run_plan(PipelinePlan(work)).stats)
            with patch.object(sim.engine.simulation, "FluidNetwork", PlainNetwork):
                plain[name].append(run_plan(PipelinePlan(work)).stats)
    timeout_s = min(timeouts)
    rows = []
    for name in works:
        best, slow = min(fast[name], key=lambda s: s.wall_s), min(plain[name], key=lambda s: s.wall_s)
        rows.append(
            {
                "case": name,
                "operations": best.num_stage_ops,
                "spans": best.num_spans,
                "timeouts_per_operation": best.wall_s / best.num_stage_ops / timeout_s,
                "plain_over_fast": slow.wall_s / best.wall_s,
                "plan_over_engine": min(s.plan_wall_s for s in fast[name]) / best.wall_s,
                "events_per_operation": best.num_events / best.num_stage_ops,
                "timeout_us": timeout_s * 1e6,
            }
        )
    return rows


def main() -> None:
    """Print the table, and write it as JSON where a path is given."""
    rows = measure()
    print(f"a bare timeout takes {rows[0]['timeout_us']:.2f} us")
    print(f"{'case':40s} {'operations':>10s} {'timeouts/op':>12s} {'plain/fast':>11s} {'plan/engine':>12s}")
    for row in rows:
        print(
            f"{row['case']:40s} {row['operations']:10,} {row['timeouts_per_operation']:12.1f} "
            f"{row['plain_over_fast']:11.2f} {row['plan_over_engine']:12.2f}"
        )
    if len(sys.argv) > 1:
        path = Path(sys.argv[1])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
