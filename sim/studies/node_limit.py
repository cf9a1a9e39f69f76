"""Check that `routing.max_nodes_per_token` leaves a token as many experts as it chooses."""

import numpy as np
from numpy.typing import NDArray

from sim.scenario.scenario import Scenario
from topology.cluster import Cluster

__all__ = ["check_node_limit"]


def check_node_limit(
    scenario: Scenario, cluster: Cluster, groups: NDArray[np.intp], *, experts: int, top_k: int
) -> None:
    """Refuse a limit of nodes that have fewer experts together than a token chooses.

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
    num_nodes = max(np.unique(nodes).size for nodes in cluster.node_of(groups))
    if top_k * num_nodes > experts * limit:
        raise scenario.error_at(
            "routing.max_nodes_per_token",
            rule=f"leave a token at least top_k = {top_k} of {experts} experts on {num_nodes} nodes",
            value=limit,
            cure="Raise it, or lower model.top_k.",
        )
