"""What a run will need, told before it starts, and the limits that a user sets on it.

Model
-----
    ops, rows      those of one pass of each kind and stage, times microbatches, times lanes that run
    events         1 for an op, 2 more for each of its transfers that may meet others, 4 for a pass and what it sends
    bytes          of the process + 0.6 kB for an op + 0.5 kB for a row + 7 kB for an exchange that is drawn

Operations are exact (but for what follows the last pass of training). Events come out 1.1 to 1.9 times too many, most
where no transfers meet. Memory is fitted to the peaks of nine runs of the shipped scenarios of 2,000 to 134,000
operations (Linux, Python 3.11): 4 % too little to 21 % too much. Writing and drawing what came out is not in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sim.engine.ops import Collective, Compute, Op
from sim.engine.world import Plan
from sim.errors import SimulationError
from sim.results.quantities import format_quantity
from workloads.schedules import Pass

__all__ = ["NO_LIMITS", "Estimate", "Limits", "estimate_run"]

_PROCESS_BYTES = 65e6
_OP_BYTES, _ROW_BYTES, _DRAWN_BYTES = 600.0, 500.0, 7000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a run will need, about."""

    num_ops: int
    """Operations of stages."""
    num_events: int
    """Events of the clock."""
    memory_bytes: float
    """Peak memory of the process that runs it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a run may need at most; None: no limit."""

    max_events: int | None = None
    """Events of the clock."""
    max_memory_bytes: float | None = None
    """Peak memory of the process that runs it."""

    @property
    def are_set(self) -> bool:
        """Tell whether there is any."""
        return self.max_events is not None or self.max_memory_bytes is not None

    def check(self, estimate: Estimate) -> None:
        """Refuse a run that is expected to need more.

        Raises
        ------
        SimulationError
            With the limit, the estimate and what would bring it down.

        Examples
        --------
        >>> Limits(max_events=100).check(Estimate(num_ops=90, num_events=180, memory_bytes=1e8))
        Traceback (most recent call last):
        ...
        sim.errors.SimulationError: the run must need at most 100 events, got about 180 (90 operations). Use fewer \
microbatches, batches or layers, or raise --max-events.
        """
        cure = "Use fewer microbatches, batches or layers, or raise"
        if self.max_events is not None and estimate.num_events > self.max_events:
            raise SimulationError(
                f"the run must need at most {self.max_events:,} events, got about {estimate.num_events:,} "
                f"({estimate.num_ops:,} operations). {cure} --max-events."
            )
        if self.max_memory_bytes is not None and estimate.memory_bytes > self.max_memory_bytes:
            limit, expected = (format_quantity(of, "B") for of in (self.max_memory_bytes, estimate.memory_bytes))
            raise SimulationError(
                f"the run must need at most {limit} of memory, got about {expected} "
                f"({estimate.num_ops:,} operations). {cure} --max-memory."
            )


NO_LIMITS = Limits()
"""A run may need what it needs."""


def estimate_run(plan: Plan, *, kinds: Sequence[str], num_microbatches: int, is_drawn: bool) -> Estimate:
    """Return what a run of `plan` will need; the plan is used up by it.

    Parameters
    ----------
    plan
        A plan of its own: one that is run must be asked for its passes in their order.
    kinds
        Kinds of passes: F, or F and B.
    num_microbatches
        Microbatches of each pipeline, over all batches.
    is_drawn
        Whether tokens choose their experts at random, so that each microbatch has exchanges of its own.
    """
    num_lanes = plan.lane_ranks.shape[1] if plan.folding is None else len(plan.folding.running)
    times = num_lanes * num_microbatches
    passes = [plan.ops(stage, 0, Pass(kind, 0)) for stage in range(plan.lane_ranks.shape[0]) for kind in kinds]
    ops = [op for one in passes for op in one]
    num_ops, num_rows = len(ops) * times, sum(map(_rows_of, ops)) * times
    num_events = sum(1 + 2 * len(op.transfers) if isinstance(op, Collective) else 1 for op in ops) + 4 * len(passes)
    num_drawn = sum(len(op.transfers) for op in ops if isinstance(op, Collective) and op.kind.startswith("ep_")) * times
    needed = num_ops * _OP_BYTES + num_rows * _ROW_BYTES + (num_drawn * _DRAWN_BYTES if is_drawn else 0.0)
    return Estimate(
        num_ops=num_ops,
        num_events=num_events * times,
        memory_bytes=_PROCESS_BYTES + needed,
    )


def _rows_of(op: Op) -> int:
    """Return the rows of the trace that an op makes."""
    if isinstance(op, Compute):
        return len(op.kernels)
    return len(op.transfers) if isinstance(op, Collective) else op.ranks.size
