"""Loading: the contract's example, bundled names, overrides, alternatives and rivals."""

import copy
import json
import math

import pytest

import sim.scenario.scenario_files as bundled_module
from sim.errors import InvalidValueError
from sim.scenario.load import load_scenario, load_scenario_text
from sim.scenario.overrides import apply_overrides, apply_variant, parse_override
from sim.scenario.scenario import Scenario
from sim.scenario.scenario_files import STARTER, bundled_folder, find_bundled, list_bundled, list_cases, list_suites

PASSES = """\
parallel: {pp: 2}
workload:
  kind: passes
  microbatches: 8
  pass_times: {F: 18.522 ms, B: 18.086 ms, W: 9.337 ms}
  p2p: 0.601 ms
"""


@pytest.fixture
def contract(contract_text):
    """Return the contract's example, loaded."""
    return load_scenario_text(contract_text, file="f.yaml")


def test_the_contracts_example_loads_in_si(contract):
    spec = contract.spec
    assert spec.cluster.device.memory == 64e9
    assert spec.model.ffn == spec.model.dense_ffn == 14336
    assert spec.workload.sequence_length == 10240
    assert spec.claims[0].expect.value == 26e6
    assert spec.alternatives == ({"model.top_k": 1}, {"model.top_k": 2, "cluster.device.preset": "mi250x-gcd"})
    assert spec.rivals[0] == "EP16_TP4_PP4_DP4"


def test_lines_are_those_of_the_file(contract, contract_text):
    lines = contract_text.splitlines()
    for path, line in contract.lines.items():
        if path and isinstance(path[-1], str):
            assert f"{path[-1]}:" in lines[line - 1]


def test_resolved_is_json_with_every_default_filled_in(contract):
    resolved = json.loads(json.dumps(contract.resolved(), allow_nan=False))
    assert resolved["cluster"]["device"]["memory"] == 64e9
    assert resolved["parallel"]["exchange"] == "one_sided"
    assert resolved["parallel"]["rank_order"] == ["tp", "cp", "ep", "dp", "pp"]
    assert resolved["seeds"] == 1
    assert resolved["claims"][0]["expect"] == {
        "op": ">=",
        "value": 26e6,
        "unit": "tokens/s",
        "tolerance": 0.5e6,
        "text": ">= 26e6 tokens/s",
    }


def test_what_a_model_does_not_say_follows_from_the_rest():
    text = STARTER.replace("  gated: true", "  #").replace("  dtype: bf16", "  #")
    model = load_scenario_text(text).spec.model
    assert (model.kv_heads, model.head_dim, model.dense_ffn) == (16, 128, 5632)
    assert (model.gated, model.shared_experts, model.dense_layers, model.dtype) == (False, 0, 0, "bf16")


def test_a_presets_fields_stay_open_but_for_those_given():
    model = STARTER[STARTER.index("model:") : STARTER.index("parallel:")]
    spec = load_scenario_text(STARTER.replace(model, "model: {preset: mixtral-8x7b, top_k: 1}\n")).spec
    assert spec.model.given() == {"top_k": 1}


def test_bits_and_bytes_give_the_same_bandwidth(contract_text):
    for written in ("400 Gb/s", "50 GB/s"):
        text = contract_text.replace("num_nodes: 8", f"num_nodes: 8\n  nic_bandwidth: {written}")
        assert load_scenario_text(text).spec.cluster.nic_bandwidth == 50e9


def test_passes_need_no_model_and_no_cluster():
    spec = load_scenario_text(PASSES).spec
    assert spec.model is None
    assert spec.cluster is None
    assert [times.W for times in spec.workload.pass_times] == [0.009337]
    assert spec.workload.p2p == 0.000601


def test_passes_of_each_stage_are_a_list(contract_text):
    text = PASSES.replace("{F: 18.522 ms, B: 18.086 ms, W: 9.337 ms}", "[{F: 1 ms, B: 2 ms}, {F: 3 ms, B: 4 ms}]")
    assert [times.F for times in load_scenario_text(text).spec.workload.pass_times] == [0.001, 0.003]


