"""The cluster of a scenario whose machines are described in a file of the user's."""

from functools import lru_cache
from pathlib import Path
from typing import Final

import networkx as nx

from sim.errors import InvalidValueError
from sim.scenario.cluster_file import yaml_to_graph
from sim.scenario.cluster_section import ClusterSpec
from sim.scenario.file_bytes import read_input_text
from sim.scenario.scenario import Scenario
from sim.scenario.yaml_file import MAX_BYTES as MAX_YAML_BYTES
from topology.cluster import Cluster
from topology.degraded import Change, degrade
from topology.device import Device
from topology.files.generations import sm_of_device, technology_of
from topology.files.graphml import graphml_to_graph
from topology.files.nccl_xml import nccl_xml_to_node
from topology.files.one_node import repeat_node
from topology.files.topo_matrix import topo_matrix_to_node
from topology.graph_cluster import build_graph_cluster

__all__ = ["build_own_cluster"]

_MAX_BYTES: Final = 1 << 26
"""The largest file but YAML (256 KiB) that is read."""


def build_own_cluster(scenario: Scenario, spec: ClusterSpec, device: Device, changes: tuple[Change, ...]) -> Cluster:
    """Return the cluster of `cluster.file`, with what is degraded.

    Raises
    ------
    InvalidValueError
        The file is not in the scenario's folder, cannot be read, or describes no cluster.
    """
    path = scenario.file_beside("cluster.file", spec.file or "")
    text = _read(path)
    with scenario.located_errors(other_file=path):
        graph = _graph(str(path), text, spec.num_nodes, spec.device.preset or "", spec.nic_bandwidth)
        cluster = _known_cluster(graph, str(graph.graph.get("name") or path.stem), device, changes)
    if spec.num_nodes not in {None, cluster.num_nodes}:
        rule, hint = f"be left out or {cluster.num_nodes}, as many as the file has", "Describe other nodes in the file."
        raise InvalidValueError("cluster.num_nodes", rule=rule, value=spec.num_nodes, hint=hint)
    return cluster


def _read(path: Path) -> str:
    """Return the text of a file."""
    limit_bytes, too_large = _MAX_BYTES, "Describe a part of it."
    if path.suffix == ".yaml":
        limit_bytes, too_large = MAX_YAML_BYTES, "Write it as GraphML."
    return read_input_text(path, limit_bytes, hint="Name a file that describes the machines.", too_large=too_large)


@lru_cache(maxsize=8)
def _graph(
    path: str, text: str, num_nodes: int | None, device: str, nic_bytes_per_s: float | None
) -> "nx.DiGraph[str]":
    """Return the graph of a file; the same for the same text, for alternatives share it."""
    name = Path(path).stem
    match Path(path).suffix:
        case ".yaml":
            return yaml_to_graph(text, file=path)
        case ".graphml":
            return graphml_to_graph(text, name)
        case ".xml":
            node = nccl_xml_to_node(text, sm=_sm(device))
        case _:
            node = topo_matrix_to_node(text, sm=sm_of_device(device))
    graph = repeat_node(node, num_nodes or 1, name=name, nic_bytes_per_s=nic_bytes_per_s)
    kinds = dict.fromkeys(data["kind"] for _, _, data in graph.edges(data=True))
    inside = technology_of(device, _sm(device), kinds) if _sm(device) else None
    graph.graph.update({"inside": inside} if inside else {})
    return graph


def _sm(device: str) -> int:
    """Return the compute capability of a device, 0 if it is not known: NCCL's topology tells it itself."""
    try:
        return sm_of_device(device)
    except InvalidValueError:
        return 0


@lru_cache(maxsize=8)
def _known_cluster(graph: "nx.DiGraph[str]", name: str, device: Device, changes: tuple[Change, ...]) -> Cluster:
    """Return the cluster, the same for the same graph, device and changes: it keeps the paths that it found."""
    return build_graph_cluster(degrade(graph, changes, name=name) if changes else graph, device, name=name)
