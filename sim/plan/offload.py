"""Activations of the first layers of each model chunk, kept on the host until their backward pass.

Model
-----
A layer's activations are copied out while the next layer runs, and back while the layer after it runs backward, with
memory for two layers on the device. In the steady state of that pipeline a layer takes the longer of both::

    copy_s       = activations of the layer on a rank / host_bytes_per_s of the device
    layer_s      = max(own operations, copy_s)                                  forward, and backward

What the copy takes longer is a wait of the lane, which the accounts of time count as `other_compute`. The device keeps
no activations of these layers but those of two, leaving and coming back.

Assumptions
-----------
Copies take no SMs (copy engines do), and share their bus with nobody: NICs on the same PCIe switch are left out, which
errs fast. Each GPU has its bandwidth to the host to itself. The operations of a layer are taken as long as they are
when nothing else runs. As in Megatron-LM, offloading goes with neither recomputation nor a pipeline.

References
----------
Transformer Engine, `get_cpu_offload_context` (double buffers). Megatron-LM, `--cpu-offloading-num-layers`.
"""

from collections.abc import Sequence

import numpy as np

from sim.build.work import Work
from sim.plan.ops import AwaitStream, Collective, Compute, HostWork, Op, Service, TimedKernel
from sim.time import to_ns
from workloads.memory import activation_bytes_per_microbatch

__all__ = ["alone_ns", "wait_for_copy"]


def wait_for_copy(work: Work, layer: int, ops: Sequence[Op]) -> list[Op]:
    """Return the wait after the operations of a layer of one pass, for as long as its copy takes longer: none or one.

    Parameters
    ----------
    work
        What runs.
    layer
        Number of the layer, whose activations are on the host from F to B.
    ops
        The layer's operations in this pass.
    """
    if not work.is_offloaded(layer):
        return []
    kept_bytes = activation_bytes_per_microbatch(
        work.model, work.mesh, [layer], work.rank_tokens, work.recompute, sequence_length=work.sequence_length
    )
    wait_ns = to_ns(kept_bytes / work.cluster.device.host_bytes_per_s) - alone_ns(ops)
    if wait_ns <= 0:
        return []
    times = np.full(work.mesh.lane_size, wait_ns, dtype=np.int64)
    return [Compute(kernels=(TimedKernel(kind="other_compute", layer=layer, duration_ns=times, flops=0.0),))]


def alone_ns(ops: Sequence[Op]) -> int:
    """Return how long ops take one after another when nothing else runs, but for what runs on streams next to them."""
    lane_ns, stream_ns = 0, dict[str, int]()
    for op in ops:
        if isinstance(op, AwaitStream):
            lane_ns = max(lane_ns, stream_ns.get(op.stream, 0))
        elif isinstance(op, Collective) and op.stream is not None:
            stream_ns[op.stream] = max(lane_ns, stream_ns.get(op.stream, 0)) + _duration_ns(op)
        elif not isinstance(op, HostWork):
            lane_ns += _duration_ns(op)
    return lane_ns


def _duration_ns(op: Compute | Collective | Service) -> int:
    """Return how long an op takes when nothing else runs."""
    if isinstance(op, Compute):
        return int(op.total_ns.max())
    if isinstance(op, Collective):
        return max((transfer.latency_ns + transfer.alone_ns for transfer in op.transfers), default=0)
    return int(op.duration_ns.max(initial=0))
