"""What the software does, as the section `runtime:` and the model's keys give it together."""

from dataclasses import fields, replace

from sim.build.work import Work
from sim.errors import InvalidValueError
from sim.scenario.scenario import Scenario
from topology.device import Device
from workloads.formats import BF16, FP8_RECIPES, Formats
from workloads.fusions import Fusions
from workloads.model import ModelSpec
from workloads.runtime import IDEAL, RUNTIMES, Runtime, default_runtime

__all__ = [
    "check_dispatch",
    "check_overlap",
    "formats_of",
    "fusions_of",
    "runtime_assumptions",
    "runtime_of",
    "with_attention_of",
]


def runtime_of(scenario: Scenario, *, num_chunks: int = 1) -> Runtime:
    """Return the runtime: a preset with the keys that differ.

    Where a preset overlaps sends, it does so with virtual stages alone (`num_chunks` above 1), as Megatron Core.
    """
    section = scenario.spec.runtime
    given = section.given()
    if given.get("launch", "cuda_graphs") == "eager" and given.get("graph_scope"):
        raise InvalidValueError(
            "runtime.graph_scope",
            rule="be left out with runtime.launch eager",
            value=list(given["graph_scope"]),
            hint="Write launch: cuda_graphs.",
        )
    preset = preset_of(scenario)
    runtime = replace(RUNTIMES[preset], **given)
    if preset == IDEAL or "overlap_p2p" in given or num_chunks > 1:
        return runtime
    return replace(runtime, overlap_p2p=False)


def preset_of(scenario: Scenario) -> str:
    """Return the name of the runtime's preset: the one that is given, or the default of such work."""
    spec = scenario.spec
    if spec.runtime.preset is not None:
        return spec.runtime.preset
    is_fused = spec.model is None or spec.model.fused_attention is not False
    is_fused = is_fused if spec.runtime.attention is None else spec.runtime.attention == "fused"
    return default_runtime(trains=spec.workload.trains, has_fused_attention=is_fused)


def runtime_assumptions(scenario: Scenario, work: Work) -> list[tuple[str, object, str]]:
    """Return what the preset of a runtime says that the scenario does not: key, value and reason."""
    section, ideal, preset = scenario.spec.runtime, Runtime(), preset_of(scenario)
    given = section.given()
    found: list[tuple[str, object, str]] = []
    if section.preset is None:
        why = "what most people train with" if work.kind.trains else "what any software can at best reach"
        found.append(("runtime.preset", preset, why))
    return found + [
        (f"runtime.{field.name.removesuffix('_s')}", _written(field.name, value), f"what preset {preset} does")
        for field in fields(Runtime)
        if (value := getattr(work.runtime, field.name)) != getattr(ideal, field.name) and field.name not in given
    ]


def _written(field: str, value: object) -> object:
    """Return a value as the scenario's key takes it: times with their unit."""
    return f"{value * 1e6:g} us" if field.endswith("_s") and isinstance(value, float) else value


def check_overlap(scenario: Scenario, work: Work) -> None:
    """Refuse to overlap exchanges of data-parallel replicas where a scenario says so and there is nothing to overlap.

    What a preset says holds wherever it can be.
    """
    sms, device = work.runtime.collective_sms, work.cluster.device
    if sms >= device.num_sms:
        rule = f"be below the {device.num_sms} SMs of {device.name}"
        raise InvalidValueError("runtime.collective_sms", rule=rule, value=sms, hint="Leave SMs to the kernels.")
    if work.runtime.overlap_tp and not work.overlaps_tp and scenario.is_given("runtime.overlap_tp"):
        rule = "be false without sequence parallelism over TP > 1 (not supported yet)"
        raise InvalidValueError("runtime.overlap_tp", rule=rule, value=True, hint="Leave it out, or set parallel.sp.")
    zero = work.why_no_overlap or (None if work.zero == 1 else f"with parallel.zero {work.zero}: only zero 1 gathers")
    for key, why in (("overlap_grad_reduce", work.why_no_overlap), ("overlap_param_gather", zero)):
        if why is not None and getattr(work.runtime, key) and scenario.is_given(f"runtime.{key}"):
            raise InvalidValueError(f"runtime.{key}", rule=f"be false {why}", value=True, hint="Leave it out.")


