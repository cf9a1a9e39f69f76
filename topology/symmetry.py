"""Symmetries of a regular cluster: groups of GPUs with the same wiring, and how the links of one map to the other's.

Model
-----
Two groups have the same wiring when the paths between their GPUs, pair by pair, have the same classes (same node, same
leaf, across leaves), the links of their GPUs the same capacities, the links between their leaves and the spines too
where paths use these links, and the GPUs the same speeds. Traffic inside one group then loads the links of that group
as the same traffic inside the other group loads the links of the other group; links between leaves and spines belong
to their leaves.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Wired", "link_map", "meets_others", "own_links", "wiring_of"]

IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]


class Wired(Protocol):
    """The attributes of a `topology.regular_cluster.RegularCluster` that this module reads."""

    @property
    def num_nodes(self) -> int: ...  # noqa: D102  # see there
    @property
    def link_names(self) -> list[str]: ...  # noqa: D102
    @property
    def gpu_links(self) -> Mapping[str, IntArray]: ...  # noqa: D102
    @property
    def spine_links(self) -> tuple[IntArray, IntArray]: ...  # noqa: D102
    @property
    def leaf_of(self) -> IntArray: ...  # noqa: D102
    @property
    def can_saturate(self) -> BoolArray: ...  # noqa: D102
    @property
    def capacity_bytes_per_s(self) -> FloatArray: ...  # noqa: D102
    @property
    def speeds(self) -> FloatArray: ...  # noqa: D102

    def classes(self, src: ArrayLike, dst: ArrayLike) -> tuple[BoolArray, BoolArray, BoolArray]: ...  # noqa: D102


def own_links(cluster: Wired, ranks: IntArray) -> IntArray:
    """Return the links that belong to each of `ranks` [R] and to no other GPU. Shape [kinds and directions, R]."""
    return np.stack([links[ranks] for links in cluster.gpu_links.values()])


def wiring_of(cluster: Wired, ranks: IntArray) -> bytes:
    """Return a key of the wiring of `ranks` [R]: groups of GPUs with equal keys have the same wiring.

    >>> from topology.cluster import build_cluster
    >>> from topology.presets.devices import DEVICES
    >>> from topology.presets.clusters import FABRICS
    >>> cluster = build_cluster(FABRICS["dgx-h100"], 2, DEVICES["h100-sxm"])
    >>> first, second, across = (np.array(ranks) for ranks in ([0, 1], [8, 9], [0, 8]))
    >>> wiring_of(cluster, first) == wiring_of(cluster, second), wiring_of(cluster, first) == wiring_of(cluster, across)
    (True, False)
    """
    classes = np.stack(cluster.classes(ranks[:, None], ranks))
    links = [own_links(cluster, ranks)]
    if classes[2].any():
        links += [of_leaf[cluster.leaf_of[ranks]] for of_leaf in cluster.spine_links]
    figures = [cluster.capacity_bytes_per_s[some].tobytes() for some in links]
    return b"".join([np.packbits(classes).tobytes(), *figures, cluster.speeds[ranks].tobytes()])


def meets_others(cluster: Wired, ranks: IntArray) -> bool:
    """Tell whether traffic among `ranks` [R] uses spine links that can saturate, which other GPUs use too."""
    if not cluster.classes(ranks[:, None], ranks)[2].any():
        return False
    return bool(cluster.can_saturate[np.concatenate([links.ravel() for links in cluster.spine_links])].any())


def link_map(cluster: Wired, ranks: IntArray, others: IntArray) -> IntArray:
    """Return for each link the link that replaces it when `others` [R] replace `ranks` [R]. Shape [L].

    Links that traffic among `ranks` cannot use map to themselves.
    """
    moved = np.arange(len(cluster.link_names), dtype=np.intp)
    moved[own_links(cluster, ranks)] = own_links(cluster, others)
    if cluster.num_nodes > 1:
        for links in cluster.spine_links:
            if links.size:
                moved[links[cluster.leaf_of[ranks]]] = links[cluster.leaf_of[others]]
    return moved
