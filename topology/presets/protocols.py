"""Protocols by technology: NCCL's own tables, and what was fitted to published measurements.

Latencies and limits of LL, LL128 and Simple are those of NCCL's cost model (src/graph/tuning.cc, June 2026).
Its formulas for the rates, of a bus bandwidth B: ring LL B / 2 and at most the table's; ring LL128 0.92 B; tree 0.92 B,
LL B / 3.8, LL128 120/128 B (7/9 B on one node); NVLS efficiency * B with 6/5 of the tensor over each link.

What is fitted stands in `FITTED`, by `benchmarks/fit_network.py`: one latency and one rate at most per technology and
protocol, with the rows that it was fitted to.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from topology.errors import TopologyError
from topology.protocol import Protocol, Tier

__all__ = ["BETWEEN_NODES", "FITTED", "INSIDE_NODES", "Fitted", "protocols_of"]

_NCCL = "NVIDIA/nccl src/graph/tuning.cc"
_NAMES = ("LL", "LL128", "Simple")
_US = 1e-6
_GB = 1e9
_NICS = 8
"""NICs of the nodes that NCCL's limits between nodes are for."""
_RING_FLOOR_US = (1.0, 1.0, 3.0)
"""A ring's message inside a node takes at least this where there are several: work of the network's proxy (LL, LL128,
Simple)."""

_BASE_US: Final = {"tree": (6.8, 14.0, 8.4), "ring": (6.6, 14.0, 8.4)}
_HOP_US: Final = {
    "nvlink": {"tree": (0.6, 1.25, 4.0), "ring": (0.6, 1.9, 3.4)},
    "pci": {"tree": (1.0, 1.9, 4.0), "ring": (1.0, 2.5, 5.7)},
    "net": {"tree": (5.0, 8.5, 14.0), "ring": (2.7, 4.0, 14.0)},
}
_NVLS_US: Final = (25.0, 20.9)
"""NVLS inside a node, and NVLSTree's message between nodes."""


class Fitted(NamedTuple):
    """A constant that measurements gave."""

    value: float
    """Seconds, or a fraction of the datasheet's bandwidth."""
    rows: str
    """The measurements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inside:
    """A technology inside nodes."""

    bus: str
    """nvlink or pci: which of NCCL's latencies."""
    simple: float
    """Fraction of the datasheet's bandwidth under Simple."""
    most_ll: float
    """Most bytes/s of LL on one node."""
    nvls: float | None = None
    """Fraction of what Simple reaches, with the switch reducing; None where it does not."""
    source: str
    """Of `simple`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Between:
    """A technology between nodes."""

    simple: float
    """Fraction of the datasheet's bandwidth under Simple."""
    has_ll128: bool = True
    """Whether LL128 runs on it: it needs stores of 128 bytes to arrive whole."""
    source: str
    """Of `simple`."""


FITTED: Final[Mapping[str, Fitted]] = {
    "tcpxo LL hop": Fitted(64e-6, "A3-Mega all-reduce, 2 nodes, 8 B to 16 MiB"),
    "tcpxo LL rate": Fitted(0.1, "A3-Mega all-reduce, 2 nodes, 8 B to 16 MiB"),
    "tcpxo Simple hop": Fitted(408e-6, "A3-Mega all-reduce, 2 nodes, 32 MiB to 8 GiB"),
    "tcpxo Simple rate": Fitted(0.92, "A3-Mega all-reduce, 2 nodes, 32 MiB to 8 GiB"),
    "ib-ndr Simple rate": Fitted(0.98, "H100, 8 nodes, all-reduce, 512 MiB to 2 GiB"),
    "nvlink5-nvl72 NVLS hop": Fitted(600e-6, "GB200 NVL72, all-reduce, 512 MiB to 8 GiB"),
    "nvlink5-nvl72 NVLS rate": Fitted(0.73, "GB200 NVL72, all-reduce, 512 MiB to 8 GiB"),
    "nvlink3 send rate": Fitted(0.65, "8 x A100, sendrecv, 256 MiB to 1 GiB"),
    "nvlink4 copy rate": Fitted(0.876, "H200, pairwise copy, one way and both ways"),
    "xgmi3 Simple rate": Fitted(0.72, "MI300X, all-reduce, 2 and 8 GPUs, 4 GiB"),
    "nvlink4-h800 DeepEP rate": Fitted(0.68, "DeepEP V1, EP8, dispatch and combine"),
    "nvlink5 DeepEP rate": Fitted(0.71, "DeepEP V2, SM100, EP8, 64 SMs"),
    "ib DeepEP rate": Fitted(0.9, "DeepEP V1 and V2, off the node; low latency, EP32 and EP128"),
    "DeepEP SM rate": Fitted(23.4e9, "DeepEP V2, SM100, EP8, 24 SMs: bytes/s off the rank of one SM"),
    "low_latency base": Fitted(30e-6, "DeepEP V1 low latency, EP32 and EP128"),
}
"""Constants by technology and protocol."""


