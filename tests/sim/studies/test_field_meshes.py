"""Public reports of meshes, memory and models, with the answers that their authors got: what the program says."""

import re

import numpy as np
import pytest

from sim.build.build import build
from sim.cli.describe import explain_strategy
from sim.errors import InvalidValueError, SimulationError
from sim.plan.expert_routing import placed_experts
from sim.run.conservation import check_expert_tokens
from sim.run.simulate import simulate_scenario
from sim.scenario.load import load_scenario, load_scenario_text
from topology.presets.devices import DEVICES

SPANNING = """
cluster: {preset: dgx-h100, num_nodes: 2}
model: {layers: 4, hidden: 256, heads: 8, ffn: 512, experts: 16, top_k: 2, vocab: 1024}
parallel: {strategy: EP16_TP4_PP2_DP2, convention: spanning}
workload: {kind: forward, sequences: 16, sequence_length: 128, microbatches: 4}
routing: {kind: balanced}
"""


def run(text, *changes):
    return simulate_scenario(load_scenario_text(text, overrides=list(changes)))


# --- numbers that people compare ------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["1f1b", "gpipe"])
@pytest.mark.parametrize("light", [0, 1, 3])
def test_the_published_form_of_the_bubble_is_that_of_the_stages_that_set_the_pace(schedule, light):
    """3 stages of 3 ms and a light one in any place: (cost - 32 x 3) / cost, 7.2 % where the light one is first."""
    times = [("1 ms", "2 ms")] * 4
    times[light] = ("0.5 ms", "1 ms")
    listed = ", ".join(f"{{F: {forward}, B: {backward}}}" for forward, backward in times)
    text = f"parallel: {{pp: 4}}\nworkload: {{kind: passes, microbatches: 32, pass_times: [{listed}]}}\n"
    metrics = run(text, f"schedule.kind={schedule}").metrics
    cost_ms = 32 * 3 + 3 + 3 + 1.5
    assert metrics["bubble_fraction_published_form"] == pytest.approx(1 - 96 / cost_ms, abs=0.015)
    if light == 0:
        assert metrics["bubble_fraction_published_form"] == pytest.approx(0.0725, abs=1e-4)
    assert metrics["bubble_fraction"] > 0.15


# --- what a GPU has -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "least_gib", "most_gib"),
    [
        ("a100-sxm-40gb", 39.3, 39.6),
        ("a100-sxm-80gb", 79.1, 79.3),
        ("h100-sxm", 79.1, 79.2),
        ("h200-sxm", 139.7, 139.9),
        ("b200-sxm", 178, 180),
        ("gb200", 184, 186),
        ("mi300x", 191.5, 192),
        ("l40s", 44.3, 44.6),
        ("mi250x-gcd", 63.9, 64),
        ("ascend-910b", 60.9, 61.3),
    ],
)
def test_the_capacity_of_a_device_is_what_pytorch_prints(device, least_gib, most_gib):
    """The totals of out-of-memory messages, which differ by driver; each with its source."""
    found = DEVICES[device]
    assert least_gib <= found.memory_bytes / 2**30 <= most_gib
    assert found.memory_source


def test_a_capacity_without_source_is_listed_among_the_assumptions():
    """An H800's is taken from the H100; a capacity that the scenario gives is not assumed."""
    text = SPANNING.replace("preset: dgx-h100", "preset: h800")
    assumed = {item.key: item.value for item in run(text).assumptions}
    assert assumed["cluster.device.memory"] == "84.94 GB"
    assert "memory.reserved" in assumed
    given = {item.key for item in run(text, "cluster.device.memory=64 GB").assumptions}
    assert "cluster.device.memory" not in given
    assert run(text, "cluster.device.memory=64 GB").memory["capacity_bytes"] == 64e9