@pytest.mark.parametrize(("tokens", "read"), [("4096", 4096), ("4096 tokens", 4096), ("4e3 tokens", 4000)])
def test_a_collective_is_sized_in_tokens_with_or_without_the_unit(tokens, read):
    text = (
        "cluster: {preset: dgx-h100, num_nodes: 1}\nmodel: {hidden: 7168, top_k: 8}\n"
        f"workload: {{kind: collective, op: dispatch, num_ranks: 8, tokens: {tokens}}}\n"
    )
    assert load_scenario_text(text).spec.workload.tokens == read


def test_an_efficiency_is_a_ratio_or_a_percentage(contract_text):
    for written in ("0.85", "85 %"):
        text = contract_text.replace("memory: 64 GB", f"gemm_efficiency: {written}")
        assert math.isclose(load_scenario_text(text).spec.cluster.device.gemm_efficiency, 0.85)


def test_published_figures_are_read_in_si(contract_text):
    figures = "[{metric: mfu, value: 0.493, source: a, tolerance_pct: 5}, {metric: step_time_s, value: 18.5 ms, "
    text = contract_text.replace("published: []", f"published: {figures}source: b, tolerance_pct: 5.5}}]")
    assert [figure.value for figure in load_scenario_text(text).spec.published] == [0.493, 0.0185]


def test_the_starter_loads_without_a_word():
    scenario = load_scenario_text(STARTER)
    assert scenario.spec.parallel.strategy == "EP8_TP1_PP1_DP8"
    assert len(scenario.spec.claims) == 2


# Overrides


@pytest.mark.parametrize(
    ("argument", "read"),
    [
        ("model.top_k=1", lambda spec: spec.model.top_k == 1),
        ("cluster.device.preset=mi250x-gcd", lambda spec: spec.cluster.device.preset == "mi250x-gcd"),
        ("cluster.device=mi250x-gcd", lambda spec: spec.cluster.device.memory is None),
        ("cluster.device.memory=80 GB", lambda spec: spec.cluster.device.memory == 80e9),
        ("parallel.stage_layers=[8,8]", lambda spec: spec.parallel.stage_layers == (8, 8)),
        ("parallel.sp=null", lambda spec: spec.parallel.sp is None),
        ("schedule={kind: gpipe}", lambda spec: spec.schedule.kind == "gpipe"),
        ("claims.0.expect='>= 1 tokens/s'", lambda spec: spec.claims[0].expect.value == 1),
        ("alternatives.0.model.top_k=4", lambda spec: spec.alternatives[0] == {"model.top_k": 4}),
        ("rivals=[]", lambda spec: spec.rivals == ()),
        ("seeds=5", lambda spec: spec.seeds == 5),
    ],
)
def test_an_override_sets_one_value(contract_text, argument, read):
    assert read(load_scenario_text(contract_text, overrides=[argument]).spec)


def test_a_device_that_is_a_name_becomes_a_mapping_when_a_field_is_set(contract_text):
    text = contract_text.replace("{preset: h100-sxm, memory: 64 GB}", "h100-sxm")
    device = load_scenario_text(text, overrides=["cluster.device.memory=64 GB"]).spec.cluster.device
    assert (device.preset, device.memory) == ("h100-sxm", 64e9)


def test_the_last_of_two_overrides_counts(contract_text):
    assert load_scenario_text(contract_text, overrides=["seed=2", "seed=3"]).spec.seed == 3


