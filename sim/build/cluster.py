"""`cluster:` of a scenario becomes a cluster: a preset or a file, what differs, how it is wired, what is degraded."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import networkx as nx

from sim.errors import InvalidValueError
from sim.scenario.cluster_file import yaml_to_graph
from sim.scenario.cluster_section import ClusterSpec
from sim.scenario.file_bytes import read_input_text
from sim.scenario.scenario import Scenario
from sim.scenario.yaml_file import MAX_BYTES as MAX_YAML_BYTES
from topology.cluster import Cluster, build_cluster
from topology.degraded import Change, degrade
from topology.device import Device
from topology.fabric import FabricSpec
from topology.fabrics import build_wiring
from topology.files.generations import sm_of_device, technology_of
from topology.files.graphml import graphml_to_graph
from topology.files.nccl_xml import nccl_xml_to_node
from topology.files.one_node import OneNode, repeat_node
from topology.files.rocm_smi import is_rocm_smi, rocm_smi_to_node
from topology.files.topo_matrix import topo_matrix_to_node
from topology.graph_cluster import build_graph_cluster
from topology.presets.clusters import get_cluster_preset
from topology.presets.devices import get_device

__all__ = ["cluster_of"]

_WHOLE_CLUSTERS: Final = (".yaml", ".graphml")
"""Suffixes of files that describe all nodes; other files describe one node."""
_MAX_BYTES: Final = 1 << 26
"""The largest file but YAML (256 KiB) that is read."""
_MOST_PLAIN_NICS = 10
"""NICs of a node up to which a number such as 0.1 can be no other NIC's name."""


def cluster_of(scenario: Scenario) -> Cluster:
    """Return the cluster of a scenario, the same for equal ones.

    Raises
    ------
    InvalidValueError
        Where there is no section, or it names what does not exist or cannot be.
    """
    spec = scenario.spec.cluster
    if spec is None:
        raise InvalidValueError("cluster", rule="be given", value="nothing", hint="Add a section `cluster:`.")
    changes = tuple(
        Change(
            part=entry.part,
            name=str(getattr(entry, entry.part)),
            factor=None if entry.gone else entry.speed if entry.part == "gpu" else entry.bandwidth,
        )
        for entry in spec.degraded
    )
    if spec.preset is None:
        return _build_described_cluster(scenario, spec, _device(scenario, ""), changes)
    preset = get_cluster_preset(spec.preset)
    fabric = _wired(spec, _with_bandwidths(spec, _with_gpus_used(spec, preset.fabric)))
    _check_nic_names(scenario, fabric)
    return _preset_cluster(fabric, spec.num_nodes or 1, _device(scenario, preset.device), changes)


# ---- private -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def _preset_cluster(fabric: FabricSpec, num_nodes: int, device: Device, changes: tuple[Change, ...]) -> Cluster:
    """Return a cluster, the same for equal ones: a cluster never changes, and alternatives share most of theirs."""
    return build_cluster(fabric, num_nodes, device, changes)


def _with_gpus_used(spec: ClusterSpec, fabric: FabricSpec) -> FabricSpec:
    """Return a fabric whose nodes have the GPUs in use alone."""
    used = spec.gpus_per_node_used
    if used is None:
        return fabric
    if used > fabric.gpus_per_node:
        raise InvalidValueError(
            "cluster.gpus_per_node_used",
            rule=f"be from 1 to {fabric.gpus_per_node}, the GPUs of a node of {fabric.name}",
            value=used,
            hint=f"Write {fabric.gpus_per_node}, or leave the key out.",
        )
    return replace(fabric, gpus_per_node=used)


def _with_bandwidths(spec: ClusterSpec, fabric: FabricSpec) -> FabricSpec:
    if spec.nic_bandwidth is not None:
        fabric = replace(fabric, nic=replace(fabric.nic, bandwidth_bytes_per_s=spec.nic_bandwidth))
        if spec.nic_bandwidth > fabric.pcie.bandwidth_bytes_per_s:
            fabric = replace(fabric, pcie=replace(fabric.pcie, bandwidth_bytes_per_s=spec.nic_bandwidth))
    if spec.nvlink_bandwidth is not None:
        one_link = spec.nvlink_bandwidth / fabric.node.num_links(fabric)
        fabric = replace(fabric, nvlink=replace(fabric.nvlink, bandwidth_bytes_per_s=one_link))
    return fabric


def _wired(spec: ClusterSpec, fabric: FabricSpec) -> FabricSpec:
    if spec.fabric is None:
        return fabric
    return replace(fabric, wiring=build_wiring(spec.fabric.kind, spec.fabric.options))


def _check_nic_names(scenario: Scenario, fabric: FabricSpec) -> None:
    """Refuse numbers as names of NICs where 0.1 may be 0.10."""
    if fabric.nics_per_node <= _MOST_PLAIN_NICS:
        return
    entries = scenario.raw.get("cluster", {}).get("degraded") or []
    for i, entry in enumerate(entries):
        if isinstance(entry.get("nic"), float):
            raise InvalidValueError(
                ("cluster", "degraded", i, "nic"),
                rule=f"be in quotes on a node of {fabric.nics_per_node} NICs, for 0.1 and 0.10 are one number",
                value=entry["nic"],
                hint=f'Write "{entry["nic"]}".',
            )