def test_what_is_reserved_is_named_and_counts():
    """A run fits where its peak and what is reserved are at most the capacity; the peak leaves reserved bytes out."""
    memory = run(SPANNING).memory
    reserved, peak = memory["reserved_bytes"], memory["peak_bytes_per_gpu"]
    assert reserved["total"] == reserved["context"] + reserved["communicators"] > 0.5e9
    assert peak["total"] == sum(size for part, size in peak.items() if part != "total")
    need = peak["total"] + reserved["total"]
    assert run(SPANNING, f"cluster.device.memory={need} B").memory["fits"]
    assert not run(SPANNING, f"cluster.device.memory={need - 1} B").memory["fits"]


@pytest.mark.slow
def test_llama3_70b_as_the_vendor_ships_it_fits_into_an_h100():
    """TP4 PP8 VPP5 DP2 with the distributed optimizer: 82.07 GB of 84.9 GB."""
    text = """
cluster: {preset: dgx-h100, num_nodes: 8}
model: {preset: llama3-70b}
parallel: {tp: 4, pp: 8, vpp: 5, dp: 2, zero: 1}
workload: {kind: training, sequences: 128, sequence_length: 8192, microbatches: 64}
schedule: {kind: interleaved}
"""
    memory = run(text).memory
    assert memory["fits"]
    assert memory["capacity_bytes"] == pytest.approx(84.9e9, rel=1e-3)
    assert memory["peak_bytes_per_gpu"]["total"] == pytest.approx(82.07e9, rel=1e-3)


# --- experts and replicas in slots ------------------------------------------------------------------------------------

SLOTS = """
cluster: {preset: dgx-h100, num_nodes: 1}
model: {layers: 3, dense_layers: 1, hidden: 256, heads: 8, ffn: 512, experts: 5, top_k: 2, vocab: 1024}
parallel: {strategy: EP8_TP1_PP1_DP8, convention: vllm}
workload: {kind: forward, sequences: 16, sequence_length: 128, microbatches: 2}
"""


@pytest.mark.parametrize("kind", ["contiguous", "greedy", "eplb"])
@pytest.mark.parametrize("workload", ["forward", "training"])
def test_ep_divides_experts_and_replicas(kind, workload):
    """5 experts and 3 replicas on EP8: one slot on each rank, tokens conserved, and their weights counted."""
    changes = ["parallel.convention=megatron", f"workload.kind={workload}", f"placement.kind={kind}"]
    ran = run(SLOTS, "placement.replicas=3", *changes)
    assert ran.run.tokens_routed == ran.run.tokens_computed == 16 * 128 * 2 * 2
    assert ran.mesh["experts_per_gpu"] == 1
    more = run(SLOTS, "placement.replicas=11", *changes)
    one_expert = 2 * 256 * 512
    assert more.metrics["num_params_per_gpu"] - ran.metrics["num_params_per_gpu"] == 2 * one_expert


def test_ep_that_divides_neither_names_the_replicas_that_are_missing():
    """And what it names runs."""
    with pytest.raises(
        InvalidValueError, match=r"parallel.ep must divide experts = 5, or experts \+ placement.replicas"
    ) as said:
        run(SLOTS)
    assert "Use placement.replicas: 3" in said.value.hint
    with pytest.raises(InvalidValueError, match=r"equally many of 9 slots, 5 experts and 4 replicas, got 4") as said:
        run(SLOTS, "placement.replicas=4")
    assert said.value.hint.startswith("Use placement.replicas: 3, ")


@pytest.mark.parametrize(
    "experts",
    [
        "[0, 1, 2, 3, 4, 0, 1, 0]",
        "[[0, 1, 2, 3, 4, 0, 1, 0]]",
        "[[0, 1, 2, 3, 4, 0, 1, 0], [4, 3, 2, 1, 0, 4, 4, 4]]",
        "[[0, 0, 0, 0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 0, 1, 0], [4, 3, 2, 1, 0, 4, 4, 4]]",
        "[[0], [1], [2], [3], [4], [0], [1], [0]]",
    ],
    ids=["slots", "one list", "a list for each layer with experts", "a list for each layer", "a list for each rank"],
)
def test_slots_are_given_as_vllm_and_sglang_write_them(experts):
    """`physical_to_logical_map`: the logical expert in each physical slot, [slots] or [layers][slots]."""
    text = SLOTS + f"placement: {{kind: explicit, experts: {experts}}}\n"
    ran = run(text)
    assert ran.run.tokens_routed == ran.run.tokens_computed
    assert ran.mesh["experts_per_gpu"] == 1
    work = build(load_scenario_text(text)).work
    assert work.placement.replicas == 3
    if experts.count("[") == 3:
        assert [placed_experts(work, 0, layer).ravel().tolist()[:2] for layer in (1, 2)] == [[0, 1], [4, 3]]


