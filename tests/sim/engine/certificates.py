"""What must hold of any run, read off its trace. Each function raises AssertionError where it does not."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from unittest.mock import patch

import numpy as np
from works import make_model, make_work

import sim.engine.simulation
from sim.build.work import Work
from sim.engine.network.fluid import FluidNetwork
from sim.engine.simulation import Run, run_plan
from sim.engine.trace import KINDS, STREAMS
from sim.plan.bounds import bounds_of
from sim.plan.ops import Transfer, inputs_of
from sim.plan.pipeline import PipelinePlan
from sim.results.path import path_ns, path_rows
from sim.results.stages import stages_ns
from workloads.schedules import Pass

FLOAT_REL = 1e-9
"""Sums of up to some 10,000 floats: each rounding is 1e-16."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Observed:
    """A run with what it had to do and every transfer that it started."""

    work: Work
    run: Run
    transfers: tuple[Transfer, ...]

    def column(self, name: str) -> np.ndarray:
        """Return a column of the trace; `stream` and `kind` as text."""
        return np.asarray(self.run.trace[name])


def observe(work: Work, plan: PipelinePlan | None = None) -> Observed:
    """Run a work (by its `plan`), and keep the transfers that the network was given."""
    seen: list[Transfer] = []

    class Witness(FluidNetwork):
        def begin(self, transfers):
            seen.extend(transfers)
            return super().begin(transfers)

    with patch.object(sim.engine.simulation, "FluidNetwork", Witness):
        run = run_plan(PipelinePlan(work, folds=False) if plan is None else plan)
    return Observed(work=work, run=run, transfers=tuple(seen))


@cache
def observe_case(
    strategy: str, convention: str, num_gpus: int, dense: bool, changes: tuple[tuple[str, object], ...]
) -> Observed:
    """Run a case once for all certificates."""
    given = dict(changes)
    model = make_model(experts=0 if dense else 64 if num_gpus == 64 else 16, layers=given.pop("layers", 4))
    return observe(make_work(strategy, convention, num_gpus=num_gpus, model=model, **given))


# --- passes ----------------------------------------------------------------------------------------------------------


def _passes(seen: Observed) -> dict[tuple[int, int, Pass], tuple[int, int]]:
    """Return (opened, closed) by stage, lane and pass."""
    trace = seen.run.trace
    names = ("stage", "lane", "kind", "microbatch", "chunk", "start_ns", "end_ns")
    rows = zip(*(trace[name][trace.rows("pass")].tolist() for name in names), strict=True)
    return {(stage, lane, Pass(*rest[:3])): (rest[3], rest[4]) for stage, lane, *rest in rows}


def every_pass_runs_once(seen: Observed) -> None:
    """F of every microbatch in every part of the model and lane, B as well in training, and one end of step."""
    trains = seen.work.kind.trains
    trace, mesh, parts = seen.run.trace, seen.work.mesh, seen.work.chunk_layout
    rows = trace.rows("pass")
    columns = [seen.column(name)[rows].tolist() for name in ("stage", "lane", "kind", "microbatch", "chunk")]
    ran = list(zip(*columns, strict=True))
    visits = Counter(
        (parts.model_chunk_of(stage, chunk), lane, kind, microbatch)
        for stage, lane, kind, microbatch, chunk in ran
        if kind in {"F", "B"}
    )
    assert visits == Counter(
        (part, lane, kind, microbatch)
        for part in range(parts.num_model_chunks)
        for lane in range(mesh.num_lanes)
        for kind in (("F", "B") if trains else ("F",))
        for microbatch in range(seen.work.num_microbatches)
    )
    ends = Counter((stage, lane) for stage, lane, kind, _, _ in ran if kind == "O")
    assert ends == Counter(
        (stage, lane) for stage in range(mesh.num_stages) for lane in range(mesh.num_lanes) if trains
    )
    weights = Counter(one for one in ran if one[2] == "W")
    assert set(weights.values()) <= {1}
    assert {(*one[:2], "B", *one[3:]) for one in weights} <= set(ran)


