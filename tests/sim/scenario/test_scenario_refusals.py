"""What a scenario file may not say: one wrong value each, and the exact message."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import InvalidValueError
from sim.scenario.load import load_scenario_text
from sim.scenario.problems import OTHER_NAMES, unknown_key_hint, valid_keys, validate
from sim.scenario.workload_section import WORKLOADS
from workloads.schedules import SCHEDULES

SIZE = 'Write a number and a unit, such as "64 GB".'

REFUSALS = [
    # what the contract's example says, what it says now, the message
    ("hidden: 1024", "hiden: 1024", "9: model.hiden must be a known key, got hiden. Did you mean `hidden`?"),
    ("\nmodel:", "\nmodle:", "7: modle must be a known key, got modle. Did you mean `model`?"),
    ("zero: 0", "qqq: 0", "25: parallel.qqq must be a known key, got qqq. Known are strategy, tp, pp, ep, etp, dp, cp, "
     "vpp, convention, sp, zero, fsdp, fsdp_shards, fsdp_reshard_after_forward, fsdp_reduce_every_microbatch, "
     "rank_order, stage_layers, layout, cp_kind, cp_sizes, exchange."),
    ("layers: 16", "layers: sixteen", '8: model.layers must be an integer of at least 1, got "sixteen". '
     "Write a number without unit, such as 1."),
    ("layers: 16", 'layers: "16"', '8: model.layers must be an integer of at least 1, got "16". '
     "Write 16, without quotes."),
    ("layers: 16", "layers: 1.6e1", "8: model.layers must be an integer of at least 1, got 16.0. "
     "Write 16, without point or exponent."),
    ("layers: 16", "layers: 1.5", "8: model.layers must be an integer of at least 1, got 1.5. "
     "Write a number without unit, such as 1."),
    ("layers: 16", "layers: 0", "8: model.layers must be an integer of at least 1, got 0. Write a larger number."),
    ("layers: 16", "layers: true", "8: model.layers must be an integer of at least 1, got true. "
     "Write a number without unit, such as 1."),
    ("layers: 16", f"layers: {10**30}", "8: model.layers must be an integer of at most 10,000, "
     "got a number of more than 30 digits. Write a smaller number."),
    ("  layers: 16\n", "", "7: model.layers must be given, got nothing. "
     "Add `layers` under `model`, or name a model.preset. Number of transformer layers."),
    ("  top_k: 2\n", "", "7: model.top_k must be given, got nothing. "
     "Add `top_k` under `model`, or name a model.preset. Number of routed experts that a token meets."),
    ("  top_k: 2\n", "  top_k: 65\n", "17: model.top_k must be at most model.experts = 64, got 65. Lower top_k."),
    ("experts: 64", "experts: 0", "17: model.top_k must be left out of a dense model, got 2. "
     "Give model.experts, or remove this key."),
    ("kv_heads: 16", "kv_heads: 3", "11: model.kv_heads must divide model.heads = 16, got 3. "
     "Each key and value head serves equally many heads."),
    ("heads: 16\n  kv_heads: 16\n  head_dim: 64", "heads: 15", "9: model.hidden must be a multiple of "
     "model.heads = 15, got 1024. Give model.head_dim, or change hidden or heads."),
    ("head_dim: 64", "heads_dim: 64", "12: model.heads_dim must be a known key, got heads_dim. "
     "Did you mean `head_dim`?"),
    ("gated: false", "gated: no", "14: model.gated must be true or false, got no. "
     "Write true or false, without quotes."),
    ("dtype: bf16", "dtype: bf17", "20: model.dtype must be one of bf16, fp16, fp8, got bf17. Did you mean `bf16`?"),
    ("memory: 64 GB", "memory: 64", f"5: cluster.device.memory must have a unit, got 64. {SIZE}"),
    ("memory: 64 GB", "memory: 64 Gb/s", "5: cluster.device.memory must be a size, got 64 Gb/s. "
     'Gb/s is a unit of a bandwidth: write for example "64 GB".'),
    ("memory: 64 GB", "memory: 0 GB", "5: cluster.device.memory must be more than 0, got 0 GB. "
     "Leave the key out to use the preset's."),
    ("memory: 64 GB", "gemm_efficiency: 85", "5: cluster.device.gemm_efficiency must be a ratio of more than 0 and "
     "at most 1, got 85. Write a number in that range."),
    ("device: {preset: h100-sxm, memory: 64 GB}", "device: 3", "5: cluster.device must be a mapping of keys, got 3. "
     "Write `key: value` lines under it."),
    ("num_nodes: 8", "num_nodes: -8", "4: cluster.num_nodes must be an integer of at least 1, got -8. "
     "Write a larger number."),
    ("  preset: dgx-h100  ", "  file: c.json  ", "3: cluster.file must end in one of .yaml, .graphml, .xml, .txt, "
     "got c.json. The suffix tells the format."),
    ("preset: dgx-h100  ", "preset: [dgx]  ", "3: cluster.preset must be a text, got [dgx]. Put it in quotes."),
    ("degraded: []", "degraded: [nic0]", "6: cluster.degraded.0 must be a mapping of keys, got nic0. "
     "Write `key: value` lines under it."),
    ("degraded: []", "degraded: [{gpu: 5, gone: true}]", "6: cluster.degraded.0.gone must be left out with gpu, "
     "got true. Of a gpu give speed."),
    ("degraded: []", "degraded: [{nic: '0.3', gpu: 5, gone: true}]", "6: cluster.degraded.0 must name one of link, nic "
     "and gpu, got nic and gpu. Write an entry for each."),
    ("degraded: []", "degraded: [{nic: '0.3'}]", "6: cluster.degraded.0 must give bandwidth or gone, one of them, "
     "got nic. Write bandwidth: 0.5, or gone: true."),
    ("degraded: []", "degraded: [{nic: -1, gone: true}]", "6: cluster.degraded.0.nic must be a NIC as node.number, "
     'got -1. Write for example "0.3".'),
    ("degraded: []", "degraded: [{link: a, bandwidth: 0}]", "6: cluster.degraded.0.bandwidth must be a ratio of more "
     "than 0 and at most 1, got 0. Write for example 0.85."),
    ("degraded: []", "fabric: fattree", "6: cluster.fabric.kind must be one of rail_optimised, fat_tree, rail_only, "
     "dragonfly, torus, switch, got fattree. Did you mean `fat_tree`?"),
    ("degraded: []", "fabric: {kind: torus}", "6: cluster.fabric.shape must be given with fabric.kind torus, "
     "got nothing. Write two or three counts whose product is cluster.num_nodes."),
    ("degraded: []", "fabric: {kind: switch, shape: [4, 2]}", "6: cluster.fabric.shape must be left out with "
     "fabric.kind switch, got [4, 2]. It belongs to kind torus; remove it."),
    ("  strategy: EP64_TP16_PP4 ", "  #", "21: parallel.strategy must be given, got nothing. "
     "Write for example EP64_TP16_PP4, or give tp, pp, ep, dp one by one."),
    ("  strategy: EP64_TP16_PP4 ", "  tp: 4 GB #", '22: parallel.tp must be an integer of at least 1, got "4 GB". '
     "Write a number without unit, such as 1."),
    ("  strategy: EP64_TP16_PP4 ", "  strategy: EP64_PP4_VPP2\n  vpp: 2 #", "23: parallel.vpp must be 1 with "
     "schedule.kind 1f1b, got 2. Each stage has 1 chunk under that schedule."),
    ("recompute: none", "recompute_modules: [mlp]", "34: schedule.recompute_modules must be left out without "
     "schedule.recompute selective, got [mlp]. Write schedule.recompute: selective."),
    ("recompute: none", "recompute_layers: 2", "34: schedule.recompute_layers must be left out without "
     "schedule.recompute full, got 2. Write schedule.recompute: full."),
    ("recompute: none", "recompute_modules: [mlp, mlp]", "34: schedule.recompute_modules must be a list of modules, "
     "each once, got [mlp, mlp]. Choose among core_attn, layernorm, mlp, moe, moe_act, shared_experts, mla_up_proj."),
    ("zero: 0", "zero: 4", "25: parallel.zero must be one of 0, 1, 2, 3, got 4. Write one of these."),
    ("[tp, cp, ep, dp, pp]", "[tp, tp]", "26: parallel.rank_order must name tp, cp, ep, dp and pp, each once, "
     "got [tp, tp]. Write for example [tp, cp, ep, dp, pp], fastest first."),
    ("[4, 4, 4, 4]", "[4, -4]", "27: parallel.stage_layers.1 must be an integer of at least 0, got -4. "
     "Write a larger number."),
    ("zero: 0", "zero: 1", "25: parallel.zero must be 0 with workload.kind forward, got 1. "
     "It splits what only training keeps: gradients and the optimizer's states."),
    ("spanning      ", "vllm\n  exchange: blocking #", "24: parallel.exchange must be one_sided with "
     "parallel.convention vllm, got blocking. Only under the spanning convention do the stages enter one exchange."),
    ("[4, 4, 4, 4]", "16", "27: parallel.stage_layers must be a list of layers per stage, got 16. "
     "Write for example [4, 4, 4, 4]."),
    ("kind: forward ", "kind: foward ", "29: workload.kind must be one of forward, training, passes, collective, "
     "serving, got foward. Did you mean `forward`?"),
    ("  kind: forward ", "  #", "28: workload.kind must be one of forward, training, passes, collective, "
     "serving, got nothing. It decides which keys the workload has."),
    ("kind: forward ", "kind: training ", "30: workload.batches must be left out with workload.kind training, got 4. "
     "It belongs to kind forward; remove it."),
    ("kind: 1f1b", "kind: zb_v, chunk_order: vee", "34: schedule.chunk_order must be left out with schedule.kind zb_v, "
     "got vee. The key belongs to schedule.kind custom; remove it."),
    ("kind: 1f1b", "kind: 1f1c", f"34: schedule.kind must be one of {', '.join(SCHEDULES)}, custom, got 1f1c. "
     "Did you mean `1f1b`?"),
    ("recompute: none", "recompute: full", "34: schedule.recompute must be none with workload.kind forward, got full. "
     "Only training recomputes passes."),
    ("skew: 0.0", "skew: 0.5", "35: routing.skew must be left out with routing.kind multinomial, got 0.5. "
     "The key belongs to routing.kind zipf, power_law, dirichlet, hot_expert, hot_node, drift, bursty; remove it."),
    ("skew: 0.0", "stride: 3", "35: routing.stride must be left out with routing.kind multinomial, got 3. "
     "The key belongs to routing.kind stride; remove it."),
    ("skew: 0.0", "overflow: pad", "35: routing.overflow must be left out without routing.capacity_factor, got pad. "
     "Give routing.capacity_factor, such as 1.25."),
    ("skew: 0.0", "persistence: 1.5", "35: routing.persistence must be a number from 0 to 1, got 1.5. "
     "Write a number in that range."),
    ("capacity_factor: null", "capacity_factor: 0", "35: routing.capacity_factor must be above 0, got 0. "
     "Write for example 1.25, or null for all tokens."),
    ("kind: multinomial", "kind: trace",
     "35: routing.file must be given with routing.kind trace, got nothing. Add `file:` under routing."),
    ("kind: contiguous", "kind: explicit", "36: placement.experts must be given with placement.kind explicit, "
     "got nothing. Add `experts:` under placement."),
    ("kind: contiguous", "kind: greedy, groups: 8", "36: placement.groups must be left out with placement.kind greedy, "
     "got 8. The key belongs to placement.kind eplb; remove it."),
    ("kind: contiguous", "every: 4", "36: placement.every must be left out with placement.kind contiguous, got 4. "
     "The key belongs to placement.kind greedy, eplb; remove it."),
    ("kind: contiguous", "kind: greedy, every: 0", "36: placement.every must be an integer of at least 1, got 0. "
     "Write a larger number."),
    ("fidelity: bulk", "fidelity: flows", "37: network.fidelity must be one of bulk, flow, got flows. "
     "Did you mean `flow`?"),
    ("seed: 1", "seed: -1", "38: seed must be an integer of at least 0, got -1. Write a larger number."),
    ("seed: 1", "seeds: 101", "38: seeds must be an integer from 1 to 100, got 101. "
     "Write how many seeds to simulate, such as 5."),
    ("placement: {kind: contiguous}", "placement:", "36: placement must be a mapping of keys, got null. "
     "Write `key: value` lines under it."),
    ("id: optimal", "id: throughput", "41: claims.1.id must be unique, got throughput. "
     "claims.0 has that id already; choose another."),
    ("id: optimal", "id: too optimal", "41: claims.1.id must be a name without spaces, got too optimal. "
     "Use letters, digits, `_`, `-` and `.`."),
    ('says: "optimally designed", ', "", "41: claims.1.says must be given, got nothing. Add `says:` under claims.1."),
    ("superlative: least", "superlative: lest", "41: claims.1.superlative must be one of least, most, got lest. "
     "Did you mean `least`?"),
    ("superlative: least, ", "", "41: claims.1.expect must be given, or superlative, got nothing. "
     'Write for example expect: ">= 26e6 tokens/s", or superlative: least.'),
    ("superlative: least", 'superlative: least, expect: "<= 1 s"', "41: claims.1.superlative must be left out when "
     "expect is given, got least. Make two claims of it."),
    ("superlative: least", "superlative: least, supports: fame", "41: claims.1.supports must be the id of a claim, "
     "got fame. Write an id that stands in this list of claims."),
    ("superlative: least", "superlative: least, supports: optimal", "41: claims.1.supports must not support itself in "
     "the end, got optimal. optimal supports optimal: remove one of these."),
    ("{model.top_k: 1}", "{}", "43: alternatives.0 must be a map of dotted keys to values, got an empty mapping. "
     "Write for example {model.top_k: 1}."),
    ("{model.top_k: 1}", "model.top_k", "43: alternatives.0 must be a map of dotted keys to values, got model.top_k. "
     "Write for example {model.top_k: 1}."),
    ("{model.top_k: 1}", "{name: x}", "43: alternatives.0.name must be a key that can be altered, got name. Start the "
     "key with one of cluster, model, parallel, workload, schedule, routing, placement, network, runtime, jitter, "
     "seed."),
    ("{model.top_k: 1}", "{model.topk: 1}", "43: alternatives.0 (model.topk) must be a known key, got topk. "
     "Did you mean `top_k`?"),
    ("{model.top_k: 1}", "{model.top_k: 65}", "43: alternatives.0 (model.top_k) must be at most model.experts = 64, "
     "got 65. Lower top_k."),
    ("{model.top_k: 1}", "{schedule.kind: custom}", "43: alternatives.0 (schedule.file) must be given with "
     "schedule.kind custom, got nothing. Name a text file with one line of passes per stage."),
    ("parallel.convention: megatron", "parallel.convention: mega", "45: rivals.1 (parallel.convention) must be one of "
     "megatron, vllm, spanning, got mega. Did you mean `megatron`?"),
    ("EP16_TP4_PP4_DP4", "EP16 TP4", "45: rivals.0 must be the name of a strategy or a map of dotted keys to values, "
     "got EP16 TP4. Write for example EP16_TP4_PP4_DP4 or {parallel.strategy: EP16_TP4_PP4_DP4}."),
    ("published: []", "published: {}", "46: published must be a list, got an empty mapping. Write [...] or lines that "
     "start with `- `."),
    ("published: []", "published: [{metric: mfu, value: 0, source: x, tolerance_pct: 1}]",
     "46: published.0.value must not be 0, got 0. An error is a share of the figure: choose a metric that is not 0, "
     "such as the time it is made of."),
    ("published: []", "published: [{metric: mfu, value: 1, source: x, tolerance_pct: -1}]",
     "46: published.0.tolerance_pct must be a number of at least 0, got -1. Write a number in that range."),
    ("published: []", "published: [{metric: mfu, value: 1, source: x}]",
     "46: published.0.tolerance_pct must be given, got nothing. Add `tolerance_pct:` under published.0."),
    ("published: []", "published: [{metric: mfu, value: 1, source: x, tolerance_pct: 1, set: {}}]",
     "46: published.0.set must be a map of dotted keys to values, got an empty mapping. Write for example "
     "{model.top_k: 1}."),
    ("published: []", "published: [{metric: mfu, value: 1, source: x, tolerance_pct: 1, set: {model.topk: 1}}]",
     "46: published.0.set (model.topk) must be a known key, got topk. Did you mean `top_k`?"),
    ("published: []", "published: [{metric: mfu, value: 1, source: x, tolerance_pct: 1, set: {model.top_k: 65}}]",
     "46: published.0.set (model.top_k) must be at most model.experts = 64, got 65. Lower top_k."),
    ("published: []", "published: [{metric: mfu, value: 1, source: x, tolerance_pct: 1, sources: x}]",
     "46: published.0.sources must be a known key, got sources. Did you mean `source`?"),
    ("rivals: [EP16_TP4_PP4_DP4, {parallel.strategy: EP64_TP1_PP1_DP64, parallel.convention: megatron}]", "rivals: {}",
     "45: rivals must be a list, got an empty mapping. Write [...] or lines that start with `- `."),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), REFUSALS)
def test_one_wrong_value_is_refused_with_line_field_rule_value_and_hint(contract_text, old, new, message):
    assert old in contract_text
    with pytest.raises(InvalidValueError) as refused:
        load_scenario_text(contract_text.replace(old, new, 1), file="f.yaml")
    assert str(refused.value) == f"f.yaml:{message}"


COLLECTIVE = "cluster: {preset: dgx-h100, num_nodes: 1}\n"
PASSES = "workload: {kind: passes, microbatches: 8, pass_times: {F: 1 ms, B: 2 ms}}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PASSES, "parallel must be given with workload.kind passes, got nothing. Add a section `parallel:`."),
        (f"{PASSES}parallel: {{tp: 2}}\n", "parallel.tp must be left out with workload.kind passes, got 2. "
         "Give parallel.pp alone: passes have no ranks."),
        (f"{PASSES}parallel: {{vpp: 1}}\n", "parallel.pp must be given with workload.kind passes, got nothing. "
         "Write the number of stages."),
        (f"{PASSES}parallel: {{pp: 2}}\nmodel: {{}}\n", "model must be left out with workload.kind passes, "
         "got a section. Remove the section: it would mean nothing."),
        (f"{PASSES}parallel: {{pp: 2}}\n".replace("F: 1 ms, ", ""), "workload.pass_times.F must be given, got nothing. "
         "Add `F:` under workload.pass_times."),
        (f"{PASSES}parallel: {{pp: 2}}\n".replace("F: 1 ms, ", "F: 1, "), "workload.pass_times.F must have a unit, "
         'got 1. Write a number and a unit, such as "3 us".'),
        (f"{PASSES}parallel: {{pp: 2}}\n".replace("{F: 1 ms, B: 2 ms}", "[]"), "workload.pass_times must have at least "
         "one item, got an empty list. Give one map of F, B and W."),
        (f"{PASSES}parallel: {{pp: 3}}\n".replace("{F: 1 ms, B: 2 ms}", "[{F: 1 ms, B: 2 ms}, {F: 1 ms, B: 2 ms}]"),
         "workload.pass_times must be one map or a list of parallel.pp = 3, got a list of 2. "
         "Give one map of F, B and W per stage."),
        (f"{PASSES}parallel: {{pp: 2}}\nprofile: a.yaml\n", "profile must be left out with workload.kind passes, "
         "got a.yaml. Remove the key: it would mean nothing."),
        ("workload: forward\n", "workload must be a mapping of keys, got forward. Write `key: value` lines under it."),
        ("name: x\n", "workload must be given, got nothing. Add `workload:` under the top level."),
    ],
)  # fmt: skip
def test_keys_that_do_not_belong_to_the_kind_of_workload_are_refused(text, message):
    with pytest.raises(InvalidValueError) as refused:
        load_scenario_text(text)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{COLLECTIVE}workload: {{kind: collective, op: all_reduce, num_ranks: 8}}\n", "workload.bytes must be given, "
         "or tokens, got nothing. Give bytes, or tokens with model.hidden and model.top_k."),
        (f"{COLLECTIVE}workload: {{kind: collective, op: all_reduce, num_ranks: 8, bytes: 1 GB, tokens: 1}}\n",
         "workload.tokens must be left out of op all_reduce, got 1. Give bytes."),
        (f"{COLLECTIVE}workload: {{kind: collective, op: dispatch, num_ranks: 8, tokens: 4096}}\n",
         "model.hidden must be given, got nothing. Add `hidden` under `model`, or name a model.preset. "
         "Width of the hidden state."),
        (f"{COLLECTIVE}workload: {{kind: collective, op: dispatch, num_ranks: 8, tokens: 4096 tokens}}\n"
         "model: {hidden: 7168, vocab: 3}\n", "model.vocab must be left out with workload.kind collective, got 3. "
         "It needs dtype, experts, hidden, preset, top_k only."),
        (f"{COLLECTIVE}workload: {{kind: collective, op: all_reduce, num_ranks: 8, bytes: 1 GB}}\nparallel: {{}}\n",
         "parallel must be left out with workload.kind collective, got a section. "
         "Remove the section: it would mean nothing."),
        (f"{COLLECTIVE}workload: {{kind: collective, op: all_reduce, num_ranks: 8, bytes: 8}}\n",
         f"workload.bytes must have a unit, got 8. {SIZE}"),
    ],
)  # fmt: skip
def test_a_collective_has_one_size_and_the_fields_of_a_model_that_it_needs(text, message):
    with pytest.raises(InvalidValueError) as refused:
        load_scenario_text(text)
    assert str(refused.value) == message


def test_a_published_figure_without_a_known_unit_is_refused(contract_text):
    figure = "[{metric: mfu, value: 3 parsecs, source: x, tolerance_pct: 1}]"
    with pytest.raises(
        InvalidValueError, match=r"^f:46: published.0.value must have a unit of the table, got 3 parsecs"
    ):
        load_scenario_text(contract_text.replace("published: []", f"published: {figure}"), file="f")


def test_the_first_error_in_the_order_of_the_file_is_told(contract_text):
    text = contract_text.replace("seed: 1", "seed: x").replace("heads: 16", "heads: x", 1).replace("gated", "gatd")
    with pytest.raises(InvalidValueError) as refused:
        load_scenario_text(text, file="f")
    assert (refused.value.line, refused.value.field) == (10, "model.heads")


def test_a_misspelt_key_is_told_before_the_key_that_is_missing(contract_text):
    for cluster in ("{preset: x, num_node: 8}", "{num_node: 8, preset: x}"):
        with pytest.raises(InvalidValueError, match="Did you mean `num_nodes`"):
            load_scenario_text(f"cluster: {cluster}\nworkload: {{kind: forward}}\n")


def test_an_empty_section_counts_as_missing(contract_text):
    cluster = contract_text[contract_text.index("cluster:") : contract_text.index("model:")]
    with pytest.raises(
        InvalidValueError, match=r"^f:2: cluster must be given with workload.kind forward, got nothing\. Add"
    ):
        load_scenario_text(contract_text.replace(cluster, "cluster:\n"), file="f")


def test_claims_that_support_each_other_in_a_circle_name_the_circle(contract_text):
    text = contract_text.replace("id: throughput", "id: throughput, supports: optimal").replace(
        "id: optimal", "id: optimal, supports: throughput"
    )
    with pytest.raises(InvalidValueError, match="throughput supports optimal supports throughput: remove one of these"):
        load_scenario_text(text)


def test_an_error_has_its_parts_for_json(contract_text):
    with pytest.raises(InvalidValueError) as refused:
        load_scenario_text(contract_text.replace("layers: 16", "layers: 0"), file="f.yaml")
    assert refused.value.as_dict() == {
        "file": "f.yaml",
        "line": 8,
        "field": "model.layers",
        "rule": "be an integer of at least 1",
        "value": 0,
        "cure": "Write a larger number.",
    }


@given(st.data())
def test_no_change_of_one_value_ends_in_anything_but_a_refusal(contract_text, data):
    line = data.draw(st.sampled_from([line for line in contract_text.splitlines() if ": " in line]))
    value = data.draw(st.text(max_size=12) | st.sampled_from(["[]", "{}", "[1]", "{a: 1}", "1e3", "-1", "null", "x y"]))
    changed = contract_text.replace(line, f"{line.partition(': ')[0]}: {value}", 1)
    try:
        load_scenario_text(changed, file="f")
    except InvalidValueError as refused:
        assert "\n" not in str(refused)
        assert "pydantic" not in str(refused)
        assert refused.rule != "be a value that the key can have"


@pytest.mark.parametrize(
    ("path", "section", "hint"),
    [
        (
            ("parallel", "tensor_parallel_size"),
            {"tensor_parallel_size": 8, "data_parallel_size": 2, "enable_expert_parallel": True},
            "Here tensor_parallel_size is `tp`, data_parallel_size is `dp`, "
            "enable_expert_parallel is `convention: vllm` with EP = TP x DP.",
        ),
        (
            ("parallel", "tensor-model-parallel-size"),
            {"tensor-model-parallel-size": 2},
            "Here tensor-model-parallel-size is `tp`.",
        ),
        (("placement", "num_redundant_experts"), {}, "Here num_redundant_experts is `replicas`."),
        (("placement", "physical_to_logical"), {}, "Here physical_to_logical is `experts`."),
        (("workload", "seq_length"), {"sequences": 8}, "Here seq_length is `sequence_length`."),
        (("workload", "micro_batch_size"), {}, "Here micro_batch_size is `sequences` / (DP x `microbatches`)."),
    ],
)
def test_a_key_of_a_framework_is_answered_with_our_key(path, section, hint):
    """So are the other keys of this framework in the section."""
    assert unknown_key_hint(path, {path[0]: section}, []) == hint


def test_every_name_that_a_framework_s_key_is_answered_with_exists():
    for section, names in OTHER_NAMES.items():
        known = set().union(
            valid_keys((section,), {}), *(valid_keys((section,), {"workload": {"kind": k}}) for k in WORKLOADS)
        )
        ours = {name.strip("`") for text in names.values() for name in re.findall(r"`[a-z_]+`", text)}
        assert ours <= known
        assert not known & set(names)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("decode", "Decode with a context of earlier tokens belongs to `kind: serving`"),
        ("Generate", "Decode with a context of earlier tokens belongs to `kind: serving`"),
        ("inference", "Prefill is `kind: forward`. Decode with a context"),
        ("prefill", "A prefill is `kind: forward`."),
    ],
)
def test_a_kind_of_serving_is_answered_with_what_can_be_said(kind, words):
    assert validate({"workload": {"kind": kind}})[0].hint.startswith(words)
