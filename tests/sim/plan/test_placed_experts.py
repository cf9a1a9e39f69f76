"""Skew, capacity and placement in a run: tokens conserved, the hot rank's time derived by hand, properties."""

from dataclasses import replace

import numpy as np
import pytest
from certificates import CERTIFICATES, observe
from works import change, make_model, make_plain_cluster, make_work, route

from sim.engine.simulation import Run, run_plan
from sim.engine.trace import KINDS
from sim.errors import InvalidValueError
from sim.plan.bounds import bounds_of
from sim.plan.costs import Costs
from sim.plan.expert_routing import copies_drawn, loads_before_plan, placed_experts
from sim.plan.pipeline import PipelinePlan
from sim.results.stages import stages_ns
from workloads.collectives.settings import NetworkSettings
from workloads.layers import attention_block, embedding_block, expert_block, head_block, permute, router_block
from workloads.placement import PlacementRequest, PlacementRule, place_experts
from workloads.routing import Skew

MESHES = [
    ("EP16_TP4_PP4", "spanning"),
    ("EP8_TP2_PP2_DP4", "megatron"),
    ("EP8_TP8_PP2", "vllm"),
]
EVERY_MESH = pytest.mark.parametrize(("strategy", "convention"), MESHES)


def make(strategy="EP8_TP2_PP2_DP4", convention="megatron", *, experts=16, **changes):
    """Return a small work of skewed routing."""
    settings = {"routing": "zipf", "skew": Skew(skew=1.0), "microbatches": 2, "sequences": 16}
    return make_work(strategy, convention, model=make_model(experts=experts), **(settings | changes))


def run(work) -> Run:
    """Run a work."""
    return run_plan(PipelinePlan(work))


def copies(work) -> int:
    """Return the copies of tokens of a work."""
    return work.batch_tokens * work.batches * work.model.top_k * work.model.num_moe_layers


@EVERY_MESH
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"capacity_factor": 1.0},
        {"capacity_factor": 1.0, "overflow": "pad"},
        {"capacity_factor": 1.0, "overflow": "reroute"},
        {"placement": PlacementRule(kind="random")},
        {"placement": PlacementRule(kind="greedy", window=2)},
        {"placement": PlacementRule(kind="eplb", replicas=16, window=2), "capacity_factor": 1.5},
    ],
    ids=["dropless", "drop", "pad", "reroute", "random", "greedy", "eplb"],
)
def test_tokens_routed_are_tokens_computed_and_dropped(strategy, convention, changes):
    """Counted apart: at the sources, where they are computed, and where they are dropped."""
    ran = run(make(strategy, convention, **changes))
    assert ran.tokens_routed == copies(make(strategy, convention))
    assert ran.tokens_routed == ran.tokens_computed + ran.tokens_dropped
    is_rerouted = changes.get("overflow") == "reroute"
    assert (ran.tokens_rerouted > 0) == is_rerouted
    if is_rerouted:
        dropping = run(make(strategy, convention, **(changes | {"overflow": "drop"})))
        assert ran.tokens_computed == dropping.tokens_computed + ran.tokens_rerouted
    else:
        assert (ran.tokens_dropped > 0) == (changes.get("capacity_factor") is not None)
    assert (ran.tokens_padded > 0) == (changes.get("overflow") == "pad")


LIMITED = [("EP16_TP4_PP4", "spanning"), ("EP16_TP1_PP1_DP16", "megatron"), ("EP16_TP16_PP1", "vllm")]


