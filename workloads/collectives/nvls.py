"""All-reduce that the NVLink switch reduces and multicasts; between nodes two trees on every rail (NVLSTree).

Model
-----
    inside a node     6/5 * S over each GPU's link, each way
    between nodes     as `workloads.collectives.tree`

The least that must pass is (1 + 1 / g) * S: the switch reads S from each of g GPUs and hands each its part of the sum,
which it writes to all. 6/5 is what NCCL's cost model counts for any g.

Assumptions
-----------
One message inside a node, whatever its ranks: they wait for the switch, not for each other.

References
----------
NVIDIA/nccl src/graph/tuning.cc (ratio 5/6 of NVLS and NVLSTree, latencies).
"""

from collections.abc import Sequence

import numpy as np

from workloads.collectives.exchange import Exchange, Step, nodes_in_order
from workloads.collectives.ring import ring_all_reduce
from workloads.collectives.tree import tree_flows, tree_step

__all__ = ["nvls_all_reduce"]

_OVER_LINK = 6 / 5


def nvls_all_reduce(ranks: Sequence[int], node_of: Sequence[int], num_bytes: float) -> Exchange:
    """Sum `num_bytes` over all `ranks` and leave the result on each; with one rank on a node a ring does it.

    >>> nvls_all_reduce([0, 1, 2, 3], [0, 0, 0, 0], 100.0).total_bytes  # 4 ranks send 120 each
    480.0
    """
    nodes = nodes_in_order(ranks, node_of)
    if min(len(node) for node in nodes) < 2 or len({len(node) for node in nodes}) > 1:
        return ring_all_reduce(ranks, node_of, num_bytes)
    inside = [pair for node in nodes for pair in zip(node, [*node[1:], node[0]], strict=True)]
    across = tree_flows(nodes)
    across_bytes = num_bytes / 2 / len(nodes[0])
    pairs = np.array(inside + across, dtype=np.intp)
    split = len(inside)
    steps = [Step(count=1, src=pairs[:split, 0], dst=pairs[:split, 1])]
    if across:
        steps.append(tree_step(pairs[split:], len(nodes)))
    return Exchange(
        src=pairs[:, 0],
        dst=pairs[:, 1],
        num_bytes=np.array([_OVER_LINK * num_bytes] * split + [across_bytes] * len(across)),
        steps=tuple(steps),
        flow_bytes=across_bytes if across else _OVER_LINK * num_bytes,
    )
