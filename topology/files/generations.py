"""Figures that a machine's own description leaves out: NVLink and PCIe by GPU, the link between CPUs, latencies.

Bandwidths are of one direction. What NCCL credits an NVLink with, over the datasheet's figure, is its efficiency.

References
----------
NCCL src/graph/topo.h: SM70, SM80, SM90 and SM100_NVLINK_BW 20.0, 20.0, 20.6 and 40.1 GB/s; links between CPUs 6 to 40
GB/s. Datasheets: NVLink 2, 3 and 4 have 25 GB/s per link and direction, NVLink 5 50 GB/s; 6, 12, 18 and 18 links.
PCI-SIG: an x16 slot carries 15.75, 31.5, 63 and 121 GB/s (3.0 to 6.0). Latencies: DeepSeek-AI, "Insights into
DeepSeek-V3", 2025.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sim.errors import InvalidValueError

__all__ = [
    "CPU_LATENCY_S",
    "NVLINK_LATENCY_S",
    "NVSWITCH_LATENCY_S",
    "PCIE_LANE_BYTES_PER_S",
    "PCIE_LATENCY_S",
    "SOURCES",
    "Generation",
    "generation_of",
    "sm_of_device",
    "technology_of",
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
    "pcie": "PCI-SIG, after line coding",
    "cpu": "NCCL topo.h",
    "nic": "rate of the port; efficiency: that of the presets",
    "leaf-spine": "non-blocking share of the NICs; efficiency as theirs",
}
"""Kind of link -> where its figures come from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What GPUs of one compute capability are connected with."""

    nvlink_bytes_per_s: float
    """One NVLink."""
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
}
"""By compute capability times 10; one that is not here has the figures of the next below it."""

_DEVICES: Final = {"a100": 80, "l40s": 89, "h100": 90, "h200": 90, "h800": 90, "b200": 100, "gb200": 100}
"""Start of a device's preset name -> compute capability times 10."""


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


def technology_of(device: str, sm: int, kinds: Iterable[str]) -> str | None:
    """Return the technology inside a node of such GPUs and kinds of links, as protocols are told apart; None: unknown.

    >>> technology_of("h800-sxm", 90, ["nvlink", "pcie"]), technology_of("l40s", 89, ["pcie"])
    ('nvlink4-h800', 'pcie4')
    """
    if "nvlink" not in set(kinds):
        return {31.5e9: "pcie4", 63e9: "pcie5"}.get(generation_of(sm).pcie_bytes_per_s)
    return "nvlink4-h800" if device.startswith("h800") else {80: "nvlink3", 90: "nvlink4", 100: "nvlink5"}.get(sm)


def sm_of_device(device: str) -> int:
    """Return the compute capability (times 10) of a device preset.

    >>> sm_of_device("h100-sxm"), sm_of_device("gb200")
    (90, 100)
    """
    found = _DEVICES.get(device.partition("-")[0])
    if found is None:
        hint = "nvidia-smi prints no bandwidths, and they are known for NVIDIA's GPUs alone: describe it in YAML."
        raise InvalidValueError("cluster.device.preset", f"start with one of {', '.join(_DEVICES)}", device, hint)
    return found
