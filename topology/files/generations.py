"""Figures that the description of a machine leaves out: NVLink, xGMI and PCIe by GPU, latencies.

Bandwidths are of one direction. The efficiency of a link is the bandwidth with which NCCL or RCCL credits the link,
over the bandwidth of the datasheet.

References
----------
NCCL src/graph/topo.h: SM70, SM80, SM90 and SM100_NVLINK_BW 20.0, 20.0, 20.6 and 40.1 GB/s; links between CPUs 6 to 40
GB/s. Datasheets: NVLink 2, 3 and 4 have 25 GB/s per link and direction, NVLink 5 50 GB/s; 6, 12, 18 and 18 links.
PCI-SIG: an x16 slot carries 15.75, 31.5, 63 and 121 GB/s (3.0 to 6.0). Latencies: DeepSeek-AI, "Insights into
DeepSeek-V3", 2025. RCCL src/graph/topo.h: MI200_XGMI_WIDTH 36, VEGA_XGMI_WIDTH 24 GB/s. AMD: an xGMI link carries
46 GB/s (MI100), 50 GB/s (MI250X) and 64 GB/s (MI300X).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from sim.errors import InvalidValueError
from topology.presets.technologies import simple_rate

__all__ = [
    "CPU_LATENCY_S",
    "NVLINK_LATENCY_S",
    "NVSWITCH_LATENCY_S",
    "PCIE_LANE_BYTES_PER_S",
    "PCIE_LATENCY_S",
    "SOURCES",
    "Generation",
    "XgmiGeneration",
    "generation_of",
    "gfx_of_device",
    "is_same_architecture",
    "nvlinks_of_device",
    "rack_gpus_of_device",
    "sm_of_device",
    "technology_of",
    "xgmi_of",
]

NVSWITCH_LATENCY_S: Final = 3.33e-6 / 2
"""Of each of the two links between GPUs of an NVSwitch."""
NVLINK_LATENCY_S: Final = 3.33e-6
"""Of a link from GPU to GPU: as long as over an NVSwitch, for software takes most of it."""
PCIE_LATENCY_S: Final = 2.8e-6 / 8
"""Of a PCIe link: gpu -> switch -> nic are two where presets have one of twice as much."""
CPU_LATENCY_S: Final = 2.8e-6 / 8
"""Of a link between CPUs: taken to be that of a PCIe link."""

PCIE_LANE_BYTES_PER_S: Final[dict[str, float]] = {
    "2.5": 0.25e9,
    "5": 0.5e9,
    "8": 15.75e9 / 16,
    "16": 31.5e9 / 16,
    "32": 63e9 / 16,
    "64": 121e9 / 16,
}
"""Bandwidth of a lane by its transfers [GT/s], after line coding."""

SOURCES: Final[dict[str, str]] = {
    "nvlink": "datasheet bandwidth per link x links; efficiency: NCCL topo.h",
    "xgmi": "AMD's bandwidth per link x links; efficiency: RCCL topo.h, of MI300X fitted",
    "c2c": "bandwidth x links as NCCL found them",
    "pcie": "PCI-SIG, after line coding",
    "cpu": "NCCL topo.h",
    "nic": "rate of the port; efficiency: that of the presets",
    "leaf-spine": "non-blocking share of the NICs; efficiency as theirs",
}
"""Kind of link -> where its figures come from."""


_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What GPUs of one compute capability are connected with."""

    nvlink_bytes_per_s: float
    """Bandwidth of one NVLink in one direction."""
    nccl_bytes_per_s: float
    """What NCCL credits it with."""
    max_nvlinks: int
    """NVLinks of one GPU; 0: none."""
    pcie_bytes_per_s: float
    """A PCIe x16 slot."""

    @property
    def efficiency(self) -> float:
        """Reachable fraction of an NVLink."""
        return self.nccl_bytes_per_s / self.nvlink_bytes_per_s


def _generation(links: int, link_gb: float, nccl_gb: float, pcie_gb: float) -> Generation:
    return Generation(
        nvlink_bytes_per_s=link_gb * 1e9,
        nccl_bytes_per_s=nccl_gb * 1e9,
        max_nvlinks=links,
        pcie_bytes_per_s=pcie_gb * 1e9,
    )


