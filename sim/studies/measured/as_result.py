"""A measured step as a trace, and as the JSON of a run: accounts, timeline, report and comparison read it like another.

Model
-----
A table of operations gives each worker a lane (its replica) of its stage. Passes span their kernels; what follows the
last pass is a pass O. A transfer is shown from its last comer on, and waiting for the others is `idle` or `stalled`.
Of PyTorch's profiler each rank is a lane, see `sim.studies.measured.kineto`.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sim.engine.trace import COLUMNS, KINDS, STREAMS, LinkUse, Trace
from sim.results.path import path_ns
from sim.results.stages import stages_ns
from sim.run.result import SCHEMA_VERSION
from sim.studies.measured.operations import BACKWARD, FORWARD, OPERATION_KINDS
from sim.studies.measured.replay import Job

__all__ = ["NO_LINKS", "TraceRows", "result_of", "trace_of_step"]

NO_LINKS: Final = LinkUse(
    num_bytes=np.zeros(0),
    busy_s=np.zeros(0),
    time_ns=np.zeros(0, dtype=np.int64),
    utilisation=np.zeros((0, 0)),
    kinds=(),
    names=(),
    link_kinds=(),
    capacity_bytes_per_s=np.zeros(0),
)
"""Links of a run of which only times are known."""

_FLOATS: Final = ("bytes", "flops")
_SENDS_AND_RECEIVES: Final = "pp"
_TRANSFERS: Final = frozenset({"tp", "dp", _SENDS_AND_RECEIVES})
"""Kinds of `OPERATION_KINDS` that move bytes."""


class TraceRows:
    """Rows of a trace, added one by one."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {name: [] for name in COLUMNS}

    def __len__(self) -> int:
        return len(self._values["start_ns"])

    def add(
        self,
        *,
        stage: int,
        lane: int,
        rank: int,
        stream: str,
        kind: str,
        start_ns: int,
        end_ns: int,
        microbatch: int = -1,
        num_bytes: float = 0.0,
        released_by: int = -1,
    ) -> int:
        """Add a row whose duration is all its own; return its number."""
        row: dict[str, float] = dict.fromkeys(COLUMNS, 0)
        row |= {"stage": stage, "lane": lane, "rank": rank, "group": -1, "layer": -1, "microbatch": microbatch}
        row |= {"stream": STREAMS.index(stream), "kind": KINDS.index(kind), "start_ns": start_ns, "end_ns": end_ns}
        row |= {"bytes": num_bytes, "released_by": released_by, "base_ns": end_ns - start_ns}
        for name, value in row.items():
            self._values[name].append(value)
        return len(self) - 1

    def set_released_by(self, row: int, released_by: int) -> None:
        """Say what released a row."""
        self._values["released_by"][row] = released_by

    def trace(self, lane_ranks: NDArray[np.intp]) -> Trace:
        """Return the trace of the rows; `lane_ranks` has shape [stages, lanes, lane_size]."""
        columns: dict[str, NDArray[np.int64] | NDArray[np.float64]] = {
            name: np.array(values, dtype=np.float64) if name in _FLOATS else np.array(values, dtype=np.int64)
            for name, values in self._values.items()
        }
        num_stages, num_lanes, _ = lane_ranks.shape
        return Trace(
            columns=columns, num_stages=num_stages, num_lanes=num_lanes, lane_ranks=lane_ranks, link_use=NO_LINKS
        )


