"""Scenarios of kind serving from text to JSON: metrics, checks, refusals."""

import json

import numpy as np
import pytest

import sim
from sim.cli.run import run_command
from sim.errors import InvalidValueError
from sim.results.serving import ServedRequests, ServingSteps, check_serving, metrics_of_serving
from sim.run.simulate import simulate_scenario
from sim.scenario.scenario import Scenario
from workloads.collectives.settings import ALL_TO_ALLS

DENSE = {
    "cluster": {"preset": "dgx-h100", "num_nodes": 1, "gpus_per_node_used": 1},
    "model": {"layers": 4, "hidden": 1024, "heads": 8, "kv_heads": 2, "ffn": 4096, "gated": True, "vocab": 32000},
    "parallel": {"tp": 1},
}
DRAWN = {"arrival": "poisson", "rate": "50/s", "count": 40, "input": {"tokens": 512}, "output": {"tokens": 16}}
MOE = {"experts": 8, "top_k": 2, "ffn": 1024}


def scenario_of(requests=None, *, model=None, parallel=None, gpus=1, sections=None, **workload):
    raw = {
        **(sections or {}),
        **DENSE,
        "cluster": {**DENSE["cluster"], "gpus_per_node_used": gpus},
        "model": {**DENSE["model"], **(model or {})},
        "parallel": parallel or DENSE["parallel"],
        "workload": {"kind": "serving", "requests": requests or DRAWN, **workload},
    }
    return Scenario.validated(raw)


def run(*args, **kwargs):
    return simulate_scenario(scenario_of(*args, **kwargs))


def refusal(*args, **kwargs):
    with pytest.raises(InvalidValueError) as caught:
        run(*args, **kwargs)
    return str(caught.value)


def test_a_run_says_what_users_wait_for_and_its_parts_sum_to_the_whole():
    simulated = run(slo={"ttft": "1 s", "tpot": "1 s"})
    metrics = simulated.metrics
    assert metrics["num_requests"] == 40
    assert metrics["ttft_mean_s"] < metrics["e2e_latency_mean_s"]
    assert metrics["goodput_requests_per_s"] == pytest.approx(40 / metrics["step_time_s"])
    assert sum(simulated.path_ns.values()) == round(metrics["step_time_s"] * 1e9)
    assert [row["id"] for row in simulated.requests] == [str(n) for n in range(40)]


@pytest.mark.parametrize("policy", ["vllm", "sglang"])
@pytest.mark.parametrize(
    ("model", "parallel", "gpus", "exchange"),
    [
        ({}, {"tp": 2}, 2, None),
        ({}, {"dp": 2}, 2, None),
        ({}, {"pp": 2}, 2, None),
        (MOE, {"tp": 2, "ep": 2}, 2, None),
        (MOE, {"dp": 4, "ep": 4}, 4, "all_gather"),
        (MOE, {"dp": 4, "ep": 4}, 4, "all_to_all"),
        (MOE, {"tp": 2, "dp": 2, "ep": 4}, 4, "all_to_all"),
        (MOE, {"dp": 2, "ep": 1, "etp": 2}, 2, None),
    ],
)
def test_every_mesh_serves_under_both_policies_and_passes_its_checks(policy, model, parallel, gpus, exchange):
    server = {"policy": policy, "kv_blocks": 80 if policy == "vllm" else 1300}
    server |= {"exchange": exchange} if exchange else {}
    metrics = run(model=model, parallel=parallel, gpus=gpus, server=server).metrics
    assert metrics["num_gpus"] == gpus
    assert metrics["itl_mean_s"] > 0


@pytest.mark.parametrize(
    ("model", "parallel", "gpus", "exchange"),
    [
        ({}, {"tp": 2}, 2, None),
        ({}, {"pp": 2}, 2, None),
        (MOE, {"dp": 4, "ep": 4}, 4, "all_gather"),
        (MOE, {"dp": 4, "ep": 4}, 4, "all_to_all"),
        (MOE, {"tp": 2, "dp": 2, "ep": 4}, 4, "all_gather"),
    ],
)
def test_steps_by_class_take_what_steps_take_that_the_engine_runs(model, parallel, gpus, exchange):
    """Within 1 %: classes interpolate, and a class of tokens stands for draws of layers and steps."""
    requests = {"concurrency": 12, "count": 24, "input": {"kind": "uniform", "least": 300, "most": 900}}
    requests |= {"output": {"kind": "uniform", "least": 6, "most": 18}}
    server = {"exchange": exchange} if exchange else {}
    fast, full = (
        run(requests, model=model, parallel=parallel, gpus=gpus, server={**server, "step_times": kind}).metrics
        for kind in ("classes", "full")
    )
    for metric in ("ttft_mean_s", "tpot_mean_s", "e2e_latency_mean_s"):
        assert fast[metric] == pytest.approx(full[metric], rel=0.01)


