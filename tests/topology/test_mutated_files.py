"""Files with random damage: each is read or refused in our words, whatever was changed."""

import random

import pytest
from machines import DGX1_V100, HGX_H100, NCCL_H100, NCCL_NDV4

from sim.errors import InvalidValueError
from topology.cluster import build_graph_cluster
from topology.fabric import build_graph
from topology.files.graphml import graph_to_graphml, graphml_to_graph
from topology.files.nccl_xml import nccl_xml_to_node
from topology.files.one_node import repeat_node
from topology.files.topo_matrix import topo_matrix_to_node
from topology.presets.clusters import FABRICS
from topology.presets.devices import DEVICES

PIECES = ["", "x", "0", "-1", "<", ">", "&", "\x00", "é", "9" * 20, '"', "\n", "nan", " "]
READERS = {
    "graphml": (graph_to_graphml(build_graph(FABRICS["dgx-h100"], 2)), graphml_to_graph),
    "xml": (NCCL_H100, lambda text: repeat_node(nccl_xml_to_node(text), 2, name="x", nic_bytes_per_s=1e9)),
    "classes": (NCCL_NDV4, lambda text: repeat_node(nccl_xml_to_node(text, sm=80), 1, name="x")),
    "switch": (HGX_H100, lambda text: repeat_node(topo_matrix_to_node(text, sm=90), 1, name="x")),
    "mesh": (DGX1_V100, lambda text: repeat_node(topo_matrix_to_node(text, sm=70), 1, name="x")),
}


def damaged(text: str, rng: random.Random) -> str:
    """Return a text with a few characters replaced, removed or repeated."""
    for _ in range(rng.choice([1, 2, 8])):
        at, what = rng.randrange(len(text)), rng.random()
        if what < 0.4:
            text = text[:at] + rng.choice(PIECES) + text[at + 1 :]
        elif what < 0.7:
            text = text[:at] + text[at + rng.choice([1, 5, 50]) :]
        else:
            other = rng.randrange(len(text))
            text = text[:at] + text[other : other + rng.choice([1, 10, 100])] + text[at:]
    return text


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_read_or_refused(name: str) -> None:
    """Nothing but a cluster or an `InvalidValueError` comes of 150 damaged texts."""
    text, read = READERS[name]
    rng, refused = random.Random(5), 0
    for _ in range(150):
        try:
            build_graph_cluster(read(damaged(text, rng)), DEVICES["h100-sxm"], name="damaged")
        except InvalidValueError as error:
            refused += 1
            assert str(error).count(" must ") >= 1
    assert refused > 10
