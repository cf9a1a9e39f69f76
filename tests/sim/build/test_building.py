"""From scenario to work: assumptions, rivals, and what the sections say together."""

import pytest

from sim.build.build import build
from sim.errors import InvalidValueError
from sim.results.catalog import CATALOG
from sim.run.simulate import simulate_scenario
from sim.scenario.load import load_scenario, load_scenario_text
from sim.studies.claims import simulate
from sim.studies.variants import suit_rival

SMALL = """
cluster: {preset: dgx-h100, num_nodes: 2}
model: {layers: 4, hidden: 256, heads: 8, ffn: 512, experts: 16, top_k: 2, vocab: 1024}
parallel: {strategy: EP4_TP2_PP2_DP4}
workload: {kind: training, sequences: 16, sequence_length: 128, microbatches: 4}
"""


def test_what_a_scenario_leaves_open_is_filled_in_and_named() -> None:
    """Each assumption has a key, a value and a reason."""
    assumed = {item.key: item for item in build(load_scenario_text(SMALL)).assumptions}
    assert {"parallel.convention", "parallel.sp", "routing.kind", "schedule.kind", "model.dtype"} <= set(assumed)
    assert assumed["parallel.sp"].value is True
    assert all(item.why for item in assumed.values())
    given = load_scenario_text(SMALL, overrides=["routing.kind=balanced", "parallel.sp=true"])
    assert not {"routing.kind", "parallel.sp"} & {item.key for item in build(given).assumptions}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (("schedule.recompute=selective",), "Recomputing core_attn frees no memory: fused attention keeps no scores."),
        (
            ("schedule.recompute=selective", "schedule.recompute_modules=[mlp, moe_act]"),
            "Recomputing mlp frees no memory: this model has none.",
        ),
        (("parallel.strategy=EP8_TP8_PP2_DP1", "parallel.zero=3"), "parallel.zero: 3 splits nothing"),
    ],
)
def test_an_option_that_changes_nothing_here_is_a_warning(changes, says) -> None:
    """And one that does is none."""
    warnings = build(load_scenario_text(SMALL, overrides=changes)).warnings
    assert sum("nothing" in line or "frees no" in line for line in warnings) == 1
    assert any(line.startswith(says) for line in warnings)
    assert build(load_scenario_text(SMALL, overrides=["parallel.zero=3"])).warnings == []


@pytest.mark.parametrize(("replicas", "offered"), [(10, 16), (6, 8), (2, 4), (1, 4)])
def test_replicas_that_fill_no_whole_ranks_are_answered_with_the_nearest_number_and_0_last(replicas, offered) -> None:
    """No replicas at all are not what someone wants who asks for some."""
    ep = 16 if replicas == 10 else 4
    changes = [f"parallel.strategy=EP{ep}_TP1_PP1_DP16", "placement.kind=eplb", f"placement.replicas={replicas}"]
    with pytest.raises(InvalidValueError) as refusal:
        build(load_scenario_text(SMALL, overrides=changes))
    assert refusal.value.field == "placement.replicas"
    assert refusal.value.hint.startswith(f"Use placement.replicas: {offered}")


def test_a_stage_may_hold_no_layers() -> None:
    """The embedding and the head stand alone; their stages take less time than the two between."""
    text = SMALL.replace("EP4_TP2_PP2_DP4", "EP4_TP1_PP4_DP4, stage_layers: [0, 2, 2, 0]")
    metrics = simulate_scenario(load_scenario_text(text)).metrics
    assert metrics["num_params"] == simulate_scenario(load_scenario_text(SMALL)).metrics["num_params"]
    assert metrics["stage_compute_max_over_mean"] > 1.2


def test_a_mesh_smaller_than_the_cluster_is_an_assumption_below_a_node_and_refused_above() -> None:
    """64 of 72 GPUs may be used; one of two nodes may not stay dark unsaid."""
    domain = load_scenario(
        "ep64_tp16_pp4", overrides=["cluster.preset=gb200-nvl72", "cluster.num_nodes=1", "claims=[]", "rivals=[]"]
    )
    assert "8 of 72 GPUs stay unused" in {item.why for item in build(domain).assumptions}
    with pytest.raises(InvalidValueError, match=r"leaves 8 of 16 GPUs unused, a node or more"):
        build(load_scenario_text(SMALL, overrides=["parallel.strategy=EP4_TP2_PP2_DP2"]))


