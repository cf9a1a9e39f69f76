"""One node from the topology that NCCL dumps (`NCCL_TOPO_DUMP_FILE`) or is given (`NCCL_TOPO_FILE`).

Model
-----
    <system> <cpu numaid> <pci busid class link_speed link_width> ... <gpu dev sm> <nvlink target count tclass/>
                                                                      <nic> <net name speed/>

A `pci` element is a bridge or a device; its speed and width are those of the link towards the CPU. A GPU is a `gpu`
element, or a device of class 0x03; a NIC a `net` element, or a device of class 0x02 without one. GPUs are numbered by
`dev`, NICs too. A `net` has its speed in Mb/s.

Assumptions
-----------
As NCCL does: a width of 0 is 16 lanes, a speed that is not told 8 GT/s, and all NVSwitches are one. All pairs of CPUs
are linked directly, with what NCCL credits their kind with. C2C links of Grace are left out.

References
----------
NCCL src/graph/topo.cc and xml.cc.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from sim.errors import InvalidValueError
from topology.files.generations import (
    CPU_LATENCY_S,
    NVLINK_LATENCY_S,
    NVSWITCH_LATENCY_S,
    PCIE_LANE_BYTES_PER_S,
    PCIE_LATENCY_S,
    generation_of,
)
from topology.files.graphml import parse_xml
from topology.files.one_node import OneNode, join_both_ways

__all__ = ["nccl_xml_to_node"]

_SUBJECT: Final = "the NCCL topology"
_MAX_DEPTH: Final = 32
_MAX_DEVICES: Final = 2048
_SPEED: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?GT/s.*")
_INTEL: Final = ((0xCF, 40e9), (0x8F, 22e9), (0x55, 10e9), (0, 6e9))
"""From which model on -> bandwidth between CPUs (NCCL topo.h: ERP, SRP, SKL, BDW)."""
_AMD: Final = {23: 16e9, 143: 16e9, 25: 24e9, 175: 24e9, 26: 32e9, 191: 32e9}
"""CPU family, also as older NCCL writes the family -> bandwidth between CPUs (NCCL topo.h: Zen 1 and 2, 3 and 4, 5)."""
_ARM: Final = 6e9


@dataclass(slots=True)
class _Found:
    """What the elements say, before vertices have their numbers."""

    gpus: list[tuple[int, ET.Element, ET.Element | None]] = field(default_factory=list)
    """Number, `pci` element and `gpu` element of each GPU."""
    nets: list[tuple[int, ET.Element, ET.Element | None]] = field(default_factory=list)
    """Number, element that stands for it (of a card with one port the `pci` element) and `net` element of each NIC."""


def nccl_xml_to_node(text: str, *, sm: int = 0) -> OneNode:
    """Return the node of an NCCL topology; `sm` is the GPUs' compute capability (times 10) where it tells none.

    Raises
    ------
    InvalidValueError
        The text is no such topology, or an element lacks what it needs.
    """
    system = parse_xml(text, _SUBJECT)
    if system.tag != "system":
        raise _refused("the text", "be a `system` element", f"`{system.tag}`", "Set NCCL_TOPO_DUMP_FILE and run NCCL.")
    num_devices = sum(1 for element in system.iter() if element.tag in {"cpu", "pci", "net"})
    if num_devices > _MAX_DEVICES:
        raise _refused("the text", f"hold at most {_MAX_DEVICES} devices", num_devices, "It describes one node.")
    found, parents = _find(system)
    if not found.gpus:
        raise _refused("the text", "hold a GPU", "none", "Dump it on a machine with GPUs.")
    node, names = OneNode(), dict[ET.Element, str]()
    for _, pci, _ in sorted(found.gpus, key=lambda each: each[0]):
        names[pci] = node.add("gpu", pci.get("busid", ""))
    for _, place, net in sorted(found.nets, key=lambda each: each[0]):
        nic = node.add("nic", "" if net is None else net.get("name", ""))
        node.nic_bytes_per_s[nic] = _rate(net)
        names[place] = nic
    cpus = [element for element in system if element.tag == "cpu"]
    for cpu in cpus:
        names[cpu] = node.add("cpu", cpu.get("numaid", ""))
    for pci in system.iter("pci"):
        if pci not in names and _holds(pci, names):
            names[pci] = node.add("pcie", pci.get("busid", ""))
    _add_pcie(node, names, parents)
    _add_cpu_links(node, [names[cpu] for cpu in cpus], cpus)
    _add_nvlinks(node, found, names, sm)
    return node


def _find(system: ET.Element) -> tuple[_Found, dict[ET.Element, ET.Element]]:
    """Return GPUs and NICs, and the element around each element."""
    found, parents = _Found(), {child: parent for parent in system.iter() for child in parent}
    for pci in system.iter("pci"):
        if sum(1 for _ in _around(pci, parents)) > _MAX_DEPTH:
            raise _refused("the text", f"be nested at most {_MAX_DEPTH} deep", "a deeper level", "Check the file.")
        gpu, kind = pci.find("gpu"), pci.get("class", "")[:4]
        if gpu is not None or kind == "0x03":
            number = _whole(gpu, "dev") if gpu is not None and "dev" in gpu.attrib else len(found.gpus)
            found.gpus.append((number, pci, gpu))
        elif kind == "0x02" and pci.find("nic") is None:
            found.nets.append((len(found.nets), pci, None))
    for nic in system.iter("nic"):
        nets = nic.findall("net")
        for i, net in enumerate(nets):
            place = parents[nic] if len(nets) == 1 and parents[nic].tag == "pci" else net
            found.nets.append((_whole(net, "dev") if "dev" in net.attrib else i, place, net))
    return found, parents


def _around(element: ET.Element, parents: dict[ET.Element, ET.Element]) -> Iterator[ET.Element]:
    while element in parents:
        element = parents[element]
        yield element


def _holds(pci: ET.Element, names: dict[ET.Element, str]) -> bool:
    """Tell whether a GPU or NIC is below a bridge."""
    return any(inner in names for inner in pci.iter())


def _add_pcie(node: OneNode, names: dict[ET.Element, str], parents: dict[ET.Element, ET.Element]) -> None:
    """RendezvousKey every GPU, NIC and bridge with what is around it: a bridge, a card or a CPU."""
    for element, name in names.items():
        if element.tag == "cpu":
            continue
        around = next((other for other in _around(element, parents) if other in names), None)
        if around is None:
            raise _refused(name, "stand in a `cpu` element", "none around it", "Check that the file is whole.")
        slot = element if element.tag == "pci" else parents[parents[element]]
        bandwidth = _pcie_bytes_per_s(slot if slot.tag == "pci" else element)
        join_both_ways(
            node.graph, name, names[around], kind="pcie", bandwidth_bytes_per_s=bandwidth, latency_s=PCIE_LATENCY_S
        )


def _pcie_bytes_per_s(pci: ET.Element) -> float:
    """Return the bandwidth of the link of a device or bridge towards the CPU."""
    text, lanes = pci.get("link_speed", ""), _whole(pci, "link_width") if pci.get("link_width") else 0
    match = _SPEED.fullmatch(text)
    speed = f"{float(match[1]):g}" if match else "8"
    if speed not in PCIE_LANE_BYTES_PER_S or (text and not match and "nknown" not in text):
        rule = f"be one of {', '.join(PCIE_LANE_BYTES_PER_S)} GT/s"
        raise _refused(f"link_speed of {pci.get('busid', pci.tag)}", rule, text, "Correct the file.")
    return PCIE_LANE_BYTES_PER_S[speed] * (lanes or 16)


def _rate(net: ET.Element | None) -> float | None:
    """Return the rate of a port; None where it does not tell."""
    rate = 0 if net is None or net.get("speed") is None else _whole(net, "speed")
    return rate * 1e6 / 8 if rate > 0 else None


def _add_cpu_links(node: OneNode, cpus: list[str], elements: list[ET.Element]) -> None:
    bandwidth = min((_cpu_bytes_per_s(cpu) for cpu in elements), default=_ARM)
    for i, a in enumerate(cpus):
        for b in cpus[:i]:
            join_both_ways(node.graph, b, a, kind="cpu", bandwidth_bytes_per_s=bandwidth, latency_s=CPU_LATENCY_S)


def _cpu_bytes_per_s(cpu: ET.Element) -> float:
    """Return what NCCL credits the link between CPUs with; of an unknown kind, as the slowest of its maker."""
    model = _whole(cpu, "modelid") if cpu.get("modelid") else 0
    family = _whole(cpu, "familyid") if cpu.get("familyid") else 0
    vendor = cpu.get("vendor", "")
    if vendor == "AuthenticAMD":
        return _AMD.get(family, 16e9)
    if vendor == "GenuineIntel":
        return next(bandwidth for first, bandwidth in _INTEL if model >= first)
    return _ARM


def _add_nvlinks(node: OneNode, found: _Found, names: dict[ET.Element, str], sm: int) -> None:
    by_bus = {pci.get("busid", "").lower(): names[pci] for _, pci, _ in found.gpus}
    switches: list[str] = []
    counts: dict[tuple[str, str], int] = {}
    generations: dict[str, int] = {}
    for _, pci, gpu in found.gpus:
        name = names[pci]
        generations[name] = _whole(gpu, "sm") if gpu is not None and "sm" in gpu.attrib else sm
        for link in () if gpu is None else gpu.findall("nvlink"):
            target = by_bus.get(link.get("target", "").lower())
            if target is None and link.get("tclass", "")[:6] != "0x0680":
                continue  # to a CPU (IBM Power, Grace): no GPU is reached over it
            if target == name:
                hint = "A GPU has no NVLink to itself: correct the target."
                raise _refused(f"nvlink of {pci.get('busid')}", "lead to another GPU", link.get("target"), hint)
            if target is None:
                switches = switches or [node.add("nvswitch")]
                target = switches[0]
            counts[name, target] = counts.get((name, target), 0) + _whole(link, "count")
    for (a, b), count in counts.items():
        if (b, a) in counts and counts[b, a] != count:
            raise _refused(f"nvlink of {a} and {b}", "have one count at both ends", count, "Dump the file anew.")
        figures = generation_of(generations[a])
        join_both_ways(
            node.graph,
            a,
            b,
            kind="nvlink",
            bandwidth_bytes_per_s=count * figures.nvlink_bytes_per_s,
            efficiency=figures.efficiency,
            latency_s=NVSWITCH_LATENCY_S if b in switches else NVLINK_LATENCY_S,
        )


def _whole(element: ET.Element, attribute: str) -> int:
    """Return an attribute that is an integer from 0 (a speed may be -1) to a million million."""
    text = element.get(attribute, "")
    if re.fullmatch(r"-?[0-9]{1,12}", text, re.ASCII) is None:
        raise _refused(f"{attribute} of `{element.tag}`", "be an integer", text or "nothing", "Dump the file anew.")
    return int(text)


def _refused(field: str, rule: str, value: object, hint: str) -> InvalidValueError:
    return InvalidValueError(field, rule, value, hint, subject=_SUBJECT)
