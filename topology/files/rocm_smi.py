"""One node from what `rocm-smi --showtopo` prints: which GPUs of AMD are joined by xGMI, and their NUMA nodes.

Model
-----
    Link Type    XGMI: linked directly where they are one hop apart (Hops, else Weight); PCIE: over PCIe
    Hops         links between two GPUs
    Weight       15 for each xGMI link between two GPUs
    Numa Node    the CPU of a GPU

Assumptions
-----------
The text holds no bandwidths and no counts of links: two GPUs that are one hop apart have one link. It names no NIC, so
that several nodes cannot be joined. GPUs hang on their CPUs directly, x16. GPUs forward over
xGMI where all link types are XGMI.

References
----------
ROCm/rocm_smi_lib, python_smi_tools/rocm_smi.py: showtopo.
"""

import re
from typing import Final

from sim.errors import InvalidValueError
from topology.files.device_checks import warn_of_device
from topology.files.generations import CPU_LATENCY_S, NVLINK_LATENCY_S, PCIE_LATENCY_S, gfx_of_device, xgmi_of
from topology.files.one_node import OneNode, join_both_ways

__all__ = ["is_rocm_smi", "rocm_smi_to_node"]

_SUBJECT: Final = "the rocm-smi text"
_TABLES: Final = {"Weight": "Weight between", "Hops": "Hops between", "Type": "Link Type between"}
_NUMA: Final = re.compile(r"GPU\[(\d{1,3})\]\s*:\s*\(Topology\) Numa Node:\s*(-?\d{1,3})\s*", re.ASCII)
_ONE_LINK_WEIGHT: Final = 15
_CPU_BYTES_PER_S: Final = 32e9
"""Between CPUs: what NCCL's topo.h credits AMD's Zen 5 with."""
_AMD_SMI: Final = ("LINK TYPE TABLE", "ACCESS TABLE", "WEIGHT TABLE")


def is_rocm_smi(text: str) -> bool:
    """Tell whether a text is one of AMD's tools."""
    return "Link Type between" in text or "ROCm System Management" in text or any(head in text for head in _AMD_SMI)


def rocm_smi_to_node(text: str, *, device: str) -> OneNode:
    r"""Return the node that the tables describe; `device` is the preset name of the GPU, which decides the bandwidths.

    Raises
    ------
    InvalidValueError
        The text is of another tool of AMD, or holds no whole, symmetric table of link types.

    Examples
    --------
    >>> table = "= Link Type between two GPUs =\n GPU0 GPU1\nGPU0 0 XGMI\nGPU1 XGMI 0\n"
    >>> rocm_smi_to_node(table, device="mi300x").graph.edges["gpu0", "gpu1"]["bandwidth_bytes_per_s"]
    64000000000.0
    """
    if any(head in text for head in _AMD_SMI):
        raise _refused("the text", "be of `rocm-smi --showtopo`", "that of amd-smi", "Save `rocm-smi --showtopo`.")
    gfx = gfx_of_device(device)
    if not gfx:
        hint = "rocm-smi prints no bandwidths: write cluster.device mi300x or mi250x-gcd."
        raise InvalidValueError("cluster.device.preset", "be of AMD where rocm-smi describes the machine", device, hint)
    tables = {name: _table(text, head) for name, head in _TABLES.items()}
    types = tables["Type"]
    if not types:
        hint = "Save all that `rocm-smi --showtopo` prints."
        raise _refused("the text", "have the table Link Type between two GPUs", "none", hint)
    gpus = list(dict.fromkeys(a for a, _ in types))
    node = OneNode()
    node.gfx = gfx
    names = {gpu: node.add("gpu") for gpu in gpus}
    _add_cpus(node, names, text)
    xgmi = xgmi_of(gfx)
    for a in gpus:
        for b in gpus[: gpus.index(a)]:
            if types[a, b] != types[b, a]:
                value = f"{types[a, b]} and {types[b, a]}"
                raise _refused(f"{a} and {b}", "say the same in both rows", value, "Save the text as it was printed.")
            if types[a, b] == "XGMI" and _is_one_hop(tables, a, b):
                join_both_ways(
                    node.graph,
                    names[b],
                    names[a],
                    kind="xgmi",
                    bandwidth_bytes_per_s=xgmi.xgmi_bytes_per_s,
                    latency_s=NVLINK_LATENCY_S,
                    efficiency=xgmi.efficiency,
                    is_forwarded="PCIE" not in types.values(),
                )
    if xgmi.has_several:
        node.warnings.append(
            "rocm-smi prints no counts of links: two GPUs one hop apart are taken to have one xGMI link."
        )
    peers = {gpu: sum(data["kind"] == "xgmi" for *_, data in node.graph.out_edges(gpu, data=True)) for gpu in node.gpus}
    node.warn_of_missing_links(peers, "xGMI links to other GPUs")
    warn_of_device(node, device)
    return node


