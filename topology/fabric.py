"""How a cluster is wired: nodes, and the network between them.

Model
-----
    node       what `spec.node` puts inside it: GPUs, switches, NICs          topology.nodes
    network    what `spec.wiring` links the NICs with                         topology.fabrics

A single node has no NICs: nothing leaves it.

Assumptions
-----------
The switches themselves never limit (their datasheets: full bisection), only links do.
"""

import networkx as nx

from sim.errors import InvalidValueError
from topology.fabric_spec import FabricSpec
from topology.limits import MAX_GPUS

__all__ = ["FabricSpec", "build_graph", "check_num_nodes"]


def build_graph(spec: FabricSpec, num_nodes: int) -> "nx.DiGraph[str]":
    """Wire `num_nodes` nodes.

    Returns
    -------
    networkx.DiGraph
        Vertices carry `kind` (gpu, nvswitch, pcie, cpu, nic, leaf, spine, switch), those inside a node also `node`,
        GPUs also `rank` and `rail`. Edges carry `kind`, `bandwidth_bytes_per_s`, `efficiency` and `latency_s`; the
        graph `name`, and `source.KIND` of each kind of edge.

    Examples
    --------
    >>> from topology.presets.clusters import FABRICS
    >>> graph = build_graph(FABRICS["dgx-h100"], 2)
    >>> sum(data["kind"] == "gpu" for _, data in graph.nodes(data=True))
    16
    >>> graph.edges["nic0.3", "leaf0.3"]["bandwidth_bytes_per_s"]
    50000000000.0
    """
    check_num_nodes(spec, num_nodes)
    spec.wiring.check(spec, num_nodes)
    kinds = (spec.nvlink, spec.pcie, spec.nic, spec.leaf_hop)
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.graph.update({"name": spec.name} | {f"source.{kind.name}": kind.source for kind in kinds})
    technologies = {"inside": spec.inside, "between": spec.between}
    graph.graph.update({tier: name for tier, name in technologies.items() if name})
    for node in range(num_nodes):
        spec.node.add(graph, spec, node, has_network=num_nodes > 1)
    if num_nodes > 1:
        spec.wiring.connect(graph, spec, num_nodes)
    return graph


def check_num_nodes(spec: FabricSpec, num_nodes: int) -> None:
    """Refuse a cluster of no nodes, or of more than `MAX_GPUS` GPUs, before anything is made of it."""
    if num_nodes < 1:
        rule, hint = "be at least 1", "Give a count."
    elif num_nodes * spec.gpus_per_node > MAX_GPUS:
        rule = f"give at most {MAX_GPUS:,} GPUs"
        hint = "Simulate a part of the cluster: replicas beyond it are alike."
    else:
        return
    raise InvalidValueError(field="cluster.num_nodes", rule=rule, value=num_nodes, hint=hint)
