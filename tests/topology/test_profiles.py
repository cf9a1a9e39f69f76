"""Measured profiles: what the interpolation must do whatever was measured, and what a profile file may hold."""

from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest

from sim.errors import InvalidValueError
from topology.presets.devices import DEVICES
from topology.profiles import DeviceProfile, busiest_rank, kernel_time, parse_profile
from topology.profiles.bundled import MEASURED_ON, PROFILES, bundled_profile, measured_rows
from topology.profiles.busiest_rank import _draw
from topology.profiles.formats import FORMATS
from topology.profiles.operations import BACKWARD_SLOWDOWN, OPERATIONS, WEIGHT_GRADIENT_SLOWDOWN, roofline_s
from topology.profiles.table import MeasuredTable

H100 = DEVICES["h100-sxm"]
SIZES = np.array([[m, n, k] for m in (64, 512, 4096) for n in (1024, 4096, 8192) for k in (1024, 8192)], dtype=float).T
SHAPES = dict(zip("mnk", SIZES, strict=True))
BETWEEN = {"m": np.array([100.0, 3000.0]), "n": np.array([2048.0, 6144.0]), "k": np.array([2048.0, 4096.0])}
OUTSIDE = {"m": np.array([16384.0]), "n": np.array([4096.0]), "k": np.array([4096.0])}


def _table(time_s: np.ndarray) -> MeasuredTable:
    return MeasuredTable("gemm", "bf16", SHAPES, time_s, H100)


def _roofline_s(shapes: dict[str, np.ndarray]) -> np.ndarray:
    return roofline_s("gemm", "bf16", shapes, H100)


@pytest.mark.parametrize("shapes", [BETWEEN, OUTSIDE], ids=["between", "outside"])
def test_a_device_that_is_twice_as_slow_as_its_roofline_everywhere_is_so_on_every_shape(shapes):
    slowdown, _ = _table(2 * _roofline_s(SHAPES)).slowdown(shapes)
    assert slowdown == pytest.approx(2.0, rel=1e-9)


def test_the_estimate_at_a_measured_shape_is_near_what_was_measured_and_between_its_neighbours():
    wobble = np.where(SHAPES["m"] > 100, 1.5, 2.5)
    slowdown, _ = _table(wobble * _roofline_s(SHAPES)).slowdown(SHAPES)
    assert slowdown == pytest.approx(wobble, rel=0.03)
    between, _ = _table(wobble * _roofline_s(SHAPES)).slowdown(BETWEEN)
    assert ((between >= 1.5) & (between <= 2.5)).all()


def test_times_in_another_unit_give_estimates_in_that_unit():
    time_s = _roofline_s(SHAPES) * (1 + SHAPES["n"] / 1e4)
    once, _ = _table(time_s).slowdown(BETWEEN)
    thrice, _ = _table(3 * time_s).slowdown(BETWEEN)
    assert thrice == pytest.approx(3 * once, rel=1e-9)


def test_the_order_of_the_measured_rows_does_not_matter():
    time_s = _roofline_s(SHAPES) * (1 + SHAPES["n"] / 1e4)
    back = MeasuredTable("gemm", "bf16", {name: sizes[::-1] for name, sizes in SHAPES.items()}, time_s[::-1], H100)
    assert back.slowdown(BETWEEN)[0] == pytest.approx(_table(time_s).slowdown(BETWEEN)[0], rel=1e-9)


def test_shapes_outside_of_the_measured_range_and_far_from_all_points_are_extrapolated():
    table = _table(_roofline_s(SHAPES))
    assert not table.slowdown(BETWEEN)[1].any()
    assert table.slowdown(OUTSIDE)[1].all()
    ends = {name: np.array([1.0, 1e6]) * (1.0 if name == "m" else 1024.0) for name in "mnk"}
    middle = {"m": np.array([1e3]), "n": np.array([32 * 1024.0]), "k": np.array([32 * 1024.0])}
    assert MeasuredTable("gemm", "bf16", ends, _roofline_s(ends), H100).slowdown(middle)[1].all()


