"""How long the orders of 64 stages x 1,024 microbatches take to build, for every schedule; at most 1 s is wanted.

`python benchmarks/build_schedules.py` prints a table. Beside it stands the time of a loop of a million additions in the
same run: compare machines by the ratio.
"""

import time
from collections.abc import Callable

from workloads.schedules import SCHEDULES, Pipeline, build_programme

STAGES, MICROBATCHES, ROUNDS = 64, 1024, 3


def least_s(call: Callable[[], object]) -> float:
    """Return the least time of a few calls."""
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return min(found)


def count() -> int:
    """Return a million, counted."""
    total = 0
    for _ in range(1_000_000):
        total += 1
    return total


def main() -> None:
    """Print the table."""
    print(f"{'a million additions':20}{least_s(count):8.3f} s")
    for kind, family in SCHEDULES.items():
        chunks = 2 if family.num_chunks is None else 1
        pipeline = Pipeline(num_stages=STAGES, num_microbatches=MICROBATCHES, num_chunks=chunks)
        steps = sum(map(len, build_programme(kind, pipeline).order))
        print(f"{kind:20}{least_s(lambda k=kind, p=pipeline: build_programme(k, p)):8.3f} s  {steps:,} steps")


if __name__ == "__main__":
    main()
