"""What a graph must have to be a cluster: data on vertices and links, all ranks, and a way between all GPUs."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sim.errors import InvalidValueError
from topology.limits import MAX_GPUS
from topology.presets.technologies import BETWEEN_NODES, INSIDE_NODES

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["check_graph", "check_reach", "list_ranks"]

_MOST_HOPS = 1000
_LINK_FIGURES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "bandwidth_bytes_per_s": ("be finite and above 0", lambda value: value > 0),
    "efficiency": ("lie in (0, 1]", lambda value: 0 < value <= 1),
    "latency_s": ("be finite and not negative", lambda value: value >= 0),
}


def check_graph(graph: "nx.DiGraph[str]", name: str) -> None:
    """Refuse a graph that is no cluster; `name` is what errors call it.

    Raises
    ------
    InvalidValueError
        For the first thing that is missing or wrong.
    """
    for tier, known in (("inside", INSIDE_NODES), ("between", BETWEEN_NODES)):
        named = graph.graph.get(tier)
        if named is not None and named not in known:
            hint = "Leave it out where none of these is meant: then the links' own figures hold."
            raise InvalidValueError(tier, f"be one of {', '.join(known)}", named, hint, subject=f"cluster {name!r}")
    for vertex, data in graph.nodes(data=True):
        _check_vertex(name, vertex, data)
    ranks = sorted(data["rank"] for _, data in graph.nodes(data=True) if data["kind"] == "gpu")
    if not 1 <= len(ranks) <= MAX_GPUS or ranks != list(range(len(ranks))):
        raise InvalidValueError(
            subject=f"cluster {name!r}",
            field="graph",
            rule=f"have 1 to {MAX_GPUS:,} GPUs with ranks 0, 1, 2 ... each once",
            value=f"{len(ranks)} GPUs with ranks {list_ranks(ranks)}" if ranks else "no vertex of kind gpu",
            hint="Number the GPUs from 0.",
        )
    for a, b, data in graph.edges(data=True):
        _check_link(name, f"{a}->{b}", data, is_loop=a == b)
    check_reach(graph, name)


def check_reach(
    graph: "nx.DiGraph[str]", name: str, *, field: str = "graph", hint: str = "Link the two sides."
) -> None:
    """Refuse a graph of which some GPUs cannot reach others, with both sides named."""
    import networkx as nx  # noqa: PLC0415  # slow to import, and most runs need no graph

    rank_of = {vertex: data["rank"] for vertex, data in graph.nodes(data=True) if data["kind"] == "gpu"}
    first = min(rank_of, key=lambda vertex: rank_of[vertex])
    for ways in (graph, graph.reverse(copy=False)):  # from the first GPU to all, and from all to it
        reached = nx.descendants(ways, first) | {first}
        reached_ranks = sorted(rank for vertex, rank in rank_of.items() if vertex in reached)
        missed_ranks = sorted(rank for vertex, rank in rank_of.items() if vertex not in reached)
        if missed_ranks:
            senders, receivers = (reached_ranks, missed_ranks) if ways is graph else (missed_ranks, reached_ranks)
            raise InvalidValueError(
                subject=f"cluster {name!r}",
                field=field,
                rule="leave every GPU a way to every other",
                value=f"{_gpus(senders)} without a way to {_gpus(receivers)}",
                hint=hint,
            )


def list_ranks(ranks: Sequence[int]) -> str:
    """Return ranks in ascending order as a text, neighbours as a range.

    >>> list_ranks([0, 1, 2, 5, 7, 8])
    '0 to 2, 5, 7 to 8'
    """
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and rank == runs[-1][1] + 1:
            runs[-1][1] = rank
        else:
            runs.append([rank, rank])
    shown = [f"{first} to {last}" if first != last else str(first) for first, last in runs]
    return ", ".join(shown[:8]) + (f" and {len(shown) - 8} more" if len(shown) > 8 else "")


# ---- private -----------------------------------------------------------------------------------------------------


def _gpus(ranks: Sequence[int]) -> str:
    return f"GPU{'s' if len(ranks) > 1 else ''} {list_ranks(ranks)}"


def _check_vertex(name: str, vertex: str, data: dict[str, Any]) -> None:
    if not vertex.isprintable():
        raise _refusal(name, "a vertex", "have a name of printable characters", vertex, "Rename it in the file.")
    if not isinstance(data.get("kind"), str):
        raise _refusal(name, f"vertex {vertex}", "have a kind", data.get("kind"), "Write gpu, nic, switch or another.")
    numbers = {key: data.get(key) for key in ("rank", "node") if data["kind"] == "gpu"} | (
        {"node": data["node"]} if data.get("node") is not None else {}
    )
    for key, value in numbers.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise _refusal(name, f"{key} of {vertex}", "be an integer of at least 0", value, "Count from 0.")
    speed = data.get("speed", 1.0)
    if not (isinstance(speed, (int, float)) and 0 < speed < math.inf):
        raise _refusal(name, f"speed of {vertex}", "be finite and above 0", speed, "Write 1.0 for full speed.")


def _check_link(name: str, link: str, data: dict[str, Any], *, is_loop: bool) -> None:
    if is_loop:
        raise _refusal(name, f"link {link}", "join two vertices", "one", "Drop it.")
    if not isinstance(data.get("kind"), str):
        raise _refusal(name, f"link {link}", "have a kind", data.get("kind"), "Write nvlink, pcie, nic or another.")
    for field, (rule, is_right) in _LINK_FIGURES.items():
        value = data.get(field)
        if not (isinstance(value, (int, float)) and math.isfinite(value) and is_right(value)):
            raise _refusal(name, f"{field} of {link}", rule, value, "Give a physical figure.")
    hops = data.get("hops", 1)
    if not isinstance(hops, int) or not 1 <= hops <= _MOST_HOPS:
        raise _refusal(name, f"hops of {link}", f"be an integer from 1 to {_MOST_HOPS}", hops, "Leave it out.")


def _refusal(name: str, field: str, rule: str, value: object, hint: str) -> InvalidValueError:
    return InvalidValueError(subject=f"cluster {name!r}", field=field, rule=rule, value=value, hint=hint)
