"""One node from the topology that NCCL or RCCL dumps (`NCCL_TOPO_DUMP_FILE`) or is given (`NCCL_TOPO_FILE`).

Model
-----
    <system> <cpu host_hash numaid> <pci busid class link_speed link_width> ... <gpu rank dev sm> <nvlink target count/>
                                                                                <xgmi target count/> <c2c bw count/>
                                                                                <nic> <net name speed/>

A `pci` element is a bridge or a device; its speed and width are those of the link towards the CPU. A GPU is a `gpu`
element, or a device of class 0x03 or 0x12 in a file without `gpu` elements; a NIC is a `net` element, or a device of
class 0x02. GPUs have the order of their `rank`, else of `dev`; NICs of `dev`. A `net` has its speed in Mb/s.

Elements and attributes that are not in `_ELEMENTS` are refused by name: they might carry topology.

Assumptions
-----------
As NCCL does: a width of 0 is 16 lanes, a speed that is not given is 8 GT/s, and all NVSwitches of a node are one. All
pairs of CPUs of a host are linked directly, with the bandwidth that NCCL credits their kind with. Hosts of at most 4
GPUs on NVSwitches are trays of one NVLink domain; other hosts have NVSwitches of their own. GPUs in one slot (MIG
instances, two ranks on a GPU) share the links of the slot.

References
----------
NCCL src/graph/topo.cc and xml.cc; RCCL src/graph/topo.cc and xml.cc, where `sm` is the number of compute units.
"""

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import networkx as nx

from sim.errors import InvalidValueError
from topology.files.device_checks import warn_of_device
from topology.files.generations import (
    CPU_LATENCY_S,
    NVLINK_LATENCY_S,
    NVSWITCH_LATENCY_S,
    PCIE_LANE_BYTES_PER_S,
    PCIE_LATENCY_S,
    generation_of,
    gfx_of_device,
    sm_of_device,
    xgmi_of,
)
from topology.files.graphml import parse_xml
from topology.files.nics import Nic, driver_of
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
_NVSWITCH, _CPU_CLASS = "0x068000", "0x068001"
_GPU_CLASSES: Final = ("0x03", "0x12")
_NIC_CLASS, _INFINIBAND_CLASS = "0x02", "0x0207"
_TRAY_GPUS: Final = 4
"""GPUs of a host of an NVLink rack, at most."""

_NET: Final = "name dev speed port guid maxconn gdr latency coll net gin rma rail plane keep"
_ELEMENTS: Final[dict[str, tuple[str, str]]] = {
    "system": ("", "version name"),
    "cpu": ("system", "host_hash numaid affinity arch vendor familyid modelid"),
    "pci": (
        "cpu pci",
        "busid class link_speed link_width vendor device subsystem_vendor subsystem_device keep",
    ),
    "gpu": ("pci", "dev sm rank gdr gcn arch mlopart keep"),
    "nvlink": ("gpu", "target count tclass"),
    "xgmi": ("gpu", "target count tclass"),
    "c2c": ("gpu", "bw count"),
    "pcilink": ("pci", "target"),
    "nic": ("pci cpu", "keep"),
    "net": ("nic", _NET),
    "gin": ("nic", _NET),  # the same ports once more, as GPUs and
    "rma": ("nic", _NET),  # one-sided messages use them
}
"""Element -> the elements in which it may stand, and the attributes that are read or carry no topology."""


@dataclass(slots=True)
class _Gpu:
    """A GPU of the file."""

    slot: ET.Element
    """The `pci` element."""
    gpu: ET.Element | None
    """The `gpu` element; None where the class of the slot makes it a GPU."""

    @property
    def key(self) -> ET.Element:
        """The element that stands for the GPU."""
        return self.slot if self.gpu is None else self.gpu

    @property
    def label(self) -> str:
        """What the machine calls the GPU."""
        return self.slot.get("busid", "")


