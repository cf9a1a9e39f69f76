"""Fabrics of leaves and spines: rail-optimised, fat-tree, rail-only, and a single switch.

Model
-----
    RailOptimised   NIC i of a node <-> leaf(unit, i)           unit = node // nodes_per_leaf
                    leaf <-> every spine                        only where there is more than one leaf
    FatTree         every NIC of a node <-> leaf(node // nodes_per_leaf)
                    leaf <-> every spine                        only where there is more than one leaf
    RailOnly        NIC i of every node <-> leaf i              no spines
    OneSwitch       every NIC <-> switch                        what a network can be at best

The uplinks of a leaf together carry what the NICs of the leaf carry / oversubscription, shared equally by the spines.
Across the rails of `RailOnly` NVLink comes first: gpu -> nvswitch -> peer gpu of that rail -> nic -> leaf -> nic -> gpu
(PXN of NCCL), which is the path that `topology.routes` finds where GPUs have no other path. Unless `nodes_per_leaf` is
given, a leaf of `FatTree` has as many ports down as a leaf of `RailOptimised`: nodes_per_leaf of the preset / NICs of a
node.

Assumptions
-----------
- The switches of a rail of `RailOnly` are one vertex that does not limit. Many nodes need several tiers of switches,
  which add latency: errs fast.
- The switch of `OneSwitch` never limits, and all pairs of nodes are as near as under one leaf.

References
----------
- NVIDIA DGX SuperPOD reference architecture (DGX H100): scalable units of 32 nodes, a leaf per rail and unit.
- Al-Fares et al., "A scalable, commodity data center network architecture", 2008.
- Wang et al., "Rail-only: A low-cost high-performance network for training LLMs with trillion parameters", 2023.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from topology.fabric import FabricSpec, refuse, require_oversubscription
from topology.links import LinkKind, add_both_ways

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["FatTree", "OneSwitch", "RailOnly", "RailOptimised"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RailOptimised:
    """A leaf per rail and unit, under spines."""

    oversubscription: float = 1.0
    """Bandwidth of a leaf's NICs over that of its uplinks; 1: non-blocking."""
    nodes_per_leaf: int | None = None
    """Nodes of one scalable unit; None: as many as the fabric states."""

    def check(self, spec: FabricSpec, num_nodes: int) -> None:
        """Refuse an oversubscription below 1, and units without nodes."""
        del spec, num_nodes
        require_oversubscription(self.oversubscription)
        _require_nodes(self.nodes_per_leaf)

    def nodes_per_unit(self, spec: FabricSpec) -> int:
        """Return the number of nodes of one scalable unit, which are the nodes under one leaf."""
        return self.nodes_per_leaf or spec.nodes_per_leaf

    def attach(self, graph: "nx.DiGraph[str]", spec: FabricSpec, node: int, nic: int) -> None:
        """Link a NIC to the leaf of its rail and unit."""
        unit = node // self.nodes_per_unit(spec)
        leaf = f"leaf{unit}.{nic}"
        graph.add_node(leaf, kind="leaf", unit=unit, rail=nic)
        add_both_ways(graph, f"nic{node}.{nic}", leaf, spec.nic)

    def connect(self, graph: "nx.DiGraph[str]", spec: FabricSpec, num_nodes: int) -> None:
        """Link all leaves to the spines that the units bring."""
        num_units = -(-num_nodes // self.nodes_per_unit(spec))
        leaves = [name for name, data in graph.nodes(data=True) if data["kind"] == "leaf"]
        if len(leaves) > 1:
            num_spines = num_units * spec.spines_per_unit
            _add_spines(graph, leaves, num_spines, spec.leaf_hop, oversubscription=self.oversubscription)


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
        _require_nodes(self.nodes_per_leaf)

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
            _add_spines(graph, leaves, spec.spines_per_unit, spec.leaf_hop, oversubscription=self.oversubscription)


@dataclass(frozen=True, slots=True, kw_only=True)
class RailOnly:
    """A switch per rail, and no spines."""

    def check(self, spec: FabricSpec, num_nodes: int) -> None:
        """Refuse nodes in which a GPU has no way to its peers' NICs."""
        del num_nodes
        if spec.nics_per_node != spec.gpus_per_node:
            raise refuse(
                "kind",
                rule=f"be rail_only only where each GPU has a NIC, and {spec.name} has {spec.nics_per_node} of them",
                value="rail_only",
                hint="Use kind: rail_optimised.",
            )

    def attach(self, graph: "nx.DiGraph[str]", spec: FabricSpec, node: int, nic: int) -> None:
        """Link a NIC to the switch of its rail."""
        graph.add_node(f"leaf0.{nic}", kind="leaf", unit=0, rail=nic)
        add_both_ways(graph, f"nic{node}.{nic}", f"leaf0.{nic}", spec.nic)

    def connect(self, graph: "nx.DiGraph[str]", spec: FabricSpec, num_nodes: int) -> None:
        """Link nothing: rails are apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OneSwitch:
    """All NICs on one switch."""

    def check(self, spec: FabricSpec, num_nodes: int) -> None:
        """Accept any number of nodes: the switch has as many ports as there are NICs."""

    def attach(self, graph: "nx.DiGraph[str]", spec: FabricSpec, node: int, nic: int) -> None:
        """Link a NIC to the switch."""
        graph.add_node("switch0", kind="switch")
        add_both_ways(graph, f"nic{node}.{nic}", "switch0", spec.nic)

    def connect(self, graph: "nx.DiGraph[str]", spec: FabricSpec, num_nodes: int) -> None:
        """Link nothing more."""


# ---- private -----------------------------------------------------------------------------------------------------


def _require_nodes(nodes_per_leaf: int | None) -> None:
    """Refuse leaves without nodes."""
    if nodes_per_leaf is not None and nodes_per_leaf < 1:
        raise refuse("nodes_per_leaf", rule="be at least 1", value=nodes_per_leaf, hint="Write at least 1.")


def _add_spines(
    graph: "nx.DiGraph[str]",
    leaves: Sequence[str],
    num_spines: int,
    kind: LinkKind,
    *,
    oversubscription: float,
) -> None:
    """Link each of `leaves` to all spines, which together carry what its NICs do / `oversubscription`."""
    for spine in range(num_spines):
        graph.add_node(f"spine{spine}", kind="spine")
    for leaf in leaves:
        down_bytes_per_s = [
            data["bandwidth_bytes_per_s"]
            for _, other, data in graph.out_edges(leaf, data=True)
            if graph.nodes[other]["kind"] == "nic"
        ]
        share = down_bytes_per_s[0] * len(down_bytes_per_s) / num_spines / oversubscription
        for spine in range(num_spines):
            add_both_ways(graph, leaf, f"spine{spine}", kind, bandwidth_bytes_per_s=share)