def test_outside_of_the_range_the_efficiency_is_that_of_the_rim():
    time_s = _roofline_s(SHAPES) * np.where(SHAPES["m"] > 1000, 1.25, 4.0)
    far = {"m": np.array([4096.0 * 2**10]), "n": np.array([4096.0]), "k": np.array([8192.0])}
    assert _table(time_s).slowdown(far)[0] == pytest.approx(1.25, rel=0.02)


# ---- profiles ----------------------------------------------------------------------------------------------------


def _profile(text: str) -> DeviceProfile:
    return DeviceProfile(H100, parse_profile(text))


@pytest.mark.parametrize(("fmt", "slowdown"), [("bf16", WEIGHT_GRADIENT_SLOWDOWN), ("fp8_block", 1.7)])
def test_a_weight_gradient_that_was_not_measured_is_slower_than_the_forward_product(fmt, slowdown):
    """By what SimuMax measured in bf16, and what DeepSeek's trace shows of fp8 with scales of blocks."""
    profile = _profile(f"operation,format,m,n,k,time_us\ngemm,{fmt},4096,8192,8192,788\n")
    shape = {"m": 4096, "n": 8192, "k": 8192}
    forward, gradient = (profile.estimate(name, fmt, **shape) for name in ("gemm", "gemm_weight_gradient"))
    arrays = {name: np.array([float(size)]) for name, size in shape.items()}
    roofs = [roofline_s(name, fmt, arrays, H100)[0] for name in ("gemm", "gemm_weight_gradient")]
    assert gradient.time_s / forward.time_s == pytest.approx(slowdown * roofs[1] / roofs[0])
    assert gradient.operation == "gemm"


def test_a_number_gives_a_number_and_an_array_an_array_of_the_same_times():
    profile = _profile("operation,format,m,n,k,time_us\ngemm,bf16,4096,8192,8192,788\n")
    one = profile.estimate("gemm", m=4096, n=8192, k=8192)
    assert one.time_s == pytest.approx(788e-6) and one.extrapolated is False
    both = profile.estimate("gemm", m=[4096, 8192], n=8192, k=8192)
    assert both.time_s[0] == pytest.approx(one.time_s) and both.extrapolated.tolist() == [False, True]


def test_an_operation_without_points_borrows_the_slowdown_of_the_one_it_falls_back_to():
    profile = _profile(
        "operation,format,batch,heads,length,head_dim,time_us\nattention_forward,bf16,1,32,4096,128,300\n"
    )
    shape = {"batch": 1, "heads": 32, "length": 4096, "head_dim": 128}
    forward, backward = (profile.estimate(f"attention_{which}", **shape) for which in ("forward", "backward"))
    complete = OPERATIONS["attention_forward"].complete(shape)
    roofs = [roofline_s(f"attention_{which}", "bf16", complete, H100)[0] for which in ("forward", "backward")]
    assert backward.time_s / forward.time_s == pytest.approx(roofs[1] / roofs[0] * BACKWARD_SLOWDOWN)
    assert backward.operation == "attention_forward"
    assert profile.estimate("gemm", m=1, n=1, k=1) is None


def test_the_first_kernel_of_the_file_answers_unless_another_is_preferred_or_asked_for():
    text = "operation,format,kernel,m,n,k,time_us\ngemm,bf16,fast,64,64,64,5\ngemm,bf16,slow,64,64,64,9\n"
    size = {"m": 64, "n": 64, "k": 64}
    assert _profile(text).estimate("gemm", **size).time_s == pytest.approx(5e-6)
    assert _profile(text).estimate("gemm", kernel="SLOW", **size).time_s == pytest.approx(9e-6)
    assert DeviceProfile(H100, parse_profile(text), preferred=("slow",)).estimate("gemm", **size).kernel == "slow"


