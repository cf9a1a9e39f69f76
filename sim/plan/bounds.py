"""Two lower bounds on the time of a batch: the arithmetic alone, and the wires alone.

Model
-----
    bound_compute   FLOPs of a batch (causal attention), without those of dropped copies / peak of all GPUs
    bound_wires     the slower of NICs and NVLink: bytes that must pass / their datasheet bandwidth over all GPUs

Bytes that must pass, whatever the algorithm (per TP group of k nodes with g ranks each, tensor of S bytes): a sum over
the group takes (g - 1) / g * S per rank and direction inside a node, summed in the switch or not, and S per node and
direction where it leaves the node, which the node's g NICs share. A token's copies leave its node once per node that
holds one of its experts, and as much comes back. Of K nodes with h experts each that is, on average,

    (K - 1) / K * v      v = M (1 - (1 - 1/M)^top_k)                  experts alike, nothing dropped, M: K or the limit
                         v = top_k * share computed / min(top_k, h)   otherwise: as few nodes as hold the copies

for a token's own node is as likely as any other: popularity is the same for all sources. Padding adds to both, and is
left out.

Assumptions
-----------
No bubble, no latency, no overlap lost, kernels at the peak, links at the datasheet's rate: nothing real is faster.
Throughput counts the tokens of a batch whatever becomes of their copies; a token whose copies are dropped passes by the
experts.
"""

from dataclasses import dataclass

import numpy as np

from sim.build.work import Work
from sim.plan.costs import Costs
from workloads.blocks.ffn import DenseFfn
from workloads.collectives.settings import NetworkSettings
from workloads.routing import ROUTINGS

__all__ = ["Bounds", "all_reduce_wire_times_s", "bounds_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Lower bounds on the time of one batch."""

    compute_s: float
    """Arithmetic at the peak of all GPUs."""
    wires_s: float
    """Bytes over the busiest kind of wires."""
    batch_tokens: int
    """Tokens of the batch."""

    def of_metric(self, metric: str, batches: int) -> tuple[float | None, float | None]:
        """Return the bound by compute and by wires on a metric; None where the metric is no time or throughput.

        >>> Bounds(compute_s=0.05, wires_s=0.1, batch_tokens=100).of_metric("tokens_per_s", 1)
        (2000.0, 1000.0)
        """
        if metric in ("tokens_per_s", "steady_tokens_per_s"):
            return self._rate(self.compute_s), self._rate(self.wires_s)
        if metric == "latency_s":
            return self.compute_s, self.wires_s
        if metric == "step_time_s":
            return batches * self.compute_s, batches * self.wires_s
        return None, None

    def _rate(self, time_s: float) -> float | None:
        return self.batch_tokens / time_s if time_s > 0 else None


def bounds_of(work: Work, *, num_dropped: int = 0) -> Bounds:
    """Return the bounds on one batch of `work`, of which experts do not compute so many copies of all its batches."""
    passes = work.kind.flops_per_forward_flop
    model, trains = work.model, work.kind.trains
    flops = model.flops_per_token(work.attended_length, causal=True, with_head=False, with_mtp=trains)
    flops *= work.batch_tokens
    flops -= 2.0 * model.num_expert_params * num_dropped / work.batches
    head_tokens = work.head_tokens * work.microbatches * work.mesh.dp
    flops += 2.0 * work.num_heads * model.num_embedding_params * head_tokens
    peak = work.cluster.device.peak_flops_per_s(model.product_dtype) * work.mesh.world
    return Bounds(
        compute_s=passes * flops / peak,
        wires_s=_wires_s(work, num_dropped / work.batches) * len(work.kind.pass_kinds),
        batch_tokens=work.batch_tokens,
    )


def all_reduce_wire_times_s(work: Work) -> dict[str, float]:
    """Return the time the NICs alone need for one all-reduce per layer of a stage's layers over a batch, by algorithm.

    For the main case these are 27 ms (hierarchical) and 50 ms (flat multi-ring) per all-reduce that a layer has.
    """
    ranks = work.mesh.tp_groups(0)[0]
    if work.mesh.strategy.tp == 1 or np.unique(work.cluster.node_of(ranks)).size == 1:
        return {}
    num_bytes = float(work.rank_tokens * work.microbatches * work.model.hidden * work.model.dtype_bytes)
    replicas = 2 if work.has_two_replicas else 1  # a microbatch visits one replica of the model
    most_layers = max(len(work.layers_of(stage)) for stage in range(work.mesh.num_stages)) / replicas
    times = {}
    for algorithm in ("hierarchical", "ring"):
        costs = Costs(work.cluster, dtype=work.model.base_dtype, network=NetworkSettings(all_reduce=algorithm))
        load = costs.transfers.collective("all_reduce", ranks, num_bytes, group=0).link_bytes
        on_nic = work.cluster.crosses_node[load.links]
        per_layer = (load.num_bytes / work.cluster.nominal_bytes_per_s[load.links])[on_nic].max()
        times[algorithm] = float(per_layer) * most_layers
    return times


def _wires_s(work: Work, num_dropped: float) -> float:
    """Return the time of the busier of NICs and NVLink for the forward pass of a batch, of which copies are dropped."""
    mesh, model, cluster = work.mesh, work.model, work.cluster
    activations = float(work.batch_tokens * model.hidden * model.dtype_bytes)  # of all replicas, one layer
    tp_group = mesh.tp_groups(0)[0]
    num_reduces = _tp_reduces(work)
    num_nodes = np.unique(work.cluster.node_of(tp_group)).size
    nvlink = num_reduces * activations * (tp_group.size - num_nodes) / mesh.world
    nic = num_reduces * activations * num_nodes / mesh.world if num_nodes > 1 else 0.0
    ep_group = mesh.ep_groups(0)[0]
    ep_nodes = np.unique(work.cluster.node_of(ep_group)).size
    if model.num_moe_layers and ep_nodes > 1 and not mesh.replicates_tokens_over_tp:
        left = (ep_nodes - 1) / ep_nodes * _nodes_per_token(work, ep_nodes, num_dropped)
        round_trip = float(work.batch_tokens * (work.dispatch_bytes + work.combine_bytes))
        nic += model.num_moe_layers * round_trip * left / mesh.world
    return float(max(nic / cluster.exit_bytes_per_s, nvlink / cluster.in_node_bytes_per_s))


def _nodes_per_token(work: Work, num_nodes: int, num_dropped: float) -> float:
    """Return how many of the nodes a token goes to at least, on average."""
    model, skew = work.model, work.routing.skew
    loses = num_dropped > 0 or work.routing.overflow == "reroute"
    if (
        ROUTINGS[work.routing.kind].has_equal_shares
        and not skew.dead_experts
        and not work.placement.replicas
        and not loses
    ):
        among = min(work.routing.max_nodes_per_token or num_nodes, num_nodes)
        return among * (1 - (1 - 1 / among) ** model.top_k)
    computed = 1 - num_dropped / (work.batch_tokens * model.num_moe_layers * model.top_k)
    per_node = -(-(model.experts + work.placement.replicas) // num_nodes)
    return computed * model.top_k / min(model.top_k, per_node)


def _tp_reduces(work: Work) -> int:
    """Return how often a token's activations are summed over TP in one forward pass."""
    model = work.model
    kinds = model.layer_kinds(range(model.layers))
    sums = sum(count * ((layer.attention is not None) + isinstance(layer.ffn, DenseFfn)) for layer, count in kinds)
    if work.mesh.replicates_tokens_over_tp:
        sums += model.num_moe_layers
    return sums
