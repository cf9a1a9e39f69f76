"""The script that measures a device: with a clock of its own, and with PyTorch on the CPU where that is installed."""

import pytest
from device.kernels import KERNELS
from device.measure import measure, seconds_per_call, write_profile
from device.shapes import QUICK, STANDARD, grid

from topology.presets.devices import DEVICES
from topology.profiles import OPERATIONS, DeviceProfile, parse_profile

TINY = {
    "gemm": {"m": (1, 4)},
    "gemm_weight_gradient": {"k": (4,)},
    "attention_forward": {"batch": (1,), "heads": (4,), "groups": (2,), "length": (8,), "head_dim": (8,)},
    "attention_backward": {"batch": (1,), "heads": (4,), "groups": (2,), "length": (8,), "head_dim": (8,)},
    "attention_decode": {"batch": (2,), "heads": (4,), "groups": (2,), "length": (8,), "head_dim": (8,)},
    **{name: {"rows": (2,), "width": (8,)} for name in ("norm", "swiglu", "rope", "residual_add", "embedding", "amax")},
}


class FakeTensor:
    """What a call does not need."""

    def __getattr__(self, name):
        return lambda *args, **kwargs: self


class FakeTorch:
    """As much of PyTorch as a product calls."""

    bfloat16 = float32 = None

    def __getattr__(self, name):
        if name.startswith("float8"):
            raise AttributeError("this PyTorch has no fp8")
        return lambda *args, **kwargs: FakeTensor()


def test_the_time_of_a_call_is_the_median_of_batches_without_the_first_calls():
    durations_s = iter([9.0, 0.1, 0.003, *(0.001 * n for n in (5, 1, 2, 7, 3, 4, 6))])
    calls = []

    def timer(call, num_calls):
        calls.append(num_calls)
        return next(durations_s)

    assert seconds_per_call(lambda: None, timer) == pytest.approx(0.004 / 5)
    assert calls == [1, 1, 3, 5, 5, 5, 5, 5, 5, 5]


def test_measured_rows_make_a_profile_and_what_cannot_be_run_is_named(tmp_path):
    notes = []
    tables = {"gemm": TINY["gemm"], "gemm_weight_gradient": TINY["gemm_weight_gradient"]}
    timer = lambda call, num_calls: (call(), 1e-5 * num_calls)[1]  # noqa: E731
    rows = list(measure(FakeTorch(), "cpu", tables, timer, note=notes.append, weights=((16, 32), (32, 16))))
    assert notes == ["gemm in fp8 is left out: this PyTorch has no fp8"]
    write_profile(rows, tmp_path / "mine.csv", "a test")
    profile = DeviceProfile(DEVICES["h100-sxm"], parse_profile((tmp_path / "mine.csv").read_text(encoding="utf-8")))
    assert profile.num_rows == len(rows) == 2 * 2 + 2
    assert profile.estimate("gemm", m=4, n=16, k=32).time_s == pytest.approx(1e-5)


@pytest.mark.parametrize("tables", [STANDARD, QUICK], ids=["standard", "quick"])
def test_every_shape_that_is_measured_has_the_sizes_of_its_operation(tables):
    assert {operation for operation, _ in KERNELS} == set(tables)
    for operation, sizes in tables.items():
        shapes = list(grid(operation, sizes))
        assert shapes
        needed = set(OPERATIONS[operation].fields) - set(OPERATIONS[operation].optional)
        assert all(needed <= set(shape) <= set(OPERATIONS[operation].fields) for shape in shapes)


def test_pytorch_on_the_cpu_measures_every_kernel_that_it_has(tmp_path):
    torch = pytest.importorskip("torch", exc_type=ImportError)
    from device.measure import timer_of

    rows = list(measure(torch, "cpu", TINY, timer_of(torch, "cpu"), note=lambda text: None, weights=((16, 32),)))
    assert {"gemm", "attention_backward", "norm", "amax"} <= {row["operation"] for row in rows}
    write_profile(rows, tmp_path / "cpu.csv", "a test")
