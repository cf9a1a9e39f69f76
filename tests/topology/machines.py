"""What tools printed on real machines, retyped from public places, as test data.

Serial numbers and what no reader looks at are left out.
"""

LEGEND = """\

Legend:

  X    = Self
  SYS  = Connection traversing PCIe as well as the SMP interconnect between NUMA nodes (e.g., QPI/UPI)
  NODE = Connection traversing PCIe as well as the interconnect between PCIe Host Bridges within a NUMA node
  PHB  = Connection traversing PCIe as well as a PCIe Host Bridge (typically the CPU)
  PXB  = Connection traversing multiple PCIe bridges (without traversing the PCIe Host Bridge)
  PIX  = Connection traversing at most a single PCIe bridge
  NV#  = Connection traversing a bonded set of # NVLinks
"""

HGX_H100 = (
    """\
\tGPU0\tGPU1\tGPU2\tGPU3\tGPU4\tGPU5\tGPU6\tGPU7\
\tNIC0\tNIC1\tNIC2\tNIC3\tNIC4\tNIC5\tNIC6\tNIC7\tNIC8\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID
GPU0\t X \tNV18\tNV18\tNV18\tNV18\tNV18\tNV18\tNV18\tSYS\tSYS\tSYS\tSYS\tSYS\tNODE\tNODE\tNODE\tPIX\t0-79\t0\t\tN/A
GPU1\tNV18\t X \tNV18\tNV18\tNV18\tNV18\tNV18\tNV18\tSYS\tSYS\tSYS\tSYS\tSYS\tNODE\tNODE\tPIX\tNODE\t0-79\t0\t\tN/A
GPU2\tNV18\tNV18\t X \tNV18\tNV18\tNV18\tNV18\tNV18\tSYS\tSYS\tSYS\tSYS\tSYS\tNODE\tPIX\tNODE\tNODE\t0-79\t0\t\tN/A
GPU3\tNV18\tNV18\tNV18\t X \tNV18\tNV18\tNV18\tNV18\tSYS\tSYS\tSYS\tSYS\tSYS\tPIX\tNODE\tNODE\tNODE\t0-79\t0\t\tN/A
GPU4\tNV18\tNV18\tNV18\tNV18\t X \tNV18\tNV18\tNV18\tSYS\tNODE\tNODE\tNODE\tPIX\tSYS\tSYS\tSYS\tSYS\t80-159\t1\t\tN/A
GPU5\tNV18\tNV18\tNV18\tNV18\tNV18\t X \tNV18\tNV18\tSYS\tNODE\tNODE\tPIX\tNODE\tSYS\tSYS\tSYS\tSYS\t80-159\t1\t\tN/A
GPU6\tNV18\tNV18\tNV18\tNV18\tNV18\tNV18\t X \tNV18\tSYS\tNODE\tPIX\tNODE\tNODE\tSYS\tSYS\tSYS\tSYS\t80-159\t1\t\tN/A
GPU7\tNV18\tNV18\tNV18\tNV18\tNV18\tNV18\tNV18\t X \tSYS\tPIX\tNODE\tNODE\tNODE\tSYS\tSYS\tSYS\tSYS\t80-159\t1\t\tN/A
NIC0\tSYS\tSYS\tSYS\tSYS\tSYS\tSYS\tSYS\tSYS\t X \tSYS\tSYS\tSYS\tSYS\tSYS\tSYS\tSYS\tSYS\t\t\t\t
NIC1\tSYS\tSYS\tSYS\tSYS\tNODE\tNODE\tNODE\tPIX\tSYS\t X \tNODE\tNODE\tNODE\tSYS\tSYS\tSYS\tSYS\t\t\t\t
NIC2\tSYS\tSYS\tSYS\tSYS\tNODE\tNODE\tPIX\tNODE\tSYS\tNODE\t X \tNODE\tNODE\tSYS\tSYS\tSYS\tSYS\t\t\t\t
NIC3\tSYS\tSYS\tSYS\tSYS\tNODE\tPIX\tNODE\tNODE\tSYS\tNODE\tNODE\t X \tNODE\tSYS\tSYS\tSYS\tSYS\t\t\t\t
NIC4\tSYS\tSYS\tSYS\tSYS\tPIX\tNODE\tNODE\tNODE\tSYS\tNODE\tNODE\tNODE\t X \tSYS\tSYS\tSYS\tSYS\t\t\t\t
NIC5\tNODE\tNODE\tNODE\tPIX\tSYS\tSYS\tSYS\tSYS\tSYS\tSYS\tSYS\tSYS\tSYS\t X \tNODE\tNODE\tNODE\t\t\t\t
NIC6\tNODE\tNODE\tPIX\tNODE\tSYS\tSYS\tSYS\tSYS\tSYS\tSYS\tSYS\tSYS\tSYS\tNODE\t X \tNODE\tNODE\t\t\t\t
NIC7\tNODE\tPIX\tNODE\tNODE\tSYS\tSYS\tSYS\tSYS\tSYS\tSYS\tSYS\tSYS\tSYS\tNODE\tNODE\t X \tNODE\t\t\t\t
NIC8\tPIX\tNODE\tNODE\tNODE\tSYS\tSYS\tSYS\tSYS\tSYS\tSYS\tSYS\tSYS\tSYS\tNODE\tNODE\tNODE\t X \t\t\t\t
"""
    + LEGEND
)
"""`nvidia-smi topo -m` of an 8 x H100 server (github.com/NVIDIA/nccl issue 1453)."""