def _nccl(bytes_per_s: float, nominal_bytes_per_s: float) -> float:
    return bytes_per_s / nominal_bytes_per_s


INSIDE_NODES: Final[Mapping[str, _Inside]] = {
    "nvlink3": _Inside(
        bus="nvlink", simple=_nccl(12 * 20.0, 300), most_ll=87.7 * _GB, source="NCCL topo.h: SM80 20.0 GB/s x 12"
    ),
    "nvlink4": _Inside(
        bus="nvlink",
        simple=_nccl(18 * 20.6, 450),
        most_ll=141.0 * _GB,
        nvls=0.85,
        source="NCCL topo.h: SM90 20.6 GB/s x 18; nvlsEfficiency",
    ),
    "nvlink4-h800": _Inside(
        bus="nvlink",
        simple=_nccl(160, 200),
        most_ll=141.0 * _GB,
        nvls=0.85,
        source="DeepEP README: H800 NVLink about 160 of 200 GB/s; NCCL nvlsEfficiency",
    ),
    "nvlink5": _Inside(
        bus="nvlink",
        simple=_nccl(18 * 40.1, 900),
        most_ll=282.0 * _GB,
        nvls=0.74,
        source="NCCL topo.h: SM100 40.1 GB/s x 18; nvlsEfficiency",
    ),
    "nvlink5-nvl72": _Inside(
        bus="nvlink",
        simple=_nccl(18 * 40.1, 900),
        most_ll=282.0 * _GB,
        nvls=FITTED["nvlink5-nvl72 NVLS rate"].value,
        source="NCCL topo.h: SM100 40.1 GB/s x 18",
    ),
    "xgmi3": _Inside(
        bus="nvlink", simple=FITTED["xgmi3 Simple rate"].value, most_ll=87.7 * _GB, source="fitted; LL as on NVLink 3"
    ),
    "pcie4": _Inside(
        bus="pci", simple=_nccl(24.0, 31.5), most_ll=87.7 * _GB, source="NCCL topo.h: PCI_BW, generation 4"
    ),
    "pcie5": _Inside(
        bus="pci", simple=_nccl(48.0, 63.0), most_ll=141.0 * _GB, source="NCCL topo.h: PCI_BW, generation 5"
    ),
}
"""Technologies inside nodes."""

_SAME = FITTED["ib-ndr Simple rate"].value
BETWEEN_NODES: Final[Mapping[str, _Between]] = {
    "ib-hdr": _Between(simple=_SAME, source="taken to be that of NDR"),
    "ib-ndr": _Between(simple=_SAME, source="fitted"),
    "roce": _Between(simple=_SAME, source="taken to be that of InfiniBand NDR: the same NIC"),
    "tcpxo": _Between(simple=FITTED["tcpxo Simple rate"].value, has_ll128=False, source="fitted"),
    "ethernet": _Between(simple=_SAME, source="taken to be that of InfiniBand NDR"),
}
"""Technologies between nodes."""


@lru_cache
def protocols_of(inside: str | None, between: str | None) -> tuple[Protocol, ...]:
    """Return the protocols on nodes of one technology joined by another.

    Parameters
    ----------
    inside, between
        Names in `INSIDE_NODES` and `BETWEEN_NODES`. Where nothing is known inside, each algorithm has one protocol that
        takes the links' own figures; where nothing is known between, it is taken to be Ethernet.

    Examples
    --------
    >>> [p.name for p in protocols_of("nvlink3", "ib-hdr") if p.algorithm == "ring"]
    ['LL', 'LL128', 'Simple']
    """
    between = between or "ethernet"
    if not inside:
        names = ("ring", "tree", "hierarchical", "direct", "hierarchical_all_to_all", "low_latency", "send")
        return tuple(Protocol(algorithm=name, name="plain", source="the links' own figures") for name in names)
    for name, known in ((inside, INSIDE_NODES), (between, BETWEEN_NODES)):
        if name not in known:
            raise TopologyError(
                subject="protocols",
                field="technology",
                rule=f"be one of {', '.join(known)}",
                value=repr(name),
                cure="Correct the name.",
            )
    here, there = INSIDE_NODES[inside], BETWEEN_NODES[between]
    return (
        *_rings(here, there, between),
        *_trees(here, there, between),
        *_nvls(inside, here, there),
        *_exchanges(inside, here, there),
    )


# ---- private -----------------------------------------------------------------------------------------------------


