"""Hold the compiled kernel to SimPy's processes on scenarios drawn from the schema: traces equal column by column.

    python benchmarks/conform_engines.py 1000 --seed 7

Every other scenario runs flow by flow, where that is not refused. Prints how many ran alike, and each that did not with
what differs; the exit code is 1 then. Scenarios that are refused are counted apart. Without numba the kernel runs
interpreted.
"""

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests/sim/engine")]

from conformance import differences_of_drawn  # noqa: E402  # found by the line above

from sim.engine.compiled import loop  # noqa: E402
from sim.engine.compiled.compiler import compiled_run, has_numba  # noqa: E402


def main() -> int:
    """Draw, run and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, nargs="?", default=1000)
    parser.add_argument("--seed", type=int, default=24)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    kernel = compiled_run() if has_numba() else loop.run
    num_alike = num_left_out = num_different = 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(given.first, given.first + given.count):
            found = differences_of_drawn(given.seed, number, Path(folder), kernel)
            num_left_out += found is None
            num_alike += found == []
            num_different += bool(found)
            if found:
                print(f"scenario {number} of seed {given.seed}: {', '.join(found)}", flush=True)
    print(f"{num_alike} ran alike, {num_different} did not, {num_left_out} were refused")
    return 1 if num_different else 0


if __name__ == "__main__":
    sys.exit(main())
