"""A cluster as YAML: kinds of link, vertices and links, each entry one or, with `for`, many.

Model
-----
    name: lab
    kinds:
      nvlink: {bandwidth: 450 GB/s, latency: 1.7 us, efficiency: 0.82, source: datasheet}
    vertices:
      - {name: "gpu{node}.{i}", kind: gpu, node: "{node}", for: {node: 2, i: 8}}
      - {name: "nvswitch{node}", kind: nvswitch, node: "{node}", for: {node: 2}}
    links:
      - {from: "gpu{node}.{i}", to: "nvswitch{node}", kind: nvlink, for: {node: 2, i: 8}}

`for` gives each of its names the numbers 0, 1, ... below a count, or those of a list, the last one fastest; `{name}` in
a text stands for the number. GPUs have their ranks in the order of the file, unless `rank` is given, and their rails in
the order of their node. A link goes both ways, unless `both_ways` is false; its figures are its kind's, unless it has
its own.

`graph_to_yaml` writes every vertex and cable out, without `for`. Reading what it writes gives an equal graph: figures
are written so that they are read as the same floats.
"""

import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

import networkx as nx
from pydantic import BeforeValidator, Field, ValidationError

from sim.errors import InvalidValueError, KeyPath
from sim.scenario.fields import Bandwidth, Efficiency, Flag, Ident, Seconds, Section, Text, Whole
from sim.scenario.places import Places
from sim.scenario.problems import refusals_of
from sim.scenario.sections import keys_of, sections_at
from sim.scenario.units import parse_quantity
from sim.scenario.yaml_file import parse_yaml

__all__ = ["ClusterFile", "graph_to_yaml", "yaml_to_graph"]

_MOST_LINKS: Final = 1_000_000
_PLACEHOLDER: Final = re.compile(r"\{(\w+)\}", re.ASCII)
_FIGURES: Final = ("bandwidth_bytes_per_s", "latency_s", "efficiency")
_PLAIN: Final = re.compile(r"[A-Za-z][\w.-]*", re.ASCII)
_NO_TEXTS: Final = {"null", "true", "false"}

Figures = tuple[float, float, float]


def _loop(value: object) -> object:
    """Return a count, or the numbers of a list."""
    numbers = value if isinstance(value, list) else [value]
    for number in numbers:
        least = 0 if isinstance(value, list) else 1
        if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= _MOST_LINKS:
            rule = f"be a count from 1 to {_MOST_LINKS:,}, or a list of numbers"
            raise InvalidValueError(rule=rule, value=value, hint="Write for example {i: 8}, or {i: [0, 2]}.")
    return tuple(numbers) if isinstance(value, list) else value


Loops = Annotated[
    dict[str, Annotated[int | tuple[int, ...], BeforeValidator(_loop)]], Field(alias="for", default_factory=dict)
]
"""Name -> a count, or the numbers themselves."""


class LinkKind(Section):
    """Figures that links of a kind share."""

    bandwidth: Bandwidth
    """Datasheet bandwidth of one direction [bytes/s]."""
    latency: Seconds
    """Time to the first byte over one link [s]."""
    efficiency: Efficiency = 1.0
    """Share of the bandwidth that transfers reach."""
    source: Text | None = None
    """Where the figures come from."""


class Vertex(Section):
    """A GPU, a switch, a NIC, a CPU."""

    name: Ident
    """Name of its own."""
    kind: Ident
    """gpu, nvswitch, nic, pcie, cpu, leaf, spine, switch, or a word of your own."""
    node: Whole | Text | None = None
    """The node it is in; left out for what is outside of nodes."""
    rank: Whole | Text | None = None
    """Rank of a GPU."""
    rail: Whole | Text | None = None
    """Position in the node."""
    unit: Whole | Text | None = None
    """Unit of a leaf, for pictures and programs that ask for it."""
    label: Text | None = None
    """What the machine calls it."""
    speed: Efficiency | None = None
    """Of a GPU: share of its device's speed at which its kernels run."""
    loops: Loops
    """Names, each with a count or a list of numbers; every combination of numbers is a vertex."""


