"""Kernels of a run, priced by a measured profile."""

import numpy as np
import pytest

from sim.plan.kernel_costs import KernelCosts
from topology.presets.devices import DEVICES
from topology.profiles import DeviceProfile, parse_profile
from topology.profiles.operations import LAUNCH_S
from workloads.kernels import Attention, Gemm, GroupedGemm, Memory

H100 = DEVICES["h100-sxm"]
PEAK, BANDWIDTH = 989e12, 3.35e12

HEADER = "operation,format,m,n,k,experts,batch,heads,length,head_dim,rows,width,time_us\n"
GEMM_US = (2 * 2.0 * 4096 * 8192 * 8192 / PEAK + 2 * LAUNCH_S) * 1e6
"""A product [4096, 8192] x [8192, 8192] that takes twice its roofline."""
NORM_US = 3 * (4 * 1024 * 4096 / BANDWIDTH + LAUNCH_S) * 1e6


def costs(*rows: str, **more) -> KernelCosts:
    return KernelCosts(H100, dtype="bf16", profile=DeviceProfile(H100, parse_profile(HEADER + "\n".join(rows))), **more)


def gemm(m: int) -> Gemm:
    return Gemm(kind="attention", m=m, n=8192, k=8192)


def test_a_product_takes_twice_its_roofline_where_the_measured_one_did():
    priced = costs(f"gemm,bf16,4096,8192,8192,,,,,,,,{GEMM_US}")
    for m in (4096, 8192):
        expected_s = 2 * (2.0 * m * 8192 * 8192 / PEAK + LAUNCH_S)
        assert priced.kernel_ns(gemm(m), 2).tolist() == pytest.approx([expected_s * 1e9] * 2, abs=1)
    assert priced.warnings == [
        "profile: kernels of h100-sxm outside of the measured shapes are extrapolated with the efficiency of the "
        "nearest shapes: gemm 1 of 2."
    ]


def test_shapes_that_were_measured_give_no_warning_and_an_empty_product_takes_no_time():
    priced = costs(f"gemm,bf16,4096,8192,8192,,,,,,,,{GEMM_US}")
    assert priced.kernel_ns(gemm(4096), 1) > 0 and priced.kernel_ns(gemm(0), 1) == 0
    assert priced.warnings == []


def test_what_a_profile_has_not_is_priced_by_the_closed_form():
    priced, closed = costs(f"norm,bf16,,,,,,,,,1024,4096,{NORM_US}"), KernelCosts(H100, dtype="bf16")
    attention = Attention(
        kind="attention",
        operation="attention",
        flops=1e12,
        num_bytes=1e8,
        batch=1,
        query_length=4096,
        kv_length=4096,
        heads=32,
        kv_heads=32,
        head_dim=128,
        value_dim=128,
    )
    grouped = GroupedGemm(kind="expert", tokens=np.array([[100, 20]]), n=1024, k=2048)
    swiglu = Memory(kind="expert", operation="swiglu", rows=1024, width=4096, num_bytes=6.0 * 1024 * 4096)
    for kernel in (gemm(4096), attention, grouped, swiglu):
        assert priced.kernel_ns(kernel, 1) == closed.kernel_ns(kernel, 1)
    assert priced.warnings == closed.warnings == []


def test_a_kernel_bound_by_memory_is_as_slow_as_measured_for_the_bytes_that_it_moves():
    priced = costs(f"norm,bf16,,,,,,,,,1024,4096,{NORM_US}")
    norm = Memory(kind="other_compute", operation="norm", rows=1024, width=4096, num_bytes=4.0 * 1024 * 4096)
    backward = norm.backward()[0]
    assert priced.kernel_ns(norm, 1) == pytest.approx(NORM_US * 1e3, abs=1)
    assert priced.kernel_ns(backward, 1) == pytest.approx(3e9 * (6 * 1024 * 4096 / BANDWIDTH + LAUNCH_S), abs=1)
    by_rank = Memory(
        kind="expert",
        operation="norm",
        rows=np.array([0.0, 1024.0]),
        width=4096,
        num_bytes=norm.num_bytes * np.array([0, 1]),
    )
    assert priced.kernel_ns(by_rank, 2).tolist() == [0, int(priced.kernel_ns(norm, 1)[0])]


