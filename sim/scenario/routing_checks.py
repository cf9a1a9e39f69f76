"""What the kinds of routing and placement need, and what means nothing to them."""

from collections.abc import Mapping
from typing import Final

from sim.errors import InvalidValueError
from sim.scenario.fields import Section
from sim.scenario.parallel_section import PlacementSpec, RoutingSpec

__all__ = ["check_placement", "check_routing"]

_ORDERED: Final = ("zipf", "power_law", "dirichlet", "hot_expert", "hot_node")
_ROUTING_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "skew": (*_ORDERED, "drift", "bursty"),
    "hot_experts": ("hot_node",),
    "persistence": ("drift",),
    "burst_share": ("bursty",),
    "stride": ("stride",),
    "layer_correlation": (*_ORDERED, "drift", "bursty"),
    "dead_experts": ("multinomial", *_ORDERED, "drift", "bursty"),
    "shuffled": _ORDERED,
    "file": ("trace",),
    "max_nodes_per_token": ("multinomial", "balanced", *_ORDERED, "drift", "bursty", "trace"),
}
"""Key of `routing` -> the kinds that it means something to."""
_PLACEMENT_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "replicas": ("eplb",),
    "groups": ("eplb",),
    "window": ("greedy", "eplb"),
    "stale": ("greedy", "eplb"),
    "every": ("greedy", "eplb"),
    "moves": ("round_robin", "random", "explicit", "greedy", "eplb"),
    "experts": ("explicit",),
}
"""Key of `placement` -> the kinds that it means something to."""


def check_routing(routing: RoutingSpec, workload_kind: str) -> None:
    """Refuse keys of routing that would mean nothing, and a trace without its file."""
    if workload_kind == "collective" and routing.capacity_factor is not None:
        hint = "Capacities belong to the experts of a model."
        rule, value = "be left out with workload.kind collective", routing.capacity_factor
        raise InvalidValueError(("routing", "capacity_factor"), rule=rule, value=value, hint=hint)
    _check_keys("routing", routing, routing.kind, _ROUTING_KEYS)
    if routing.kind == "trace" and routing.file is None:
        raise InvalidValueError(
            ("routing", "file"), rule="be given with kind trace", value="nothing", hint="Name a recording."
        )
    if routing.capacity_factor is None and routing.overflow != "drop":
        hint = "Give routing.capacity_factor, such as 1.25."
        rule = "be left out without routing.capacity_factor"
        raise InvalidValueError(("routing", "overflow"), rule=rule, value=routing.overflow, hint=hint)
    if routing.capacity_factor == 0:
        hint = "Write for example 1.25, or null for all tokens."
        raise InvalidValueError(("routing", "capacity_factor"), rule="be above 0", value=0, hint=hint)


def check_placement(placement: PlacementSpec) -> None:
    """Refuse keys of a placement that would mean nothing, and one by hand without its experts."""
    _check_keys("placement", placement, placement.kind, _PLACEMENT_KEYS)
    if placement.kind == "explicit" and placement.experts is None:
        hint = "Write the experts of each rank, such as [[0, 1], [2, 3]]."
        raise InvalidValueError(
            ("placement", "experts"), rule="be given with kind explicit", value="nothing", hint=hint
        )


def _check_keys(section: str, spec: Section, kind: str, meant_for: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse a key with another value than its default where the kind has no use for it."""
    for key, kinds in meant_for.items():
        value = getattr(spec, key)
        if kind not in kinds and value != type(spec).model_fields[key].default:
            hint = f"It belongs to kind {kinds[0]}." if len(kinds) == 1 else f"It belongs to kinds {', '.join(kinds)}."
            raise InvalidValueError((section, key), rule=f"be left out with kind {kind}", value=value, hint=hint)
