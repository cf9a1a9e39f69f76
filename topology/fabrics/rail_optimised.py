"""Rail-optimised leaves and spines: NIC i of every node of a unit is on leaf i of that unit.

Model
-----
    nic i of a node <-> leaf(unit, i)           unit = node // nodes_per_leaf
    leaf <-> every spine                        only where there is more than one leaf

A leaf's uplinks together carry what its NICs carry / oversubscription, shared equally by its spines.

References
----------
NVIDIA DGX SuperPOD reference architecture (DGX H100): scalable units of 32 nodes, a leaf per rail and unit.
"""

from dataclasses import dataclass

import networkx as nx

from topology.fabric_spec import FabricSpec
from topology.fabrics.options import require_oversubscription
from topology.wires import add_both_ways, add_spines

__all__ = ["RailOptimised"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RailOptimised:
    """A leaf per rail and unit, under spines."""

    oversubscription: float = 1.0
    """Bandwidth of a leaf's NICs over that of its uplinks; 1: non-blocking."""

    def check(self, spec: FabricSpec, num_nodes: int) -> None:
        """Refuse an oversubscription below 1."""
        del spec, num_nodes
        require_oversubscription(self.oversubscription)

    def attach(self, graph: "nx.DiGraph[str]", spec: FabricSpec, node: int, nic: int) -> None:
        """Link a NIC to the leaf of its rail and unit."""
        unit = node // spec.nodes_per_leaf
        leaf = f"leaf{unit}.{nic}"
        graph.add_node(leaf, kind="leaf", unit=unit, rail=nic)
        add_both_ways(graph, f"nic{node}.{nic}", leaf, spec.nic)

    def connect(self, graph: "nx.DiGraph[str]", spec: FabricSpec, num_nodes: int) -> None:
        """Link all leaves to the spines that the units bring."""
        num_units = -(-num_nodes // spec.nodes_per_leaf)
        leaves = [name for name, data in graph.nodes(data=True) if data["kind"] == "leaf"]
        if len(leaves) > 1:
            num_spines = num_units * spec.spines_per_unit
            add_spines(graph, leaves, num_spines, spec.leaf_hop, oversubscription=self.oversubscription)
