"""Placements: the published plan, certificates on every one of them, and the bound that none undercuts."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.sparse import csr_array

from sim.errors import InvalidValueError
from workloads.placement import (
    PLACEMENTS,
    PlacementKind,
    PlacementRequest,
    PlacementRule,
    place_experts,
    split_over_replicas,
)
from workloads.placement.bound import min_busiest_loads
from workloads.placement.eplb import eplb, pack

ROOT = Path(__file__).parent.parent.parent
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


def solve_linear_programme(loads: np.ndarray, *, num_slots: int, num_ranks: int) -> float:
    """Return the minimum of the linear programme of `workloads.placement.bound` as it stands, solved by scipy.

    The variables are x[e, n] for each expert e and number of replicas n, and then z.
    """
    num_experts, max_replicas = loads.size, num_slots - loads.size + 1
    replicas = np.tile(np.arange(1, max_replicas + 1), num_experts)
    expert = np.repeat(np.arange(num_experts), max_replicas)
    variable = np.arange(replicas.size)
    upper = csr_array(
        (
            np.concatenate([loads[expert] / replicas, -np.ones(num_experts), replicas]),
            (
                np.concatenate([expert, np.arange(num_experts), np.full(replicas.size, num_experts)]),
                np.concatenate([variable, np.full(num_experts, replicas.size), variable]),
            ),
        ),
        shape=(num_experts + 1, replicas.size + 1),
    )
    whole = csr_array((np.ones(replicas.size), (expert, variable)), shape=(num_experts, replicas.size + 1))
    solution = linprog(
        np.append(np.zeros(replicas.size), 1.0),
        A_ub=upper,
        b_ub=np.append(np.zeros(num_experts), num_slots),
        A_eq=whole,
        b_eq=np.ones(num_experts),
        bounds=[(0, None)] * replicas.size + [(float(loads.sum()) / num_ranks, None)],
        method="highs",
    )
    return float(solution.fun)


def bound_of(loads: np.ndarray, *, num_slots: int, num_ranks: int) -> float:
    """Return the bound on the busiest rank of one row of loads."""
    return float(min_busiest_loads(loads[None], num_slots=num_slots, num_ranks=num_ranks)[0])


@pytest.mark.parametrize(("loads", "slots"), PUBLISHED, ids=["layer 0", "layer 1"])
def test_eplb_gives_the_published_plan(loads, slots):
    found = eplb(np.array(loads, dtype=float), num_slots=16, num_groups=4, num_nodes=2, num_gpus=8)
    assert found.ravel().tolist() == slots


@pytest.mark.parametrize("kind", PLACEMENTS)
@given(data=st.data())
def test_no_placement_loses_or_doubles_an_expert(kind, data):
    """Every expert has a slot, and with no replicas exactly one."""
    num_ranks = data.draw(st.integers(1, 8))
    num_experts, replicas = num_ranks * data.draw(st.integers(1, 8)), 0
    if PLACEMENTS[kind].uses("replicas") and not PLACEMENTS[kind].is_given:
        num_experts += data.draw(st.integers(0, num_ranks - 1))
        replicas = -num_experts % num_ranks + num_ranks * data.draw(st.integers(0, 2))
    loads = np.array(data.draw(st.lists(st.integers(0, 1000), min_size=num_experts, max_size=num_experts)), dtype=float)
    rule = PlacementRule(kind=kind, replicas=replicas) if replicas else rule_of(kind, num_experts, num_ranks)
    slots = place_experts(
        PlacementRequest(rule=rule, num_experts=num_experts, num_ranks=num_ranks, layer=3, loads=loads)
    )
    assert slots.shape == (num_ranks, (num_experts + replicas) // num_ranks)
    copies = np.bincount(slots.ravel(), minlength=num_experts)
    assert (copies >= 1).all()
    assert copies.sum() == num_experts + replicas


def thousand_loads(num_experts):
    """Return loads of experts, each of a spread of its own."""
    rng = np.random.default_rng(5)
    return [rng.lognormal(sigma=rng.uniform(0, 2), size=num_experts) for _ in range(1000)]


def test_no_placement_is_below_the_bound_on_a_thousand_random_loads():
    """Loads of every spread. Greedy has no replicas: its bound is that of as many slots."""
    num_ranks, num_experts, replicas = 8, 16, 8
    for loads in thousand_loads(num_experts):
        bound = bound_of(loads, num_slots=num_experts + replicas, num_ranks=num_ranks)
        plain = bound_of(loads, num_slots=num_experts, num_ranks=num_ranks)
        for kind in PLACEMENTS:
            rule = rule_of(kind, num_experts, num_ranks, replicas)
            slots = place_experts(
                PlacementRequest(rule=rule, num_experts=num_experts, num_ranks=num_ranks, loads=loads)
            )
            assert busiest(loads, slots) >= (bound if kind == "eplb" else plain) * (1 - 1e-12), kind


@pytest.mark.parametrize(
    ("num_experts", "num_ranks", "replicas", "better", "above"), [(16, 8, 8, 945, 0.0507), (64, 16, 16, 981, 0.0123)]
)
def test_eplb_is_as_good_as_the_document_says(num_experts, num_ranks, replicas, better, above):
    """How often replicas beat greedy, and how far above the bound the busiest rank is in the median."""
    found, gaps = 0, []
    shape = {"num_experts": num_experts, "num_ranks": num_ranks}
    for loads in thousand_loads(num_experts):
        eplb_, greedy = (
            busiest(
                loads,
                place_experts(
                    PlacementRequest(rule=rule_of(kind, num_experts, num_ranks, replicas), loads=loads, **shape)
                ),
            )
            for kind in ("eplb", "greedy")
        )
        found += eplb_ < greedy
        gaps.append(eplb_ / bound_of(loads, num_slots=num_experts + replicas, num_ranks=num_ranks) - 1)
    assert found == better
    assert np.median(gaps) == pytest.approx(above, abs=5e-5)
    said = (ROOT / "docs" / "routing.md").read_text(encoding="utf-8")
    assert f"{better / 10:.1f} %" in said
    assert f"{above:.1%}".replace("%", " %") in said


@given(
    loads=st.lists(st.integers(0, 10**6), min_size=1, max_size=24).map(lambda tokens: np.array(tokens, dtype=float)),
    num_ranks=st.integers(1, 24),
    more=st.lists(st.integers(0, 48), min_size=2, max_size=6),
)
def test_more_replicas_never_raise_the_bound(loads, num_ranks, more):
    """From none to several for each expert and rank; it never falls below what no number of them can undercut."""
    slots = [loads.size + each for each in sorted({0, *more})]
    bounds = [bound_of(loads, num_slots=each, num_ranks=num_ranks) for each in slots]
    assert all(later <= former * (1 + 1e-12) for former, later in pairwise(bounds))
    assert bounds[-1] >= loads.sum() / num_ranks * (1 - 1e-12)


@given(data=st.data())
def test_the_bound_is_what_the_linear_programme_finds(data):
    """To scipy's tolerance; more experts than ranks that do not divide are where slots alone decide."""
    num_ranks, num_experts = data.draw(st.integers(1, 24)), data.draw(st.integers(1, 24))
    num_slots = num_experts + data.draw(st.integers(0, 24))
    loads = np.array(data.draw(st.lists(st.integers(0, 1000), min_size=num_experts, max_size=num_experts)), dtype=float)
    found = bound_of(loads, num_slots=num_slots, num_ranks=num_ranks)
    solved = solve_linear_programme(loads, num_slots=num_slots, num_ranks=num_ranks)
    assert found == pytest.approx(solved, rel=1e-6, abs=1e-6)