def check_dispatch(scenario: Scenario, work: Work) -> None:
    """Refuse to send tokens in fp8 where a scenario says so and no token is sent to an expert."""
    sends = work.model.experts > 0 and not (work.gathers_tokens or work.has_replicated_tokens)
    if not sends and scenario.is_given("runtime.dispatch_dtype"):
        why = "for every rank has all tokens" if work.model.experts else "as in a dense model"
        rule = f"be left out where no token is sent to an expert, {why}"
        raise InvalidValueError("runtime.dispatch_dtype", rule, work.runtime.dispatch_dtype, "Leave it out.")


def with_attention_of(scenario: Scenario, model: ModelSpec) -> ModelSpec:
    """Return a model with the attention kernels of the runtime, which must agree with the model's own key."""
    attention = runtime_of(scenario).attention
    if attention is None:
        return model
    is_fused = attention == "fused"
    if scenario.is_given("model.fused_attention") and model.fused_attention != is_fused:
        if not scenario.is_given("runtime.attention"):  # a preset gives way to what is said
            return model
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
    if runtime.fp8_param_gather and (recipe is None or not trains):
        rule = "be false without a recipe for fp8" if recipe is None else "be false where nothing is trained"
        raise InvalidValueError("runtime.fp8_param_gather", rule, value=True, hint="Leave it out.")
    if recipe is None:
        if model.dtype == "fp8":
            hint = "Drop the recipe, or write model.dtype: bf16."
            raise InvalidValueError("runtime.fp8_recipe", "name a recipe with model.dtype fp8", name, hint)
        if scenario.is_given("runtime.gather_dtype") and runtime.gather_dtype == "fp8":
            hint = "Give runtime.fp8_recipe, such as tensorwise, or drop the key."
            raise InvalidValueError("runtime.gather_dtype", "be bf16 without a recipe for fp8", "fp8", hint)
    else:
        device.peak_flops_per_s("fp8")  # refuses a device without fp8
        if recipe.product == "mxfp8" and not device.has_block_scaling:
            rule = "be one that the device's tensor cores scale: tensorwise or blockwise"
            raise InvalidValueError("runtime.fp8_recipe", rule, name, "Use tensorwise.")
    return replace(
        BF16,
        recipe=recipe,
        trains=trains,
        has_any_layout=device.has_block_scaling,
        gather_dtype=runtime.gather_dtype or BF16.gather_dtype,
        dispatch_dtype=runtime.dispatch_dtype or BF16.dispatch_dtype,
        has_fp8_weights=runtime.fp8_param_gather,
    )


def fusions_of(scenario: Scenario, model: ModelSpec, *, trains: bool) -> Fusions:
    """Return what the runtime fuses; refuse ops that the model has not, where the scenario names them."""
    runtime = runtime_of(scenario)
    has_rotary = model.n_positions == 0 and model.kv_lora_rank is None
    lacking = {"rotary": not has_rotary, "expert_clamp": not model.experts, "expert_bias": not model.experts}
    for op in runtime.unfused_ops:
        if lacking[op]:
            why = "this model's attention has no such kernel" if op == "rotary" else "the model has no experts"
            raise InvalidValueError("runtime.unfused_ops", f"leave out {op}: {why}", op, "Drop it from the list.")
    if scenario.is_given("runtime.fused_cross_entropy") and runtime.fused_cross_entropy and not trains:
        rule = "be false where nothing is trained"
        raise InvalidValueError("runtime.fused_cross_entropy", rule, value=True, hint="Leave it out.")
    return Fusions(has_fused_loss=runtime.fused_cross_entropy, unfused_ops=runtime.unfused_ops)
