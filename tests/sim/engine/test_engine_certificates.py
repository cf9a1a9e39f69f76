"""Every certificate on a set of real runs: three conventions, forward and training, schedules, routing, ZeRO, SP."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from certificates import CERTIFICATES, observe, observe_case
from plain_network import max_min_rates, rates_by
from works import make_work

import sim.engine.run_state
import sim.engine.simulation
from sim.engine.network.fluid import FluidNetwork
from sim.engine.run_state import RankCompute
from sim.results.metrics import RunQuantities, metrics_of
from sim.results.stages import stages_ns
from workloads.schedules import SCHEDULES

TAKES_ANY = [name for name, family in SCHEDULES.items() if family.num_chunks is None]
FORWARD = [{"kind": "forward", "batches": 2}]
TRAINING = [
    {"kind": "training", "schedule": schedule, "zero": zero}
    for schedule, zero in product(("gpipe", "1f1b"), (0, 1, 2, 3))
]
RECOMPUTING = [{"kind": "training", "recompute": recompute} for recompute in ("selective", "full")]
EVERY_ORDER = [
    {"kind": "training", "schedule": schedule, "microbatches": 8, "layers": 8}
    for schedule in SCHEDULES
    if schedule not in TAKES_ANY
]
FOLDED = [name for name, family in SCHEDULES.items() if family.layout in {"vee", "both_ways"}]
CHUNKED = [{"kind": "training", "schedule": schedule} for schedule in TAKES_ANY]
SPLIT, WHOLE = {"sp": True}, {"sp": False}
MESHES = [
    # strategy, convention, GPUs, whether the model is dense, sequence parallelism, how it is run
    ("EP8_TP2_PP2_DP4", "megatron", 16, False, SPLIT, FORWARD + TRAINING + RECOMPUTING),
    ("EP4_TP2_PP2_DP4", "megatron", 16, False, SPLIT, FORWARD + TRAINING),  # two lanes reduce gradients together
    ("EP4_TP1_PP4_DP4", "megatron", 16, False, WHOLE, FORWARD + TRAINING),
    ("EP4_TP1_PP4_DP4", "megatron", 16, False, WHOLE, EVERY_ORDER),
    ("EP4_TP2_PP2_VPP2_DP4", "megatron", 16, False, SPLIT, CHUNKED),
    (
        "EP4_TP2_PP2_DP4",
        "megatron",
        16,
        False,
        SPLIT,
        [one | {"zero": 1} for one in EVERY_ORDER if one["schedule"] in FOLDED],
    ),
    ("EP1_TP2_PP4_DP2", "megatron", 16, True, SPLIT, FORWARD + TRAINING),
    ("EP1_TP2_PP4_DP2", "megatron", 16, True, WHOLE, FORWARD + TRAINING),
    ("EP16_TP8_PP2", "megatron", 32, False, SPLIT, TRAINING),
    ("EP8_TP8_PP2", "vllm", 16, False, WHOLE, FORWARD),
    ("EP16_TP8_PP2_DP2", "vllm", 32, False, WHOLE, FORWARD),
    ("EP16_TP4_PP4", "spanning", 16, False, WHOLE, FORWARD + TRAINING + RECOMPUTING),
    ("EP16_TP2_PP4_DP2", "spanning", 16, False, WHOLE, FORWARD + TRAINING),
    ("EP64_TP16_PP4", "spanning", 64, False, WHOLE, FORWARD + TRAINING[-1:]),
]
CASES = [
    (strategy, convention, num_gpus, dense, tuple({**sp, **how, "routing": routing}.items()))
    for strategy, convention, num_gpus, dense, sp, hows in MESHES
    for how in hows
    for routing in (("balanced",) if dense else ("balanced", "multinomial"))
]


def name_of(case):
    strategy, convention, _, dense, changes = case
    words = [f"{key}={value}" if key in ("sp", "zero", "batches") else str(value) for key, value in changes]
    return "-".join([convention, strategy, *(["dense"] if dense else []), *words])


OF_EVERY_RUN = pytest.mark.parametrize("case", CASES, ids=map(name_of, CASES))
OF_EVERY_CERTIFICATE = pytest.mark.parametrize("certificate", CERTIFICATES.values(), ids=CERTIFICATES.keys())


@OF_EVERY_RUN
@OF_EVERY_CERTIFICATE
def test_every_run_keeps(certificate, case):
    certificate(observe_case(*case))


@OF_EVERY_RUN
def test_fractions_of_every_run_lie_between_0_and_1(case):
    seen = observe_case(*case)
    work, trace = seen.work, seen.run.trace
    accounts = stages_ns(trace)
    metrics = metrics_of(trace, accounts, quantities_of(work))
    names = [name for name in metrics if name.endswith("_fraction") or name in ("mfu", "mfu_causal", "hfu")]
    assert len(names) >= 8
    assert all(0 <= metrics[name] <= 1 for name in names)
    assert 0 < metrics["mfu_causal"] <= metrics["mfu"]
    assert metrics["bubble_fraction"] + metrics["stall_fraction"] + metrics["foreign_fraction"] < 1
    assert all(0 <= ns <= trace.step_ns for account in accounts for ns in account.values())


def quantities_of(work):
    """Facts of a run, from the model's closed forms."""
    passes = work.kind.flops_per_forward_flop
    tokens = work.batch_tokens * work.batches
    head = 2.0 * work.model.num_embedding_params * work.head_tokens * work.num_microbatches * work.mesh.dp
    flops = {
        causal: passes
        * (work.model.flops_per_token(work.sequence_length, causal=causal, with_head=False) * tokens + head)
        for causal in (False, True)
    }
    return RunQuantities(
        num_gpus=work.mesh.world,
        batch_tokens=work.batch_tokens,
        batches=work.batches,
        microbatches=work.microbatches,
        model_flops=flops[False],
        model_flops_causal=flops[True],
        peak_flops_per_s=work.cluster.device.peak_flops_per_s(work.model.dtype) * work.mesh.world,
        num_params=work.model.num_params,
        num_active_params=work.model.num_active_params,
        num_params_per_gpu=1,
        imbalance_max_over_mean=1.0,
    )


