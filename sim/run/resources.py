"""What a run needs of events, memory and time, known before it starts, and the limits on events and memory.

Model
-----
There are three figures of the same resources:

    minimum     what a run surely needs, counted from its work before anything is planned
    estimate    what a run is expected to need, counted from a plan (`sim.run.estimates`), which takes as long
    limit       what a run may need: as a user says, or else what the engine allows and this machine has

A run over its limit is refused: at the minimum whoever set the limit, at the estimate where a user has set it.

The minimum of a model's work::

    ops of a pass    1 for attention, 1 for a dense FFN, 3 for experts; with TP > 1 1 or 2 collectives for a block
    rows             1 for an op, more where experts serve other stages: one for each rank that holds some
    cells            sources x experts of a layer's routing, times top_k + 1 where tokens choose at random, then for
                     each microbatch and lane; flow by flow also twice sources x hosts of each exchange
    events           1 for an op of up to 1,000 ranks, and 1 for 1,000 cells, which take as long
    bytes            of the process + 0.1 kB for an op + 0.3 kB for a row + those of cluster and routing: 0.25 kB for a
                     link, 16 B for a source and an expert and 32 B for a source and a host of one layer's routing

Assumptions
-----------
The minimum leaves out exchanges, what follows the last pass, and lanes that another lane may run for.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sim.build.work import CollectiveWork, Work
from sim.engine.clock import MAX_EVENTS
from sim.errors import SimulationError
from sim.results.quantities import format_quantity
from workloads.blocks.ffn import DenseFfn
from workloads.collectives import OPERATIONS

__all__ = [
    "LEAST_LONG_EVENTS",
    "LONG_RUN_S",
    "NO_LIMITS",
    "PROCESS_BYTES",
    "Limits",
    "Resources",
    "drawn_cells",
    "machine_memory_bytes",
    "minimum_of_collective",
    "minimum_of_passes",
    "minimum_of_work",
    "routing_bytes",
]

PROCESS_BYTES: Final = 64e6
"""Memory of a process that has imported what runs a scenario, before it runs anything."""
_OP_BYTES, _ROW_BYTES, _LINK_BYTES = 100.0, 300.0, 250.0  # at the least; `sim.run.estimates` has what is expected
_CELL_BYTES, _PAIR_BYTES = 16.0, 32.0
_EVENTS_OF_COLLECTIVE: Final = 4  # of a pass with one transfer
_PER_EVENT: Final = 1000  # cells, or ranks of an op, that take as long as an event: some 10 us
LONG_RUN_S: Final = 20.0
"""Processor time from which on a run is long: `moesim run` says how long it is expected to take."""
LEAST_LONG_EVENTS: Final = 50_000
"""Minimum of events below which a run takes seconds: an estimate of its time is not worth a plan."""
_CONTAINER_LIMITS: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a run needs: its minimum, or an estimate."""

    num_ops: int
    """Operations of stages."""
    num_events: int
    """Events of the clock, and work that takes as long as they do."""
    memory_bytes: float
    """Peak memory of the process that runs it."""
    cpu_s: float | None = None
    """Processor time of that process; None in a minimum, which says nothing of time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a run may need at most."""

    max_events: int | None = None
    """Events of the clock; None: those after which the engine ends a run."""
    max_memory_bytes: float | None = None
    """Peak memory of the process that runs it; None: that of the machine."""

    @property
    def are_set(self) -> bool:
        """Tell whether a user has set any."""
        return self.max_events is not None or self.max_memory_bytes is not None

    @property
    def engine_events(self) -> int:
        """Events after which the engine ends a run: more than its own budget only where a user allows more."""
        return max(MAX_EVENTS, self.max_events or 0)

    def check_estimate(self, estimate: Resources) -> None:
        """Refuse a run that is expected to need more than a user has set.

        Raises
        ------
        SimulationError
            With the limit, the estimate and what would bring it down.

        Examples
        --------
        >>> Limits(max_events=100).check_estimate(Resources(num_ops=90, num_events=180, memory_bytes=1e8))
        Traceback (most recent call last):
        ...
        sim.errors.SimulationError: the run must need at most 100 events, got about 180 (90 operations). Use fewer \
microbatches, batches or layers, or raise --max-events.
        """
        _check(estimate, self.max_events, self.max_memory_bytes, "about")

    def check_minimum(self, minimum: Resources) -> None:
        """Refuse a run that surely needs more than a user has set, or else than engine and machine have.

        Raises
        ------
        SimulationError
            As by `check_estimate`.

        Examples
        --------
        >>> Limits().check_minimum(Resources(num_ops=10**8, num_events=10**8, memory_bytes=1e8))
        Traceback (most recent call last):
        ...
        sim.errors.SimulationError: the run must need at most 50,000,000 events, got at least 100,000,000 (100,000,000 \
operations). Use fewer microbatches, batches or layers, or raise --max-events.
        """
        max_events = MAX_EVENTS if self.max_events is None else self.max_events
        if self.max_memory_bytes is None:
            _check(minimum, max_events, machine_memory_bytes(), "at least", whose="this machine's ")
        else:
            _check(minimum, max_events, self.max_memory_bytes, "at least")


