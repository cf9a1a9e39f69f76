"""Fat-tree of two tiers: all NICs of neighbouring nodes on one leaf, every leaf on every spine.

Model
-----
    every nic of a node <-> leaf(node // nodes_per_leaf)
    leaf <-> every spine                        only where there is more than one leaf

A leaf's uplinks together carry what its NICs carry / oversubscription, shared equally by its spines. Unless given, a
leaf has as many ports down as one of a rail-optimised fabric: nodes_per_leaf of the preset / NICs per node.

References
----------
Al-Fares et al., "A scalable, commodity data center network architecture", 2008.
"""

from dataclasses import dataclass

import networkx as nx

from topology.fabric_spec import FabricSpec
from topology.fabrics.options import refuse, require_oversubscription
from topology.wires import add_both_ways, add_spines

__all__ = ["FatTree"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FatTree:
    """A leaf for each few nodes, under spines."""

    oversubscription: float = 1.0
    """Bandwidth of a leaf's NICs over that of its uplinks; 1: non-blocking."""
    nodes_per_leaf: int | None = None
    """Nodes whose NICs are all on one leaf; None: as many as fit."""

    def check(self, spec: FabricSpec, num_nodes: int) -> None:
        """Refuse an oversubscription below 1, and leaves without nodes."""
        del spec, num_nodes
        require_oversubscription(self.oversubscription)
        if self.nodes_per_leaf is not None and self.nodes_per_leaf < 1:
            raise refuse("nodes_per_leaf", rule="be at least 1", value=self.nodes_per_leaf, hint="Count from 1.")

    def attach(self, graph: "nx.DiGraph[str]", spec: FabricSpec, node: int, nic: int) -> None:
        """Link a NIC to the leaf of its node."""
        unit = node // (self.nodes_per_leaf or max(1, spec.nodes_per_leaf // spec.nics_per_node))
        graph.add_node(f"leaf{unit}", kind="leaf", unit=unit)
        add_both_ways(graph, f"nic{node}.{nic}", f"leaf{unit}", spec.nic)

    def connect(self, graph: "nx.DiGraph[str]", spec: FabricSpec, num_nodes: int) -> None:
        """Link all leaves to all spines."""
        del num_nodes
        leaves = [name for name, data in graph.nodes(data=True) if data["kind"] == "leaf"]
        if len(leaves) > 1:
            add_spines(graph, leaves, spec.spines_per_unit, spec.leaf_hop, oversubscription=self.oversubscription)