class Link(Section):
    """A cable, in both directions or in one direction."""

    start: Ident = Field(alias="from")
    """Vertex it comes from."""
    end: Ident = Field(alias="to")
    """Vertex it leads to."""
    kind: Ident
    """Kind; its figures stand under `kinds` or here."""
    bandwidth: Bandwidth | None = None
    """Bandwidth of one direction [bytes/s]."""
    latency: Seconds | None = None
    """Time to the first byte [s]."""
    efficiency: Efficiency | None = None
    """Share of the bandwidth that transfers reach."""
    both_ways: Flag = True
    """Whether there is the same link back."""
    is_forwarded: Flag = False
    """Whether GPUs forward what comes over it to other GPUs of the node, as over xGMI and a DGX-1's NVLinks."""
    loops: Loops
    """Names, each with a count or a list of numbers; every combination of numbers is a link."""


class ClusterFile(Section):
    """The file."""

    name: Text | None = None
    """Name of the cluster."""
    inside: Text | None = None
    """Technology inside nodes, such as nvlink4: which protocols' latencies and rates hold; default: the links' own."""
    between: Text | None = None
    """Technology between nodes, such as ib-ndr or roce."""
    kinds: dict[str, LinkKind] = Field(default_factory=dict)
    """Kind of link -> its figures."""
    vertices: tuple[Vertex, ...]
    """GPUs, switches, NICs."""
    links: tuple[Link, ...] = ()
    """Links between them."""


def yaml_to_graph(text: str, *, file: str | None = None) -> "nx.DiGraph[str]":
    """Return the cluster of a YAML text.

    Raises
    ------
    InvalidValueError
        With `file`, line and key, where something is refused.

    Examples
    --------
    >>> graph = yaml_to_graph(
    ...     '''
    ... kinds: {nvlink: {bandwidth: 50 GB/s, latency: 2 us}}
    ... vertices: [{name: "gpu{i}", kind: gpu, node: 0, for: {i: 2}}]
    ... links: [{from: gpu0, to: gpu1, kind: nvlink}]
    ... '''
    ... )
    >>> graph.edges["gpu1", "gpu0"]["bandwidth_bytes_per_s"], graph.nodes["gpu1"]["rank"]
    (50000000000.0, 1)
    """
    document = parse_yaml(text, file=file, what="cluster")
    places = Places(file=file, lines=document.lines)
    try:
        spec = ClusterFile.model_validate(document.data)
    except ValidationError as error:
        raise places.first(refusals_of(error, document.data, _known)) from None
    try:
        return _build(spec)
    except InvalidValueError as error:
        raise places.located(error) from None


def graph_to_yaml(graph: "nx.DiGraph[str]") -> str:
    """Return a cluster as YAML.

    >>> graph: "nx.DiGraph[str]" = nx.DiGraph()
    >>> graph.add_node("gpu0", kind="gpu", rank=0, node=0, rail=0)
    >>> print(graph_to_yaml(graph), end="")
    vertices:
      - {name: gpu0, kind: gpu, rank: 0, node: 0, rail: 0}
    """
    kinds = _kinds(graph)
    own = ("name", "inside", "between")
    lines = [f"{key}: {_text(graph.graph[key])}" for key in own if graph.graph.get(key)]
    lines += ["kinds:"] if kinds else []
    for kind, figures in kinds.items():
        source = graph.graph.get(f"source.{kind}")
        more = f", source: {_text(source)}" if source else ""
        lines.append(f"  {_text(kind)}: {{{_written(figures)}{more}}}")
    lines.append("vertices:")
    lines += [f"  - {{name: {_text(vertex)}, {_vertex(data)}}}" for vertex, data in graph.nodes(data=True)]
    cables = _cables(graph, kinds)
    return "\n".join([*lines, *(["links:", *cables] if cables else [])]) + "\n"


# ---- reading -----------------------------------------------------------------------------------------------------


def _known(path: KeyPath) -> list[str]:
    """Return the keys of a section of the file."""
    return keys_of([LinkKind] if path[:1] == ("kinds",) and len(path) == 2 else sections_at(ClusterFile, path))


def _build(spec: ClusterFile) -> "nx.DiGraph[str]":
    graph: nx.DiGraph[str] = nx.DiGraph()
    own = {"name": spec.name, "inside": spec.inside, "between": spec.between}
    graph.graph.update({key: value for key, value in own.items() if value})
    graph.graph.update({f"source.{name}": kind.source for name, kind in spec.kinds.items() if kind.source})
    _check_total(spec)
    for i, vertex in enumerate(spec.vertices):
        for numbers in _numbers(vertex.loops):
            _add_vertex(graph, vertex, numbers, ("vertices", i))
    _number_gpus(graph)
    for i, link in enumerate(spec.links):
        figures = _figures(spec, link, ("links", i))
        for numbers in _numbers(link.loops):
            _add_link(graph, link, figures, numbers, ("links", i))
    return graph


