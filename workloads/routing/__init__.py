"""Tokens per expert: how they are drawn, and how uneven the popularity of the experts is.

- `workloads.routing.kinds`: the routings by name.
- `workloads.routing.draw`: counts of token copies per source rank, layer and microbatch.
- `workloads.routing.kept_draws`: draws that are kept for further runs of a process.
- `workloads.routing.skew`: how uneven the popularity of the experts is, and measures of how uneven loads are.
- `workloads.routing.settings`: which experts tokens are sent to, and the limits, as one value.
- `workloads.routing.request`: one request for counts, and the streams of random numbers.
- `workloads.routing.popularity`: the share of each expert, by layer and microbatch.
- `workloads.routing.distributions`, `workloads.routing.hot`: shares by distribution, and shares with hot experts.
- `workloads.routing.fixed_counts`: counts that follow without a draw.
- `workloads.routing.conditional_bernoulli`: distinct experts for many tokens by the shares of the experts.
- `workloads.routing.node_limited_sampler`: tokens on at most M nodes.
- `workloads.routing.normal_counts`: counts by a normal law, for who takes them instead of exact ones.
- `workloads.routing.capacity`: what becomes of tokens beyond the capacity of an expert.
"""

from workloads.routing.draw import draw_counts, draw_for_hosts, node_probabilities
from workloads.routing.kinds import ROUTINGS, RoutingKind
from workloads.routing.popularity import expert_shares
from workloads.routing.request import RoutingRequest
from workloads.routing.settings import RoutingSettings
from workloads.routing.skew import Skew

__all__ = [
    "ROUTINGS",
    "RoutingKind",
    "RoutingRequest",
    "RoutingSettings",
    "Skew",
    "draw_counts",
    "draw_for_hosts",
    "expert_shares",
    "node_probabilities",
]
