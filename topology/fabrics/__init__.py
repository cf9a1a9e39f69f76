"""How nodes are wired: `WIRINGS` has each wiring by its name in a scenario; the fields of a wiring are its options.

Contents
--------
- `topology.fabrics.clos`: leaves and spines.
- `topology.fabrics.dragonfly`: groups of switches, every two groups linked.
- `topology.fabrics.torus`: a switch per node, linked to its neighbours.
"""

from dataclasses import MISSING, dataclass, fields

from topology.fabric import Wiring
from topology.fabrics.clos import FatTree, OneSwitch, RailOnly, RailOptimised
from topology.fabrics.dragonfly import Dragonfly
from topology.fabrics.torus import Torus

__all__ = ["WIRINGS", "Wiring", "WiringOption", "build_wiring", "wiring_options"]

WIRINGS: dict[str, type[Wiring]] = {
    "rail_optimised": RailOptimised,
    "fat_tree": FatTree,
    "rail_only": RailOnly,
    "dragonfly": Dragonfly,
    "torus": Torus,
    "switch": OneSwitch,
}
"""Wirings by name."""

_UNITS = ("_bytes_per_s",)
"""Units at the end of a field's name; a scenario writes the unit into the value instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WiringOption:
    """One option of a wiring, as a scenario gives it."""

    key: str
    """Key in a scenario: the name of the field without its unit."""
    field: str
    """Field of the wiring's dataclass."""
    is_required: bool
    """Whether the wiring has no default for the option."""


def wiring_options(kind: str) -> tuple[WiringOption, ...]:
    """Return the options of a wiring, in the order of the fields of its dataclass.

    >>> [(option.key, option.is_required) for option in wiring_options("torus")]
    [('shape', True), ('link_bandwidth', False)]
    """
    return tuple(
        WiringOption(key=_key(field.name), field=field.name, is_required=field.default is MISSING)
        for field in fields(WIRINGS[kind])  # type: ignore[arg-type]  # wirings are dataclasses
    )


def build_wiring(kind: str, options: dict[str, object]) -> Wiring:
    """Return the wiring called `kind` from options by their keys in a scenario.

    >>> build_wiring("torus", {"shape": (2, 4), "link_bandwidth": 50e9})
    Torus(shape=(2, 4), link_bandwidth_bytes_per_s=50000000000.0)
    """
    given = {option.field: options[option.key] for option in wiring_options(kind) if option.key in options}
    return WIRINGS[kind](**given)


def _key(field: str) -> str:
    for unit in _UNITS:
        field = field.removesuffix(unit)
    return field
