"""What the software does, as the section `runtime:` and the model's keys give it together."""

from dataclasses import replace

from sim.errors import InvalidValueError
from sim.scenario.scenario import Scenario
from topology.device import Device
from workloads.formats import BF16, FP8_RECIPES, Formats
from workloads.model import ModelSpec
from workloads.runtime import RUNTIMES, Runtime

__all__ = ["formats_of", "runtime_of", "with_attention_of"]


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


def formats_of(scenario: Scenario, model: ModelSpec, device: Device, *, trains: bool) -> Formats:
    """Return the types of a model's tensors on a device, as the runtime and the model's type give them."""
    runtime = runtime_of(scenario)
    name = runtime.fp8_recipe or ("tensorwise" if model.dtype == "fp8" else "none")
    recipe = FP8_RECIPES[name]
    if recipe is None:
        if model.dtype == "fp8":
            hint = "Drop the recipe, or write model.dtype: bf16."
            raise InvalidValueError("runtime.fp8_recipe", "name a recipe with model.dtype fp8", name, hint)
        if runtime.gather_dtype == "fp8":
            hint = "Give runtime.fp8_recipe, such as tensorwise, or drop the key."
            raise InvalidValueError("runtime.gather_dtype", "be bf16 without a recipe for fp8", "fp8", hint)
    else:
        device.peak_flops_per_s("fp8")  # refuses a device without fp8
        if recipe.product == "mxfp8" and not device.has_block_scaling:
            rule = "be one that the device's tensor cores scale: tensorwise or blockwise"
            raise InvalidValueError("runtime.fp8_recipe", rule, name, "Use tensorwise.")
    if runtime.dispatch_dtype is not None and not model.experts:
        hint = "Drop the key."
        raise InvalidValueError("runtime.dispatch_dtype", "be left out of a dense model", runtime.dispatch_dtype, hint)
    return replace(
        BF16,
        recipe=recipe,
        trains=trains,
        has_any_layout=device.has_block_scaling,
        gather_dtype=runtime.gather_dtype or BF16.gather_dtype,
        dispatch_dtype=runtime.dispatch_dtype or BF16.dispatch_dtype,
    )