DGX1_V100 = """\
\tGPU0\tGPU1\tGPU2\tGPU3\tGPU4\tGPU5\tGPU6\tGPU7\tmlx5_0\tmlx5_2\tmlx5_1\tmlx5_3\tCPU Affinity
GPU0\t X \tNV1\tNV1\tNV2\tNV2\tSYS\tSYS\tSYS\tPIX\tSYS\tPHB\tSYS\t0-19,40-59
GPU1\tNV1\t X \tNV2\tNV1\tSYS\tNV2\tSYS\tSYS\tPIX\tSYS\tPHB\tSYS\t0-19,40-59
GPU2\tNV1\tNV2\t X \tNV2\tSYS\tSYS\tNV1\tSYS\tPHB\tSYS\tPIX\tSYS\t0-19,40-59
GPU3\tNV2\tNV1\tNV2\t X \tSYS\tSYS\tSYS\tNV1\tPHB\tSYS\tPIX\tSYS\t0-19,40-59
GPU4\tNV2\tSYS\tSYS\tSYS\t X \tNV1\tNV1\tNV2\tSYS\tPIX\tSYS\tPHB\t20-39,60-79
GPU5\tSYS\tNV2\tSYS\tSYS\tNV1\t X \tNV2\tNV1\tSYS\tPIX\tSYS\tPHB\t20-39,60-79
GPU6\tSYS\tSYS\tNV1\tSYS\tNV1\tNV2\t X \tNV2\tSYS\tPHB\tSYS\tPIX\t20-39,60-79
GPU7\tSYS\tSYS\tSYS\tNV1\tNV2\tNV1\tNV2\t X \tSYS\tPHB\tSYS\tPIX\t20-39,60-79
mlx5_0\tPIX\tPIX\tPHB\tPHB\tSYS\tSYS\tSYS\tSYS\t X \tSYS\tPHB\tSYS\t
mlx5_2\tSYS\tSYS\tSYS\tSYS\tPIX\tPIX\tPHB\tPHB\tSYS\t X \tSYS\tPHB\t
mlx5_1\tPHB\tPHB\tPIX\tPIX\tSYS\tSYS\tSYS\tSYS\tPHB\tSYS\t X \tSYS\t
mlx5_3\tSYS\tSYS\tSYS\tSYS\tPHB\tPHB\tPIX\tPIX\tSYS\tPHB\tSYS\t X \t
"""
"""`nvidia-smi topo -m` of a DGX-1 with 8 x V100 (Microway, nvidia-smi: Control Your GPUs)."""

