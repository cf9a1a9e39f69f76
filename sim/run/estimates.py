"""What a run is expected to take of events, memory and processor time, counted from a plan before it starts.

Model
-----
The plan makes one pass of each kind and stage, and what these passes hold is counted (`Counts`). Then

    events         = ops + ends of transfers + kernels that wait for the host + 3 for a send, flows as what they cost
    processor time = time of the process + sum of the counts, each times the seconds of one
    memory         = sum of the counts, each times the bytes of one; the process itself is in those of the run

What one of each count takes is `COSTS`, fitted by `benchmarks/fit_estimates.py`: least squares of the logarithms of
expected over measured, with no cost below 0. Those of a kind that no run needs are 0.

The events of a pass are counted as `sim.engine.program` would run it if the lane never waited for another lane. A
collective ends in as many events as its groups have different times; where its groups share links, in three for each
group. Where the experts of a stage serve all stages, each transfer meets others, which takes 1.5 events more.

Assumptions
-----------
Left out are what follows the last pass of training, but for the pricing of its collectives, and the writing and drawing
of results. Whether and when transfers meet is found by the run alone. Seconds are those of one core of an AMD EPYC on
which a bare timeout of SimPy takes 0.45 us. Kernels of flows are assumed to be compiled already.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.build.work import Work
from sim.engine.compiled.compiler import START_S, start_s
from sim.engine.host import Host
from sim.engine.optional_numba import has_numba
from sim.engine.run_state import Plan
from sim.plan.ops import AwaitStream, Collective, Compute, ConcurrentPasses, HostWork, Op, Transfer
from sim.run.resources import Resources, drawn_cells, routing_bytes
from topology.links import SharedLoad
from workloads.placement import PLACEMENTS
from workloads.schedules import Pass

__all__ = ["COSTS", "PROCESS_S", "Cost", "Counts", "counts_of_plan", "expected_of"]


class Cost(NamedTuple):
    """What one of a count takes."""

    cpu_s: float
    """Processor time."""
    num_bytes: float
    """Memory at the peak of the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What a run holds, each counted over the whole run."""

    runs: int = 1
    """The run itself: what is done once."""
    num_ops: int = 0
    """Operations of stages."""
    num_events: int = 0
    """Events of the clock, and work that takes as long as they do."""
    profile_rows: int = 0
    """Measured kernels that are read, to price those of the device."""
    graphs: int = 0
    """1 where the cluster is wired as a graph, for which networkx is imported; 0 where a formula gives its links."""
    gpus: int = 0
    """GPUs of the cluster."""
    links: int = 0
    """Links of the cluster."""
    planned_ops: int = 0
    """Different operations in one pass of each kind and stage."""
    planned_loads: int = 0
    """Links that their different transfers load; links that carry the same are one."""
    reductions: int = 0
    """Transfers before the first pass and after the last."""
    drawn_layers: int = 0
    """Layers of experts, in each microbatch and lane, whose tokens choose experts at random."""
    adjusted_layers: int = 0
    """Those of them whose experts are placed by loads, and those whose tokens are cut at a capacity."""
    cells: int = 0
    """Random numbers of routing."""
    table_bytes: float = 0.0
    """Bytes of the tables of one layer's routing."""
    drawn_exchanges: int = 0
    """Transfers with experts whose bytes are drawn."""
    events: int = 0
    """Events of the clock, where SimPy's engine runs them."""
    slowed_events: int = 0
    """Those of them where transfers may take SMs, so that kernels are claimed and slowed one by one."""
    compiled_ops: int = 0
    """Operations in the compiled kernel, in place of events."""
    numba: int = 0
    """1 where numba is imported."""
    compilations: int = 0
    """1 where the compiled kernel is kept nowhere and has to be compiled."""
    rows: int = 0
    """Rows of the trace."""
    loads: int = 0
    """Links that all transfers load, likewise."""
    flows: int = 0
    """Flows of all transfers that come again in every microbatch."""
    kept_flows: int = 0
    """Flows of their different transfers: what becomes of them is kept."""
    own_flows: int = 0
    """Flows whose bytes are drawn, so that each ends on its own."""