def test_a_rival_by_name_takes_a_legal_convention_and_microbatches_that_fit() -> None:
    """DP64 leaves two sequences to a replica, so two microbatches."""
    scenario = load_scenario("ep64_tp16_pp4")
    position = scenario.spec.rivals.index("EP64_TP1_PP1_DP64")
    rival, name = suit_rival(scenario, position)
    assert rival.spec.parallel.convention == "megatron"
    assert rival.spec.workload.microbatches == 2
    assert name == "EP64_TP1_PP1_DP64 (convention megatron, microbatches 2)"


def test_an_illegal_rival_is_refused_with_its_line() -> None:
    """Before anything runs."""
    text = SMALL + (
        "rivals: [EP4_TP2_PP3]\nclaims: [{id: a, says: b, source: c, metric: step_time_s, superlative: least}]\n"
    )
    with pytest.raises(InvalidValueError, match=r"mine.yaml:6: rivals.0 .*PP = 2 x 1 x 3 = 6 does not divide 16"):
        simulate(load_scenario_text(text, file="mine.yaml"))


def test_axes_one_by_one_equal_the_name() -> None:
    """Keys and name are two ways to say one mesh."""
    by_name = build(load_scenario_text(SMALL)).work.mesh
    keys = SMALL.replace("strategy: EP4_TP2_PP2_DP4", "tp: 2, pp: 2, ep: 4, dp: 4")
    assert (build(load_scenario_text(keys)).work.mesh.ranks == by_name.ranks).all()


@pytest.mark.parametrize(
    ("key", "value", "field"),
    [
        ("cluster.nic_bandwidth", "100 Gb/s", "nic"),
        ("cluster.nvlink_bandwidth", "100 GB/s", "nvlink"),
    ],
)
def test_an_overridden_bandwidth_reaches_the_links(key: str, value: str, field: str) -> None:
    """And a slower link never makes the step faster here, where nothing else changes."""
    slow = load_scenario_text(SMALL, overrides=[f"{key}={value}"])
    links = getattr(build(slow).work.cluster.links.spec, field)
    assert links.bandwidth_bytes_per_s in (12.5e9, 100e9)
    base = simulate_scenario(load_scenario_text(SMALL))
    assert simulate_scenario(slow).metrics["step_time_s"] >= base.metrics["step_time_s"]


@pytest.mark.parametrize(
    ("change", "metric", "sign"),
    [
        ("cluster.device.memory_bandwidth=1 TB/s", "step_time_s", 1),
        ("cluster.device.peak_bf16=100 TFLOP/s", "step_time_s", 1),
        ("cluster.device.kernel_overhead=20 us", "step_time_s", 1),
        ("schedule.recompute=full", "step_time_s", 1),
        ("schedule.recompute=full", "activations", -1),
        ("parallel.zero=1", "optimizer", -1),
        ("schedule.kind=gpipe", "activations", 1),
        ("model.gated=true", "num_params", 1),
        ("model.shared_experts=1", "num_active_params", 1),
        ("model.dense_layers=2", "num_params", -1),
    ],
)
def test_an_option_moves_the_figure_that_it_is_for(change: str, metric: str, sign: int) -> None:
    """No option is ignored."""
    bare = "runtime.preset=ideal"  # of so small a model a host hides the kernels
    base = simulate_scenario(load_scenario_text(SMALL, overrides=[bare])).values[metric]
    there = simulate_scenario(load_scenario_text(SMALL, overrides=[bare, change])).values[metric]
    assert (there - base) * sign > 0


