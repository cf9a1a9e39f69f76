"""Rail-only: one switch per rail and nothing above; across rails NVLink comes first.

Model
-----
    nic i of every node <-> leaf i
    across rails    gpu -> nvswitch -> peer gpu of that rail -> nic -> leaf -> nic -> gpu      (NCCL's PXN)

The last is no rule of its own: it is what `topology.routes` finds where GPUs have no other way.

Assumptions
-----------
A rail's switches are drawn as one that does not limit; many nodes need several tiers, which add latency: errs fast.

References
----------
Wang et al., "Rail-only: A low-cost high-performance network for training LLMs with trillion parameters", 2023.
"""

from dataclasses import dataclass

import networkx as nx

from topology.fabric_spec import FabricSpec
from topology.fabrics.options import refuse
from topology.wires import add_both_ways

__all__ = ["RailOnly"]


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