@dataclass(slots=True)
class _Found:
    """What the elements say, before vertices have their numbers."""

    parents: dict[ET.Element, ET.Element]
    """Element -> the element around it."""
    gpus: list[_Gpu] = field(default_factory=list)
    """GPUs in the order of their ranks."""
    nets: list[tuple[int, ET.Element, ET.Element | None]] = field(default_factory=list)
    """Number, element that stands for it (`net`, or `pci`) and `net` element of each NIC."""
    names: dict[ET.Element, str] = field(default_factory=dict)
    """Element -> vertex."""

    def around(self, element: ET.Element) -> Iterator[ET.Element]:
        """Yield the elements around an element, from the inside."""
        while element in self.parents:
            element = self.parents[element]
            yield element

    def slot_of(self, element: ET.Element) -> ET.Element:
        """Return the `pci` element of a device; the element itself where it has none."""
        return next((other for other in (element, *self.around(element)) if other.tag == "pci"), element)

    def host_of(self, element: ET.Element) -> str:
        """Return the hash of the host around an element."""
        cpu = next((other for other in (element, *self.around(element)) if other.tag == "cpu"), None)
        return "" if cpu is None else cpu.get("host_hash", "")


def nccl_xml_to_node(text: str, *, sm: int = 0, device: str = "") -> OneNode:
    """Return the node of an NCCL or RCCL topology.

    Parameters
    ----------
    text
        The XML.
    sm
        Compute capability of the GPUs (times 10) where the file does not state it.
    device
        Preset name of the GPU that a user names: what contradicts the file is a warning.

    Raises
    ------
    InvalidValueError
        The text is no such topology, has an unknown element or attribute, or an element lacks what it needs.
    """
    system = parse_xml(text, _SUBJECT)
    if system.tag != "system":
        raise _refused("the text", "be a `system` element", f"`{system.tag}`", "Set NCCL_TOPO_DUMP_FILE and run NCCL.")
    num_devices = sum(1 for element in system.iter() if element.tag in {"cpu", "pci", "net", "gpu"})
    if num_devices > _MAX_DEVICES:
        raise _refused("the text", f"hold at most {_MAX_DEVICES} devices", num_devices, "It describes one node.")
    found = _Found(parents={child: parent for parent in system.iter() for child in parent})
    _check_elements(system, found)
    node = OneNode()
    _find_gpus(system, found, node)
    _find_nets(system, found, node)
    _add_vertices(system, found, node)
    _add_pcie(node, found)
    _add_pci_links(system, node, found)
    _add_cpu_links(system, node, found)
    _set_generation(node, found, sm or sm_of_device(device), device)
    _add_gpu_links(node, found)
    _add_c2c(node, found)
    _split_hosts(node, found)
    warn_of_device(node, device)
    return node


# ---- reading -----------------------------------------------------------------------------------------------------


def _check_elements(system: ET.Element, found: _Found) -> None:
    """Refuse elements and attributes that are not known: they might carry topology."""
    for element in system.iter():
        known = _ELEMENTS.get(element.tag)
        parent = found.parents.get(element)
        if known is None:
            inside = f" in `{parent.tag}`" if parent is not None else ""
            rule, hint = f"be one of {', '.join(_ELEMENTS)}", "Remove it if it carries no links, or write YAML."
            raise _refused(f"element `{element.tag}`{inside}", rule, "an unknown element", hint)
        if parent is not None and parent.tag not in known[0].split():
            parents = " or ".join(f"`{tag}`" for tag in known[0].split()) or "no"
            rule = f"stand in a {parents} element" if known[0] else "be the outermost element"
            raise _refused(_shown(element), rule, f"one in `{parent.tag}`", "Check that the file is whole.")
        for attribute in element.attrib:
            if attribute not in known[1].split():
                rule = f"have no attribute but {', '.join(known[1].split())}"
                hint = "Remove the attribute if it carries no topology, or describe the machine in YAML."
                raise _refused(_shown(element), rule, f"`{attribute}`", hint)
        if element.tag == "pci" and sum(1 for _ in found.around(element)) > _MAX_DEPTH:
            raise _refused("the text", f"be nested at most {_MAX_DEPTH} deep", "a deeper level", "Check the file.")


