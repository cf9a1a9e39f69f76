"""Tokens per expert: how they are drawn, and how uneven the experts' popularity is.

- `workloads.routing.draw`: counts per source rank, layer and microbatch, by the name of a routing.
- `workloads.routing.skew`: how uneven the experts' popularity is, as one value.
- `workloads.routing.request`: what is request for, and the streams of random numbers.
- `workloads.routing.popularity`: the share of each expert, by layer and microbatch.
- `workloads.routing.sources`: shares by the name of a routing, one family per file.
- `workloads.routing.chances`: shares become chances of a token to choose each expert.
- `workloads.routing.weighted`: distinct experts for many tokens at once, by these chances.
- `workloads.routing.node_limited_sampler`, `workloads.routing.nodes`: where tokens keep to some nodes: the law, and the draw of it.
- `workloads.routing.capacity`: what becomes of tokens beyond an expert's capacity.
"""

from workloads.routing.draw import ROUTINGS, draw_counts
from workloads.routing.popularity import expert_shares
from workloads.routing.skew import Skew

__all__ = ["ROUTINGS", "Skew", "draw_counts", "expert_shares"]
