"""Dragonfly: groups of switches, all linked inside a group, and every two groups by cables of their own.

Model
-----
    switch <-> nics of nodes_per_switch nodes
    switch <-> every other switch of its group
    group g <-> group g + d                     for every d, at the switches in turn

With T bytes/s of NICs on a switch, a switches per group and h global cables per switch, a local cable carries 2 T / a
and a global one T / h / oversubscription: balanced as the paper has it (a = 2p = 2h), whatever a and h are. Routing is
minimal: one global cable, fewest local ones, all such paths equally.

Assumptions
-----------
No adaptive or Valiant routing: traffic between two groups only is slower than where other groups forward.

References
----------
Kim et al., "Technology-driven, highly-scalable dragonfly topology", 2008, section 3.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from topology.fabric import FabricSpec, refuse, require_oversubscription
from topology.links import add_both_ways

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Dragonfly"]

_MOST_OF_EACH = 256
"""More ports than a switch has."""
_GLOBAL_HOPS = 3
"""More than the two local hops that save one: a minimal path has one global cable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dragonfly:
    """Groups of switches, every two of them linked."""

    switches_per_group: int = 4
    """Switches of a group (a)."""
    nodes_per_switch: int = 1
    """Nodes whose NICs are all on one switch."""
    global_links_per_switch: int = 2
    """Cables from a switch to other groups (h)."""
    oversubscription: float = 1.0
    """Bandwidth of a group's NICs over that of its global cables."""

    def check(self, spec: FabricSpec, num_nodes: int) -> None:
        """Refuse counts that no switch has ports for, and more groups than a group has cables to."""
        del spec
        require_oversubscription(self.oversubscription)
        for field in ("switches_per_group", "nodes_per_switch", "global_links_per_switch"):
            if not 1 <= getattr(self, field) <= _MOST_OF_EACH:
                rule, value = f"be from 1 to {_MOST_OF_EACH}", getattr(self, field)
                raise refuse(field, rule=rule, value=value, hint="Take more groups, or more nodes on a switch.")
        num_others = self._num_groups(num_nodes) - 1
        if num_others > self._num_slots:
            raise refuse(
                "global_links_per_switch",
                rule=f"reach {num_others} other groups from {self.switches_per_group} switches",
                value=self.global_links_per_switch,
                hint=self._hint(num_nodes),
            )

    def attach(self, graph: "nx.DiGraph[str]", spec: FabricSpec, node: int, nic: int) -> None:
        """Link a NIC to the switch of its node."""
        switch = node // self.nodes_per_switch
        name = self._name(*divmod(switch, self.switches_per_group))
        graph.add_node(name, kind="switch", group=switch // self.switches_per_group)
        add_both_ways(graph, f"nic{node}.{nic}", name, spec.nic)

    def connect(self, graph: "nx.DiGraph[str]", spec: FabricSpec, num_nodes: int) -> None:
        """Link switches in groups, and groups; those of the last group exist though they may have no nodes."""
        num_groups, per_group = self._num_groups(num_nodes), self.switches_per_group
        for group in range(num_groups):
            graph.add_nodes_from((self._name(group, i), {"kind": "switch", "group": group}) for i in range(per_group))
        nics_bytes_per_s = spec.nic.bandwidth_bytes_per_s * spec.nics_per_node * self.nodes_per_switch
        local = 2 * nics_bytes_per_s / per_group
        for group in range(num_groups):
            for a in range(per_group):
                for b in range(a):
                    ends = self._name(group, a), self._name(group, b)
                    add_both_ways(graph, *ends, spec.leaf_hop, bandwidth_bytes_per_s=local)
        self._connect_groups(graph, spec, num_groups, nics_bytes_per_s)

    # ---- private -------------------------------------------------------------------------------------------------

    def _connect_groups(
        self, graph: "nx.DiGraph[str]", spec: FabricSpec, num_groups: int, nics_bytes_per_s: float
    ) -> None:
        """Deal the cables of each group out to the other groups in turn; those of two groups are paired in order."""
        cable = nics_bytes_per_s / self.global_links_per_switch / self.oversubscription
        for group in range(num_groups):
            for distance in range(1, num_groups):
                other = (group + distance) % num_groups
                if other < group:
                    continue
                slots = range(distance - 1, self._num_slots, num_groups - 1)
                other_slots = range(num_groups - distance - 1, self._num_slots, num_groups - 1)
                for a, b in zip(slots, other_slots, strict=False):  # a slot more of one group stays unused
                    switches = a // self.global_links_per_switch, b // self.global_links_per_switch
                    ends = self._name(group, switches[0]), self._name(other, switches[1])
                    self._add_cable(graph, spec, ends, cable)

    @staticmethod
    def _add_cable(graph: "nx.DiGraph[str]", spec: FabricSpec, ends: tuple[str, str], cable: float) -> None:
        """Link two switches by one cable more."""
        known = graph.edges[ends]["bandwidth_bytes_per_s"] if graph.has_edge(*ends) else 0.0
        add_both_ways(graph, *ends, spec.leaf_hop, bandwidth_bytes_per_s=known + cable, hops=_GLOBAL_HOPS)

    def _hint(self, num_nodes: int) -> str:
        """Return a change of one option after which every group has a cable to every other group."""
        num_others = self._num_groups(num_nodes) - 1
        num_links = -(-num_others // self.switches_per_group)
        if num_links <= _MOST_OF_EACH:
            return f"Write global_links_per_switch: {num_links}."
        for nodes_per_switch in range(self.nodes_per_switch + 1, _MOST_OF_EACH + 1):
            if replace(self, nodes_per_switch=nodes_per_switch)._num_groups(num_nodes) - 1 <= self._num_slots:
                return f"Write nodes_per_switch: {nodes_per_switch}."
        return "Write larger groups: more switches_per_group and more global_links_per_switch."

    @property
    def _num_slots(self) -> int:
        return self.switches_per_group * self.global_links_per_switch

    def _num_groups(self, num_nodes: int) -> int:
        return -(-num_nodes // (self.nodes_per_switch * self.switches_per_group))

    @staticmethod
    def _name(group: int, switch: int) -> str:
        return f"switch{group}.{switch}"
