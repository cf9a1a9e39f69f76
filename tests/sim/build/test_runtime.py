"""The section `runtime:` reaches the work, and contradictions are refused."""

import pytest

from sim.build.build import build
from sim.build.runtime import preset_of
from sim.build.work import Work
from sim.errors import InvalidValueError
from sim.scenario import load_scenario
from workloads.formats import FP8_RECIPES


def _built(*settings: str) -> Work:
    return build(load_scenario("ep64_tp16_pp4", overrides=settings)).work


@pytest.mark.parametrize(("attention", "is_fused"), [("fused", True), ("unfused", False)])
def test_attention_of_the_runtime_is_that_of_the_model(attention: str, is_fused: bool) -> None:
    """`runtime.attention` and `model.fused_attention` are two names of one fact."""
    assert _built(f"runtime.attention={attention}").model.fused_attention is is_fused


def test_a_runtime_that_contradicts_the_model_is_refused() -> None:
    """Two keys of one fact that disagree are refused, and the message names both."""
    with pytest.raises(InvalidValueError, match=r"runtime\.attention must agree with model\.fused_attention true"):
        _built("runtime.attention=unfused", "model.fused_attention=true")


@pytest.mark.parametrize(
    ("settings", "recipe", "dispatch"),
    [
        ((), "none", "bf16"),
        (("model.dtype=fp8",), "tensorwise", "bf16"),
        (("runtime.fp8_recipe=blockwise", "runtime.dispatch_dtype=fp8"), "blockwise", "fp8"),
        (("model.dtype=fp8", "runtime.fp8_recipe=blockwise"), "blockwise", "bf16"),
        (("runtime.fp8_recipe=mxfp8", "cluster.device.preset=b200-sxm"), "mxfp8", "bf16"),
    ],
)
def test_a_recipe_reaches_the_tensors_of_the_model(settings: tuple[str, ...], recipe: str, dispatch: str) -> None:
    """Without keys the type of the model says it."""
    formats = _built(*settings).model.formats
    assert formats.recipe is FP8_RECIPES[recipe]
    assert formats.dispatch_dtype == dispatch
    assert not formats.trains


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            ("model.dtype=fp8", "runtime.fp8_recipe=none"),
            r"runtime\.fp8_recipe must name a recipe with model\.dtype fp8",
        ),
        (("runtime.fp8_recipe=mxfp8",), r"runtime\.fp8_recipe must be one that the device's tensor cores scale"),
        (("runtime.fp8_recipe=tensorwise", "cluster.device.preset=a100-sxm-80gb"), "the device computes in"),
        (("runtime.gather_dtype=fp8",), r"runtime\.gather_dtype must be bf16 without a recipe"),
        (("runtime.fp8_param_gather=true",), r"runtime\.fp8_param_gather must be false without a recipe for fp8"),
        (
            ("runtime.fp8_param_gather=true", "runtime.fp8_recipe=tensorwise"),
            r"runtime\.fp8_param_gather must be false where nothing is trained",
        ),
        (("runtime.fp8_recipe=delayed",), r"runtime\.fp8_recipe must be one of none, tensorwise, blockwise, mxfp8"),
        (
            ("runtime.dispatch_dtype=fp8", "parallel.strategy=EP8_TP8_PP8", "parallel.convention=vllm"),
            "sent to an expert",
        ),
    ],
)
def test_formats_that_cannot_be_are_refused(settings: tuple[str, ...], said: str) -> None:
    """Each by the key and the rule."""
    with pytest.raises(InvalidValueError, match=said):
        _built(*settings)


def test_dispatch_in_fp8_sends_fewer_bytes_there_and_as_many_back() -> None:
    """A token of hidden 1024: 1,024 bytes and 8 scales of 4 there, 2,048 back."""
    work = _built("runtime.dispatch_dtype=fp8")
    assert (work.dispatch_bytes, work.combine_bytes) == (1024 + 8 * 4, 2048)
    assert _built().dispatch_bytes == 2048


def test_the_recipe_of_a_model_in_fp8_is_an_assumption() -> None:
    """It is printed until the scenario says it."""
    for settings, expected in (((), {"tensorwise", "bf16"}), (("runtime.fp8_recipe=blockwise",), {"bf16"})):
        built = build(load_scenario("ep64_tp16_pp4", overrides=["model.dtype=fp8", *settings]))
        keys = {"runtime.fp8_recipe", "runtime.dispatch_dtype"}
        assert {taken.value for taken in built.assumptions if taken.key in keys} == expected


@pytest.mark.parametrize(
    ("name", "settings", "preset"),
    [
        ("ep64_tp16_pp4", (), "ideal"),
        ("ep64_tp16_pp4_training", (), "megatron-core-2025"),
        ("ep64_tp16_pp4_training", ("model.fused_attention=false",), "megatron-2022"),
        ("ep64_tp16_pp4_training", ("runtime.attention=unfused",), "megatron-2022"),
        ("ep64_tp16_pp4_training", ("runtime.preset=ideal",), "ideal"),
    ],
)
def test_a_scenario_without_a_preset_runs_what_most_people_run(
    name: str, settings: tuple[str, ...], preset: str
) -> None:
    """The default follows from the kind of work and the attention, and is among the assumptions."""
    scenario = load_scenario(name, overrides=settings)
    assert preset_of(scenario) == preset
    assumed = {item.key: item.value for item in build(scenario).assumptions}
    assert assumed.get("runtime.preset") == (None if "runtime.preset=ideal" in settings else preset)
