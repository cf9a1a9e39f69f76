"""What the software does, as the section `runtime:` and the model's keys give it together."""

from dataclasses import replace

from sim.errors import InvalidValueError
from sim.scenario.scenario import Scenario
from workloads.model import ModelSpec
from workloads.runtime import RUNTIMES, Runtime

__all__ = ["runtime_of", "with_attention_of"]


def runtime_of(scenario: Scenario) -> Runtime:
    """Return the runtime: a preset with the keys that differ."""
    section = scenario.spec.runtime
    return replace(RUNTIMES[section.preset], **section.given())


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
