"""The links of an NCCL or RCCL topology (`topology.files.nccl_xml`): PCIe, between CPUs, NVLink, xGMI, C2C."""

import re
import xml.etree.ElementTree as ET
from collections import Counter
from typing import Final

from topology.files.generations import (
    CPU_LATENCY_S,
    NVLINK_LATENCY_S,
    NVSWITCH_LATENCY_S,
    PCIE_LANE_BYTES_PER_S,
    PCIE_LATENCY_S,
    generation_of,
    gfx_of_device,
    xgmi_of,
)
from topology.files.nccl_elements import FileGpu, FoundElements, refused, whole
from topology.files.one_node import OneNode, join_both_ways

__all__ = [
    "add_c2c_links",
    "add_cpu_links",
    "add_gpu_links",
    "add_pcie_links",
    "add_pcie_switch_links",
    "set_generation",
]

_SPEED: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?GT/s.*")
_INTEL: Final = ((0xCF, 40e9), (0x8F, 22e9), (0x55, 10e9), (0, 6e9))
"""From which model on -> bandwidth between CPUs (NCCL topo.h: ERP, SRP, SKL, BDW)."""
_AMD: Final = {23: 16e9, 143: 16e9, 25: 24e9, 175: 24e9, 26: 32e9, 191: 32e9}
"""CPU family, also as older NCCL writes the family -> bandwidth between CPUs (NCCL topo.h: Zen 1 and 2, 3 and 4, 5)."""
_ARM: Final = 6e9
_NVSWITCH, _CPU_CLASS = "0x068000", "0x068001"
_TRAY_GPUS: Final = 4
"""GPUs of a host of an NVLink rack, at most."""

# ---- PCIe and CPUs -----------------------------------------------------------------------------------------------


def add_pcie_links(node: OneNode, found: FoundElements) -> None:
    """Join every GPU, NIC and bridge with the vertex around it: a bridge, a card or a CPU."""
    joined: set[str] = set()
    for element, name in list(found.names.items()):
        if element.tag == "cpu" or name in joined:
            continue
        joined.add(name)
        above = next((o for o in found.around(element) if o in found.names and found.names[o] != name), None)
        if above is None:
            raise refused(name, "stand in a `cpu` element", "none around it", "Check that the file is whole.")
        bandwidth = _pcie_bytes_per_s(found.slot_of(element))
        _join_pcie(node, name, found.names[above], bandwidth)


def _join_pcie(node: OneNode, a: str, b: str, bandwidth: float) -> None:
    join_both_ways(node.graph, a, b, kind="pcie", bandwidth_bytes_per_s=bandwidth, latency_s=PCIE_LATENCY_S)


def _pcie_bytes_per_s(pci: ET.Element) -> float:
    """Return the bandwidth of the link of a device or bridge towards the CPU."""
    text, lanes = pci.get("link_speed", ""), whole(pci, "link_width") if pci.get("link_width") else 0
    match = _SPEED.fullmatch(text)
    speed = f"{float(match[1]):g}" if match else "8"
    if speed not in PCIE_LANE_BYTES_PER_S or (text and not match and "nknown" not in text):
        rule = f"be one of {', '.join(PCIE_LANE_BYTES_PER_S)} GT/s"
        raise refused(f"link_speed of {pci.get('busid', pci.tag)}", rule, text, "Correct the file.")
    return PCIE_LANE_BYTES_PER_S[speed] * (lanes or 16)


def add_pcie_switch_links(system: ET.Element, node: OneNode, found: FoundElements) -> None:
    """Join PCIe switches that have a link to one another in addition to the links to their CPUs."""
    by_bus = {pci.get("busid", "").lower(): pci for pci in system.iter("pci")}
    for link in system.iter("pcilink"):
        switch, target_switch = found.parents[link], by_bus.get(link.get("target", "").lower())
        ends = found.names.get(switch), None if target_switch is None else found.names.get(target_switch)
        if ends[0] is None or ends[1] is None or ends[0] == ends[1] or target_switch is None:
            target = link.get("target", "nothing")
            node.warnings.append(f"The link of PCIe switch {switch.get('busid')} to {target} leads to no GPU or NIC.")
        elif not node.graph.has_edge(ends[0], ends[1]):
            _join_pcie(node, ends[0], ends[1], min(_pcie_bytes_per_s(switch), _pcie_bytes_per_s(target_switch)))