def test_an_override_makes_the_section_it_needs():
    assert load_scenario_text(PASSES, overrides=["schedule.kind=gpipe"]).spec.schedule.kind == "gpipe"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("model.topk=1", "model.topk must be a known key, got topk. Did you mean `top_k`?"),
        ("modle.top_k=1", "modle must be a known key, got modle. Did you mean `model`?"),
        ("model.top_k=0", "model.top_k must be an integer of at least 1, got 0. Write a larger number."),
        ("seed=", "seed must be an integer of at least 0, got null. Write a number without unit, such as 1."),
        ("model.top_k=", "model.top_k must be given, got nothing. Add `top_k` under `model`, or name a model.preset. "
         "Number of routed experts that a token meets."),
        ("claims.2.expect=x", "claims.2 must be a position in claims, got 2. It has positions 0 to 1."),
        ("claims.x=1", "claims.x must be a position in claims, got x. It has positions 0 to 1."),
        ("claims.0.expct=x", "claims.0.expct must be a known key, got expct. Did you mean `expect`?"),
        ("name.first=x", "name.first must be a key; name has no keys, got first. Set name itself."),
        ("schedule.chunk_order=vee", "schedule.chunk_order must be left out with schedule.kind 1f1b, got vee. The "
         "key belongs to schedule.kind custom; remove it."),
        ("seed=[1", "seed must be valid YAML, got an error (expected ',' or ']', but got '<stream end>'). Check its "
         "brackets, and put texts with special characters in double quotes inside single ones."),
        ("seed=&a 1", "seed must have no anchors, got &a. Remove it and write the value out."),
        ("alternatives.0.model.topk=1", "alternatives.0 (model.topk) must be a known key, got topk. "
         "Did you mean `top_k`?"),
        ("rivals.0=a b", "rivals.0 must be the name of a strategy or a map of dotted keys to values, got a b. "
         "Write for example EP16_TP4_PP4_DP4 or {parallel.strategy: EP16_TP4_PP4_DP4}."),
    ],
)  # fmt: skip
def test_a_wrong_override_is_named_as_the_place(contract_text, argument, message):
    with pytest.raises(InvalidValueError) as refused:
        load_scenario_text(contract_text, file="f.yaml", overrides=[argument])
    assert str(refused.value) == f"--set {argument}: {message}"


@pytest.mark.parametrize("argument", ["model.top_k", "=1", "model.=1", "", "a..b=1"])
def test_what_is_no_key_and_value_is_refused(argument):
    with pytest.raises(
        InvalidValueError, match=r"^--set must be KEY=VALUE with a dotted key, got .* Write for example"
    ):
        parse_override(argument)


def test_overrides_leave_the_data_they_are_given_alone():
    data = {"model": {"top_k": 2}, "claims": [{"id": "a"}]}
    changed = apply_overrides(data, {"model.top_k": 1, "claims.0.id": "b"})
    assert changed == {"model": {"top_k": 1}, "claims": [{"id": "b"}]}
    assert data == {"model": {"top_k": 2}, "claims": [{"id": "a"}]}


@pytest.mark.parametrize(
    ("seed", "message"),
    [
        (-1, "seed must be an integer of at least 0, got -1. Write a larger number."),
        (True, "seed must be an integer of at least 0, got true. Write a number without unit, such as 1."),
    ],
)
def test_a_seed_that_is_given_as_an_argument_is_blamed_on_nothing_but_itself(tmp_path, seed, message):
    path = tmp_path / "a.yaml"
    path.write_text(STARTER, encoding="utf-8")
    assert load_scenario(path, overrides=["seed=7"], seed=3).spec.seed == 3
    assert load_scenario(path, overrides=["seed=7"]).spec.seed == 7
    with pytest.raises(InvalidValueError) as refused:
        load_scenario(path, seed=seed)
    assert str(refused.value) == message


# Assumed values


def test_assumed_values_are_kept_with_their_reasons(contract_text):
    assumed = "assumed:\n  model.top_k: not said\n  cluster.device.memory: the document's\n  seed: any\nseed: 1"
    scenario = load_scenario_text(contract_text.replace("seed: 1", assumed), overrides=["assumed.model.vocab=usual"])
    wanted = {"model.top_k": "not said", "cluster.device.memory": "the document's", "seed": "any"}
    assert scenario.spec.assumed == wanted | {"model.vocab": "usual"} == scenario.resolved()["assumed"]
    assert scenario.alternative(0).spec.assumed == scenario.spec.assumed


def test_nothing_is_assumed_where_nothing_is_said(contract):
    assert contract.spec.assumed == contract.resolved()["assumed"] == {}


