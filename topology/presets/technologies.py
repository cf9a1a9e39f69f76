"""Technologies of links inside nodes and between them: the rate of NCCL's Simple, and limits of LL and NVLS."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from topology.presets.fitted import FITTED

__all__ = ["BETWEEN_NODES", "INSIDE_NODES", "BetweenTechnology", "InsideTechnology", "simple_rate"]

_GB = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class InsideTechnology:
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
class BetweenTechnology:
    """A technology between nodes."""

    simple: float | str
    """Fraction of the datasheet's bandwidth under Simple; a text: the fitted constant of that name."""
    has_ll128: bool = True
    """Whether LL128 runs on it: it needs stores of 128 bytes to arrive whole."""
    source: str
    """Where the fraction under Simple comes from."""


def _nccl(bytes_per_s: float, nominal_bytes_per_s: float) -> float:
    return bytes_per_s / nominal_bytes_per_s


INSIDE_NODES: Final[Mapping[str, InsideTechnology]] = {
    "nvlink2": InsideTechnology(
        bus="nvlink", simple=_nccl(20.0, 25), most_ll=39.0 * _GB, source="NCCL topo.h: SM70 20.0 GB/s"
    ),
    "nvlink3": InsideTechnology(
        bus="nvlink", simple=_nccl(12 * 20.0, 300), most_ll=87.7 * _GB, source="NCCL topo.h: SM80 20.0 GB/s x 12"
    ),
    "nvlink4": InsideTechnology(
        bus="nvlink",
        simple=_nccl(18 * 20.6, 450),
        most_ll=141.0 * _GB,
        nvls=0.85,
        source="NCCL topo.h: SM90 20.6 GB/s x 18; nvlsEfficiency",
    ),
    "nvlink4-h800": InsideTechnology(
        bus="nvlink",
        simple=_nccl(160, 200),
        most_ll=141.0 * _GB,
        nvls=0.85,
        source="DeepEP README: H800 NVLink about 160 of 200 GB/s; NCCL nvlsEfficiency",
    ),
    "nvlink5": InsideTechnology(
        bus="nvlink",
        simple=_nccl(18 * 40.1, 900),
        most_ll=282.0 * _GB,
        nvls=0.74,
        source="NCCL topo.h: SM100 40.1 GB/s x 18; nvlsEfficiency",
    ),
    "nvlink5-nvl72": InsideTechnology(
        bus="nvlink",
        simple=_nccl(18 * 40.1, 900),
        most_ll=282.0 * _GB,
        nvls="nvlink5-nvl72 NVLS rate",
        source="NCCL topo.h: SM100 40.1 GB/s x 18",
    ),
    "nvlink6": InsideTechnology(
        bus="nvlink",
        simple=_nccl(36 * 31.2, 1800),
        most_ll=282.0 * _GB,
        nvls=0.74,
        source="NCCL topo.h: Rubin 31.2 GB/s, x 36 links assumed; LL and NVLS as on NVLink 5",
    ),
    "xgmi3": InsideTechnology(
        bus="nvlink", simple="xgmi3 Simple rate", most_ll=87.7 * _GB, source="fitted; LL as on NVLink 3"
    ),
    "xgmi4": InsideTechnology(
        bus="nvlink", simple="xgmi3 Simple rate", most_ll=87.7 * _GB, source="taken to be as on MI300X's xGMI"
    ),
    "pcie4": InsideTechnology(
        bus="pci", simple=_nccl(24.0, 31.5), most_ll=87.7 * _GB, source="NCCL topo.h: PCI_BW, generation 4"
    ),
    "pcie5": InsideTechnology(
        bus="pci", simple=_nccl(48.0, 63.0), most_ll=141.0 * _GB, source="NCCL topo.h: PCI_BW, generation 5"
    ),
}
"""Technologies inside nodes."""

_RATE_OF_NDR = "ib-ndr Simple rate"
BETWEEN_NODES: Final[Mapping[str, BetweenTechnology]] = {
    "ib-edr": BetweenTechnology(simple=_RATE_OF_NDR, source="taken to be that of NDR"),
    "ib-xdr": BetweenTechnology(simple=_RATE_OF_NDR, source="taken to be that of NDR"),
    "ib-hdr": BetweenTechnology(simple=_RATE_OF_NDR, source="taken to be that of NDR"),
    "ib-ndr": BetweenTechnology(simple=_RATE_OF_NDR, source="fitted"),
    "roce": BetweenTechnology(simple=_RATE_OF_NDR, source="taken to be that of InfiniBand NDR: the same NIC"),
    "tcpxo": BetweenTechnology(simple="tcpxo Simple rate", has_ll128=False, source="fitted"),
    "ethernet": BetweenTechnology(simple=_RATE_OF_NDR, source="taken to be that of InfiniBand NDR"),
}
"""Technologies between nodes."""


def simple_rate(technology: str) -> float:
    """Return the fraction of the datasheet's bandwidth that a technology reaches under Simple.

    >>> simple_rate("nvlink3")
    0.8
    """
    known = INSIDE_NODES[technology] if technology in INSIDE_NODES else BETWEEN_NODES[technology]
    return FITTED[known.simple].value if isinstance(known.simple, str) else known.simple