def test_a_profile_borrows_from_another_device_the_slowdown_and_not_the_time():
    rows = parse_profile("operation,format,rows,width,time_us\nnorm,bf16,65536,8192,1000\n")
    owner, device = DEVICES["h100-sxm"], DEVICES["h200-sxm"]
    shape = {"rows": 65536, "width": 8192}
    borrowed = DeviceProfile(device, [], borrowed=[(owner, rows)]).estimate("norm", **shape)
    complete = OPERATIONS["norm"].complete(shape)
    expected = 1e-3 * roofline_s("norm", "bf16", complete, device) / roofline_s("norm", "bf16", complete, owner)
    assert borrowed.time_s == pytest.approx(expected[0])


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", None, "have a measured row"),
        ("operation,format,time_us\n", None, "have a measured row"),
        ("operation,format,time_us,speed\n", 1, "speed"),
        ("operation,format,format,time_us\n", 1, "stand once"),
        ("operation,format,m\n", 1, "column time_us must be given"),
        ("operation,format,m,n,k,time_us\n# why\ngem,bf16,1,1,1,1\n", 3, "Did you mean `gemm`"),
        ("operation,format,m,n,k,time_us\ngemm,bf17,1,1,1,1\n", 2, "bf17"),
        ("operation,format,m,n,k,time_us\ngemm,bf16,1,1,1\n", 2, "have 6 cells"),
        ("operation,format,m,n,k,time_us\ngemm,bf16,1,,1,1\n", 2, "n must be a number above 0"),
        ("operation,format,m,n,time_us\ngemm,bf16,1,1,1\n", 2, "k must be a number above 0"),
        ("operation,format,m,n,k,time_us\ngemm,bf16,1,1,1,0\n", 2, "time_us must be a number above 0"),
        ("operation,format,m,n,k,time_us\ngemm,bf16,1,1,1,nan\n", 2, "time_us must be a number above 0"),
        ("operation,format,m,n,k,rows,time_us\ngemm,bf16,1,1,1,1,1\n", 2, "rows must stay empty"),
        (
            "operation,format,batch,heads,length,head_dim,causal,time_us\nattention_forward,bf16,1,1,1,1,2,1\n",
            2,
            "causal must be 0 or 1",
        ),
    ],
)
def test_a_profile_that_cannot_be_read_is_refused_with_its_line(text, line, words):
    with pytest.raises(InvalidValueError) as error:
        parse_profile(text, "mine.csv")
    assert error.value.line == line and words in str(error.value)


# ---- bundled profiles --------------------------------------------------------------------------------------------


def test_bundled_files_are_small_and_state_source_and_licence_of_every_row():
    folder = files("topology.profiles").joinpath("data")
    texts = {entry.name: entry.read_text(encoding="utf-8") for entry in folder.iterdir()}
    assert sorted(texts) == sorted(f"{name}.csv" for name in MEASURED_ON)
    assert sum(map(len, texts.values())) < 2_000_000
    for name, text in texts.items():
        lines = text.splitlines()
        head = " ".join(line for line in lines if line.startswith("#"))
        sources = {line.rpartition(",")[2] for line in lines if not line.startswith("#")} - {"source"}
        assert all(f"{source}: " in head for source in sources), name


@pytest.mark.parametrize(("name", "device"), MEASURED_ON.items())
def test_each_bundled_profile_answers_for_the_shapes_that_were_measured(name, device):
    profile = bundled_profile(DEVICES[device])
    for rows in measured_rows(name):
        estimate = profile.estimate(rows.operation, rows.format, kernel=rows.kernel, **rows.shapes)
        assert not estimate.extrapolated.any()
        assert np.median(np.abs(estimate.time_s / rows.time_s - 1)) < 0.12, (rows.operation, rows.kernel)


def test_every_device_with_a_profile_is_measured_itself_or_has_the_chip_of_one_that_is():
    for device, names in PROFILES.items():
        profile = bundled_profile(DEVICES[device])
        assert set(names) <= set(MEASURED_ON)
        assert profile.num_rows >= sum(len(rows.time_s) for rows in measured_rows(names[0]))


def test_a_device_with_more_power_is_faster_at_what_it_borrows():
    shape = {"batch": 1, "heads": 128, "kv_heads": 128, "length": 4096, "head_dim": 192, "value_dim": 128}
    slow, fast = (kernel_time(device, "attention_backward", **shape) for device in ("a100-pcie-80gb", "a100-sxm-80gb"))
    assert slow.kernel == fast.kernel == "te"
    assert slow.time_s / fast.time_s == pytest.approx(271.2 / 252.9, rel=1e-3)