def test_passes_of_one_stage_can_be_assumed():
    assert load_scenario_text(f"{PASSES}assumed: {{workload.pass_times.0.W: not said}}").spec.assumed


@pytest.mark.parametrize(
    ("assumed", "message"),
    [
        ("{model.topk: x}", "38: assumed.model.topk must be a known key, got model.topk. Did you mean `top_k`?"),
        ("{model.top_k.x: y}", "38: assumed.model.top_k.x must be a known key, got model.top_k.x. "
         "model.top_k has no keys."),
        ("{claims: x}", "38: assumed.claims must be a key that can be assumed, got claims. Start the key with one of "
         "cluster, model, parallel, workload, schedule, routing, placement, network, runtime, jitter, seed."),
        ("{model.top_k: 3}", "38: assumed.model.top_k must be a text, got 3. Put it in quotes."),
        ('{model.top_k: ""}', "38: assumed.model.top_k must be a text, got an empty text. "
         "Write something, or leave the key out."),
        ('{model.top_k: "a\\nb"}', "38: assumed.model.top_k must be one line, got a\\nb. "
         "Write the reason in one line."),
        ("[model.top_k]", "38: assumed must be a map of dotted keys to reasons, got [model.top_k]. "
         "Write for example {model.top_k: the document does not say how many}."),
        ("{" + ", ".join(f"k{i}: x" for i in range(101)) + "}", "38: assumed must have at most 100 keys, got 101. "
         "Name a section where all of it is assumed."),
    ],
)  # fmt: skip
def test_what_cannot_be_assumed_is_refused(contract_text, assumed, message):
    with pytest.raises(InvalidValueError) as refused:
        load_scenario_text(contract_text.replace("seed: 1", f"assumed: {assumed}"), file="f.yaml")
    assert str(refused.value) == f"f.yaml:{message}"


# Variants


def test_an_alternative_changes_its_keys_and_no_others(contract):
    variant = contract.alternative(1)
    assert variant.spec.model.top_k == 2
    assert (variant.spec.cluster.device.preset, variant.spec.cluster.device.memory) == ("mi250x-gcd", 64e9)
    assert variant.spec.workload == contract.spec.workload
    assert contract.spec.cluster.device.preset == "h100-sxm"


def test_a_rival_replaces_the_strategy_and_keeps_the_convention(contract):
    rival = contract.rival(0).spec.parallel
    assert (rival.strategy, rival.convention, rival.stage_layers) == ("EP16_TP4_PP4_DP4", "spanning", None)
    assert contract.rival(1).spec.parallel.convention == "megatron"


def test_a_new_strategy_drops_the_axes_that_are_given_one_by_one(contract_text):
    text = contract_text.replace("strategy: EP64_TP16_PP4 ", "tp: 16\n  pp: 4\n  ep: 64 #")
    parallel = load_scenario_text(text).variant({"parallel.strategy": "EP8_TP8"}).spec.parallel
    assert (parallel.strategy, parallel.tp, parallel.pp, parallel.ep) == ("EP8_TP8", None, None, None)
    alternative = load_scenario_text(text).variant({"parallel.strategy": "EP8_TP8", "parallel.tp": 8})
    assert (alternative.spec.parallel.tp, alternative.spec.parallel.pp) == (8, None)


def test_a_convention_without_an_exchange_of_stages_drops_how_it_is_entered(contract_text):
    blocking = load_scenario_text(contract_text.replace("sp: false", "exchange: blocking"))
    assert blocking.spec.parallel.exchange == "blocking"
    assert blocking.variant({"parallel.convention": "vllm"}).spec.parallel.exchange == "one_sided"
    assert blocking.variant({"parallel.convention": "spanning"}).spec.parallel.exchange == "blocking"
    with pytest.raises(InvalidValueError, match=r"exchange must be one_sided with parallel\.convention vllm"):
        blocking.variant({"parallel.convention": "vllm", "parallel.exchange": "blocking"})