def every_pass_opens_after_what_it_needs(seen: Observed) -> None:
    """Own F before B; the neighbour's pass, and the hop that brings its output, before both."""
    passes, placement = _passes(seen), seen.work.chunk_layout
    for (stage, lane, chosen), (opened, _) in passes.items():
        if chosen.kind == "O":
            continue
        for need in inputs_of(placement, stage, chosen):
            assert passes[need.stage, lane, Pass(*need[1:])][1] <= opened
    hops = _hops(seen)
    for (stage, lane, chosen), (_, closed) in passes.items():
        target = None if chosen.kind == "O" else placement.receiver(stage, chosen)
        if target is not None and target.stage != stage:
            arrival = hops.pop((stage, lane, chosen.microbatch, closed), None)
            assert arrival is not None, "a pass whose output went nowhere"
            assert arrival <= passes[target.stage, lane, chosen._replace(chunk=target.chunk)][0]
    assert not hops, "a hop that no pass sent"


def _hops(seen: Observed) -> dict[tuple[int, int, int, int], int]:
    """Return the arrival of each hop by stage, lane, microbatch and departure."""
    rows = seen.run.trace.rows("p2p")
    columns = [seen.column(name)[rows].tolist() for name in ("stage", "lane", "microbatch", "start_ns", "end_ns")]
    return {(stage, lane, microbatch, start): end for stage, lane, microbatch, start, end in zip(*columns, strict=True)}


def passes_of_a_lane_follow_each_other(seen: Observed) -> None:
    """Find a lane in one pass at a time, or in the two of a pair, which open together."""
    for stage in range(seen.work.mesh.num_stages):
        for lane in range(seen.work.mesh.num_lanes):
            rows = seen.run.trace.rows("pass", stage=stage, lane=lane)
            start, end = seen.column("start_ns")[rows], seen.column("end_ns")[rows]
            apart = start[1:] >= end[:-1]
            assert (apart | (start[1:] == start[:-1])).all()
            assert not (~apart[1:] & ~apart[:-1]).any()  # never three
            assert apart.all() or seen.work.schedule in {"dualpipe", "dualpipe_v"}


# --- rows ------------------------------------------------------------------------------------------------------------


def kernels_of_a_rank_never_overlap(seen: Observed) -> None:
    """Own and foreign alike: one kernel at a time."""
    rows = np.flatnonzero(np.isin(seen.column("stream"), ("compute", "foreign")))
    rank, start, end = (seen.column(name)[rows] for name in ("rank", "start_ns", "end_ns"))
    order = np.lexsort((end, start, rank))
    rank, start, end = rank[order], start[order], end[order]
    same = rank[1:] == rank[:-1]
    assert (start[1:][same] >= end[:-1][same]).all()
    assert set(rank.tolist()) <= set(seen.run.trace.lane_ranks.ravel().tolist())


def rows_of_a_rank_stand_at_its_stage(seen: Observed) -> None:
    """Find each kernel where its rank lives, whichever stage it works for."""
    rows = np.flatnonzero(np.isin(seen.column("stream"), ("compute", "foreign")))
    place = {
        int(rank): (stage, lane)
        for stage, lanes in enumerate(seen.run.trace.lane_ranks)
        for lane, ranks in enumerate(lanes)
        for rank in ranks
    }
    columns = [seen.column(name)[rows].tolist() for name in ("rank", "stage", "lane")]
    assert all(place[rank] == (stage, lane) for rank, stage, lane in zip(*columns, strict=True))


def parts_of_every_row_are_a_split_of_its_duration(seen: Observed) -> None:
    """No part negative, and their sum the duration."""
    parts = np.stack([seen.column(name) for name in ("base_ns", "imbalance_ns", "contention_ns", "latency_ns")])
    assert (parts >= 0).all()
    assert (parts.sum(axis=0) == seen.column("end_ns") - seen.column("start_ns")).all()


def every_row_starts_after_what_released_it(seen: Observed) -> None:
    """Find each release ended before its row, or on another rank of the lane that held this one (the path cuts it).

    Rows are numbered in the order in which they are noted, so that every walk back along releases ends.
    """
    released, start, end = (seen.column(name) for name in ("released_by", "start_ns", "end_ns"))
    stream, rank = seen.column("stream"), seen.column("rank")
    known = np.flatnonzero(released >= 0)
    by = released[known]
    assert (by < known).all()
    is_later = end[by] > start[known]
    of_another_rank = (stream[by] == "compute") & (rank[by] != rank[known])
    assert (of_another_rank | ~is_later).all()


def the_trace_begins_at_nothing_and_ends_with_a_row(seen: Observed) -> None:
    """First start at 0, no row of negative length, codes known."""
    trace = seen.run.trace
    assert trace.start_ns == 0
    assert (seen.column("end_ns") >= seen.column("start_ns")).all()
    assert trace.columns["stream"].max() < len(STREAMS)
    assert trace.columns["kind"].max() < len(KINDS)