def trace_of_step(job: Job, step: int) -> Trace:
    """Return one measured step of a job."""
    operations, dependencies = job.operations, job.dependencies
    numbers = np.flatnonzero(operations.step == step).tolist()
    start_ns = np.rint(operations.start_s * 1e9).astype(np.int64)
    own_ns = np.rint(job.own_s * 1e9).astype(np.int64)
    end_ns = start_ns + np.rint(operations.duration_s * 1e9).astype(np.int64)
    rows, row_of = TraceRows(), {}
    for op in sorted(numbers, key=lambda op: (start_ns[op], op)):
        if start_ns[op] == end_ns[op]:
            continue  # such as a garbage collection that did not run
        name, stage, lane = str(operations.optype[op]), int(operations.stage[op]), int(operations.dp_rank[op])
        is_together = op in dependencies.group_of
        kind = OPERATION_KINDS[name]
        stream = "compute" if not is_together else "p2p" if kind == _SENDS_AND_RECEIVES else "comm"
        if not is_together and kind in _TRANSFERS:
            stream = "comm"  # a collective of one worker's own ranks
        common = {
            "stage": stage,
            "lane": lane,
            "rank": lane * operations.num_stages + stage,
            "microbatch": int(operations.microbatch[op]),
            "end_ns": int(end_ns[op]),
        }
        if name in {FORWARD, BACKWARD}:
            rows.add(**common, stream="pass", kind="F" if name == FORWARD else "B", start_ns=int(start_ns[op]))
        begin_ns = int(end_ns[op] - own_ns[op]) if is_together else int(start_ns[op])
        row_of[op] = rows.add(**common, stream=stream, kind=kind, start_ns=begin_ns)
    for op, row in row_of.items():
        released_by: int | None = _released_by(job, op, end_ns)
        while released_by is not None and released_by not in row_of:
            released_by = _released_by(job, released_by, end_ns)
        if released_by is not None:
            rows.set_released_by(row, row_of[released_by])
    _add_last_passes(job, rows, numbers, start_ns, end_ns)
    ranks = np.arange(operations.num_replicas * operations.num_stages)
    return rows.trace(ranks.reshape(operations.num_replicas, operations.num_stages).T[:, :, None])


def result_of(trace: Trace, *, name: str, source: str, num_gpus: int, warnings: list[str]) -> dict[str, Any]:
    """Return a measured step in the shape of the JSON of `moesim run`, with what is known of it."""
    stages = stages_ns(trace)
    step_ns = trace.step_ns
    shares = {part: sum(stage[part] for stage in stages) / (step_ns * len(stages) or 1) for part in ("idle", "foreign")}
    metrics: dict[str, float] = {
        "step_time_s": step_ns * 1e-9,
        "bubble_fraction": shares["idle"],
        "num_gpus": num_gpus,
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "scenario": {"name": name, "measured": source},
        "assumptions": [],
        "warnings": warnings,
        "findings": [],
        "metrics": metrics,
        "path_ns": path_ns(trace),
        "stages_ns": stages,
        "memory": {},
        "mesh": {"pp": trace.num_stages},
        "links": [],
        "collectives": [],
        "claims": [],
    }


# ---- private -----------------------------------------------------------------------------------------------------


def _released_by(job: Job, op: int, end_ns: NDArray[np.int64]) -> int | None:
    """Return what an operation waited for last, or any of those that it starts together with."""
    dependencies = job.dependencies
    together = dependencies.groups[dependencies.group_of[op]] if op in dependencies.group_of else [op]
    waited = [earlier for member in together for earlier in dependencies.before[member]]
    return max(waited, key=lambda one: int(end_ns[one]), default=None)


def _add_last_passes(
    job: Job, rows: TraceRows, numbers: list[int], start_ns: NDArray[np.int64], end_ns: NDArray[np.int64]
) -> None:
    """Add a pass O to each worker: from the end of its last pass to its last operation's."""
    operations = job.operations
    for stage in range(operations.num_stages):
        for lane in range(operations.num_replicas):
            own = [op for op in numbers if operations.stage[op] == stage and operations.dp_rank[op] == lane]
            passes = [int(end_ns[op]) for op in own if operations.optype[op] in {FORWARD, BACKWARD}]
            begin_ns = max(passes, default=int(start_ns[own].min()))
            last_ns = int(end_ns[own].max())
            if last_ns > begin_ns:
                rank = lane * operations.num_stages + stage
                rows.add(stage=stage, lane=lane, rank=rank, stream="pass", kind="O", start_ns=begin_ns, end_ns=last_ns)
