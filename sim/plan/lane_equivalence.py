"""Lanes that would run alike, found by comparing values.

Model
-----
A lane of every stage forms a pipeline; those of two lanes run alike when all of this is equal:

    counts     of tokens per source rank and expert, for each layer and microbatch
    wiring     paths between all their GPUs, and the capacities of these GPUs' links
    reduction  bytes that the gradients of each stage put on their GPUs' links (training)

and when their traffic meets no other pipeline's on a link that can be full. The GPUs themselves are all of one model.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from sim.build.work import Work
from sim.plan.ops import Transfer
from sim.plan.route import draw_layer

__all__ = ["equivalent_lanes"]

IntArray = NDArray[np.intp]
Reductions = Callable[[int], Sequence[Transfer]]
"""What the replicas of a stage exchange."""
_DIGITS = 9  # of bytes on a link over the most on any, that count: the rest is rounding


def equivalent_lanes(work: Work, lane_ranks: IntArray, reductions: Reductions) -> IntArray:
    """Return for each lane the first that runs alike: itself where none before it does. Shape [lanes].

    Parameters
    ----------
    work
        What is to be done.
    lane_ranks
        Ranks of each lane. Shape [stages, lanes, lane_size].
    reductions
        What the replicas of a stage exchange (training).
    """
    num_lanes = lane_ranks.shape[1]
    alone = np.arange(num_lanes)
    pipelines = [lane_ranks[:, lane].ravel() for lane in range(num_lanes)]
    if num_lanes == 1 or work.mesh.convention.experts_span_stages or work.network.fidelity == "flow":
        return alone  # spanning lanes serve each other; flows are not folded
    if any(work.cluster.meets_others(ranks) for ranks in pipelines):
        return alone
    classes: dict[tuple[int, Hashable], int] = {}
    lane_of = np.zeros(num_lanes, dtype=np.intp)
    for values in _compared(work, lane_ranks, pipelines, reductions):
        classes.clear()
        for lane, value in enumerate(values):
            lane_of[lane] = classes.setdefault((int(lane_of[lane]), value), lane)
        if len(classes) == num_lanes:
            break
    return lane_of


# ---- private -----------------------------------------------------------------------------------------------------


def _compared(
    work: Work, lane_ranks: IntArray, pipelines: list[IntArray], reductions: Reductions
) -> Iterator[list[Hashable]]:
    """Yield what is compared, a value for each lane at a time, the cheapest and most telling first."""
    num_lanes = len(pipelines)
    yield [work.cluster.wiring_of(ranks) for ranks in pipelines]
    if not work.has_balanced_routing:  # which gives every lane the same by its formula
        for layer in filter(work.model.is_moe_layer, range(work.model.layers)):
            for microbatch in range(work.num_microbatches):
                draws = [draw_layer(work, lane=lane, layer=layer, microbatch=microbatch) for lane in range(num_lanes)]
                yield [draw.tobytes() for draw in draws]
    if work.kind.trains:
        for stage in range(work.mesh.num_stages):
            reduced = np.zeros(len(work.cluster.link_names))
            for transfer in reductions(stage):
                reduced[transfer.load.links] += transfer.load.num_bytes
            reduced = np.round(reduced / max(reduced.max(), 1.0), _DIGITS)
            yield [reduced[work.cluster.own_links(ranks)].tobytes() for ranks in lane_ranks[stage]]