def test_twice_the_bandwidth_or_peak_halves_what_is_bound_by_it_and_a_constant_of_the_closed_form_ends_the_profile():
    faster = replace(H100, memory_bandwidth_bytes_per_s=6.7e12, peak_bf16_flops_per_s=1978e12)
    norm, product = {"rows": 4096, "width": 8192}, {"m": 4096, "n": 8192, "k": 8192}
    for operation, shape in (("norm", norm), ("gemm", product)):
        times = [bundled_profile(device).estimate(operation, **shape).time_s for device in (H100, faster)]
        assert times[0] / times[1] == pytest.approx(2.0, rel=0.1)  # launches stay
    assert bundled_profile(replace(H100, num_sms=66)) is None


def test_every_operation_and_format_of_the_vocabulary_was_measured_somewhere_or_falls_back():
    measured = {(rows.operation, rows.format) for name in MEASURED_ON for rows in measured_rows(name)}
    assert {operation for operation, _ in measured} == set(OPERATIONS)
    assert {fmt for fmt in FORMATS if FORMATS[fmt].falls_back_to is None} == {fmt for _, fmt in measured}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("mi300x", "gemm"), "These have one: a100-sxm-80gb"),
        (("h100-sxm", "gem"), "Did you mean `gemm`"),
        (("h100-sxm", "gemm", "fp4"), "format must be known"),
        (("a100-sxm-80gb", "gemm", "fp8"), "Formats that were: bf16"),
    ],
)
def test_what_was_not_measured_is_refused_by_name(arguments, words):
    with pytest.raises(InvalidValueError, match=words):
        kernel_time(*arguments, m=1, n=1, k=1)


def test_a_size_that_is_missing_or_unknown_and_a_kernel_that_was_not_measured_are_refused():
    for shape, words in (({"m": 1, "n": 1}, "k must be given"), ({"m": 1, "n": 1, "j": 1}, "j must be a size of gemm")):
        with pytest.raises(InvalidValueError, match=words):
            kernel_time("h100-sxm", "gemm", **shape)
    with pytest.raises(InvalidValueError, match="kernel must be measured"):
        kernel_time("h100-sxm", "gemm", kernel="none of them", m=1, n=1, k=1)


# ---- the busiest rank --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [0.6, 1.0, 1.01, 1.9])
@pytest.mark.parametrize("tokens", [1, 5, 100, 10_000])
def test_a_power_law_hands_out_every_pair_and_no_token_twice_to_an_expert(tokens, exponent):
    counts = _draw(np.random.default_rng(1), tokens, 64, 8, exponent)
    assert counts.sum() == 8 * tokens and counts.min() >= 0 and counts.max() <= tokens


def test_the_busiest_rank_has_more_than_the_mean_and_eplb_takes_some_of_it_away():
    skewed = busiest_rank(4096, experts=256, top_k=8, ep=32, exponent=1.2)
    balanced = busiest_rank(4096, experts=256, top_k=8, ep=32, exponent=1.2, slots=288)
    assert skewed.pairs > balanced.pairs > 4096 * 8 / 32
    assert balanced.experts == 9


def test_the_load_of_a_rank_is_a_shape_of_fused_experts():
    load = busiest_rank(4096, experts=256, top_k=8, ep=32)
    skewed = busiest_rank(4096, experts=256, top_k=8, ep=32, exponent=1.2)
    weights = {"hidden": 7168, "ffn": 2048}
    times = [kernel_time("H100-SXM", "fused_moe", "fp8_block", **rank.sizes, **weights) for rank in (load, skewed)]
    assert times[1].time_s > times[0].time_s


def test_ranks_that_do_not_divide_the_experts_are_refused():
    with pytest.raises(InvalidValueError, match="be divisible by ep = 3"):
        busiest_rank(8, experts=64, top_k=8, ep=3)
