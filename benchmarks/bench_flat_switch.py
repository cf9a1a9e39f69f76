"""The reference step on a flat switch: its time and memory in a process of its own, and how it grows.

What grows is compared in time without planning, which is the network's and the lanes' own; each is the least of its
rounds, interleaved.
"""

import json
import os
from collections.abc import Callable
from dataclasses import replace

from flat_switch import FlatSwitchPlan, FlatSwitchStep
from measuring import Cost, Row, bare_timeout_s, note, run_fresh, run_rounds, time_plan
from peak_memory import peak_bytes
from pytest_benchmark.fixture import BenchmarkFixture

STEP = FlatSwitchStep()


def test_reference_step(benchmark: BenchmarkFixture) -> None:
    """5,760 operations: from nothing planned to the finished record, and the memory of the whole process."""
    (found,) = run_rounds(benchmark, lambda: json.loads(run_fresh([__file__], num_cores=1)[1]))
    whole_s, engine_s = (min(one[key] for one in found) for key in ("whole_s", "engine_s"))
    note(
        benchmark,
        Row(case="64-GPU step on a flat switch", figure=whole_s, unit="s", time_s=whole_s, bar=0.15),
        Row(
            case="... one of its 5,760 operations, engine alone",
            figure=engine_s / STEP.num_stage_ops * 1e6,
            unit="us",
            time_s=engine_s / STEP.num_stage_ops,
        ),
        Row(
            case="... memory of the process at its peak",
            figure=max(one["peak_bytes"] for one in found) / 1e6,
            unit="MB",
            bar=200,
        ),
        bare_s=[one["timeout_s"] for one in found],
    )


def test_twice_the_microbatches(benchmark: BenchmarkFixture) -> None:
    """16 microbatches over 8."""
    ratio = growth(benchmark, replace(STEP, num_microbatches=2 * STEP.num_microbatches), STEP)
    note(benchmark, Row(case="twice the microbatches", figure=ratio[0], unit="times", bar=2.2))


def test_different_lanes(benchmark: BenchmarkFixture) -> None:
    """1,024 GPUs in 64 lanes that all differ, over one lane: of 16 GPUs, and of all 1,024."""
    one = replace(STEP, num_stages=1)
    many = replace(one, slowness=different(64))
    over_small, over_large = growth(benchmark, many, one, replace(one, lane_size=1024))
    note(
        benchmark,
        Row(case="64 different lanes of 16 GPUs over one such lane", figure=over_small, unit="times", bar=20),
        Row(case="64 different lanes of 16 GPUs over one of 1,024", figure=over_large, unit="times", bar=20),
    )


def test_different_pipelines(benchmark: BenchmarkFixture) -> None:
    """1,024 GPUs in 16 pipelines that all differ (64 stages of 16 GPUs) over one pipeline of 64 GPUs."""
    ratio = growth(benchmark, replace(STEP, slowness=different(16)), STEP)
    note(benchmark, Row(case="16 different pipelines of 4 stages over one", figure=ratio[0], unit="times", bar=20))


# ---- private ---------------------------------------------------------------------------------------------------------


def different(num_lanes: int) -> tuple[float, ...]:
    """Return factors on compute time of which no two are alike: 1, 1.01, 1.02, ..."""
    return tuple(1 + lane / 100 for lane in range(num_lanes))


def growth(benchmark: BenchmarkFixture, large: FlatSwitchStep, *small: FlatSwitchStep) -> list[float]:
    """Return the time of `large` over that of each of `small`, without planning."""
    found = run_rounds(benchmark, timed(large), *(timed(step) for step in small))
    least = [min(cost.run_s for cost in costs) for costs in found]
    return [least[0] / one for one in least[1:]]


def timed(step: FlatSwitchStep) -> Callable[[], Cost]:
    """Return what times a step, planned anew."""
    return lambda: time_plan(lambda: FlatSwitchPlan(step))


def main() -> None:
    """Time the step in this process, which has run nothing else, and print the figures."""
    cost = timed(STEP)()
    peak = peak_bytes()
    print(
        json.dumps(
            {
                "whole_s": cost.whole_s,
                "engine_s": cost.engine_s,
                "peak_bytes": peak,
                "timeout_s": bare_timeout_s(),
                "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
            }
        )
    )


if __name__ == "__main__":
    main()
