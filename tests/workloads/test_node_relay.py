"""Tokens by way of nodes: distinct tokens next to draws of real ones, and nothing lost or sent twice on the way."""

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.collectives.node_relay import distinct_tokens, relayed
from workloads.routing import Skew, draw_counts, node_probabilities

SIGMAS = 5
"""Of one count: 3e-7 of the draws are further off, and seeds are fixed."""


def choices(rng, tokens, num_experts, top_k, *, weights=None, groups=1, limit=1):
    """Return which experts each token chooses, as 0 or 1: the `top_k` highest of random scores. Shape [T, E].

    Scores are Gumbel + log(weight), which draws without replacement by weight; of `groups` equal groups of experts
    a token chooses from `limit`, at random.
    """
    scores = rng.gumbel(size=(tokens, num_experts)) + np.log(np.ones(num_experts) if weights is None else weights)
    is_open = rng.random((tokens, groups)).argsort(axis=1) < limit
    scores[~np.repeat(is_open, num_experts // groups, axis=1)] = -np.inf
    chosen = np.zeros((tokens, num_experts), dtype=np.int64)
    np.put_along_axis(chosen, np.argsort(-scores, axis=1)[:, :top_k], 1, axis=1)
    return chosen


def seen_by(chosen, owner):
    """Return how many different tokens go to each owner."""
    return np.array([chosen[:, owner == one].any(axis=1).sum() for one in range(owner.max() + 1)])


# --- next to draws ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_experts", "num_owners", "top_k"), [(256, 32, 8), (256, 4, 8), (64, 8, 6), (64, 64, 6), (16, 2, 8), (8, 4, 3)]
)
def test_tokens_that_choose_alike_go_to_as_many_owners_as_in_a_draw(num_experts, num_owners, top_k):
    """Within the noise of a binomial: of T tokens with p = 1 - C(E - E_j, k) / C(E, k) each."""
    tokens, owner = 20_000, np.repeat(np.arange(num_owners), num_experts // num_owners)
    chosen = choices(np.random.default_rng(1), tokens, num_experts, top_k)
    modelled = distinct_tokens(chosen.sum(axis=0)[None], owner, tokens=tokens, top_k=top_k)[0]
    p = 1 - comb(num_experts - num_experts // num_owners, top_k) / comb(num_experts, top_k)
    noise = SIGMAS * np.sqrt(tokens * p * (1 - p))
    assert (np.abs(modelled - seen_by(chosen, owner)) <= noise + 1).all()
    assert np.abs(modelled - tokens * p).max() <= noise + 1


@pytest.mark.parametrize(("nodes", "limit", "top_k"), [(8, 4, 8), (8, 1, 8), (4, 2, 6), (4, 4, 8)])
def test_tokens_that_keep_to_some_nodes_go_to_as_many_ranks_and_nodes_as_in_a_draw(nodes, limit, top_k):
    """M of N nodes with 32 experts each, 8 ranks a node: p = M / N * (1 - C(E M / N - E_j, k) / C(E M / N, k))."""
    tokens, num_experts = 20_000, 32 * nodes
    chosen = choices(np.random.default_rng(2), tokens, num_experts, top_k, groups=nodes, limit=limit)
    counts, share, group = chosen.sum(axis=0)[None], limit / nodes, np.arange(num_experts) // 32
    for size in (4, 32):
        owner = np.arange(num_experts) // size
        modelled = distinct_tokens(counts, owner, tokens=tokens, top_k=top_k, group=group, max_groups=limit)[0]
        p = share * (1 - comb(32 * limit - size, top_k) / comb(32 * limit, top_k))
        noise = SIGMAS * np.sqrt(tokens * p * (1 - p))
        assert (np.abs(modelled - seen_by(chosen, owner)) <= noise + 1).all()


@pytest.mark.parametrize(("most", "top_k"), [(1, 4), (2, 4), (4, 8)])
def test_favourite_nodes_among_which_tokens_choose_make_few_percent_of_difference(most, top_k):
    """Zipf over 8 nodes of 8 experts, each token drawn alone: ranks of two experts and nodes, 5 % of each, 2 % of all.

    So it is where experts of different nodes are placed on one rank, by what each node's tokens are.
    """
    tokens, shape = 20_000, {"num_experts": 64, "top_k": top_k, "seed": 3, "layers": [0], "microbatches": [0]}
    limit, skew = {"num_nodes": 8, "max_nodes": most}, Skew(skew=0.6)
    chosen = draw_counts("zipf", num_sources=tokens, tokens=1, skew=skew, **shape, **limit)[0, 0]
    counts, group = chosen.sum(axis=0)[None], np.arange(64) // 8
    requested = {"num_experts": 64, "top_k": top_k, "seed": 3, "draws": [(0, 0)], "num_nodes": 8, "max_nodes": most}
    chances = node_probabilities("zipf", skew=skew, **requested)
    for owner, off in ((np.arange(64) // 2, 0.05), (group, 0.05), (np.arange(64) % 8, 0.05)):
        seen = seen_by(chosen, owner)
        modelled = distinct_tokens(
            counts, owner, tokens=tokens, top_k=top_k, group=group, max_groups=most, group_chances=chances[0]
        )[0]
        assert modelled == pytest.approx(seen, rel=off, abs=20)
        assert modelled.sum() == pytest.approx(seen.sum(), rel=0.02)


@pytest.mark.parametrize("spread", [0.5, 1.0, 2.0])
@pytest.mark.parametrize(("num_owners", "top_k"), [(32, 8), (8, 8), (4, 2)])
def test_favourite_experts_make_few_percent_of_difference(spread, num_owners, top_k):
    """Log-normal popularity, up to an expert that nearly all choose: 4 % of an owner's tokens, 1 % of all.

    Tokens are taken to choose an expert independently of what else they chose. What cannot be is never said: fewer
    tokens than the owner's favourite expert has, more than the copies, more than all.
    """
    tokens, owner = 20_000, np.repeat(np.arange(num_owners), 64 // num_owners)
    rng = np.random.default_rng(3)
    chosen = choices(rng, tokens, 64, top_k, weights=np.exp(spread * rng.standard_normal(64)))
    counts, seen = chosen.sum(axis=0), seen_by(chosen, owner)
    modelled = distinct_tokens(counts[None], owner, tokens=tokens, top_k=top_k)[0]
    copies = [counts[owner == one] for one in range(num_owners)]
    assert (modelled >= [part.max() * (1 - 1e-9) for part in copies]).all()
    assert (modelled <= [min(part.sum(), tokens) * (1 + 1e-9) for part in copies]).all()
    assert np.abs(modelled / seen - 1).max() <= 0.04
    assert modelled.sum() == pytest.approx(seen.sum(), rel=0.02)


# --- limits ----------------------------------------------------------------------------------------------------------


def test_where_every_token_chooses_an_expert_its_owner_gets_every_token_once():
    """And where none chooses one of an owner's, it gets none."""
    counts = np.array([[100, 100, 30, 70, 0, 0]])
    modelled = distinct_tokens(counts, np.array([0, 0, 1, 1, 2, 2]), tokens=100, top_k=3)
    assert modelled[0, [0, 2]].tolist() == pytest.approx([100.0, 0.0])


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=20), st.integers(1, 20))
def test_where_each_expert_has_an_owner_copies_are_tokens(counts, top_k):
    """Nothing to be saved: the counts come back."""
    top_k = min(top_k, len(counts) - 1)
    owner = np.arange(len(counts))
    modelled = distinct_tokens(np.array([counts]), owner, tokens=1000, top_k=top_k)[0]
    assert modelled == pytest.approx(counts, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("top_k", [1, 2, 7, 8])
def test_an_owner_that_no_token_can_miss_gets_all(top_k):
    """All experts, or all but fewer than a token chooses."""
    owner = np.zeros(8, dtype=np.intp)
    owner[: min(top_k - 1, 4)] = 1
    counts = np.full((1, 8), 100 * top_k // 8 if top_k == 8 else 100 * top_k / 8)
    assert distinct_tokens(counts, owner, tokens=100, top_k=top_k)[0, 0] == pytest.approx(100.0, rel=1e-6)


def test_no_tokens_go_nowhere():
    """A source without work."""
    assert distinct_tokens(np.zeros((2, 4), np.int64), np.arange(4), tokens=0, top_k=2).tolist() == [[0.0] * 4] * 2


# --- on the way ------------------------------------------------------------------------------------------------------


@st.composite
def relay_cases(draw):
    """Draw nodes of any sizes, some senders among their ranks, and what they have for ranks and nodes."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=5))
    node = np.array(draw(st.permutations(np.repeat(np.arange(len(sizes)), sizes).tolist())), dtype=np.intp)
    place = np.array([(node[:i] == node[i]).sum() for i in range(node.size)], dtype=np.intp)
    senders = np.array(draw(st.lists(st.integers(0, node.size - 1), min_size=1, unique=True)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    to_ranks = rng.integers(0, 50, (senders.size, node.size)).astype(float)
    most = np.stack([to_ranks[:, node == n].max(axis=1) for n in range(len(sizes))], axis=1)
    total = np.stack([to_ranks[:, node == n].sum(axis=1) for n in range(len(sizes))], axis=1)
    return to_ranks, np.floor(rng.uniform(most, total)), node, place, senders


@given(relay_cases())
def test_what_a_sender_has_for_a_node_crosses_to_it_once(case):
    """Between two nodes goes the sum of what the senders of one have for the other, and nothing else."""
    _, to_nodes, node, _, senders = case
    matrix = relayed(*case)
    for a in range(node.max() + 1):
        for b in set(range(node.max() + 1)) - {a}:
            crossed = matrix[np.ix_(node == a, node == b)].sum()
            assert crossed == to_nodes[node[senders] == a, b].sum()


@given(relay_cases())
def test_what_a_sender_has_for_a_rank_arrives_there_once(case):
    """One sender at a time: handed on in the target's node by one rank, unless that is the target itself."""
    to_ranks, to_nodes, node, place, senders = case
    whole = np.zeros((node.size, node.size))
    for i, sender in enumerate(senders):
        matrix = relayed(to_ranks[i : i + 1], to_nodes[i : i + 1], node, place, senders[i : i + 1])
        whole += matrix
        for b in range(node.max() + 1):
            inside = matrix[np.ix_(node == b, node == b)]
            (hands,) = np.nonzero(inside.sum(axis=1))
            assert hands.size <= 1
            wanted = to_ranks[i, node == b].copy()
            if b == node[sender]:
                wanted[np.flatnonzero(node == b) == sender] = 0
                assert not inside.any() or np.flatnonzero(node == b)[hands[0]] == sender
            else:
                entry = matrix[sender, node == b]
                assert np.count_nonzero(entry) <= 1  # over one relay
                wanted[entry > 0] = 0  # keeps its own
            arrived = inside.sum(axis=0)
            assert (arrived[wanted > 0] == wanted[wanted > 0]).all()
            assert arrived.sum() == wanted.sum()
    assert relayed(*case) == pytest.approx(whole)
    assert np.diagonal(whole).tolist() == [0.0] * node.size


@given(relay_cases())
def test_nodes_are_crossed_on_rails(case):
    """Between ranks in the same place, wherever the other node has one there."""
    _, _, node, place, _ = case
    matrix = relayed(*case)
    src, dst = np.nonzero(matrix)
    crosses = node[src] != node[dst]
    sizes = np.bincount(node)
    fits = place[src] < sizes[node[dst]]
    assert (place[src] == place[dst])[crosses & fits].all()
