"""`moesim import trace` and `moesim import kineto`: measured runs, in the form of simulated ones."""

import shlex
from collections.abc import Sequence
from typing import Any

from sim.cli.steps import named_path, output_folder, print_result
from sim.errors import InvalidValueError
from sim.report.console.measured import print_kineto, print_replay
from sim.report.files import MEASURED_NAMES, write_measured
from sim.studies.measured.as_result import result_of, trace_of_step
from sim.studies.measured.kineto import check_ranks, read_kineto, trace_of_ranks
from sim.studies.measured.operations import read_operations
from sim.studies.measured.replay import Job
from sim.studies.measured.stragglers import find_stragglers

__all__ = ["import_kineto_command", "import_trace_command"]


def import_trace_command(file: str, *, step: int | None = None, as_json: bool, out: str | None = None) -> None:
    """Replay a job that was measured operation by operation, and say what stragglers cost."""
    folder = output_folder(out, MEASURED_NAMES)
    path = named_path("FILE", file, "moesim import trace operations.csv")
    operations = read_operations(path)
    job = Job.of(operations)
    steps = operations.steps
    shown = step if step is not None else steps[len(steps) // 2]
    if shown not in steps:
        listed = ", ".join(map(str, steps[:8])) + (", ..." if len(steps) > 8 else "")
        raise InvalidValueError("--step", "be a step of the table", shown, f"It has {listed}.")
    num_gpus = operations.num_stages * operations.num_replicas
    data: dict[str, Any] = {
        "name": path.stem,
        "num_steps": len(steps),
        "num_replicas": operations.num_replicas,
        "num_stages": operations.num_stages,
        "num_operations": len(operations),
        **find_stragglers(job).to_dict(),
        "warnings": list(operations.warnings),
    }
    written: dict[str, str] = {}
    if folder is not None:
        trace = trace_of_step(job, shown)
        name = f"{path.stem}, step {shown} as measured"
        result = result_of(trace, name=name, source=str(path), num_gpus=num_gpus, warnings=data["warnings"])
        command = shlex.join(["moesim", "import", "trace", file, "--step", str(shown)])
        written = write_measured(trace, {**result, "stragglers": data}, folder, command=command)
    print_result({**data, "written": written}, print_replay, as_json=as_json, written=written)


def import_kineto_command(
    files: Sequence[str], *, step: int | None = None, as_json: bool, out: str | None = None
) -> None:
    """Read traces of PyTorch's profiler, one for each rank, and say where the time of a step went."""
    folder = output_folder(out, MEASURED_NAMES)
    paths = [named_path("TRACE", file, "moesim import kineto rank0.json.gz") for file in files]
    ranks = [read_kineto(path, step=step) for path in paths]
    warnings = [*check_ranks(ranks), *(warning for one in ranks for warning in one.warnings)]
    trace = trace_of_ranks(ranks)
    number = ranks[0].step
    name = paths[0].name.removesuffix(".gz").removesuffix(".json") + ("" if number is None else f", step {number}")
    result = result_of(trace, name=name, source=", ".join(map(str, paths)), num_gpus=len(ranks), warnings=warnings)
    chosen = [] if step is None else ["--step", str(step)]
    command = shlex.join(["moesim", "import", "kineto", *files, *chosen])
    written = {} if folder is None else write_measured(trace, result, folder, command=command)
    print_result({**result, "written": written}, print_kineto, as_json=as_json, written=written)
