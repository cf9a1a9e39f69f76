"""Searches against exhaustive simulation: small models and clusters are drawn, and every strategy of each is simulated.

    python benchmarks/prove_search.py --models 20 --most 2000 --jobs 2

For each drawn model it prints the size of the space, the share that the search simulated, whether its optimum is that
of all, and how far bounds are below the simulated times. It exits with 1 where an optimum differs or a bound is above
a simulation.
"""

import argparse
import sys

import numpy as np

from sim.build.runtime import runtime_of
from sim.errors import MoesimError
from sim.run.parallel_runs import run_many
from sim.scenario.scenario import Scenario
from sim.studies.search.bounds import TightBounds, cheap_bounds_s
from sim.studies.search.branch import search
from sim.studies.search.space import Space, space_of

CLUSTERS = (("dgx-h100", (1, 2, 4)), ("dgx-a100", (1, 2, 4)), ("dgx-b200", (1, 2)), ("h800", (1, 2)))
RUNTIMES = ("ideal", "megatron-core-2025", "megatron-2022")


def drawn(number: int) -> Scenario:
    """Return the scenario of a drawn model on a drawn cluster."""
    generator = np.random.default_rng(number)
    preset, sizes = CLUSTERS[generator.integers(len(CLUSTERS))]
    heads = int(generator.choice([8, 16, 32]))
    experts = int(generator.choice([0, 8, 16, 64]))
    model = {
        "layers": int(generator.choice([4, 6, 8, 12, 16])),
        "hidden": 128 * heads,
        "heads": heads,
        "ffn": 128 * heads * int(generator.choice([1, 2, 4])),
        "gated": bool(generator.integers(2)),
        "vocab": int(generator.choice([8192, 50304, 128256])),
    }
    model |= {"experts": experts, "top_k": int(generator.choice([1, 2, 4]))} if experts else {}
    kind = str(generator.choice(["forward", "training"]))
    workload = {
        "kind": kind,
        "sequences": int(generator.choice([32, 64, 128])),
        "sequence_length": int(generator.choice([1024, 2048, 4096])),
        "microbatches": 1,
    }
    return Scenario.validated(
        {
            "name": f"drawn {number}",
            "cluster": {"preset": preset, "num_nodes": int(generator.choice(sizes))},
            "model": model,
            "parallel": {"strategy": "TP1", "convention": "megatron"},
            "workload": workload,
            "runtime": {"preset": str(generator.choice(RUNTIMES))} if kind == "training" else {},
            "routing": {"kind": "balanced"},
        }
    )


def narrowed(scenario: Scenario, most: int) -> Space:
    """Return the space of a scenario, with axes fixed until it is no larger than `most`."""
    fix: dict[str, object] = {}
    for key, value in (
        (None, None),
        ("parallel.cp", 1),
        ("parallel.etp", 1),
        ("schedule.recompute", "none"),
        ("parallel.zero", 0),
        ("parallel.convention", "megatron"),
        ("workload.microbatches", 4),
        ("schedule.kind", "1f1b"),
    ):
        if key is not None and (key != "schedule.recompute" or scenario.spec.workload.kind == "training"):
            fix[key] = value
        space = space_of(scenario, fix=fix)
        if len(space.candidates) <= most:
            break
    return space


def main() -> int:
    """Prove searches, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--most", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    shares, failed = [], 0
    for number in range(arguments.models):
        space = narrowed(drawn(number), arguments.most)
        searched = search(space, gap=0.01, jobs=arguments.jobs)
        share = len(searched.outcomes) / len(space.candidates)
        shares.append(share)
        scenarios = [space.scenario_of(candidate) for candidate in space.candidates]
        with run_many(scenarios, jobs=arguments.jobs, wanted=frozenset()) as observe:
            seen = observe()
        times = np.array(
            [float(one.values["step_time_s"]) if one.values.get("fits") is True else np.inf for one in seen]
        )
        least_s, best = float(times.min()), searched.best
        found_s = np.inf if best is None or best.step_s is None else best.step_s
        is_optimal = found_s <= least_s * 1.01 or (best is None and not np.isfinite(least_s))
        ratios = _tightness(space, times)
        failed += not is_optimal or max(ratios, default=0.0) > 1 + 1e-9
        print(
            f"{space.scenario.spec.name}: {len(space.candidates):,} strategies, {100 * share:.1f} % simulated, "
            f"{'the optimum' if is_optimal else 'NOT the optimum'} ({found_s:.4g} s, least {least_s:.4g} s); "
            f"bound over simulated {np.median(ratios):.3f} in the median, {max(ratios):.6f} at most"
            if ratios
            else f"{space.scenario.spec.name}: nothing fits"
        )
        sys.stdout.flush()
    print(f"median share simulated: {100 * float(np.median(shares)):.1f} %; {failed} of {arguments.models} failed")
    return 1 if failed else 0


def _tightness(space: Space, times: np.ndarray) -> list[float]:
    """Return bound over simulated time of up to 50 candidates that fit."""
    cheap, tight = cheap_bounds_s(space, runtime_of(space.scenario)), TightBounds()
    fitting = np.flatnonzero(np.isfinite(times))
    ratios = []
    for number in np.random.default_rng(1).permutation(fitting)[:50].tolist():
        try:
            bound_s = tight.of(space.scenario_of(space.candidates[number])).step_s
        except MoesimError:
            continue
        ratios += [max(bound_s, float(cheap[number])) / float(times[number])]
    return ratios


if __name__ == "__main__":
    sys.exit(main())