def add_cpu_links(system: ET.Element, node: OneNode, found: FoundElements) -> None:
    """Join the CPUs of each host with one another."""
    hosts: dict[str, list[ET.Element]] = {}
    for cpu in system.findall("cpu"):
        hosts.setdefault(cpu.get("host_hash", ""), []).append(cpu)
    for cpus in hosts.values():
        bandwidth = min(_cpu_bytes_per_s(cpu) for cpu in cpus)
        names = [found.names[cpu] for cpu in cpus]
        for i, a in enumerate(names):
            for b in names[:i]:
                join_both_ways(node.graph, b, a, kind="cpu", bandwidth_bytes_per_s=bandwidth, latency_s=CPU_LATENCY_S)


def _cpu_bytes_per_s(cpu: ET.Element) -> float:
    """Return what NCCL credits the link between CPUs with; of an unknown kind, as the slowest of its maker."""
    model = whole(cpu, "modelid") if cpu.get("modelid") else 0
    family = whole(cpu, "familyid") if cpu.get("familyid") else 0
    vendor = cpu.get("vendor", "")
    if vendor == "AuthenticAMD":
        return _AMD.get(family, 16e9)
    if vendor == "GenuineIntel":
        return next(bandwidth for first, bandwidth in _INTEL if model >= first)
    return _ARM


# ---- links of GPUs -----------------------------------------------------------------------------------------------

_Links = dict[tuple[str, str], float]
"""Ends of a link, and how many there are; a part where GPUs in one slot share them."""


def set_generation(node: OneNode, found: FoundElements, sm: int, device: str) -> None:
    """Note the generation of the GPUs; of AMD's the architecture, for there `sm` is the number of compute units."""
    gpus = [gpu.gpu for gpu in found.gpus if gpu.gpu is not None]
    architectures = [name for gpu in gpus if (name := gpu.get("gcn", ""))]
    if architectures or any(gpu.find("xgmi") is not None for gpu in gpus):
        node.gfx = architectures[0] if architectures else gfx_of_device(device)
        return
    stated = [whole(gpu, "sm") for gpu in gpus if "sm" in gpu.attrib]
    node.sm = stated[0] if stated else sm
    if len(set(stated)) > 1:
        shown = ", ".join(f"{number / 10:.1f}" for number in dict.fromkeys(stated))
        node.warnings.append(
            f"GPUs of compute capabilities {shown} in one file: all have the NVLinks of {stated[0] / 10:.1f}."
        )


def add_gpu_links(node: OneNode, found: FoundElements) -> None:
    """Add NVLinks and xGMI links."""
    nvlinks, xgmis = _count_links(node, found, "nvlink"), _count_links(node, found, "xgmi")
    for (a, b), count in nvlinks.items():
        nvlink = generation_of(node.sm)
        latency_s = NVSWITCH_LATENCY_S if b.startswith("nvswitch") else NVLINK_LATENCY_S
        bandwidth = count * nvlink.nvlink_bytes_per_s
        _join_gpu(node, (a, b), kind="nvlink", bandwidth=bandwidth, efficiency=nvlink.efficiency, latency_s=latency_s)
    for ends, count in xgmis.items():
        xgmi = xgmi_of(node.gfx)
        bandwidth = count * xgmi.xgmi_bytes_per_s
        _join_gpu(node, ends, kind="xgmi", bandwidth=bandwidth, efficiency=xgmi.efficiency, latency_s=NVLINK_LATENCY_S)
    totals = {gpu: sum(count for (a, _), count in nvlinks.items() if a == gpu) for gpu in node.gpus}
    node.warn_of_missing_links(totals, "NVLinks")
    peers = {gpu: sum(1 for a, _ in xgmis if a == gpu) for gpu in node.gpus}
    node.warn_of_missing_links(peers, "xGMI links to other GPUs")


