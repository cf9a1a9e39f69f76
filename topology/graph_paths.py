"""Paths on any graph: those of `topology.routes`, and bytes between GPUs spread over them.

Model
-----
    bytes on link l = sum over pairs of share[pair, l] * bytes[pair]

over sparse rows (`topology.links.FlowLinks`). The reverse paths need not use the same links in the other direction; the
latency of an exchange of two groups is the longest of both ways.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from topology.links import FlowLinks, LinkLoad
from topology.pairs import Pairs, PairSums, Way
from topology.routes import Route, Routes

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["GraphPaths"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, eq=False)
class GraphPaths:
    """Paths that are searched on a graph when they are first needed."""

    graph: "nx.DiGraph[str]"

    def flows(self, src: IntArray, dst: IntArray) -> "GraphFlows":
        """Return the paths of flows from `src` [F] to `dst` [F]."""
        return GraphFlows(routes=self._routes.routes(src.tolist(), dst.tolist()), num_links=self._num_links)

    def path(self, src: int, dst: int) -> list[str]:
        """Return the vertices of the path from GPU `src` to GPU `dst`, of the first of several."""
        return self._routes.path(src, dst)

    def pairs(self, src: IntArray, dst: IntArray) -> "GraphPairs":
        """Return the links between each of `src` [S] and each of `dst` [D]."""
        senders, receivers = np.broadcast_arrays(src[:, None], dst)
        ways = [
            self.flows(*ends) for ends in ((senders.ravel(), receivers.ravel()), (receivers.ravel(), senders.ravel()))
        ]
        used = [np.unique(way.links.links, return_inverse=True) for way in ways]
        num_forward = used[0][0].size
        return GraphPairs(
            forward=Way(links=used[0][0], sums=np.arange(num_forward)),
            reverse=Way(links=used[1][0], sums=num_forward + np.arange(used[1][0].size)),
            is_pair=senders != receivers,
            longest_s=np.maximum(*(way.latency_s for way in ways)).reshape(senders.shape),
            sum_of_entry=np.concatenate([used[0][1], num_forward + used[1][1]]),
            pair_of_entry=np.concatenate([way.links.flow_of_entry for way in ways]),
            share=np.concatenate([way.links.share for way in ways]),
        )

    @cached_property
    def _routes(self) -> Routes:
        return Routes(self.graph)

    @cached_property
    def _num_links(self) -> int:
        return self.graph.number_of_edges()


@dataclass(frozen=True, kw_only=True, eq=False)
class GraphFlows:
    """Flows on paths that were searched."""

    routes: list[Route]
    """The paths of each flow. F of them."""
    num_links: int
    """Links of the graph."""

    @property
    def latency_s(self) -> FloatArray:
        """Time to the first byte of each flow: the links' latencies along the slowest of its paths. Shape [F]."""
        return np.array([route.latency_s for route in self.routes], dtype=np.float64)

    @cached_property
    def links(self) -> FlowLinks:
        """The links of each flow and its share on them: what `load` adds up, flow by flow."""
        first = np.cumsum([0, *(route.links.size for route in self.routes)], dtype=np.intp)
        if not self.routes:
            return FlowLinks(first=first, links=np.zeros(0, dtype=np.intp), share=np.zeros(0))
        links, share = ([getattr(route, field) for route in self.routes] for field in ("links", "share"))
        return FlowLinks(first=first, links=np.concatenate(links), share=np.concatenate(share))

    def load(self, num_bytes: FloatArray) -> LinkLoad:
        """Return the load of `num_bytes` [F] of the flows."""
        weights = self.links.share * num_bytes[self.links.flow_of_entry]
        total = np.bincount(self.links.links, weights=weights, minlength=self.num_links).astype(np.float64)
        used = np.flatnonzero(total)
        return LinkLoad(links=used, num_bytes=total[used])


@dataclass(frozen=True, kw_only=True, eq=False)
class GraphPairs(Pairs):
    """All pairs of senders and receivers on a graph's links: a sum for each link of a way, over E entries."""

    is_pair: NDArray[np.bool_]
    """Whether sender and receiver are two. Shape [S, D]."""
    longest_s: FloatArray
    """Time to the first byte, of the slower way. Shape [S, D]."""
    sum_of_entry: IntArray
    """The sum to which a pair adds. Shape [E]."""
    pair_of_entry: IntArray
    """The pair, numbered row by row. Shape [E]."""
    share: FloatArray
    """The fraction of its bytes. Shape [E]."""

    def sums(self, byte_matrices: FloatArray) -> PairSums:
        """Return what each of `byte_matrices` [N, S, D] puts on links; a pair of a rank with itself loads nothing."""
        self.check(byte_matrices, self.is_pair.shape)
        moved = byte_matrices * self.is_pair
        has_bytes = moved > 0
        num_sums = self.forward.links.size + self.reverse.links.size
        values = [
            np.bincount(self.sum_of_entry, self.share * one.ravel()[self.pair_of_entry], num_sums) for one in moved
        ]
        return PairSums(
            pairs=self,
            values=np.array(values, dtype=np.float64).reshape(len(moved), num_sums),
            total_bytes=moved.sum(axis=(1, 2)).tolist(),
            num_flows=has_bytes.sum(axis=(1, 2)).tolist(),
            latency_s=(has_bytes * self.longest_s).max(axis=(1, 2), initial=0.0).tolist(),
        )
