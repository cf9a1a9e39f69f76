"""Tokens per expert: how they are drawn, and how uneven the popularity of the experts is.

- `workloads.routing.kinds`: the routings by name.
- `workloads.routing.draw`: counts of token copies per source rank, layer and microbatch.
- `workloads.routing.skew`: how uneven the popularity of the experts is, as one value.
- `workloads.routing.settings`: which experts tokens are sent to, and the limits, as one value.
- `workloads.routing.request`: one request for counts, and the streams of random numbers.
- `workloads.routing.popularity`: the share of each expert, by layer and microbatch.
- `workloads.routing.distributions`, `workloads.routing.hot`: shares by distribution, and shares with hot experts.
- `workloads.routing.fixed_counts`: counts that follow without a draw.
- `workloads.routing.chances`: shares become chances of a token to choose each expert.
- `workloads.routing.weighted`: distinct experts for many tokens at once, by these chances.
- `workloads.routing.node_limited_sampler`, `workloads.routing.nodes`: tokens that keep to some nodes.
- `workloads.routing.capacity`: what becomes of tokens beyond the capacity of an expert.
"""

from workloads.routing.draw import draw_counts
from workloads.routing.kinds import ROUTINGS, RoutingKind
from workloads.routing.popularity import expert_shares
from workloads.routing.settings import RoutingSettings
from workloads.routing.skew import Skew

__all__ = ["ROUTINGS", "RoutingKind", "RoutingSettings", "Skew", "draw_counts", "expert_shares"]
