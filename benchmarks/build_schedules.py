"""How long the orders of 64 stages x 1,024 microbatches take to build, for every schedule; at most 1 s is wanted.

`python benchmarks/build_schedules.py` prints a table: CPU time with all passes as long as each other, and with times
that differ by up to 10 % between stages, for which the automatic schedules find no rhythm to repeat. Above it stands
the time of a loop of a million additions in the same run: compare machines by the ratio.
"""

import random
import time
from collections.abc import Callable

from workloads.schedules import SCHEDULES, Pipeline, StageTimes, build_pipeline_order

STAGES, MICROBATCHES, ROUNDS = 64, 1024, 3


def least_s(call: Callable[[], object]) -> float:
    """Return the least CPU time of a few calls."""
    found = []
    for _ in range(ROUNDS):
        began = time.process_time()
        call()
        found.append(time.process_time() - began)
    return min(found)


def count() -> int:
    """Return a million, counted."""
    total = 0
    for _ in range(1_000_000):
        total += 1
    return total


def uneven() -> tuple[StageTimes, ...]:
    """Return times of stages that differ by up to 10 %."""
    draw = random.Random(1)
    times = [[draw.randint(900_000, 1_000_000) for _ in range(3)] for _ in range(STAGES)]
    return tuple(StageTimes(forward_ns=f, backward_ns=b, weight_ns=w) for f, b, w in times)


def main() -> None:
    """Print the table."""
    print(f"{'a million additions':20}{least_s(count):8.3f} s")
    print(f"{'':20}{'even':>8}{'uneven':>12}")
    for kind, family in SCHEDULES.items():
        pipelines = [
            Pipeline(
                num_stages=STAGES,
                num_microbatches=MICROBATCHES,
                num_chunks=2 if family.num_chunks is None else 1,
                times=times,
                hop_ns=hop_ns,
            )
            for times, hop_ns in ((None, 0), (uneven(), 5_000))
        ]
        steps = sum(map(len, build_pipeline_order(kind, pipelines[0]).order))
        even_s, uneven_s = (least_s(lambda k=kind, p=one: build_pipeline_order(k, p)) for one in pipelines)
        print(f"{kind:20}{even_s:8.3f} s{uneven_s:10.3f} s  {steps:,} steps")


if __name__ == "__main__":
    main()
