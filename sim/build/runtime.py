"""What the software does, as the section `runtime:` and the model's keys give it together."""

from dataclasses import replace

from sim.build.work import Work
from sim.errors import InvalidValueError
from sim.scenario.scenario import Scenario
from workloads.model import ModelSpec
from workloads.runtime import RUNTIMES, Runtime

__all__ = ["check_overlap", "runtime_of", "with_attention_of"]


def runtime_of(scenario: Scenario) -> Runtime:
    """Return the runtime: a preset with the keys that differ."""
    section = scenario.spec.runtime
    return replace(RUNTIMES[section.preset], **section.given())


def check_overlap(scenario: Scenario, work: Work) -> None:
    """Refuse to overlap exchanges of data-parallel replicas where a scenario says so and there is nothing to overlap.

    What a preset says holds wherever it can be.
    """
    zero = work.why_no_overlap or (None if work.zero == 1 else f"with parallel.zero {work.zero}: only zero 1 gathers")
    for key, why in (("overlap_grad_reduce", work.why_no_overlap), ("overlap_param_gather", zero)):
        if why is not None and getattr(work.runtime, key) and scenario.is_given(f"runtime.{key}"):
            raise InvalidValueError(f"runtime.{key}", rule=f"be false {why}", value=True, hint="Leave it out.")


def with_attention_of(scenario: Scenario, model: ModelSpec) -> ModelSpec:
    """Return a model with the attention kernels of the runtime, which must agree with the model's own key."""
    attention = runtime_of(scenario).attention
    if attention is None:
        return model
    is_fused = attention == "fused"
    if scenario.is_given("model.fused_attention") and model.fused_attention != is_fused:
        raise InvalidValueError(
            "runtime.attention",
            rule=f"agree with model.fused_attention {str(model.fused_attention).lower()}",
            value=attention,
            hint="Drop one of the two.",
        )
    return replace(model, fused_attention=is_fused)