@pytest.mark.parametrize(
    "key",
    [
        "parallel.sp",
        "parallel.convention",
        "schedule.kind",
        "network.all_reduce",
        "placement.kind",
        "workload.microbatches",
    ],
)
def test_a_rival_may_change_strategy_schedule_network_placement_and_microbatches(contract_text, key):
    values = {"parallel.convention": "spanning", "schedule.kind": "gpipe", "network.all_reduce": "ring"}
    value = values.get(key, {"placement.kind": "contiguous", "workload.microbatches": 8}.get(key, "false"))
    scenario = load_scenario_text(contract_text.replace("EP16_TP4_PP4_DP4", f"{{{key}: {value}}}"))
    assert list(scenario.spec.rivals[0]) == [key]


@pytest.mark.parametrize("key", ["model.top_k", "cluster.num_nodes", "workload.sequences", "workload", "routing.kind",
                                 "seed", "name", "parallels.sp"])  # fmt: skip
def test_a_rival_with_another_cluster_or_other_work_is_refused(contract_text, key):
    with pytest.raises(InvalidValueError) as refused:
        load_scenario_text(contract_text.replace("EP16_TP4_PP4_DP4", f"{{{key}: 1}}"), file="f.yaml")
    assert str(refused.value) == (
        f"f.yaml:45: rivals.0.{key} must be a key of parallel, schedule, network, placement, runtime, or "
        f"workload.microbatches, got {key}. A rival is another strategy on the same cluster and work: declare it under "
        "alternatives."
    )


def test_a_variant_is_refused_like_a_file(contract):
    with pytest.raises(InvalidValueError) as refused:
        contract.variant({"model.top_k": 65})
    assert str(refused.value) == ("f.yaml:17: model.top_k must be at most model.experts = 64, got 65. Lower top_k.")


def test_the_builders_errors_name_the_line_too(contract):
    refused = InvalidValueError("parallel.strategy", "be a legal mesh", "EP64_TP16_PP4", "Use 256 GPUs.")
    error = contract.located(refused)
    assert str(error) == "f.yaml:22: parallel.strategy must be a legal mesh, got EP64_TP16_PP4. Use 256 GPUs."
    with pytest.raises(InvalidValueError) as raised, contract.rival(0).located_errors():
        raise InvalidValueError(("parallel", "strategy"), "fit", "EP16_TP4_PP4_DP4", "Add nodes.")
    rival = raised.value
    assert str(rival) == "f.yaml:45: rivals.0 (parallel.strategy) must fit, got EP16_TP4_PP4_DP4. Add nodes."


def test_what_is_given_is_told_from_what_is_assumed(contract):
    assert contract.is_given("parallel.sp")
    assert contract.is_given("claims.0.expect")
    assert not contract.is_given("parallel.exchange")
    assert not contract.is_given("claims.7.expect")


# Files and names


def test_a_path_is_read_and_named_in_errors(tmp_path, contract_text):
    path = tmp_path / "a.yaml"
    path.write_text(contract_text.replace("layers: 16", "layers: 0"), encoding="utf-8")
    with pytest.raises(InvalidValueError) as refused:
        load_scenario(path)
    assert (refused.value.file, refused.value.line) == (str(path), 8)


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """Return a folder that stands in for the bundled scenarios."""
    (tmp_path / "validation" / "own").mkdir(parents=True)
    (tmp_path / "start.yaml").write_text(STARTER, encoding="utf-8")
    (tmp_path / "validation" / "own" / "passes.yaml").write_text(PASSES, encoding="utf-8")
    (tmp_path / "validation" / "own" / "suite.yaml").write_text("title: own\n", encoding="utf-8")
    monkeypatch.setattr(bundled_module, "bundled_folder", lambda: tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["start", "start.yaml", "validation/own/passes", "own/passes", "passes.yaml"])
def test_a_bundled_scenario_is_found_by_its_name(bundle, name):
    path = find_bundled(name)
    assert path is not None
    assert path.is_file()
    assert load_scenario(name).path == str(path)