def test_more_requests_at_a_time_make_more_tokens_a_second_and_each_user_waits_longer():
    closed = {"count": 60, "input": {"tokens": 256}, "output": {"tokens": 24}}
    few, many = (run({**closed, "concurrency": n}).metrics for n in (2, 20))
    assert many["output_tokens_per_s"] > 2 * few["output_tokens_per_s"]
    assert many["tokens_per_s_per_user"] < few["tokens_per_s_per_user"]


@pytest.mark.parametrize("name", [*ALL_TO_ALLS])
def test_every_all_to_all_carries_tokens_between_data_parallel_ranks(name):
    """Over two nodes, where a token that relays carry crosses once."""
    raw = scenario_of(
        {**DRAWN, "count": 8}, model={**MOE, "experts": 16}, parallel={"dp": 16, "ep": 16}, gpus=8
    ).raw | {"network": {"all_to_all": name}}
    raw["cluster"] = {"preset": "dgx-h100", "num_nodes": 2}
    simulated = simulate_scenario(Scenario.validated(raw))
    assert simulated.path_ns["ep_dispatch"] > 0
    assert simulated.path_ns["ep_combine"] > 0


def test_a_cache_in_fp8_holds_twice_as_many_blocks_and_is_read_in_less_time():
    requests = {**DRAWN, "count": 20, "input": {"tokens": 20000}}
    wide, narrow = (run(requests, server={"kv_cache_dtype": dtype}).metrics for dtype in ("auto", "fp8"))
    assert narrow["kv_blocks"] == pytest.approx(2 * wide["kv_blocks"], abs=2)
    assert narrow["tpot_mean_s"] < wide["tpot_mean_s"]


def test_a_shared_prefix_is_computed_once():
    metrics = run({**DRAWN, "rate": "2/s", "shared_prefix": 256}).metrics
    assert metrics["prefix_hit_fraction"] == pytest.approx(39 * 256 / (40 * 512))


def test_a_closed_loop_sends_ten_times_its_concurrency_and_a_length_may_be_a_number():
    simulated = run({"concurrency": 4, "input": 100, "output": 5})
    assert simulated.metrics["num_requests"] == 40
    assert {row["input_tokens"] for row in simulated.requests} == {100}
    assert "workload.requests.count" in {item.key for item in simulated.assumptions}


def test_a_server_that_gets_more_than_it_can_do_falls_behind():
    often = {**DRAWN, "rate": "20000/s", "count": 400}
    assert run(server={"max_num_seqs": 4}, requests=often).metrics["is_stable"] is False
    assert run({**DRAWN, "count": 200}).metrics["is_stable"] is True


def test_a_run_is_json_without_nan_and_repeats_itself():
    result = [sim.simulate(scenario_of({**DRAWN, "output": {"tokens": 1}})).to_dict() for _ in range(2)]
    texts = [json.dumps({**one, "engine": None}, allow_nan=False) for one in result]
    assert texts[0] == texts[1]
    assert result[0]["requests"][0]["tpot_s"] is None


DRIFT = {"routing": {"kind": "drift", "skew": 1.5}}
EPLB = {"kind": "eplb", "replicas": 4, "window": 1}


def test_plans_of_experts_age_with_the_loads_that_they_were_made_of():
    """Popularity drifts: a plan of the moment is better than one of the beginning, and that is better than none."""
    parallel, requests = {"dp": 4, "ep": 4}, {"concurrency": 1024, "count": 1024, "input": 8, "output": 60}
    model, server = {**MOE, "layers": 2, "experts": 12, "ffn": 8192}, {"routing_steps": 10}
    tpot_s = [
        run(
            requests, model=model, parallel=parallel, gpus=4, server=server, sections={**DRIFT, "placement": placement}
        ).metrics["tpot_mean_s"]
        for placement in ({"kind": "contiguous"}, EPLB, {**EPLB, "every": 1})
    ]
    assert tpot_s[0] > tpot_s[1] > tpot_s[2]


def test_replicas_of_experts_leave_less_memory_for_keys_and_values():
    parallel = {"dp": 4, "ep": 4}
    none, four = (
        run(model=MOE, parallel=parallel, gpus=4, sections={"placement": {"kind": "eplb", "replicas": n}}).metrics
        for n in (0, 4)
    )
    assert four["kv_blocks"] < none["kv_blocks"]


