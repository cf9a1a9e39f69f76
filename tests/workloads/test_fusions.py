"""Work that is not fused: its bytes counted by hand from the kernels that do it, and the fused loss."""

from dataclasses import replace

import numpy as np
import pytest

from sim.build.build import build
from sim.errors import InvalidValueError
from sim.scenario.load import load_scenario
from workloads.fusions import UNFUSED_OPS, Fusions
from workloads.kernels import Memory, backward_of
from workloads.layers import attention_block, expert_block, head_block
from workloads.presets import MODELS

MIXTRAL = MODELS["mixtral-8x7b"]
TOKENS = np.array([[3, 5]])
# Bytes of an element in 2 bytes, forward and backward: a kernel's reads and writes of whole tensors, in its order.
CLAMP = (2 + 2) + (2 + 2), ((2 + 1) + (1 + 2 + 2) + (2 + 1) + (2 + 1) + (1 + 1 + 1) + (1 + 2 + 2)) / 2 + (2 + 2)
BIAS = 2 + (2 + 2 + 2) + (2 + 2), (2 + 2) + (2 + 2) + 2 + 2 + (2 + 2)
ROTARY = (2 + 2) + 2 + (2 + 2) + (2 + 2) + (2 + 2 + 2) + (2 + 2), 4 + 4 + 2 + 4 + 6 + 2 + 6


def moved(kernels) -> dict[str, float]:
    """Sum the bytes of memory-bound kernels by operation."""
    total: dict[str, float] = {}
    for kernel in kernels:
        if isinstance(kernel, Memory):
            total[kernel.operation] = total.get(kernel.operation, 0.0) + float(np.sum(kernel.num_bytes))
    return total


def unfused(*ops: str):
    return replace(MIXTRAL, fusions=Fusions(unfused_ops=ops))


@pytest.mark.parametrize(
    ("op", "operation", "elements", "expected"),
    [
        ("expert_clamp", "clamp", 8 * 2 * MIXTRAL.ffn, CLAMP),
        ("expert_bias", "bias_add", 8 * MIXTRAL.hidden, BIAS),
    ],
)
def test_what_experts_run_unfused_moves_the_bytes_of_its_kernels(op, operation, elements, expected):
    """8 copies: the clamp is of both halves of the up projection, the bias of the results; all else is as before."""
    fused, apart = (expert_block(model.moe_ffn, TOKENS) for model in (MIXTRAL, unfused(op)))
    for kernels, before, num_bytes in (
        (apart, fused, expected[0]),
        (backward_of(apart), backward_of(fused), expected[1]),
    ):
        extra = moved(kernels)
        assert extra.pop(operation) == num_bytes * elements
        assert extra == moved(before)


def test_an_unfused_rotary_embedding_moves_the_bytes_of_its_kernels():
    """A token of Mixtral has 32 query heads and 8 key heads of 128."""
    kernels = attention_block(unfused("rotary").attention, 16, 16)
    elements = 16 * (32 + 8) * 128
    assert moved(kernels)["rotary"] == ROTARY[0] * elements
    assert moved(backward_of(kernels))["rotary"] == ROTARY[1] * elements


def test_the_fused_loss_reads_logits_twice_and_writes_them_once():
    """Backward their gradient is scaled in place."""
    model = replace(MIXTRAL, fusions=Fusions(has_fused_loss=True))
    kernels, logits = head_block(model, 16, has_loss=True), 2 * 16 * MIXTRAL.vocab
    assert moved(kernels)["cross_entropy"] == 3 * logits
    assert moved(backward_of(kernels))["cross_entropy"] == 2 * logits


@pytest.mark.parametrize(
    ("scenario", "setting", "said"),
    [
        ("korthikanti_table5", "runtime.unfused_ops=[expert_bias]", r"leave out expert_bias: the model has no experts"),
        ("korthikanti_table5", "runtime.unfused_ops=[rotary]", r"leave out rotary: this model's attention"),
        ("ep16_tp16_pp4", "runtime.unfused_ops=[norm]", "rotary, expert_clamp, expert_bias"),
        ("ep16_tp16_pp4", "runtime.unfused_ops=[rotary, rotary]", "be a list of ops, each once"),
        ("ep16_tp16_pp4", "runtime.fused_cross_entropy=true", "be false where nothing is trained"),
    ],
)
def test_what_cannot_be_unfused_or_fused_is_refused(scenario, setting, said):
    with pytest.raises(InvalidValueError, match=said):
        build(load_scenario(scenario, overrides=[setting]))


def test_the_runtime_says_what_is_fused():
    """Keys of the runtime reach the model that is planned."""
    settings = ["runtime.unfused_ops=[expert_bias]", "runtime.fused_cross_entropy=true"]
    work = build(load_scenario("training/expert_overlap", overrides=settings)).work
    assert work.model.fusions == Fusions(has_fused_loss=True, unfused_ops=("expert_bias",))
    assert set(work.model.fusions.unfused_ops) < set(UNFUSED_OPS)
