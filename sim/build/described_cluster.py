"""A cluster that a file of the user's describes: whole, or one of its nodes, in any of the known formats."""

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
from topology.cluster import Cluster, build_graph_cluster
from topology.degraded import Change, degrade
from topology.device import Device
from topology.files.generations import sm_of_device, technology_of
from topology.files.graphml import graphml_to_graph
from topology.files.nccl_xml import nccl_xml_to_node
from topology.files.one_node import OneNode, repeat_node
from topology.files.rocm_smi import is_rocm_smi, rocm_smi_to_node
from topology.files.topo_matrix import topo_matrix_to_node

__all__ = ["build_described_cluster"]

_WHOLE_CLUSTERS: Final = (".yaml", ".graphml")
"""Suffixes of files that describe all nodes; other files describe one node."""
_MAX_BYTES: Final = 1 << 26
"""The largest file but YAML (256 KiB) that is read."""


def build_described_cluster(
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