@pytest.mark.parametrize(
    ("experts", "says"),
    [
        ("[0, 1, 2, 3, 4, 0, 1]", "equally many of 7 slots"),
        ("[0, 1, 2, 3, 3, 0, 1, 0]", "each at least once, 8 slots in all"),
        ("[[0, 1, 2, 3, 4, 0, 1, 0], [0, 1, 2, 3, 4, 0, 1, 0], [0], [0]]", "each at least once"),
        ("[[0], [1], [2], [3], [4]]", "each at least once"),
    ],
)
def test_slots_that_leave_an_expert_out_are_refused(experts, says):
    """Ranks hold equally many slots, and every expert has one."""
    with pytest.raises(InvalidValueError, match=says):
        run(SLOTS + f"placement: {{kind: explicit, experts: {experts}}}\n")


@pytest.mark.slow
@pytest.mark.parametrize(("ep", "replicas"), [(320, 64), (144, 32)])
def test_deepseek_v3s_own_decode_deployment_runs(ep, replicas):
    """256 experts and 64 replicas on EP320, one a rank; 32 on EP144, two a rank."""
    text = f"""
cluster: {{preset: h800, num_nodes: {ep // 8}}}
model: {{layers: 4, hidden: 7168, heads: 128, kv_heads: 1, head_dim: 128, ffn: 2048, dense_ffn: 18432, dense_layers: 1,
  gated: true, experts: 256, shared_experts: 1, top_k: 8, vocab: 129280, dtype: fp8}}
parallel: {{convention: vllm, tp: 4, dp: {ep // 4}, ep: {ep}, pp: 1}}
workload: {{kind: forward, sequences: {ep // 4 * 128}, sequence_length: 1}}
placement: {{kind: eplb, replicas: {replicas}}}
"""
    ran = run(text)
    assert ran.mesh["experts_per_gpu"] == (256 + replicas) // ep
    assert ran.run.tokens_routed == ran.run.tokens_computed


# --- memory of experts that serve all stages ------------------------------------------------------------------------


def test_the_documents_run_holds_3_26_gb():
    """Working tensors of the experts are divided by the 64 hosts of all stages: 152 MB and not 608 MB."""
    memory = simulate_scenario(load_scenario("ep64_tp16_pp4", overrides=["claims=[]", "rivals=[]"])).memory
    assert memory["peak_bytes_per_gpu"]["total"] == pytest.approx(3.26e9, abs=5e6)


def test_experts_of_all_stages_keep_what_all_stages_have_in_flight():
    """1F1B on two stages: two microbatches and one in flight, of two layers each, copies over all 16 GPUs."""
    memory = run(SPANNING, "workload.kind=training").memory
    tokens, per_copy = 16 * 128 // 4, 2 * (256 + 2 * 512)
    assert memory["peak_bytes_per_gpu"]["expert_activations"] == 3 * 2 * tokens * 2 * per_copy / 16


@pytest.mark.parametrize("kind", ["forward", "training"])
def test_a_hot_expert_makes_a_gpu_hold_no_more_copies_than_exist(kind):
    """One expert takes half of all copies: its GPU has all tokens of a microbatch, and no more."""
    hot = ("routing.kind=hot_expert", "routing.skew=0.5", f"workload.kind={kind}")
    peak = run(SPANNING, *hot).memory["peak_bytes_per_gpu"]
    tokens, per_copy = 16 * 128 // 4, 2 * (256 + 2 * 512)
    if kind == "forward":
        assert peak["activations"] <= tokens // 2 * (2 * 2 * 256 + per_copy + 2 * 256)
    else:
        assert peak["expert_activations"] <= 3 * 2 * tokens * per_copy


