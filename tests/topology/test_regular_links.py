"""The arrays of a regular cluster are those of its graph: numbers, names and figures of every link."""

from dataclasses import replace

import numpy as np
import pytest

from topology.cluster import build_cluster
from topology.degraded import Change
from topology.fabrics.clos import RailOptimised
from topology.link_groups import inventory_of
from topology.presets.clusters import FABRICS
from topology.presets.devices import DEVICES

REGULAR = [name for name in FABRICS if build_cluster(FABRICS[name], 1, DEVICES["h100-sxm"]).formula]
WIRINGS = [
    RailOptimised(),
    RailOptimised(nodes_per_leaf=1),
    RailOptimised(nodes_per_leaf=2, oversubscription=3.0),
    RailOptimised(nodes_per_leaf=5),
]


def cluster(name, num_nodes, wiring, degraded=()):
    """Return a cluster of a preset, wired anew."""
    return build_cluster(replace(FABRICS[name], wiring=wiring), num_nodes, DEVICES["h100-sxm"], degraded)


@pytest.mark.parametrize("name", REGULAR)
@pytest.mark.parametrize("num_nodes", [1, 2, 3, 6])
@pytest.mark.parametrize("wiring", WIRINGS, ids=str)
def test_the_arrays_of_all_links_are_those_of_the_graph(name, num_nodes, wiring):
    """Bit for bit, in the graph's order; a last unit may be smaller than the others."""
    found, graph = cluster(name, num_nodes, wiring), cluster(name, num_nodes, wiring).graph
    edges = list(graph.edges(data=True))
    node = dict(graph.nodes(data="node"))
    assert found.link_names == [f"{a}->{b}" for a, b, _ in edges]
    assert found.link_kinds == [data["kind"] for _, _, data in edges]
    assert found.nominal_bytes_per_s.tolist() == [data["bandwidth_bytes_per_s"] for _, _, data in edges]
    assert found.capacity_bytes_per_s.tolist() == [
        data["bandwidth_bytes_per_s"] * data["efficiency"] for _, _, data in edges
    ]
    assert found.crosses_node.tolist() == [node[a] != node[b] for a, b, _ in edges]
    assert found.min_num_links == len(edges)
    assert found.gpu_names == [vertex for vertex, data in graph.nodes(data=True) if data["kind"] == "gpu"]
    assert found.speeds.tolist() == [1.0] * found.num_gpus
    assert found.inventory == inventory_of(graph)
    assert "graph" not in vars(found)


@pytest.mark.parametrize("name", REGULAR)
@pytest.mark.parametrize("num_nodes", [1, 6])
def test_the_links_of_gpus_and_spines_are_what_their_names_say(name, num_nodes):
    found = cluster(name, num_nodes, RailOptimised(nodes_per_leaf=4))
    number = {link: i for i, link in enumerate(found.link_names)}
    rails = found.gpus_per_node
    for rank in range(found.num_gpus):
        node, rail = divmod(rank, rails)
        ends = {"nvlink": (f"gpu{rank}", f"nvswitch{node}")}
        if num_nodes > 1:
            nic = f"nic{node}.{rail}"
            ends |= {"pcie": (f"gpu{rank}", nic), "nic": (nic, f"leaf{node // 4}.{rail}")}
        for kind, (inner, outer) in ends.items():
            assert found.links.of_gpus[f"{kind}_up"][rank] == number[f"{inner}->{outer}"]
            assert found.links.of_gpus[f"{kind}_down"][rank] == number[f"{outer}->{inner}"]
    up, down = found.links.of_spines
    for (leaf, spine), link in np.ndenumerate(up):
        unit, rail = divmod(leaf, rails)
        assert link == number[f"leaf{unit}.{rail}->spine{spine}"]
        assert down[leaf, spine] == number[f"spine{spine}->leaf{unit}.{rail}"]


def test_a_degraded_cluster_has_the_figures_of_its_changed_graph():
    """A link at a quarter, and a GPU at half: all others as they were."""
    changes = [Change(part="link", name="nic1.3->leaf0.3", factor=0.25), Change(part="gpu", name="5", factor=0.5)]
    whole, found = (cluster("dgx-h100", 3, RailOptimised(), degraded) for degraded in ((), changes))
    slower = found.link_names.index("nic1.3->leaf0.3")
    factor = np.ones(len(found.link_names))
    factor[slower] = 0.25
    assert found.link_names == whole.link_names
    assert found.capacity_bytes_per_s.tolist() == (factor * whole.capacity_bytes_per_s).tolist()
    assert np.flatnonzero(found.speeds != 1.0).tolist() == [5]
    assert found.speeds[5] == 0.5


def test_a_graph_that_was_changed_before_its_figures_are_read_counts():
    """The graph is the public face of a cluster."""
    found = cluster("dgx-h100", 2, RailOptimised())
    found.graph.edges["gpu0", "nvswitch0"]["bandwidth_bytes_per_s"] = 1e9
    assert found.nominal_bytes_per_s[found.links.of_gpus["nvlink_up"][0]] == 1e9
