"""One big switch: every NIC on it.

Model
-----
    every nic <-> switch

Assumptions
-----------
The switch never limits, and all pairs of nodes are as near as under one leaf: what a network can be at best.
"""

from dataclasses import dataclass

import networkx as nx

from topology.fabric_spec import FabricSpec
from topology.wires import add_both_ways

__all__ = ["OneSwitch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OneSwitch:
    """All NICs on one switch."""

    def check(self, spec: FabricSpec, num_nodes: int) -> None:
        """Refuse nothing."""

    def attach(self, graph: "nx.DiGraph[str]", spec: FabricSpec, node: int, nic: int) -> None:
        """Link a NIC to the switch."""
        graph.add_node("switch0", kind="switch")
        add_both_ways(graph, f"nic{node}.{nic}", "switch0", spec.nic)

    def connect(self, graph: "nx.DiGraph[str]", spec: FabricSpec, num_nodes: int) -> None:
        """Link nothing more."""
