"""One node from what `nvidia-smi topo -m` prints: a matrix of how GPUs and NICs are connected.

Model
-----
    NV#          # NVLinks: between two GPUs, or over an NVSwitch
    PIX          on one PCIe switch
    PXB          on PCIe switches that are joined with one another
    PHB, NODE    on one NUMA node
    SYS          on different NUMA nodes, which are joined

GPUs are behind an NVSwitch when their links to all others together would be more than a GPU has. GPUs of one NUMA node
(the column NUMA Affinity) are on one CPU, whatever the matrix says of them: virtual machines print SYS for devices of
one NUMA node. Without that column GPUs with the same cores (CPU Affinity) are on one CPU, unless the matrix separates
them. Where the matrix is wrong in that way, NICs that it places nowhere are taken to be on the first CPU. GPUs that
are NUMA nodes of their own (GPU NUMA ID: Grace) are SYS to all NICs: the groups of NICs are taken to be on the CPUs in
order.

Assumptions
-----------
The text holds no bandwidths. NVLink and PCIe are those of the GPU's generation, x16 throughout, and links between CPUs
have what NCCL credits Intel's of that time with. PHB and NODE are alike: two host bridges of a CPU are one vertex.

References
----------
nvidia-smi(1), topo; NCCL src/graph/topo.h.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sim.errors import InvalidValueError
from topology.files.device_checks import warn_of_device
from topology.files.generations import (
    CPU_LATENCY_S,
    NVLINK_LATENCY_S,
    NVSWITCH_LATENCY_S,
    PCIE_LATENCY_S,
    Generation,
    generation_of,
)
from topology.files.nics import Nic, driver_of
from topology.files.one_node import OneNode, join_both_ways

__all__ = ["topo_matrix_to_node"]

_SUBJECT: Final = "the topo -m matrix"
_ESCAPE: Final = re.compile(r"\x1b\[[0-9;]*m")
_COLUMNS: Final = ("CPU Affinity", "NUMA Affinity", "GPU NUMA ID")
_DEVICE: Final = re.compile(r"[A-Za-z][\w.-]*", re.ASCII)
_ROW: Final = re.compile(r"(?:GPU|NIC)\d+", re.ASCII)
_CELL: Final = re.compile(r"X|NV\d{1,2}|PIX|PXB|PHB|NODE|SYS|SOC", re.ASCII)
_NAME: Final = re.compile(r"\s*(NIC\d+)\s*:\s*(\S+)", re.ASCII)
_ONE_NUMA_NODE: Final = re.compile(r"\d+", re.ASCII)
_MOST_DEVICES: Final = 256
_CPU_BYTES_PER_S: Final = {70: 10e9, 80: 10e9, 90: 22e9, 100: 40e9}
"""From which compute capability on -> bandwidth between CPUs (NCCL topo.h: SKL, SKL, SRP, ERP)."""


@dataclass(frozen=True, slots=True)
class _Matrix:
    """What the text says."""

    devices: tuple[str, ...]
    """GPUs and NICs in the order of the columns."""
    cells: dict[tuple[str, str], str]
    """Row and column -> connection."""
    labels: dict[str, str]
    """NIC -> what the machine calls it."""
    affinity: dict[str, dict[str, str]]
    """GPU -> its columns CPU Affinity, NUMA Affinity and GPU NUMA ID, those that it has."""

    @property
    def gpus(self) -> list[str]:
        """GPUs in order."""
        return [name for name in self.devices if name in self.affinity]

    @property
    def nics(self) -> list[str]:
        """NICs in order."""
        return [name for name in self.devices if name not in self.affinity]

    def is_any(self, a: str, b: str, *names: str) -> bool:
        """Tell whether two devices are connected in one of some ways."""
        return self.cells[a, b] in names


def topo_matrix_to_node(text: str, *, sm: int, device: str = "") -> OneNode:
    r"""Return the node that the matrix describes.

    Parameters
    ----------
    text
        What was printed, with or without legend.
    sm
        Compute capability of the GPUs, times 10: it decides the bandwidths.
    device
        Preset name of the GPU that a user names: what contradicts the matrix is a warning.

    Raises
    ------
    InvalidValueError
        The text holds no whole, symmetric matrix.

    Examples
    --------
    >>> node = topo_matrix_to_node("      GPU0  GPU1\nGPU0   X   NV4\nGPU1  NV4   X\n", sm=80)
    >>> node.graph.edges["gpu0", "gpu1"]["bandwidth_bytes_per_s"]
    100000000000.0
    """
    matrix = _read(text)
    node, names = OneNode(), dict[str, str]()
    node.sm = sm
    for gpu in matrix.gpus:
        names[gpu] = node.add("gpu")
    for nic in matrix.nics:
        label = matrix.labels.get(nic, nic)
        names[nic] = node.add("nic", label)
        node.nics[names[nic]] = Nic(kind="" if _ROW.fullmatch(label) else driver_of(label))
    figures = generation_of(sm)
    _add_pcie(node, matrix, names, figures)
    _add_nvlinks(node, matrix, names, figures)
    warn_of_device(node, device)
    return node


# ---- reading -----------------------------------------------------------------------------------------------------


def _read(text: str) -> _Matrix:
    lines = [_ESCAPE.sub("", line) for line in text.splitlines()]
    start = next((i for i, line in enumerate(lines) if line.split()[:1] == ["GPU0"]), None)
    if start is None:
        raise _refused("the text", "have a head with GPU0", "none", "Save all that `nvidia-smi topo -m` prints.")
    head = lines[start]
    columns = sorted((name for name in _COLUMNS if name in head), key=head.index)
    devices = tuple(head[: head.index(columns[0])].split() if columns else head.split())
    for name in devices:
        if _DEVICE.fullmatch(name) is None or devices.count(name) > 1:
            raise _refused("the head", "name GPUs and NICs, each once", name[:40], "Save the text as it was printed.")
    if len(devices) > _MOST_DEVICES:
        raise _refused("the head", f"name at most {_MOST_DEVICES} devices", len(devices), "Check the text.")
    rows: dict[str, list[str]] = {}
    labels: dict[str, str] = {}
    for line in lines[start + 1 :]:
        words = line.split()
        named = _NAME.fullmatch(line)
        if named is not None:
            labels[named[1]] = named[2]
        elif words and words[0] in devices and words[0] not in rows:
            rows[words[0]] = words[1:]
        elif words and _ROW.fullmatch(words[0]):
            rule = "have one row, and a column in the head"
            raise _refused(f"row {words[0]}", rule, "another row", "Save the text as it was printed.")
    cells = {(a, b): _cell(rows, a, i) for a in devices for i, b in enumerate(devices)}
    _check(devices, cells)
    after = {a: rows[a][len(devices) :] for a in devices if a.startswith("GPU")}
    affinity = {gpu: dict(zip(columns, words, strict=False)) for gpu, words in after.items()}
    return _Matrix(devices, cells, labels, affinity)


def _cell(rows: dict[str, list[str]], device: str, column: int) -> str:
    words = rows.get(device)
    if words is None:
        raise _refused(f"row {device}", "be there", "no such row", "Save all that `nvidia-smi topo -m` prints.")
    word = words[column] if column < len(words) else "nothing"
    if _CELL.fullmatch(word) is None:
        rule = "be X, NV#, PIX, PXB, PHB, NODE or SYS"
        raise _refused(f"row {device}, column {column + 1}", rule, word[:40], "Save the text as it was printed.")
    return "SYS" if word == "SOC" else word


def _check(devices: Sequence[str], cells: dict[tuple[str, str], str]) -> None:
    for a in devices:
        for b in devices:
            if (cells[a, b] == "X") != (a == b) or cells[a, b] != cells[b, a]:
                value = f"{cells[a, b]} and {cells[b, a]}"
                raise _refused(f"{a} and {b}", "say the same in both rows", value, "Save the text as it was printed.")
            if cells[a, b].startswith("NV") and not (a.startswith("GPU") and b.startswith("GPU")):
                raise _refused(f"{a} and {b}", "be GPUs to have NVLinks", cells[a, b], "Check the text.")


# ---- PCIe and CPUs -----------------------------------------------------------------------------------------------


def _add_pcie(node: OneNode, matrix: _Matrix, names: dict[str, str], figures: Generation) -> None:
    """Add PCIe switches and CPUs: groups of devices, each inside the next."""
    on_switch = _groups(matrix.devices, lambda a, b: matrix.is_any(a, b, "PIX"))
    on_switches = _groups(matrix.devices, lambda a, b: matrix.is_any(a, b, "PIX", "PXB"))
    cpus = []

    def join(a: str, b: str) -> None:
        bandwidth = figures.pcie_bytes_per_s
        join_both_ways(node.graph, a, b, kind="pcie", bandwidth_bytes_per_s=bandwidth, latency_s=PCIE_LATENCY_S)

    for devices in _on_cpus(node, matrix, names):
        cpu = node.add("cpu")
        cpus.append(cpu)
        for joined in (group for group in on_switches if group[0] in devices):
            upper = node.add("pcie") if len(joined) > 1 else None
            if upper is not None:
                join(upper, cpu)
            for group in (group for group in on_switch if group[0] in joined):
                below = upper or cpu
                if len(group) > 1 and len(group) < len(joined):
                    below = node.add("pcie")
                    join(below, upper or cpu)
                for device in group:
                    join(names[device], below)
    bandwidth = _CPU_BYTES_PER_S[max(known for known in _CPU_BYTES_PER_S if known <= max(node.sm, 70))]
    for i, a in enumerate(cpus):
        for b in cpus[:i]:
            join_both_ways(node.graph, b, a, kind="cpu", bandwidth_bytes_per_s=bandwidth, latency_s=CPU_LATENCY_S)


def _on_cpus(node: OneNode, matrix: _Matrix, names: dict[str, str]) -> list[list[str]]:
    """Return the devices of each CPU."""
    groups = _groups(matrix.devices, lambda a, b: _shares_cpu(matrix, a, b))
    with_gpus = [group for group in groups if any(device in matrix.affinity for device in group)]
    nics_alone = [group for group in groups if group not in with_gpus]
    are_numa_nodes = all(words.get("GPU NUMA ID", "N/A") != "N/A" for words in matrix.affinity.values())
    if not nics_alone:
        return groups
    if are_numa_nodes and len(nics_alone) == len(with_gpus):
        return [[*group, *nics] for group, nics in zip(with_gpus, nics_alone, strict=True)]
    if not _is_contradicted(matrix, with_gpus):
        return groups
    lost = [nic for group in nics_alone for nic in group]
    node.unplaced_nics = [names[nic] for nic in lost]
    return [[*with_gpus[0], *lost], *with_gpus[1:]]


def _shares_cpu(matrix: _Matrix, a: str, b: str) -> bool:
    """Tell whether two devices are on one CPU: the matrix says so, or their NUMA nodes or cores."""
    if matrix.is_any(a, b, "PIX", "PXB", "PHB", "NODE"):
        return True
    if a not in matrix.affinity or b not in matrix.affinity:
        return False
    numa, other = (matrix.affinity[gpu].get("NUMA Affinity", "") for gpu in (a, b))
    if _ONE_NUMA_NODE.fullmatch(numa) and _ONE_NUMA_NODE.fullmatch(other):
        return numa == other
    if not matrix.cells[a, b].startswith("NV"):
        return False
    column = "NUMA Affinity" if numa not in {"", "N/A"} else "CPU Affinity"
    cores = matrix.affinity[a].get(column)
    return cores is not None and cores == matrix.affinity[b].get(column) and not _is_split(matrix, column, cores)


def _is_split(matrix: _Matrix, column: str, cores: str) -> bool:
    """Tell whether the matrix has GPUs with the same cores on different CPUs, so that cores tell nothing."""
    gpus = [gpu for gpu, words in matrix.affinity.items() if words.get(column) == cores]
    near_nics = [{nic for nic in matrix.nics if not matrix.is_any(gpu, nic, "SYS")} for gpu in gpus]
    apart = any(not (nics & others) for nics in near_nics for others in near_nics if nics and others)
    return apart or any(matrix.is_any(a, b, "SYS") for a in gpus for b in gpus if a != b)


def _is_contradicted(matrix: _Matrix, cpus: Sequence[Sequence[str]]) -> bool:
    """Tell whether the matrix says SYS of devices that are on one CPU all the same."""
    return any(matrix.is_any(a, b, "SYS") for devices in cpus for a in devices for b in devices)


def _groups(devices: Sequence[str], are_joined: Callable[[str, str], bool]) -> list[list[str]]:
    """Return devices in groups of those that are joined, over others if need be, in order of their first."""
    groups: list[list[str]] = []
    left = list(devices)
    while left:
        group = [left.pop(0)]
        for device in group:
            joined = [other for other in left if are_joined(device, other)]
            group.extend(joined)
            left = [other for other in left if other not in joined]
        groups.append(group)
    return groups


# ---- NVLinks -----------------------------------------------------------------------------------------------------


def _add_nvlinks(node: OneNode, matrix: _Matrix, names: dict[str, str], figures: Generation) -> None:
    gpus = matrix.gpus
    counts = {(a, b): int(matrix.cells[a, b][2:]) for a in gpus for b in gpus if matrix.cells[a, b].startswith("NV")}
    most = {a: max((count for (gpu, _), count in counts.items() if gpu == a), default=0) for a in gpus}
    total = {a: sum(count for (gpu, _), count in counts.items() if gpu == a) for a in gpus}
    switched = [a for a in gpus if total[a] > figures.max_nvlinks]
    if switched and figures.max_nvlinks < max(most.values()):
        rule = f"have at most {figures.max_nvlinks} NVLinks, as GPUs of this generation do"
        raise _refused("a GPU", rule, max(most.values()), "Name the right device under cluster.device.")
    switch = node.add("nvswitch") if switched else ""
    ends = {(a, switch): most[a] for a in switched}
    direct = {pair: count for pair, count in counts.items() if not {*pair} & {*switched}}
    ends |= {(a, b): count for (a, b), count in direct.items() if gpus.index(a) < gpus.index(b)}
    for (a, b), count in ends.items():
        join_both_ways(
            node.graph,
            names[a],
            names.get(b, b),
            kind="nvlink",
            bandwidth_bytes_per_s=count * figures.nvlink_bytes_per_s,
            latency_s=NVSWITCH_LATENCY_S if b == switch else NVLINK_LATENCY_S,
            efficiency=figures.efficiency,
        )
    node.warn_of_missing_links({names[a]: most[a] if a in switched else total[a] for a in gpus}, "NVLinks")


def _refused(field: str, rule: str, value: object, hint: str) -> InvalidValueError:
    return InvalidValueError(field, rule, value, hint, subject=_SUBJECT)