@pytest.mark.parametrize("all_to_all", ["direct", "hierarchical"])
@pytest.mark.parametrize(("strategy", "convention"), LIMITED)
def test_a_limit_of_nodes_keeps_the_copies_of_a_token_together(strategy, convention, all_to_all):
    """One of two nodes with top-2: each source has an even number of copies for each node, and none is lost.

    Whatever the all-to-all and the placement, the tokens are the same ones.
    """
    work = make(strategy, convention, max_nodes_per_token=1, all_to_all=all_to_all, sequences=32)
    counts = copies_drawn(work, 0, [0, 1], [0, 1])
    assert (counts.reshape(*counts.shape[:2], 2, -1).sum(axis=3) % 2 == 0).all()
    unlimited = copies_drawn(change(work, max_nodes_per_token=None), 0, [0, 1, 2, 3], range(8))
    assert (unlimited.reshape(-1, 2, 8).sum(axis=2) % 2).any()
    ran = run(work)
    assert ran.tokens_routed == ran.tokens_computed == copies(work)
    scattered = replace(work, placement=PlacementRule(kind="random"))
    np.testing.assert_array_equal(copies_drawn(scattered, 0, [0, 1], [0, 1]), counts)
    assert run(scattered).tokens_computed == copies(work)


def test_bytes_between_ranks_are_the_copies_that_were_drawn():
    """Direct: bytes of a token for each of its copies; by way of nodes a token crosses once, not for each of both."""
    crossed = {}
    for all_to_all in ("direct", "hierarchical"):
        limited = make("EP16_TP1_PP1_DP16", max_nodes_per_token=1, all_to_all=all_to_all, microbatches=1)
        work = replace(limited, cluster=make_plain_cluster(16))
        costs = Costs(work.cluster, dtype="bf16", network=NetworkSettings(all_to_all=all_to_all), is_random=True)
        routed = route(work, costs=costs)
        of_nic = work.cluster.crosses_node[routed.dispatch[0].load.links]
        crossed[all_to_all] = routed.dispatch[0].load.num_bytes[of_nic].sum()
        counts = copies_drawn(work, 0, [0], [0])[0]
    is_other = np.arange(16)[:, None] // 8 != np.arange(16) // 8  # one expert on each rank
    copies_that_cross = counts[is_other].sum()
    token_bytes = work.model.hidden * work.model.dtype_bytes
    hops = crossed["direct"] / (copies_that_cross * token_bytes)  # links of other nodes on a path
    assert hops == pytest.approx(round(hops))
    assert crossed["hierarchical"] == pytest.approx(hops * copies_that_cross / 2 * token_bytes, rel=0.02)


def test_recomputed_passes_drop_nothing_again():
    """They are not counted, as they are not routed again."""
    forward = run(make(capacity_factor=1.0))
    trained = run(make(kind="training", recompute="full", capacity_factor=1.0))
    assert trained.tokens_dropped == forward.tokens_dropped


def test_the_backward_pass_has_the_draw_of_its_forward_pass():
    """A microbatch that is routed again after others, without cached costs, has the same tokens on the same ranks."""
    work = make(kind="training", routing="drift")
    costs = Costs(work.cluster, dtype="bf16", is_random=True)
    first = [route(work, microbatch=m, costs=costs).slot_tokens for m in (0, 1)]
    fresh = Costs(work.cluster, dtype="bf16", is_random=True)
    again = [route(work, microbatch=m, costs=fresh).slot_tokens for m in (1, 0)]
    np.testing.assert_array_equal(first, again[::-1])


@EVERY_MESH
@pytest.mark.parametrize("factor", [8.0, 1e300])
@pytest.mark.parametrize("overflow", ["drop", "reroute"])
def test_infinite_capacity_is_dropless(strategy, convention, overflow, factor):
    """Experts over top-k is enough for all: a token takes an expert once."""
    dropless = run(make(strategy, convention))
    capped = run(make(strategy, convention, capacity_factor=factor, overflow=overflow))
    for name, column in dropless.trace.columns.items():
        np.testing.assert_array_equal(capped.trace.columns[name], column)


@EVERY_MESH
def test_infinite_capacity_padded_drops_nothing_and_has_room_for_every_token_in_every_expert(strategy, convention):
    """With padding each of 16 experts has a row for each token of each source: 8 times the copies of top-2."""
    capped = [run(make(strategy, convention, capacity_factor=f, overflow="pad")) for f in (8.0, 1e300)]
    for ran in capped:
        assert ran.tokens_computed == ran.tokens_routed
        assert ran.tokens_computed + ran.tokens_padded == 8 * copies(make(strategy, convention))
    assert capped[0].trace.step_ns == capped[1].trace.step_ns


