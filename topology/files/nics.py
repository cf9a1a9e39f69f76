"""Which NICs of a node carry the traffic of the GPUs: those that a user names, or those that serve GPUs.

Model
-----
Servers have NICs for storage and for the front end in addition to the NICs of the compute network. Without names,
the NICs in use are, of all NICs of the node:

1. those that share a PCIe switch with a GPU, where these have at least half of the bandwidth; on a CPU that has GPUs
   and no such NIC, all NICs of the CPU;
2. of these, the fastest;
3. of these, the kind (InfiniBand or Ethernet, and the driver) of which there are most.

Assumptions
-----------
NCCL takes the NICs that are nearest to each GPU, which is often the same choice; `NCCL_IB_HCA` names them as
`cluster.nics` does.
"""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sim.errors import InvalidValueError

if TYPE_CHECKING:
    from topology.files.one_node import OneNode

__all__ = ["Nic", "driver_of", "nics_in_use", "warnings_of_nics"]

_NUMBER: Final = re.compile(r"_?\d+(?:[a-z]+\d+)*$", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nic:
    """What a file says of one port."""

    bytes_per_s: float | None = None
    """Rate of the port; None where the file does not state it."""
    kind: str = ""
    """Kind of network and driver, as `InfiniBand mlx5`; empty where the file does not state it."""
    rail: tuple[int, int] | None = None
    """Rail and plane, where the file states them."""
    is_disabled: bool = False
    """Whether the file says that the port carries no messages."""


def driver_of(name: str) -> str:
    """Return the name of a network device without its number: devices of one driver are of one kind.

    >>> [driver_of(name) for name in ("mlx5_0", "mlx5_bond_0", "bnxt_re3", "rocep194s0f0", "irdma0")]
    ['mlx5', 'mlx5_bond', 'bnxt_re', 'rocep', 'irdma']
    """
    return _NUMBER.sub("", name)


def nics_in_use(node: "OneNode", named: Sequence[str] = ()) -> tuple[list[str], dict[str, str]]:
    """Return the NICs that carry compute traffic, and of each other NIC why it carries none, in the order of the file.

    Parameters
    ----------
    node
        The node.
    named
        NICs in use, as `NCCL_IB_HCA` names them: what the machine calls them, with or without `:port`. Names that begin
        with `^` are the NICs that are not in use.

    Raises
    ------
    InvalidValueError
        A name is no NIC of the node, or no NIC is left.
    """
    if named:
        used = _named(node, named)
        return used, {nic: "cluster.nics does not name them" for nic in node.nics if nic not in used}
    used = [nic for nic, data in node.nics.items() if not data.is_disabled]
    reasons = {nic: "the file disables them" for nic in node.nics if nic not in used}
    for choose, reason in _CHOICES:
        kept = choose(node, used)
        reasons |= {nic: reason for nic in used if nic not in kept}
        used = kept
    return used, {nic: reasons[nic] for nic in node.nics if nic in reasons}


def warnings_of_nics(
    node: "OneNode", used: Sequence[str], unused: Mapping[str, str], named: Sequence[str]
) -> list[str]:
    """Return what a user should know of the choice of NICs: those without traffic, and a choice that is a guess."""
    warnings = [] if named else _warnings_of_choice(node, used, unused)
    unplaced = [node.shown(nic) for nic in used if nic in node.unplaced_nics]
    if unplaced:
        warnings.append(f"The file does not tell the NUMA node of {', '.join(unplaced)}: taken to be that of GPU0.")
    return warnings


# ---- private -----------------------------------------------------------------------------------------------------


def _warnings_of_choice(node: "OneNode", used: Sequence[str], unused: Mapping[str, str]) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for nic, reason in unused.items():
        by_reason.setdefault(reason, []).append(node.shown(nic))
    warnings = [
        f"{', '.join(nics)} {'carry' if len(nics) > 1 else 'carries'} no compute traffic: {reason}. "
        "Name the NICs in use under cluster.nics if that is wrong."
        for reason, nics in by_reason.items()
    ]
    if len(used) > len(node.gpus) and (len(used) % len(node.gpus) or not _near_gpus(node, used)):
        names = ", ".join(_name(node, nic) for nic in used)
        warnings.append(
            f"The file does not tell which of its {len(used)} NICs serve the {len(node.gpus)} GPUs: all of them carry "
            f"compute traffic. Name the NICs in use under cluster.nics, of {names}."
        )
    return warnings


def _name(node: "OneNode", nic: str) -> str:
    return str(node.graph.nodes[nic].get("label") or nic)


def _named(node: "OneNode", named: Sequence[str]) -> list[str]:
    """Return the NICs that names select."""
    is_exclusion = named[0].startswith("^")
    found: set[str] = set()
    for i, text in enumerate(named):
        name = text.lstrip("^=").partition(":")[0]
        matches = [nic for nic in node.nics if name.lower() in {nic, _name(node, nic).lower()}]
        if not matches or text.startswith("^") != is_exclusion:
            known = list(dict.fromkeys(_name(node, nic) for nic in node.nics))
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {nearest[0]}? " if nearest and not matches else ""
            rule = "name a NIC of the file" if not matches else "begin with ^ everywhere or nowhere"
            listed = f"The file has {', '.join(known)}." if known else "The file has no NIC: leave the key out."
            raise InvalidValueError(f"cluster.nics.{i}", rule, text, hint + listed)
        found.update(matches)
    used = [nic for nic in node.nics if (nic in found) != is_exclusion]
    if not used:
        raise InvalidValueError("cluster.nics", "leave a NIC in use", ", ".join(named), "Name fewer NICs.")
    return used


def _serving_gpus(node: "OneNode", nics: Sequence[str]) -> list[str]:
    """Return the NICs that share a PCIe switch with a GPU, and those of CPUs with GPUs and no such NIC; else all."""
    near = _near_gpus(node, nics)
    if not near:
        return list(nics)
    cpu_of = {vertex: _cpu_of(node, vertex) for vertex in (*nics, *node.gpus)}
    served = {cpu_of[nic] for nic in near}
    waiting = {cpu_of[gpu] for gpu in node.gpus} - served
    kept = [nic for nic in nics if nic in near or cpu_of[nic] in waiting]
    return kept if 2 * _total(node, kept) >= _total(node, nics) else list(nics)


def _total(node: "OneNode", nics: Sequence[str]) -> float:
    """Return the bandwidth of NICs; their number where the file does not state all rates."""
    rates = [data.bytes_per_s for data in node.nics.values()]
    return sum(1.0 if None in rates else node.nics[nic].bytes_per_s or 0.0 for nic in nics)


def _fastest(node: "OneNode", nics: Sequence[str]) -> list[str]:
    rates = {nic: node.nics[nic].bytes_per_s for nic in nics}
    most = max((rate for rate in rates.values() if rate is not None), default=None)
    return [nic for nic, rate in rates.items() if rate is None or rate == most]


def _commonest(node: "OneNode", nics: Sequence[str]) -> list[str]:
    counts = Counter(node.nics[nic].kind for nic in nics if node.nics[nic].kind)
    best = max(counts, key=lambda kind: (counts[kind], kind.startswith("InfiniBand")), default="")
    return [nic for nic in nics if node.nics[nic].kind in {best, ""}]


def _near_gpus(node: "OneNode", nics: Sequence[str]) -> list[str]:
    """Return the NICs that reach a GPU without a CPU."""
    return [nic for nic in nics if any(node.graph.nodes[v]["kind"] == "gpu" for v in _below_cpu(node, nic))]


def _below_cpu(node: "OneNode", vertex: str) -> Iterable[str]:
    """Return the vertices that PCIe joins with a vertex below the CPU."""
    reached, queue = {vertex}, [vertex]
    for here in queue:
        for after in node.graph.successors(here):
            is_pcie = node.graph.edges[here, after]["kind"] == "pcie"
            if after not in reached and is_pcie and node.graph.nodes[after]["kind"] != "cpu":
                reached.add(after)
                queue.append(after)
    return queue


def _cpu_of(node: "OneNode", vertex: str) -> str | None:
    """Return the CPU over a vertex; None where there is none."""
    for here in _below_cpu(node, vertex):
        for after in node.graph.successors(here):
            if node.graph.nodes[after]["kind"] == "cpu" and node.graph.edges[here, after]["kind"] == "pcie":
                return after
    return None


_CHOICES: Final = (
    (_serving_gpus, "they share no PCIe switch with a GPU, as other NICs do"),
    (_fastest, "they are slower than other NICs"),
    (_commonest, "they are of another kind than most NICs"),
)
"""How NICs in use are chosen, and why the other NICs are left out."""