_GENERATIONS: Final[dict[int, Generation]] = {
    60: _generation(4, 20.0, 18.0, 15.75),
    70: _generation(6, 25.0, 20.0, 15.75),
    80: _generation(12, 25.0, 20.0, 31.5),
    86: _generation(4, 14.0625, 12.0, 31.5),
    89: _generation(0, 25.0, 20.0, 31.5),
    90: _generation(18, 25.0, 20.6, 63.0),
    100: _generation(18, 50.0, 40.1, 63.0),
    107: _generation(36, 50.0, 31.2, 121.0),
    120: _generation(0, 50.0, 40.1, 63.0),
}
"""By compute capability times 10; one that is not here has the figures of the next below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class XgmiGeneration:
    """The xGMI links of GPUs of one architecture."""

    xgmi_bytes_per_s: float
    """Bandwidth of one link."""
    efficiency: float
    """Fraction of the bandwidth that transfers reach."""
    pcie_bytes_per_s: float
    """A PCIe x16 slot."""
    has_several: bool = False
    """Whether two GPUs may have several links."""


_XGMI: Final[dict[str, XgmiGeneration]] = {
    "gfx95": XgmiGeneration(xgmi_bytes_per_s=76.8e9, efficiency=simple_rate("xgmi4"), pcie_bytes_per_s=63e9),
    "gfx94": XgmiGeneration(xgmi_bytes_per_s=64e9, efficiency=simple_rate("xgmi3"), pcie_bytes_per_s=63e9),
    "gfx90a": XgmiGeneration(xgmi_bytes_per_s=50e9, efficiency=36 / 50, pcie_bytes_per_s=31.5e9, has_several=True),
    "gfx90": XgmiGeneration(xgmi_bytes_per_s=46e9, efficiency=24 / 46, pcie_bytes_per_s=31.5e9),
}
"""By the start of the architecture's name; the first that fits holds."""

_GFX: Final = {"mi300x": "gfx942", "mi325x": "gfx942", "mi355x": "gfx950", "mi250x": "gfx90a"}
"""Start of a device's preset name -> architecture."""

_RACKS: Final = {"gb200": "gb200-nvl72", "gb300": "gb300-nvl72", "vr200": "vr200-nvl144"}
"""Start of a device's preset name -> the cluster preset of the rack that is one NVLink domain."""

_RACK_GPUS: Final = 72
"""GPUs of these racks (NVIDIA GB200 NVL72 datasheet, and the same in the later ones)."""

_BLACKWELL: Final = (100, 103)
_HGX_GPUS: Final = 8
_DEVICES: Final = {
    **{"v100": 70, "a100": 80, "l40s": 89, "rtx-4090": 89, "h100": 90, "h200": 90, "h800": 90, "h20": 90},
    **{"b200": 100, "gb200": 100, "b300": 103, "gb300": 103, "vr200": 107, "rtx-pro-6000": 120},
}
"""Start of a device's preset name -> compute capability times 10."""

_FEWER_NVLINKS: Final = {"h800": 8}
"""Start of a device's preset name -> NVLinks of a GPU, where its generation has more (H800: 400 GB/s both ways)."""


def generation_of(sm: int) -> Generation:
    """Return the figures of a compute capability (times 10).

    >>> generation_of(90).max_nvlinks * generation_of(90).nvlink_bytes_per_s
    450000000000.0
    """
    below = [known for known in _GENERATIONS if known <= sm]
    if not below:
        hint = "Describe the machine in YAML."
        raise InvalidValueError("sm", f"be at least {min(_GENERATIONS)}", sm, hint, subject="a GPU")
    return _GENERATIONS[max(below)]


def xgmi_of(gfx: str) -> XgmiGeneration:
    """Return the xGMI links of an architecture: `gfx942:sramecc+:xnack-`, or 910, as older RCCL writes gfx90a.

    >>> xgmi_of("gfx942:sramecc+:xnack-").xgmi_bytes_per_s
    64000000000.0
    """
    start = _start_of(gfx)
    if start:
        return _XGMI[start]
    known = ", ".join(f"{start}*" for start in _XGMI)
    raise InvalidValueError(
        "gcn", f"be one of {known}", gfx or "nothing", "Describe the machine in YAML.", subject="a GPU"
    )