@EVERY_MESH
def test_placing_in_order_is_the_contiguous_placement(strategy, convention):
    """By hand, as the rule has it: every row of the trace is the same."""
    work = make(strategy, convention)
    in_order = np.arange(16).reshape(work.mesh.strategy.ep, -1).tolist()
    by_hand = replace(work, placement=PlacementRule(kind="explicit", experts=tuple(tuple(r) for r in in_order)))
    plain, placed = run(work), run(by_hand)
    for name, column in plain.trace.columns.items():
        np.testing.assert_array_equal(placed.trace.columns[name], column)


def test_plans_of_a_random_placement_by_hand_are_that_placement():
    """Layer by layer, of a model whose first layer is dense: every row of the trace is the same."""
    work = make(placement=PlacementRule(kind="random"))
    dense = replace(work.model, dense_layers=1)
    work = replace(work, model=dense)
    plans = [
        place_experts(
            PlacementRequest(rule=work.placement, num_experts=16, num_ranks=8, layer=layer, seed=work.seed)
        ).tolist()
        for layer in range(1, dense.layers)
    ]
    assert any(plan != plans[0] for plan in plans)
    by_hand = PlacementRule(kind="explicit", experts=tuple(tuple(rank) for plan in plans for rank in plan))
    placed, drawn = run(replace(work, placement=by_hand)), run(work)
    for name, column in drawn.trace.columns.items():
        np.testing.assert_array_equal(placed.trace.columns[name], column)