COSTS: Final[Mapping[str, Cost]] = {
    "runs": Cost(0.0075, 7.35e7),
    "profile_rows": Cost(6.8e-6, 0),
    "graphs": Cost(0.047, 0),
    "gpus": Cost(8.5e-5, 0),
    "links": Cost(0, 1.01e3),
    "planned_ops": Cost(1.9e-5, 0),
    "planned_loads": Cost(1.5e-5, 531),
    "reductions": Cost(0.00034, 0),
    "drawn_layers": Cost(0.00017, 0),
    "adjusted_layers": Cost(0.00022, 0),
    "cells": Cost(2e-8, 0),
    "table_bytes": Cost(0, 1),
    "drawn_exchanges": Cost(0, 6.91e3),
    "events": Cost(2.2e-6, 0),
    "slowed_events": Cost(6.5e-6, 335),
    "compiled_ops": Cost(9.5e-7, 418),
    "numba": Cost(0.26, 1.22e8),
    "compilations": Cost(22, 2.8e8),
    "rows": Cost(1e-6, 284),
    "loads": Cost(0, 5.08),
    "flows": Cost(1.8e-8, 0),
    "kept_flows": Cost(2e-5, 4.12e3),
    "own_flows": Cost(1.1e-5, 894),
}
"""What one of each count takes, fitted to 227 runs: 97.8 % are within a factor of 2 in time, and all in memory.

Not fitted are `table_bytes`, and `compilations`: what one run of ep64_tp16_pp4 took more when it had to compile (22.8 s
and 474 MB in all).
"""
PROCESS_S: Final = 0.53
"""Processor time of a process that starts, imports what runs a scenario and reads it."""
_FLOWS_THAT_COMPILE: Final = 5_000
"""Flows that end on their own from which on numba is imported to find when (`sim.engine.network.flows.kernel`)."""
_EVENTS_OF_OWN_END: Final = 2
"""Events that take as long as a flow that ends on its own: some 10 us."""
_EVENTS_OF_SEND, _EVENTS_OF_SHARING, _EVENTS_OF_FLOWS, _EVENTS_OF_MEETING = 3, 3, 4, 1.5
"""Events of a send; of a transfer that shares links with others of its collective; of one that is simulated flow by
flow; and those more of one that meets transfers of other stages."""


def counts_of_plan(
    plan: Plan, *, kinds: Sequence[str], num_microbatches: int, work: Work | None = None, is_compiled: bool = False
) -> Counts:
    """Count what a run of a plan holds; the plan cannot be run afterwards.

    Parameters
    ----------
    plan
        A plan made for this estimate alone: the plan of a run must give its passes in their order.
    kinds
        Kinds of passes: F, or F and B.
    num_microbatches
        Microbatches of each pipeline, over all batches.
    work
        The model's work that is planned; None: passes of given length.
    is_compiled
        Whether the compiled kernel runs the plan.
    """
    stages = range(plan.lane_ranks.shape[0])
    num_lanes = plan.lane_ranks.shape[1] if plan.folding is None else len(plan.folding.running)
    times = num_lanes * num_microbatches
    is_drawn = work is not None and not work.has_balanced_routing
    passes = list(_passes(plan, kinds))
    ops = [op for pass_ in passes for op in pass_]
    transfers = [transfer for op in ops for transfer in _transfers_of(op)]
    different = list({id(transfer): transfer for transfer in transfers}.values())
    num_sends = sum(len(plan.sends(stage, 0, Pass(kind, 0))) for stage in stages for kind in kinds)
    num_events = sum(_events_of_pass(pass_, plan.can_saturate) for pass_ in passes) + num_sends * _EVENTS_OF_SEND
    stages_meet = work is not None and work.mesh.convention.experts_span_stages
    if stages_meet and plan.fidelity != "flow":
        num_events += round(len(transfers) * _EVENTS_OF_MEETING)
    flows, kept_flows = (sum(map(_flows_of, of)) for of in (transfers, different))
    own_flows, kept_flows = (flows * times, 0) if is_drawn else (0, kept_flows)
    once = [op for stage in stages for op in (*plan.before_passes(stage, 0), *plan.after_passes(stage, 0))]
    return Counts(
        num_ops=len(ops) * times,
        planned_ops=len({id(op) for op in ops}),
        planned_loads=sum(map(_loads_of, different)),
        reductions=num_lanes * sum(len(_transfers_of(op)) for op in once),
        drawn_exchanges=sum(len(_transfers_of(op)) for op in ops if _is_exchange(op)) * times if is_drawn else 0,
        num_events=num_events * times + own_flows * _EVENTS_OF_OWN_END,
        events=0 if is_compiled else num_events * times,
        slowed_events=num_events * times if plan.num_sms is not None and not is_compiled else 0,
        compiled_ops=len(ops) * times if is_compiled else 0,
        numba=int(is_compiled or (has_numba() and max(own_flows, kept_flows * stages_meet) >= _FLOWS_THAT_COMPILE)),
        compilations=int(is_compiled and start_s() > START_S["kept"]),
        rows=(sum(map(_rows_of, ops)) + num_sends) * times,
        loads=sum(map(_loads_of, transfers)) * times,
        flows=0 if is_drawn else flows * times,
        kept_flows=kept_flows,
        own_flows=own_flows,
        **({} if work is None else _counts_of_work(work)),
    )


