"""All-to-all of tokens by way of nodes: a token crosses to each node once, and a relay forwards the token in the node.

Model
-----
Rank i of a node sends the tokens for another node to rank i of that node (its relay), which forwards the tokens::

    source -> relay on the target node -> target           other nodes: bytes per node, then bytes per rank
    source -> target                                       own node

A token that chose several experts of a rank goes to the rank once, and to a node once. Of T tokens of a source, with
counts c[e] for each of E experts and top_k of these experts for each token,

    tokens for a rank or node j = T * (1 - prod over its experts of (1 - c[e] / T) ** gamma_j)

where gamma_j makes the number exact where all experts are equally likely: 1 - C(E - E_j, top_k) / C(E, top_k). The
number is exact as well where every token, or no token, chooses an expert, and never larger than the number of copies,
the sum of c[e]. Where tokens choose within at most M of N groups of experts, T is for each group the number of tokens
that choose the group, T times a chance that is given, and E is E M / N; where ranks or nodes have several groups,
tokens choose M groups by these chances. Combine takes the reverse way; tokens are summed at each stop.

Assumptions
-----------
Apart from these cases, tokens choose experts independently but for their number. All nodes of a group have equally many
experts.

References
----------
DeepSeek-AI, "DeepSeek-V3 technical report", 2024, section 3.2.2; deepseek-ai/DeepEP (internode kernels).
"""

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["distinct_tokens", "relayed"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


def distinct_tokens(
    counts: NDArray[np.int64],
    owner: IntArray,
    *,
    tokens: float,
    top_k: int,
    group: IntArray | None = None,
    max_groups: int | None = None,
    group_chances: FloatArray | None = None,
) -> FloatArray:
    """Return how many different tokens of each source go to each owner (rank or node) of experts.

    Parameters
    ----------
    counts
        Copies of tokens for each expert. Shape [..., S, E].
    owner
        Owner of each expert (rank or node), from 0. Shape [E].
    tokens
        Tokens of each source.
    top_k
        Experts of a token.
    group, max_groups
        Group of each expert, from 0, shape [E], and how many groups a token may choose from; None: all groups.
    group_chances
        Chance of a token to choose from each group; None: equal chances. Shape [..., N].

    Returns
    -------
    numpy.ndarray
        Tokens. Shape [..., S, owners].

    Examples
    --------
    A token takes 2 of 4 experts; the first two have one owner. The token goes to this owner unless it takes both other
    experts, 1 in 6.

    >>> distinct_tokens(np.full((1, 4), 6), np.array([0, 0, 1, 1]), tokens=12, top_k=2).round(9)
    array([[10., 10.]])
    """
    num_experts, num_owners = owner.size, int(owner.max()) + 1
    members = np.zeros((num_experts, num_owners))
    members[np.arange(num_experts), owner] = 1.0
    copies = np.asarray(counts, dtype=np.float64) @ members
    if group is None or max_groups is None or max_groups >= min(int(group.max()) + 1, top_k):
        gamma = _gammas(num_experts, members.sum(axis=0), top_k)
        reached = tokens * _chance_to_meet(counts, np.full(counts.shape[:-1], tokens), members, gamma)
    else:
        limit = (group, max_groups, group_chances)
        reached = _reached_in_groups(counts, members, limit, tokens=tokens, top_k=top_k)
    return np.asarray(np.minimum(reached, copies))


def _reached_in_groups(
    counts: NDArray[np.int64],
    members: FloatArray,
    limit: tuple[IntArray, int, FloatArray | None],
    *,
    tokens: float,
    top_k: int,
) -> FloatArray:
    """Return the tokens that meet an expert of each owner, where a token chooses from a few groups. [..., S, owners].

    `members`: the owner of each expert [E, owners]. `limit`: the group of each expert, how many groups a token chooses
    from, and the chance of each group.
    """
    group, max_groups, group_chances = limit
    num_experts, num_groups = members.shape[0], int(group.max()) + 1
    share = max_groups / num_groups
    in_groups = np.eye(num_groups)[group].T @ members  # an owner's experts, of which a token meets at most M
    sizes = np.maximum(in_groups.max(axis=0), members.sum(axis=0) * share)
    gamma = _gammas(max(top_k, round(num_experts * share)), sizes, top_k)
    most = np.stack([counts[..., group == number].max(axis=-1) for number in range(num_groups)], axis=-1)
    chances = np.full(most.shape, share) if group_chances is None else group_chances[..., None, :]
    of_groups = np.clip(tokens * chances, most, tokens)
    met = np.stack(
        [
            _chance_to_meet(counts[..., group == number], of_groups[..., number], members[group == number], gamma)
            for number in range(num_groups)
        ],
        axis=-1,
    )
    if ((in_groups > 0).sum(axis=0) <= 1).all():
        return np.asarray(np.einsum("...og,...g->...o", met, of_groups))
    return tokens * (1.0 - _chance_to_miss(met, of_groups[..., None, :] / max(tokens, 1.0), max_groups))


def _chance_to_miss(met: FloatArray, group_chances: FloatArray, max_groups: int) -> FloatArray:
    """Return the chance to meet no expert of an owner in any of M groups. Shape [..., S, owners].

    Tokens choose groups without repetition, by weights that give each group about its chance: `group_chances` itself
    where M is 1, more than its odds where tokens choose all groups but one. `met`: the chance in each group that a
    token chooses. Both [..., N].
    """
    odds_power = (max_groups - 1) / (group_chances.shape[-1] - 1)
    weights = group_chances / np.maximum(1.0 - group_chances, 1e-9) ** odds_power
    weights = weights / np.maximum(weights.max(axis=-1, keepdims=True), 1e-300)
    missed, any_ = (
        _sums_of_products(np.broadcast_to(each, met.shape), max_groups) for each in (weights * (1.0 - met), weights)
    )
    return np.asarray(np.divide(missed, any_, out=np.ones(missed.shape), where=any_ > 0))


def _sums_of_products(values: FloatArray, degree: int) -> FloatArray:
    """Return the sum of the products of all sets of `degree` of the last axis."""
    sums = np.zeros((degree + 1, *values.shape[:-1]))
    sums[0] = 1.0
    for value in np.moveaxis(values, -1, 0):
        sums[1:] = sums[1:] + sums[:-1] * value
    return np.asarray(sums[-1])


def _chance_to_meet(
    counts: NDArray[np.int64], tokens: FloatArray, members: FloatArray, gamma: FloatArray
) -> FloatArray:
    """Return the chance of one of `tokens` [..., S] to go to each owner, by its experts [E, owners]."""
    per_token = np.divide(counts, tokens[..., None], out=np.zeros(counts.shape), where=tokens[..., None] > 0)
    with np.errstate(divide="ignore"):
        misses = np.log1p(-np.minimum(per_token, 1.0))
    finite = np.maximum(misses, -700.0) @ members  # a miss of an expert that all choose is none: e^-700
    return np.asarray(-np.expm1(finite * gamma))


def relayed(
    to_ranks: FloatArray, to_nodes: FloatArray, node: IntArray, position: IntArray, senders: IntArray
) -> FloatArray:
    """Return what each rank of a group sends to each other rank, relays included.

    Parameters
    ----------
    to_ranks
        Amount that each sender has for each rank: a token counts once for a rank. Shape [S, R].
    to_nodes
        Amount that each sender has for each node: a token counts once for a node. Shape [S, N].
    node
        Node of each rank of the group, from 0. Shape [R].
    position
        Position of each rank in its node, from 0. Shape [R].
    senders
        Index of each sender in the group. Shape [S].

    Returns
    -------
    numpy.ndarray
        Amount from rank to rank; the diagonal is zero. Shape [R, R].

    Examples
    --------
    Two nodes of two ranks; rank 0 has 3 tokens for each rank of the other node, of which 2 go to both ranks:

    >>> node, position = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    >>> relayed(np.array([[0.0, 0, 3, 3]]), np.array([[0.0, 4]]), node, position, np.array([0]))
    array([[0., 0., 4., 0.],
           [0., 0., 0., 0.],
           [0., 0., 0., 3.],
           [0., 0., 0., 0.]])
    """
    num_ranks, relay = node.size, _relays(node, position, senders)
    amounts = np.zeros(num_ranks * num_ranks)
    is_other = np.arange(relay.shape[1]) != node[senders][:, None]
    from_sender = senders[:, None] * num_ranks
    amounts += _sum_at(from_sender + relay, to_nodes * is_other, amounts.size)
    is_own = node[senders][:, None] == node
    forwarder = np.where(is_own, senders[:, None], relay[:, node])
    amounts += _sum_at(forwarder * num_ranks + np.arange(num_ranks), to_ranks, amounts.size)
    matrix = amounts.reshape(num_ranks, num_ranks)
    np.fill_diagonal(matrix, 0.0)
    return matrix


def _relays(node: IntArray, position: IntArray, senders: IntArray) -> IntArray:
    """Return the relay of each sender on each node: the rank in the same position, modulo the node's ranks. [S, N]."""
    members = [np.flatnonzero(node == n) for n in range(int(node.max()) + 1)]
    return np.array([[ranks[position[sender] % ranks.size] for ranks in members] for sender in senders], dtype=np.intp)


def _sum_at(indices: IntArray, amount: FloatArray, size: int) -> FloatArray:
    return np.bincount(indices.ravel(), weights=amount.ravel(), minlength=size).astype(np.float64)


def _gammas(num_experts: int, sizes: FloatArray, top_k: int) -> FloatArray:
    return np.array([_gamma(num_experts, float(size), top_k) for size in sizes])


def _gamma(num_experts: int, size: float, top_k: int) -> float:
    """Return the exponent that turns independent choices into `top_k` different experts, for `size` experts."""
    if size == 0 or top_k >= num_experts:
        return 1.0
    if num_experts - size < top_k:
        return 100.0  # no token can miss all of them
    log_missed = math.lgamma(num_experts - size + 1) - math.lgamma(num_experts - size - top_k + 1)
    log_missed -= math.lgamma(num_experts + 1) - math.lgamma(num_experts - top_k + 1)
    return log_missed / (size * math.log1p(-top_k / num_experts))
