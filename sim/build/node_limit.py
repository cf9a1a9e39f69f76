"""Check that `routing.max_nodes_per_token` suits the mesh, and leaves a token as many experts as it chooses."""

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError
from sim.scenario.scenario import Scenario
from topology.cluster import Cluster

__all__ = ["check_node_limit"]


def check_node_limit(
    scenario: Scenario, cluster: Cluster, groups: NDArray[np.intp], *, experts: int, top_k: int
) -> None:
    """Refuse a limit of nodes that have fewer experts together than a token chooses, or that are not alike.

    Parameters
    ----------
    groups
        Ranks over which the experts are spread evenly, a row for each group. Shape [G, R].
    experts
        Experts of a layer.
    top_k
        Experts of a token.
    """
    limit = scenario.spec.routing.max_nodes_per_token
    if limit is None or not experts:
        return
    of_groups = cluster.node_of(groups)
    per_node = {tuple(np.unique(nodes, return_counts=True)[1].tolist()) for nodes in of_groups}
    if len(per_node) > 1 or len(set(next(iter(per_node)))) > 1 or (np.diff(of_groups, axis=1) < 0).any():
        raise InvalidValueError(
            "routing.max_nodes_per_token",
            rule="be left out where ranks of a group that holds all experts are not alike on all nodes, node by node",
            value=limit,
            hint="Choose EP so that each of its nodes has equally many of its ranks, and list workload.ranks in order.",
        )
    num_nodes = len(next(iter(per_node)))
    if top_k * num_nodes > experts * limit:
        raise InvalidValueError(
            "routing.max_nodes_per_token",
            rule=f"leave a token at least top_k = {top_k} of {experts} experts on {num_nodes} nodes",
            value=limit,
            hint="Raise it, or lower model.top_k.",
        )