def expected_of(counts: Counts) -> Resources:
    """Return what a run with these counts is expected to need.

    >>> expected_of(Counts(num_ops=64, num_events=320)).num_events
    320
    """
    number_of = asdict(counts)
    cpu_s, num_bytes = (sum(number_of[name] * cost[i] for name, cost in COSTS.items()) for i in (0, 1))
    return Resources(
        num_ops=counts.num_ops,
        num_events=counts.num_events,
        memory_bytes=num_bytes,
        cpu_s=PROCESS_S + cpu_s,
    )


# ---- private -----------------------------------------------------------------------------------------------------


def _counts_of_work(work: Work) -> dict[str, Any]:
    """Count what follows from the work alone: the device, the cluster, and the random numbers of its routing."""
    is_drawn = not work.has_balanced_routing
    num_drawn = work.model.num_moe_layers * work.mesh.num_lanes * work.num_microbatches if is_drawn else 0
    num_adjustments = PLACEMENTS[work.placement.kind].is_planned + (work.routing.capacity_factor is not None)
    return {
        "profile_rows": 0 if work.profile is None else work.profile.num_rows,
        "graphs": int(work.cluster.needs_graph),
        "gpus": work.cluster.num_gpus,
        "links": work.cluster.min_num_links,
        "drawn_layers": num_drawn,
        "adjusted_layers": num_drawn * num_adjustments,
        "cells": drawn_cells(work, work.mesh.num_lanes) if is_drawn else 0,
        "table_bytes": routing_bytes(work),
    }


def _passes(plan: Plan, kinds: Sequence[str]) -> Iterator[tuple[Op, ...]]:
    """Yield the ops of one pass of each kind and stage."""
    for stage in range(plan.lane_ranks.shape[0]):
        for kind in kinds:
            step = plan.ops(stage, 0, Pass(kind, 0))
            if isinstance(step, ConcurrentPasses):
                yield from (ops for _, ops in step.sides)
            else:
                yield step


def _transfers_of(op: Op) -> tuple[Transfer, ...]:
    return op.transfers if isinstance(op, Collective) else ()


def _is_exchange(op: Op) -> bool:
    """Tell whether an op sends tokens to experts or back."""
    return isinstance(op, Collective) and op.kind.startswith("ep_")


def _loads_of(transfer: Transfer) -> int:
    """Return the numbers that a transfer keeps of its loads."""
    load = transfer.load
    return load.amounts.size if isinstance(load, SharedLoad) else load.links.size