# --- conservation ----------------------------------------------------------------------------------------------------


def tokens_routed_are_tokens_computed(seen: Observed) -> None:
    """And they are those of the workload: top-k copies of every token in every layer with experts."""
    work, run = seen.work, seen.run
    copies = work.batch_tokens * work.batches * work.model.top_k * work.model.num_moe_layers
    assert run.tokens_routed == run.tokens_computed == copies  # what is recomputed is not routed again


def bytes_sent_are_bytes_received(seen: Observed) -> None:
    """And they are the bytes of the rows: a transfer that several lanes wait for counts once."""
    run = seen.run
    assert np.isclose(run.bytes_sent, run.bytes_received, rtol=FLOAT_REL)
    assert np.isclose(seen.column("bytes").sum(), run.bytes_sent, rtol=FLOAT_REL)


def links_carry_the_bytes_of_all_transfers(seen: Observed) -> None:
    """All of them, but for the order of sums."""
    use = seen.run.trace.link_use
    wanted = np.zeros(use.num_bytes.size)
    for transfer in seen.transfers:
        wanted[transfer.link_bytes.links] += transfer.link_bytes.num_bytes
    assert (np.abs(use.num_bytes - wanted) <= FLOAT_REL * wanted).all()


def no_link_is_over_its_capacity(seen: Observed) -> None:
    """At no time, and not over the whole run."""
    use = seen.run.trace.link_use
    assert use.utilisation.max(initial=0.0) <= 1 + FLOAT_REL
    assert (use.utilisation >= 0).all()
    assert (use.num_bytes <= use.capacity_bytes_per_s * use.busy_s * (1 + FLOAT_REL)).all()
    assert (use.busy_s <= seen.run.trace.step_ns / 1e9 * (1 + FLOAT_REL)).all()


# --- accounts and bounds ---------------------------------------------------------------------------------------------


def both_accounts_sum_to_the_step_time(seen: Observed) -> None:
    """Exactly, with no part negative."""
    trace = seen.run.trace
    for account in (path_ns(trace), *stages_ns(trace)):
        assert sum(account.values()) == trace.step_ns
        assert min(account.values()) >= 0


def the_path_runs_from_the_last_end_to_the_first_start(seen: Observed) -> None:
    """Without going back in time or counting a moment twice."""
    trace = seen.run.trace
    reached = trace.end_ns
    for row, begin, to in path_rows(trace):
        assert seen.column("start_ns")[row] == begin < to <= reached
        reached = begin
    assert reached == trace.start_ns


def nothing_is_faster_than_the_bounds(seen: Observed) -> None:
    """Compare with arithmetic at the peak of all GPUs, and with bytes over the datasheet's wires."""
    bounds = bounds_of(seen.work, num_dropped=seen.run.tokens_dropped)
    step_s = seen.run.trace.step_ns / 1e9
    assert 0 < bounds.compute_s * seen.work.batches <= step_s
    assert bounds.wires_s * seen.work.batches <= step_s


def executed_flops_fit_into_the_step(seen: Observed) -> None:
    """No more than the peak of all GPUs, and no less than the model asks for."""
    work = seen.work
    executed = float(seen.column("flops").sum())
    peak = work.cluster.device.peak_flops_per_s(work.model.dtype) * work.mesh.world
    assert 0 < executed <= peak * seen.run.trace.step_ns / 1e9
    bounds = bounds_of(work, num_dropped=seen.run.tokens_dropped)
    assert executed >= bounds.compute_s * work.batches * peak * (1 - FLOAT_REL)


CERTIFICATES: dict[str, Callable[[Observed], None]] = {
    certificate.__name__: certificate
    for certificate in (
        every_pass_runs_once,
        every_pass_opens_after_what_it_needs,
        passes_of_a_lane_follow_each_other,
        kernels_of_a_rank_never_overlap,
        rows_of_a_rank_stand_at_its_stage,
        parts_of_every_row_are_a_split_of_its_duration,
        every_row_starts_after_what_released_it,
        the_trace_begins_at_nothing_and_ends_with_a_row,
        tokens_routed_are_tokens_computed,
        bytes_sent_are_bytes_received,
        links_carry_the_bytes_of_all_transfers,
        no_link_is_over_its_capacity,
        both_accounts_sum_to_the_step_time,
        the_path_runs_from_the_last_end_to_the_first_start,
        nothing_is_faster_than_the_bounds,
        executed_flops_fit_into_the_step,
    )
}
"""Certificate by name; each is checked on every run of the set."""
