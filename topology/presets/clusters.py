"""Named clusters: the fabric around a device, each figure with its source.

A link's efficiency is the best that any protocol reaches on it; what each protocol reaches stands in
`topology.presets.protocols`. NVLink: what NCCL's cost model credits a link with (NCCL src/graph/topo.h: SM80 20.0 GB/s
x 12 links, SM100 40.1 GB/s x 18), or a pairwise copy (NVLink 4).
Latencies are end to end for 64 bytes (DeepSeek-AI, "Insights into DeepSeek-V3", 2025, latency table: NVLink 3.33 us,
InfiniBand 2.8 us under one leaf, 3.7 us across leaves), divided over the links of the path.
"""

from dataclasses import dataclass

from topology.errors import TopologyError
from topology.fabric import FabricSpec
from topology.links import LinkKind
from topology.presets.near import near_preset
from topology.presets.protocols import BETWEEN_NODES, FITTED

__all__ = ["CLUSTERS", "FABRICS", "ClusterPreset", "get_cluster_preset"]

_NVLINK_LATENCY_S = 3.33e-6 / 2  # gpu -> nvswitch -> gpu: 2 links
_NET_LATENCY_S = 2.8e-6 / 4  # gpu -> nic -> leaf -> nic -> gpu: 4 links
_LEAF_LATENCY_S = (3.7e-6 - 2.8e-6) / 2  # leaf -> spine -> leaf adds 2 links


def _nvlink(bandwidth_bytes_per_s: float, reached_bytes_per_s: float, source: str) -> LinkKind:
    return LinkKind(
        name="nvlink",
        bandwidth_bytes_per_s=bandwidth_bytes_per_s,
        latency_s=_NVLINK_LATENCY_S,
        efficiency=reached_bytes_per_s / bandwidth_bytes_per_s,
        source=source,
    )


def _fabric(
    name: str,
    *,
    gpus_per_node: int,
    nvlink: LinkKind,
    inside: str,
    between: str,
    nic_bytes_per_s: float,
    pcie_bytes_per_s: float,
    nodes_per_leaf: int,
    spines_per_unit: int = 4,
) -> FabricSpec:
    return FabricSpec(
        name=name,
        gpus_per_node=gpus_per_node,
        nvlink=nvlink,
        pcie=LinkKind(
            name="pcie",
            bandwidth_bytes_per_s=pcie_bytes_per_s,
            latency_s=_NET_LATENCY_S,
            source="PCI-SIG, x16 slot after line coding: 4.0 31.5 GB/s, 5.0 63 GB/s, 6.0 121 GB/s",
        ),
        nic=LinkKind(
            name="nic",
            bandwidth_bytes_per_s=nic_bytes_per_s,
            latency_s=_NET_LATENCY_S,
            efficiency=BETWEEN_NODES[between].simple,
            source=BETWEEN_NODES[between].source,
        ),
        leaf_hop=LinkKind(
            name="leaf-spine",
            bandwidth_bytes_per_s=nic_bytes_per_s,
            latency_s=_LEAF_LATENCY_S,
            efficiency=BETWEEN_NODES[between].simple,
            source=BETWEEN_NODES[between].source,
        ),
        inside=inside,
        between=between,
        nodes_per_leaf=nodes_per_leaf,
        spines_per_unit=spines_per_unit,
    )


_NVLINK4 = _nvlink(450e9, FITTED["nvlink4 copy rate"].value * 450e9, "H100 datasheet: 900 GB/s both ways; copies")
_NVLINK5 = _nvlink(900e9, 18 * 40.1e9, "B200 datasheet: 1.8 TB/s both ways; NCCL topo.h SM100_NVLINK_BW 40.1 GB/s x 18")