def is_same_architecture(gfx: str, other: str) -> bool:
    """Tell whether two architectures have the same xGMI links.

    >>> is_same_architecture("910", "gfx90a"), is_same_architecture("gfx942", "gfx90a")
    (True, False)
    """
    return _start_of(gfx) == _start_of(other)


def gfx_of_device(device: str) -> str:
    """Return the architecture of a device preset of AMD; empty for other devices.

    >>> gfx_of_device("mi250x-gcd")
    'gfx90a'
    """
    return _of_device(device, _GFX) or ""


def rack_gpus_of_device(device: str) -> int:
    """Return the GPUs of the NVLink domain in which a device is sold where that spans hosts; else 0.

    >>> rack_gpus_of_device("gb200"), rack_gpus_of_device("h100-sxm")
    (72, 0)
    """
    return _RACK_GPUS if rack_of_device(device) else 0


def rack_of_device(device: str) -> str:
    """Return the cluster preset of the rack in which a device is sold as one NVLink domain; empty for other devices.

    >>> rack_of_device("gb300"), rack_of_device("h100-sxm")
    ('gb300-nvl72', '')
    """
    return _of_device(device, _RACKS) or ""


def _start_of(gfx: str) -> str:
    """Return the key of an architecture in `_XGMI`; empty where it is unknown."""
    name = {"910": "gfx90a"}.get(gfx, gfx if gfx.startswith("gfx") else f"gfx{gfx}")
    return next((start for start in _XGMI if name.startswith(start)), "")


def technology_of(device: str, *, sm: int, gfx: str = "", kinds: Iterable[str], gpus_per_node: int = 8) -> str | None:
    """Return the technology inside a node of such GPUs and kinds of links, by which protocols differ; None: unknown.

    >>> technology_of("h800-sxm", sm=90, kinds=["nvlink", "pcie"]), technology_of("l40s", sm=89, kinds=["pcie"])
    ('nvlink4-h800', 'pcie4')
    >>> technology_of("mi300x", sm=0, gfx="gfx942", kinds=["xgmi", "pcie"])
    'xgmi3'
    """
    present = set(kinds)
    if gfx:
        known = {"94": "xgmi3", "95": "xgmi4"}
        return known.get(gfx.removeprefix("gfx")[:2]) if "xgmi" in present else None
    if not sm:
        return None
    if "nvlink" not in present:
        return {31.5e9: "pcie4", 63e9: "pcie5"}.get(generation_of(sm).pcie_bytes_per_s)
    if device.startswith("h800"):
        return "nvlink4-h800"
    if sm in _BLACKWELL:
        return "nvlink5" if gpus_per_node <= _HGX_GPUS else "nvlink5-nvl72"
    return {80: "nvlink3", 90: "nvlink4"}.get(sm)


def sm_of_device(device: str) -> int:
    """Return the compute capability (times 10) of a device preset of NVIDIA; 0 for other devices.

    >>> sm_of_device("h100-sxm"), sm_of_device("gb200"), sm_of_device("mi300x")
    (90, 100, 0)
    """
    return _of_device(device, _DEVICES) or 0


def nvlinks_of_device(device: str) -> int:
    """Return the NVLinks of one GPU of a device preset; 0 for other devices, and for devices without NVLink.

    >>> nvlinks_of_device("h100-sxm"), nvlinks_of_device("h800-sxm"), nvlinks_of_device("l40s")
    (18, 8, 0)
    """
    sm = sm_of_device(device)
    return (_of_device(device, _FEWER_NVLINKS) or generation_of(sm).max_nvlinks) if sm else 0


def _of_device(device: str, by_start: Mapping[str, _Value]) -> _Value | None:
    """Return the entry of the longest start of a preset name that ends the name or is followed by a hyphen."""
    starts = [start for start in by_start if f"{device}-".startswith(f"{start}-")]
    return by_start[max(starts, key=len)] if starts else None