def _device(scenario: Scenario, default: str) -> Device:
    given = scenario.spec.cluster.device if scenario.spec.cluster else None
    if given is None:
        return get_device(default)
    device = get_device(given.preset or default)
    changes: dict[str, float | int | str] = {}
    for key, name in (
        ("memory_bandwidth", "memory_bandwidth_bytes_per_s"),
        ("host_bandwidth", "host_bytes_per_s"),
        ("peak_bf16", "peak_bf16_flops_per_s"),
        ("kernel_overhead", "kernel_overhead_s"),
        ("gemm_efficiency", "gemm_efficiency"),
        ("memory_efficiency", "memory_efficiency"),
        ("attention_efficiency", "attention_efficiency"),
    ):
        value = getattr(given, key)
        if value is not None:
            changes[name] = value
    if given.memory is not None:
        changes |= {"memory_bytes": round(given.memory), "memory_source": "cluster.device.memory"}
    return replace(device, **changes) if changes else device  # type: ignore[arg-type]  # fields and types as listed


# ---- machines described in a file of the user's ---------------------------------------------------------------------


def _build_described_cluster(
    scenario: Scenario, spec: ClusterSpec, device: Device, changes: tuple[Change, ...]
) -> Cluster:
    """Return the cluster of `cluster.file`, with what is degraded.

    Raises
    ------
    InvalidValueError
        The file is not in the scenario's folder, cannot be read, or describes no cluster.
    """
    path = scenario.file_beside("cluster.file", spec.file or "")
    text = _text_of(path)
    with scenario.located_errors(other_file=path):
        request = _Request(
            num_nodes=spec.num_nodes,
            device=spec.device.preset or "",
            nic_bytes_per_s=spec.nic_bandwidth,
            nics=spec.nics,
            gpus_used=spec.gpus_per_node_used,
        )
        graph, warnings = _described_graph(str(path), text, request)
        cluster = _described_cluster(graph, str(graph.graph.get("name") or path.stem), device, changes, warnings)
    if path.suffix in _WHOLE_CLUSTERS and spec.num_nodes not in {None, cluster.num_nodes}:
        rule, hint = f"be left out or {cluster.num_nodes}, as many as the file has", "Describe other nodes in the file."
        raise InvalidValueError("cluster.num_nodes", rule=rule, value=spec.num_nodes, hint=hint)
    return cluster


def _text_of(path: Path) -> str:
    """Return the text of a file."""
    limit_bytes, too_large = _MAX_BYTES, "Describe a part of it."
    if path.suffix == ".yaml":
        limit_bytes, too_large = MAX_YAML_BYTES, "Write it as GraphML."
    return read_input_text(path, limit_bytes, hint="Name a file that describes the machines.", too_large=too_large)


class _Request(NamedTuple):
    """What a scenario wants of the file of one node."""

    num_nodes: int | None
    device: str
    nic_bytes_per_s: float | None
    nics: tuple[str, ...]
    gpus_used: int | None


@lru_cache(maxsize=8)
def _described_graph(path: str, text: str, request: _Request) -> tuple["nx.DiGraph[str]", tuple[str, ...]]:
    """Return the graph of a file and its warnings; the same for the same text, for alternatives share it."""
    name, device = Path(path).stem, request.device
    match Path(path).suffix:
        case ".yaml":
            return yaml_to_graph(text, file=path), ()
        case ".graphml":
            return graphml_to_graph(text, name), ()
        case ".xml":
            node = nccl_xml_to_node(text, device=device)
        case _:
            node = rocm_smi_to_node(text, device=device) if is_rocm_smi(text) else _of_nvidia_smi(text, device)
    graph = repeat_node(
        node,
        request.num_nodes,
        name=name,
        nic_bytes_per_s=request.nic_bytes_per_s,
        nics=request.nics,
        gpus_used=request.gpus_used,
    )
    kinds = dict.fromkeys(data["kind"] for _, _, data in graph.edges(data=True))
    inside = technology_of(device, sm=node.sm, gfx=node.gfx, kinds=kinds, gpus_per_node=len(node.gpus))
    graph.graph.update({"inside": inside} if inside else {})
    return graph, tuple(dict.fromkeys(node.warnings))


def _of_nvidia_smi(text: str, device: str) -> OneNode:
    """Return the node that `nvidia-smi topo -m` describes."""
    sm = sm_of_device(device)
    if not sm:
        hint = "nvidia-smi prints no bandwidths, and they are known for NVIDIA's GPUs alone: describe it in YAML."
        rule = "be one of NVIDIA where nvidia-smi describes the machine"
        raise InvalidValueError("cluster.device.preset", rule, device, hint)
    return topo_matrix_to_node(text, sm=sm, device=device)


@lru_cache(maxsize=8)
def _described_cluster(
    graph: "nx.DiGraph[str]", name: str, device: Device, changes: tuple[Change, ...], warnings: tuple[str, ...]
) -> Cluster:
    """Return the cluster, the same for the same graph, device and changes: it keeps the paths that it found."""
    changed = degrade(graph, changes, name=name) if changes else graph
    return build_graph_cluster(changed, device, name=name, warnings=warnings)
