"""The key `profile` of a scenario: which measured kernels price a run."""

import pytest

from sim.build.build import build
from sim.errors import InvalidValueError
from sim.scenario.load import load_scenario
from sim.studies.claims import simulate

SCENARIO = """
cluster: {preset: dgx-h100, num_nodes: 1}
model: {layers: 2, hidden: 1024, heads: 16, ffn: 4096, vocab: 50304}
parallel: {strategy: TP1_PP1_DP8, convention: megatron}
workload: {kind: forward, sequences: 8, sequence_length: 1024}
"""


@pytest.fixture
def scenario(tmp_path):
    (tmp_path / "s.yaml").write_text(SCENARIO, encoding="utf-8")
    (tmp_path / "slow.csv").write_text(
        "operation,format,m,n,k,time_us\ngemm,bf16,1024,4096,1024,1000\n", encoding="utf-8"
    )
    (tmp_path / "bad.csv").write_text(
        "operation,format,m,n,k,time_us\n\ngemm,bf16,1024,4096,x,1000\n", encoding="utf-8"
    )
    return str(tmp_path / "s.yaml")


def profile_assumption(result) -> str:
    return next((row["value"] for row in result.to_dict()["assumptions"] if row["key"] == "profile"), "given")


def test_a_file_replaces_the_bundled_profile_and_a_slow_one_makes_the_run_slow(scenario):
    bundled, slow = simulate(scenario), simulate(scenario, overrides=["profile=slow.csv"])
    assert slow.to_dict()["metrics"]["step_time_s"] > 5 * bundled.to_dict()["metrics"]["step_time_s"]
    assert "measured kernels" in profile_assumption(bundled) and profile_assumption(slow) == "given"
    assert any(text.startswith("profile: ") for text in slow.to_dict()["warnings"])


def test_a_file_that_an_argument_names_may_be_anywhere(scenario, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "slow.csv").rename(elsewhere / "mine.csv")
    for change in (f"profile={elsewhere / 'mine.csv'}", "profile=mine.csv"):
        monkeypatch.chdir(elsewhere)
        assert build(load_scenario(scenario, overrides=[change])).work.profile.num_rows == 1


def test_none_is_the_closed_form_and_so_is_a_device_with_figures_of_its_own(scenario):
    assert build(load_scenario(scenario, overrides=["profile=none"])).work.profile is None
    built = build(load_scenario(scenario, overrides=["cluster.device.gemm_efficiency=0.5"]))
    assert built.work.profile is None
    assert next(row.value for row in built.assumptions if row.key == "profile") == "none"


@pytest.mark.parametrize(("dtype", "kernel"), [("fp32", "te"), ("bf16", "te_bf16_grad")])
def test_gradients_of_weights_are_those_of_the_type_of_their_sum(scenario, dtype, kernel):
    changes = ["cluster.preset=dgx-b200", "workload.kind=training", f"workload.gradient_dtype={dtype}"]
    profile = build(load_scenario(scenario, overrides=changes)).work.profile
    for operation in ("gemm_weight_gradient", "grouped_gemm_weight_gradient"):
        assert profile.kernels(operation)[0] == kernel


def test_another_memory_leaves_the_profile_as_it_is(scenario):
    assert build(load_scenario(scenario, overrides=["cluster.device.memory=64 GB"])).work.profile is not None


def test_runs_are_priced_by_the_kernels_that_their_software_calls(scenario):
    blackwell = ["cluster.preset=dgx-b200"]
    training = build(load_scenario(scenario, overrides=["workload.kind=training", *blackwell])).work
    assert training.profile.kernels("gemm")[0] == "te"
    assert build(load_scenario(scenario, overrides=blackwell)).work.profile.kernels("gemm")[0] == "trtllm"
    assert build(load_scenario(scenario)).work.profile.kernels("gemm")[0] == "pytorch"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("profile=bad.csv", "bad.csv:3: k must be a number above 0"),
        ("profile=missing.csv", "profile must exist"),
        ("profile=..", "profile must be"),
    ],
)
def test_a_file_that_is_no_profile_is_refused_with_its_place(scenario, change, words):
    with pytest.raises(InvalidValueError) as error:
        build(load_scenario(scenario, overrides=[change]))
    assert words in str(error.value)


def test_passes_of_given_times_have_no_kernels_to_price():
    with pytest.raises(InvalidValueError, match=r"profile must be left out with workload\.kind passes"):
        load_scenario("validation/schedules/zero_bubble_1p5b", overrides=["profile=none"])
