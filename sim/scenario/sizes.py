"""The most that each count of a scenario may be.

Each is some ten to a thousand times what has been built or published, so that it refuses slips of the keyboard and no
system. What fits all of them can still be too much to simulate together: `sim.run.resources` refuses that.
"""

from collections.abc import Mapping
from typing import Final

from topology.limits import MAX_GPUS

__all__ = ["MAX_SIZES"]

_MAX_LAYERS: Final = 10_000
_MAX_EXPERTS: Final = 65_536

MAX_SIZES: Final[Mapping[str, int]] = {
    "cluster.num_nodes": MAX_GPUS,
    "cluster.gpus_per_node_used": MAX_GPUS,
    "model.layers": _MAX_LAYERS,
    "model.hidden": 1_000_000,
    "model.heads": 65_536,
    "model.kv_heads": 65_536,
    "model.head_dim": 65_536,
    "model.ffn": 10_000_000,
    "model.dense_ffn": 10_000_000,
    "model.experts": _MAX_EXPERTS,
    "model.shared_experts": 1024,
    "model.top_k": 128,
    "model.dense_layers": _MAX_LAYERS,
    "model.vocab": 100_000_000,
    "parallel.tp": MAX_GPUS,
    "parallel.pp": _MAX_LAYERS,  # a stage has a layer at least
    "parallel.ep": MAX_GPUS,
    "parallel.etp": MAX_GPUS,
    "parallel.dp": MAX_GPUS,
    "parallel.cp": MAX_GPUS,
    "parallel.vpp": _MAX_LAYERS,
    "parallel.stage_layers": _MAX_LAYERS,
    "workload.batches": 10_000_000,
    "workload.sequences": 10_000_000,
    "workload.sequence_length": 100_000_000,
    "workload.microbatches": 10_000_000,
    "workload.num_ranks": MAX_GPUS,
    "network.num_sms": 1024,
    "placement.every": 10_000_000,
    "placement.experts": _MAX_EXPERTS - 1,
    "placement.groups": _MAX_EXPERTS,
    "placement.replicas": _MAX_EXPERTS,
    "placement.stale": 10_000,
    "placement.window": 10_000,
    "routing.dead_experts": _MAX_EXPERTS,
    "routing.hot_experts": _MAX_EXPERTS,
    "routing.stride": _MAX_EXPERTS,
    "routing.max_nodes_per_token": MAX_GPUS,
}
"""Dotted key -> its largest value; of `parallel.stage_layers` that of each item. Products of tokens, experts of a token
and bytes stay whole numbers of 64 bits."""