def test_memory_that_counts_more_tokens_than_exist_stops_the_run():
    """The law is checked on every run, and names stage, lane and microbatch."""
    rows = {(1, 0): {(5, 0): np.array([3, 1])}}
    check_expert_tokens(rows, {(1, 0): {(5, 0): 4}}, [[0.0], [2.0]], num_padded=0)
    with pytest.raises(
        SimulationError, match=r"memory counts 8 copies of tokens of microbatch 5 on the 2 hosts of stage 1"
    ):
        check_expert_tokens(rows, {(1, 0): {(5, 0): 4}}, [[0.0], [4.0]], num_padded=0)
    with pytest.raises(SimulationError, match=r"4 copies .* are computed, and 2 exist"):
        check_expert_tokens(rows, {(1, 0): {(5, 0): 2}}, [[0.0], [1.0]], num_padded=0)
    check_expert_tokens(rows, {(1, 0): {(5, 0): 2}}, [[0.0], [1.0]], num_padded=2)


# --- meshes in other words, and hints that lead out -----------------------------------------------------------------


def refusal(text, *changes):
    with pytest.raises(InvalidValueError) as said:
        build(load_scenario_text(text, overrides=list(changes)))
    return said.value


DENSE = """
cluster: {preset: dgx-h100, num_nodes: 2}
model: {layers: 32, hidden: 4096, heads: 32, ffn: 14336, gated: true, vocab: 32000}
parallel: {pp: 4, tp: 1, dp: 1}
workload: {kind: training, sequences: 16, sequence_length: 4096, microbatches: 16}
"""
SERVED = """
cluster: {preset: dgx-h100, num_nodes: 2}
model: {preset: qwen3-30b-a3b}
parallel: {convention: vllm, tp: 16, dp: 16, ep: 16}
workload: {kind: forward, sequences: 64, sequence_length: 2048}
"""


@pytest.mark.parametrize(("dp", "right"), [(1, 4), (2, 4), (8, 4)])
def test_a_dp_that_is_wrong_is_named_and_the_nearest_name_is_not_the_refused_one(dp, right):
    """And what the nearest name needs next to it stands with it."""
    hint = refusal(DENSE, f"parallel.dp={dp}").hint
    assert hint.startswith(f"DP{dp} is what is wrong: write DP{right}, or leave DP out. Nearest legal: EP1_TP1_PP4_DP4")
    assert "EP1_TP1_PP4," not in hint


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ((), "SGLang's `--tp 16 --dp 16 --enable-dp-attention` is TP1_DP16_EP16 here"),
        (("parallel.dp=4",), "`--tp 16 --dp 4 --enable-dp-attention` is TP4_DP4_EP16 here"),
        (("parallel.tp=8", "parallel.dp=8", "parallel.ep=8", "cluster.num_nodes=1"), "is TP1_DP8_EP8 here"),
        (("parallel.dp=1", "parallel.ep=4"), "SGLang's `--ep-size 4` on 16 GPUs of a stage slices each expert over 4"),
        (("parallel.dp=1", "parallel.ep=1"), "Serving without `--enable-expert-parallel` on 16 GPUs"),
        (("parallel.tp=4", "parallel.dp=4", "parallel.ep=8"), "SGLang's `--ep-size 8` on 16 GPUs of a stage"),
    ],
)
def test_the_ways_of_sglang_and_vllm_to_say_a_mesh_are_recognised(changes, says):
    """Their TP counts the GPUs of a stage, and EP below it slices experts."""
    assert says in refusal(SERVED, *changes).hint


def test_a_mesh_with_every_axis_is_legal_and_runs():
    """Field case 22: TP2 CP4 EP8 PP2 DP4 on 64 GPUs, of a small model here."""
    megatron = explain_strategy("TP2_CP4_EP8_PP2_DP4", num_gpus=64, gpus_per_node=8)["conventions"]["megatron"]
    assert (megatron["legal"], megatron["runs"]) == (True, True)
    assert megatron["mesh"]["CP group"] == "4 GPUs inside a node, the first is 0, 2, 4, 6"