PCIE_L40S = (
    """\
        GPU0    GPU1    GPU2    GPU3    NIC0    NIC1    CPU Affinity    NUMA Affinity   GPU NUMA ID
GPU0     X      NODE    SYS     SYS     SYS     SYS     0-95,192-287    0               N/A
GPU1    NODE     X      SYS     SYS     SYS     SYS     0-95,192-287    0               N/A
GPU2    SYS     SYS      X      NODE    NODE    NODE    96-191,288-383  1               N/A
GPU3    SYS     SYS     NODE     X      NODE    NODE    96-191,288-383  1               N/A
NIC0    SYS     SYS     NODE    NODE     X      PIX
NIC1    SYS     SYS     NODE    NODE    PIX      X
"""
    + LEGEND
    + """
NIC Legend:

  NIC0: mlx5_0
  NIC1: mlx5_1
"""
)
"""`nvidia-smi topo -m` of a server with 4 x L40S and no NVLink (github.com/warpem/miss-alignment issue 106)."""


def _bridge(bus: str, card: str, net: int, slot: str, gpu: int) -> str:
    """Return a PCIe switch with a NIC and a GPU, as the dump has it."""
    bridge = 'vendor="0x104c" device="0x8232" subsystem_vendor="0x0000" subsystem_device="0x0000"'
    nic = 'vendor="0x15b3" device="0x101e" subsystem_vendor="0x15b3" subsystem_device="0x0127"'
    card_figures = 'link_speed="32.0 GT/s PCIe" link_width="0"'
    links = {"f5": 5, "f4": 5, "f3": 4, "f6": 4}
    nvlinks = "".join(
        f'<nvlink target="0000:{at}:00.0" count="{count}" tclass="0x068000"/>' for at, count in links.items()
    )
    return f"""
    <pci busid="0000:{bus}:00.0" class="0x060400" {bridge} link_speed="2.5 GT/s PCIe" link_width="1">
      <pci busid="0000:{card}:00.0" class="0x020000" {nic} {card_figures}>
        <nic>
          <net name="mlx5_{net}" dev="{net}" speed="200000" port="1" latency="0.000000" maxconn="131072" gdr="1"/>
        </nic>
      </pci>
      <pci busid="0000:{slot}:00.0" class="0x030200" vendor="0x10de" device="0x2330" {card_figures}>
        <gpu dev="{gpu}" sm="90" rank="{gpu}" gdr="1">{nvlinks}</gpu>
      </pci>
    </pci>"""


_CPU = 'arch="x86_64" vendor="GenuineIntel" familyid="6" modelid="143"'
_SLOTS = (
    [("a1", "a3", 7, "a4", 0), ("ab", "ad", 6, "ae", 1), ("b5", "b7", 5, "b8", 2), ("bf", "c1", 4, "c2", 3)],
    [("c9", "cb", 3, "cc", 4), ("d3", "d5", 2, "d6", 5), ("dd", "df", 1, "e0", 6), ("e7", "e9", 0, "ea", 7)],
)
NCCL_H100 = (
    '<system version="1">'
    + "".join(
        f'<cpu numaid="{numa}" {_CPU}>' + "".join(_bridge(*slot) for slot in slots) + "</cpu>"
        for numa, slots in enumerate(_SLOTS)
    )
    + "</system>"
)
"""NCCL's topology of an 8 x H100 instance (IBM Cloud, VPC documentation: H100 cluster network profile)."""

NCCL_NDV4 = (
    '<system version="1">'
    + "".join(
        f'<cpu numaid="{numa}" arch="x86_64" vendor="AuthenticAMD" familyid="23" modelid="49">'
        f'<pci busid="ffff:ff:0{numa + 1}.0" class="0x060400" link_speed="16 GT/s" link_width="16">'
        + "".join(
            f'<pci busid="{bus}:00:00.0" class="{kind}" link_speed="16 GT/s" link_width="16"/>'
            for pair in buses
            for bus, kind in zip(pair, ("0x030200", "0x020700"), strict=True)
        )
        + "</pci></cpu>"
        for numa, buses in enumerate(
            [
                [("0003", "0103"), ("0004", "0104")],
                [("0001", "0101"), ("0002", "0102")],
                [("000d", "0107"), ("000e", "0108")],
                [("000b", "0105"), ("000c", "0106")],
            ]
        )
    )
    + "</system>"
)
"""The file that NCCL is given on Azure's ND A100 v4 (github.com/Azure/azhpc-images, ndv4-topo.xml)."""