def _find_gpus(system: ET.Element, found: _Found, node: OneNode) -> None:
    """Find GPUs and put them in the order of their ranks."""
    has_elements = system.find(".//gpu") is not None
    others: list[str] = []
    for slot in system.iter("pci"):
        elements = slot.findall("gpu")
        found.gpus += [_Gpu(slot, gpu) for gpu in elements]
        if not elements and slot.get("class", "").startswith(_GPU_CLASSES):
            if has_elements:
                others.append(slot.get("busid", "a device"))
            else:
                found.gpus.append(_Gpu(slot, None))
    if others:
        node.warnings.append(f"{', '.join(others)} of a GPU's class without a `gpu` element: no GPUs of the job.")
    ranked = [gpu for gpu in found.gpus if _rank(gpu) is not None]
    if ranked and len(ranked) < len(found.gpus):
        names = ", ".join(gpu.label for gpu in found.gpus if _rank(gpu) is None)
        node.warnings.append(f"GPUs without `rank` are no part of the job and are left out, as NCCL does: {names}.")
        found.gpus = ranked
    seen: dict[int | None, _Gpu] = {}
    for gpu in ranked:
        first = seen.setdefault(_rank(gpu), gpu)
        if first is not gpu:
            hint = f"{first.label} and {gpu.label} have it: number the GPUs anew."
            raise _refused("rank of `gpu`", "be given once", _rank(gpu), hint)
    if not found.gpus:
        raise _refused("the text", "hold a GPU", "none", "Dump it on a machine with GPUs.")
    order = {id(gpu): number for number, gpu in enumerate(found.gpus)}
    found.gpus.sort(key=lambda gpu: (_rank(gpu) or 0) if ranked else _device_number(gpu, order[id(gpu)]))


def _rank(gpu: _Gpu) -> int | None:
    """Return the rank of a GPU; None where the file gives none."""
    rank = _whole(gpu.gpu, "rank") if gpu.gpu is not None and "rank" in gpu.gpu.attrib else -1
    return rank if rank >= 0 else None


def _device_number(gpu: _Gpu, number: int) -> int:
    return _whole(gpu.gpu, "dev") if gpu.gpu is not None and "dev" in gpu.gpu.attrib else number


def _find_nets(system: ET.Element, found: _Found, node: OneNode) -> None:
    """Find NICs: ports, and cards that only their class makes NICs."""
    for pci in system.iter("pci"):
        if pci.get("class", "").startswith(_NIC_CLASS) and pci.find("nic") is None:
            found.nets.append((len(found.nets), pci, None))
    seen: dict[tuple[str, str], ET.Element] = {}
    for nic in system.iter("nic"):
        for i, net in enumerate(nic.findall("net")):
            name = net.get("name", "")
            if name and seen.setdefault((found.host_of(nic), name), net) is not net:
                node.warnings.append(f"The port {name} stands in several places: it is taken to be in the first.")
                continue
            found.nets.append((_whole(net, "dev") if "dev" in net.attrib else i, net, net))
    found.nets.sort(key=lambda each: each[0])


def _add_vertices(system: ET.Element, found: _Found, node: OneNode) -> None:
    """Add GPUs, NICs, CPUs and the PCIe switches over GPUs and NICs; a device alone in its slot stands for the slot."""
    devices = [gpu.key for gpu in found.gpus] + [element for _, element, _ in found.nets]
    in_slot: dict[ET.Element, int] = {}
    for element in devices:
        slot = found.slot_of(element)
        in_slot[slot] = in_slot.get(slot, 0) + 1

    def name(element: ET.Element, vertex: str) -> None:
        slot = found.slot_of(element)
        stands_for_slot = in_slot[slot] == 1 and slot.tag == "pci" and slot.find("pci") is None
        found.names[slot if stands_for_slot else element] = found.names[element] = vertex

    for gpu in found.gpus:
        name(gpu.key, node.add("gpu", gpu.label))
    has_nets = any(net is not None for _, _, net in found.nets)
    for _, element, net in found.nets:
        slot = found.slot_of(element)
        label = slot.get("busid", "") if net is None else net.get("name", "")
        name(element, nic := node.add("nic", label))
        node.nics[nic] = _nic(slot, net, is_disabled=has_nets and net is None)
    for cpu in system.findall("cpu"):
        found.names[cpu] = node.add("cpu", cpu.get("numaid", ""))
    for pci in system.iter("pci"):
        if pci not in found.names and any(inner in found.names for inner in pci.iter()):
            found.names[pci] = node.add("pcie", pci.get("busid", ""))


