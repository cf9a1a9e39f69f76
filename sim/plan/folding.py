"""Lanes that would run alike are found by comparing values, run once, and counted as often as they are.

Model
-----
A lane of every stage forms a pipeline; those of two lanes run alike when all of this is equal:

    counts     of tokens per source rank and expert, for each layer and microbatch
    wiring     paths between all their GPUs, and the capacities of these GPUs' links
    reduction  bytes that the gradients of each stage put on their GPUs' links (training), unless the reduction meets
               no traffic of a lane

and when their traffic meets no other pipeline's on a link that can be full. The GPUs themselves are all of one model.

A reduction meets no traffic of a lane when it begins after the last pass; when no send is under way then (there is one
stage, or a stage waits for its sends); when all lanes of a stage take part in each of its transfers; and when these use
only links that belong to GPUs of the stage, or links that are never full. Replicas may then carry different bytes, as
the roots of NCCL's trees do: each waits for the whole reduction.

Of lanes that run alike the first runs; what this lane does counts for each of them, on the links and ranks that each
lane has at the same positions. What lanes do together (reduction of gradients) is run whole, and counts once.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.build.work import Work
from sim.plan.expert_routing import copies_drawn
from sim.plan.ops import Transfer
from topology.cluster import Cluster
from topology.links import LinkLoad, LinkMap, SharedLinks, scattered_numbers

__all__ = ["Folding", "equivalent_lanes"]

IntArray = NDArray[np.intp]
Reductions = Callable[[int], Sequence[Transfer]]
"""What the data-parallel replicas of a stage exchange."""
_KEPT = 8  # clusters and lanes of which wiring is kept for further runs
_DIGITS = 9  # of bytes on a link over the most on any, that count: the rest is rounding


class _Spread(NamedTuple):
    """The links of all lanes that one runs for, and what each of them carries."""

    links: SharedLinks
    group: IntArray
    """For each part of what a group of links carries: the group. Shape [P]."""
    source: IntArray
    """The link of the lane that runs, by its place, whose bytes are that part. Shape [P]."""


_Moved = dict[int, tuple[LinkMap, IntArray]]
"""Lane that runs -> its links, and those in their place on each of the lanes that it runs for."""
_Spreads = dict[tuple[int, bytes], _Spread]
"""Lane that runs, links of its own -> the links of all lanes in the place of these."""


@lru_cache(maxsize=_KEPT)
def _known_links(
    cluster: Cluster, lane_of: bytes, lane_ranks: bytes, shape: tuple[int, ...]
) -> tuple[_Moved, _Spreads]:
    """Return the links known so far, for all runs of a process whose lanes are folded alike."""
    del cluster, lane_of, lane_ranks, shape
    return {}, {}


class Folding:
    """Which lane runs for which."""

    def __init__(self, lane_of: IntArray, lane_ranks: IntArray, cluster: Cluster) -> None:
        """Fold lanes.

        Parameters
        ----------
        lane_of
            The lane that runs for each. Shape [lanes].
        lane_ranks
            Ranks of each lane. Shape [stages, lanes, lane_size].
        cluster
            Where the lanes run.
        """
        self.lane_of, self._lane_ranks, self._cluster = lane_of, lane_ranks, cluster
        self.num_of = np.bincount(lane_of, minlength=lane_of.size)
        self._home = np.full(int(lane_ranks.max()) + 1, -1)
        for lane in range(lane_of.size):
            self._home[lane_ranks[:, lane]] = lane
        self._counts: dict[Transfer, int] = {}
        self._moved, self._spreads = _known_links(cluster, lane_of.tobytes(), lane_ranks.tobytes(), lane_ranks.shape)

    @property
    def running(self) -> list[int]:
        """Lanes that run, ascending."""
        lanes: list[int] = np.unique(self.lane_of).tolist()
        return lanes

    def count(self, transfer: Transfer) -> int:
        """Return how many transfers one stands for: as many as its lane, or 1 where lanes meet."""
        count = self._counts.get(transfer)
        if count is None:
            home = self._home[transfer.ranks]
            count = int(self.num_of[home[0]]) if home.size and (home == home[0]).all() else 1
            self._counts[transfer] = count
        return count

    def load(self, transfer: Transfer) -> LinkLoad:
        """Return the bytes on links of all transfers that one stands for."""
        if self.count(transfer) == 1:
            return transfer.load
        spread = self._spread(int(self._home[transfer.ranks[0]]), transfer.load.links)
        num_bytes = np.bincount(spread.group, weights=transfer.load.num_bytes[spread.source])
        return spread.links.load(num_bytes.astype(np.float64))

    def ranks(self, transfer: Transfer, ranks: IntArray) -> list[IntArray]:
        """Return ranks of a transfer's lane and those in their place, for each lane that it stands for."""
        if self.count(transfer) == 1:
            return [ranks]
        home = int(self._home[transfer.ranks[0]])
        position = np.zeros(self._home.size, dtype=np.intp)
        own = self._lane_ranks[:, home].ravel()
        position[own] = np.arange(own.size)
        return [self._lane_ranks[:, lane].ravel()[position[ranks]] for lane in np.flatnonzero(self.lane_of == home)]

    # ---- private -------------------------------------------------------------------------------------------------

    def _spread(self, lane: int, links: IntArray) -> "_Spread":
        """Return the links of all lanes that `lane` runs for, in the place of `links` of its own [K]."""
        key = (lane, links.tobytes())
        if key not in self._spreads:
            own, elsewhere = self._links_of(lane)
            place, is_own = own.places(links)
            moved = np.where(is_own, elsewhere[:, place], links).ravel()  # lane by lane, each in the order of `links`
            source = np.tile(np.arange(links.size), len(elsewhere))
            is_found = np.zeros(int(moved.max(initial=-1)) + 1, dtype=np.bool_)
            is_found[moved] = True
            found, index = np.flatnonzero(is_found), (np.cumsum(is_found) - 1)[moved]
            number_of = np.zeros(found.size, dtype=np.uint64)  # of what a link carries
            np.add.at(number_of, index, scattered_numbers(links.size)[source])
            _, first, group = np.unique(number_of, return_index=True, return_inverse=True)
            is_first = np.full(found.size, -1)
            is_first[first] = np.arange(first.size)
            of_first = is_first[index] >= 0
            self._spreads[key] = _Spread(
                links=SharedLinks(found, group), group=is_first[index][of_first], source=source[of_first]
            )
        return self._spreads[key]

    def _links_of(self, lane: int) -> tuple[LinkMap, IntArray]:
        """Return the links of `lane`, and the links in their place on each of the lanes that it runs for [lanes, M]."""
        if lane not in self._moved:
            own = self._lane_ranks[:, lane].ravel()
            others = np.flatnonzero(self.lane_of == lane)
            maps = [self._cluster.link_map(own, self._lane_ranks[:, other].ravel()) for other in others]
            self._moved[lane] = (maps[0], np.stack([of_other.images for of_other in maps]))
        return self._moved[lane]


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
    if num_lanes == 1 or work.mesh.convention.experts_span_stages or work.network.fidelity == "flow":
        return alone  # spanning lanes serve each other; flows are not folded
    wiring = _wiring(work.cluster, lane_ranks.tobytes(), lane_ranks.shape)
    if wiring is None:
        return alone
    classes: dict[tuple[int, Hashable], int] = {}
    lane_of = np.zeros(num_lanes, dtype=np.intp)
    for values in _compared(work, lane_ranks, wiring, reductions):
        classes.clear()
        for lane, value in enumerate(values):
            lane_of[lane] = classes.setdefault((int(lane_of[lane]), value), lane)
        if len(classes) == num_lanes:
            break
    return lane_of


