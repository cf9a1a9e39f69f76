"""One expert takes a share s of the tokens: the layer's expert time is its rank's, and the step what a hand derives.

Model
-----
R ranks with T tokens and one expert each, top-1, recorded counts: expert 0 has s T of each source, the others the rest
in equal parts. The device is ideal (P FLOP/s, one SM, no overhead, a memory without end), so that experts are bound by
compute; n tokens through matrices of hidden x ffn and back take 4 hidden ffn n / P.

    experts     4 hidden ffn R s T / P                                      rank 0, on which all others wait
    exchange    latency + (R - 1) s T bytes of a token / bandwidth          into rank 0's link, and out of it again
"""

from dataclasses import replace

import numpy as np
import pytest
from works import make_model, make_plain_cluster, make_work

from sim.engine.simulation import run_plan
from sim.engine.trace import KINDS
from sim.plan.costs import Costs
from sim.plan.pipeline import PipelinePlan
from workloads.layers import attention_block, embedding_block, head_block, permute, router_block
from workloads.routing import Skew

PEAK = 2.0**50
"""FLOP/s: about 1,126 TFLOP/s, so that times of whole tiles are not rounded but to whole nanoseconds."""
HIDDEN, FFN = 256, 512


def hot_work(num_ranks, parts, microbatches=1):
    """Return the work whose expert 0 takes `parts` / R of the tokens, and T."""
    tokens = (num_ranks - 1) * 1024
    others = (num_ranks - parts) * 1024 // num_ranks  # of each source for each
    loads = np.full((1, 1, num_ranks), float(num_ranks * others))
    loads[0, 0, 0] = parts * tokens
    cluster = make_plain_cluster(num_ranks)
    device = replace(
        cluster.device,
        peak_bf16_flops_per_s=PEAK,
        num_sms=1,
        gemm_efficiency=1.0,
        kernel_overhead_s=0.0,
        tile_overhead_s=0.0,
        memory_bandwidth_bytes_per_s=1e21,
        memory_efficiency=1.0,
    )
    work = make_work(
        f"EP{num_ranks}_TP1_PP1_DP{num_ranks}",
        "megatron",
        num_gpus=num_ranks,
        model=make_model(layers=1, experts=num_ranks, top_k=1, hidden=HIDDEN),
        routing="trace",
        skew=Skew(loads=loads),
        sequences=num_ranks * microbatches,
        sequence_length=tokens,
        microbatches=microbatches,
    )
    return replace(work, cluster=replace(cluster, device=device)), tokens


def ceil_ns(time_s):
    """Return whole nanoseconds, rounded up as the clock does."""
    return int(np.ceil(time_s * 1e9 - 1e-6))


def rest_ns(work, tokens):
    """Return the kernels of a microbatch that have nothing to do with the routing."""
    costs, model = Costs(work.cluster, dtype="bf16", is_random=True), work.model
    kernels = [
        *embedding_block(model, tokens),
        *attention_block(model.attention, tokens, work.sequence_length, tp=1, norm_tokens=tokens),
        *router_block(model.moe_ffn, tokens),
        permute(model, float(tokens)),
        permute(model, float(tokens)),
        *head_block(model, work.head_tokens, tp=1),
    ]
    return sum(int(costs.kernels.kernel_ns(kernel, 1).max()) for kernel in kernels)


SHARES = [(ranks, parts) for ranks in (2, 4, 8) for parts in range(1, ranks + 1)]


@pytest.mark.parametrize(("num_ranks", "parts"), SHARES)
def test_the_step_is_the_hot_ranks_to_the_nanosecond(num_ranks, parts):
    """For every share s = parts / R: from all alike to all tokens on one expert."""
    work, tokens = hot_work(num_ranks, parts)
    share = parts / num_ranks
    hot_tokens = num_ranks * share * tokens
    product_ns = ceil_ns(2 * HIDDEN * FFN * hot_tokens / PEAK)
    ranks = np.arange(num_ranks)
    latency_ns = ceil_ns(work.cluster.longest_latency_s(ranks[1:], np.zeros(num_ranks - 1, dtype=np.intp)))
    nvlink = work.cluster.capacity_bytes_per_s[work.cluster.link_kinds.index("nvlink")]
    drain_ns = ceil_ns((num_ranks - 1) * share * tokens * HIDDEN * 2 / nvlink)
    ran = run_plan(PipelinePlan(work))
    activation_ns = 1  # of a memory without end: rounded up
    by_hand = rest_ns(work, tokens) + 2 * product_ns + activation_ns + 2 * (latency_ns + drain_ns)
    assert ran.trace.step_ns == by_hand
    assert ran.imbalance_max_over_mean == pytest.approx(num_ranks * share)
    is_expert = (ran.trace.ints("kind") == KINDS.index("expert")) & (ran.trace["flops"] > 0)
    spent = (ran.trace.ints("end_ns") - ran.trace.ints("start_ns"))[is_expert]
    assert spent.tolist() == [product_ns, product_ns]


@pytest.mark.parametrize("num_ranks", [4, 8])
def test_the_layers_time_grows_with_the_share_alone(num_ranks):
    """Three microbatches in one stage: three times the step of one, and with it the hot rank's time."""
    for parts in (1, num_ranks // 2, num_ranks):
        one, tokens = hot_work(num_ranks, parts)
        several, _ = hot_work(num_ranks, parts, microbatches=3)
        steps = [run_plan(PipelinePlan(work)).trace.step_ns for work in (one, several)]
        assert steps[1] == 3 * steps[0]
        assert tokens == one.owned_tokens
