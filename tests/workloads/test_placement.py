"""Placements: the published plan, certificates on every one of them, and the bound that none undercuts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.errors import WorkloadError
from workloads.placement import PLACEMENTS, PlacementRule, place_experts, split_over_replicas
from workloads.placement.bound import least_busiest_load
from workloads.placement.eplb import eplb
from workloads.placement.packing import pack

# deepseek-ai/EPLB, README: two layers of 12 experts in 4 groups, 16 slots on 2 nodes of 4 GPUs, and its plan.
PUBLISHED = [
    ([90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86], [5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1]),
    ([20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27], [7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1]),
]


def rule_of(kind: str, num_experts: int, num_ranks: int, replicas: int = 0) -> PlacementRule:
    """Return a rule that has what its kind needs."""
    given_by_hand = np.arange(num_experts)[::-1].reshape(num_ranks, -1).tolist()
    experts = tuple(tuple(rank) for rank in given_by_hand) if kind == "explicit" else ()
    return PlacementRule(kind=kind, replicas=replicas if kind == "eplb" else 0, experts=experts)


def busiest(loads: np.ndarray, slots: np.ndarray) -> float:
    """Return the load of the busiest rank."""
    return float((loads / np.bincount(slots.ravel(), minlength=loads.size))[slots].sum(axis=1).max())


@pytest.mark.parametrize(("loads", "slots"), PUBLISHED, ids=["layer 0", "layer 1"])
def test_eplb_gives_the_published_plan(loads, slots):
    found = eplb(np.array(loads, dtype=float), num_slots=16, num_groups=4, num_nodes=2, num_gpus=8)
    assert found.ravel().tolist() == slots


@pytest.mark.parametrize("kind", PLACEMENTS)
@given(data=st.data())
def test_no_placement_loses_or_doubles_an_expert(kind, data):
    """Every expert has a slot, and with no replicas exactly one."""
    num_ranks = data.draw(st.integers(1, 8))
    num_experts = num_ranks * data.draw(st.integers(1, 8))
    replicas = num_ranks * data.draw(st.integers(0, 2)) if kind == "eplb" else 0
    loads = np.array(data.draw(st.lists(st.integers(0, 1000), min_size=num_experts, max_size=num_experts)), dtype=float)
    rule = rule_of(kind, num_experts, num_ranks, replicas)
    slots = place_experts(rule, num_experts=num_experts, num_ranks=num_ranks, layer=3, loads=loads)
    assert slots.shape == (num_ranks, (num_experts + replicas) // num_ranks)
    copies = np.bincount(slots.ravel(), minlength=num_experts)
    assert (copies >= 1).all()
    assert copies.sum() == num_experts + replicas


def test_no_placement_is_below_the_bound_on_a_thousand_random_loads():
    """Loads of every spread; scipy's tolerance is 1e-7. Greedy has no replicas: its bound is that of as many slots."""
    pytest.importorskip("scipy")
    rng = np.random.default_rng(5)
    num_ranks, num_experts, replicas = 8, 16, 8
    better = 0
    for _ in range(1000):
        loads = rng.lognormal(sigma=rng.uniform(0, 2), size=num_experts)
        bound = least_busiest_load(loads, num_slots=num_experts + replicas, num_ranks=num_ranks)
        plain = least_busiest_load(loads, num_slots=num_experts, num_ranks=num_ranks)
        assert bound <= plain * (1 + 1e-7)  # more replicas never raise it
        found = {}
        for kind in PLACEMENTS:
            rule = rule_of(kind, num_experts, num_ranks, replicas)
            slots = place_experts(rule, num_experts=num_experts, num_ranks=num_ranks, loads=loads)
            found[kind] = busiest(loads, slots)
            assert found[kind] >= (bound if kind == "eplb" else plain) * (1 - 1e-7), kind
        better += found["eplb"] < found["greedy"]
    assert better > 500  # replicas help more often than not


def test_packs_are_equally_full_and_the_heaviest_comes_first():
    packs, places = pack(np.array([1.0, 8.0, 7.0, 2.0, 3.0, 3.0]), 3)
    assert np.bincount(packs).tolist() == [2, 2, 2]
    assert packs[1] == 0
    assert places[1] == 0


@given(data=st.data())
def test_tokens_are_conserved_over_replicas(data):
    """Each source's tokens for an expert sum to its count, and two replicas differ by one at most."""
    num_experts, num_sources = 4, data.draw(st.integers(1, 5))
    held = [*range(num_experts), *data.draw(st.lists(st.integers(0, 3), min_size=4, max_size=4))]
    slots = np.array(data.draw(st.permutations(held))).reshape(4, 2)
    counts = np.array(
        data.draw(
            st.lists(st.lists(st.integers(0, 50), min_size=4, max_size=4), min_size=num_sources, max_size=num_sources)
        )
    )
    split = split_over_replicas(counts, slots)
    assert split.shape == (num_sources, 4, 2)
    for expert in range(num_experts):
        shares = split[:, slots == expert]
        assert (shares.sum(axis=1) == counts[:, expert]).all()
        assert (np.ptp(shares, axis=1) <= 1).all()


def test_a_placement_by_hand_must_hold_each_expert_once():
    with pytest.raises(WorkloadError, match="each once"):
        place_experts(PlacementRule(kind="explicit", experts=((0, 1), (1, 2))), num_experts=4, num_ranks=2)


def test_replicas_must_fill_all_ranks_alike():
    with pytest.raises(WorkloadError, match="equally many slots"):
        place_experts(PlacementRule(kind="eplb", replicas=3), num_experts=4, num_ranks=2)


def test_an_unknown_placement_is_refused():
    with pytest.raises(WorkloadError, match="placement: kind must be one of contiguous"):
        place_experts(PlacementRule(kind="best"), num_experts=4, num_ranks=2)