@pytest.mark.parametrize("parent", ["", "validation/"])
def test_a_name_in_two_folders_needs_its_folder(bundle, parent):
    """Of scenarios as of validation cases."""
    for folder in ("one", "two"):
        (bundle / parent / folder).mkdir()
        (bundle / parent / folder / "twice.yaml").write_text(PASSES, encoding="utf-8")
    assert find_bundled("twice") is None
    assert find_bundled("two/twice") == bundle / parent / "two" / "twice.yaml"


def test_a_scenario_goes_before_a_validation_case_of_its_name(bundle):
    """The case is still found with its suite."""
    (bundle / "passes.yaml").write_text(PASSES, encoding="utf-8")
    assert find_bundled("passes") == bundle / "passes.yaml"
    assert find_bundled("own/passes") == bundle / "validation" / "own" / "passes.yaml"


def test_bundled_scenarios_are_listed_in_order_and_cases_apart(bundle):
    """The file that says what a suite is is neither."""
    assert list_bundled() == ["start"]
    assert list_cases() == ["own/passes"]
    assert list_suites() == ["own"]


def test_a_file_in_the_current_folder_goes_before_a_bundled_one(bundle, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    (here / "start").write_text(PASSES, encoding="utf-8")
    monkeypatch.chdir(here)
    assert load_scenario("start").spec.workload.kind == "passes"


def test_an_unknown_name_suggests_the_nearest(bundle):
    with pytest.raises(InvalidValueError) as refused:
        load_scenario("strat")
    assert str(refused.value) == (
        "strat: the scenario must be a file or a bundled scenario, got strat. Did you mean `start`?"
    )


@pytest.mark.parametrize("path", ["nothing/there.yaml", "/nowhere.yaml"])
def test_the_error_of_a_missing_file_has_the_path_as_it_was_given(path):
    with pytest.raises(InvalidValueError) as refused:
        load_scenario(path)
    assert (refused.value.file, refused.value.line, refused.value.value) == (path, None, path)


@pytest.mark.parametrize("name", ["../start", "/etc/nothing", "", "a\0b", "x" * 5000])
def test_no_name_leaves_the_folder_of_scenarios(bundle, name):
    with pytest.raises(InvalidValueError):
        load_scenario(name)


def test_the_bundled_folder_is_the_packages_or_the_checkouts():
    assert bundled_folder().name in {"_scenarios", "scenarios"}


VARIED = {
    "parallel.strategy": "EP16_TP4_PP4_DP4",
    "parallel.convention": "megatron",
    "workload.microbatches": 16,
    "model.top_k": 1,
    "cluster.device.memory": "64 GB",
    "network.all_reduce": "ring",
    "placement.kind": "random",
    "seed": 5,
}


@pytest.mark.parametrize("key", VARIED)
def test_a_variant_is_what_its_data_makes(key):
    """Sections that no key changes are not read again, and the data of the scenario stays as it is."""
    scenario = load_scenario("ep64_tp16_pp4").without_judgement()
    before = copy.deepcopy(scenario.raw)
    changes = {key: VARIED[key]} | ({"parallel.convention": "megatron"} if key == "parallel.strategy" else {})
    variant = scenario.variant(changes)
    assert scenario.raw == before
    assert variant.spec == Scenario.validated(copy.deepcopy(variant.raw)).spec
    assert variant.variant({"seed": 7}).spec == Scenario.validated({**copy.deepcopy(variant.raw), "seed": 7}).spec


def test_a_variant_that_is_refused_is_refused_as_its_data_would_be():
    scenario = load_scenario("ep64_tp16_pp4").without_judgement()
    for changes in ({"model.top_k": "many"}, {"workload.kind": "passes"}, {"schedule.kind": "zb"}):
        with pytest.raises(InvalidValueError) as error:
            scenario.variant(changes)
        with pytest.raises(InvalidValueError) as expected:
            places = scenario.places.of_variant(scenario.places.variant)
            Scenario.validated(apply_variant(scenario.raw, changes), places, changes=changes)
        assert (error.value.rule, error.value.hint) == (expected.value.rule, expected.value.hint)