# --- what the certificates would notice -------------------------------------------------------------------------------


class OverlappingCompute(RankCompute):
    """Ranks that run any number of kernels at a time."""

    def claim(self, ranks, duration_ns, *, now_ns):
        """Start at once."""
        start = np.full(duration_ns.size, now_ns, dtype=np.int64)
        return start, start + duration_ns, np.full(duration_ns.size, -1, dtype=np.int64)


def alone_rates(weights, capacity):
    """Let every transfer run as if it were alone."""
    return np.array([max_min_rates([weight], capacity)[0] for weight in weights])


def contention_ns(seen):
    return int(seen.column("contention_ns").sum())


def spanning_work():
    return make_work("EP16_TP4_PP4", "spanning", kind="training", routing="multinomial")


def test_a_network_without_sharing_shows_as_links_over_capacity_and_no_contention(monkeypatch):
    shared = observe(spanning_work())
    monkeypatch.setattr(FluidNetwork, "solved_rates", rates_by(alone_rates))
    alone = observe(spanning_work())
    assert contention_ns(shared) > 0 == contention_ns(alone)
    with pytest.raises(AssertionError):
        CERTIFICATES["no_link_is_over_its_capacity"](alone)
    assert alone.run.trace.step_ns < shared.run.trace.step_ns


def test_ranks_that_do_not_queue_show_as_kernels_that_overlap(monkeypatch):
    queued = observe(spanning_work())
    monkeypatch.setattr(sim.engine.run_state, "RankCompute", OverlappingCompute)
    at_once = observe(spanning_work())
    with pytest.raises(AssertionError):
        CERTIFICATES["kernels_of_a_rank_never_overlap"](at_once)
    assert at_once.run.trace.step_ns < queued.run.trace.step_ns


