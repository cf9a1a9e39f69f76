"""Where the engine's time goes: own time of its functions per stage operation, for the cases of `bench_engine.py`.

    python benchmarks/profile_engine.py [ROWS]

Planning is left out: each case is run once to plan it, and profiled when it runs again on the ops that were kept. The
profiler makes a function call cost more than it does, so that many small functions look worse than few large ones; the
time without profiler stands in each heading.
"""

import cProfile
import gc
import pstats
import sys
from functools import cache
from pathlib import Path

from bench_engine import CASES, plan_maker
from measuring import RUNS

from sim.engine.run_state import Plan
from sim.engine.simulation import run_plan


def kept(plan: Plan) -> Plan:
    """Return a plan that keeps the ops of every pass, whether they depend on the microbatch or not."""
    plan.ops = cache(plan.ops)  # type: ignore[method-assign]
    return plan


def own_times(plan: Plan) -> tuple[int, list[tuple[float, int, str]]]:
    """Return the number of operations, and own seconds, calls and name of each function, longest first."""
    gc.collect()
    profiler = cProfile.Profile()
    stats = profiler.runcall(run_plan, plan).stats
    functions = pstats.Stats(profiler).stats  # type: ignore[attr-defined]  # documented nowhere, stable since Python 2
    found = [(own_s, calls, named(*where)) for where, (_, calls, own_s, *_) in functions.items()]
    return stats.num_stage_ops, sorted(found, reverse=True)


def named(file: str, line: int, function: str) -> str:
    """Return a function as `module.function`, without folders."""
    del line
    return function if file == "~" else f"{Path(file).stem}.{function}"


def main() -> None:
    """Print a table for each case."""
    num_rows = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    for case, (scenario, *_) in CASES.items():
        plan = kept(plan_maker(scenario)())
        walls = [run_plan(plan).stats for _ in range(RUNS)][1:]
        num_ops, found = own_times(plan)
        whole_s = sum(own_s for own_s, *_ in found)
        least_s = min(stats.wall_s for stats in walls)
        print(f"\n{case}: {least_s / num_ops * 1e6:.1f} us an operation, {whole_s / num_ops * 1e6:.1f} with profiler\n")
        print("| function | own us per operation | share | calls per operation |")
        print("| --- | --- | --- | --- |")
        for own_s, calls, name in found[:num_rows]:
            print(f"| `{name}` | {own_s / num_ops * 1e6:.2f} | {own_s / whole_s:.0%} | {calls / num_ops:.2f} |")


if __name__ == "__main__":
    main()
