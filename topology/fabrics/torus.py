"""Torus of nodes in two or three dimensions: a switch per node, linked to its neighbours in every direction.

Model
-----
    every nic of a node <-> switch of that node
    switch(x, y, ..) <-> switch(x + 1 mod X, y, ..), and so on for each dimension

With T bytes/s of NICs in a node, each of the 2 * dims cables of a switch carries T / (2 * dims), unless given. In a
dimension of two nodes both cables lead to the same neighbour. All minimal paths share the bytes equally.

Assumptions
-----------
Dimension-ordered routing, which some machines have, loads cables less evenly: errs fast.
"""

from dataclasses import dataclass
from itertools import product
from math import isqrt, prod
from typing import TYPE_CHECKING

from topology.fabric import FabricSpec, refuse
from topology.links import add_both_ways

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Torus"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Torus:
    """Nodes on a grid whose ends meet."""

    shape: tuple[int, ...]
    """Nodes in each dimension, two or three of them."""
    link_bandwidth_bytes_per_s: float | None = None
    """One cable in one direction; None: a node's NICs over its cables."""

    def check(self, spec: FabricSpec, num_nodes: int) -> None:
        """Refuse a shape whose product is not the number of nodes."""
        del spec
        if len(self.shape) not in (2, 3) or min(self.shape) < 1 or prod(self.shape) != num_nodes:
            raise refuse(
                "shape",
                rule=f"be two or three counts whose product is cluster.num_nodes = {num_nodes}",
                value=list(self.shape),
                hint=f"Write for example {list(self._shape_for(num_nodes))}.",
            )

    def _shape_for(self, num_nodes: int) -> tuple[int, int]:
        """Return the shape of two dimensions, as equal as can be, that has a place for each node.

        >>> Torus(shape=(4, 4))._shape_for(24)
        (6, 4)
        """
        narrow = next(count for count in range(isqrt(num_nodes), 0, -1) if num_nodes % count == 0)
        return num_nodes // narrow, narrow

    def attach(self, graph: "nx.DiGraph[str]", spec: FabricSpec, node: int, nic: int) -> None:
        """Link a NIC to the switch of its node."""
        graph.add_node(f"switch{node}", kind="switch", place=node)
        add_both_ways(graph, f"nic{node}.{nic}", f"switch{node}", spec.nic)

    def connect(self, graph: "nx.DiGraph[str]", spec: FabricSpec, num_nodes: int) -> None:
        """Link each switch to the next one in every dimension."""
        del num_nodes
        nics_bytes_per_s = spec.nic.bandwidth_bytes_per_s * spec.nics_per_node
        cable = self.link_bandwidth_bytes_per_s or nics_bytes_per_s / (2 * len(self.shape))
        number_of = {position: number for number, position in enumerate(product(*map(range, self.shape)))}
        for position, number in number_of.items():
            for dim, size in enumerate(self.shape):
                after = number_of[*position[:dim], (position[dim] + 1) % size, *position[dim + 1 :]]
                if after == number:
                    continue
                ends = f"switch{number}", f"switch{after}"
                both_cables = 2 if size == 2 else 1
                add_both_ways(graph, *ends, spec.leaf_hop, bandwidth_bytes_per_s=cable * both_cables)
