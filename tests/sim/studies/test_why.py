"""What-ifs of a step, and the critical path in parts: by hand, and identities between runs."""

import json

import pytest

from sim.cli.why import why_command
from sim.errors import InvalidValueError
from sim.run.simulate import simulate_scenario
from sim.scenario.scenario import Scenario
from sim.studies.claims import simulate
from sim.studies.why import explain_step
from workloads.what_if import EVENED, WHAT_IFS

MODEL = {"layers": 4, "hidden": 1024, "heads": 8, "ffn": 4096, "experts": 8, "top_k": 2, "vocab": 8192}


def passes(**sections):
    """Return 1F1B of three microbatches on two stages; F 1 ms, B 2 ms, a hop 0.5 ms."""
    return Scenario.validated(
        {
            "parallel": {"pp": 2},
            "workload": {
                "kind": "passes",
                "microbatches": 3,
                "pass_times": {"F": "1 ms", "B": "2 ms", "W": "0 ms"},
                "p2p": "500 us",
            },
            "schedule": {"kind": "1f1b"},
            **sections,
        }
    )


def training(strategy="EP8_TP2_PP2_DP4", **sections):
    """Return a small training step on two nodes of A100s."""
    return Scenario.validated(
        {
            "cluster": {"preset": "dgx-a100", "num_nodes": 2},
            "model": MODEL,
            "parallel": {"strategy": strategy, "convention": "megatron"},
            "workload": {"kind": "training", "sequences": 32, "sequence_length": 1024, "microbatches": 4},
            "runtime": {"preset": "megatron-core-2025"},
            "routing": {"kind": "zipf", "skew": 1.0},
            **sections,
        }
    )


def step_ns(scenario):
    return simulate_scenario(scenario).run.trace.step_ns


@pytest.mark.parametrize(
    ("what_if", "expected_ms"),
    [
        ([], 14.0),  # (m + p - 1)(F + B) and the hops of the critical path, four of 0.5 ms
        (["free_pp"], 12.0),  # (3 + 2 - 1) * 3
        (["no_bubble"], 9.5),  # each stage runs its own 3 * (F + B); the last send, which nobody needs any more
        (["no_bubble", "free_pp"], 9.0),
    ],
)
def test_passes_by_hand(what_if, expected_ms):
    assert step_ns(passes(what_if=what_if)) == pytest.approx(expected_ms * 1e6, abs=2)


def test_free_sends_are_sends_of_no_time():
    given = passes().variant({"workload.p2p": "0 s"})
    assert step_ns(given) == step_ns(passes(what_if=["free_pp"]))


def test_without_bytes_and_latency_no_transfer_takes_time():
    scenario = training(what_if=["infinite_bandwidth", "no_latency"])
    trace = simulate_scenario(scenario).run.trace
    transfers = [kind for one in WHAT_IFS.values() for kind in one.free_kinds]
    took_ns = [int((trace.ints("end_ns") - trace.ints("start_ns"))[trace["kind"] == kind].sum()) for kind in transfers]
    assert took_ns == [0] * len(transfers)
    free = [name for name, one in WHAT_IFS.items() if one.free_kinds]
    assert step_ns(training(what_if=free)) == trace.step_ns


@pytest.mark.parametrize("name", [name for name, one in WHAT_IFS.items() if one.free_kinds])
def test_free_kinds_take_no_time_and_others_theirs(name):
    scenario = training("EP4_TP2_PP2_CP2_DP2", routing={"kind": "balanced"})
    base, free = simulate_scenario(scenario), simulate_scenario(scenario.variant({"what_if": [name]}))
    for kind in ("tp", "ep_dispatch", "ep_combine", "pp", "dp", "cp"):
        took = [
            int((one.run.trace.ints("end_ns") - one.run.trace.ints("start_ns"))[one.run.trace["kind"] == kind].sum())
            for one in (base, free)
        ]
        assert took[0] > 0
        assert (took[1] == 0) == (kind in WHAT_IFS[name].free_kinds)


def test_kernels_are_as_they_were():
    others = [name for name in WHAT_IFS if name not in EVENED]
    base, free = (simulate_scenario(training(what_if=names)).run.trace for names in ([], others))
    for kind in ("attention", "expert", "optimizer"):
        sums = [int((one.ints("end_ns") - one.ints("start_ns"))[one["kind"] == kind].sum()) for one in (base, free)]
        assert sums[0] == sums[1] > 0


def test_path_sums_to_the_step_and_gains_are_sorted():
    why = explain_step(training(cluster={"preset": "dgx-a100", "num_nodes": 2, "degraded": [{"gpu": 3, "speed": 0.5}]}))
    data = why.to_dict()
    assert sum(part["ns"] for part in data["path"]) == data["step_ns"] == sum(data["path_ns"].values())
    assert sum(part["fraction"] for part in data["path"]) == pytest.approx(1.0)
    names = {one["name"] for one in data["what_ifs"]}
    assert {"balanced", "no_stragglers", "no_host", "free_tp", "free_ep", "no_bubble", "next_nic"} <= names
    assert "free_cp" not in names  # there is no context parallelism
    gains = [one["gain_s"] for one in data["what_ifs"]]
    assert gains == sorted(gains, reverse=True)
    for one in data["what_ifs"]:
        assert one["gain_s"] == pytest.approx(data["step_time_s"] - one["step_time_s"])
    by_name = {one["name"]: one for one in data["what_ifs"]}
    assert by_name["no_stragglers"]["gain_s"] > 0


