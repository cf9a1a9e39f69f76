"""GraphML: what is written is read back equal, what other programs write is understood, what cannot be is refused."""

import networkx as nx
import pytest

from sim.errors import InvalidValueError
from topology.fabric import build_graph
from topology.files.graphml import graph_to_graphml, graphml_to_graph
from topology.presets.clusters import FABRICS

HEAD = '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">'
KEYS = """
<key id="k" for="node" attr.name="kind" attr.type="string"/><key id="r" for="node" attr.name="rank" attr.type="double"/>
<key id="n" for="node" attr.name="node" attr.type="int"/><key id="l" for="node" attr.name="rail" attr.type="int"/>
<key id="K" for="edge" attr.name="kind" attr.type="string"/>
<key id="b" for="edge" attr.name="bandwidth_bytes_per_s" attr.type="string"/>
<key id="e" for="edge" attr.name="efficiency" attr.type="int"/>
<key id="t" for="edge" attr.name="latency_s" attr.type="double"/>
"""
LINK = '<data key="K">nvlink</data><data key="b">450e9</data><data key="e">1</data><data key="t">1e-6</data>'


def gpu(name: str, rank: str = "0") -> str:
    """Return a GPU's element."""
    data = {"k": "gpu", "r": rank, "n": "0", "l": rank.partition(".")[0]}
    return f'<node id="{name}">' + "".join(f'<data key="{k}">{v}</data>' for k, v in data.items()) + "</node>"


def document(body: str, *, directed: str = "undirected") -> str:
    """Return a GraphML text."""
    return f'{HEAD}{KEYS}<graph edgedefault="{directed}">{body}</graph></graphml>'


@pytest.mark.parametrize("name", FABRICS)
@pytest.mark.parametrize("num_nodes", [1, 3])
def test_a_preset_is_read_back_equal(name: str, num_nodes: int) -> None:
    """Vertices, links, figures, sources and their order survive."""
    graph = build_graph(FABRICS[name], num_nodes)
    again = graphml_to_graph(graph_to_graphml(graph))
    assert list(again.nodes(data=True)) == list(graph.nodes(data=True))
    assert list(again.edges(data=True)) == list(graph.edges(data=True))
    assert again.graph == graph.graph


def test_an_undirected_file_with_other_number_types_is_understood() -> None:
    """Links go both ways; ranks written as floats and figures written as texts are numbers."""
    graph = graphml_to_graph(document(gpu("a", "0.0") + gpu("b", "1.0") + f'<edge source="a" target="b">{LINK}</edge>'))
    assert graph.nodes["b"]["rank"] == 1
    assert isinstance(graph.nodes["b"]["rank"], int)
    assert graph.edges["b", "a"] == {
        "kind": "nvlink",
        "bandwidth_bytes_per_s": 450e9,
        "efficiency": 1.0,
        "latency_s": 1e-6,
    }
    assert nx.is_strongly_connected(graph)


EDGE = f'<edge source="a" target="b">{LINK}</edge>'
BOMB = '<!DOCTYPE b [<!ENTITY x "xxxxxxxx"><!ENTITY y "&x;&x;&x;&x;">]>'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "be XML"),
        ("<graphml>", "be XML"),
        ("<svg/>", "be a `graphml` element"),
        (BOMB + document(gpu("a")), "have no document type"),
        (HEAD + "</graphml>", "hold one graph"),
        (document('<node id="a"><graph edgedefault="directed"/></node>'), "hold one graph"),
        (document(gpu("a") + '<hyperedge id="h"/>'), "have vertices and links alone"),
        (document(""), "no vertex of kind gpu"),
        (document('<node id="a"/>'), "vertex a must have a kind"),
        (document(gpu("a", "1")), "ranks 0, 1, 2 ... each once, got 1 GPUs with ranks 1"),
        (document(gpu("a", "0.5")), "rank of a must be an integer of at least 0, got 0.5"),
        (document(gpu("a").replace('<data key="n">0</data>', "")), "node of a must be an integer"),
        (document(gpu("a") + gpu("b", "1") + EDGE + EDGE), "have one link from a vertex to another"),
        (document(gpu("a") + gpu("b", "1") + '<edge source="a" target="b"/>'), "link a->b must have a kind"),
        (document(gpu("a") + gpu("b", "1") + EDGE.replace("450e9", "fast")), "be finite and above 0, got fast"),
        (document(gpu("a") + gpu("b", "1") + EDGE.replace("450e9", "nan")), "be finite and above 0, got nan"),
        (document(gpu("a") + gpu("b", "1") + EDGE.replace("450e9", "0")), "be finite and above 0, got 0"),
        (document(gpu("a") + gpu("b", "1") + EDGE.replace(">1<", ">2<")), "lie in (0, 1]"),
        (document(gpu("a") + gpu("b", "1")), "leave every GPU a way to every other"),
        (document(gpu("a") + gpu("b", "x")), "be GraphML that networkx reads"),
    ],
)
def test_what_cannot_be_a_cluster_is_refused(text: str, words: str) -> None:
    """Each refusal names the vertex or link, the rule and the value."""
    with pytest.raises(InvalidValueError) as refused:
        graphml_to_graph(text)
    assert words in str(refused.value)
