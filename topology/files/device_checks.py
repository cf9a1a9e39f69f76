"""What a file says of its GPUs, compared with the device that a user names: contradictions become warnings."""

from collections import Counter

from topology.files.generations import (
    generation_of,
    gfx_of_device,
    is_same_architecture,
    nvlinks_of_device,
    rack_gpus_of_device,
    rack_of_device,
    sm_of_device,
)
from topology.files.one_node import OneNode

__all__ = ["warn_of_device"]


def warn_of_device(node: OneNode, device: str) -> None:
    """Add to the warnings of a node what contradicts `device`, a preset name; nothing where there is no name."""
    if device:
        _warn_of_generation(node, device)
        _warn_of_no_links(node, device)
        _warn_of_other_links(node, device)
        _warn_of_tray(node, device)


def _warn_of_generation(node: OneNode, device: str) -> None:
    """Warn of GPUs of another generation."""
    sm, gfx = sm_of_device(device), gfx_of_device(device)
    if node.gfx:
        stated, is_same = f"architecture {node.gfx}", bool(gfx) and is_same_architecture(node.gfx, gfx)
    elif node.sm:
        stated, is_same = f"compute capability {node.sm / 10:.1f}", node.sm == sm
    else:
        return
    if not is_same:
        named = f"architecture {gfx}" if gfx else f"compute capability {sm / 10:.1f}" if sm else "another kind"
        node.warnings.append(
            f"The GPUs of the file are of {stated} and cluster.device {device} is of {named}: links are those of the "
            "file, kernels those of the device."
        )


def _warn_of_no_links(node: OneNode, device: str) -> None:
    """Warn where a file has no link between GPUs and the device is sold with such links alone."""
    kinds = {data["kind"] for _, _, data in node.graph.edges(data=True)}
    if len(node.gpus) == 1 or kinds & {"nvlink", "xgmi"}:
        return
    sm = sm_of_device(device)
    if gfx_of_device(device):
        word, tool = "xGMI links", "RCCL's dump and `rocm-smi --showtopo` have them"
    elif sm and generation_of(sm).max_nvlinks:
        word, tool = (
            "NVLinks",
            "`nvidia-smi topo -mp` and files that NCCL is given omit them; `topo -m` and NCCL's dump have them",
        )
    else:
        return
    node.warnings.append(f"The file has no {word}, and {device} has: GPUs are joined over PCIe alone here. {tool}.")


def _warn_of_other_links(node: OneNode, device: str) -> None:
    """Warn where every GPU of a file has another number of NVLinks than the device is sold with."""
    sm, sold = sm_of_device(device), nvlinks_of_device(device)
    if not sold or (node.sm and node.sm != sm):
        return
    per_gpu = dict.fromkeys(node.gpus, 0.0)
    for start, _, data in node.graph.edges(data=True):
        if data["kind"] == "nvlink" and start in per_gpu:
            per_gpu[start] += data["bandwidth_bytes_per_s"] / generation_of(sm).nvlink_bytes_per_s
    most = max(per_gpu.values())
    if 0 < most < sold and min(per_gpu.values()) == most:
        node.warnings.append(
            f"The GPUs of the file have {most:g} NVLinks each and {device} has {sold}: links are those of the file, "
            "kernels those of the device. Check cluster.device."
        )


def _warn_of_tray(node: OneNode, device: str) -> None:
    """Warn where a file describes a tray of a rack that is one NVLink domain."""
    rack, preset = rack_gpus_of_device(device), rack_of_device(device)
    most = max(Counter(node.node_of.get(gpu, 0) for gpu in node.gpus).values())
    if most < rack // 2:
        node.rack = preset
        node.warnings.append(
            f"{most} GPUs of {device} are a tray and not the NVLink domain, which has up to {rack} GPUs: GPUs of "
            f"different trays are joined over NICs here. For whole racks write cluster.preset: {preset} "
            "(with gpus_per_node_used for a part of a rack)."
        )
