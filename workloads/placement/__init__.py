"""Which rank holds which expert.

- `workloads.placement.rule`: how experts are placed, as one value.
- `workloads.placement.place`: the placement of a layer by the name of its rule.
- `workloads.placement.packing`: equally many things into packs of nearly equal weight.
- `workloads.placement.eplb`: replicas of hot experts, as DeepSeek's load balancer places them.
- `workloads.placement.hosts`: tokens of experts become tokens of slots, evenly over replicas.
- `workloads.placement.bound`: a lower bound on the busiest rank, of a linear programme that is solved in closed form.
- `workloads.placement.compare`: how evenly placements that know the loads spread them, beside that bound.
- `workloads.placement.programme`: the programme itself, by scipy: the bound's oracle.
"""

from workloads.placement.hosts import split_over_replicas
from workloads.placement.place import PLACEMENTS, place_experts
from workloads.placement.rule import PlacementRule

__all__ = ["PLACEMENTS", "PlacementRule", "place_experts", "split_over_replicas"]
