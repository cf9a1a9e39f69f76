"""Kernels of older software and hotter GPUs: gradients that are added apart, biases, rates and clocks."""

import dataclasses

import pytest

from sim.errors import InvalidValueError
from sim.plan.kernel_costs import KernelCosts
from topology.presets.devices import DEVICES
from workloads.kernels import Gemm, Memory
from workloads.layers import add_and_norm
from workloads.model import ModelSpec

A100 = DEVICES["a100-sxm-80gb"]
PRODUCT = Gemm(kind="attention", m=4096, n=4096, k=4096)
GRADIENT = dataclasses.replace(PRODUCT, weight_gradient=True)
SUM = Memory(kind="attention", operation="gradient_add", rows=4096, width=4096, num_bytes=2.0**30)
GPT = ModelSpec(layers=1, hidden=64, heads=4, ffn=256, vocab=64, dtype="fp16", dropout=True)


def kernel_ns(kernel, **more):
    """Return the time of a kernel in training with gradients of 4 bytes."""
    return int(KernelCosts(A100, dtype="bf16", gradient_bytes=4, **more).kernel_ns(kernel, 1)[0])


def test_a_gradient_that_is_added_apart_moves_ten_bytes_of_a_weight_more():
    """It is read in 2 bytes, and the sum of 4 is read and written."""
    apart_ns = kernel_ns(GRADIENT, fused_wgrad=False) - kernel_ns(GRADIENT)
    assert apart_ns == pytest.approx(1e9 * A100.memory_time_s(10 * 4096 * 4096), abs=2)
    assert kernel_ns(PRODUCT, fused_wgrad=False) == kernel_ns(PRODUCT)


def test_the_clock_slows_products_and_the_rate_slows_all_kernels():
    for kernel, clock_counts in ((PRODUCT, True), (SUM, False)):
        alone_ns = kernel_ns(kernel)
        assert kernel_ns(kernel, rate=0.5) == pytest.approx(2 * alone_ns, abs=2)
        assert kernel_ns(kernel, clock=0.5) == pytest.approx((2 if clock_counts else 1) * alone_ns, abs=2)


def test_biases_are_added_and_their_gradients_summed():
    """Of T = 8 tokens: QKV of 3 h is read and written, its gradient read; the other gradients are read once more."""
    plain, biased = (dataclasses.replace(GPT, add_bias_linear=has) for has in (False, True))
    added = [k for k in biased.attention.kernels(8, 8).all if isinstance(k, Memory) and k.operation == "bias_add"]
    assert [(k.num_bytes, k.backward()[0].num_bytes) for k in added] == [(4.0 * 8 * 192, 2.0 * 8 * 192)]
    assert len(plain.attention.kernels(8, 8).all) == len(biased.attention.kernels(8, 8).all) - 1

    def backward_bytes(model):
        ffn = model.layer(0).ffn
        activation, add = ffn.kernels(8)[1], add_and_norm(ffn, 8)[0]
        return [kernel.backward()[0].num_bytes for kernel in (activation, add)]

    more = [with_ - without for with_, without in zip(backward_bytes(biased), backward_bytes(plain), strict=True)]
    assert more == [2.0 * 8 * 256, 2.0 * 8 * 64]


def test_biases_are_refused_where_they_are_not_counted():
    with pytest.raises(InvalidValueError, match=r"model\.add_bias_linear must be false but in dense models"):
        dataclasses.replace(GPT, add_bias_linear=True, experts=8, top_k=2)
