"""What stragglers cost a measured job, cause by cause, each by a replay without it.

Model
-----
    ideal       every operation takes the mean (of what workers run alone) or the median (of what they make together) of
                all operations of its name, over workers, microbatches and steps
    slowdown    step time as replayed / ideal step time
    mended      the operations of a cause take their ideal time, all others their own
    share       (as replayed - mended) / (as replayed - ideal)           of a cause; above 1 where the mean is paid for

References
----------
Lin et al., "Understanding Stragglers in Large Model Training Using What-if Analysis", OSDI 2025: of 3,079 jobs the last
stage was the cause in 39 %, uneven sequence lengths in 21 %, and one bad worker in 2 %.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sim.studies.measured.operations import BACKWARD, COMPUTE, FORWARD, Operations
from sim.studies.measured.replay import Job

__all__ = ["Cause", "Stragglers", "find_stragglers"]

_MOST_WORKERS: Final = 3
"""Workers that are tried alone: those with the most time in passes."""
_MOST_STAGES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Operations that may be slow, and the job without that."""

    name: str
    """Short name, such as `last stage`."""
    meaning: str
    """What is mended, as it follows `if`."""
    step_time_s: float
    """Mean step time where these take their ideal time."""
    gain_s: float
    """What is gained."""
    share: float | None
    """Of the whole slowdown; None where there is none."""

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {name: getattr(self, name) for name in ("name", "meaning", "step_time_s", "gain_s", "share")}


@dataclass(frozen=True, kw_only=True)
class Stragglers:
    """What stragglers cost."""

    measured_step_s: float
    """Mean step time as measured, with the host's delays."""
    replayed_step_s: float
    """The same without these delays."""
    ideal_step_s: float
    """The same where all operations of a name take equally long."""
    causes: list[Cause]
    """Largest gain first."""

    @property
    def slowdown(self) -> float:
        """As replayed over ideal."""
        return self.replayed_step_s / self.ideal_step_s if self.ideal_step_s else 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "measured_step_time_s": self.measured_step_s,
            "step_time_s": self.replayed_step_s,
            "ideal_step_time_s": self.ideal_step_s,
            "slowdown": self.slowdown,
            "causes": [cause.to_dict() for cause in self.causes],
        }


def find_stragglers(job: Job) -> Stragglers:
    """Replay a job as it is, without any stragglers, and without each cause."""
    replayed = job.replay().step_s
    ideal_s = _ideal_s(job)
    ideal = job.replay(ideal_s).step_s
    causes = []
    for name, meaning, chosen, to_s in _candidates(job, ideal_s):
        step_s = job.replay(np.where(chosen, to_s, job.own_s)).step_s
        share = (replayed - step_s) / (replayed - ideal) if replayed > ideal else None
        causes.append(Cause(name=name, meaning=meaning, step_time_s=step_s, gain_s=replayed - step_s, share=share))
    causes.sort(key=lambda cause: (-cause.gain_s, cause.name))
    return Stragglers(measured_step_s=job.measured_step_s, replayed_step_s=replayed, ideal_step_s=ideal, causes=causes)


# ---- private -----------------------------------------------------------------------------------------------------

_Candidate = tuple[str, str, NDArray[np.bool_], NDArray[np.float64]]


def _ideal_s(job: Job) -> NDArray[np.float64]:
    """Return the ideal time of each operation."""
    ideal_s = job.own_s.copy()
    for name in np.unique(job.operations.optype).tolist():
        of_name = job.operations.optype == name
        own_s = job.own_s[of_name]
        ideal_s[of_name] = own_s.mean() if name in COMPUTE else np.median(own_s)
    return ideal_s


def _candidates(job: Job, ideal_s: NDArray[np.float64]) -> Iterator[_Candidate]:
    """Yield name, meaning, operations and their mended times of each cause."""
    operations = job.operations
    is_pass = np.isin(operations.optype, (FORWARD, BACKWARD))
    last = operations.num_stages - 1
    for stage in range(min(operations.num_stages, _MOST_STAGES)):
        name = "last stage" if stage == last and last else f"stage {stage}"
        yield name, f"operations of stage {stage} took their ideal time", operations.stage == stage, ideal_s
    for stage, replica in _slowest_workers(operations, job.own_s, is_pass):
        chosen = (operations.stage == stage) & (operations.dp_rank == replica)
        meaning = f"operations of replica {replica}, stage {stage} took their ideal time"
        yield f"worker {replica}.{stage}", meaning, chosen, ideal_s
    for name, names in (("forward passes", (FORWARD,)), ("backward passes", (BACKWARD,))):
        yield name, f"{name} of all workers took their ideal time", np.isin(operations.optype, names), ideal_s
    others = ~is_pass
    meaning = "transfers, collectives, optimizer and garbage collection took their ideal time"
    yield "all but passes", meaning, others, ideal_s
    yield (
        "microbatches",
        "each worker's passes of a kind took equally long within a step, as with equal sequence lengths",
        is_pass,
        _even_microbatches(operations, job.own_s, is_pass),
    )


def _slowest_workers(
    operations: Operations, own_s: NDArray[np.float64], is_pass: NDArray[np.bool_]
) -> list[tuple[int, int]]:
    """Return (stage, replica) of the workers that are slowest next to others of their stage."""
    total_s = np.zeros((operations.num_stages, operations.num_replicas))
    np.add.at(total_s, (operations.stage[is_pass], operations.dp_rank[is_pass]), own_s[is_pass])
    if operations.num_replicas == 1:
        return []
    mean_s = np.maximum(total_s.mean(axis=1, keepdims=True), 1e-12)
    order = np.argsort(-(total_s / mean_s), axis=None, kind="stable")[:_MOST_WORKERS]
    return [(int(at) // operations.num_replicas, int(at) % operations.num_replicas) for at in order]


def _even_microbatches(
    operations: Operations, own_s: NDArray[np.float64], is_pass: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return times of passes that are the mean of their worker's passes of the kind in the step."""
    is_forward = (operations.optype == FORWARD).astype(np.int64)
    keys = np.stack([operations.step, operations.dp_rank, operations.stage, is_forward, is_pass], axis=1)
    number = np.unique(keys, axis=0, return_inverse=True)[1].ravel()
    mean_s = np.bincount(number, weights=own_s) / np.bincount(number)
    return np.where(is_pass, mean_s[number], own_s)
