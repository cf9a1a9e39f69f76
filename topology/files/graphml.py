"""GraphML: a cluster as other programs draw and change it (yEd, Gephi, networkx), and back without loss.

Model
-----
Attributes of vertices, links and the graph are `<data>` elements, named and typed by `<key>` elements; a number is
written so that reading it gives the same number. A graph that was read from what was written is equal to it.

Assumptions
-----------
A file with a document type is refused: no entity is ever expanded. Nested graphs, ports and hyperedges are refused by
name. An undirected file's links go both ways. Styles that drawing programs add are ignored.

References
----------
Brandes et al., GraphML Progress Report, Graph Drawing 2001; http://graphml.graphdrawing.org.
"""

import io
import re
import warnings
import xml.etree.ElementTree as ET

import networkx as nx

from sim.errors import InvalidValueError
from topology.check_graph import check_graph

__all__ = ["graph_to_graphml", "graphml_to_graph", "parse_xml"]

_NUMBERS = ("rank", "node", "rail", "unit")
_FIGURES = ("bandwidth_bytes_per_s", "efficiency", "latency_s", "speed")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML file may hold, escaped or not."""
_DECLARED = re.compile(r"<!(DOCTYPE|ENTITY)", re.IGNORECASE)


def graph_to_graphml(graph: "nx.DiGraph[str]") -> str:
    """Return a cluster as GraphML.

    >>> graph: "nx.DiGraph[str]" = nx.DiGraph()
    >>> graph.add_node("gpu0", kind="gpu", rank=0, node=0, rail=0)
    >>> nx.utils.graphs_equal(graphml_to_graph(graph_to_graphml(graph)), graph)
    True
    """
    buffer = io.BytesIO()
    nx.write_graphml_xml(graph, buffer)
    return _NOT_XML.sub("?", buffer.getvalue().decode("utf-8")) + "\n"


def graphml_to_graph(text: str, name: str = "") -> "nx.DiGraph[str]":
    """Return the cluster of a GraphML text; `name` is what errors call it if the text does not name it.

    Raises
    ------
    InvalidValueError
        The text is no GraphML, or a vertex or link lacks what `topology.check_graph` wants.
    """
    root = parse_xml(text, "the GraphML")
    if _local(root.tag) != "graphml":
        raise _refused("be a `graphml` element", f"`{_local(root.tag)}`", "Save the graph as GraphML.")
    for element in root.iter():
        if _local(element.tag) in {"hyperedge", "port"}:
            raise _refused("have vertices and links alone", f"a {_local(element.tag)}", "Remove it.")
    graphs = [element for element in root.iter() if _local(element.tag) == "graph"]
    if len(graphs) != 1:
        raise _refused("hold one graph", len(graphs), "Keep one graph, with no graph inside it.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it says of styles and odd keys is no concern of a cluster
            read = nx.parse_graphml(text, node_type=str)
    except (nx.NetworkXException, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _refused("be GraphML that networkx reads", str(error)[:80] or "an error", "Save it anew.") from None
    if read.is_multigraph():
        raise _refused("have one link from a vertex to another", "parallel ones", "Add their bandwidths up.")
    graph = _with_numbers(read.to_directed())
    check_graph(graph, str(graph.graph.get("name") or name or "of a GraphML file"))
    return graph


def parse_xml(text: str, subject: str) -> ET.Element:
    """Return the root of an XML text; a document type, with which a short text can become a huge one, is refused."""
    if _DECLARED.search(text):
        raise InvalidValueError("the text", "have no document type", "a <!DOCTYPE or <!ENTITY", "Remove it.", subject)
    try:
        return ET.fromstring(text)  # without entities nothing can be expanded or fetched
    except (ET.ParseError, ValueError) as error:
        raise InvalidValueError(
            "the text", "be XML", f"an error ({error})", "Check that the file is whole.", subject
        ) from None


def _with_numbers(read: "nx.DiGraph[str]") -> "nx.DiGraph[str]":
    """Return the graph with figures as floats and counts as integers, where a program wrote them as the other."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.graph.update({key: value for key, value in read.graph.items() if key not in {"node_default", "edge_default"}})
    for vertex, data in read.nodes(data=True):
        graph.add_node(vertex, **{key: _number(key, value) for key, value in data.items()})
    for a, b, data in read.edges(data=True):
        graph.add_edge(a, b, **{key: _number(key, value) for key, value in data.items() if key != "id"})
    return graph


def _number(key: str, value: object) -> object:
    """Return a count as an integer and a figure as a float, where it can be one."""
    return _whole(value) if key in _NUMBERS else _figure(value) if key in _FIGURES else value


def _whole(value: object) -> object:
    """Return an integer that was written as a float or a text."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 12 else value


def _figure(value: object) -> object:
    """Return a number that was written as an integer or a text."""
    try:
        return float(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else value
    except (ValueError, OverflowError):
        return value


def _local(tag: str) -> str:
    """Return an element's name without its namespace."""
    return tag.rpartition("}")[2]


def _refused(rule: str, value: object, hint: str) -> InvalidValueError:
    return InvalidValueError("the text", rule, value, hint, subject="the GraphML")
