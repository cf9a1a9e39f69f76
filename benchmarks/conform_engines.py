"""Compare the compiled kernel with SimPy's processes: traces column by column, and whether a run fails.

    python benchmarks/conform_engines.py 1000 --seed 7      # scenarios drawn from the schema
    python benchmarks/conform_engines.py --files            # all bundled files, whole, but those that serve requests

Every other drawn scenario runs flow by flow; keys that are refused are left out. A file is run with the scenarios of
its claims and of its published figures; `--files TEXT` runs the files alone whose names contain the text. Prints how
many ran alike, and each that did not with what differs; the exit code is 1 then. Scenarios in which there is nothing to
compare are counted apart: they are refused, or their schedule decides while it runs. Without numba the kernel runs
interpreted.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests/sim/engine")]

from conformance import (  # noqa: E402  # found by the line above
    bundled_files,
    compare_drawn,
    differences_of_scenario,
    scenarios_of_file,
)

from sim.engine.compiled import loop  # noqa: E402
from sim.engine.compiled.compiler import RunKernel, compiled_run  # noqa: E402
from sim.engine.optional_numba import has_numba  # noqa: E402

Compared = Iterator[tuple[str, list[str] | None]]
"""Name of each scenario, and what differs; None: there is nothing to compare."""


def compare_files(text: str, kernel: RunKernel) -> Compared:
    """Run the bundled files whose names contain a text."""
    for name in bundled_files():
        if text in name:
            for part, scenario in scenarios_of_file(name):
                yield part, differences_of_scenario(scenario, kernel)


def main() -> int:
    """Run what the arguments say, and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, nargs="?", default=1000, help="drawn scenarios to compare")
    parser.add_argument("--seed", type=int, default=24)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--files", nargs="?", const="", metavar="TEXT", help="bundled files, none drawn")
    given = parser.parse_args()
    kernel = compiled_run() if has_numba() else loop.run
    num_alike = num_left_out = num_different = 0
    with tempfile.TemporaryDirectory() as folder:
        if given.files is None:
            compared = compare_drawn(given.seed, given.first, given.count, Path(folder), kernel)
        else:
            compared = compare_files(given.files, kernel)
        for name, found in compared:
            num_left_out += found is None
            num_alike += found == []
            num_different += bool(found)
            if found:
                print(f"{name}: {', '.join(found)}", flush=True)
    print(f"{num_alike} ran alike, {num_different} did not, {num_left_out} had nothing to compare")
    return 1 if num_different else 0


if __name__ == "__main__":
    sys.exit(main())