FABRICS: dict[str, FabricSpec] = {
    # DGX A100 datasheet: 8 GPUs, NVLink3 600 GB/s both ways, 8 x 200 Gb/s HDR; SuperPOD units of 20 nodes.
    "dgx-a100": _fabric(
        "dgx-a100",
        gpus_per_node=8,
        inside="nvlink3",
        between="ib-hdr",
        nvlink=_nvlink(
            300e9, 12 * 20.0e9, "A100 datasheet: 600 GB/s both ways; NCCL topo.h SM80_NVLINK_BW 20.0 GB/s x 12"
        ),
        nic_bytes_per_s=25e9,
        pcie_bytes_per_s=31.5e9,
        nodes_per_leaf=20,
    ),
    # DGX H100 datasheet: 8 GPUs, NVLink4 900 GB/s both ways, 8 x 400 Gb/s NDR; SuperPOD units of 32 nodes.
    "dgx-h100": _fabric(
        "dgx-h100",
        gpus_per_node=8,
        inside="nvlink4",
        between="ib-ndr",
        nvlink=_NVLINK4,
        nic_bytes_per_s=50e9,
        pcie_bytes_per_s=63e9,
        nodes_per_leaf=32,
    ),
    # DGX H200: the DGX H100 with another GPU.
    "dgx-h200": _fabric(
        "dgx-h200",
        gpus_per_node=8,
        inside="nvlink4",
        between="ib-ndr",
        nvlink=_NVLINK4,
        nic_bytes_per_s=50e9,
        pcie_bytes_per_s=63e9,
        nodes_per_leaf=32,
    ),
    # H800: NVLink cut to 400 GB/s both ways; 160 of 200 GB/s one way is what DeepEP states as reachable.
    "h800": _fabric(
        "h800",
        gpus_per_node=8,
        inside="nvlink4-h800",
        between="ib-ndr",
        nvlink=_nvlink(200e9, 160e9, "DeepEP README: H800 NVLink about 160 GB/s of 200 GB/s"),
        nic_bytes_per_s=50e9,
        pcie_bytes_per_s=63e9,
        nodes_per_leaf=32,
    ),
    # DGX B200 datasheet: 8 GPUs, NVLink5 1.8 TB/s both ways, 8 x 400 Gb/s.
    "dgx-b200": _fabric(
        "dgx-b200",
        gpus_per_node=8,
        inside="nvlink5",
        between="ib-ndr",
        nvlink=_NVLINK5,
        nic_bytes_per_s=50e9,
        pcie_bytes_per_s=63e9,
        nodes_per_leaf=32,
    ),
    # GB200 NVL72: 72 GPUs in one NVLink domain, a 400 Gb/s NIC per GPU; SuperPOD units of 8 racks.
    "gb200-nvl72": _fabric(
        "gb200-nvl72",
        gpus_per_node=72,
        inside="nvlink5-nvl72",
        between="ib-ndr",
        nvlink=_NVLINK5,
        nic_bytes_per_s=50e9,
        pcie_bytes_per_s=63e9,
        nodes_per_leaf=8,
    ),
}
"""Fabric by preset name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPreset:
    """A fabric and the device that is sold in it."""

    fabric: FabricSpec
    """Wiring and links."""
    device: str
    """Device preset name."""


CLUSTERS: dict[str, ClusterPreset] = {
    "dgx-a100": ClusterPreset(fabric=FABRICS["dgx-a100"], device="a100-sxm-80gb"),
    "dgx-h100": ClusterPreset(fabric=FABRICS["dgx-h100"], device="h100-sxm"),
    "dgx-h200": ClusterPreset(fabric=FABRICS["dgx-h200"], device="h200-sxm"),
    "h800": ClusterPreset(fabric=FABRICS["h800"], device="h800-sxm"),
    "dgx-b200": ClusterPreset(fabric=FABRICS["dgx-b200"], device="b200-sxm"),
    "gb200-nvl72": ClusterPreset(fabric=FABRICS["gb200-nvl72"], device="gb200"),
}
"""Cluster presets by name."""


def get_cluster_preset(name: str) -> ClusterPreset:
    """Return the preset called `name`, or refuse it with the nearest name.

    >>> get_cluster_preset("dgx-h100").device
    'h100-sxm'
    """
    if name in CLUSTERS:
        return CLUSTERS[name]
    near = near_preset(name, CLUSTERS)
    hint = f"Did you mean {near!r}? " if near else ""
    cure = f"{hint}Known: {', '.join(CLUSTERS)}."
    raise TopologyError(subject="cluster", field="preset", rule="name a known cluster", value=repr(name), cure=cure)