def _nic(slot: ET.Element, net: ET.Element | None, *, is_disabled: bool) -> Nic:
    """Return what the file says of a port."""
    kind = {True: "InfiniBand", False: "Ethernet"}[slot.get("class", "").startswith(_INFINIBAND_CLASS)]
    if net is None:
        return Nic(kind=kind, is_disabled=is_disabled)
    speed = _whole(net, "speed") if "speed" in net.attrib else 0
    rail = _whole(net, "rail") if "rail" in net.attrib else -1
    return Nic(
        bytes_per_s=speed * 1e6 / 8 if speed > 0 else None,
        kind=f"{kind} {driver_of(net.get('name', ''))}",
        rail=(rail, _whole(net, "plane") if "plane" in net.attrib else 0) if rail >= 0 else None,
        is_disabled=net.get("net") == "0",
    )


# ---- PCIe and CPUs -----------------------------------------------------------------------------------------------


def _add_pcie(node: OneNode, found: _Found) -> None:
    """Join every GPU, NIC and bridge with the vertex around it: a bridge, a card or a CPU."""
    joined: set[str] = set()
    for element, name in list(found.names.items()):
        if element.tag == "cpu" or name in joined:
            continue
        joined.add(name)
        above = next((o for o in found.around(element) if o in found.names and found.names[o] != name), None)
        if above is None:
            raise _refused(name, "stand in a `cpu` element", "none around it", "Check that the file is whole.")
        bandwidth = _pcie_bytes_per_s(found.slot_of(element))
        _join_pcie(node, name, found.names[above], bandwidth)


def _join_pcie(node: OneNode, a: str, b: str, bandwidth: float) -> None:
    join_both_ways(node.graph, a, b, kind="pcie", bandwidth_bytes_per_s=bandwidth, latency_s=PCIE_LATENCY_S)


def _pcie_bytes_per_s(pci: ET.Element) -> float:
    """Return the bandwidth of the link of a device or bridge towards the CPU."""
    text, lanes = pci.get("link_speed", ""), _whole(pci, "link_width") if pci.get("link_width") else 0
    match = _SPEED.fullmatch(text)
    speed = f"{float(match[1]):g}" if match else "8"
    if speed not in PCIE_LANE_BYTES_PER_S or (text and not match and "nknown" not in text):
        rule = f"be one of {', '.join(PCIE_LANE_BYTES_PER_S)} GT/s"
        raise _refused(f"link_speed of {pci.get('busid', pci.tag)}", rule, text, "Correct the file.")
    return PCIE_LANE_BYTES_PER_S[speed] * (lanes or 16)


def _add_pci_links(system: ET.Element, node: OneNode, found: _Found) -> None:
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


def _add_cpu_links(system: ET.Element, node: OneNode, found: _Found) -> None:
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
    model = _whole(cpu, "modelid") if cpu.get("modelid") else 0
    family = _whole(cpu, "familyid") if cpu.get("familyid") else 0
    vendor = cpu.get("vendor", "")
    if vendor == "AuthenticAMD":
        return _AMD.get(family, 16e9)
    if vendor == "GenuineIntel":
        return next(bandwidth for first, bandwidth in _INTEL if model >= first)
    return _ARM


# ---- links of GPUs -----------------------------------------------------------------------------------------------

_Links = dict[tuple[str, str], float]
"""Ends of a link, and how many there are; a part where GPUs in one slot share them."""


def _set_generation(node: OneNode, found: _Found, sm: int, device: str) -> None:
    """Note the generation of the GPUs; of AMD's the architecture, for there `sm` is the number of compute units."""
    gpus = [gpu.gpu for gpu in found.gpus if gpu.gpu is not None]
    architectures = [name for gpu in gpus if (name := gpu.get("gcn", ""))]
    if architectures or any(gpu.find("xgmi") is not None for gpu in gpus):
        node.gfx = architectures[0] if architectures else gfx_of_device(device)
        return
    stated = [_whole(gpu, "sm") for gpu in gpus if "sm" in gpu.attrib]
    node.sm = stated[0] if stated else sm
    if len(set(stated)) > 1:
        shown = ", ".join(f"{number / 10:.1f}" for number in dict.fromkeys(stated))
        node.warnings.append(
            f"GPUs of compute capabilities {shown} in one file: all have the NVLinks of {stated[0] / 10:.1f}."
        )


def _add_gpu_links(node: OneNode, found: _Found) -> None:
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