GROUPED = (
    "grouped_gemm,bf16,16,1024,2048,4,,,,,,,20",
    "grouped_gemm,bf16,4096,1024,2048,4,,,,,,,150",
    "grouped_gemm_weight_gradient,bf16,2048,1024,64,4,,,,,,,30",
    "grouped_gemm_weight_gradient,bf16,2048,1024,4096,4,,,,,,,250",
)


def grouped_ns(tokens: list[int], *, weight_gradient: bool = False) -> int:
    kernel = GroupedGemm(kind="expert", tokens=np.array([tokens]), n=1024, k=2048, weight_gradient=weight_gradient)
    return int(costs(*GROUPED).kernel_ns(kernel, 1)[0])


@pytest.mark.parametrize(
    ("is_gradient", "tokens", "measured_us"), [(False, 16, 20), (False, 4096, 150), (True, 4096, 250)]
)
def test_experts_with_equally_many_tokens_take_what_was_measured(is_gradient, tokens, measured_us):
    assert grouped_ns([tokens] * 4, weight_gradient=is_gradient) == pytest.approx(1e3 * measured_us, rel=0.01)


def test_gradients_by_the_input_of_experts_take_what_was_measured_of_them():
    by_input = GroupedGemm(kind="expert", tokens=np.array([[4096] * 4]), n=2048, k=1024).backward()[0]
    measured = "grouped_gemm_input_gradient,bf16,4096,1024,2048,4,,,,,,,170"
    assert costs(*GROUPED, measured).kernel_ns(by_input, 1)[0] == pytest.approx(170e3, rel=0.01)


def test_more_tokens_than_the_curve_spans_keep_its_last_slowdown():
    assert grouped_ns([2**26, 0, 0, 0]) == pytest.approx(4 * grouped_ns([2**24, 0, 0, 0]), rel=0.01)


def test_an_expert_takes_its_share_and_one_without_tokens_none():
    alone, together = grouped_ns([4096, 0, 0, 0]), grouped_ns([4096] * 4)
    slowdown = 150e-6 / (4 * 2.0 * 4096 * 1024 * 2048 / PEAK + LAUNCH_S)  # four launches instead of one
    assert 4 * alone == pytest.approx(together + 3e9 * slowdown * LAUNCH_S, rel=0.01)
    assert grouped_ns([0, 0, 0, 0]) == 0
    assert grouped_ns([4096, 100, 0, 0]) == grouped_ns([0, 100, 0, 4096])


def test_an_expert_with_more_tokens_never_takes_less_time():
    times = [grouped_ns([tokens, 64, 64, 64]) for tokens in (0, 1, 16, 17, 100, 1000, 4096, 20_000)]
    assert times == sorted(times)


def attention(**changes) -> Attention:
    shape = {"batch": 1, "query_length": 4096, "kv_length": 4096, "heads": 32, "kv_heads": 32} | changes
    flops = 2.0 * 32 * 4096**2 * 128
    given = {
        "kind": "attention",
        "operation": "attention",
        "flops": flops,
        "num_bytes": 1e8,
        "head_dim": 128,
        "value_dim": 128,
    }
    return Attention(**(given | shape))


def test_a_window_takes_the_time_of_its_flops_at_the_efficiency_of_a_shorter_sequence():
    rows = []
    for length, slowdown in ((1024, 4.0), (2048, 3.0), (4096, 2.0)):
        time_s = slowdown * (2.0 * 32 * length**2 * 128 / PEAK + LAUNCH_S)
        rows.append(f"attention_forward,bf16,,,,,1,32,{length},128,,,{time_s * 1e6}")
    priced, flops = costs(*rows), attention().flops
    whole, quarter = attention(), attention(flops=flops / 4, window=512, num_bytes=1e7)
    assert priced.kernel_ns(whole, 1) == pytest.approx(2e9 * (flops / PEAK + LAUNCH_S), rel=0.02)
    assert priced.kernel_ns(quarter, 1) == pytest.approx(3e9 * (flops / 4 / PEAK + LAUNCH_S), rel=0.02)


def test_ranks_with_one_expert_read_the_same_times_from_their_table():
    tokens = np.array([[7], [4096]])
    kernel = GroupedGemm(kind="expert", tokens=tokens, n=1024, k=2048)
    priced = costs(*GROUPED)
    each = [int(priced.kernel_ns(GroupedGemm(kind="expert", tokens=row[None], n=1024, k=2048), 1)[0]) for row in tokens]
    assert priced.kernel_ns(kernel, 2).tolist() == each