# ---- private -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=_KEPT)
def _wiring(cluster: Cluster, lane_ranks: bytes, shape: tuple[int, ...]) -> tuple[bytes, ...] | None:
    """Return a key of the wiring of each lane; None where the traffic of one may meet that of others."""
    ranks = np.frombuffer(lane_ranks, dtype=np.intp).reshape(shape)
    pipelines = [ranks[:, lane].ravel() for lane in range(shape[1])]
    if any(cluster.meets_others(pipeline) for pipeline in pipelines):
        return None
    return tuple([cluster.wiring_of(pipeline) for pipeline in pipelines])


def _compared(
    work: Work, lane_ranks: IntArray, wiring: tuple[bytes, ...], reductions: Reductions
) -> Iterator[Sequence[Hashable]]:
    """Yield what is compared, a value for each lane at a time, the cheapest and most telling first."""
    num_lanes = len(wiring)
    yield wiring
    if not work.has_balanced_routing:  # which gives every lane the same by its formula
        for layer in filter(work.model.is_moe_layer, work.layers):
            for microbatch in range(work.num_microbatches):
                draws = [copies_drawn(work, lane, [layer], [microbatch])[0] for lane in range(num_lanes)]
                yield [draw.tobytes() for draw in draws]
    if work.kind.trains and not _reduces_alone(work, lane_ranks, reductions):
        for stage in range(work.mesh.num_stages):
            reduced = np.zeros(len(work.cluster.link_names))
            for transfer in reductions(stage):
                reduced[transfer.load.links] += transfer.load.num_bytes
            reduced = np.round(reduced / max(reduced.max(), 1.0), _DIGITS)
            yield [reduced[work.cluster.own_links(ranks)].tobytes() for ranks in lane_ranks[stage]]


def _reduces_alone(work: Work, lane_ranks: IntArray, reductions: Reductions) -> bool:
    """Tell whether the reduction of gradients meets no traffic of a lane, and all lanes wait for all of it."""
    in_passes = work.fsdp is not None or work.sharding.gradients
    overlaps = work.overlaps_grad_reduce or work.overlaps_param_gather or work.overlaps_tp or work.runs_pairs
    sends_go_on = work.mesh.num_stages > 1 and work.runtime.overlap_p2p
    if in_passes or overlaps or sends_go_on:
        return False
    can_saturate = work.cluster.can_saturate
    for stage, of_lanes in enumerate(lane_ranks):
        is_shared = can_saturate.copy()
        is_shared[work.cluster.own_links(of_lanes.ravel())] = False
        lane_of = dict(zip(of_lanes.ravel().tolist(), np.indices(of_lanes.shape)[0].ravel().tolist(), strict=True))
        for transfer in reductions(stage):
            lanes = {lane_of.get(rank) for rank in transfer.ranks.tolist()}
            if None in lanes or len(lanes) < len(of_lanes) or is_shared[transfer.load.links].any():
                return False
    return True
