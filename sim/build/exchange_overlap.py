"""What sends tokens to experts and what runs next to it: the keys of `runtime:`, and what they cannot go with.

References
----------
Megatron-LM, megatron/core/transformer/transformer_config.py: what `overlap_moe_expert_parallel_comm`,
`moe_shared_expert_overlap` and `delay_wgrad_compute` assert.
"""

from dataclasses import replace

from sim.build.work import Work
from sim.errors import InvalidValueError
from sim.scenario.scenario import Scenario
from workloads.collectives.settings import NetworkSettings
from workloads.runtime import DISPATCHERS, Runtime

__all__ = ["check_exchange_overlap", "network_of"]


def network_of(scenario: Scenario, runtime: Runtime) -> NetworkSettings:
    """Return how transfers are simulated: the section `network:`, with the all-to-all of the dispatcher.

    Raises
    ------
    InvalidValueError
        The section names an all-to-all that the dispatcher is not.
    """
    network = scenario.spec.network
    if runtime.dispatcher is None:
        return network
    algorithms = DISPATCHERS[runtime.dispatcher]
    if not scenario.is_given("network.all_to_all"):
        return replace(network, all_to_all=algorithms[0])
    if network.all_to_all not in algorithms:
        if not scenario.is_given("runtime.dispatcher"):  # a preset gives way to what is said
            return network
        its_own = next(name for name, others in DISPATCHERS.items() if network.all_to_all in others)
        raise InvalidValueError(
            "runtime.dispatcher",
            rule=f"agree with network.all_to_all {network.all_to_all}, which is dispatcher {its_own}",
            value=runtime.dispatcher,
            hint="Drop one of the two.",
        )
    return network


def check_exchange_overlap(scenario: Scenario, work: Work) -> None:
    """Refuse a dispatcher where no token is sent, and overlap with exchanges where it cannot be."""
    if work.runtime.dispatcher is not None and not work.exchanges_tokens and scenario.is_given("runtime.dispatcher"):
        rule = "be left out where no token is sent to an expert on another rank"
        raise InvalidValueError("runtime.dispatcher", rule, work.runtime.dispatcher, "Leave it out.")
    for key, whys in (
        ("overlap_moe", _why_not_in_pairs(work)),
        ("overlap_shared_experts", _why_no_shared_experts(work)),
        ("delay_wgrad", _why_no_delay(work)),
    ):
        for is_so, why, hint in whys if getattr(work.runtime, key) else ():
            if is_so:
                raise InvalidValueError(f"runtime.{key}", rule=f"be false {why}", value=True, hint=hint)


# ---- private -----------------------------------------------------------------------------------------------------

_Why = tuple[bool, str, str]
"""Whether a reason holds, the reason, and what to do."""
_LEAVE_OUT = "Leave it out."


def _why_no_exchange(work: Work) -> list[_Why]:
    """Return why nothing can run next to an exchange."""
    convention = work.mesh.convention
    return [
        (not work.exchanges_tokens, "where no token is sent to an expert on another rank", _LEAVE_OUT),
        (
            convention.experts_span_stages,
            f"under the convention {convention.name}, whose experts serve all stages (not supported yet)",
            _LEAVE_OUT,
        ),
    ]


def _why_not_in_pairs(work: Work) -> list[_Why]:
    """Return why forward and backward passes cannot run in pairs for their exchanges."""
    is_plain, recompute = work.schedule == "1f1b", work.recompute
    return [
        (not work.kind.trains, "in a forward pass, next to which no backward pass runs", _LEAVE_OUT),
        *_why_no_exchange(work),
        (
            not work.schedule_kind.can_pair,
            f"with schedule.kind {work.schedule}, which does not alternate forward and backward passes one by one",
            "Write schedule.kind: interleaved, or 1f1b with PP 1.",
        ),
        (
            is_plain and work.mesh.num_stages > 1,
            "with schedule.kind 1f1b and PP > 1, where Megatron Core needs virtual stages",
            "Write schedule.kind: interleaved and parallel.vpp.",
        ),
        (
            recompute.kind == "full" or recompute.recomputes("moe"),
            "where the expert block is recomputed, which Megatron Core refuses",
            "Recompute other modules, or leave it out.",
        ),
        (
            work.runtime.overlap_shared_experts,
            "with runtime.overlap_shared_experts, which Megatron Core refuses",
            "Choose one of the two.",
        ),
        (
            work.fsdp is not None and work.mesh.strategy.vpp > 1,
            "with parallel.fsdp and virtual stages, which Megatron Core refuses",
            _LEAVE_OUT,
        ),
    ]


def _why_no_shared_experts(work: Work) -> list[_Why]:
    """Return why shared experts cannot run next to exchanges."""
    has_shared = work.model.experts > 0 and work.model.moe_ffn.shared is not None
    return [
        (not has_shared, "without shared experts", "Leave it out, or give model.shared_experts."),
        *_why_no_exchange(work),
        (
            work.recompute.recomputes("shared_experts"),
            "where shared experts are recomputed, which Megatron Core refuses",
            "Choose one of the two.",
        ),
    ]


def _why_no_delay(work: Work) -> list[_Why]:
    """Return why gradients of weights cannot wait for an exchange."""
    return [
        (not work.kind.trains, "in a forward pass, which makes no gradients", _LEAVE_OUT),
        *_why_no_exchange(work),
        (
            work.splits_backward and not work.runs_pairs,
            f"with schedule.kind {work.schedule}, which makes gradients of weights in passes of their own",
            "Leave it out.",
        ),
    ]
