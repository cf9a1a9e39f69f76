"""Measure the kernels of a GPU with PyTorch, and write them as a profile that moesim reads.

    python benchmarks/device/measure.py -o my_gpu.csv                    # some minutes on a GPU
    python benchmarks/device/measure.py -o my_gpu.csv --quick --device cpu
    moesim run SCENARIO --set profile=my_gpu.csv

Needs PyTorch, and moesim on the path (installed, or `PYTHONPATH=.`). A kernel is called until it has run for
`WARM_UP_S`, then timed in batches of calls, as many as last `BATCH_S`, whose median is taken: on a GPU between two
events, so that launches overlap with what runs. Kernels that the device or this PyTorch does not have are named and
left out.
"""

import argparse
import csv
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from device.kernels import KERNELS
from device.shapes import QUICK, STANDARD, grid
from topology.profiles.profile_csv import COLUMNS, parse_profile

WARM_UP_S = 0.02
BATCH_S = 0.005
NUM_BATCHES = 7

Timer = Callable[[Callable[[], Any], int], float]
"""Call, number of calls -> seconds that they took together."""


def seconds_per_call(call: Callable[[], Any], timer: Timer) -> float:
    """Return the median time of a call, over batches of calls after a warm-up."""
    once_s = max(timer(call, 1), 1e-7)
    timer(call, max(1, min(1000, int(WARM_UP_S / once_s))))
    once_s = max(timer(call, 3) / 3, 1e-7)
    num_calls = max(1, min(1000, int(BATCH_S / once_s)))
    return statistics.median(timer(call, num_calls) / num_calls for _ in range(NUM_BATCHES))


def timer_of(torch: Any, device: str) -> Timer:  # noqa: ANN401 - PyTorch has no types here
    """Return a timer: events on a GPU, the clock elsewhere."""

    def on_host(call: Callable[[], Any], num_calls: int) -> float:
        start_s = time.perf_counter()
        for _ in range(num_calls):
            call()
        return time.perf_counter() - start_s

    def on_gpu(call: Callable[[], Any], num_calls: int) -> float:
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        for _ in range(num_calls):
            call()
        last.record()
        torch.cuda.synchronize()
        return float(first.elapsed_time(last)) * 1e-3

    return on_gpu if device.startswith("cuda") else on_host


def measure(
    torch: Any,  # noqa: ANN401
    device: str,
    tables: Mapping[str, Mapping[str, Sequence[int]]],
    timer: Timer,
    *,
    note: Callable[[str], None] = print,
    **more: Any,  # noqa: ANN401
) -> Iterator[dict[str, object]]:
    """Yield a row of the profile for each kernel that could be run; `more` goes to `grid`."""
    for (operation, fmt), make in KERNELS.items():
        for shape in grid(operation, dict(tables.get(operation, {})), **more) if operation in tables else ():
            try:
                time_s = seconds_per_call(make(torch, shape, device), timer)
            except (RuntimeError, AttributeError, NotImplementedError, ValueError) as error:
                reason = (str(error) or repr(error)).splitlines()[0]
                note(f"{operation} in {fmt} is left out: {reason}")
                break
            yield {
                "operation": operation,
                "format": fmt,
                "kernel": "pytorch",
                "time_us": f"{time_s * 1e6:.5g}",
                **shape,
            }


def write_profile(rows: Sequence[Mapping[str, object]], path: Path, remark: str) -> None:
    """Write a profile, and read it as moesim does."""
    columns = [name for name in COLUMNS if any(name in row for row in rows)]
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(f"# {remark}\n")
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    parse_profile(path.read_text(encoding="utf-8"), str(path))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the profile."""
    parser = argparse.ArgumentParser(description="Measure the kernels of a GPU as a profile for moesim.")
    parser.add_argument("-o", "--output", required=True, type=Path)
    parser.add_argument("--device", default=None, help="cuda, or cpu to try it out")
    parser.add_argument("--quick", action="store_true", help="the first and the last of each size")
    given = parser.parse_args(arguments)
    try:
        import torch  # noqa: PLC0415 - no dependency of moesim
    except ImportError:
        print("PyTorch is needed: install torch", file=sys.stderr)
        return 2
    device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.startswith("cuda") else "CPU"
    torch.manual_seed(0)
    rows = []
    for row in measure(torch, device, QUICK if given.quick else STANDARD, timer_of(torch, device)):
        rows.append(row)
        print(f"\r{len(rows)} kernels, {row['operation']}          ", end="", file=sys.stderr, flush=True)
    write_profile(rows, given.output, f"Kernels of {name}, measured with PyTorch {torch.__version__}")
    print(f"\n{len(rows)} kernels in {given.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