def _count_links(node: OneNode, found: _Found, tag: str) -> _Links:
    """Return the links of each GPU to GPUs, to NVSwitches and to CPUs."""
    by_bus: dict[tuple[str, str], list[_Gpu]] = {}
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
                counts[name, target] = counts.get((name, target), 0) + _whole(link, "count") / share
    for bus, number in shared.items():
        node.warnings.append(f"The {number} GPUs in slot {bus} share its links: each gets an equal part.")
    for bus, gpus in absent.items():
        node.warnings.append(f"{', '.join(gpus)}: links to {bus}, which is no GPU of the file, are left out.")
    _check_ends(node, counts)
    return counts


def _target(
    node: OneNode, found: _Found, gpu: _Gpu, link: ET.Element, by_bus: dict[tuple[str, str], list[_Gpu]]
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
        raise _refused(f"{link.tag} of {gpu.label}", "lead to another GPU", link.get("target"), hint)
    if len(others) > 1:
        hint = "Describe the machine in YAML, where each GPU has a name."
        rule = "lead to a slot with one other GPU"
        raise _refused(f"{link.tag} of {gpu.label}", rule, f"{link.get('target')} with {len(others)} GPUs", hint)
    return found.names[others[0].key] if others else None


def _nvswitch(node: OneNode, found: _Found, host: str) -> str:
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
            raise _refused(f"links of {a} and {b}", rule, f"{count} and {links[b, a]}", "Dump the file anew.")
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


def _add_c2c(node: OneNode, found: _Found) -> None:
    """Add the links of Grace CPUs to their GPUs."""
    for gpu in found.gpus:
        links = () if gpu.gpu is None else gpu.gpu.findall("c2c")
        bandwidth = sum(_whole(link, "bw") * _whole(link, "count") * 1e6 for link in links)
        if bandwidth > 0:
            cpu = next(found.names[other] for other in found.around(gpu.slot) if other.tag == "cpu")
            ends = found.names[gpu.key], cpu
            _join_gpu(node, ends, kind="c2c", bandwidth=bandwidth, efficiency=1.0, latency_s=CPU_LATENCY_S)


# ---- hosts -------------------------------------------------------------------------------------------------------


def _split_hosts(node: OneNode, found: _Found) -> None:
    """Make hosts nodes of their own, unless NVLinks join them; a host without GPUs is left out with a warning."""
    host_of = {vertex: found.host_of(element) for element, vertex in found.names.items()}
    hosts = dict.fromkeys(host_of[gpu] for gpu in node.gpus)
    idle = [vertex for vertex, host in host_of.items() if host not in hosts]
    if idle:
        names = ", ".join(dict.fromkeys(host_of[vertex] for vertex in idle))
        node.warnings.append(f"Host {names} has no GPU and is left out.")
        node.graph.remove_nodes_from(idle)
        node.nics = {nic: data for nic, data in node.nics.items() if nic not in idle}
    if len(hosts) == 1:
        return
    components = list(nx.weakly_connected_components(node.graph))
    component_of = {vertex: number for number, component in enumerate(components) for vertex in component}
    node_of_component: dict[int, int] = {}
    for gpu in node.gpus:
        node_of_component.setdefault(component_of[gpu], len(node_of_component))
    number_of_host = {host_of[gpu]: node_of_component[component_of[gpu]] for gpu in node.gpus}
    node.node_of = {
        vertex: number_of_host[host_of[vertex]] if vertex in host_of else node_of_component[component_of[vertex]]
        for vertex in node.graph
    }
    if len(node_of_component) == 1:
        node.warnings.append(f"The NVSwitches of the {len(hosts)} hosts of the file are taken as one NVLink domain.")


# ---- small helpers -----------------------------------------------------------------------------------------------


def _shown(element: ET.Element) -> str:
    """Return an element for a message: its tag, and what tells it from others."""
    name = element.get("busid") or element.get("name") or element.get("target") or element.get("numaid")
    return f"`{element.tag}`" + (f" {name}" if name else "")


def _whole(element: ET.Element | None, attribute: str) -> int:
    """Return an attribute that is an integer from 0 (a speed may be -1) to a million million."""
    text, tag = ("", "") if element is None else (element.get(attribute, ""), element.tag)
    if re.fullmatch(r"-?[0-9]{1,12}", text, re.ASCII) is None:
        raise _refused(f"{attribute} of `{tag}`", "be an integer", text or "nothing", "Dump the file anew.")
    return int(text)


def _refused(field: str, rule: str, value: object, hint: str) -> InvalidValueError:
    return InvalidValueError(field, rule, value, hint, subject=_SUBJECT)