def test_the_etp_that_was_taken_and_what_megatrons_default_makes_of_it_are_printed():
    """ETP = TP: 8 x 16 x 4 = 512 does not fit 64 GPUs."""
    entry = explain_strategy("EP16_TP8_PP4", num_gpus=64, gpus_per_node=8)["conventions"]["megatron"]
    assert "ETP1" in entry["mesh"]["axes"]
    assert "ETP = TP = 8: ETP x EP x PP = 8 x 16 x 4 = 512 does not divide" in entry["assumed_etp"]
    assert "--expert-tensor-parallel-size 1" in entry["assumed_etp"]
    named = explain_strategy("EP16_TP8_PP4_ETP1", num_gpus=64, gpus_per_node=8)["conventions"]["megatron"]
    assert "assumed_etp" not in named
    text = SERVED.replace("convention: vllm, tp: 16, dp: 16, ep: 16", "tp: 8, ep: 1, pp: 1, dp: 2")
    assumed = {item.key: item for item in build(load_scenario_text(text)).assumptions}
    assert assumed["parallel.etp"].value == 1
    assert "legal too: it slices each expert over 8 GPUs" in assumed["parallel.etp"].why
    given = build(load_scenario_text(text, overrides=["parallel.etp=1"])).assumptions
    assert "parallel.etp" not in {item.key for item in given}


RACKS = """
cluster: {preset: gb200-nvl72, num_nodes: 4}
model: {preset: qwen3-30b-a3b}
parallel: {ep: 64}
workload: {kind: forward, sequences: 2304, sequence_length: 512}
"""


def test_groups_that_do_not_divide_a_rack_name_the_gpus_to_use_of_it():
    """EP64 in racks of 72 leaves 8 of each unused; EP16 would lie across racks in 2 of 18 groups: at 64 and at 208."""
    assert "EP64_TP1_PP1 with cluster.gpus_per_node_used: 64 of 72" in refusal(RACKS).hint
    used = build(load_scenario_text(RACKS, overrides=["cluster.gpus_per_node_used=64", "workload.sequences=256"]))
    assert not any("leaves a node" in line for line in used.warnings)
    warnings = build(load_scenario_text(RACKS, overrides=["parallel.ep=16"])).warnings
    (straddling,) = (line for line in warnings if "leaves a node" in line)
    assert straddling.startswith("EP16 leaves a node of 72 GPUs in 2 of the 18 groups of a stage: ")
    assert straddling.endswith(": cluster.gpus_per_node_used: 64 keeps each in one.")


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("EP4_TP16", "EP4_TP16_PP1_ETP4"),
        ("EP1_TP16", "EP1_TP16_PP1_ETP16"),
        ("EP4_TP16_DP16", "EP4_TP1_PP1_DP16_ETP4"),
        ("EP8_TP4_DP4", "EP8_TP4_PP1_DP4_ETP2"),
    ],
)
def test_slices_of_experts_in_the_words_of_sglang_are_named_first_and_run(name, ours):
    """`--tp 16 --ep-size 4`, no EP at all, both with attention over DP, and a mesh that leaves ETP out."""
    text = SERVED.replace("tp: 16, dp: 16, ep: 16", f"strategy: {name}")
    assert f"Nearest legal: {ours}" in refusal(text).hint
    assert build(load_scenario_text(text, overrides=[f"parallel.strategy={ours}"])).work.mesh.strategy.name == ours