def test_halves_of_a_batch_hide_exchanges_where_batches_are_large():
    parallel, requests = {"dp": 16, "ep": 16}, {"concurrency": 64, "count": 64, "input": 2048, "output": 2}
    model = {**MOE, "experts": 16, "top_k": 8, "ffn": 256}
    server = {"exchange": "all_to_all", "max_num_batched_tokens": 4096}
    cluster = {"cluster": {"preset": "dgx-h100", "num_nodes": 2}}

    def ttft_s(**more):
        raw = scenario_of(requests, model=model, parallel=parallel, gpus=8, server={**server, **more}).raw | cluster
        return simulate_scenario(Scenario.validated(raw)).metrics["ttft_mean_s"]

    assert ttft_s(two_batch_overlap={}) < 0.95 * ttft_s()
    assert ttft_s(two_batch_overlap={"prefill_tokens": 8192}) == ttft_s()


def test_drafts_make_tokens_faster_as_far_as_they_are_kept_and_cost_time_where_none_is():
    requests = {"concurrency": 4, "count": 16, "input": 64, "output": 60}
    plain, kept, lost = (
        run(requests, server={"speculation": spec} if spec else {}).metrics["tpot_mean_s"]
        for spec in (None, *({"num_tokens": 3, "acceptance_length": length} for length in (3.5, 1.0)))
    )
    assert kept < plain < lost


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (
            {"server": {"speculation": {"num_tokens": 1, "acceptance_length": 2.5}}},
            "must be at most 1 + num_tokens = 2",
        ),
        (
            {"server": {"speculation": {"num_tokens": 1, "acceptance_length": 1.5}, "step_times": "full"}},
            "workload.server.speculation must be left out with workload.server.step_times: full",
        ),
        (
            {"server": {"two_batch_overlap": {}}},
            "two_batch_overlap must be left out where data-parallel ranks exchange",
        ),
        ({"server": {"receive_interval": 30}}, "receive_interval must be 1 with policy vllm"),
        ({"server": {"routing_steps": 30}}, "routing_steps must be left out of a dense model"),
        ({"sections": {"placement": {"kind": "random"}}}, "placement must be left out of a dense model"),
        (
            {"model": MOE, "sections": {"placement": {"kind": "eplb", "moves": True}}},
            "placement.moves must be false with workload.kind serving",
        ),
        (
            {
                "model": MOE,
                "parallel": {"dp": 2, "ep": 2},
                "gpus": 2,
                "sections": {"placement": {"kind": "eplb", "replicas": 1}},
            },
            "placement.replicas must give all EP = 2 ranks equally many of 9 slots",
        ),
        (
            {"model": MOE, "sections": {"routing": {"capacity_factor": 1.25}}},
            "routing.capacity_factor must be left out with workload.kind serving",
        ),
        ({"requests": {**DRAWN, "concurrency": 4}}, "workload.requests.concurrency must be left out with arrival"),
        ({"requests": {"arrival": "poisson", "rate": "5/s", "count": 4}}, "workload.requests.input must be given"),
        ({"requests": {**DRAWN, "rate": "fast"}}, "must be requests a second or minute"),
        ({"requests": {**DRAWN, "input": {"kind": "uniform"}}}, "workload.requests.input.most must be given"),
        ({"requests": {"trace": "a.txt"}}, "workload.requests.trace must end in .jsonl or .csv"),
        ({"server": {"kv_blocks": 3}}, "must hold the 527 tokens of request 0"),
        ({"server": {"gpu_memory_utilization": 0.005}}, "must leave memory for a KV block"),
        ({"parallel": {"tp": 1, "convention": "megatron"}}, "parallel.convention must be vllm"),
        ({"parallel": {"tp": 1, "cp": 2}, "gpus": 2}, "parallel.cp must be 1"),
        ({"parallel": {"tp": 1, "pp": 2, "stage_layers": [1]}, "gpus": 2}, "parallel.stage_layers must give 2 counts"),
        (
            {"parallel": {"dp": 2, "ep": 2}, "model": {**MOE, "experts": 3}, "gpus": 2},
            "parallel.ep must divide experts",
        ),
        ({"slo": {}}, "workload.slo.ttft must be given, or tpot, or latency"),
        ({"model": {"layer_types": ["linear_attention", "full_attention"]}}, "model"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(what, words):
    assert words in refusal(**what)


def test_sections_that_mean_nothing_to_a_server_are_refused():
    raw = {**scenario_of().raw, "jitter": {"pass_cv": "1 %"}}
    with pytest.raises(InvalidValueError, match=r"jitter must be left out with workload.kind serving"):
        Scenario.validated(raw)


def test_metrics_of_two_requests_by_hand():
    served = ServedRequests(
        arrival_ns=np.array([0, 10]),
        scheduled_ns=np.array([0, 20]),
        first_ns=np.array([20, 40]),
        end_ns=np.array([40, 100]),
        prompt_tokens=np.array([5, 5]),
        output_tokens=np.array([3, 1]),
        cached_tokens=np.array([0, 0]),
        rank=np.array([0, 0]),
        num_preemptions=np.array([0, 0]),
    )
    columns = dict.fromkeys(
        ("group", "num_prefill_tokens", "num_decodes", "num_running", "num_waiting", "blocks_used", "largest_batch"),
        np.array([0, 0]),
    )
    steps = ServingSteps(
        start_ns=np.array([0, 20]),
        end_ns=np.array([20, 40]),
        **columns,
        token_gaps_ns={10: 3, 30: 1},
        num_computed=12,
        num_blocks=4,
        max_blocks_used=1,
        blocks_left=[4],
        num_preemptions=0,
    )
    metrics = metrics_of_serving(served, steps, num_gpus=2, slo_s={"ttft": 25e-9})
    assert metrics["ttft_mean_s"] == pytest.approx(25e-9)
    assert metrics["tpot_mean_s"] == pytest.approx(10e-9)
    assert metrics["itl_p50_s"] == pytest.approx(10e-9)
    assert metrics["itl_p90_s"] == pytest.approx((10 + 0.7 * 20) * 1e-9)
    assert metrics["goodput_requests_per_s"] == pytest.approx(1e7)
    assert metrics["output_tokens_per_s_per_gpu"] == pytest.approx(2e7)
    assert check_serving(served, steps, is_fcfs=True, is_decode=False) == []


def test_the_folder_has_result_steps_and_picture(tmp_path, capsys):
    path = tmp_path / "scenario.json"
    path.write_text(json.dumps(scenario_of(slo={"ttft": "1 s"}).raw), encoding="utf-8")
    out = tmp_path / "out"
    assert run_command(str(path), as_json=False, out=str(out), check=False) == 0
    assert {file.name for file in out.iterdir()} == {"result.json", "serving.png", "steps.npz"}
    printed = capsys.readouterr().out
    assert "time to first token" in printed
    assert "keeps up" in printed


def test_claims_are_judged_by_what_users_see():
    claims = [
        {"id": "fast", "says": "fast", "source": "text", "metric": "ttft_p99_s", "expect": "<= 1 us"},
        {"id": "all", "says": "all", "source": "text", "metric": "num_requests", "expect": "== 40"},
    ]
    result = sim.simulate(Scenario.validated({**scenario_of().raw, "claims": claims}))
    assert [verdict.verdict for verdict in result.claims] == ["refuted", "holds"]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("qwen3_30b_h100", ["workload.requests.count=40"]),
        ("deepseek_v3_decode_dp64", ["workload.requests.count=40"]),
        ("document_decode", ["workload.requests.count=96", "workload.requests.concurrency=64"]),
    ],
)
def test_bundled_servers_serve(name, changes):
    result = sim.simulate(name, overrides=changes)
    assert result.metrics["num_requests"] >= 20
    if name == "document_decode":
        verdicts = {verdict.claim.id: verdict.verdict for verdict in result.claims}
        assert verdicts == dict.fromkeys(("decode-throughput", "decode-in-flight"), "refuted") | {
            "decode-latency": "holds"
        }


def test_latent_attention_is_priced_for_prompts_and_decodes_in_one_batch():
    mla = {"kv_heads": 8, "q_lora_rank": 512, "kv_lora_rank": 128, "qk_nope_head_dim": 64}
    mla |= {"qk_rope_head_dim": 32, "v_head_dim": 64}
    short, long = (run({**DRAWN, "input": {"tokens": tokens}}, model=mla).metrics for tokens in (256, 2048))
    assert short["ttft_mean_s"] < long["ttft_mean_s"]
    assert short["tpot_mean_s"] < long["tpot_mean_s"]


def test_a_window_makes_decodes_of_long_contexts_cheaper():
    requests = {**DRAWN, "count": 20, "input": {"tokens": 30000}}
    whole, window = (run(requests, model=model).metrics for model in ({}, {"sliding_window": 512}))
    assert window["tpot_mean_s"] < whole["tpot_mean_s"]
