"""The most that each count of a scenario may be.

Each is some ten to a thousand times what has been built or published, so that it refuses slips of the keyboard and no
system. What fits all of them can still be too much to simulate together: `sim.run.resources` refuses that.
"""

from collections.abc import Mapping
from typing import Final

__all__ = ["MAX_SIZES"]

_MAX_LAYERS: Final = 10_000
_MAX_RANKS: Final = 65_536
"""GPUs of the largest cluster."""

MAX_SIZES: Final[Mapping[str, int]] = {
    "cluster.num_nodes": _MAX_RANKS,
    "cluster.gpus_per_node_used": _MAX_RANKS,
    "model.layers": _MAX_LAYERS,
    "model.hidden": 1_000_000,
    "model.heads": 65_536,
    "model.kv_heads": 65_536,
    "model.head_dim": 65_536,
    "model.ffn": 10_000_000,
    "model.dense_ffn": 10_000_000,
    "model.experts": 65_536,
    "model.shared_experts": 1024,
    "model.top_k": 128,
    "model.dense_layers": _MAX_LAYERS,
    "model.vocab": 100_000_000,
    "parallel.tp": _MAX_RANKS,
    "parallel.pp": _MAX_LAYERS,  # a stage has a layer at least
    "parallel.ep": _MAX_RANKS,
    "parallel.etp": _MAX_RANKS,
    "parallel.dp": _MAX_RANKS,
    "parallel.cp": _MAX_RANKS,
    "parallel.vpp": _MAX_LAYERS,
    "parallel.stage_layers": _MAX_LAYERS,
    "workload.batches": 10_000_000,
    "workload.sequences": 10_000_000,
    "workload.sequence_length": 100_000_000,
    "workload.microbatches": 10_000_000,
    "workload.num_ranks": _MAX_RANKS,
    "network.num_sms": 1024,
    "placement.every": 10_000_000,
    "placement.experts": 65_535,
    "placement.groups": 65_536,
    "placement.replicas": 65_536,
    "placement.stale": 10_000,
    "placement.window": 10_000,
    "routing.dead_experts": 65_536,
    "routing.hot_experts": 65_536,
    "routing.stride": 65_536,
    "routing.max_nodes_per_token": _MAX_RANKS,
}
"""Dotted key -> its largest value; of `parallel.stage_layers` that of each item. Products of tokens, experts of a token
and bytes stay whole numbers of 64 bits."""
