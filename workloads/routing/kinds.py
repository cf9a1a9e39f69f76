"""The routings by name: what each routing computes, and which settings of a scenario it uses.

A new routing is one function of shares, or of counts, and one entry of `ROUTINGS`. The conformance tests are
parametrised over `ROUTINGS`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from workloads.routing.distributions import dirichlet, drift, equal, power_law, zipf
from workloads.routing.fixed_counts import balanced_counts, recorded_counts, recorded_shares, stride_counts
from workloads.routing.hot import bursty, hot_expert, hot_node
from workloads.routing.request import Draws, RoutingRequest

__all__ = ["ROUTINGS", "RoutingKind"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingKind:
    """A routing: how token copies are spread over the experts, and which settings of a scenario it uses."""

    summary: str
    """What the routing does, as a phrase for lists and reference pages."""
    shares: Callable[[RoutingRequest, int, int], NDArray[np.float64]] | None = None
    """(request, layer, microbatch) -> share of each expert in the token copies [E], with sum 1.

    None: the counts follow from a formula without shares.
    """
    counts: Callable[[RoutingRequest, Draws], NDArray[np.int64] | None] | None = None
    """(request, microbatch and layer of each of N draws) -> token counts [N, S, E] that follow without a draw.

    Without such a function, or where its result is None, each token draws its experts by `shares`.
    """
    skew_measure: str | None = None
    """What `routing.skew` measures, as a phrase; None: the routing has no skew."""
    swept_skews: tuple[float, ...] = ()
    """Skews that a stress test sweeps where none are given, from even to more than has been measured."""
    settings: tuple[str, ...] = ()
    """Keys of the scenario section `routing` that the routing uses in addition to those that every routing uses."""
    required_settings: tuple[str, ...] = ()
    """Keys among `settings` without which the routing has no meaning."""
    is_balanced: bool = False
    """Whether every expert receives equally many token copies in every layer, microbatch and lane, without a draw."""
    has_equal_shares: bool = False
    """Whether all experts have the same share whatever the settings (apart from dead experts)."""
    lists_hottest_first: bool = False
    """Whether `shares` begins with the most popular expert, so that each layer shuffles the experts in its own way."""

    def uses(self, setting: str) -> bool:
        """Return whether a key of the scenario section `routing` has a meaning for this routing.

        >>> ROUTINGS["stride"].uses("stride"), ROUTINGS["stride"].uses("skew")
        (True, False)
        """
        return setting in self.settings


_POPULARITY: Final = ("skew", "layer_correlation", "dead_experts", "max_nodes_per_token")
"""Settings of every routing whose experts differ in popularity."""
_SHUFFLED: Final = (*_POPULARITY, "shuffled")
_HOT_SHARES: Final = (0.0, 0.1, 0.2, 0.3, 0.5)

ROUTINGS: Final[dict[str, RoutingKind]] = {
    "balanced": RoutingKind(
        summary="every expert receives equally many token copies, without a draw",
        counts=balanced_counts,
        settings=("max_nodes_per_token",),
        is_balanced=True,
        has_equal_shares=True,
    ),
    "multinomial": RoutingKind(
        summary="each token draws its experts, every set of experts with the same probability",
        shares=equal,
        settings=("dead_experts", "max_nodes_per_token"),
        has_equal_shares=True,
    ),
    "zipf": RoutingKind(
        summary="the r-th most popular expert has a share in proportion to r**-skew",
        shares=zipf,
        skew_measure="exponent",
        swept_skews=(0.0, 0.25, 0.5, 0.75, 1.0, 1.25),
        settings=_SHUFFLED,
        lists_hottest_first=True,
    ),
    "power_law": RoutingKind(
        summary="weights of the experts are drawn from a power law for each layer",
        shares=power_law,
        skew_measure="inverse of the exponent of the tail",
        swept_skews=(0.0, 0.25, 0.5, 0.75, 1.0),
        settings=_SHUFFLED,
        lists_hottest_first=True,
    ),
    "dirichlet": RoutingKind(
        summary="shares of the experts are drawn from a Dirichlet distribution for each layer",
        shares=dirichlet,
        skew_measure="coefficient of variation of a share",
        swept_skews=(0.0, 0.25, 0.5, 1.0),
        settings=_SHUFFLED,
        lists_hottest_first=True,
    ),
    "hot_expert": RoutingKind(
        summary="one expert has a share of its own, and the other experts have equal shares",
        shares=hot_expert,
        skew_measure="share of the tokens that choose the hot expert, at least the mean",
        swept_skews=_HOT_SHARES,
        settings=_SHUFFLED,
        lists_hottest_first=True,
    ),
    "hot_node": RoutingKind(
        summary="the experts of one node have a share together, and the other experts have equal shares",
        shares=hot_node,
        skew_measure="share of the token copies for the hot experts, at least the mean",
        swept_skews=_HOT_SHARES,
        settings=(*_SHUFFLED, "hot_experts"),
    ),
    "drift": RoutingKind(
        summary="the logarithms of the shares follow a random walk over the microbatches",
        shares=drift,
        skew_measure="standard deviation of the logarithm of a share",
        swept_skews=(0.0, 0.5, 1.0, 1.5),
        settings=(*_POPULARITY, "persistence"),
    ),
    "bursty": RoutingKind(
        summary="some microbatches have a hot expert, and the other microbatches have equal shares",
        shares=bursty,
        skew_measure="share of the tokens that choose the hot expert in a burst, at least the mean",
        swept_skews=_HOT_SHARES,
        settings=(*_POPULARITY, "burst_share"),
    ),
    "stride": RoutingKind(
        summary="the n-th choice is expert n * stride, so that some experts receive equally many and others none",
        counts=stride_counts,
        settings=("stride",),
    ),
    "trace": RoutingKind(
        summary="the token counts of a recorded file are replayed, or its shares where the run has other tokens",
        shares=recorded_shares,
        counts=recorded_counts,
        settings=("file", "max_nodes_per_token"),
        required_settings=("file",),
    ),
}
"""Routing by name."""
