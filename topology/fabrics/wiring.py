"""What a wiring must be able to do: check its options, take a NIC, link what it has taken."""

from typing import TYPE_CHECKING, Protocol

import networkx as nx

from topology.errors import TopologyError

if TYPE_CHECKING:  # which has a wiring
    from topology.fabric_spec import FabricSpec

__all__ = ["Wiring", "refuse", "require_oversubscription"]


class Wiring(Protocol):
    """How the NICs of nodes are wired; options are its fields."""

    def check(self, spec: "FabricSpec", num_nodes: int) -> None:
        """Refuse a number of nodes, or options, that cannot be wired."""
        ...

    def attach(self, graph: "nx.DiGraph[str]", spec: "FabricSpec", node: int, nic: int) -> None:
        """Link NIC `nic` of a node to its switch, which is added where it is new."""
        ...

    def connect(self, graph: "nx.DiGraph[str]", spec: "FabricSpec", num_nodes: int) -> None:
        """Link the switches, when all NICs are attached."""
        ...


def refuse(field: str, *, rule: str, value: object, cure: str) -> TopologyError:
    """Return the refusal of an option of a wiring."""
    return TopologyError(subject="cluster", field=f"fabric.{field}", rule=rule, value=value, cure=cure)


def require_oversubscription(value: float) -> None:
    """Refuse uplinks that carry more than the NICs below them."""
    if not 1 <= value < float("inf"):
        raise refuse("oversubscription", rule="be at least 1", value=value, cure="Write 1 for a non-blocking fabric.")
