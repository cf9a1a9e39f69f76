"""One node from the topology that NCCL or RCCL dumps (`NCCL_TOPO_DUMP_FILE`) or is given (`NCCL_TOPO_FILE`).

Model
-----
    <system> <cpu host_hash numaid> <pci busid class link_speed link_width> ... <gpu rank dev sm> <nvlink target count/>
                                                                                <xgmi target count/> <c2c bw count/>
                                                                                <nic> <net name speed/>

A `pci` element is a bridge or a device; its speed and width are those of the link towards the CPU. A GPU is a `gpu`
element, or a device of class 0x03 or 0x12 in a file without `gpu` elements; a NIC is a `net` element, or a device of
class 0x02. GPUs have the order of their `rank`, else of `dev`; NICs of `dev`. A `net` has its speed in Mb/s.

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

import networkx as nx

from topology.files.device_checks import warn_of_device
from topology.files.generations import sm_of_device
from topology.files.graphml import parse_xml
from topology.files.nccl_elements import (
    SUBJECT,
    FoundElements,
    add_vertices,
    check_elements,
    find_gpus,
    find_nets,
    refused,
)
from topology.files.nccl_links import (
    add_c2c_links,
    add_cpu_links,
    add_gpu_links,
    add_pcie_links,
    add_pcie_switch_links,
    set_generation,
)
from topology.files.one_node import OneNode

__all__ = ["nccl_xml_to_node"]

_MAX_DEVICES = 2048


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
    system = parse_xml(text, SUBJECT)
    if system.tag != "system":
        raise refused("the text", "be a `system` element", f"`{system.tag}`", "Set NCCL_TOPO_DUMP_FILE and run NCCL.")
    num_devices = sum(1 for element in system.iter() if element.tag in {"cpu", "pci", "net", "gpu"})
    if num_devices > _MAX_DEVICES:
        raise refused("the text", f"hold at most {_MAX_DEVICES} devices", num_devices, "It describes one node.")
    found = FoundElements(parents={child: parent for parent in system.iter() for child in parent})
    check_elements(system, found)
    node = OneNode()
    find_gpus(system, found, node)
    find_nets(system, found, node)
    add_vertices(system, found, node)
    add_pcie_links(node, found)
    add_pcie_switch_links(system, node, found)
    add_cpu_links(system, node, found)
    set_generation(node, found, sm or sm_of_device(device), device)
    add_gpu_links(node, found)
    add_c2c_links(node, found)
    _split_hosts(node, found)
    warn_of_device(node, device)
    return node


def _split_hosts(node: OneNode, found: FoundElements) -> None:
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