NO_LIMITS = Limits()
"""A run may need what engine and machine have."""


def minimum_of_work(work: Work) -> Resources:
    """Return the minimum of a run of a model's work."""
    mesh = work.mesh
    lanes = mesh.num_lanes if _all_lanes_run(work) else 1
    num_passes = lanes * work.num_microbatches * len(work.kind.pass_kinds)
    num_ops = num_passes * _ops_of_layers(work)
    hosted = num_passes * work.model.num_moe_layers if mesh.convention.experts_span_stages else 0
    num_rows = num_ops + hosted * mesh.world
    memory_bytes = PROCESS_BYTES + num_ops * _OP_BYTES + num_rows * _ROW_BYTES
    return Resources(
        num_ops=num_ops,
        num_events=num_ops * (1 + mesh.lane_size // _PER_EVENT) + _cells(work, lanes) // _PER_EVENT,
        memory_bytes=memory_bytes + work.cluster.min_num_links * _LINK_BYTES + routing_bytes(work),
    )


def minimum_of_passes(*, num_stages: int, num_microbatches: int) -> Resources:
    """Return the minimum of a pipeline of passes of given length: an op for each pass.

    >>> minimum_of_passes(num_stages=4, num_microbatches=8).num_ops
    64
    """
    num_ops = 2 * num_stages * num_microbatches
    memory_bytes = PROCESS_BYTES + num_ops * (_OP_BYTES + _ROW_BYTES)
    return Resources(num_ops=num_ops, num_events=num_ops, memory_bytes=memory_bytes)


def minimum_of_collective(work: CollectiveWork) -> Resources:
    """Return the minimum of a collective on its own: its pairs of ranks, or the hops of its rings."""
    num_ranks = work.ranks.size
    cells = num_ranks * (num_ranks if OPERATIONS[work.op].is_exchange else 1) + num_ranks * work.experts * (
        work.top_k + 1
    )
    memory_bytes = cells * (_CELL_BYTES + _PAIR_BYTES) + work.cluster.min_num_links * _LINK_BYTES
    num_events = _EVENTS_OF_COLLECTIVE + cells // _PER_EVENT
    return Resources(num_ops=1, num_events=num_events, memory_bytes=PROCESS_BYTES + memory_bytes)


def routing_bytes(work: Work) -> float:
    """Return the memory of the tables of one layer's routing: of each source and expert, and source and host."""
    sources, hosts = _exchange(work)
    return sources * (work.model.experts * _CELL_BYTES + hosts * _PAIR_BYTES)


def drawn_cells(work: Work, lanes: int) -> int:
    """Return the cells of random routing, weighted by the choices that each takes."""
    sources, _ = _exchange(work)
    exchanges = work.model.num_moe_layers * lanes * work.num_microbatches
    return exchanges * sources * work.model.experts * (work.model.top_k + 1)


def machine_memory_bytes() -> int | None:
    """Return the memory that a process can have on this machine at most; None where the system does not say.

    It is the memory that is built in, or what a container or a limit on the process leaves of it.
    """
    return min(_memory_limits_bytes(), default=None)


# ---- private -----------------------------------------------------------------------------------------------------


def _check(
    needed: Resources, max_events: int | None, max_memory_bytes: float | None, how_sure: str, *, whose: str = ""
) -> None:
    """Refuse a run that needs more than its limits."""
    operations = f"({needed.num_ops:,} operations)"
    if max_events is not None and needed.num_events > max_events:
        raise SimulationError(
            f"the run must need at most {max_events:,} events, got {how_sure} {needed.num_events:,} {operations}. "
            "Use fewer microbatches, batches or layers, or raise --max-events."
        )
    if max_memory_bytes is not None and needed.memory_bytes > max_memory_bytes:
        limit, expected = (format_quantity(of, "B") for of in (float(max_memory_bytes), needed.memory_bytes))
        raise SimulationError(
            f"the run must need at most {whose}{limit} of memory, got {how_sure} {expected} {operations}. "
            "Use fewer microbatches, batches, layers, experts or GPUs, or raise --max-memory."
        )


def _ops_of_layers(work: Work) -> int:
    """Return the ops of all layers in one pass of one microbatch on one lane, at the least."""
    mesh, model = work.mesh, work.model
    over_tp = 0 if mesh.strategy.tp == 1 else 2 if mesh.sp else 1
    after_experts = 1 if mesh.strategy.tp > 1 and not mesh.sp else 0
    after_experts += 2 if mesh.strategy.etp > 1 else 0
    kinds = model.layer_kinds(range(model.layers))
    blocks = sum(count * ((layer.attention is not None) + isinstance(layer.ffn, DenseFfn)) for layer, count in kinds)
    return blocks * (1 + over_tp) + model.num_moe_layers * (3 + after_experts)


def _all_lanes_run(work: Work) -> bool:
    """Tell whether surely no lane runs for another: see `sim.plan.folding`."""
    draws = not work.has_balanced_routing and work.model.num_moe_layers > 0
    return draws or work.mesh.convention.experts_span_stages or work.network.fidelity == "flow"


def _exchange(work: Work) -> tuple[int, int]:
    """Return the ranks of a lane that send tokens, and those that hold a layer's experts; none in a dense model."""
    mesh = work.mesh
    if not work.model.num_moe_layers:
        return 0, 0
    if mesh.replicates_tokens_over_tp:
        return 1, mesh.strategy.ep
    return mesh.lane_size, mesh.strategy.ep


def _cells(work: Work, lanes: int) -> int:
    """Return the cells of routing that are worked out, weighted by the choices that each takes."""
    sources, hosts = _exchange(work)
    exchanges = work.model.num_moe_layers * lanes * work.num_microbatches
    pairs = 2 * sources * hosts * exchanges if work.network.fidelity == "flow" else 0
    if work.has_balanced_routing:
        return work.model.num_moe_layers * lanes * sources * work.model.experts + pairs
    return drawn_cells(work, lanes) + pairs


def _memory_limits_bytes() -> Iterator[int]:
    """Yield what bounds the memory of a process."""
    with suppress(AttributeError, ValueError, OSError):  # Windows has no sysconf
        yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in _CONTAINER_LIMITS:
        with suppress(OSError, ValueError):  # no such container, or no limit: "max"
            yield int(Path(name).read_text(encoding="ascii"))
    try:
        import resource  # noqa: PLC0415  # not there on Windows

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    except ImportError:
        return
    if limit != resource.RLIM_INFINITY:
        yield limit
