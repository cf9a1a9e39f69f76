"""Named clusters: the fabric around a device, each figure with its source.

A link's efficiency is the best that any protocol reaches on it; what each protocol reaches stands in
`topology.presets.protocols`. NVLink: what NCCL's cost model credits a link with (NCCL src/graph/topo.h: SM80 20.0 GB/s
x 12 links, SM100 40.1 GB/s x 18), or a pairwise copy (NVLink 4).
Latencies are end to end for 64 bytes (DeepSeek-AI, "Insights into DeepSeek-V3", 2025, latency table: NVLink 3.33 us,
InfiniBand 2.8 us under one leaf, 3.7 us across leaves; RoCE 3.6 and 5.6 us), divided over the links of the path.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sim.errors import InvalidValueError, did_you_mean
from topology.fabric import FabricSpec, Node
from topology.fabrics.clos import RailOptimised
from topology.links import LinkKind
from topology.nodes import CubeMeshNode, MeshNode, NvSwitchNode, PcieServer
from topology.presets.fitted import FITTED
from topology.presets.technologies import BETWEEN_NODES, simple_rate

__all__ = ["CLUSTERS", "FABRICS", "ClusterPreset", "get_cluster_preset"]

_NVSWITCH = NvSwitchNode()
_NVLINK_LATENCY_S = 3.33e-6 / 2  # gpu -> nvswitch -> gpu: 2 links
_IB_S = (2.8e-6, 3.7e-6)  # "Insights into DeepSeek-V3": InfiniBand, under one leaf and across leaves
_ROCE_S = (3.6e-6, 5.6e-6)  # same table: RoCE
_PCIE_SOURCE = "PCI-SIG, x16 slot after line coding: 4.0 31.5 GB/s, 5.0 63 GB/s, 6.0 121 GB/s"


def _nvlink(bandwidth_bytes_per_s: float, reached_bytes_per_s: float, source: str) -> LinkKind:
    return LinkKind(
        name="nvlink",
        bandwidth_bytes_per_s=bandwidth_bytes_per_s,
        latency_s=_NVLINK_LATENCY_S,
        efficiency=reached_bytes_per_s / bandwidth_bytes_per_s,
        source=source,
    )


_NVLINK4 = _nvlink(450e9, FITTED["nvlink4 copy rate"].value * 450e9, "H100 datasheet: 900 GB/s both ways; copies")
_NVLINK5 = _nvlink(900e9, 18 * 40.1e9, "B200 datasheet: 1.8 TB/s both ways; NCCL topo.h SM100_NVLINK_BW 40.1 GB/s x 18")
_XGMI3 = LinkKind(
    name="xgmi",
    bandwidth_bytes_per_s=64e9,  # 16 lanes at 32 Gb/s (Linux amdgpu_xgmi.h: XGMI_SPEED_32GT), one link to each peer
    latency_s=3.33e-6,  # assumed: NVLink's end to end, here over one link
    efficiency=simple_rate("xgmi3"),
    source="AMD MI300X platform: 128 GB/s both ways per link; efficiency fitted",
)
_XGMI4 = replace(
    _XGMI3,
    bandwidth_bytes_per_s=76.8e9,
    source="AMD MI355X platform: 153.6 GB/s both ways per link; efficiency that of the MI300X",
)
_NVLINK2 = LinkKind(
    name="nvlink",
    bandwidth_bytes_per_s=25e9,
    latency_s=3.33e-6,  # assumed: as of NVLink 4 end to end, here over one link
    efficiency=20.0 / 25,
    source="V100 datasheet: 300 GB/s both ways over 6 links; NCCL topo.h SM70_NVLINK_BW 20.0 GB/s",
)
_NVLINK6 = _nvlink(
    1800e9, 36 * 31.2e9, "announced: 3.6 TB/s both ways; NCCL topo.h RUBIN_NVLINK_BW 31.2 GB/s, x 36 links assumed"
)
_PCIE4_SLOT = LinkKind(
    name="pcie",
    bandwidth_bytes_per_s=31.5e9,
    latency_s=_ROCE_S[0] / 6,  # gpu -> switch -> nic -> leaf -> nic -> switch -> gpu: 6 links
    efficiency=24 / 31.5,
    source="PCI-SIG, x16 slot 4.0; NCCL topo.h: PCI_BW 12 GB/s for 3.0 x16, twice that for 4.0",
)
_PCIE5_SLOT = replace(
    _PCIE4_SLOT,
    bandwidth_bytes_per_s=63e9,
    efficiency=48 / 63,
    source="PCI-SIG, x16 slot 5.0; NCCL topo.h: PCI_BW 12 GB/s for 3.0 x16, four times that for 5.0",
)
_CPU_LINK = LinkKind(
    name="cpu",
    bandwidth_bytes_per_s=22e9,
    latency_s=_ROCE_S[0] / 6,  # assumed: as a PCIe link
    source="NCCL topo.h: SRP_QPI_BW 22 GB/s, two sockets of Sapphire Rapids",
)
_CPU_LINK_BROADWELL = replace(
    _CPU_LINK, bandwidth_bytes_per_s=6e9, source="NCCL topo.h: BDW_QPI_BW 6 GB/s, two sockets of Broadwell"
)
_PCIE_SERVER = PcieServer(gpus_per_switch=2, switches_per_cpu=2, cpu_link=_CPU_LINK)


def _fabric(
    name: str,
    *,
    gpus_per_node: int = 8,
    nvlink: LinkKind = _NVLINK4,
    inside: str = "nvlink4",
    nic_bytes_per_s: float = 50e9,
    pcie_bytes_per_s: float = 63e9,
    nodes_per_leaf: int = 32,
    between: str = "ib-ndr",
    end_to_end_s: tuple[float, float] = _IB_S,
    links_under_leaf: int = 4,
    node: Node = _NVSWITCH,
) -> FabricSpec:
    """Return a fabric that differs from the DGX H100's by the figures that are given.

    The DGX H100 datasheet states 8 GPUs, NVLink4 with 900 GB/s both ways and 8 x 400 Gb/s NDR; a SuperPOD unit has 32
    nodes. Latencies `end_to_end_s` are under one leaf and across leaves, divided over the links of the path.
    """
    under_s, across_s = end_to_end_s
    nic = LinkKind(
        name="nic",
        bandwidth_bytes_per_s=nic_bytes_per_s,
        latency_s=under_s / links_under_leaf,
        efficiency=simple_rate(between),
        source=f"datasheet; latency: Insights into DeepSeek-V3; rate of Simple: {BETWEEN_NODES[between].source}",
    )
    return FabricSpec(
        name=name,
        gpus_per_node=gpus_per_node,
        nvlink=nvlink,
        pcie=LinkKind(
            name="pcie",
            bandwidth_bytes_per_s=pcie_bytes_per_s,
            latency_s=under_s / links_under_leaf,
            source=_PCIE_SOURCE,
        ),
        nic=nic,
        leaf_hop=replace(nic, name="leaf-spine", latency_s=(across_s - under_s) / 2),
        nodes_per_leaf=nodes_per_leaf,
        inside=inside,
        between=between,
        node=node,
        wiring=RailOptimised(),
    )


def _pcie_box(
    name: str,
    *,
    node: PcieServer = _PCIE_SERVER,
    gpus_per_node: int = 8,
    slot: LinkKind = _PCIE4_SLOT,
    inside: str = "pcie4",
    nic_bytes_per_s: float = 25e9,
) -> FabricSpec:
    """Return servers of GPUs on PCIe alone, on RoCE, which is assumed as fast as InfiniBand.

    NVIDIA's "PCIe optimized 2-8-5" server has 2 CPUs, 8 GPUs and 5 network adapters, of which 4 serve two GPUs each.
    PCIe switches, and 200 Gb/s per adapter, are assumed: makers differ.
    """
    return _fabric(
        name,
        gpus_per_node=gpus_per_node,
        nvlink=slot,
        inside=inside,
        between="roce",
        end_to_end_s=_ROCE_S,
        links_under_leaf=6,
        nic_bytes_per_s=nic_bytes_per_s,
        pcie_bytes_per_s=slot.bandwidth_bytes_per_s,
        node=node,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPreset:
    """A fabric and the device that is sold in it."""

    fabric: FabricSpec
    """Wiring and links."""
    device: str
    """Device preset name."""


CLUSTERS: dict[str, ClusterPreset] = {
    preset.fabric.name: preset
    for preset in (
        # DGX A100 datasheet: 8 GPUs, NVLink3 600 GB/s both ways, 8 x 200 Gb/s HDR; SuperPOD units of 20 nodes.
        ClusterPreset(
            device="a100-sxm-80gb",
            fabric=_fabric(
                "dgx-a100",
                nvlink=_nvlink(
                    300e9, 12 * 20.0e9, "A100 datasheet: 600 GB/s both ways; NCCL topo.h SM80_NVLINK_BW 20.0 GB/s x 12"
                ),
                inside="nvlink3",
                between="ib-hdr",
                nic_bytes_per_s=25e9,
                pcie_bytes_per_s=31.5e9,
                nodes_per_leaf=20,
            ),
        ),
        ClusterPreset(device="h100-sxm", fabric=_fabric("dgx-h100")),
        # DGX H200: the DGX H100 with another GPU.
        ClusterPreset(device="h200-sxm", fabric=_fabric("dgx-h200")),
        # H800: NVLink cut to 400 GB/s both ways; 160 of 200 GB/s one way is what DeepEP states as reachable.
        ClusterPreset(
            device="h800-sxm",
            fabric=_fabric(
                "h800",
                nvlink=_nvlink(200e9, 160e9, "DeepEP README: H800 NVLink about 160 GB/s of 200 GB/s"),
                inside="nvlink4-h800",
            ),
        ),
        # DGX B200 datasheet: 8 GPUs, NVLink5 1.8 TB/s both ways, 8 x 400 Gb/s.
        ClusterPreset(device="b200-sxm", fabric=_fabric("dgx-b200", nvlink=_NVLINK5, inside="nvlink5")),
        # GB200 NVL72: 72 GPUs in one NVLink domain, a 400 Gb/s NIC per GPU; SuperPOD units of 8 racks.
        ClusterPreset(
            device="gb200",
            fabric=_fabric("gb200-nvl72", gpus_per_node=72, nvlink=_NVLINK5, inside="nvlink5-nvl72", nodes_per_leaf=8),
        ),
        # The DGX H100 on RoCE: latencies of the same table, NIC efficiency taken as InfiniBand's.
        ClusterPreset(device="h100-sxm", fabric=_fabric("hgx-h100-roce", between="roce", end_to_end_s=_ROCE_S)),
        # Google Cloud, "Networking and GPU machines": A3 Mega, 8 H100, 1,800 Gb/s of which 8 x 200 Gb/s for the GPUs,
        # over GPUDirect-TCPXO. Latency: no figure was found; RoCE's is taken, which errs fast.
        ClusterPreset(
            device="h100-sxm",
            fabric=_fabric("a3-mega", between="tcpxo", end_to_end_s=_ROCE_S, nic_bytes_per_s=25e9),
        ),
        # 8 MI300X, each linked to the 7 others; NICs as in Azure's ND MI300X v5: 8 x 400 Gb/s InfiniBand.
        ClusterPreset(device="mi300x", fabric=_fabric("mi300x", nvlink=_XGMI3, inside="xgmi3", node=MeshNode())),
        # MI325X: the MI300X's platform with another GPU.
        ClusterPreset(device="mi325x", fabric=_fabric("mi325x", nvlink=_XGMI3, inside="xgmi3", node=MeshNode())),
        # 8 MI355X, each linked to the 7 others; NICs assumed as in the MI300X's preset.
        ClusterPreset(device="mi355x", fabric=_fabric("mi355x", nvlink=_XGMI4, inside="xgmi4", node=MeshNode())),
        # DGX-1 with V100 datasheet: hybrid cube mesh of NVLinks, 4 x 100 Gb/s EDR, PCIe 3.0, two Broadwell CPUs.
        # InfiniBand's latencies are taken from NDR; a unit of 32 nodes is assumed.
        ClusterPreset(
            device="v100-sxm2-32gb",
            fabric=_fabric(
                "dgx-v100",
                nvlink=_NVLINK2,
                inside="nvlink2",
                between="ib-edr",
                nic_bytes_per_s=12.5e9,
                pcie_bytes_per_s=15.75e9,
                links_under_leaf=6,
                node=CubeMeshNode(
                    server=PcieServer(gpus_per_switch=2, switches_per_cpu=2, cpu_link=_CPU_LINK_BROADWELL)
                ),
            ),
        ),
        # HGX H20: the HGX H100 with another GPU; NICs assumed as in a DGX H100: makers differ.
        ClusterPreset(device="h20-sxm", fabric=_fabric("hgx-h20")),
        # DGX and HGX B300 datasheets: NVLink5 1.8 TB/s both ways, 8 x 800 Gb/s ConnectX-8 on PCIe 6.0.
        ClusterPreset(
            device="b300-sxm",
            fabric=_fabric(
                "hgx-b300",
                nvlink=_NVLINK5,
                inside="nvlink5",
                between="ib-xdr",
                nic_bytes_per_s=100e9,
                pcie_bytes_per_s=121e9,
            ),
        ),
        # GB300 NVL72 datasheet: 72 GPUs in one NVLink domain, an 800 Gb/s ConnectX-8 per GPU.
        ClusterPreset(
            device="gb300",
            fabric=_fabric(
                "gb300-nvl72",
                gpus_per_node=72,
                nvlink=_NVLINK5,
                inside="nvlink5-nvl72",
                between="ib-xdr",
                nic_bytes_per_s=100e9,
                pcie_bytes_per_s=121e9,
                nodes_per_leaf=8,
            ),
        ),
        # Vera Rubin NVL144 as announced (the name counts dies; NVIDIA has named the rack NVL72 since): 72 packages in
        # one NVLink domain, 1.6 Tb/s of ConnectX-9 for each. Two PCIe 6.0 x16 for these, and units of 8 racks, assumed.
        ClusterPreset(
            device="vr200",
            fabric=_fabric(
                "vr200-nvl144",
                gpus_per_node=72,
                nvlink=_NVLINK6,
                inside="nvlink6",
                between="ib-xdr",
                nic_bytes_per_s=200e9,
                pcie_bytes_per_s=242e9,
                nodes_per_leaf=8,
            ),
        ),
        ClusterPreset(device="l40s", fabric=_pcie_box("pcie-8x-l40s")),
        # The A100's optional NVLink bridges are left out.
        ClusterPreset(device="a100-pcie-80gb", fabric=_pcie_box("pcie-8x-a100")),
        # GeForce cards have no peer-to-peer copies: their traffic goes through host memory, here directly, which errs
        # fast. One 100 Gb/s NIC for each CPU is assumed.
        ClusterPreset(
            device="rtx-4090",
            fabric=_pcie_box(
                "pcie-8x-rtx-4090",
                node=PcieServer(gpus_per_switch=4, switches_per_cpu=1, cpu_link=_CPU_LINK),
                nic_bytes_per_s=12.5e9,
            ),
        ),
        ClusterPreset(
            device="rtx-4090",
            fabric=_pcie_box(
                "pcie-4x-rtx-4090",
                gpus_per_node=4,
                node=PcieServer(gpus_per_switch=2, switches_per_cpu=1, cpu_link=_CPU_LINK),
                nic_bytes_per_s=12.5e9,
            ),
        ),
        # NVIDIA RTX PRO servers: two GPUs for each ConnectX-8; 400 Gb/s for each is assumed.
        ClusterPreset(
            device="rtx-pro-6000",
            fabric=_pcie_box("pcie-8x-rtx-pro-6000", slot=_PCIE5_SLOT, inside="pcie5", nic_bytes_per_s=50e9),
        ),
    )
}
"""Clusters by name: a fabric and the device that is sold in it."""

FABRICS: Mapping[str, FabricSpec] = {name: preset.fabric for name, preset in CLUSTERS.items()}
"""Fabrics by the names of their clusters."""


def get_cluster_preset(name: str) -> ClusterPreset:
    """Return the preset called `name`, or refuse it with the nearest name.

    >>> get_cluster_preset("dgx-h100").device
    'h100-sxm'
    """
    if name in CLUSTERS:
        return CLUSTERS[name]
    hint = f"{did_you_mean(name, CLUSTERS)} `moesim list presets` shows all."
    raise InvalidValueError(field="cluster.preset", rule="name a known cluster", value=name, hint=hint)