@pytest.mark.parametrize("schedule", ["1f1b", "gpipe"])
def test_given_pass_times_make_the_closed_form(schedule: str) -> None:
    """`kind: passes`: p 4, m 8, F 1 ms, B + W 2 ms: 3 of 11 slots are idle."""
    text = (
        "parallel: {pp: 4}\n"
        "workload: {kind: passes, microbatches: 8, pass_times: {F: 1 ms, B: 1 ms, W: 1 ms}}\n"
        f"schedule: {{kind: {schedule}}}\n"
    )
    metrics = simulate(load_scenario_text(text)).metrics
    assert metrics["bubble_fraction"] == pytest.approx(3 / 11, abs=1e-12)
    assert metrics["step_time_s"] == 0.033
    assert metrics["bubble_fraction_published_form"] == pytest.approx(3 / 11, abs=1e-12)


def test_every_name_of_the_catalogue_has_a_value_in_a_run() -> None:
    """What a claim may name, a run can answer (the exchange is probed where requested), or one of the other kinds."""
    values = simulate_scenario(load_scenario_text(SMALL), wanted=frozenset({"blocking_exchange_completes"})).values
    others = [set(simulate_scenario(load_scenario_text(text)).values) for text in (ALL_REDUCE, HELD, SERVED)]
    assert set(CATALOG) <= set(values).union(*others)


ALL_REDUCE = """
cluster: {preset: dgx-h100, num_nodes: 1}
workload: {kind: collective, op: all_reduce, num_ranks: 8, bytes: 1 MiB}
"""
HELD = """
parallel: {pp: 2}
workload: {kind: passes, microbatches: 2, pass_times: {F: 1 ms, B: 2 ms}, held: {B: 1 GB, W: 0.4 GB}}
"""
SERVED = """
cluster: {preset: dgx-h100, num_nodes: 1, gpus_per_node_used: 1}
model: {layers: 4, hidden: 1024, heads: 8, ffn: 4096, vocab: 32000}
parallel: {tp: 1}
workload:
  kind: serving
  requests: {arrival: poisson, rate: 50/s, count: 10, input: {tokens: 512}, output: {tokens: 16}}
  slo: {ttft: 1 s}
"""
DENSE = """
cluster: {preset: dgx-h100, num_nodes: 2}
model: {layers: 4, hidden: 256, heads: 8, ffn: 512, vocab: 1024}
parallel: {strategy: TP8_PP2, convention: vllm}
workload: {kind: forward, sequences: 8, sequence_length: 128, microbatches: 4}
"""


def test_a_dense_model_is_served_by_vllm_without_experts() -> None:
    """EP names nothing there, so that EP = TP x DP asks for nothing."""
    assert build(load_scenario_text(DENSE)).work.mesh.world == 16
    with pytest.raises(InvalidValueError, match=r"parallel.convention must be megatron or vllm for a dense model"):
        build(load_scenario_text(DENSE, overrides=["parallel.convention=spanning"]))


def test_names_near_a_strategy_without_sp_name_it_where_it_is_needed() -> None:
    """Otherwise the suggestion would be refused again."""
    with pytest.raises(InvalidValueError, match=r"Nearest legal: EP4_TP2_PP2_SP"):
        build(load_scenario_text(SMALL, overrides=["parallel.sp=false"]))


def test_a_rival_that_does_not_fit_wins_nothing() -> None:
    """Whether the scenario itself fits or not."""
    text = SMALL + (
        "rivals: [EP8_TP1_PP1_DP16]\nclaims: [{id: a, says: b, source: c, metric: step_time_s, superlative: least}]\n"
    )
    for memory in ("1 MB", "64 GB"):
        claim = simulate(load_scenario_text(text, overrides=[f"cluster.device.memory={memory}"])).claims[0]
        assert (claim.verdict == "not_judged") == (memory == "1 MB")


def test_nothing_is_wired_for_a_strategy_that_is_illegal(monkeypatch):
    """32,768 GPUs have more than a million links."""

    def wire(*_, **__):
        raise AssertionError("the cluster was wired")

    monkeypatch.setattr("topology.cluster.build_graph", wire)
    changes = ["cluster.num_nodes=4096", "parallel.strategy=EP5_TP3_PP7"]
    with pytest.raises(
        InvalidValueError, match=r"EP5_TP3_PP7\. Nearest legal: EP4_TP4_PP8 with workload.sequences: 16384, EP4_TP2_PP8"
    ):
        build(load_scenario("ep16_tp16_pp4", overrides=changes))