# ---- private -----------------------------------------------------------------------------------------------------


def _table(text: str, head: str) -> dict[tuple[str, str], str]:
    """Return the cells of a table by row and column; empty where the text has no such table."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if head in line), None)
    if start is None:
        return {}
    columns: list[str] = []
    cells: dict[tuple[str, str], str] = {}
    for line in lines[start + 1 :]:
        words = line.split()
        if line.startswith("="):
            break
        if not columns:
            columns = words
        elif words:
            if len(words) != len(columns) + 1 or words[0] not in columns:
                rule = f"have a cell for each of {len(columns)} GPUs"
                raise _refused(
                    f"row {words[0][:20]} of {head.split(maxsplit=1)[0]}", rule, len(words) - 1, "Save it as printed."
                )
            cells |= {(words[0], column): word for column, word in zip(columns, words[1:], strict=True)}
    missing = next((a for a in columns if (a, a) not in cells), None)
    if missing is not None:
        raise _refused(f"row {missing[:20]}", "be there", "no such row", "Save all that `rocm-smi --showtopo` prints.")
    unknown = next(
        (w for (a, b), w in cells.items() if head == _TABLES["Type"] and a != b and w not in {"XGMI", "PCIE"}), None
    )
    if unknown is not None:
        raise _refused("a link type", "be XGMI or PCIE", unknown[:20], "Save the text as it was printed.")
    return cells


def _is_one_hop(tables: dict[str, dict[tuple[str, str], str]], a: str, b: str) -> bool:
    """Tell whether a link joins two GPUs directly."""
    hops, weight = tables["Hops"].get((a, b), ""), tables["Weight"].get((a, b), "")
    if hops.isdecimal():
        return int(hops) == 1
    return not weight.isdecimal() or int(weight) <= _ONE_LINK_WEIGHT


def _add_cpus(node: OneNode, names: dict[str, str], text: str) -> None:
    """Join GPUs with the CPUs of their NUMA nodes."""
    numa = {f"GPU{match[1]}": match[2] for line in text.splitlines() if (match := _NUMA.fullmatch(line.strip()))}
    first = next(iter(numa.values()), "0")
    lost = [names[gpu] for gpu in names if gpu not in numa]
    if lost and numa:
        node.warnings.append(f"The text does not tell the NUMA node of {', '.join(lost)}: taken to be node {first}.")
    elif lost:
        node.warnings.append("The text tells no NUMA nodes: all GPUs are taken to be on one CPU.")
    cpus: dict[str, str] = {}
    bandwidth = xgmi_of(node.gfx).pcie_bytes_per_s
    for gpu, name in names.items():
        number = numa.get(gpu, first)
        if number not in cpus:
            cpus[number] = node.add("cpu", number)
        join_both_ways(
            node.graph, name, cpus[number], kind="pcie", bandwidth_bytes_per_s=bandwidth, latency_s=PCIE_LATENCY_S
        )
    for i, a in enumerate(cpus.values()):
        for b in list(cpus.values())[:i]:
            join_both_ways(
                node.graph, b, a, kind="cpu", bandwidth_bytes_per_s=_CPU_BYTES_PER_S, latency_s=CPU_LATENCY_S
            )


def _refused(field: str, rule: str, value: object, hint: str) -> InvalidValueError:
    return InvalidValueError(field, rule, value, hint, subject=_SUBJECT)