def with_columns(seen, **changes):
    """Return an observation whose columns are changed: name -> function of the column."""
    trace = seen.run.trace
    columns = {name: values.copy() for name, values in trace.columns.items()}
    for name, change in changes.items():
        columns[name] = change(columns[name])
    return replace(seen, run=replace(seen.run, trace=replace(trace, columns=columns)))


def with_links(seen, **changes):
    """Return an observation whose use of links is changed: field -> factor."""
    trace = seen.run.trace
    use = replace(trace.link_use, **{name: getattr(trace.link_use, name) * factor for name, factor in changes.items()})
    return replace(seen, run=replace(seen.run, trace=replace(trace, link_use=use)))


def with_run(seen, **changes):
    """Return an observation whose run has other figures."""
    return replace(seen, run=replace(seen.run, **changes))


def at(position, value):
    """Return a change of one entry of a column."""

    def change(column):
        column[position] = value
        return column

    return change


def first_of(seen, **where):
    """Return the first row whose column holds a value."""
    ((name, value),) = where.items()
    return int(np.flatnonzero(seen.column(name) == value)[0])


FORGERIES = {
    "every_pass_runs_once": lambda seen: with_columns(seen, microbatch=at(first_of(seen, stream="pass"), 3)),
    "every_pass_opens_after_what_it_needs": lambda seen: with_columns(seen, start_ns=at(first_of(seen, kind="B"), 0)),
    "passes_of_a_lane_follow_each_other": lambda seen: with_columns(seen, start_ns=at(first_of(seen, kind="B"), 0)),
    "kernels_of_a_rank_never_overlap": lambda seen: with_columns(seen, end_ns=lambda end: end + 1),
    "rows_of_a_rank_stand_at_its_stage": lambda seen: with_columns(seen, rank=at(first_of(seen, stream="compute"), 15)),
    "parts_of_every_row_are_a_split_of_its_duration": lambda seen: with_columns(
        seen, contention_ns=lambda ns: ns - 1, base_ns=lambda ns: ns + 1
    ),
    "every_row_starts_after_what_released_it": lambda seen: with_columns(
        seen, start_ns=lambda start: np.maximum(start - 1, 0)
    ),
    "the_trace_begins_at_nothing_and_ends_with_a_row": lambda seen: with_columns(
        seen, start_ns=lambda start: start + 1
    ),
    "tokens_routed_are_tokens_computed": lambda seen: with_run(seen, tokens_computed=seen.run.tokens_computed - 1),
    "bytes_sent_are_bytes_received": lambda seen: with_run(seen, bytes_received=seen.run.bytes_received - 256),
    "links_carry_the_bytes_of_all_transfers": lambda seen: with_links(seen, num_bytes=0.99),
    "no_link_is_over_its_capacity": lambda seen: with_links(seen, utilisation=1.01),
    "both_accounts_sum_to_the_step_time": lambda seen: with_columns(
        seen, base_ns=lambda ns: ns - 10**9, latency_ns=lambda ns: ns + 10**9
    ),
    "the_path_runs_from_the_last_end_to_the_first_start": lambda seen: with_columns(
        seen, released_by=lambda row: np.full_like(row, -1)
    ),
    "nothing_is_faster_than_the_bounds": lambda seen: with_columns(
        seen, start_ns=lambda ns: ns // 1000, end_ns=lambda ns: ns // 1000
    ),
    "executed_flops_fit_into_the_step": lambda seen: with_columns(seen, flops=lambda flops: flops * 0.5),
}


@pytest.mark.parametrize("name", CERTIFICATES)
def test_every_certificate_refuses_a_forged_trace(name):
    honest = observe(spanning_work())
    CERTIFICATES[name](honest)
    with pytest.raises(AssertionError):
        CERTIFICATES[name](FORGERIES[name](honest))