def test_an_example_of_stage_layers_is_given_for_few_stages_only():
    """One of 7,000 numbers helps nobody."""
    changes = ["cluster.num_nodes=875", "parallel.strategy=TP1_PP7000_EP1", "model.layers=8000"]
    with pytest.raises(InvalidValueError, match="Give the layers of each stage") as refused:
        build(load_scenario("ep16_tp16_pp4", overrides=changes))
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("changes", "least", "most"),
    [
        (["cluster.fabric=switch"], 0.5, 1.0),
        (["cluster.fabric={kind: rail_optimised, oversubscription: 8}"], 1.0, 8.0),
        (["cluster.fabric={kind: torus, shape: [2, 1]}"], 0.5, 8.0),
        (["cluster.degraded=[{nic: 0.3, gone: true}]"], 1.0, 4.0),
        (["cluster.degraded=[{link: 'nic0.3<->leaf0.3', bandwidth: 25%}]"], 1.0, 4.0),
        (["cluster.degraded=[{gpu: 5, speed: 50%}]"], 1.0, 2.0),
    ],
)
def test_another_fabric_or_a_degraded_one_changes_the_step(changes, least, most) -> None:
    """Worse parts never help, and not by more than they are worse."""
    base, changed = (
        simulate_scenario(load_scenario_text(SMALL, overrides=more)).metrics["step_time_s"] for more in ([], changes)
    )
    assert least <= changed / base <= most


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            "cluster.degraded=[{nic: 0.9, gone: true}]",
            r"cluster.degraded.0.nic must name a NIC .* Known are 0\.0",
        ),
        (
            "cluster.degraded=[" + ", ".join(f"{{nic: '1.{i}', gone: true}}" for i in range(8)) + "]",
            "cluster.degraded must leave every GPU a way .* got GPUs 0 to 7 without a way to GPUs 8 to 15",
        ),
        ("cluster.fabric={kind: torus, shape: [3, 2]}", r"cluster.fabric.shape .* = 2, got \[3, 2\]"),
        (
            "cluster.fabric={kind: fat_tree, oversubscription: 0.5}",
            "cluster.fabric.oversubscription must be at least 1",
        ),
    ],
)
def test_a_cluster_that_cannot_be_is_refused_with_its_key(changes, message) -> None:
    """Before anything runs."""
    with pytest.raises(InvalidValueError, match=message):
        build(load_scenario_text(SMALL, overrides=[changes]))


def test_a_nic_of_a_node_of_72_is_named_in_quotes() -> None:
    """0.1 and 0.10 are one number and two NICs."""
    rack = ["cluster.preset=gb200-nvl72", "parallel.strategy=EP16_TP1_PP2_DP72"]
    with pytest.raises(InvalidValueError, match=r"cluster.degraded.0.nic must be in quotes on a node of 72 NICs"):
        build(load_scenario_text(SMALL, overrides=[*rack, "cluster.degraded=[{nic: 0.10, gone: true}]"]))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["routing.max_nodes_per_token=1"], None),
        (["routing.max_nodes_per_token=1", "placement.kind=eplb", "placement.groups=2"], None),
        (
            ["routing.max_nodes_per_token=2"],
            "limits nothing: a group with all experts is on 2 of them, and a token takes 2",
        ),
        (["routing.max_nodes_per_token=1", "model.top_k=1"], "and a token takes 1 experts."),
        (
            ["routing.max_nodes_per_token=1", "placement.kind=random"],
            "random may spread a token's experts over more nodes",
        ),
    ],
)
def test_a_limit_of_nodes_that_does_not_what_it_says_is_told(changes, words):
    """Where it binds nothing, or where experts do not stand where it means."""
    text = """
cluster: {preset: dgx-h100, num_nodes: 2}
model: {layers: 2, hidden: 1024, heads: 16, ffn: 1024, experts: 16, top_k: 2, vocab: 1000}
parallel: {strategy: EP16_TP1_PP1_DP16}
workload: {kind: forward, sequences: 16, sequence_length: 128}
"""
    warned = [line for line in build(load_scenario_text(text, overrides=changes)).warnings if "EP16" not in line]
    assert [words in line for line in warned] == ([] if words is None else [True])
