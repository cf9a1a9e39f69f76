"""Tokens as they were recorded, per layer and expert, of one microbatch or several, replayed.

Model
-----
    copies [m, l, e] = recorded [m mod M, (l - first layer) mod L, e]       dealt out: copy i goes to source i mod S
    share [m, l, e]  = recorded [...] / its sum over e                      where a run has other tokens

Where each sum over the experts is what the sources of a run send together, and every expert has a whole number of
tokens, each of them once, the counts are replayed as they are: only how they are spread over sources is not recorded,
and made even. Otherwise sources draw their tokens by the shares, so that counts differ from the recording's by chance.

The recording's layers are those with experts: the run's first of them, `Skew.first_layer`, replays its first. A
recording with fewer layers or microbatches than the run is repeated. A microbatch before the run, whose loads a plan
sees, has a negative number: the ones before the recording's first are its last.
"""

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError
from workloads.routing.request import RoutingRequest

__all__ = ["dealt_out", "is_of_these_tokens", "recorded"]

IntArray = NDArray[np.int64]


def recorded(request: RoutingRequest, layer: int, microbatch: int) -> NDArray[np.float64]:
    """Return the recorded shares, in the recording's own order."""
    tokens = _tokens(request, layer, microbatch)
    return np.asarray(tokens / tokens.sum(), dtype=float)


def is_of_these_tokens(request: RoutingRequest) -> bool:
    """Return whether a recording has just the copies of the sources that are request for."""
    return request.skew.has_tokens(request.num_lanes * request.num_sources * request.tokens, request.top_k)


def dealt_out(request: RoutingRequest, layer: int, microbatch: int) -> IntArray:
    """Return the recorded copies as each source of a lane has them. Shape [S, E].

    Examples
    --------
    >>> from workloads.routing.skew import Skew
    >>> dealt_out(RoutingRequest(2, 3, 2, 1, 0, 0, "trace", Skew(loads=np.array([[[5.0, 1.0]]]))), 0, 0)
    array([[3, 0],
           [2, 1]])
    """
    copies = _tokens(request, layer, microbatch).astype(np.int64)
    source = (request.lane * request.num_sources + np.arange(request.num_sources))[:, None]
    up_to = (np.cumsum(copies) + request.num_lanes * request.num_sources - 1 - source) // (
        request.num_lanes * request.num_sources
    )
    return np.asarray(np.diff(up_to, axis=1, prepend=0), dtype=np.int64)


def _tokens(request: RoutingRequest, layer: int, microbatch: int) -> NDArray[np.float64]:
    """Return what was recorded of a layer and a microbatch. Shape [E]."""
    loads = request.skew.loads
    if loads is None:
        raise InvalidValueError(
            field="routing.file", rule="be given with kind trace", value="nothing", hint="Name a recording."
        )
    if loads.shape[2] != request.num_experts:
        raise InvalidValueError(
            field="routing.file",
            rule=f"have experts = {request.num_experts} columns of experts",
            value=loads.shape[2],
            hint="Record that model, or set model.experts.",
        )
    tokens = loads[microbatch % loads.shape[0], (layer - request.skew.first_layer) % loads.shape[1]]
    return np.asarray(tokens, dtype=float)
