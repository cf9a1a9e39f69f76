"""Meshes: groups partition ranks, lanes are connected components, and what is illegal names the product that fails."""

import itertools
import math
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sim.errors import InvalidValueError
from workloads.conventions import CONVENTIONS, MEGATRON
from workloads.mesh import DEFAULT_RANK_ORDER, Mesh, build_mesh
from workloads.strategy import Strategy

EVERY_CONVENTION = pytest.mark.parametrize("convention", CONVENTIONS)
SMALL = st.sampled_from([1, 2, 3, 4, 6])
_KEPT = tuple(axis for axis in DEFAULT_RANK_ORDER if axis != "pp")
RANK_ORDERS = [(*_KEPT[:place], "pp", *_KEPT[place:]) for place in range(5)]
DOCUMENT = Strategy.parse("EP64_TP16_PP4")


@st.composite
def legal_meshes(draw: st.DrawFn, convention: str) -> Mesh:
    tp, pp, dp = draw(SMALL), draw(SMALL), draw(SMALL)
    cp = draw(SMALL) if convention == "megatron" else 1
    folded = draw(st.sampled_from([n for n in range(1, tp * cp * dp + 1) if tp * cp * dp % n == 0]))
    etp = draw(st.sampled_from([n for n in range(1, folded + 1) if folded % n == 0])) if convention == "megatron" else 1
    ep = {"megatron": folded // etp, "vllm": tp * dp, "spanning": tp * pp * dp}[convention]
    strategy = Strategy(tp=tp, pp=pp, ep=ep, etp=etp, cp=cp, dp=draw(st.sampled_from([None, dp])))
    order = draw(st.sampled_from(RANK_ORDERS))
    return build_mesh(strategy, convention, num_gpus=tp * pp * dp * cp, rank_order=order)


any_strategies = st.builds(
    Strategy,
    tp=SMALL,
    pp=SMALL,
    ep=st.sampled_from([1, 2, 3, 4, 6, 8, 12, 24]),
    dp=st.none() | SMALL,
    cp=st.sampled_from([1, 1, 2]),
    etp=st.sampled_from([1, 1, 2]),
    sp=st.sampled_from([None, True, False]),
)


def assert_partition(groups: np.ndarray, ranks: np.ndarray) -> None:
    assert sorted(groups.ravel().tolist()) == sorted(ranks.ravel().tolist())


# --- groups --------------------------------------------------------------------------------------------------------


@EVERY_CONVENTION
@given(data=st.data())
def test_stages_partition_the_ranks(convention, data):
    mesh = data.draw(legal_meshes(convention))
    stages = np.concatenate([mesh.stage_ranks(stage) for stage in range(mesh.num_stages)])
    assert_partition(stages, np.arange(mesh.world))


@EVERY_CONVENTION
@given(data=st.data())
def test_groups_of_a_stage_partition_it_and_have_the_size_of_their_axis(convention, data):
    mesh = data.draw(legal_meshes(convention))
    s = mesh.strategy
    for stage in range(s.pp):
        ranks = mesh.stage_ranks(stage)
        assert mesh.tp_groups(stage).shape == (ranks.size // s.tp, s.tp)
        assert mesh.dp_groups(stage).shape == (s.tp, mesh.dp * s.cp)
        assert mesh.ep_groups(stage).shape[1] == s.ep
        assert mesh.lanes(stage).shape == (mesh.num_lanes, mesh.lane_size)
        assert_partition(mesh.ep_groups(stage), np.arange(mesh.world) if convention == "spanning" else ranks)
        assert mesh.cp_groups(stage).shape[1] == s.cp
        assert mesh.etp_groups(stage).shape[1] == s.etp
        for groups in (mesh.tp_groups(stage), mesh.cp_groups(stage), mesh.dp_groups(stage), mesh.lanes(stage)):
            assert_partition(groups, ranks)
        for groups in (mesh.etp_groups(stage), mesh.expert_dp_groups(stage)):
            assert_partition(groups, ranks)


@EVERY_CONVENTION
@given(data=st.data())
def test_each_dense_shard_is_held_once_per_replica(convention, data):
    """A TP group holds every shard once; a DP group holds one shard in every replica."""
    mesh = data.draw(legal_meshes(convention))
    for stage in range(mesh.num_stages):
        shard_of = {int(rank): shard for group in mesh.tp_groups(stage) for shard, rank in enumerate(group)}
        for shard, group in enumerate(mesh.dp_groups(stage)):
            assert {shard_of[int(rank)] for rank in group} == {shard}


@EVERY_CONVENTION
@given(data=st.data())
def test_a_stage_reaches_every_expert_once_per_copy(convention, data):
    """Rank j of an EP group holds the j-th share of the experts, of which ETP ranks have a slice each.

    Ranks with equal slices of equal shares are an expert-DP group.
    """
    mesh = data.draw(legal_meshes(convention))
    for stage in range(mesh.num_stages):
        copies = mesh.expert_dp_groups(stage)
        if convention == "spanning":
            assert copies.shape == (mesh.stage_ranks(stage).size, 1)
            continue
        ep, etp = mesh.strategy.ep, mesh.strategy.etp
        share = {int(rank): nth for group in mesh.ep_groups(stage) for nth, rank in enumerate(group)}
        part = {int(rank): nth for group in mesh.etp_groups(stage) for nth, rank in enumerate(group)}
        assert copies.shape == (ep * etp, mesh.stage_ranks(stage).size // (ep * etp))
        held = [{(share[rank], part[rank]) for rank in group} for group in copies.tolist()]
        assert held == [{pair} for pair in itertools.product(range(ep), range(etp))]


@EVERY_CONVENTION
@given(data=st.data())
def test_a_lane_is_a_connected_component_of_the_groups_that_meet_in_every_layer(convention, data):
    """TP, CP, ETP and EP; under `spanning` the exchange with experts is one-sided and ties no ranks."""
    mesh = data.draw(legal_meshes(convention))
    for stage in range(mesh.num_stages):
        together = [*mesh.tp_groups(stage), *mesh.cp_groups(stage), *mesh.etp_groups(stage)]
        together += [] if convention == "spanning" else [*mesh.ep_groups(stage)]
        graph = nx.Graph()
        for group in together:
            nx.add_path(graph, group.tolist())
        components = {frozenset(component) for component in nx.connected_components(graph)}
        assert {frozenset(lane.tolist()) for lane in mesh.lanes(stage)} == components


def _each_lane(groups_of, groups_of_lane, mesh):
    """Return the groups of a stage, and those of its lanes, in order."""
    return groups_of(1).tolist(), [row for lane in range(mesh.num_lanes) for row in groups_of_lane(1, lane).tolist()]


@given(data=st.data())
def test_the_groups_of_cp_and_etp_of_all_lanes_are_those_of_the_stage(data):
    mesh = data.draw(legal_meshes("megatron"))
    assume(mesh.num_stages > 1)
    for groups in ((mesh.cp_groups, mesh.cp_groups_of_lane), (mesh.etp_groups, mesh.etp_groups_of_lane)):
        of_stage, of_lanes = _each_lane(*groups, mesh)
        assert of_stage == of_lanes


FOLDED = {
    "tp": [
        [0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15],
        [16, 17, 18, 19], [20, 21, 22, 23], [24, 25, 26, 27], [28, 29, 30, 31],
        [32, 33, 34, 35], [36, 37, 38, 39], [40, 41, 42, 43], [44, 45, 46, 47],
        [48, 49, 50, 51], [52, 53, 54, 55], [56, 57, 58, 59], [60, 61, 62, 63],
    ],
    "cp": [
        [0, 4], [1, 5], [2, 6], [3, 7], [8, 12], [9, 13], [10, 14], [11, 15],
        [16, 20], [17, 21], [18, 22], [19, 23], [24, 28], [25, 29], [26, 30], [27, 31],
        [32, 36], [33, 37], [34, 38], [35, 39], [40, 44], [41, 45], [42, 46], [43, 47],
        [48, 52], [49, 53], [50, 54], [51, 55], [56, 60], [57, 61], [58, 62], [59, 63],
    ],
    "dp": [
        [0, 4, 8, 12, 16, 20, 24, 28], [1, 5, 9, 13, 17, 21, 25, 29],
        [2, 6, 10, 14, 18, 22, 26, 30], [3, 7, 11, 15, 19, 23, 27, 31],
        [32, 36, 40, 44, 48, 52, 56, 60], [33, 37, 41, 45, 49, 53, 57, 61],
        [34, 38, 42, 46, 50, 54, 58, 62], [35, 39, 43, 47, 51, 55, 59, 63],
    ],
    "etp": [
        [0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11], [12, 13], [14, 15],
        [16, 17], [18, 19], [20, 21], [22, 23], [24, 25], [26, 27], [28, 29], [30, 31],
        [32, 33], [34, 35], [36, 37], [38, 39], [40, 41], [42, 43], [44, 45], [46, 47],
        [48, 49], [50, 51], [52, 53], [54, 55], [56, 57], [58, 59], [60, 61], [62, 63],
    ],
    "ep": [
        [0, 2, 4, 6, 8, 10, 12, 14], [1, 3, 5, 7, 9, 11, 13, 15],
        [16, 18, 20, 22, 24, 26, 28, 30], [17, 19, 21, 23, 25, 27, 29, 31],
        [32, 34, 36, 38, 40, 42, 44, 46], [33, 35, 37, 39, 41, 43, 45, 47],
        [48, 50, 52, 54, 56, 58, 60, 62], [49, 51, 53, 55, 57, 59, 61, 63],
    ],
    "edp": [
        [0, 16], [1, 17], [2, 18], [3, 19], [4, 20], [5, 21], [6, 22], [7, 23],
        [8, 24], [9, 25], [10, 26], [11, 27], [12, 28], [13, 29], [14, 30], [15, 31],
        [32, 48], [33, 49], [34, 50], [35, 51], [36, 52], [37, 53], [38, 54], [39, 55],
        [40, 56], [41, 57], [42, 58], [43, 59], [44, 60], [45, 61], [46, 62], [47, 63],
    ],
}  # fmt: skip
"""Groups of 64 ranks under Megatron-LM's order tp-cp-ep-dp-pp, in the order in which it makes them."""


def test_the_folding_of_64_ranks_is_that_of_megatron_rank_by_rank():
    """Attention TP4 CP2 DP4 PP2 and experts ETP2 EP8 EDP2 PP2, written out by hand.

    Megatron-LM's `RankGenerator` numbers attention as tp + 4 cp + 8 dp + 32 pp, experts as etp + 2 ep + 16 edp + 32 pp.
    """
    mesh = build_mesh(Strategy.parse("EP8_TP4_PP2_CP2_ETP2"), "megatron", num_gpus=64)
    groups_of = {
        "tp": mesh.tp_groups,
        "cp": mesh.cp_groups,
        "dp": mesh.dp_groups,
        "etp": mesh.etp_groups,
        "ep": mesh.ep_groups,
        "edp": mesh.expert_dp_groups,
    }
    found = {axis: [row for stage in range(2) for row in groups(stage).tolist()] for axis, groups in groups_of.items()}
    assert found == FOLDED
    assert mesh.ranks.reshape(2, -1).T.tolist() == [[rank, rank + 32] for rank in range(32)]
    assert [mesh.dp, mesh.num_lanes, mesh.lane_size] == [4, 2, 16]


@EVERY_CONVENTION
@given(data=st.data())
def test_a_legal_mesh_uses_every_gpu_it_was_given(convention, data):
    mesh = data.draw(legal_meshes(convention))
    s = mesh.strategy
    assert mesh.world == s.tp * s.cp * s.pp * mesh.dp
    assert s.dp == mesh.dp
    assert mesh.sp is (convention == "megatron" and s.tp > 1)


@pytest.mark.parametrize("rank_order", RANK_ORDERS)
def test_pp_strides_over_the_axes_that_are_faster(rank_order):
    """TP2 CP3 DP4 PP2; EP lies over the others and has no stride of its own."""
    strategy = Strategy.parse("TP2_CP3_DP4_PP2")
    mesh = build_mesh(strategy, "megatron", num_gpus=48, rank_order=rank_order)
    sizes = {"tp": 2, "cp": 3, "ep": 1, "dp": 4, "pp": 2}
    stride = {axis: math.prod(sizes[faster] for faster in rank_order[:i]) for i, axis in enumerate(rank_order)}
    for place in np.ndindex(2, 4, 3, 2):
        coordinates = dict(zip(("pp", "dp", "cp", "tp"), place, strict=True))
        assert mesh.ranks[place] == sum(stride[axis] * coordinate for axis, coordinate in coordinates.items())


def test_with_pp_fastest_neighbouring_ranks_are_neighbouring_stages():
    mesh = build_mesh(Strategy.parse("TP2_PP4"), "megatron", num_gpus=8, rank_order=("pp", "tp", "cp", "ep", "dp"))
    assert [mesh.stage_ranks(stage).tolist() for stage in range(4)] == [[0, 4], [1, 5], [2, 6], [3, 7]]


def test_with_ep_before_pp_and_dp_after_it_a_lane_and_its_next_stages_are_ranks_in_a_row():
    """EP4 and PP2 on 16 GPUs; where EDP = DP that is Megatron-LM's order tp-cp-ep-pp-dp, here with TP4 ETP2 EP2 DP2."""
    order = ("tp", "cp", "ep", "pp", "dp")
    mesh = build_mesh(Strategy.parse("EP4_PP2"), "megatron", num_gpus=16, rank_order=order)
    assert mesh.lanes(0).tolist() == [[0, 1, 2, 3], [8, 9, 10, 11]]
    assert mesh.lanes(1).tolist() == [[4, 5, 6, 7], [12, 13, 14, 15]]
    assert mesh.expert_dp_groups(0).tolist() == [[0, 8], [1, 9], [2, 10], [3, 11]]
    theirs = build_mesh(Strategy.parse("EP2_ETP2_TP4_PP2"), "megatron", num_gpus=16, rank_order=order)
    assert theirs.tp_groups(1).tolist() == [[4, 5, 6, 7], [12, 13, 14, 15]]
    assert theirs.ep_groups(1).tolist() == [[4, 6], [5, 7], [12, 14], [13, 15]]
    assert theirs.dp_groups(1).tolist() == theirs.expert_dp_groups(1).tolist() == [[4, 12], [5, 13], [6, 14], [7, 15]]


@pytest.mark.parametrize("order", [("cp", "tp", "ep", "dp", "pp"), ("tp", "pp"), ("tp", "cp", "ep", "dp", "pp", "pp")])
def test_an_order_of_ranks_without_a_meaning_is_refused(order):
    with pytest.raises(InvalidValueError, match="rank_order must keep tp, cp, ep, dp in this order, with pp anywhere"):
        build_mesh(Strategy.parse("TP2_PP4"), "megatron", num_gpus=8, rank_order=order)


# --- legality ------------------------------------------------------------------------------------------------------


@EVERY_CONVENTION
@given(strategy=any_strategies, num_gpus=st.sampled_from([1, 6, 8, 12, 24, 48, 64]))
def test_a_mesh_is_built_exactly_where_nothing_is_illegal(convention, strategy, num_gpus):
    why = CONVENTIONS[convention].why_illegal(strategy, num_gpus=num_gpus)
    if why is None:
        assert build_mesh(strategy, convention, num_gpus=num_gpus).world <= num_gpus
        return
    with pytest.raises(InvalidValueError) as refusal:
        build_mesh(strategy, convention, num_gpus=num_gpus)
    assert why in str(refusal.value)
    assert refusal.value.field == "parallel.strategy"


@EVERY_CONVENTION
@given(strategy=any_strategies, num_gpus=st.sampled_from([1, 6, 8, 12, 24, 48, 64]))
def test_the_nearest_legal_strategies_are_legal_by_value_and_by_name(convention, strategy, num_gpus):
    for near in CONVENTIONS[convention].nearest_legal(strategy, num_gpus=num_gpus):
        assert CONVENTIONS[convention].why_illegal(near, num_gpus=num_gpus) is None
        assert CONVENTIONS[convention].why_illegal(Strategy.parse(near.name), num_gpus=num_gpus) is None


@EVERY_CONVENTION
@given(data=st.data())
def test_the_nearest_of_a_legal_strategy_is_itself(convention, data):
    mesh = data.draw(legal_meshes(convention))
    named = replace(mesh.strategy, dp=None, sp=None)
    assert CONVENTIONS[convention].nearest_legal(named, num_gpus=mesh.world, count=1) == [named]


@given(strategy=any_strategies, num_gpus=st.sampled_from([8, 24, 48]))
def test_megatrons_rule_is_divisibility_and_sequence_parallelism(strategy, num_gpus):
    """Written anew: DP whole, GPUs used, world % (ETP x EP x PP) = 0, and SP not off where TP meets EP."""
    s = strategy
    dp = s.dp or num_gpus / (s.tp * s.cp * s.pp)
    world = s.tp * s.cp * s.pp * dp
    is_legal = (
        dp == int(dp)
        and num_gpus - 8 < world <= num_gpus
        and world % (s.etp * s.ep * s.pp) == 0
        and not (s.tp > 1 and s.ep > 1 and s.sp is False)
    )
    assert (MEGATRON.why_illegal(s, num_gpus=num_gpus) is None) == is_legal


def test_the_documents_strategy_is_legal_in_the_spanning_reading_alone():
    legal = [name for name, c in CONVENTIONS.items() if c.why_illegal(DOCUMENT, num_gpus=64) is None]
    assert legal == ["spanning"]


def test_the_documents_strategy_needs_256_gpus_under_megatron():
    with pytest.raises(InvalidValueError) as refusal:
        build_mesh(DOCUMENT, "megatron", num_gpus=64)
    message = str(refusal.value)
    assert "ETP x EP x PP = 1 x 64 x 4 = 256 does not divide TP x CP x DP x PP = 64: at least 256 GPUs" in message
    assert "Nearest legal: EP16_TP16_PP4, " in message
    assert MEGATRON.why_illegal(DOCUMENT, num_gpus=256) is None


def test_the_documents_mesh_has_stages_of_16_in_one_lane_each():
    mesh = build_mesh(DOCUMENT, "spanning", num_gpus=64)
    assert [mesh.stage_ranks(stage).tolist() for stage in range(4)] == np.arange(64).reshape(4, 16).tolist()
    assert (mesh.dp, mesh.num_lanes, mesh.lane_size) == (1, 1, 16)


@pytest.mark.parametrize(
    ("name", "convention", "num_gpus", "why"),
    [
        ("TP16", "megatron", 8, "TP x CP x PP = 16 x 1 x 1 = 16 does not divide 8 GPUs"),
        ("TP3", "megatron", 8, "TP x CP x PP = 3 x 1 x 1 = 3 does not divide 8 GPUs"),
        ("TP8_DP4", "megatron", 16, "TP x CP x DP x PP = 8 x 1 x 4 x 1 = 32 is more than 16 GPUs"),
        ("TP8_DP1", "megatron", 16, "TP x CP x DP x PP = 8 leaves 8 of 16 GPUs unused, a node or more"),
        ("EP8_TP3", "vllm", 8, "EP = TP x DP of a stage, so TP3 must divide EP8"),
        ("EP8_TP2_DP2", "vllm", 4, "EP is TP x DP of a stage = 2 x 2 = 4, never over PP, and EP8 is named"),
        ("EP8_TP4_PP4", "spanning", 16, "EP = TP x PP x DP, so TP x PP = 16 must divide EP8"),
        ("EP8_TP2_PP2_DP4", "spanning", 16, "EP spans all GPUs, TP x PP x DP = 2 x 2 x 4 = 16, and EP8 is named"),
        ("EP4_TP2_CP2", "vllm", 8, "CP2 has no place in this reading of EP: leave CP out"),
        ("EP4_TP2_PP2_ETP2", "spanning", 4, "ETP2 has no place in this reading of EP: leave ETP out"),
    ],
)
def test_what_is_illegal_names_the_product_that_fails(name, convention, num_gpus, why):
    assert CONVENTIONS[convention].why_illegal(Strategy.parse(name), num_gpus=num_gpus) == why


@pytest.mark.parametrize(
    ("name", "convention", "num_gpus", "words"),
    [
        ("TP16_DP16_EP16", "megatron", 16, "is TP1_DP16_EP16 under convention vllm. Otherwise DP16 is what is wrong"),
        ("TP8_DP8_EP8", "megatron", 16, "is TP1_DP8_EP8 on 8 GPUs, one replica (cluster.num_nodes: 1), under conv"),
        ("TP8_DP8_EP8", "vllm", 16, "is TP1_DP8_EP8 on 8 GPUs, one replica (cluster.num_nodes: 1), here: attention"),
        ("TP8_DP4_EP8", "vllm", 16, "is TP2_DP4_EP8 on 8 GPUs"),
        ("TP16_DP16_EP16", "vllm", 16, "is TP1_DP16_EP16 here: attention has TP / DP ranks"),
    ],
)
def test_a_mesh_in_sglangs_words_is_named_in_ours(name, convention, num_gpus, words):
    """SGLang's TP counts the GPUs of a replica's stage, of which attention over DP takes parts."""
    assert words in CONVENTIONS[convention].what_was_meant(Strategy.parse(name), num_gpus=num_gpus)


def test_an_unknown_convention_is_refused_with_those_that_are_known():
    with pytest.raises(
        InvalidValueError, match=r"convention must name a known convention, got 'mesh-tf'\. Known: megatron, "
    ):
        build_mesh(Strategy.parse("TP8"), "mesh-tf", num_gpus=8)


@EVERY_CONVENTION
def test_a_convention_is_known_by_its_own_name(convention):
    assert CONVENTIONS[convention].name == convention


@EVERY_CONVENTION
def test_a_rank_holds_experts_of_all_layers_exactly_where_experts_span_stages(convention):
    rules = CONVENTIONS[convention]
    assert list(rules.expert_layers([2, 3], num_layers=4)) == ([0, 1, 2, 3] if rules.experts_span_stages else [2, 3])


@EVERY_CONVENTION
@given(data=st.data())
def test_the_groups_of_all_lanes_are_the_groups_of_the_stage(convention, data):
    mesh = data.draw(legal_meshes(convention))
    for stage in range(mesh.num_stages):
        groups = {tuple(group) for group in mesh.ep_groups(stage).tolist()}
        of_lanes = [mesh.ep_groups_of_lane(stage, lane) for lane in range(mesh.num_lanes)]
        assert {tuple(group) for lane in of_lanes for group in lane.tolist()} == groups


def test_tokens_are_replicated_over_tp_by_vllm_without_data_parallelism_alone():
    meshes = {name: build_mesh(Strategy.parse("EP4_TP4_DP1"), name, num_gpus=4) for name in CONVENTIONS}
    assert [name for name, mesh in meshes.items() if mesh.replicates_tokens_over_tp] == ["vllm"]
    assert not build_mesh(Strategy.parse("EP4_TP2_DP2"), "vllm", num_gpus=4).replicates_tokens_over_tp


def test_a_model_without_experts_takes_megatrons_mesh_or_is_refused():
    dense = {name: rules.for_dense_model() for name, rules in CONVENTIONS.items()}
    assert dense == {"megatron": MEGATRON, "vllm": MEGATRON, "spanning": None}


def test_less_than_a_node_may_stay_unused():
    assert MEGATRON.why_illegal(Strategy.parse("TP3_DP3"), num_gpus=16) is None
    assert build_mesh(Strategy.parse("TP3_DP3"), "megatron", num_gpus=16).world == 9


@pytest.mark.parametrize(
    ("name", "convention", "sp", "is_legal"),
    [
        ("EP4_TP2_DP4", "megatron", False, False),
        ("EP4_TP2_DP4", "megatron", True, True),
        ("EP1_TP2_DP4", "megatron", False, True),
        ("EP4_TP1_DP8", "megatron", False, True),
        ("EP8_TP2_DP4", "vllm", True, False),
        ("EP8_TP2_DP4", "vllm", False, True),
        ("EP8_TP2_PP2_DP2", "spanning", True, True),
        ("EP8_TP2_PP2_DP2", "spanning", False, True),
    ],
)
def test_sequence_parallelism_is_needed_by_megatron_with_tp_and_ep_refused_by_vllm_and_free_in_spanning(
    name, convention, sp, is_legal
):
    strategy = replace(Strategy.parse(name), sp=sp)
    assert (CONVENTIONS[convention].why_illegal(strategy, num_gpus=8) is None) is is_legal
    if not is_legal:
        assert CONVENTIONS[convention].nearest_legal(strategy, num_gpus=8)