def test_permuting_experts_with_their_placement_changes_nothing():
    """Each slot receives what all sources send to its expert, wherever it stands."""
    work = make("EP8_TP2_PP2_DP4", routing="balanced")
    order = np.random.default_rng(3).permutation(16)
    costs = Costs(work.cluster, dtype="bf16")
    layer = route(work, costs=costs)
    counts = copies_drawn(work, 0, [0], [0])[0]
    by_hand = PlacementRule(kind="explicit", experts=tuple(tuple(r) for r in order.reshape(8, 2).tolist()))
    placed = route(replace(work, placement=by_hand))
    for group in range(layer.slot_tokens.shape[0] // 8):
        mine = slice(group * 8, (group + 1) * 8)
        np.testing.assert_array_equal(layer.slot_tokens[mine].ravel(), counts[mine].sum(axis=0))
        np.testing.assert_array_equal(placed.slot_tokens[mine].ravel(), counts[mine].sum(axis=0)[order])


def test_a_plan_sees_the_loads_before_the_run_and_not_those_of_it():
    """Microbatches -3 and -2 where one lies between: each has a popularity of its own, which the loads follow."""
    skew = Skew(skew=1.0, persistence=0.0)
    work = make(routing="drift", skew=skew, placement=PlacementRule(kind="greedy", window=2, stale=1))
    loads = loads_before_plan(work, 0, 0)
    wanted = place_experts(
        PlacementRequest(rule=PlacementRule(kind="greedy"), num_experts=16, num_ranks=8, loads=loads)
    )
    np.testing.assert_array_equal(placed_experts(work, 0, 0), wanted)
    of_each = {
        start: sum(
            copies_drawn(work, lane, [0], range(start, start + 2)).sum(axis=(0, 1))
            for lane in range(work.mesh.num_lanes)
        )
        for start in (-4, -3, -2)
    }
    assert min(of_each, key=lambda start: np.abs(of_each[start] - loads).sum()) == -3
    np.testing.assert_array_equal(
        copies_drawn(work, 0, [0], [0]), copies_drawn(replace(work, placement=PlacementRule()), 0, [0], [0])
    )


def test_loads_before_the_run_have_the_distribution_of_what_all_sources_send():
    """300 microbatches from one source, and from every source: sums of equal means, within six deviations."""
    work = make(routing="zipf", placement=PlacementRule(kind="greedy", window=300))
    loads = loads_before_plan(work, 0, 0)
    lanes = range(work.mesh.num_lanes)
    sent = sum(copies_drawn(work, lane, [0], range(-300, 0)).sum(axis=(0, 1)) for lane in lanes)
    assert loads.sum() == sent.sum()
    num_tokens = sent.sum() / work.model.top_k
    chance = sent / num_tokens
    assert (np.abs(loads - sent) <= 6 * np.sqrt(2 * num_tokens * chance * (1 - chance))).all()


@pytest.mark.parametrize("routing", ["zipf", "stride"])
def test_a_plan_within_the_run_sees_the_tokens_of_the_run(routing):
    """The second plan of a placement that is renewed every two microbatches sees microbatches 0 and 1 as routed."""
    skew = Skew(skew=1.0) if routing == "zipf" else Skew(stride=1)
    rule = PlacementRule(kind="greedy", window=2, every=2)
    work = make(routing=routing, skew=skew, placement=rule, microbatches=4)
    lanes = range(work.mesh.num_lanes)
    wanted = sum(copies_drawn(work, lane, [0], [0, 1]).sum(axis=(0, 1)) for lane in lanes)
    np.testing.assert_array_equal(loads_before_plan(work, 0, 1), wanted)


def test_a_stale_plan_is_worse_where_popularity_drifts():
    """Busiest over mean rank of EPLB: planned just before the run, and 64 microbatches earlier."""
    skew = Skew(skew=1.0, persistence=0.95)
    found = []
    for stale in (0, 64):
        placement = PlacementRule(kind="eplb", replicas=16, window=2, stale=stale)
        found.append(run(make(routing="drift", skew=skew, placement=placement)).imbalance_max_over_mean)
    unplanned = run(make(routing="drift", skew=skew)).imbalance_max_over_mean
    assert found[0] < found[1]
    assert found[0] < unplanned


def test_replicas_even_out_a_hot_expert():
    """EPLB with a replica for each expert is close to balanced; without, one rank has most of the work."""
    plain, evened = (
        run(make(placement=rule)).imbalance_max_over_mean
        for rule in (PlacementRule(), PlacementRule(kind="eplb", replicas=16))
    )
    assert plain > 2
    assert evened < 1.2


def test_the_hot_ranks_time_is_the_layers_expert_time():
    """One expert that all tokens take, by hand: tokens of the hot rank through the kernels of its expert, to the ns."""
    share = 0.5
    work = make("EP16_TP4_PP4", "spanning", routing="hot_expert", skew=Skew(skew=share, shuffled=False))
    costs = Costs(work.cluster, dtype="bf16", is_random=True)
    routed = route(work, costs=costs)
    hot = int(routed.slot_tokens.max())
    sources = routed.lane_ranks.size * work.owned_tokens
    spread = np.sqrt(sources * share * (1 - share))
    assert abs(hot - share * sources) <= 6 * spread  # binomial
    times = [costs.kernels.kernel_ns(kernel, 1) for kernel in expert_block(work.model.moe_ffn, np.array([[hot]]))]
    service, _ = costs.kernels.service(
        lambda tokens: expert_block(work.model.moe_ffn, tokens), routed.slot_tokens, key="forward"
    )
    assert int(service.max()) == int(np.sum(times))


def test_replicas_must_be_a_multiple_of_the_ranks():
    with pytest.raises(InvalidValueError, match="equally many of 19 slots"):
        make(placement=PlacementRule(kind="eplb", replicas=3))


@EVERY_MESH
def test_a_plan_that_moves_experts_copies_their_weights_once(strategy, convention):
    """By hand: two experts change places between the first and the last rank, in each layer and each expert group."""
    swapped = np.arange(16).reshape(make(strategy, convention).mesh.strategy.ep, -1)
    swapped[0, 0], swapped[-1, -1] = swapped[-1, -1], swapped[0, 0]
    experts = tuple(tuple(rank) for rank in swapped.tolist())
    work = make(strategy, convention, placement=PlacementRule(kind="explicit", experts=experts))
    still, moved = (run(replace(work, placement=replace(work.placement, moves=moves))) for moves in (False, True))
    model, mesh = work.model, work.mesh
    num_groups = sum(
        (1 if convention == "spanning" else mesh.num_lanes * mesh.lane_size // mesh.strategy.ep)
        * sum(model.is_moe_layer(layer) for layer in work.layers_of(stage))
        for stage in range(mesh.num_stages)
    )  # fmt: skip
    copied = num_groups * 2 * model.num_expert_params * model.dtype_bytes
    assert moved.bytes_sent - still.bytes_sent == pytest.approx(copied)
    assert moved.trace.step_ns > still.trace.step_ns


def test_a_placement_that_moves_nothing_costs_nothing():
    in_order = tuple(tuple(rank) for rank in np.arange(16).reshape(8, 2).tolist())
    still, moved = (
        run(make(placement=PlacementRule(kind="explicit", experts=in_order, moves=moves))) for moves in (False, True)
    )
    assert still.trace.step_ns == moved.trace.step_ns


# --- derived by hand ------------------------------------------------------------------------------------------------


def fixed_loads(*layers):
    """Return a recording in which tokens of a layer choose just these experts: no draw is left to chance."""
    loads = np.zeros((1, len(layers), 16))
    for layer, experts in enumerate(layers):
        loads[0, layer, list(experts)] = 1.0
    return Skew(loads=loads)


def test_the_step_is_that_of_the_hot_rank_to_the_nanosecond():
    """All tokens of 8 ranks choose both experts of rank 0, so that it computes T top_k R copies and the others none.

    The step is the sum of its ops, one after another: kernels at the slowest rank, transfers at latency and drain time.
    """
    model = make_model(experts=16, layers=1)
    settings = {"num_gpus": 8, "model": model, "microbatches": 1, "sequences": 8}
    work = make_work("EP8_TP1_PP1_DP8", "megatron", routing="trace", skew=fixed_loads((0, 1)), **settings)
    costs = Costs(work.cluster, dtype="bf16", is_random=True)
    tokens, device = work.tokens, work.cluster.device
    copies = np.array([[8 * tokens, 8 * tokens]])
    kernels = [
        *embedding_block(model, tokens),
        *attention_block(model.attention, tokens, work.sequence_length, tp=1, norm_tokens=tokens),
        *router_block(model.moe_ffn, tokens),
        permute(model, float(2 * tokens)),
        *expert_block(model.moe_ffn, copies),
        permute(model, float(2 * tokens)),
        *head_block(model, work.head_tokens, tp=1),
    ]
    compute_ns = sum(int(costs.kernels.kernel_ns(kernel, 1).max()) for kernel in kernels)
    matrix = np.zeros((8, 8))
    matrix[:, 0] = 2 * tokens * model.hidden * model.dtype_bytes
    ranks = work.mesh.lanes(0)[0]
    trips = costs.exchanges.round_trip(ranks, ranks, matrix, group=0)
    trace = run(work).trace
    assert trace.step_ns == compute_ns + sum(trip.latency_ns + trip.alone_ns for trip in trips)
    up, down = (int(device.grouped_gemm_time_s(copies, n, k, dtype="bf16")[0] * 1e9) for n, k in shapes_of(model))
    experts = trace.columns["kind"] == KINDS.index("expert")
    spent = (trace.columns["end_ns"] - trace.columns["start_ns"])[experts & (trace.columns["flops"] > 0)]
    assert sorted(spent.tolist()) == pytest.approx(sorted([up, down]), abs=1)


def shapes_of(model):
    """Return columns and inner dim of both products of an expert."""
    return ((2 if model.gated else 1) * model.ffn, model.hidden), (model.hidden, model.ffn)


def test_skew_in_one_stage_idles_the_others_as_derived():
    """Two stages on a node each, hot rank on the first: T = M F0 + p + F1, idle T - M F of each stage.

    F of a stage is what it takes for one microbatch alone, p what the activations need between two nodes.
    """
    model = make_model(experts=16, layers=2)
    settings = {"num_gpus": 16, "model": model, "routing": "trace", "skew": fixed_loads((0, 1), (0, 8))}
    works = [
        make_work("EP8_TP1_PP2_DP8", "megatron", microbatches=m, sequences=8 * m, **settings) for m in (1, 6)
    ]  # fmt: skip
    alone, several = (run(work).trace for work in works)
    passes = [alone.rows("pass", stage=stage, lane=0)[0] for stage in (0, 1)]
    first, second = ((alone.ints("start_ns")[row], alone.ints("end_ns")[row]) for row in passes)
    took, sent_ns = [int(first[1] - first[0]), int(second[1] - second[0])], int(second[0] - first[1])
    assert took[0] > took[1]
    assert several.step_ns == pytest.approx(6 * took[0] + sent_ns + took[1], abs=6)  # completions are rounded up
    for account, pass_ns in zip(stages_ns(several), took, strict=True):
        assert account["idle"] == pytest.approx(several.step_ns - 6 * pass_ns, abs=6)
        assert account["stalled"] == 0


# --- bounds ---------------------------------------------------------------------------------------------------------


@EVERY_MESH
@pytest.mark.parametrize("overflow", ["drop", "pad", "reroute"])
def test_nothing_is_faster_than_the_bounds_whatever_is_dropped(strategy, convention, overflow):
    """FLOPs that ran are at least those of the bound, of whose copies only those count that experts computed."""
    work = make(strategy, convention, capacity_factor=0.3, overflow=overflow)
    seen = observe(work)
    assert seen.run.tokens_dropped > 0.3 * seen.run.tokens_routed
    for name in ("nothing_is_faster_than_the_bounds", "executed_flops_fit_into_the_step"):
        CERTIFICATES[name](seen)
    whole, less = bounds_of(work), bounds_of(work, num_dropped=seen.run.tokens_dropped)
    peak = work.cluster.device.peak_flops_per_s("bf16") * work.mesh.world
    saved = 2.0 * work.model.num_expert_params * seen.run.tokens_dropped / work.batches
    assert whole.compute_s - less.compute_s == pytest.approx(saved / peak)


@pytest.mark.parametrize(
    ("changes", "per_token"),
    [
        ({"routing": "multinomial", "skew": Skew()}, 2 * (1 - 0.5**2) / 2),
        ({"routing": "multinomial", "skew": Skew(), "max_nodes_per_token": 1}, 1 / 2),
        ({}, 1 / 2),
        ({"routing": "trace", "skew": Skew(loads=np.eye(16)[None, :2].sum(axis=1, keepdims=True))}, 1 / 2),
    ],
    ids=["even", "limited", "zipf", "two_experts"],
)
def test_the_bound_of_wires_is_what_must_leave_a_node(changes, per_token):
    """Two nodes: half of the tokens for those on one node, 3 / 4 where two choices are independent; and it is no more.

    By way of nodes a token crosses once, and less is not possible: what crossed in the run, there and back.
    """
    work = make("EP16_TP1_PP1_DP16", microbatches=1, all_to_all="hierarchical", **changes)
    plain = replace(work, cluster=make_plain_cluster(16))
    model, nodes = plain.model, 2
    must = 2 * model.num_moe_layers * plain.batch_tokens * per_token * model.hidden * model.dtype_bytes
    exits = plain.cluster.exit_bytes_per_s * 8 * nodes
    assert bounds_of(plain).wires_s == pytest.approx(must / exits)
    use = run(plain).trace.link_use
    nic = sum(b for b, kind in zip(use.num_bytes, use.link_kinds, strict=True) if kind == "nic")
    crossed = nic / 2  # out of one node's and into the other's
    assert crossed >= must * (1 - 1e-9)
    if changes.get("max_nodes_per_token") or changes.get("routing") == "trace":  # each token is on one node
        assert crossed == pytest.approx(must)