def _names(there: _Between) -> list[int]:
    return [i for i, name in enumerate(_NAMES) if name != "LL128" or there.has_ll128]


def _hop_s(between: str, algorithm: str, number: int) -> float:
    """Return a message's time between nodes; NCCL doubles the network's part of a ring under Simple."""
    fitted = FITTED.get(f"{between} {_NAMES[number]} hop")
    return fitted.value if fitted else _HOP_US["net"][algorithm][number] * _US


def _rate(between: str, number: int, of_nccl: float) -> float:
    fitted = FITTED.get(f"{between} {_NAMES[number]} rate")
    return fitted.value if fitted else of_nccl


def _rings(here: _Inside, there: _Between, between: str) -> list[Protocol]:
    shares = (0.5, 0.92, 1.0)
    found = []
    for i in _names(there):
        hop_us = max(_HOP_US[here.bus]["ring"][i], _RING_FLOOR_US[i])
        fitted = f"{between} {_NAMES[i]} rate" in FITTED
        most = here.most_ll if i == 0 else float("inf")
        found += [
            Protocol(
                algorithm=algorithm,
                name=_NAMES[i],
                base_latency_s=_BASE_US["ring"][i] * _US,
                inside=Tier(hop_latency_s=hop_us * _US, efficiency=here.simple * shares[i], most_bytes_per_s=most),
                between=Tier(
                    hop_latency_s=_hop_s(between, "ring", i),
                    efficiency=_rate(between, i, there.simple * shares[i]),
                    most_bytes_per_s=45.0 * _GB / _NICS if i == 0 and not fitted else float("inf"),
                ),
                source=f"{_NCCL}; {here.source}; {there.source}",
            )
            for algorithm in ("ring", "hierarchical")
        ]
    return found


def _trees(here: _Inside, there: _Between, between: str) -> list[Protocol]:
    inside_share, between_share = (0.92 / 3.8, 0.92 * 7 / 9, 0.92), (1 / 3.8, 120 / 128, 1.0)
    return [
        Protocol(
            algorithm="tree",
            name=_NAMES[i],
            base_latency_s=_BASE_US["tree"][i] * _US,
            inside=Tier(
                hop_latency_s=_HOP_US[here.bus]["tree"][i] * _US,
                efficiency=here.simple * inside_share[i],
                most_bytes_per_s=here.most_ll if i == 0 else float("inf"),
            ),
            between=Tier(
                hop_latency_s=_hop_s(between, "tree", i),
                efficiency=_rate(between, i, there.simple * between_share[i]),
                most_bytes_per_s=(
                    45.0 * _GB / _NICS if i == 0 and f"{between} LL rate" not in FITTED else float("inf")
                ),
            ),
            source=f"{_NCCL}; {here.source}; {there.source}",
        )
        for i in _names(there)
    ]


def _nvls(inside: str, here: _Inside, there: _Between) -> list[Protocol]:
    if here.nvls is None:
        return []
    fitted = FITTED.get(f"{inside} NVLS hop")
    return [
        Protocol(
            algorithm="nvls",
            name="Simple",
            inside=Tier(
                hop_latency_s=fitted.value if fitted else _NVLS_US[0] * _US, efficiency=here.simple * here.nvls
            ),
            between=Tier(hop_latency_s=_NVLS_US[1] * _US, efficiency=there.simple),
            source=f"{_NCCL}; {here.source}; {there.source}",
        )
    ]


def _exchanges(inside: str, here: _Inside, there: _Between) -> list[Protocol]:
    """Return point to point and all-to-alls, which wait their paths' latencies."""
    of_nvlink = FITTED.get(f"{inside} DeepEP rate")
    deepep = Tier(efficiency=of_nvlink.value if of_nvlink else here.simple)
    off_node = Tier(efficiency=min(FITTED["ib DeepEP rate"].value, there.simple))
    sends = FITTED.get(f"{inside} send rate") or FITTED.get(f"{inside} copy rate")
    nccl = Tier(efficiency=here.simple)
    source = f"{here.source}; {there.source}; DeepEP README"
    return [
        Protocol(
            algorithm="send",
            name="copy",
            inside=Tier(efficiency=sends.value if sends else here.simple),
            between=Tier(efficiency=there.simple),
            source=sends.rows if sends else source,
        ),
        Protocol(algorithm="direct", name="copy", inside=nccl, between=off_node, source=source),
        Protocol(algorithm="hierarchical_all_to_all", name="DeepEP", inside=deepep, between=off_node, source=source),
        Protocol(
            algorithm="low_latency",
            name="DeepEP",
            base_latency_s=FITTED["low_latency base"].value,
            inside=nccl,
            between=off_node,
            source=source,
        ),
    ]
