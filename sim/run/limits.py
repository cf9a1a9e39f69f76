"""What a run will need, told before it starts, and the limits on it: a user's, or those of engine and machine.

Model
-----
    ops, rows      those of one pass of each kind and stage, times microbatches, times lanes that run
    events         1 for an op, 2 more for each of its transfers that may meet others, 4 for a pass and what it sends
    bytes          of the process + 0.6 kB for an op + 0.5 kB for a row + 7 kB for an exchange that is drawn + what is
                   held at the least

Operations are exact (but for what follows the last pass of training). Events come out 1.1 to 1.9 times too many, most
where no transfers meet. Memory is fitted to the peaks of nine runs of the shipped scenarios of 2,000 to 134,000
operations (Linux, Python 3.11): 4 % too little to 21 % too much. Writing and drawing what came out is not in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sim.engine.clock import MAX_EVENTS
from sim.engine.run_state import Plan
from sim.errors import SimulationError
from sim.plan.ops import Collective, Compute, ConcurrentPasses, Op
from sim.results.quantities import format_quantity
from sim.run.machine import machine_memory_bytes
from workloads.schedules import Pass

__all__ = ["NO_LIMITS", "OP_BYTES", "PROCESS_BYTES", "ROW_BYTES", "Estimate", "Limits", "estimate_run"]

PROCESS_BYTES = 65e6
"""Memory of the process before it runs anything."""
OP_BYTES = 600.0
"""Memory of an operation, over the whole run."""
ROW_BYTES = 500.0
"""Memory of a row of the trace, over the whole run."""
_DRAWN_BYTES = 7000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a run will need, about."""

    num_ops: int
    """Operations of stages."""
    num_events: int
    """Events of the clock, and what takes as long as they do."""
    memory_bytes: float
    """Peak memory of the process that runs it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a run may need at most."""

    max_events: int | None = None
    """Events of the clock; None: those after which the engine ends a run."""
    max_memory_bytes: float | None = None
    """Peak memory of the process that runs it; None: the machine's."""

    @property
    def are_set(self) -> bool:
        """Tell whether a user has set any."""
        return self.max_events is not None or self.max_memory_bytes is not None

    @property
    def engine_events(self) -> int:
        """Events after which the engine ends a run: more than its own budget only where a user allows more."""
        return max(MAX_EVENTS, self.max_events or 0)

    def check(self, estimate: Estimate) -> None:
        """Refuse a run that is expected to need more than a user has set.

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
        _check(estimate, self.max_events, self.max_memory_bytes, "about")

    def check_minimum(self, least: Estimate) -> None:
        """Refuse a run that surely needs more than a user has set, or else than engine and machine have.

        Raises
        ------
        SimulationError
            As by `check`.

        Examples
        --------
        >>> Limits().check_minimum(Estimate(num_ops=10**8, num_events=10**8, memory_bytes=1e8))
        Traceback (most recent call last):
        ...
        sim.errors.SimulationError: the run must need at most 50,000,000 events, got at least 100,000,000 (100,000,000 \
operations). Use fewer microbatches, batches or layers, or raise --max-events.
        """
        max_events = MAX_EVENTS if self.max_events is None else self.max_events
        if self.max_memory_bytes is None:
            _check(least, max_events, machine_memory_bytes(), "at least", whose="this machine's ")
        else:
            _check(least, max_events, self.max_memory_bytes, "at least")


NO_LIMITS = Limits()
"""A run may need what engine and machine have."""


def estimate_run(
    plan: Plan, *, kinds: Sequence[str], num_microbatches: int, is_drawn: bool, held_bytes: float = 0.0
) -> Estimate:
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
    held_bytes
        Memory of the cluster and of one layer's routing (`sim.run.minimum_resources`).
    """
    num_lanes = plan.lane_ranks.shape[1] if plan.folding is None else len(plan.folding.running)
    times = num_lanes * num_microbatches
    steps = [plan.ops(stage, 0, Pass(kind, 0)) for stage in range(plan.lane_ranks.shape[0]) for kind in kinds]
    passes = [
        side
        for one in steps
        for side in ([ops for _, ops in one.sides] if isinstance(one, ConcurrentPasses) else [one])
    ]
    ops = [op for one in passes for op in one]
    num_ops, num_rows = len(ops) * times, sum(map(_rows_of, ops)) * times
    num_events = sum(1 + 2 * len(op.transfers) if isinstance(op, Collective) else 1 for op in ops) + 4 * len(passes)
    num_drawn = sum(len(op.transfers) for op in ops if isinstance(op, Collective) and op.kind.startswith("ep_")) * times
    needed = num_ops * OP_BYTES + num_rows * ROW_BYTES + (num_drawn * _DRAWN_BYTES if is_drawn else 0.0)
    return Estimate(
        num_ops=num_ops,
        num_events=num_events * times,
        memory_bytes=PROCESS_BYTES + held_bytes + needed,
    )


def _check(
    estimate: Estimate, max_events: int | None, max_memory_bytes: float | None, how_sure: str, *, whose: str = ""
) -> None:
    """Refuse an estimate over a limit."""
    operations = f"({estimate.num_ops:,} operations)"
    if max_events is not None and estimate.num_events > max_events:
        raise SimulationError(
            f"the run must need at most {max_events:,} events, got {how_sure} {estimate.num_events:,} {operations}. "
            "Use fewer microbatches, batches or layers, or raise --max-events."
        )
    if max_memory_bytes is not None and estimate.memory_bytes > max_memory_bytes:
        limit, expected = (format_quantity(of, "B") for of in (float(max_memory_bytes), estimate.memory_bytes))
        raise SimulationError(
            f"the run must need at most {whose}{limit} of memory, got {how_sure} {expected} {operations}. "
            "Use fewer microbatches, batches, layers, experts or GPUs, or raise --max-memory."
        )


def _rows_of(op: Op) -> int:
    """Return the rows of the trace that an op makes."""
    if isinstance(op, Compute):
        return len(op.kernels)
    return len(op.transfers) if isinstance(op, Collective) else op.ranks.size
