"""Links flow by flow: the sum over flows is the load, and each flow's links are its path."""

from itertools import pairwise

import numpy as np
import pytest

from topology.cluster import build_cluster
from topology.presets.clusters import FABRICS
from topology.presets.devices import DEVICES

CLUSTERS = [("dgx-h100", 1), ("dgx-h100", 3), ("dgx-h100", 40), ("gb200-nvl72", 2)]


@pytest.mark.parametrize(("preset", "num_nodes"), CLUSTERS)
def test_the_flows_of_a_matrix_add_up_to_its_load(preset, num_nodes):
    """What each flow puts on links, summed, is what `load` says: on one node, one unit and two."""
    cluster = build_cluster(FABRICS[preset], num_nodes, DEVICES["h100-sxm"])
    rng = np.random.default_rng(1)
    src, dst = rng.integers(0, cluster.num_gpus, (2, 500))
    num_bytes = rng.uniform(1.0, 1e6, 500)
    flows = cluster.flow_links(src, dst)
    total = np.bincount(
        flows.links, weights=flows.share * num_bytes[flows.flow_of_entry], minlength=len(cluster.link_names)
    )
    load = cluster.load(src, dst, num_bytes)
    assert np.flatnonzero(total).tolist() == load.links.tolist()
    assert total[load.links] == pytest.approx(load.num_bytes, rel=1e-12)


@pytest.mark.parametrize("dst", [0, 1, 8, 9])
def test_a_flow_uses_the_links_of_its_paths(dst):
    """The links are those of the paths over all spines, with equal shares."""
    cluster = build_cluster(FABRICS["dgx-h100"], 2, DEVICES["h100-sxm"])
    flows = cluster.flow_links([0], [dst])
    spines = range(4) if cluster.paths.path_class(0, dst) == "spine" else range(1)
    wanted = {}
    for spine in spines:
        path = cluster.paths.path(0, dst, spine=spine)
        for a, b in pairwise(path):
            wanted[f"{a}->{b}"] = wanted.get(f"{a}->{b}", 0.0) + 1 / len(spines)
    names = [cluster.link_names[link] for link in flows.links]
    assert dict(zip(names, flows.share.tolist(), strict=True)) == wanted