def _count_links(node: OneNode, found: FoundElements, tag: str) -> _Links:
    """Return the links of each GPU to GPUs, to NVSwitches and to CPUs."""
    by_bus: dict[tuple[str, str], list[FileGpu]] = {}
    for gpu in found.gpus:
        by_bus.setdefault((found.host_of(gpu.slot), gpu.label.lower()), []).append(gpu)
    counts: _Links = {}
    absent: dict[str, list[str]] = {}
    shared: dict[str, int] = {}
    for gpu in found.gpus:
        name = found.names[gpu.key]
        for link in () if gpu.gpu is None else gpu.gpu.findall(tag):
            target = _target(node, found, gpu, link, by_bus)
            share = len(by_bus[found.host_of(gpu.slot), gpu.label.lower()])
            if share > 1:
                shared[gpu.label] = share
            if target is None:
                absent.setdefault(link.get("target", "nothing"), []).append(name)
            else:
                counts[name, target] = counts.get((name, target), 0) + whole(link, "count") / share
    for bus, number in shared.items():
        node.warnings.append(f"The {number} GPUs in slot {bus} share its links: each gets an equal part.")
    for bus, gpus in absent.items():
        node.warnings.append(f"{', '.join(gpus)}: links to {bus}, which is no GPU of the file, are left out.")
    _check_ends(node, counts)
    return counts


def _target(
    node: OneNode, found: FoundElements, gpu: FileGpu, link: ET.Element, by_bus: dict[tuple[str, str], list[FileGpu]]
) -> str | None:
    """Return the vertex to which a link of a GPU leads; None: a GPU that is not in the file."""
    kind, host = link.get("tclass", ""), found.host_of(gpu.slot)
    if kind.startswith(_CPU_CLASS):
        return next(found.names[other] for other in found.around(gpu.slot) if other.tag == "cpu")
    peers = by_bus.get((host, link.get("target", "").lower()), [])
    if kind.startswith(_NVSWITCH) or not (kind or peers):
        return _nvswitch(node, found, host)
    others = [peer for peer in peers if peer is not gpu]
    if peers and not others:
        hint = "A GPU has no link to itself: correct the target."
        raise refused(f"{link.tag} of {gpu.label}", "lead to another GPU", link.get("target"), hint)
    if len(others) > 1:
        hint = "Describe the machine in YAML, where each GPU has a name."
        rule = "lead to a slot with one other GPU"
        raise refused(f"{link.tag} of {gpu.label}", rule, f"{link.get('target')} with {len(others)} GPUs", hint)
    return found.names[others[0].key] if others else None


def _nvswitch(node: OneNode, found: FoundElements, host: str) -> str:
    """Return the NVSwitch of a host: one for all trays of a rack."""
    per_host = Counter(found.host_of(gpu.slot) for gpu in found.gpus)
    label = "" if max(per_host.values()) <= _TRAY_GPUS or len(per_host) == 1 else host
    for vertex, data in node.graph.nodes(data=True):
        if data["kind"] == "nvswitch" and data.get("label", "") == label:
            return vertex
    return node.add("nvswitch", label)


def _check_ends(node: OneNode, links: _Links) -> None:
    """Refuse links that two GPUs count differently; warn of links that only one of them lists."""
    for (a, b), count in links.items():
        if node.graph.nodes[b]["kind"] != "gpu":
            continue
        if links.get((b, a), count) != count:
            rule = "have one count at both ends"
            raise refused(f"links of {a} and {b}", rule, f"{count} and {links[b, a]}", "Dump the file anew.")
        if (b, a) not in links:
            node.warnings.append(f"{node.shown(b)} does not list the link that {node.shown(a)} has to it.")


def _join_gpu(
    node: OneNode, ends: tuple[str, str], *, kind: str, bandwidth: float, efficiency: float, latency_s: float
) -> None:
    """Add a link of a GPU, unless a faster link joins the same two vertices."""
    known = node.graph.get_edge_data(*ends, default={}).get("bandwidth_bytes_per_s", 0.0)
    if known <= bandwidth:
        a, b = ends
        join_both_ways(
            node.graph,
            a,
            b,
            kind=kind,
            bandwidth_bytes_per_s=bandwidth,
            efficiency=efficiency,
            latency_s=latency_s,
            is_forwarded=kind == "xgmi",
        )


def add_c2c_links(node: OneNode, found: FoundElements) -> None:
    """Add the links of Grace CPUs to their GPUs."""
    for gpu in found.gpus:
        links = () if gpu.gpu is None else gpu.gpu.findall("c2c")
        bandwidth = sum(whole(link, "bw") * whole(link, "count") * 1e6 for link in links)
        if bandwidth > 0:
            cpu = next(found.names[other] for other in found.around(gpu.slot) if other.tag == "cpu")
            ends = found.names[gpu.key], cpu
            _join_gpu(node, ends, kind="c2c", bandwidth=bandwidth, efficiency=1.0, latency_s=CPU_LATENCY_S)
