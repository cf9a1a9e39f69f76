"""A scenario of kind collective becomes its work, with what it leaves open filled in and noted."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.build.assumptions import Assumption
from sim.build.build import check_network
from sim.build.cluster import cluster_of
from sim.build.layout import model_of
from sim.build.routing import check_node_limit, routing_of
from sim.build.work import CollectiveWork
from sim.errors import InvalidValueError
from sim.scenario.recordings.arrays import Shape
from sim.scenario.scenario import Scenario
from sim.scenario.workload_section import CollectiveWorkload
from topology.cluster import Cluster
from workloads.collectives import OPERATIONS
from workloads.presets import get_model
from workloads.routing import draw_counts
from workloads.routing.settings import RoutingSettings

__all__ = ["build_collective", "token_bytes"]

_DEEPEP_EXPERTS: Final = 256
_FP8_GROUP, _SCALE_BYTES = 128, 4


def build_collective(scenario: Scenario) -> tuple[CollectiveWork, list[Assumption]]:
    """Return the work of a scenario of kind collective, and what had to be assumed.

    Raises
    ------
    InvalidValueError
        With the place in the file, where the cluster cannot be, or ranks and experts do not go together.
    """
    with scenario.located_errors():
        return _build(scenario)


def token_bytes(hidden: int, dtype: str) -> float:
    """Return the bytes of a token's hidden state as it is sent: in fp8 with a scale of 4 bytes for each 128 values.

    >>> token_bytes(7168, "fp8"), token_bytes(7168, "bf16")
    (7392.0, 14336.0)
    """
    return hidden + _SCALE_BYTES * hidden / _FP8_GROUP if dtype == "fp8" else 2.0 * hidden


# ---- private -----------------------------------------------------------------------------------------------------


class _Tokens(NamedTuple):
    """What dispatch, combine and all-to-all of tokens send."""

    token_bytes: float = 0.0
    top_k: int = 1
    experts: int = 0


def _build(scenario: Scenario) -> tuple[CollectiveWork, list[Assumption]]:
    spec, workload = scenario.spec, scenario.spec.workload
    if not isinstance(workload, CollectiveWorkload):
        raise TypeError("build_collective needs a scenario of kind collective")
    cluster = cluster_of(scenario)
    check_network(scenario, cluster)
    ranks = _ranks(scenario, workload, cluster)
    assumptions: list[Assumption] = []
    tokens = _Tokens() if workload.tokens is None else _tokens(scenario, workload, ranks.size, assumptions)
    if workload.bytes is not None:
        num_bytes = float(workload.bytes)
    elif not OPERATIONS[workload.op].is_expert_exchange:
        num_bytes = tokens.token_bytes * (workload.tokens or 0)
    else:
        num_bytes = tokens.token_bytes
    work = CollectiveWork(
        cluster=cluster,
        op=workload.op,
        ranks=ranks,
        num_bytes=num_bytes,
        tokens=workload.tokens or 0,
        top_k=tokens.top_k,
        experts=tokens.experts,
        routing=RoutingSettings()
        if workload.tokens is None
        else routing_of(scenario, cluster, ranks, shape=Shape(num_experts=tokens.experts, top_k=tokens.top_k)),
        seed=spec.seed,
        network=spec.network,
        factors=spec.factors.of_kernels_and_links,
    )
    if tokens.experts:
        check_node_limit(scenario, cluster, ranks[None], experts=tokens.experts, top_k=tokens.top_k)
        with scenario.located_errors():
            _try_routing(work)
        if not scenario.is_given("routing.kind"):
            assumptions.append(Assumption("routing.kind", work.routing.kind, "every token chooses at random"))
    return work, assumptions


def _try_routing(work: CollectiveWork) -> None:
    """Route one token, so that what cannot be is refused before the run."""
    node, _ = work.cluster.node_positions(work.ranks)
    draw_counts(
        work.routing.kind,
        num_sources=1,
        tokens=1,
        num_experts=work.experts,
        top_k=work.top_k,
        seed=work.seed,
        layers=[0],
        microbatches=[0],
        skew=work.routing.skew,
        num_nodes=int(node.max()) + 1,
        max_nodes=work.routing.max_nodes_per_token,
    )


def _ranks(scenario: Scenario, workload: CollectiveWorkload, cluster: Cluster) -> NDArray[np.intp]:
    ranks = np.array(workload.ranks or range(workload.num_ranks), dtype=np.intp)
    if ranks.max() >= cluster.num_gpus:
        raise InvalidValueError(
            "workload.ranks" if workload.ranks else "workload.num_ranks",
            rule=f"be on the {cluster.num_gpus} GPUs of the cluster",
            value=int(ranks.max()) if workload.ranks else workload.num_ranks,
            hint="Use fewer ranks, or more cluster.num_nodes.",
        )
    return ranks


def _tokens(scenario: Scenario, workload: CollectiveWorkload, num_ranks: int, assumptions: list[Assumption]) -> _Tokens:
    """Return what the section `model:` says of tokens, and note what it leaves open."""
    model = scenario.spec.model
    if model is None:
        raise TypeError("a workload of tokens needs a model")
    known = model_of(scenario) if model.hf_config else get_model(model.preset) if model.preset else None
    given = model.dtype if "dtype" in model.model_fields_set else None
    dtype = "bf16" if workload.op == "combine" else str(given or ("fp8" if workload.op == "dispatch" else "bf16"))
    if dtype != given:
        assumptions.append(Assumption("model.dtype", dtype, "what DeepEP sends: dispatch in fp8, combine in bf16"))
    bytes_of_one = token_bytes(model.hidden or (known.hidden if known else 0), dtype)
    if not OPERATIONS[workload.op].is_expert_exchange:
        return _Tokens(bytes_of_one)
    top_k = model.top_k or (known.top_k if known else 1)
    if not top_k:
        raise InvalidValueError(
            "model.top_k", rule="be at least 1", value=top_k, hint="Give top_k, or a model with experts."
        )
    experts = model.experts or (known.experts if known else 0)
    if not experts:
        experts = num_ranks * max(1, round(_DEEPEP_EXPERTS / num_ranks))
        assumptions.append(Assumption("model.experts", experts, "as DeepEP's tests: 256, the same on each rank"))
    if experts % num_ranks or top_k > experts:
        raise InvalidValueError(
            "model.experts",
            rule=f"be a multiple of {num_ranks} ranks and at least top_k = {top_k}",
            value=experts,
            hint="Each rank has equally many experts.",
        )
    return _Tokens(bytes_of_one, top_k, experts)