def _flows_of(transfer: Transfer) -> int:
    return 0 if transfer.flows is None else transfer.flows.num_bytes.size


def _rows_of(op: Op) -> int:
    """Return the rows of the trace that an op makes."""
    if isinstance(op, Compute):
        return len(op.kernels)
    if isinstance(op, AwaitStream | HostWork):
        return 1
    return len(op.transfers) if isinstance(op, Collective) else op.ranks.size


class _LaneAlone:
    """A lane that runs ops and never waits for another lane, and its events."""

    def __init__(self, can_saturate: NDArray[np.bool_]) -> None:
        self.num_events = 0
        self._can_saturate = can_saturate
        self._host, self._now_ns = Host(), 0
        self._free_ns: dict[str, int] = {}  # of each stream
        self._num_ends: dict[int, int] = {}  # of each collective, by its id

    def run(self, op: Op) -> None:
        """Run an op as `sim.engine.program` does."""
        if isinstance(op, Compute):
            self._compute(op)
        elif isinstance(op, Collective):
            self._transfer(op)
        elif isinstance(op, AwaitStream):
            self._now_ns = max(self._now_ns, self._free_ns.get(op.stream, 0))
        elif isinstance(op, HostWork):
            self._host.work(op.work_ns, not_before_ns=self._now_ns if op.waits else 0)
        else:
            self._take(int(op.duration_ns.max(initial=0)))

    def _take(self, duration_ns: int) -> None:
        self.num_events, self._now_ns = self.num_events + 1, self._now_ns + duration_ns

    def _await_host(self, issued_ns: int) -> bool:
        """Wait until the host has issued something; return whether that took time."""
        is_late = issued_ns > self._now_ns
        if is_late:
            self._take(issued_ns - self._now_ns)
        return is_late

    def _compute(self, op: Compute) -> None:
        if not op.issue_ns:
            self._take(sum(op.slowest_ns))
            return
        issued = [self._host.work(issue_ns) for issue_ns in op.issue_ns]
        is_in_one_piece = False
        for issued_ns, took_ns in zip(issued, op.slowest_ns, strict=True):
            if self._await_host(issued_ns) or not is_in_one_piece:
                self.num_events += 1
            is_in_one_piece = True
            self._now_ns += took_ns

    def _transfer(self, op: Collective) -> None:
        if op.issue_ns:
            self._await_host(self._host.work(op.issue_ns))
        if id(op) not in self._num_ends:
            self._num_ends[id(op)] = _ends_of(op, self._can_saturate)
        self.num_events += self._num_ends[id(op)]
        lasts_ns = max((transfer.latency_ns + transfer.alone_ns for transfer in op.transfers), default=0)
        if op.stream is None:
            self._now_ns += lasts_ns
            return
        free_ns = self._free_ns.get(op.stream, 0)
        self.num_events += 2 if free_ns <= self._now_ns else 0  # the process of the stream begins and ends
        self._free_ns[op.stream] = max(self._now_ns, free_ns) + lasts_ns


def _events_of_pass(ops: Sequence[Op], can_saturate: NDArray[np.bool_]) -> int:
    """Return the events of a pass: of the last of three in a row, when the host is as far ahead as it gets."""
    lane = _LaneAlone(can_saturate)
    for _ in range(3):
        lane.num_events = 0
        for op in ops:
            lane.run(op)
    return lane.num_events


def _ends_of(op: Collective, can_saturate: NDArray[np.bool_]) -> int:
    """Return the events in which the transfers of a collective begin to flow and end."""
    if any(transfer.flows is not None for transfer in op.transfers):
        return _EVENTS_OF_FLOWS * len(op.transfers)
    links = [transfer.load.links for transfer in op.transfers]
    if len(links) > 1:
        all_links = np.concatenate(links)
        saturable_links = all_links[can_saturate[all_links]]
        if np.unique(saturable_links).size < saturable_links.size:
            return _EVENTS_OF_SHARING * len(links)
    return len({(transfer.latency_ns, transfer.alone_ns) for transfer in op.transfers})