def _check_total(spec: ClusterFile) -> None:
    """Refuse a short file that stands for too many vertices and links."""
    total = 0
    loops: list[tuple[KeyPath, Mapping[str, int | tuple[int, ...]]]] = [
        *((("vertices", i, "for"), vertex.loops) for i, vertex in enumerate(spec.vertices)),
        *((("links", i, "for"), link.loops) for i, link in enumerate(spec.links)),
    ]
    for path, loop in loops:
        counts = [each if isinstance(each, int) else len(each) for each in loop.values()]
        total += math.prod(counts)
        if total > _MOST_LINKS:
            rule, hint = f"give at most {_MOST_LINKS:,} vertices and links in all", "Describe a smaller part."
            raise InvalidValueError(field=path, rule=rule, value=f"{total:,}", hint=hint)


def _numbers(loops: Mapping[str, int | tuple[int, ...]]) -> Iterator[dict[str, int]]:
    """Yield the numbers of each combination, the last name fastest."""
    ranges = [range(each) if isinstance(each, int) else each for each in loops.values()]
    for combination in itertools.product(*ranges):
        yield dict(zip(loops, combination, strict=True))


def _filled(text: str, numbers: Mapping[str, int], path: KeyPath) -> str:
    """Return a text with numbers in the place of names in braces."""

    def number(match: re.Match[str]) -> str:
        if match[1] not in numbers:
            names = f"Known are {', '.join(numbers)}." if numbers else "Add `for: {" + match[1] + ": 8}`."
            raise InvalidValueError(field=path, rule="name what `for` gives", value=match[0], hint=names)
        return str(numbers[match[1]])

    return _PLACEHOLDER.sub(number, text)


def _whole(value: int | str | None, numbers: Mapping[str, int], path: KeyPath) -> int | None:
    if value is None or isinstance(value, int):
        return value
    text = _filled(value, numbers, path)
    if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) is None:
        hint = 'Write a number, or a name of `for` such as "{node}".'
        raise InvalidValueError(field=path, rule="be an integer of at least 0", value=text, hint=hint)
    return int(text)


def _add_vertex(graph: "nx.DiGraph[str]", vertex: Vertex, numbers: Mapping[str, int], path: KeyPath) -> None:
    name = _filled(vertex.name, numbers, (*path, "name"))
    if name in graph:
        hint = "Give each vertex a name of its own."
        raise InvalidValueError(field=(*path, "name"), rule="be given once", value=name, hint=hint)
    data: dict[str, Any] = {"kind": vertex.kind}
    data |= {key: getattr(vertex, key) for key in ("label", "speed") if getattr(vertex, key) is not None}
    for key in ("rank", "node", "rail", "unit"):
        value = _whole(getattr(vertex, key), numbers, (*path, key))
        if value is not None:
            data[key] = value
    if vertex.kind == "gpu" and "node" not in data:
        hint = "Write the number of the node that the GPU is in."
        raise InvalidValueError(field=(*path, "node"), rule="be given for a GPU", value="nothing", hint=hint)
    graph.add_node(name, **data)


def _number_gpus(graph: "nx.DiGraph[str]") -> None:
    """Give GPUs without rank or rail theirs, by their order."""
    in_node: dict[int, int] = {}
    gpus = [data for _, data in graph.nodes(data=True) if data["kind"] == "gpu"]
    for rank, data in enumerate(gpus):
        data.setdefault("rank", rank)
        data.setdefault("rail", in_node.get(data["node"], 0))
        in_node[data["node"]] = in_node.get(data["node"], 0) + 1


