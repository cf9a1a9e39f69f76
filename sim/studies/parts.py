"""Changes of one part of a strategy, the rest adapted so that it stays legal: the rivals of a superlative about it.

Model
-----
    tp           TP of every other power of two that divides the heads, under the same reading of EP: half of TP first.
                 DP follows, and as many microbatches as divide a replica's sequences, at most the scenario's
    all_reduce   each algorithm of the all-reduce that the cluster can run, and sequence parallelism where TP allows it:
                 reduce-scatter and all-gather on the same groups
    pipeline     2 and 4 times the microbatches; of forward passes 2 chunks for each stage; of training the schedules of
                 the table with the same number of chunks

Each list begins with the changes that a reader would try first: a default run takes as many as `FEW` says.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from sim.build.cluster import cluster_of
from sim.build.layout import strategy_of
from sim.scenario.claims_section import PARTS
from sim.scenario.scenario import Scenario
from sim.scenario.workload_section import ForwardWorkload, TrainingWorkload
from sim.studies.chunks import own_chunks, under_schedule
from workloads.collectives import algorithm_names
from workloads.conventions import CONVENTIONS
from workloads.schedules import SCHEDULES

__all__ = ["FEW", "changes_of_part"]

Changes = dict[str, object]

FEW: Final[Mapping[str, int]] = {"tp": 1, "all_reduce": 2, "pipeline": 3}
"""Part -> changes that a default run simulates; `--thorough` simulates all."""
_LEAN_SCHEDULES: Final = ("zb_h1", "zb_1p")
"""Schedules that need no more memory than 1F1B and have less of a bubble (Qi et al. 2024, table 1): tried first."""


def changes_of_part(scenario: Scenario, part: str) -> dict[str, Changes]:
    """Return the changes of a part by name, those that a reader would try first at the front.

    Examples
    --------
    >>> from sim.scenario.load import load_scenario
    >>> list(changes_of_part(load_scenario("ep64_tp16_pp4"), "tp"))
    ['EP64_TP8_PP4_DP2', 'EP64_TP4_PP4_DP4', 'EP64_TP2_PP4_DP8', 'EP64_TP1_PP4_DP16']
    """
    workload = scenario.spec.workload
    if not isinstance(workload, (ForwardWorkload, TrainingWorkload)):
        return {}
    return _CHANGES[part](scenario)


def _tp_changes(scenario: Scenario) -> dict[str, Changes]:
    spec = scenario.spec
    with scenario.located_errors():
        cluster, strategy = cluster_of(scenario), strategy_of(scenario)
    rules = CONVENTIONS[spec.parallel.convention]
    heads = spec.model.heads if spec.model and spec.model.heads else 1 << 30
    sizes = [2**i for i in range(cluster.num_gpus.bit_length())]
    smaller, larger = [tp for tp in reversed(sizes) if tp < strategy.tp], [tp for tp in sizes if tp > strategy.tp]
    kept: Changes = {
        f"parallel.{key}": scenario.raw["parallel"][key]
        for key in ("stage_layers", "layout")
        if scenario.is_given(f"parallel.{key}")
    }
    found: dict[str, Changes] = {}
    for tp in (*smaller, *larger):
        other = replace(strategy, tp=tp, dp=None)
        legal = rules.why_illegal(other, num_gpus=cluster.num_gpus, gpus_per_node=cluster.gpus_per_node) is None
        if heads % tp == 0 and legal:
            name = replace(other, sp=None, dp=rules.dp_of(other, cluster.num_gpus)).name
            found[name] = {"parallel.strategy": name, **kept}
    return found


def _all_reduce_changes(scenario: Scenario) -> dict[str, Changes]:
    own = scenario.spec.network.all_reduce
    with scenario.located_errors():
        strategy, cluster = strategy_of(scenario), cluster_of(scenario)
    rules = CONVENTIONS[scenario.spec.parallel.convention]
    found: dict[str, Changes] = {}
    has_sp = rules.sp_of(strategy)
    sizes = {"num_gpus": cluster.num_gpus, "gpus_per_node": cluster.gpus_per_node}
    if strategy.tp > 1 and not has_sp and rules.why_illegal(replace(strategy, sp=True), **sizes) is None:
        found["sequence parallelism"] = {"parallel.sp": True}
    names = [name for name in algorithm_names() if name != own and (name != "auto" or own != "auto")]
    return found | {f"all-reduce {name}": {"network.all_reduce": name} for name in reversed(names)}


def _pipeline_changes(scenario: Scenario) -> dict[str, Changes]:
    workload = scenario.spec.workload
    if not isinstance(workload, (ForwardWorkload, TrainingWorkload)):
        return {}
    number = workload.microbatches
    more: dict[str, Changes] = {
        f"{number * factor} microbatches": {"workload.microbatches": number * factor} for factor in (2, 4)
    }
    own, chunks = scenario.spec.schedule.kind, own_chunks(scenario)
    first = next(iter(more))
    if isinstance(workload, ForwardWorkload):
        two = {"2 chunks for each stage": under_schedule(scenario, "interleaved", 2)} if chunks == 1 else {}
        return {first: more[first], **two, **more}
    names = [name for name, kind in SCHEDULES.items() if name != own and kind.accepts_num_chunks(chunks)]
    names.sort(key=lambda name: name not in _LEAN_SCHEDULES)
    schedules = {f"schedule {name}": under_schedule(scenario, name) for name in names}
    return {first: more[first], **schedules, **more}


_CHANGES: Final[Mapping[str, Callable[[Scenario], dict[str, Changes]]]] = {
    "tp": _tp_changes,
    "all_reduce": _all_reduce_changes,
    "pipeline": _pipeline_changes,
}
if set(_CHANGES) != set(PARTS) or set(FEW) != set(PARTS):
    raise RuntimeError("every part of a strategy needs its changes")