def test_the_linear_programme_gives_the_hot_expert_three_replicas():
    """Of 9 + 3 tokens on 6 ranks with 6 slots: 3 on each replica of the hot expert."""
    loads = np.array([9.0, 1.0, 1.0, 1.0])
    assert solve_linear_programme(loads, num_slots=6, num_ranks=6) == pytest.approx(3.0, abs=1e-9)


def test_slots_can_bind_the_bound():
    """Two experts of 9 and 5 slots for 4 experts: half of one and all of the other, or z = 6.75 in parts of plans.

    At z = 6.75 each of the two has 1 + 1/2 slots: 2 n + 1 - n (n + 1) z / 9 with n = 1 is 3 - 2 * 6.75 / 9 = 1.5.
    """
    assert bound_of(np.array([9.0, 9.0, 1.0, 1.0]), num_slots=5, num_ranks=5) == pytest.approx(6.75, rel=1e-15)


def test_rows_are_bounded_each_on_its_own():
    """In the last, 6 slots are half a second one for each of four: 1.5 = 3 - 2 z / 3."""
    loads = np.array([[9.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0], [3.0, 3.0, 3.0, 3.0]])
    assert min_busiest_loads(loads, num_slots=6, num_ranks=6).tolist() == [3.0, 0.0, 2.25]


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
    with pytest.raises(InvalidValueError, match="each once"):
        place_experts(
            PlacementRequest(rule=PlacementRule(kind="explicit", experts=((0, 1), (1, 2))), num_experts=4, num_ranks=2)
        )