def test_each_what_if_can_be_said_with_set():
    scenario = training()
    for one in explain_step(scenario).what_ifs:
        assert step_ns(scenario.variant(one.changes)) * 1e-9 == pytest.approx(one.step_time_s)


def test_what_does_not_change_anything_is_not_tried():
    one_gpu = training(
        "EP1_TP1_PP1_DP1",
        cluster={"preset": "dgx-a100", "num_nodes": 1},
        routing={"kind": "balanced"},
        runtime={"preset": "ideal"},
    )
    assert [one.name for one in explain_step(one_gpu).what_ifs] == ["next_device"]


def with_stragglers(**sections):
    """Return a pipeline with a slow GPU, a slow NIC, jitter, and an output head on the last stage."""
    degraded = [{"gpu": 5, "speed": 0.5}, {"nic": "1.1", "bandwidth": 0.5}]
    return training(
        "TP2_PP4_DP2",
        cluster={"preset": "dgx-a100", "num_nodes": 2, "degraded": degraded},
        model={"layers": 4, "hidden": 1024, "heads": 8, "ffn": 4096, "vocab": 32000},
        jitter={"pass_cv": 0.02, "rank_spread": 0.01},
        runtime={"preset": "ideal"},
        routing={"kind": "balanced"},
        **sections,
    )


def test_each_cause_of_straggling_is_mended_alone():
    scenario = with_stragglers()
    why = explain_step(scenario)
    by_name = {one.name: one for one in why.what_ifs}
    slow_gpu, slow_nic = scenario.raw["cluster"]["degraded"]
    for name, changes in {
        "mended_gpu_5": {"cluster.degraded": [slow_nic]},
        "mended_nic_1.1": {"cluster.degraded": [slow_gpu]},
        "no_jitter": {"jitter": {}},
        "no_stragglers": {"cluster.degraded": [], "jitter": {}, "what_if": ["even_stages"]},
    }.items():
        assert by_name[name].step_time_s == pytest.approx(step_ns(scenario.variant(changes)) * 1e-9)
    data = why.to_dict()
    assert "balanced" not in by_name  # there are no experts
    whole = data["stragglers"]
    assert whole["slowdown"] == pytest.approx(data["step_time_s"] / by_name["no_stragglers"].step_time_s)
    names = {cause["name"] for cause in whole["causes"]}
    assert names == {"mended_gpu_5", "mended_nic_1.1", "no_jitter", "even_stages", "even_last_stage"}
    for cause in whole["causes"]:
        assert cause["slowdown"] == pytest.approx(data["step_time_s"] / cause["time_s"])
        assert cause["share"] == pytest.approx(cause["gain_s"] / (data["step_time_s"] - whole["time_s"]))
    assert whole["causes"][0]["share"] > 0.3


def test_stages_that_are_even_have_no_stragglers():
    why = explain_step(passes())
    assert why.to_dict()["stragglers"] is None
    assert {one.name for one in why.what_ifs} == {"no_bubble", "free_pp"}


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: training(what_if=["free_lunch"]), "be one of free_tp"),
        (
            lambda: passes(what_if=["free_tp"]),
            "be free_pp, no_bubble, even_stages or even_last_stage with workload.kind passes",
        ),
        (lambda: training(what_if=["free_tp", "free_tp"]), "list each name once"),
    ],
)
def test_refusals(make, rule):
    with pytest.raises(InvalidValueError) as raised:
        make()
    assert rule in str(raised.value)


def test_command_prints_json_and_draws(tmp_path, capsys):
    file = tmp_path / "why.svg"
    assert why_command("zero_bubble_1p5b", output=str(file), as_json=True, jobs=1) is None
    data = json.loads(capsys.readouterr().out)
    assert {one["name"] for one in data["what_ifs"]} == {"no_bubble", "free_pp"}
    text = file.read_text()
    for word in ("no bubble", "free pp", "other compute"):
        assert f"<!-- {word} -->" in text
    why_command("zero_bubble_1p5b", as_json=False, jobs=1)
    printed = capsys.readouterr().out
    assert "the step takes" in printed
    assert "no stage waited for another's output" in " ".join(printed.split())


def test_a_saved_run_shows_its_path(tmp_path, capsys):
    result = simulate(passes())
    file = tmp_path / "result.json"
    file.write_text(result.to_json(), encoding="utf-8")
    why_command(str(file), as_json=True, output=str(tmp_path / "why.svg"))
    data = json.loads(capsys.readouterr().out)
    assert data["path_ns"] == result.path_ns
    assert data["step_ns"] == result.trace.step_ns
    assert data["what_ifs"] == []
    why_command(str(file), as_json=False)
    assert "name its scenario" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(InvalidValueError, match="be left out for a saved result"):
        why_command(str(file), as_json=True, seed=2)
