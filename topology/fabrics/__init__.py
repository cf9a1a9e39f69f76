"""How nodes are wired: one wiring per file, entered in `WIRINGS`, by the name that a scenario gives it."""

from collections.abc import Callable
from typing import Any

from topology.fabric_spec import Wiring
from topology.fabrics.dragonfly import Dragonfly
from topology.fabrics.fat_tree import FatTree
from topology.fabrics.one_switch import OneSwitch
from topology.fabrics.rail_only import RailOnly
from topology.fabrics.rail_optimised import RailOptimised
from topology.fabrics.torus import Torus

__all__ = ["WIRINGS", "Wiring"]

WIRINGS: dict[str, Callable[..., Any]] = {
    "rail_optimised": RailOptimised,
    "fat_tree": FatTree,
    "rail_only": RailOnly,
    "dragonfly": Dragonfly,
    "torus": Torus,
    "switch": OneSwitch,
}
"""Wiring by name; its options are arguments."""