def test_what_a_forward_pass_cannot_say_is_named():
    """A context of decode, a forward pass of one token, and a model's sizes without its latent attention."""
    with pytest.raises(InvalidValueError, match="Decode with a context of earlier tokens belongs to `kind: serving`"):
        load_scenario_text(SERVED + "", overrides=["workload.context=4096"])
    with pytest.raises(InvalidValueError, match="Decode with a context"):
        load_scenario_text(SERVED.replace("sequences: 64", "sequences: 64, context: 4096"))
    mesh = ["parallel.tp=1", "parallel.dp=16"]
    one_token = build(load_scenario_text(SERVED, overrides=[*mesh, "workload.sequence_length=1"])).warnings
    assert any("decode with a context belongs to workload.kind serving" in line for line in one_token)
    sizes = ["hidden: 7168, heads: 128, experts: 256, ffn: 2048, top_k: 8, layers: 2, vocab: 1000, head_dim: 128"]
    text = SERVED.replace("preset: qwen3-30b-a3b", sizes[0])
    warnings = build(load_scenario_text(text, overrides=mesh)).warnings
    assert any("the sizes of deepseek-v3 and not its kv_lora_rank" in line for line in warnings)


AXES = SPANNING.replace("strategy: EP16_TP4_PP2_DP2, convention: spanning", "tp: 1")
HINT = re.compile(r"(?:Use|Nearest legal:|Give for example) (.+)\.$")
NAME = re.compile(r"(?:(\w+\.\w+): (\S+?)|(EP\w+))(?: \(without \w+\))?(?: with (\w+\.\w+): (\d+))?(?:, |$)")


def drawn_changes(seed):
    """Return sizes of a mesh and its work, of which few go together."""
    rng = np.random.default_rng(seed)

    def pick(*values):
        return values[int(rng.integers(len(values)))]

    return {
        "parallel.convention": pick("megatron", "vllm", "spanning"),
        **{f"parallel.{axis}": int(pick(1, 2, 3, 4, 8, 16)) for axis in ("tp", "pp", "ep")},
        **({"parallel.dp": int(pick(1, 2, 4))} if rng.integers(2) else {}),
        **({"parallel.cp": 2} if rng.integers(4) == 0 else {}),
        "workload.sequences": int(pick(16, 24, 48)),
        "workload.microbatches": int(pick(1, 3, 4)),
        "model.experts": int(pick(6, 16, 64)),
        "model.layers": int(pick(6, 8)),
    }


@pytest.mark.parametrize("block", range(4))
def test_what_a_hint_suggests_builds(block):
    """Of 120 drawn scenarios most are refused; each name of a hint, applied with what stands next to it, is not."""
    followed = 0
    for seed in range(30 * block, 30 * block + 30):
        scenario = load_scenario_text(AXES).variant(drawn_changes(seed))
        try:
            build(scenario)
        except InvalidValueError as error:
            found = HINT.search(error.hint)
            if found is None or ", and then: " in error.hint or "[" in found[1]:
                continue
            for key, value, name, further, amount in NAME.findall(found[1]):
                changes = {key: int(value)} if key else {"parallel.strategy": name}
                build(scenario.variant({**changes, **({further: int(amount)} if further else {})}))
                followed += 1
    assert followed > 20


def test_explain_and_run_say_the_same_of_a_mesh():
    """Drawn strategies: what `explain` calls illegal, or not built, is what refuses the run, in the same words."""
    base = load_scenario_text(AXES.replace("tp: 1", "strategy: TP1"), overrides=["workload.sequences=64"])
    rng = np.random.default_rng(1)
    to_see = {True: 30, False: 12}  # a refusal tries its hints, and is slow
    while max(to_see.values()) > 0:
        ep, tp, pp, etp, cp = rng.choice([1, 2, 4], 4).tolist() + rng.choice([1, 1, 1, 2], 1).tolist()
        name = f"EP{ep}_TP{tp}_PP{pp}_ETP{etp}_CP{cp}"
        for convention, entry in explain_strategy(name, num_gpus=16, gpus_per_node=8)["conventions"].items():
            runs = entry["legal"] and entry["runs"]
            to_see[runs] -= 1
            if to_see[runs] < 0:
                continue
            try:
                build(base.variant({"parallel.strategy": name, "parallel.convention": convention}))
                refused = None
            except InvalidValueError as error:
                refused = error
            assert (refused is None) == runs, (name, convention, refused)
            if not entry["legal"]:
                assert entry["why"] in str(refused)
            elif not runs:
                assert refused.field == "parallel.cp"
