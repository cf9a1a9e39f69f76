"""Protocols by technology: what an algorithm of a collective costs on the links, beyond their datasheet.

Model
-----
    hop        = tier.hop_latency_s                                      one message of the chain, by where it goes
    rate       = min(tier.efficiency * datasheet bandwidth, tier.most_bytes_per_s)                   on each link

    call       = tier.call_latency_s, or for small messages what their protocol takes, if that is less
    fill       = min(1, loop_bytes_per_rank / bytes of the tensor per rank of a node) * time alone       first loop

There are two tiers: links inside a node (or rack) and links between nodes. A tier without a latency of its own takes
the latency of the path; a tier without an efficiency takes the efficiency of the link.

Latencies and limits of LL, LL128 and Simple are those of NCCL's cost model (src/graph/tuning.cc, June 2026).
Its formulas for the rates, of a bus bandwidth B: ring LL B / 2 and at most the table's; ring LL128 0.92 B; tree 0.92 B,
LL B / 3.8, LL128 120/128 B (7/9 B on one node); NVLS efficiency * B with 6/5 of the tensor over each link.

`FITTED` has the constants that `benchmarks/fit_network.py` fitted: at most one latency and one rate per technology and
protocol, with the rows of the measurements.

Assumptions
-----------
A transfer occupies a link for as long as its protocol needs there: two transfers that share a link wait for each other
as if each filled the link. For a protocol far below the rate of the link (LL) that is pessimistic.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from sim.errors import InvalidValueError

__all__ = [
    "BETWEEN",
    "BETWEEN_NODES",
    "FITTED",
    "INSIDE",
    "INSIDE_NODES",
    "NO_TIER",
    "Fitted",
    "Protocol",
    "Tier",
    "build_protocols",
    "protocols_of",
    "simple_rate",
]

NO_TIER, INSIDE, BETWEEN = 0, 1, 2
"""Tier of a link: none (a GPU's way to its NIC), inside a node, between nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallMessages:
    """The protocol that a library takes for small messages: it answers sooner, and moves bytes more slowly."""

    call_latency_s: float
    """Time that every call takes."""
    slowdown: float
    """Time of a byte over that of the protocol for large messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """What a protocol reaches on the links of one tier."""

    hop_latency_s: float | None = None
    """Time of one message of the chain; None: the path's latency."""
    efficiency: float | None = None
    """Fraction of the datasheet's bandwidth, 0 to 1; None: the link's own."""
    most_bytes_per_s: float = math.inf
    """What one link carries at most, whatever its bandwidth."""
    call_latency_s: float = 0.0
    """Time that every call takes whose messages use links of the tier."""
    small: "SmallMessages | None" = None
    """What small messages take instead; None: nothing else."""

    def call_s(self, alone_s: float) -> float:
        """Return what a call takes beyond the time `alone_s` that its busiest link needs.

        >>> tier = Tier(call_latency_s=33e-6, small=SmallMessages(call_latency_s=14e-6, slowdown=2.6))
        >>> tier.call_s(5e-6), tier.call_s(1e-3)  # 14 us + 1.6 * 5 us, and 33 us
        (2.2e-05, 3.3e-05)
        """
        if self.small is None:
            return self.call_latency_s
        return min(self.call_latency_s, self.small.call_latency_s + (self.small.slowdown - 1.0) * alone_s)

    def __post_init__(self) -> None:
        self._require(self.hop_latency_s is None or 0 <= self.hop_latency_s < math.inf, "hop_latency_s", "be 0 or more")
        self._require(self.efficiency is None or 0 < self.efficiency <= 1, "efficiency", "lie in (0, 1]")
        self._require(self.most_bytes_per_s > 0, "most_bytes_per_s", "be above 0")

    def _require(self, ok: bool, field: str, rule: str) -> None:
        if not ok:
            value = getattr(self, field)
            raise InvalidValueError(
                subject="tier", field=field, rule=rule, value=value, hint="Give a physical figure, or leave it out."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """A way to run an algorithm."""

    algorithm: str
    """ring, tree, nvls, hierarchical, direct, low_latency, send."""
    name: str
    """LL, LL128, Simple, or the library's name."""
    base_latency_s: float = 0.0
    """Time that every call takes."""
    inside: Tier = Tier()
    """On links inside a node."""
    between: Tier = Tier()
    """On links between nodes."""
    loop_bytes_per_rank: float = 0.0
    """Bytes that one loop of the algorithm moves for each rank of a node; nothing hides the first loop."""
    source: str
    """Where the figures come from."""


_NCCL = "NVIDIA/nccl src/graph/tuning.cc"
_NAMES = ("LL", "LL128", "Simple")
_US = 1e-6
_GB = 1e9
_MOST_LL_OF_NODE = 45e9  # llMaxBws, Hopper, two nodes
_NICS = 8
"""NICs of the nodes that NCCL's limits between nodes are for."""
_RING_FLOOR_US = (1.0, 1.0, 3.0)
"""A ring's message inside a node takes at least this where there are several: work of the network's proxy (LL, LL128,
Simple)."""

_BASE_US: Final = {"tree": (6.8, 14.0, 8.4), "ring": (6.6, 14.0, 8.4)}
_HOP_US: Final = {
    "nvlink": {"tree": (0.6, 1.25, 4.0), "ring": (0.6, 1.9, 3.4)},
    "pci": {"tree": (1.0, 1.9, 4.0), "ring": (1.0, 2.5, 5.7)},
    "net": {"tree": (5.0, 8.5, 14.0), "ring": (2.7, 4.0, 14.0), "nvls": (0.0, 0.0, 20.9)},
}
_NVLS_US: Final = 25.0
"""NVLS inside a node."""


class Fitted(NamedTuple):
    """A constant that measurements gave."""

    value: float
    """Seconds, bytes/s, or a fraction of the datasheet's bandwidth."""
    table: str
    """The measurements' table."""
    rows: str
    """Which of its rows."""
    otherwise: float
    """The figure without the measurements: that of NCCL, or that of a similar technology."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inside:
    """A technology inside nodes."""

    bus: str
    """nvlink or pci: which of NCCL's latencies."""
    simple: float | str
    """Fraction of the datasheet's bandwidth under Simple; a text: the fitted constant of that name."""
    most_ll: float
    """Most bytes/s of LL on one node."""
    nvls: float | str | None = None
    """Fraction of what Simple reaches, with the switch reducing; None where it does not."""
    source: str
    """Where the fraction under Simple comes from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Between:
    """A technology between nodes."""

    simple: float | str
    """Fraction of the datasheet's bandwidth under Simple; a text: the fitted constant of that name."""
    has_ll128: bool = True
    """Whether LL128 runs on it: it needs stores of 128 bytes to arrive whole."""
    source: str
    """Where the fraction under Simple comes from."""


_A3 = "A3-Mega all-reduce, 2 nodes"
_NVL72 = "all-reduce, 4 GB200, 128 and 512 MiB, and 72, 512 MiB to 8 GiB"
_AIC = "all-to-all of 8 GPUs of a node, 1 MiB to 512 MiB"
_ATA = "SimAI, all-to-all over 4, 8 and 16 nodes, 16 MiB to 1 GiB"
_LL_EXCHANGE = "DeepEP V1 low latency, EP32 and EP128"

FITTED: Final[Mapping[str, Fitted]] = {
    "tcpxo LL hop": Fitted(65.2e-6, "nccl_busbw", f"{_A3}, 8 B to 16 MiB", 5.0e-6),
    "tcpxo LL rate": Fitted(0.0962, "nccl_busbw", f"{_A3}, 8 B to 16 MiB", 0.26),
    "tcpxo Simple hop": Fitted(412e-6, "nccl_busbw", f"{_A3}, 32 MiB to 8 GiB", 14.0e-6),
    "tcpxo Simple rate": Fitted(0.914, "nccl_busbw", f"{_A3}, 32 MiB to 8 GiB", 0.9),
    "ib-ndr Simple rate": Fitted(0.957, "nccl_busbw", "H100, 8 nodes, all-reduce, 512 MiB to 2 GiB", 0.9),
    "nvlink4 NVLS loop": Fitted(1.53e6, "aic_collectives", "8 x H100, all-reduce, 8 MiB to 512 MiB", 1.05e6),
    "nvlink5 NVLS loop": Fitted(3.54e6, "aic_collectives", _NVL72, 2.1e6),
    "nvlink5-nvl72 NVLS rate": Fitted(0.730, "nccl_busbw", _NVL72, 0.74),
    "nvlink3 send rate": Fitted(0.641, "nccl_busbw", "8 x A100, sendrecv, 256 MiB to 1 GiB", 0.8),
    "nvlink4 copy rate": Fitted(0.876, "nccl_busbw", "H200, pairwise copy, one way and both ways", 0.824),
    "xgmi3 Simple rate": Fitted(0.722, "nccl_busbw", "MI300X, all-reduce, 2 and 8 GPUs, 4 GiB", 0.8),
    "nvlink3 direct call": Fitted(28.5e-6, "aic_collectives", f"A100, {_AIC}", 15e-6),
    "nvlink3 direct rate": Fitted(0.654, "aic_collectives", f"A100, {_AIC}", 0.8),
    "nvlink3 small call": Fitted(8.88e-6, "aic_collectives", f"A100, {_AIC}", 10e-6),
    "nvlink3 small slowdown": Fitted(2.91, "aic_collectives", f"A100, {_AIC}", 2.0),
    "nvlink4 direct call": Fitted(30.3e-6, "aic_collectives", f"H100, {_AIC}", 15e-6),
    "nvlink4 direct rate": Fitted(0.713, "aic_collectives", f"H100, {_AIC}", 0.824),
    "nvlink4 small call": Fitted(8.60e-6, "aic_collectives", f"H100, {_AIC}", 10e-6),
    "nvlink4 small slowdown": Fitted(1.286, "aic_collectives", f"H100, {_AIC}", 2.0),
    "nvlink5 direct call": Fitted(35.8e-6, "aic_collectives", f"B200, {_AIC}", 15e-6),
    "nvlink5 direct rate": Fitted(0.658, "aic_collectives", f"B200, {_AIC}", 0.802),
    "nvlink5 small call": Fitted(13.2e-6, "aic_collectives", f"B200, {_AIC}", 10e-6),
    "nvlink5 small slowdown": Fitted(1.467, "aic_collectives", f"B200, {_AIC}", 2.0),
    "ib direct call": Fitted(139e-6, "simai_ata_ratio", _ATA, 30e-6),
    "ib direct rate": Fitted(0.757, "simai_ata_ratio", _ATA, 0.9),
    "nvlink4-h800 DeepEP rate": Fitted(0.684, "deepep", "DeepEP V1, EP8, dispatch and combine", 0.8),
    "nvlink5 DeepEP rate": Fitted(0.720, "deepep", "DeepEP V2, SM100, EP8, 64 SMs", 0.8),
    "ib DeepEP rate": Fitted(0.884, "deepep", f"DeepEP V1 and V2, between nodes; {_LL_EXCHANGE}", 0.98),
    "DeepEP SM rate": Fitted(24.2e9, "deepep", "DeepEP V2, EP8 with 24 SMs, EP8x2 with 12, EP8x4 with 6", 1e12),
    "low_latency base": Fitted(15.0e-6, "deepep", _LL_EXCHANGE, 0.0),
}
"""Constants by technology and protocol."""


_LOOP_OF: Final = {"nvlink6": "nvlink5"}
"""Technologies whose first loop of NVLS is taken to be that of another."""


def _nccl(bytes_per_s: float, nominal_bytes_per_s: float) -> float:
    return bytes_per_s / nominal_bytes_per_s


INSIDE_NODES: Final[Mapping[str, _Inside]] = {
    "nvlink2": _Inside(bus="nvlink", simple=_nccl(20.0, 25), most_ll=39.0 * _GB, source="NCCL topo.h: SM70 20.0 GB/s"),
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
        nvls="nvlink5-nvl72 NVLS rate",
        source="NCCL topo.h: SM100 40.1 GB/s x 18",
    ),
    "nvlink6": _Inside(
        bus="nvlink",
        simple=_nccl(36 * 31.2, 1800),
        most_ll=282.0 * _GB,
        nvls=0.74,
        source="NCCL topo.h: Rubin 31.2 GB/s, x 36 links assumed; LL and NVLS as on NVLink 5",
    ),
    "xgmi3": _Inside(bus="nvlink", simple="xgmi3 Simple rate", most_ll=87.7 * _GB, source="fitted; LL as on NVLink 3"),
    "xgmi4": _Inside(
        bus="nvlink", simple="xgmi3 Simple rate", most_ll=87.7 * _GB, source="taken to be as on MI300X's xGMI"
    ),
    "pcie4": _Inside(
        bus="pci", simple=_nccl(24.0, 31.5), most_ll=87.7 * _GB, source="NCCL topo.h: PCI_BW, generation 4"
    ),
    "pcie5": _Inside(
        bus="pci", simple=_nccl(48.0, 63.0), most_ll=141.0 * _GB, source="NCCL topo.h: PCI_BW, generation 5"
    ),
}
"""Technologies inside nodes."""

_RATE_OF_NDR = "ib-ndr Simple rate"
BETWEEN_NODES: Final[Mapping[str, _Between]] = {
    "ib-edr": _Between(simple=_RATE_OF_NDR, source="taken to be that of NDR"),
    "ib-xdr": _Between(simple=_RATE_OF_NDR, source="taken to be that of NDR"),
    "ib-hdr": _Between(simple=_RATE_OF_NDR, source="taken to be that of NDR"),
    "ib-ndr": _Between(simple=_RATE_OF_NDR, source="fitted"),
    "roce": _Between(simple=_RATE_OF_NDR, source="taken to be that of InfiniBand NDR: the same NIC"),
    "tcpxo": _Between(simple="tcpxo Simple rate", has_ll128=False, source="fitted"),
    "ethernet": _Between(simple=_RATE_OF_NDR, source="taken to be that of InfiniBand NDR"),
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
    return build_protocols(inside, between, {name: fitted.value for name, fitted in FITTED.items()})


def build_protocols(inside: str | None, between: str | None, fitted: Mapping[str, float]) -> tuple[Protocol, ...]:
    """Return the protocols of two technologies under the given values of the fitted constants."""
    if not inside:
        names = ("ring", "tree", "hierarchical", "direct", "hierarchical_all_to_all", "low_latency", "send")
        return tuple(Protocol(algorithm=name, name="plain", source="the links' own figures") for name in names)
    between = between or "ethernet"
    for name, known in ((inside, INSIDE_NODES), (between, BETWEEN_NODES)):
        if name not in known:
            raise InvalidValueError(
                subject="protocols",
                field="technology",
                rule=f"be one of {', '.join(known)}",
                value=repr(name),
                hint="Correct the name.",
            )
    pair = _Pair(inside, between, fitted)
    return (*pair.rings(), *pair.trees(), *pair.nvls(), *pair.exchanges())


def simple_rate(technology: str) -> float:
    """Return the fraction of the datasheet's bandwidth that a technology reaches under Simple.

    >>> simple_rate("nvlink3")
    0.8
    """
    known = INSIDE_NODES[technology] if technology in INSIDE_NODES else BETWEEN_NODES[technology]
    return FITTED[known.simple].value if isinstance(known.simple, str) else known.simple


# ---- private -----------------------------------------------------------------------------------------------------


class _Pair:
    """A technology inside nodes and one between them."""

    def __init__(self, inside: str, between: str, fitted: Mapping[str, float]) -> None:
        self._names = (inside, between)
        self._fitted = fitted
        self._inside_technology, self._between_technology = INSIDE_NODES[inside], BETWEEN_NODES[between]
        self._inside_rate, self._between_rate = (
            self._value(technology.simple) for technology in (self._inside_technology, self._between_technology)
        )
        self._source = f"{_NCCL}; {self._inside_technology.source}; {self._between_technology.source}"
        self._protocols = [i for i, name in enumerate(_NAMES) if name != "LL128" or self._between_technology.has_ll128]

    def rings(self) -> list[Protocol]:
        """Return the protocols of rings, which hierarchical collectives are made of as well."""
        shares = (0.5, 0.92, 1.0)
        found = []
        for i in self._protocols:
            hop_us = max(_HOP_US[self._inside_technology.bus]["ring"][i], _RING_FLOOR_US[i])
            inside = Tier(
                hop_latency_s=hop_us * _US,
                efficiency=self._inside_rate * shares[i],
                most_bytes_per_s=self._inside_technology.most_ll if i == 0 else math.inf,
            )
            found += [
                Protocol(
                    algorithm=algorithm,
                    name=_NAMES[i],
                    base_latency_s=_BASE_US["ring"][i] * _US,
                    inside=inside,
                    between=self._between("ring", i, shares[i]),
                    source=self._source,
                )
                for algorithm in ("ring", "hierarchical")
            ]
        return found

    def trees(self) -> list[Protocol]:
        """Return the protocols of trees."""
        inside_shares, between_shares = (0.92 / 3.8, 0.92 * 7 / 9, 0.92), (1 / 3.8, 120 / 128, 1.0)
        return [
            Protocol(
                algorithm="tree",
                name=_NAMES[i],
                base_latency_s=_BASE_US["tree"][i] * _US,
                inside=Tier(
                    hop_latency_s=_HOP_US[self._inside_technology.bus]["tree"][i] * _US,
                    efficiency=self._inside_rate * inside_shares[i],
                    most_bytes_per_s=self._inside_technology.most_ll if i == 0 else math.inf,
                ),
                between=self._between("tree", i, between_shares[i]),
                source=self._source,
            )
            for i in self._protocols
        ]

    def nvls(self) -> list[Protocol]:
        """Return NVLS, where the switch reduces."""
        if self._inside_technology.nvls is None:
            return []
        return [
            Protocol(
                algorithm="nvls",
                name="Simple",
                inside=Tier(
                    hop_latency_s=_NVLS_US * _US,
                    efficiency=self._inside_rate * self._value(self._inside_technology.nvls),
                ),
                between=self._between("nvls", 2, 1.0),
                loop_bytes_per_rank=self._fitted.get(
                    f"{_LOOP_OF.get(self._generation, self._generation)} NVLS loop", 0.0
                ),
                source=self._source,
            )
        ]

    def exchanges(self) -> list[Protocol]:
        """Return point to point and all-to-alls, whose messages take their paths' latencies."""
        inside = self._names[0]
        sends = next(
            (self._fitted[key] for key in (f"{inside} send rate", f"{inside} copy rate") if key in self._fitted), None
        )
        nccl, off_node = Tier(efficiency=self._inside_rate), Tier(efficiency=self._fitted["ib DeepEP rate"])
        deepep = Tier(efficiency=self._fitted.get(f"{inside} DeepEP rate", self._inside_rate))
        source = f"{self._inside_technology.source}; {self._between_technology.source}; deepseek-ai/DeepEP"
        return [
            Protocol(
                algorithm="send",
                name="copy",
                inside=Tier(efficiency=sends or self._inside_rate),
                between=Tier(efficiency=self._between_rate),
                source=source,
            ),
            self._direct(source),
            Protocol(
                algorithm="hierarchical_all_to_all", name="DeepEP", inside=deepep, between=off_node, source=source
            ),
            Protocol(
                algorithm="low_latency",
                name="DeepEP",
                base_latency_s=self._fitted["low_latency base"],
                inside=nccl,
                between=off_node,
                source=source,
            ),
        ]

    @property
    def _generation(self) -> str:
        """Technology inside nodes without what tells variants apart: nvlink4 of nvlink4-h800."""
        return self._names[0].partition("-")[0]

    def _direct(self, source: str) -> Protocol:
        """Return NCCL's all-to-all of sends and receives; technologies that were not measured are taken as NVLink 4."""
        inside = self._generation if f"{self._generation} direct rate" in self._fitted else "nvlink4"
        figure = {name: self._fitted[f"{inside} {name}"] for name in ("direct call", "small call", "small slowdown")}
        known = self._fitted[f"{inside} direct rate"] if inside == self._generation else self._inside_rate
        return Protocol(
            algorithm="direct",
            name="copy",
            inside=Tier(
                efficiency=known,
                call_latency_s=figure["direct call"],
                small=SmallMessages(call_latency_s=figure["small call"], slowdown=figure["small slowdown"]),
            ),
            between=Tier(efficiency=self._fitted["ib direct rate"], call_latency_s=self._fitted["ib direct call"]),
            source=source,
        )

    def _value(self, figure: float | str) -> float:
        return self._fitted[figure] if isinstance(figure, str) else figure

    def _between(self, algorithm: str, number: int, share: float) -> Tier:
        """Return a protocol between nodes: fitted, or as in NCCL's tables."""
        name = f"{self._names[1]} {_NAMES[number]}"
        rate = self._fitted.get(f"{name} rate") if number == 0 else None
        return Tier(
            hop_latency_s=self._fitted.get(f"{name} hop", _HOP_US["net"][algorithm][number] * _US),
            efficiency=self._between_rate * share if rate is None else rate,
            most_bytes_per_s=_MOST_LL_OF_NODE / _NICS if number == 0 and rate is None else math.inf,
        )
