"""Counts of token copies that follow without a draw: balanced, a stride over the experts, a recording.

Model
-----
    balanced    every source sends tokens * top_k / experts copies to each expert; remainders rotate by source and layer
    stride      the n-th choice of all tokens is expert n * stride mod experts: even, but only over some experts
    recorded    copies [m, l, e] = recorded [m mod M, (l - first layer) mod L, e]; copy i belongs to source i mod S

A recording is replayed as it is where each sum over the experts is what all sources of the run send together, and every
expert has a whole number of tokens, each token at most once. The recording does not say which source sent a copy: the
copies are divided evenly among the sources. Any other recording gives the shares of the experts (`recorded_shares`), by
which the sources draw their tokens, so that the counts differ from the recording by chance.

The layers of a recording are those with experts: the first of `Skew.expert_layers` replays the first layer of the
recording, and so on. A recording with fewer layers or microbatches than the run is repeated. Microbatches before the
run, whose loads a placement is planned from, have negative numbers: they replay the last microbatches of the recording.
"""

from math import gcd

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError
from workloads.routing.request import Draws, RoutingRequest

__all__ = ["balanced_counts", "recorded_counts", "recorded_shares", "stride_counts"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


def balanced_counts(request: RoutingRequest, draws: Draws) -> IntArray:
    """Return counts that are as equal as whole tokens allow. Shape [N, S, E]."""
    num_experts = request.num_experts
    quotient, remainder = divmod(request.tokens * request.top_k, num_experts)
    counts = np.full((len(draws), request.num_sources, num_experts), quotient, dtype=np.int64)
    if remainder:
        source, layer = np.arange(request.num_sources)[:, None], np.reshape([layer for _, layer in draws], (-1, 1, 1))
        first = (source + layer) * remainder
        np.put_along_axis(counts, (first + np.arange(remainder)) % num_experts, quotient + 1, axis=2)
    return counts


def stride_counts(request: RoutingRequest, draws: Draws) -> IntArray:
    """Return counts of choices that step through the experts by `Skew.stride`. Shape [N, S, E]."""
    num_experts, stride = request.num_experts, request.skew.stride
    if request.is_limited:
        raise InvalidValueError(
            field="routing.max_nodes_per_token",
            rule="be left out with kind stride, whose tokens take experts by number",
            value=request.max_nodes,
            hint="Leave it out, or use another kind.",
        )
    num_reached = num_experts // gcd(stride, num_experts)
    if num_reached < request.top_k:
        raise InvalidValueError(
            field="routing.stride",
            rule=f"reach at least top_k = {request.top_k} of {num_experts} experts",
            value=stride,
            hint="Choose a stride that shares no large factor with the number of experts.",
        )
    quotient, remainder = divmod(request.tokens * request.top_k, num_reached)
    counts = np.zeros((len(draws), request.num_sources, num_experts), dtype=np.int64)
    counts[..., np.arange(num_reached) * stride % num_experts] = quotient
    counts[..., np.arange(remainder) * stride % num_experts] += 1
    return counts


def recorded_counts(request: RoutingRequest, draws: Draws) -> IntArray | None:
    """Return the recorded copies, divided among the sources of a lane; None: the run has other tokens. Shape [N, S, E].

    Examples
    --------
    >>> from workloads.routing.skew import Skew
    >>> skew = Skew(loads=np.array([[[5.0, 1.0]]]))
    >>> recorded_counts(RoutingRequest(num_sources=2, tokens=3, num_experts=2, kind="trace", skew=skew), [(0, 0)])
    array([[[3, 0],
            [2, 1]]])
    """
    num_sources = request.num_lanes * request.num_sources
    if not request.skew.has_tokens(num_sources * request.tokens, request.top_k):
        return None
    copies = np.array([_recorded_tokens(request, layer, microbatch) for microbatch, layer in draws], dtype=np.int64)
    source = (request.lane * request.num_sources + np.arange(request.num_sources))[:, None]
    up_to_expert = (np.cumsum(copies, axis=1)[:, None] + num_sources - 1 - source) // num_sources
    return np.asarray(np.diff(up_to_expert, axis=2, prepend=0), dtype=np.int64)


def recorded_shares(request: RoutingRequest, layer: int, microbatch: int) -> FloatArray:
    """Return the recorded shares, in the order of the recording. Shape [E].

    >>> from workloads.routing.skew import Skew
    >>> request = RoutingRequest(num_experts=2, kind="trace", skew=Skew(loads=np.array([[[3.0, 1.0]]])))
    >>> recorded_shares(request, 0, 0)
    array([0.75, 0.25])
    """
    tokens = _recorded_tokens(request, layer, microbatch)
    return np.asarray(tokens / tokens.sum(), dtype=float)


def _recorded_tokens(request: RoutingRequest, layer: int, microbatch: int) -> FloatArray:
    """Return the recorded tokens of each expert of a layer in a microbatch. Shape [E]."""
    loads = request.skew.loads
    if loads is None:
        raise InvalidValueError(
            field="routing.file",
            rule="be given with kind trace",
            value="nothing",
            hint="Name the file of a recording.",
        )
    if loads.shape[2] != request.num_experts:
        raise InvalidValueError(
            field="routing.file",
            rule=f"have experts = {request.num_experts} columns of experts",
            value=loads.shape[2],
            hint="Use a recording of this model, or set model.experts.",
        )
    number = request.skew.expert_layers.index(layer) if request.skew.expert_layers else layer
    tokens = loads[microbatch % loads.shape[0], number % loads.shape[1]]
    return np.asarray(tokens, dtype=float)
