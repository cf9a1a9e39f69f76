"""A sweep that is killed again and again (`kill -9`) and started again: does it end with what an undisturbed one has?

    python benchmarks/killed_sweeps.py --points 10000 --kills 10

It prints how many points are in each store, how many differ, and how often a point was simulated more than once (the
points that were in flight).
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sim.studies.store.store import Store

__all__ = ["kept_results", "run_sweep"]

PASSES = "parallel: {pp: 2}\nworkload: {kind: passes, microbatches: 2, pass_times: {F: 1 ms, B: 2 ms}}\n"
"""A point takes about a millisecond."""
_AXES = ("parallel.pp=1,2", "workload.microbatches=1,2,3,4,5")
_POINTS_OF_A_SEED = 10
_END_S = 600


def run_sweep(folder: Path, store: Path, num_points: int, *more: str, kill_at: int | None = None) -> dict[str, object]:
    """Run a sweep; kill it as soon as the store has `kill_at` results. Return its JSON, nothing where it was killed."""
    scenario = folder / "passes.yaml"
    scenario.write_text(PASSES, encoding="utf-8")
    grid = [word for axis in _AXES for word in ("--grid", axis)]
    command = [sys.executable, "-c", "from sim.cli import main; main()", "sweep", str(scenario), *grid, "--json"]
    seeds = str(num_points // _POINTS_OF_A_SEED)
    process = subprocess.Popen(
        [*command, "--seeds", seeds, "--store", str(store), *more], stdout=subprocess.PIPE, start_new_session=True
    )
    if kill_at is not None:
        _wait_for(store, kill_at, process)
        os.kill(process.pid, signal.SIGKILL)  # its own processes end because it does
    out, _ = process.communicate(timeout=_END_S)
    return json.loads(out) if process.returncode == 0 else {}


def kept_results(store: Path) -> dict[str, str]:
    """Return the results of a store by key, without what they took."""
    with Store(str(store)) as kept:
        return {row.key: row.record.to_json() for row in kept.rows()}


def _wait_for(store: Path, num: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a store has so many results, or the process that writes them has ended."""
    while process.poll() is None:
        if store.exists() and store.stat().st_size and _num_kept(store) >= num:
            return
        time.sleep(0.02)


def _num_kept(store: Path) -> int:
    import sqlite3  # noqa: PLC0415  # past the program's own reader, which would make the tables

    connection = sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=10)
    try:
        return int(connection.execute("select count(*) from points").fetchone()[0])
    except sqlite3.OperationalError:  # the tables are being made
        return 0
    finally:
        connection.close()


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    jobs, rng = ("--jobs", str(arguments.jobs)), random.Random(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        undisturbed = run_sweep(folder, folder / "undisturbed.sqlite", arguments.points, *jobs)
        disturbed = folder / "killed.sqlite"
        for at in sorted(rng.sample(range(1, arguments.points * 9 // 10), arguments.kills)):
            run_sweep(folder, disturbed, arguments.points, *jobs, kill_at=at)
            print(f"killed with {len(kept_results(disturbed)):,} results", flush=True)
        last = run_sweep(folder, disturbed, arguments.points, *jobs)
        first, second = kept_results(folder / "undisturbed.sqlite"), kept_results(disturbed)
        differ = sum(first.get(key) != second.get(key) for key in first.keys() | second.keys())
        print(f"{len(first):,} results undisturbed, {len(second):,} killed and resumed, {differ} differ")
        print(f"rows alike: {undisturbed['rows'] == last['rows']}; the last run simulated {last['num_simulated']:,}")


if __name__ == "__main__":
    _main()