def test_a_plan_by_hand_may_be_another_in_each_layer():
    """Lists of the first layer with experts, then of the next; one plan is that of all layers."""
    plans = (((0, 1), (2, 3)), ((0, 2), (1, 3)))
    for experts, nth, expected in [(plans[0] + plans[1], 1, plans[1]), (plans[1], 1, plans[1])]:
        rule = PlacementRule(kind="explicit", experts=experts)
        slots = place_experts(
            PlacementRequest(rule=rule, num_experts=4, num_ranks=2, expert_layer=nth, num_expert_layers=2)
        )
        np.testing.assert_array_equal(slots, expected)
    for bad, layers in [(plans[0] + plans[1], 3), (plans[0] + ((0, 2), (1, 2)), 2), (plans[0][:1], 2)]:
        with pytest.raises(InvalidValueError, match=f"in all layers or for each of the {layers} with experts, got"):
            place_experts(
                PlacementRequest(
                    rule=PlacementRule(kind="explicit", experts=bad),
                    num_experts=4,
                    num_ranks=2,
                    num_expert_layers=layers,
                )
            )


def test_replicas_must_fill_all_ranks_alike():
    with pytest.raises(InvalidValueError, match="equally many slots"):
        place_experts(PlacementRequest(rule=PlacementRule(kind="eplb", replicas=3), num_experts=4, num_ranks=2))


@pytest.mark.parametrize("groups", [3, 5, 8])
def test_groups_that_do_not_fit_nodes_and_experts_are_refused(groups):
    """The published code plans without groups then, which nobody would notice: 12 experts on 2 nodes."""
    rule = PlacementRule(kind="eplb", groups=groups)
    with pytest.raises(
        InvalidValueError, match=f"groups must divide 12 experts and be a multiple of the 2 .* got {groups}. "
    ):
        place_experts(PlacementRequest(rule=rule, num_experts=12, num_ranks=4, num_nodes=2))
    for fits in (1, 2, 6):
        place_experts(
            PlacementRequest(rule=PlacementRule(kind="eplb", groups=fits), num_experts=12, num_ranks=4, num_nodes=2)
        )


def test_an_unknown_placement_is_refused():
    with pytest.raises(InvalidValueError, match=r"placement\.kind must be one of contiguous"):
        place_experts(PlacementRequest(rule=PlacementRule(kind="best"), num_experts=4, num_ranks=2))


def test_a_placement_entered_in_the_dict_alone_places_experts(monkeypatch):
    """A toy that places the experts in reverse order."""

    def reverse(request):
        return np.arange(request.num_experts)[::-1].reshape(request.num_ranks, -1)

    monkeypatch.setitem(PLACEMENTS, "reverse", PlacementKind(summary="toy", place=reverse))
    slots = place_experts(PlacementRequest(rule=PlacementRule(kind="reverse"), num_experts=4, num_ranks=2))
    assert slots.tolist() == [[3, 2], [1, 0]]


@pytest.mark.parametrize("kind", PLACEMENTS)
def test_a_placement_says_what_it_is(kind):
    """It requires only settings that it uses; a planned placement uses the window of loads that it is planned from."""
    placement = PLACEMENTS[kind]
    assert placement.summary
    assert set(placement.required_settings) <= set(placement.settings)
    assert placement.is_planned == placement.uses("window")
    slots = place_experts(PlacementRequest(rule=rule_of(kind, 8, 4), num_experts=8, num_ranks=4))
    assert placement.is_contiguous <= (slots.ravel().tolist() == list(range(8)))
