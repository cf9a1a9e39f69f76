"""Which rank holds which expert.

- `workloads.placement.kinds`: the placements by name, and the placement of a layer.
- `workloads.placement.eplb`: replicas of hot experts, as DeepSeek's load balancer places them.
- `workloads.placement.slots`: tokens of experts become tokens of slots, evenly over replicas; experts that move.
- `workloads.placement.bound`: a lower bound on the load of the busiest rank, and the loads that placements reach.
"""

from workloads.placement.kinds import (
    PLACEMENTS,
    PlacementKind,
    PlacementRequest,
    PlacementRule,
    contiguous_slots,
    place_experts,
)
from workloads.placement.slots import split_over_replicas

__all__ = [
    "PLACEMENTS",
    "PlacementKind",
    "PlacementRequest",
    "PlacementRule",
    "contiguous_slots",
    "place_experts",
    "split_over_replicas",
]
