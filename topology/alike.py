"""Groups of GPUs of a regular cluster that are wired alike, and which link stands in the place of which other.

Model
-----
Two groups are wired alike when the paths between their GPUs, pair by pair, have the same classes (same node, same leaf,
across leaves), the links of their GPUs the same capacities, and the GPUs the same speeds. Traffic inside one then loads
its own links as the same traffic inside the other loads the other's; links between leaves and spines go with their
leaves.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # whose methods these are
    from topology.regular_cluster import RegularCluster

__all__ = ["link_map", "meets_others", "own_links", "wiring_of"]

IntArray = NDArray[np.intp]


def own_links(cluster: "RegularCluster", ranks: IntArray) -> IntArray:
    """Return the links that belong to each of `ranks` [R] and to no other GPU. Shape [kinds and directions, R]."""
    return np.stack([links[ranks] for links in cluster.gpu_links.values()])


def wiring_of(cluster: "RegularCluster", ranks: IntArray) -> bytes:
    """Return what groups of GPUs that are wired alike have in common, for `ranks` [R].

    >>> from topology.cluster import build_cluster
    >>> from topology.presets.devices import DEVICES
    >>> from topology.presets.clusters import FABRICS
    >>> cluster = build_cluster(FABRICS["dgx-h100"], 2, DEVICES["h100-sxm"])
    >>> first, second, across = (np.array(ranks) for ranks in ([0, 1], [8, 9], [0, 8]))
    >>> wiring_of(cluster, first) == wiring_of(cluster, second), wiring_of(cluster, first) == wiring_of(cluster, across)
    (True, False)
    """
    classes = np.packbits(np.stack(cluster.classes(ranks[:, None], ranks)))
    capacities, speeds = cluster.capacity_bytes_per_s[own_links(cluster, ranks)], cluster.speeds[ranks]
    return classes.tobytes() + capacities.tobytes() + speeds.tobytes()


def meets_others(cluster: "RegularCluster", ranks: IntArray) -> bool:
    """Tell whether traffic among `ranks` [R] uses links that can be full and are not its own: some to a spine."""
    if not cluster.classes(ranks[:, None], ranks)[2].any():
        return False
    return bool(cluster.can_fill[np.concatenate([links.ravel() for links in cluster.spine_links])].any())


def link_map(cluster: "RegularCluster", ranks: IntArray, others: IntArray) -> IntArray:
    """Return for each link what stands in its place when `others` [R] stand in the place of `ranks` [R]. Shape [L].

    Links that traffic among `ranks` cannot use stay what they are.
    """
    moved = np.arange(len(cluster.link_names), dtype=np.intp)
    moved[own_links(cluster, ranks)] = own_links(cluster, others)
    if cluster.num_nodes > 1:
        for links in cluster.spine_links:
            if links.size:
                moved[links[cluster.leaf_of[ranks]]] = links[cluster.leaf_of[others]]
    return moved
