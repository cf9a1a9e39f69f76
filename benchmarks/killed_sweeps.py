"""Kill a sweep (`kill -9`) again and again and go on: it must end with what an undisturbed one has.

    python benchmarks/killed_sweeps.py --points 10000 --kills 10
    python benchmarks/killed_sweeps.py --points 10000 --kills 10 --dask

With `--dask` the sweep runs on a Dask cluster, of which a worker is killed each time; two are left. It prints how many
points are in each store, how many differ, and how many the last run had to simulate.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sim.studies.store.store import Store

__all__ = ["AXES", "PASSES", "kept_results", "kill_at", "num_kept", "said", "start_sweep"]

PASSES = "parallel: {pp: 2}\nworkload: {kind: passes, microbatches: 2, pass_times: {F: 1 ms, B: 2 ms}}\n"
"""A point takes about a millisecond."""
AXES = ("parallel.pp=1,2", "workload.microbatches=1,2,3,4,5")
_POINTS_OF_A_SEED = 10
_END_S = 600


def start_sweep(folder: Path, store: Path | str, num_points: int, *more: str) -> subprocess.Popen[bytes]:
    """Start a sweep in a process of its own, which prints its JSON."""
    scenario = folder / "passes.yaml"
    scenario.write_text(PASSES, encoding="utf-8")
    grid = [word for axis in AXES for word in ("--grid", axis)]
    command = [sys.executable, "-c", "from sim.cli import main; main()", "sweep", str(scenario), *grid, "--json"]
    command += ["--seeds", str(num_points // _POINTS_OF_A_SEED), "--store", str(store), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)


def kill_at(num: int, store: Path, process: subprocess.Popen[bytes]) -> None:
    """Kill a sweep as soon as its store has so many results; its own processes end because it does."""
    while process.poll() is None and not (store.exists() and store.stat().st_size and num_kept(store) >= num):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=_END_S)


def said(process: subprocess.Popen[bytes]) -> dict[str, object]:
    """Return the JSON of a sweep that ends by itself."""
    return dict(json.loads(process.communicate(timeout=_END_S)[0]))


def kept_results(store: Path | str) -> dict[str, str]:
    """Return the results of a store by key, without what they took."""
    with Store(str(store)) as kept:
        return {row.key: row.record.to_json() for row in kept.rows()}


def num_kept(store: Path) -> int:
    """Return how many results a store has at the moment."""
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
    parser.add_argument("--dask", action="store_true")
    given = parser.parse_args()
    jobs = ("--jobs", str(given.jobs))
    kills = sorted(random.Random(1).sample(range(1, given.points * 9 // 10), given.kills))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        undisturbed = said(start_sweep(folder, folder / "undisturbed.sqlite", given.points, *jobs))
        disturbed = folder / "killed.sqlite"
        if given.dask:
            last = _with_killed_workers(folder, disturbed, given.points, kills)
        else:
            for at in kills:
                kill_at(at, disturbed, start_sweep(folder, disturbed, given.points, *jobs))
                print(f"killed with {len(kept_results(disturbed)):,} results", flush=True)
            last = said(start_sweep(folder, disturbed, given.points, *jobs))
        first, second = kept_results(folder / "undisturbed.sqlite"), kept_results(disturbed)
        differ = sum(first.get(key) != second.get(key) for key in first.keys() | second.keys())
        print(f"{len(first):,} results undisturbed, {len(second):,} killed and resumed, {differ} differ")
        print(f"rows alike: {undisturbed['rows'] == last['rows']}; the last run simulated {last['num_simulated']:,}")


def _with_killed_workers(folder: Path, store: Path, num_points: int, kills: list[int]) -> dict[str, object]:
    """Run a sweep on a Dask cluster, and kill a worker at each of some numbers of results."""
    sys.path.append(str(Path(__file__).parent.parent / "tests/sim/studies"))
    from local_dask import local_dask  # noqa: PLC0415  # needs Dask

    with local_dask(folder, workers=len(kills) + 2) as cluster:
        sweep = start_sweep(folder, store, num_points, "--cluster", cluster.url)
        for number, at in enumerate(kills):
            while sweep.poll() is None and not (store.exists() and store.stat().st_size and num_kept(store) >= at):
                time.sleep(0.02)
            cluster.processes[f"worker {number}"].kill()
            print(f"killed a worker with {num_kept(store):,} results", flush=True)
        return said(sweep)


if __name__ == "__main__":
    _main()
