"""A scenario of kind collective becomes a plan, with what it leaves open filled in and noted."""

import numpy as np

from sim.engine.plan.collective import CollectivePlan, CollectiveWork, token_bytes
from sim.scenario.scenario import Scenario
from sim.scenario.workload_section import CollectiveWorkload
from sim.studies.build import Assumption, exchange_sms, placing
from sim.studies.build_cluster import cluster_of
from sim.studies.build_routing import skew_of
from workloads.presets import get_model
from workloads.routing.skew import Skew

__all__ = ["build_collective"]


def build_collective(scenario: Scenario) -> tuple[CollectivePlan, list[Assumption]]:
    """Return the plan of a scenario of kind collective, and what had to be assumed.

    Raises
    ------
    InputError
        With the place in the file, where the cluster cannot be, or ranks and experts do not go together.
    """
    with placing(scenario):
        return _build(scenario)


# ---- private -----------------------------------------------------------------------------------------------------


def _build(scenario: Scenario) -> tuple[CollectivePlan, list[Assumption]]:
    spec, workload = scenario.spec, scenario.spec.workload
    if not isinstance(workload, CollectiveWorkload):
        raise TypeError("build_collective needs a scenario of kind collective")
    cluster, model = cluster_of(scenario), spec.model
    ranks = np.asarray(workload.ranks) if workload.ranks else np.arange(workload.num_ranks)
    if ranks.max() >= cluster.num_gpus:
        raise scenario.error_at(
            "workload.ranks" if workload.ranks else "workload.num_ranks",
            rule=f"be on the {cluster.num_gpus} GPUs of the cluster",
            value=int(ranks.max()) if workload.ranks else workload.num_ranks,
            cure="Use fewer ranks, or more cluster.num_nodes.",
        )
    assumptions, num_bytes, experts, top_k = [], workload.bytes or 0.0, 0, 1
    if workload.tokens is not None and model is not None:
        known = get_model(model.preset) if model.preset else None
        hidden = model.hidden or (known.hidden if known else 0)
        given = model.dtype if "dtype" in model.model_fields_set else None
        dtype = "bf16" if workload.op == "combine" else str(given or ("fp8" if workload.op == "dispatch" else "bf16"))
        num_bytes = token_bytes(hidden, dtype)
        if workload.op == "all_to_all":
            num_bytes *= workload.tokens
        else:
            top_k = model.top_k or (known.top_k if known else 1)
            experts = model.experts or (known.experts if known else 0)
            if not experts:
                experts = ranks.size * max(1, round(256 / ranks.size))
                assumptions.append(
                    Assumption("model.experts", experts, "as DeepEP's tests: 256, the same on each rank")
                )
            if experts % ranks.size or top_k > experts:
                raise scenario.error_at(
                    "model.experts",
                    rule=f"be a multiple of {ranks.size} ranks and at least top_k = {top_k}",
                    value=experts,
                    cure="Each rank has equally many experts.",
                )
        if "dtype" not in model.model_fields_set:
            assumptions.append(Assumption("model.dtype", dtype, "what DeepEP sends: dispatch in fp8, combine in bf16"))
    work = CollectiveWork(
        cluster=cluster,
        op=workload.op,
        ranks=ranks,
        num_bytes=float(num_bytes),
        tokens=workload.tokens or 0,
        top_k=top_k,
        experts=experts,
        max_nodes_per_token=spec.routing.max_nodes_per_token,
        routing=spec.routing.kind,
        skew=skew_of(scenario, experts) if workload.tokens is not None else Skew(),
        seed=spec.seed,
        all_reduce=spec.network.all_reduce,
        all_to_all=spec.network.all_to_all,
        fidelity=spec.network.fidelity,
        sms=exchange_sms(spec.network) if workload.op in ("dispatch", "combine", "all_to_all") else None,
    )
    if experts and not scenario.is_given("routing.kind"):
        assumptions.append(Assumption("routing.kind", work.routing, "every token chooses at random"))
    return CollectivePlan(work), assumptions
