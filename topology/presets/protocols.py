"""Protocols by technology: what an algorithm of a collective costs on the links, beyond their datasheet.

Model
-----
    hop        = tier.hop_latency_s                                      one message of the chain, by where it goes
    rate       = min(tier.efficiency * datasheet bandwidth, tier.most_bytes_per_s)                   on each link

    call       = tier.call_latency_s, or for small messages what their protocol takes, if that is less
    fill       = min(1, loop_bytes_per_rank / bytes of the tensor per rank of a node) * time alone       first loop
    ends       = end_steps / steps of the chain * time alone              of a ring: its first step and its last
    hidden     = hidden_share * time alone, at most the chain              messages that are under way behind bytes

There are two tiers: links inside a node (or rack) and links between nodes. A tier without a latency of its own takes
the latency of the path; a tier without an efficiency takes the efficiency of the link.

Latencies and limits of LL, LL128 and Simple are those of NCCL's cost model (src/graph/tuning.cc, June 2026).
Its formulas for the rates, of a bus bandwidth B: ring LL B / 2 and at most the table's; ring LL128 0.92 B; tree 0.92 B,
LL B / 3.8, LL128 120/128 B (7/9 B on one node); NVLS efficiency * B with 6/5 of the tensor over each link.

`FITTED` has the constants that `benchmarks/fit_network.py` fitted, with the rows of the measurements. Groups within one
node have figures of their own where rings were measured there (NVLink 3, 4 and 5 behind an NVSwitch, 2 to 8 GPUs); what
NCCL expects of them, by which it chooses, is in `topology.presets.nccl_tuner`.

A ring's step takes a chunk of S / n. The first step of a rank also copies its own chunk, and the last one copies a
chunk from the buffer and sends nothing: together they take `end_steps` more than two others, so that a ring of 2 does
not reach the rate of a ring of 8.

Assumptions
-----------
A transfer occupies a link for as long as its protocol needs there: two transfers that share a link wait for each other
as if each filled the link. For a protocol far below the rate of the link (LL) that is pessimistic.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from sim.errors import InvalidValueError
from topology.presets.fitted import DIRECT, FITTED
from topology.presets.nccl_tuner import BASE_US, HOP_US, NVLS_US, RING_FLOOR_US, TUNERS, Tuner
from topology.presets.technologies import BETWEEN_NODES, INSIDE_NODES, simple_rate

__all__ = [
    "BETWEEN",
    "INSIDE",
    "NO_TIER",
    "Protocol",
    "Tier",
    "build_protocols",
    "protocols_of",
    "tuner_of",
]

NO_TIER, INSIDE, BETWEEN = 0, 1, 2
"""Tier of a link: none (a GPU's way to its NIC), inside a node, between nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallMessages:
    """A protocol that a library takes for small messages: it answers sooner, and moves bytes more slowly."""

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
    small: tuple[SmallMessages, ...] = ()
    """What small messages take instead."""
    own_copy_share: float = 0.0
    """Time of a byte that an exchange leaves on its rank, over a byte that crosses the links: a kernel copies it."""

    def call_s(self, alone_s: float) -> float:
        """Return what a call takes beyond the time `alone_s` that its busiest link needs.

        >>> tier = Tier(call_latency_s=33e-6, small=(SmallMessages(call_latency_s=14e-6, slowdown=2.6),))
        >>> tier.call_s(5e-6), tier.call_s(1e-3)  # 14 us + 1.6 * 5 us, and 33 us
        (2.2e-05, 3.3e-05)
        """
        calls_s = (one.call_latency_s + (one.slowdown - 1.0) * alone_s for one in self.small)
        return min((self.call_latency_s, *calls_s))

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
    on_one_node: bool = False
    """Whether it is that of groups within one node, which take no other protocol of its algorithm."""
    end_steps: float = 0.0
    """What the first and the last step of a ring take beyond two other steps, as steps."""
    hidden_share: float = 0.0
    """Part of the time alone behind which messages of the chain are under way."""
    combine_latency_s: float = 0.0
    """Time that a combine takes beyond a dispatch of as many bytes."""
    source: str
    """Where the figures come from."""


_NCCL = "NVIDIA/nccl src/graph/tuning.cc"
_NAMES = ("LL", "LL128", "Simple")
_US = 1e-6
_MOST_LL_OF_NODE = 45e9  # llMaxBws, Hopper, two nodes
_NICS = 8
"""NICs of the nodes that NCCL's limits between nodes are for."""


_LIKE: Final = {"nvlink6": "nvlink5"}
"""Technologies whose rings and first loop of NVLS are taken to be those of another."""
_HIDDEN: Final = {"nvlink5": 0.5}
"""`hidden_share` of a ring under Simple. NCCL sends a chunk as two slices (ALLREDUCE_CHUNKSTEPS, -SLICESTEPS), so that
half of a chunk can hide a message: so it is on NVLink 5, where a message takes 10 us; of the shorter messages of NVLink
3 and 4 nothing is hidden in aic_collectives."""


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
    >>> sorted({p.name for p in protocols_of("nvlink3", "ib-hdr") if p.algorithm == "ring"})
    ['LL', 'LL128', 'Simple']
    """
    return build_protocols(inside, between, {name: fitted.value for name, fitted in FITTED.items()})


def build_protocols(inside: str | None, between: str | None, fitted: Mapping[str, float]) -> tuple[Protocol, ...]:
    """Return the protocols of two technologies under the given values of the fitted constants."""
    if not inside:
        exchanges = ("direct", "hierarchical_all_to_all", "low_latency", "deepep", "hybridep")
        names = ("ring", "tree", "hierarchical", *exchanges, "send")
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
    return (*pair.rings(), *pair.trees(), *pair.nvls(), *pair.exchanges(), *pair.on_one_node())


def tuner_of(inside: str | None) -> Tuner | None:
    """Return what NCCL expects inside nodes of a technology; None where groups of one node have no own protocols.

    >>> tuner_of("nvlink4-h800") is TUNERS["nvlink4"], tuner_of("pcie5")
    (True, None)
    """
    return TUNERS.get(_generation(inside)) if inside else None


# ---- private -----------------------------------------------------------------------------------------------------


def _generation(inside: str) -> str:
    """Return a technology without what tells variants apart, or the one that it is taken to be like."""
    name = inside.partition("-")[0]
    return _LIKE.get(name, name)


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
            hop_us = max(HOP_US[self._inside_technology.bus]["ring"][_NAMES[i]], RING_FLOOR_US[_NAMES[i]])
            inside = Tier(
                hop_latency_s=hop_us * _US,
                efficiency=self._inside_rate * shares[i],
                most_bytes_per_s=self._inside_technology.most_ll if i == 0 else math.inf,
            )
            found += [
                Protocol(
                    algorithm=algorithm,
                    name=_NAMES[i],
                    base_latency_s=BASE_US["ring"][_NAMES[i]] * _US,
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
                base_latency_s=BASE_US["tree"][_NAMES[i]] * _US,
                inside=Tier(
                    hop_latency_s=HOP_US[self._inside_technology.bus]["tree"][_NAMES[i]] * _US,
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
                    hop_latency_s=NVLS_US * _US,
                    efficiency=self._inside_rate * self._value(self._inside_technology.nvls),
                ),
                between=self._between("nvls", 2, 1.0),
                loop_bytes_per_rank=self._fitted.get(f"{_generation(self._names[0])} NVLS loop", 0.0),
                source=self._source,
            )
        ]

    def on_one_node(self) -> list[Protocol]:
        """Return rings and NVLS of groups within one node, as measured."""
        generation = _generation(self._names[0])
        if f"{generation} ring Simple rate" not in self._fitted:
            return []
        found = [
            Protocol(
                algorithm=algorithm,
                name=name,
                base_latency_s=self._fitted[f"{generation} ring {name} base"],
                inside=self._ring_tier(name, generation),
                on_one_node=True,
                end_steps=self._fitted[f"{generation} ring ends"] if name == "Simple" else 0.0,
                hidden_share=_HIDDEN.get(generation, 0.0) if name == "Simple" else 0.0,
                source=f"{self._source}; aic_collectives",
            )
            for name in _NAMES
            if f"{generation} ring {name} base" in self._fitted
            for algorithm in ("ring", "hierarchical")
        ]
        call_s = self._fitted.get(f"{generation} NVLS call", NVLS_US * _US)
        return found + [
            replace(nvls, on_one_node=True, inside=replace(nvls.inside, hop_latency_s=call_s)) for nvls in self.nvls()
        ]

    def _ring_tier(self, name: str, generation: str) -> Tier:
        """Return what a ring of one node reaches; LL is bounded by what its lines carry, whatever the links."""
        figure, simple = f"{generation} ring {name}", simple_rate(generation)
        hop_s = self._fitted.get(f"{figure} hop", HOP_US[self._inside_technology.bus]["ring"][name] * _US)
        if name == "LL":
            return Tier(
                hop_latency_s=hop_s,
                efficiency=self._inside_rate / 2,
                most_bytes_per_s=self._fitted[f"{figure} rate"],
            )
        return Tier(hop_latency_s=hop_s, efficiency=self._fitted[f"{figure} rate"] * self._inside_rate / simple)

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
            *self._dispatchers(source, off_node),
            Protocol(
                algorithm="low_latency",
                name="DeepEP",
                base_latency_s=self._fitted["low_latency base"],
                inside=nccl,
                between=off_node,
                source=source,
            ),
        ]

    def _dispatchers(self, source: str, off_node: Tier) -> list[Protocol]:
        """Return DeepEP's normal kernels of version 1, which start slowly, and HybridEP's, taken to start as slowly."""
        inside, generation = self._names[0], self._names[0].partition("-")[0]
        names = [f"{inside} DeepEP normal rate", f"{inside} DeepEP rate"]
        normal = next((self._fitted[name] for name in names if name in self._fitted), self._inside_rate)
        return [
            Protocol(
                algorithm="deepep",
                name="DeepEP",
                inside=Tier(efficiency=normal, call_latency_s=self._fitted["DeepEP normal call"]),
                between=replace(off_node, call_latency_s=self._fitted["DeepEP normal call across"]),
                combine_latency_s=self._fitted["DeepEP normal combine"],
                source=source,
            ),
            Protocol(
                algorithm="hybridep",
                name="HybridEP",
                inside=Tier(
                    efficiency=self._fitted.get(f"{generation} HybridEP rate"),
                    call_latency_s=self._fitted["DeepEP normal call"],
                ),
                between=replace(off_node, call_latency_s=self._fitted["DeepEP normal call across"]),
                source=f"{source}; arXiv:2603.07685",
            ),
        ]

    def _direct(self, source: str) -> Protocol:
        """Return NCCL's all-to-all of sends and receives; technologies that were not measured are taken as NVLink 4."""
        generation = self._names[0].partition("-")[0]
        inside = generation if f"{generation} direct rate" in self._fitted else "nvlink4"
        figure = {name: self._fitted[f"{inside} {name}"] for name in DIRECT if name != "direct rate"}
        known = self._fitted[f"{inside} direct rate"] if inside == generation else self._inside_rate
        return Protocol(
            algorithm="direct",
            name="copy",
            inside=Tier(
                efficiency=known,
                call_latency_s=figure["direct call"],
                small=tuple(
                    SmallMessages(call_latency_s=figure[f"{size} call"], slowdown=figure[f"{size} slowdown"])
                    for size in ("small", "tiny")
                ),
                own_copy_share=figure["own copy"],
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
            hop_latency_s=self._fitted.get(f"{name} hop", HOP_US["net"][algorithm][_NAMES[number]] * _US),
            efficiency=self._between_rate * share if rate is None else rate,
            most_bytes_per_s=_MOST_LL_OF_NODE / _NICS if number == 0 and rate is None else math.inf,
        )
