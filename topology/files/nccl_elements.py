"""The elements of an NCCL or RCCL topology (`topology.files.nccl_xml`): which are known, and its GPUs and NICs.

Elements and attributes that are not in `_ELEMENTS` are refused by name: they might carry topology.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from sim.errors import InvalidValueError
from topology.files.nics import Nic, driver_of
from topology.files.one_node import OneNode

__all__ = [
    "SUBJECT",
    "FileGpu",
    "FoundElements",
    "add_vertices",
    "check_elements",
    "find_gpus",
    "find_nets",
    "refused",
    "whole",
]

SUBJECT: Final = "the NCCL topology"
_MAX_DEPTH: Final = 32
_GPU_CLASSES: Final = ("0x03", "0x12")
_NIC_CLASS, _INFINIBAND_CLASS = "0x02", "0x0207"

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
class FileGpu:
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
class FoundElements:
    """What the elements say, before vertices have their numbers."""

    parents: dict[ET.Element, ET.Element]
    """Element -> the element around it."""
    gpus: list[FileGpu] = field(default_factory=list)
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


def check_elements(system: ET.Element, found: FoundElements) -> None:
    """Refuse elements and attributes that are not known: they might carry topology."""
    for element in system.iter():
        known = _ELEMENTS.get(element.tag)
        parent = found.parents.get(element)
        if known is None:
            inside = f" in `{parent.tag}`" if parent is not None else ""
            rule, hint = f"be one of {', '.join(_ELEMENTS)}", "Remove it if it carries no links, or write YAML."
            raise refused(f"element `{element.tag}`{inside}", rule, "an unknown element", hint)
        if parent is not None and parent.tag not in known[0].split():
            parents = " or ".join(f"`{tag}`" for tag in known[0].split()) or "no"
            rule = f"stand in a {parents} element" if known[0] else "be the outermost element"
            raise refused(_shown(element), rule, f"one in `{parent.tag}`", "Check that the file is whole.")
        for attribute in element.attrib:
            if attribute not in known[1].split():
                rule = f"have no attribute but {', '.join(known[1].split())}"
                hint = "Remove the attribute if it carries no topology, or describe the machine in YAML."
                raise refused(_shown(element), rule, f"`{attribute}`", hint)
        if element.tag == "pci" and sum(1 for _ in found.around(element)) > _MAX_DEPTH:
            raise refused("the text", f"be nested at most {_MAX_DEPTH} deep", "a deeper level", "Check the file.")


def find_gpus(system: ET.Element, found: FoundElements, node: OneNode) -> None:
    """Find GPUs and put them in the order of their ranks."""
    has_elements = system.find(".//gpu") is not None
    others: list[str] = []
    for slot in system.iter("pci"):
        elements = slot.findall("gpu")
        found.gpus += [FileGpu(slot, gpu) for gpu in elements]
        if not elements and slot.get("class", "").startswith(_GPU_CLASSES):
            if has_elements:
                others.append(slot.get("busid", "a device"))
            else:
                found.gpus.append(FileGpu(slot, None))
    if others:
        node.warnings.append(f"{', '.join(others)} of a GPU's class without a `gpu` element: no GPUs of the job.")
    ranked = [gpu for gpu in found.gpus if _rank(gpu) is not None]
    if ranked and len(ranked) < len(found.gpus):
        names = ", ".join(gpu.label for gpu in found.gpus if _rank(gpu) is None)
        node.warnings.append(f"GPUs without `rank` are no part of the job and are left out, as NCCL does: {names}.")
        found.gpus = ranked
    seen: dict[int | None, FileGpu] = {}
    for gpu in ranked:
        first = seen.setdefault(_rank(gpu), gpu)
        if first is not gpu:
            hint = f"{first.label} and {gpu.label} have it: number the GPUs anew."
            raise refused("rank of `gpu`", "be given once", _rank(gpu), hint)
    if not found.gpus:
        raise refused("the text", "hold a GPU", "none", "Dump it on a machine with GPUs.")
    order = {id(gpu): number for number, gpu in enumerate(found.gpus)}
    found.gpus.sort(key=lambda gpu: (_rank(gpu) or 0) if ranked else _device_number(gpu, order[id(gpu)]))


def _rank(gpu: FileGpu) -> int | None:
    """Return the rank of a GPU; None where the file gives none."""
    rank = whole(gpu.gpu, "rank") if gpu.gpu is not None and "rank" in gpu.gpu.attrib else -1
    return rank if rank >= 0 else None


def _device_number(gpu: FileGpu, number: int) -> int:
    return whole(gpu.gpu, "dev") if gpu.gpu is not None and "dev" in gpu.gpu.attrib else number


def find_nets(system: ET.Element, found: FoundElements, node: OneNode) -> None:
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
            found.nets.append((whole(net, "dev") if "dev" in net.attrib else i, net, net))
    found.nets.sort(key=lambda each: each[0])


def add_vertices(system: ET.Element, found: FoundElements, node: OneNode) -> None:
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
    speed = whole(net, "speed") if "speed" in net.attrib else 0
    rail = whole(net, "rail") if "rail" in net.attrib else -1
    return Nic(
        bytes_per_s=speed * 1e6 / 8 if speed > 0 else None,
        kind=f"{kind} {driver_of(net.get('name', ''))}",
        rail=(rail, whole(net, "plane") if "plane" in net.attrib else 0) if rail >= 0 else None,
        is_disabled=net.get("net") == "0",
    )


def _shown(element: ET.Element) -> str:
    """Return an element for a message: its tag, and what tells it from others."""
    name = element.get("busid") or element.get("name") or element.get("target") or element.get("numaid")
    return f"`{element.tag}`" + (f" {name}" if name else "")


def whole(element: ET.Element | None, attribute: str) -> int:
    """Return an attribute that is an integer from 0 (a speed may be -1) to a million million."""
    text, tag = ("", "") if element is None else (element.get(attribute, ""), element.tag)
    if re.fullmatch(r"-?[0-9]{1,12}", text, re.ASCII) is None:
        raise refused(f"{attribute} of `{tag}`", "be an integer", text or "nothing", "Dump the file anew.")
    return int(text)


def refused(field: str, rule: str, value: object, hint: str) -> InvalidValueError:
    """Return the error of a field of the file."""
    return InvalidValueError(field, rule, value, hint, subject=SUBJECT)
