"""The section `runtime:` reaches the work, and contradictions are refused."""

import pytest

from sim.build.build import build
from sim.build.work import Work
from sim.errors import InvalidValueError
from sim.scenario import load_scenario


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
