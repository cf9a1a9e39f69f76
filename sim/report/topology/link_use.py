"""Which share of each link a run used, read back from its result."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import networkx as nx

from sim.errors import InvalidValueError

__all__ = ["read_link_use"]

_HINT = "Name the result.json that `moesim run SCENARIO --out DIR` wrote for this cluster."


def read_link_use(path: Path, graph: "nx.DiGraph[str]") -> dict[tuple[str, str], float]:
    """Return link -> share of its capacity that a run used, 0 to 1.

    Parameters
    ----------
    path
        Result of `moesim run --json`, or `result.json` of `--out`.
    graph
        The cluster, whose links the result must name.

    Raises
    ------
    InvalidValueError
        The file cannot be read, is no such result, or is that of another cluster.
    """
    by_name = {f"{a}->{b}": (a, b) for a, b in graph.edges}
    links = _links(path)
    use: dict[tuple[str, str], float] = {}
    for link in links:
        name, share = (link.get("name"), link.get("utilisation")) if isinstance(link, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(share, (int, float)) or not 0 <= share < 2:
            _refuse(path, "have links with name and utilisation", str(link)[:60])
        if name not in by_name:
            _refuse(path, "have links that the scenario's cluster has", name[:60])
        use[by_name[name]] = float(share)
    missing = [name for name, link in by_name.items() if link not in use]
    if missing:
        _refuse(path, f"have all {len(by_name):,} links of the scenario's cluster", f"no {missing[0]}")
    return use


def _links(path: Path) -> list[Any]:
    """Return the list of links of a result."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        _refuse(path, "be readable", error.strerror or "an error")
    except (ValueError, RecursionError):
        _refuse(path, "be the JSON of a run", "something else")
    links = data.get("links") if isinstance(data, Mapping) else None
    if not isinstance(links, list):
        _refuse(path, "be the JSON of a run", "JSON without a list `links`")
    return links


def _refuse(path: Path, rule: str, value: str) -> NoReturn:
    raise InvalidValueError(file=str(path), field="--load", rule=rule, value=value, hint=_HINT) from None
