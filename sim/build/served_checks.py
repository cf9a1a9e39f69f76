"""What a server does not do, or not with something else, is refused by name before anything runs."""

from collections.abc import Sequence
from typing import Final

from sim.errors import InvalidValueError
from sim.scenario.scenario import Scenario
from sim.scenario.serving_section import ServerSection
from topology.cluster import Cluster
from workloads.blocks.attention import GroupedQueryAttention
from workloads.blocks.latent_attention import LatentAttention
from workloads.mesh import Mesh
from workloads.model import ModelSpec
from workloads.placement import PlacementRequest, PlacementRule, place_experts
from workloads.routing.settings import RoutingSettings

__all__ = ["check_served_experts", "check_served_split", "check_served_strategy", "check_server"]

_OF_RUNTIME: Final = ("attention", "fp8_recipe", "dispatch_dtype", "dispatcher")
"""Keys of `runtime` that steps of a server follow."""
_OF_KERNELS: Final = ("speculation", "two_batch_overlap")
"""Keys of the server that steps follow which are priced by classes of kernels alone."""


def check_served_split(model: ModelSpec, mesh: Mesh, stage_layers: Sequence[int], num_replicas: int) -> None:
    """Refuse a model whose steps are not modelled, and a mesh and stages that do not split it.

    Raises
    ------
    InvalidValueError
        With the key, the rule and the value.
    """
    s = mesh.strategy
    for layer, _ in model.layer_kinds(range(model.layers)):
        if not isinstance(layer.attention, (GroupedQueryAttention, LatentAttention)):
            hint = "Layers of linear attention, state space or FFN alone are not supported yet with serving."
            raise InvalidValueError("model", "have attention in every layer with workload.kind serving", "others", hint)
        if (why := layer.attention.why_not_split(s.tp)) is not None:
            field, heads = why
            raise InvalidValueError("parallel.tp", f"divide {field} = {heads}", s.tp, "Choose another TP.")
    for axis, size in (("ep", s.ep), ("etp", s.etp)):
        if size > 1 and not model.experts:
            hint = f"Drop {axis.upper()} or set model.experts."
            raise InvalidValueError(f"parallel.{axis}", "be 1 for a dense model", size, hint)
    if not num_replicas and model.experts % s.ep:
        rule, hint = f"divide experts = {model.experts}", "Choose EP among its divisors."
        raise InvalidValueError("parallel.ep", rule, s.ep, hint)
    if model.ffn % s.etp:
        rule, hint = f"divide model.ffn = {model.ffn}, the width of an expert", "Choose ETP among its divisors."
        raise InvalidValueError("parallel.etp", rule, s.etp, hint)
    if len(stage_layers) != s.pp or sum(stage_layers) != model.layers:
        rule = f"give {s.pp} counts, one per stage, that sum to layers = {model.layers}"
        raise InvalidValueError("parallel.stage_layers", rule, list(stage_layers), "Correct the split.")


def check_served_strategy(scenario: Scenario, mesh: Mesh) -> None:
    """Refuse axes that a server does not have, and what a runtime says that its steps do not follow."""
    s, spec = mesh.strategy, scenario.spec
    for key, value in (("cp", s.cp), ("vpp", s.vpp)):
        if value > 1:
            rule = "be 1 with workload.kind serving"
            raise InvalidValueError(f"parallel.{key}", rule, value, "Leave it out: it is not supported yet.")
    if spec.parallel.sp:
        raise InvalidValueError("parallel.sp", "be false with workload.kind serving", True, "Leave it out.")
    if spec.network.fidelity != "bulk":
        rule, hint = "be bulk with workload.kind serving", "Leave it out: flows are not supported yet with serving."
        raise InvalidValueError("network.fidelity", rule, spec.network.fidelity, hint)
    for key, value in spec.runtime.given().items():
        if key not in _OF_RUNTIME:
            rule = f"be left out with workload.kind serving, which has {', '.join(_OF_RUNTIME)} alone"
            hint = "Write workload.server.host_time for the host, and cuda_graph_sizes for graphs."
            raise InvalidValueError(f"runtime.{key}", rule, value, hint)


def check_server(server: ServerSection, model: ModelSpec, mesh: Mesh, *, has_tables: bool) -> None:
    """Refuse keys of the server that nothing would follow."""
    how = "workload.layer_times" if has_tables else "workload.server.step_times: full"
    for key in _OF_KERNELS:
        if getattr(server, key) is not None and (has_tables or server.step_times == "full"):
            hint = "Leave one of the two out: it is not supported yet."
            raise InvalidValueError(f"workload.server.{key}", f"be left out with {how}", "a section", hint)
    if server.two_batch_overlap is not None and not (model.experts and mesh.dp > 1 and _exchanges_tokens(mesh)):
        rule, hint = "be left out where data-parallel ranks exchange no tokens", "Set dp above 1, and ep to TP x DP."
        raise InvalidValueError("workload.server.two_batch_overlap", rule, "a section", hint)
    if server.routing_steps is not None and not model.experts:
        raise InvalidValueError(
            "workload.server.routing_steps", "be left out of a dense model", server.routing_steps, "Remove it."
        )
    if server.receive_interval > 1 and server.policy != "sglang":
        rule, hint = "be 1 with policy vllm, which receives requests at each step", "Write policy: sglang."
        raise InvalidValueError("workload.server.receive_interval", rule, server.receive_interval, hint)


def check_served_experts(
    rule: PlacementRule, routing: RoutingSettings, cluster: Cluster, model: ModelSpec, mesh: Mesh
) -> None:
    """Refuse placements that cannot be, or are not modelled, and routing that steps of a server do not follow."""
    for key, value, default in (("capacity_factor", routing.capacity_factor, None), ("draw", routing.draw, "exact")):
        if value != default:
            needed = "exact" if key == "draw" else "left out"
            hint = "Leave it out: it is not supported yet with serving."
            raise InvalidValueError(f"routing.{key}", f"be {needed} with workload.kind serving", value, hint)
    if rule.moves:
        hint = "Leave it out: vLLM and SGLang move experts next to steps, and what that takes is not modelled yet."
        raise InvalidValueError("placement.moves", "be false with workload.kind serving", True, hint)
    if not model.experts:
        if rule != PlacementRule():
            raise InvalidValueError("placement", "be left out of a dense model", rule.kind, "Remove it.")
        return
    ep, slots = mesh.strategy.ep, rule.num_slots(model.experts, mesh.strategy.ep)
    if slots % ep:
        rest = -slots % ep
        name = f"give all EP = {ep} ranks equally many of {slots} slots"
        raise InvalidValueError("placement.replicas", name, rule.replicas, f"Write replicas: {rule.replicas + rest}.")
    node, _ = cluster.node_positions(mesh.ep_groups(0)[0])
    place_experts(
        PlacementRequest(
            rule=rule,
            num_experts=model.experts,
            num_ranks=ep,
            num_nodes=int(node.max()) + 1,
            layer=model.layers - 1,
            expert_layer=model.num_moe_layers - 1,
            num_expert_layers=model.num_moe_layers,
        )
    )


def _exchanges_tokens(mesh: Mesh) -> bool:
    return mesh.strategy.ep * mesh.strategy.etp > mesh.strategy.tp
