"""What runs take, each in a process of its own, and what was expected: for `compare_estimates` and `fit_estimates`.

    python benchmarks/measured_runs.py < case.json      # a child: {"text": a scenario, "file": where it would stand}

Times are of the processor. A bare timeout of SimPy is timed right after each run: times are divided by how much longer
it takes than on the machine of `sim.run.estimates`, for other programs slow a run as much as it.
"""

import copy
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from peak_memory import peak_bytes

TIMEOUT_S = 0.45e-6
"""A bare timeout of SimPy on the machine whose seconds are in `sim.run.estimates`."""
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A run: what it took, and what was expected."""

    name: str
    process_s: float
    """Processor time from the start of Python to the metrics."""
    run_s: float
    """Processor time of that from the loaded scenario to the metrics."""
    timeout_s: float
    """A bare timeout of SimPy, just then."""
    peak_bytes: float
    num_events: int
    counts: dict[str, float]
    """What was counted before (`sim.run.estimates.Counts`)."""
    expected_process_s: float
    expected_run_s: float
    expected_bytes: float
    expected_events: float
    least_bytes: float
    """The minimum of memory, over which a run is refused."""

    def scaled_s(self, time_s: float) -> float:
        """Return a measured time as it would be on the machine of the estimates."""
        return time_s * TIMEOUT_S / self.timeout_s


def measure(name: str, text: str, file: str, *, most_s: int) -> Measured | str:
    """Run a scenario in a process of its own; return why it was not run to its end where it was not."""
    given = json.dumps({"text": text, "file": file, "most_s": most_s})
    command = [sys.executable, str(Path(__file__).resolve())]
    ended = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if not ended.stdout:
        return f"ended over {most_s} s of processor time, or out of memory {ended.stderr[-200:]}"
    found = json.loads(ended.stdout)
    return str(found["refused"]) if "refused" in found else Measured(name=name, **found)


def drawn_scenarios(seed: int, multiples: tuple[int, ...]) -> Iterator[tuple[str, str, str]]:
    """Yield drawn scenarios of a model for ever: name, text and file of each.

    Each is the coherent base of a draw without the keys that are refused, and has 1 or more times its microbatches, by
    turns.
    """
    sys.path.append(str(ROOT / "tools"))
    from scenario_draws import accepted_scenario, draw_scenario  # noqa: PLC0415  # reads the whole schema

    number = -1
    with TemporaryDirectory() as folder:
        while True:
            number += 1
            drawn, multiple = draw_scenario(seed, number), multiples[number % len(multiples)]
            data = copy.deepcopy(drawn.base)
            if data["workload"]["kind"] not in {"forward", "training"}:
                continue
            data["workload"]["microbatches"] *= multiple
            data["workload"]["sequences"] *= multiple
            scenario = accepted_scenario(data, drawn, Path(folder))
            if scenario is not None:
                yield f"drawn {number} x {multiple}", json.dumps(scenario.raw), f"{folder}/drawn.yaml"


# ---- the child ---------------------------------------------------------------------------------------------------


def bare_timeout_s(num: int = 20_000) -> float:
    """Return the processor time of a bare timeout of SimPy: the least of three times 20,000, by four processes."""
    import simpy  # noqa: PLC0415  # the parent needs none

    def wait(env: simpy.Environment) -> Iterator[simpy.Event]:
        for _ in range(num // 4):
            yield env.timeout(1)

    least_s = float("inf")
    for _ in range(3):
        env = simpy.Environment()
        for _ in range(4):
            env.process(wait(env))
        began = time.process_time()
        env.run()
        least_s = min(least_s, (time.process_time() - began) / num)
    return least_s


def run_child() -> dict[str, object]:
    """Run the scenario of standard input."""
    given = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_CPU, (given["most_s"], given["most_s"] + 1))
    from sim.errors import MoesimError  # noqa: PLC0415  # imports are part of what is timed
    from sim.run.estimates import PROCESS_S  # noqa: PLC0415
    from sim.run.model_run import ModelRun  # noqa: PLC0415
    from sim.run.scenario_run import RunOptions  # noqa: PLC0415
    from sim.scenario.load import load_scenario_text  # noqa: PLC0415

    try:
        scenario = load_scenario_text(given["text"], file=given["file"])
        began = time.process_time()
        run = ModelRun(scenario)
        stats = run.simulate(RunOptions()).run.stats
    except MoesimError as error:
        return {"refused": str(error)}
    process_s = time.process_time()
    peak = peak_bytes()
    timeout_s, expected, counts = bare_timeout_s(), run.estimated_resources(), run.counts()
    return {
        "process_s": process_s,
        "run_s": process_s - began,
        "timeout_s": timeout_s,
        "peak_bytes": peak,
        "num_events": stats.num_events,
        "counts": asdict(counts),
        "expected_process_s": expected.cpu_s,
        "expected_run_s": (expected.cpu_s or 0.0) - PROCESS_S,
        "expected_bytes": expected.memory_bytes,
        "expected_events": counts.num_events,
        "least_bytes": run.minimum_resources().memory_bytes,
    }


if __name__ == "__main__":
    print(json.dumps(run_child()))