def _figures(spec: ClusterFile, link: Link, path: KeyPath) -> dict[str, object]:
    """Return the figures of a link: its own, else its kind's."""
    kind = spec.kinds.get(link.kind)
    found: dict[str, object] = {"kind": link.kind}
    for key, name in (("bandwidth", "bandwidth_bytes_per_s"), ("efficiency", "efficiency"), ("latency", "latency_s")):
        own = getattr(link, key)
        value = own if own is not None else getattr(kind, key) if kind is not None else None
        if value is None and key != "efficiency":
            hint = f"Give it here, or add `{link.kind}: {{bandwidth: ..., latency: ...}}` under kinds."
            raise InvalidValueError(field=(*path, key), rule="be given", value="nothing", hint=hint)
        found[name] = 1.0 if value is None else value
    return found | ({"is_forwarded": True} if link.is_forwarded else {})


def _add_link(
    graph: "nx.DiGraph[str]", link: Link, figures: Mapping[str, object], numbers: Mapping[str, int], path: KeyPath
) -> None:
    ends = {key: _filled(text, numbers, (*path, key)) for key, text in (("from", link.start), ("to", link.end))}
    for key, name in ends.items():
        if name not in graph:
            hint = "Write a name that stands under vertices."
            raise InvalidValueError(field=(*path, key), rule="be a vertex", value=name, hint=hint)
    a, b = ends["from"], ends["to"]
    for start, end in ((a, b), (b, a)) if link.both_ways else ((a, b),):
        if graph.has_edge(start, end) or start == end:
            rule, hint = "join two vertices, once in each direction", "Add up the bandwidths of parallel links."
            raise InvalidValueError(field=path, rule=rule, value=f"{start} to {end}", hint=hint)
        graph.add_edge(start, end, **figures)


# ---- writing -----------------------------------------------------------------------------------------------------


def _kinds(graph: "nx.DiGraph[str]") -> dict[str, Figures]:
    """Return the commonest figures of each kind of link."""
    counts: dict[str, Counter[Figures]] = {}
    for _, _, data in graph.edges(data=True):
        counts.setdefault(data["kind"], Counter())[_figures_of(data)] += 1
    return {kind: count.most_common(1)[0][0] for kind, count in counts.items()}


def _cables(graph: "nx.DiGraph[str]", kinds: Mapping[str, Figures]) -> list[str]:
    done: set[tuple[str, str]] = set()
    lines = []
    for a, b, data in graph.edges(data=True):
        if (a, b) in done:
            continue
        back = graph.edges[b, a] if graph.has_edge(b, a) else None
        both = back is not None and _link_of(back) == _link_of(data)
        done |= {(b, a)} if both else set()
        own = "" if kinds[data["kind"]] == _figures_of(data) else f", {_written(_figures_of(data))}"
        ways = "" if both else ", both_ways: false"
        ways += ", is_forwarded: true" if data.get("is_forwarded") else ""
        lines.append(f"  - {{from: {_text(a)}, to: {_text(b)}, kind: {_text(data['kind'])}{own}{ways}}}")
    return lines


def _link_of(data: Mapping[str, Any]) -> tuple[str, Figures, bool]:
    """Return what the two directions of a cable have in common."""
    return data["kind"], _figures_of(data), bool(data.get("is_forwarded"))


def _figures_of(data: Mapping[str, Any]) -> Figures:
    bandwidth, latency, efficiency = (float(data[name]) for name in _FIGURES)
    return bandwidth, latency, efficiency


def _written(figures: Figures) -> str:
    bandwidth, latency, efficiency = figures
    shown = _quantity(bandwidth, "bytes/s", "GB/s", 1e9, "B/s"), _quantity(latency, "s", "us", 1e-6, "s")
    return f"bandwidth: {shown[0]}, latency: {shown[1]}, efficiency: {efficiency!r}"


def _quantity(value: float, dimension: Any, unit: str, factor: float, base: str) -> str:  # noqa: ANN401 - a literal
    """Return a quantity in a handy unit if that reads back the same, else in the base unit."""
    handy = f"{value / factor:.12g} {unit}"
    return handy if parse_quantity(handy, dimension) == value else f"{value!r} {base}"


def _vertex(data: Mapping[str, Any]) -> str:
    keys = [key for key in ("kind", "rank", "node", "rail", "unit", "label", "speed") if key in data]
    return ", ".join(f"{key}: {_text(data[key]) if isinstance(data[key], str) else data[key]}" for key in keys)


def _text(text: str) -> str:
    """Return a text as YAML, in quotes where it could be read as something else."""
    return text if _PLAIN.fullmatch(text) and text.lower() not in _NO_TEXTS else json.dumps(text)
