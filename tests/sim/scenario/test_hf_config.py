"""Hugging Face's `config.json`: parameters against published ones, what is taken, and what is refused by name."""

import json
import re
from decimal import Decimal
from pathlib import Path

import pytest
from hf_configs import CONFIGS, PUBLISHED
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim.build.build import build, check_values
from sim.build.layout import model_of
from sim.errors import InvalidValueError
from sim.scenario.hf_config import ARCHITECTURES, read_hf_config
from sim.scenario.hf_config.immaterial import IMMATERIAL, NEUTRAL
from sim.scenario.hf_config.names import OUR_NAMES
from sim.scenario.load import load_scenario
from sim.scenario.model_section import ModelSection
from workloads.model import ModelSpec
from workloads.presets import MODELS

SCENARIO = """
cluster: {preset: dgx-h200, num_nodes: 1}
model: {hf_config: config.json}
parallel: {strategy: EP8_TP1_PP1_DP8, convention: megatron}
workload: {kind: forward, sequences: 8, sequence_length: 128, microbatches: 1}
routing: {kind: balanced}
"""


def written(folder, config, name="config.json"):
    """Write a config into a folder and return its path."""
    path = Path(folder) / name
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


def scenario(folder, config, *, model=""):
    """Return a scenario of 8 GPUs whose model is that of a config, with other fields of the model."""
    written(folder, config)
    path = Path(folder) / "scenario.yaml"
    path.write_text(SCENARIO.replace("config.json}", f"config.json{model}}}"), encoding="utf-8")
    return load_scenario(path)


def near(published):
    """Return a published figure with the larger of 0.5 % and half of its last digit as tolerance."""
    half_digit = 10.0 ** Decimal(published).as_tuple().exponent / 2
    return pytest.approx(float(published), rel=0.005, abs=half_digit)


@pytest.mark.parametrize("name", [name for name in CONFIGS if name in MODELS])
def test_a_config_says_the_model_that_the_preset_says(name, tmp_path):
    """The presets are compared with published parameters within 0.5 % (`tests/workloads/test_model_shapes.py`)."""
    model, preset = ModelSpec(**read_hf_config(written(tmp_path, CONFIGS[name])).fields), MODELS[name]
    assert [model.layer(i) for i in range(model.layers)] == [preset.layer(i) for i in range(preset.layers)]
    assert (model.num_params, model.num_active_params) == (preset.num_params, preset.num_active_params)
    assert model.scoring_func == preset.scoring_func


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_of_other_configs_are_the_published_ones(name, tmp_path):
    published = PUBLISHED[name]
    model = ModelSpec(**read_hf_config(written(tmp_path, CONFIGS[name])).fields)
    total, active = published.counted_alike(model)
    assert total == near(published.total)
    assert published.active is None or active == near(published.active)


def test_every_model_type_is_read_by_a_config_of_these_tests_or_is_like_one_that_is():
    read = {config["model_type"] for config in CONFIGS.values()}
    read |= {config["text_config"]["model_type"] for config in CONFIGS.values() if "text_config" in config}
    readers = {ARCHITECTURES[name].read for name in read}
    untested = {name for name, architecture in ARCHITECTURES.items() if architecture.read not in readers}
    assert untested == {"mistral", "qwen2", "qwen3", "qwen3_vl"}  # tested below


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_fields_of_every_architecture_are_fields_of_the_scenario(name, tmp_path):
    """The keys that an architecture asks for lead from an empty config to a model, one refusal after another."""
    config = {"model_type": name, "hybrid_override_pattern": "M*-E"} if name == "nemotron_h" else {"model_type": name}
    part = ARCHITECTURES[name].part
    config |= {} if part is None else {part: {}}
    for _ in range(40):
        try:
            fields = read_hf_config(written(tmp_path, config)).fields
            break
        except InvalidValueError as error:
            assert error.rule == "be given" and error.hint
            key = error.field.removeprefix(f"{part}.")
            (config if part is None else config[part])[key] = 4
    assert set(fields) <= set(ModelSection.model_fields)
    assert ModelSpec(**fields).num_params > 0


def test_keys_of_the_lists_stand_in_one_of_them():
    listed = [key for keys in IMMATERIAL.values() for key in keys]
    assert len(listed) == len(set(listed))
    assert not set(listed) & set(NEUTRAL)
    assert set(OUR_NAMES.values()) <= set(ModelSection.model_fields)


# ---- what is taken ------------------------------------------------------------------------------------------------


def test_fields_of_the_scenario_override_the_file(tmp_path):
    model = model_of(scenario(tmp_path, CONFIGS["qwen3-next-80b-a3b"], model=", layers: 8, top_k: 2"))
    assert (model.layers, model.top_k, model.experts, model.dtype) == (8, 2, 512, "bf16")
    assert [model.attention_kind(layer) for layer in (0, 3, 7)] == ["linear_attention", *["full_attention"] * 2]


def test_kinds_of_layers_follow_from_what_the_config_says(tmp_path):
    scout = ModelSpec(**read_hf_config(written(tmp_path, CONFIGS["llama4-scout"])).fields)
    assert scout.layer_types == ("chunked_attention",) * 3 + ("full_attention",)
    maverick = ModelSpec(**read_hf_config(written(tmp_path, CONFIGS["llama4-maverick"])).fields)
    assert [maverick.is_moe_layer(layer) for layer in range(4)] == [False, True, False, True]
    gpt_oss = ModelSpec(**read_hf_config(written(tmp_path, CONFIGS["gpt-oss-20b"])).fields)
    assert gpt_oss.layer_types == ("sliding_attention", "full_attention") and gpt_oss.attention_sinks
    deepseek = ModelSpec(**read_hf_config(written(tmp_path, CONFIGS["deepseek-v3"])).fields)
    assert deepseek.layers * deepseek.kv_cache_bytes_per_token_layer == 61 * 576 * 2
    assert (deepseek.num_nextn_predict_layers, deepseek.dense_layers, deepseek.use_routing_bias) == (1, 3, True)


def test_windows_and_heads_of_gemma_2(tmp_path):
    model = ModelSpec(**read_hf_config(written(tmp_path, CONFIGS["gemma-2-2b"])).fields)
    assert [model.attention_kind(layer) for layer in range(3)] == [*model.layer_types, model.layer_types[0]]
    assert model.layer_types == ("sliding_attention", "full_attention")
    assert (
        model.head_dim == 256
        and model.tie_word_embeddings
        and model.num_active_params == model.num_params + model.hidden
    )


def test_dense_families_with_windows(tmp_path):
    llama = {key: value for key, value in CONFIGS["llama3-70b"].items() if key != "model_type"}
    fields = read_hf_config(written(tmp_path, {**llama, "model_type": "mistral", "sliding_window": 4096})).fields
    assert fields["sliding_window"] == 4096 and "layer_types" not in fields
    qwen = {**llama, "model_type": "qwen2", "sliding_window": 4096, "max_window_layers": 40}
    assert "sliding_window" not in read_hf_config(written(tmp_path, {**qwen, "use_sliding_window": False})).fields
    fields = read_hf_config(written(tmp_path, {**qwen, "use_sliding_window": True})).fields
    assert fields["layer_types"] == ("full_attention",) * 40 + ("sliding_attention",) * 40


KEYS_OF_OLD_FILES = {
    "gpt2-xl": {
        **{"output_past": True, "gradient_checkpointing": False, "finetuning_task": None, "use_bfloat16": False},
        **{"task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}}, "num_labels": 1},
        **{"summary_activation": None, "summary_first_dropout": 0.1, "summary_proj_to_labels": True},
        **{"summary_use_proj": True, "n_special": 0, "predict_special_tokens": True, "is_decoder": False},
    },
    "llama3-70b": {"pretraining_tp": 2, "max_sequence_length": 2048, "_commit_hash": None},
}


@pytest.mark.parametrize("name", KEYS_OF_OLD_FILES)
def test_keys_that_old_files_have_change_nothing(tmp_path, name):
    config, old = CONFIGS[name], read_hf_config(written(tmp_path, CONFIGS[name] | KEYS_OF_OLD_FILES[name]))
    assert old.fields == read_hf_config(written(tmp_path, config)).fields


@pytest.mark.parametrize(
    ("dense", "step", "layers_with_experts"),
    [
        ([0, 1], 1, [*range(2, 12)]),
        ([0, 1], 2, [3, 5, 7, 9, 11]),
        ([1], 2, [3, 5, 7, 9, 11]),
        ([4, 6], 2, [1, 3, 5, 7, 9, 11]),
        ([*range(12)], 1, []),
    ],
)
def test_layers_without_experts_are_those_that_the_library_builds(tmp_path, dense, step, layers_with_experts):
    """A layer has experts where it is not listed and its number, from 1, is a multiple of the step."""
    changes = {"num_hidden_layers": 12, "mlp_only_layers": dense, "decoder_sparse_step": step}
    model = ModelSpec(**read_hf_config(written(tmp_path, CONFIGS["qwen3-235b-a22b"] | changes)).fields)
    assert [layer for layer in range(12) if model.is_moe_layer(layer)] == layers_with_experts


@pytest.mark.parametrize(("dense", "step"), [([5], 1), ([5], 2), ([0, 7], 1), ([3, 4, 9], 2), ([11], 3)])
def test_the_list_of_dense_layers_that_a_hint_names_is_read(tmp_path, dense, step):
    config = CONFIGS["qwen3-235b-a22b"] | {"num_hidden_layers": 12, "decoder_sparse_step": step}
    with pytest.raises(InvalidValueError, match="must list the first layers") as caught:
        read_hf_config(written(tmp_path, config | {"mlp_only_layers": dense}))
    listed = json.loads(re.search(r'"mlp_only_layers": (\[.*?\])', caught.value.hint)[1])
    model = ModelSpec(**read_hf_config(written(tmp_path, config | {"mlp_only_layers": listed})).fields)
    sparse = [layer for layer in range(12) if layer not in dense and (layer + 1) % step == 0]
    assert model.num_moe_layers == len(sparse)


def test_quantised_weights_say_what_is_taken(tmp_path):
    work = build(scenario(tmp_path, CONFIGS["gpt-oss-20b"]))
    (said,) = [taken for taken in work.assumptions if taken.key == "model.dtype"]
    assert said.value == "bf16" and "quantised (mxfp4)" in said.why
    work = build(scenario(tmp_path, CONFIGS["gpt-oss-20b"], model=", dtype: fp8"))
    assert work.work.model.dtype == "fp8" and not [taken for taken in work.assumptions if taken.key == "model.dtype"]


@pytest.mark.parametrize(("dtype", "taken"), [("float16", "fp16"), ("torch.bfloat16", "bf16"), ("float32", None)])
def test_the_type_of_weights_is_that_of_the_file(tmp_path, dtype, taken):
    hf = read_hf_config(written(tmp_path, {**CONFIGS["mixtral-8x7b"], "torch_dtype": dtype}))
    assert hf.fields.get("dtype") == taken
    assert [value.why for value in hf.taken] == ([] if taken else ["the type of the file, float32, is not modelled"])


def test_groups_of_experts_and_vision_are_said(tmp_path):
    (groups, *_), (vision, *_) = (
        [value for value in read_hf_config(written(tmp_path, CONFIGS[name])).taken if value.key == key]
        for name, key in (("deepseek-v3", "routing.max_nodes_per_token"), ("llama4-scout", "model.hf_config"))
    )
    assert "max_nodes_per_token: 4" in groups.why and "without vision" in vision.why


def test_parts_of_an_mtp_layer_are_read_and_where_a_file_has_none_that_is_said(tmp_path):
    config = {**CONFIGS["nemotron-3-nano-30b-a3b"], "num_nextn_predict_layers": 1}
    read = read_hf_config(written(tmp_path, config | {"mtp_hybrid_override_pattern": "*E"}))
    assert (read.fields["mtp_hybrid_override_pattern"], read.taken) == ("*E", ())
    read = read_hf_config(written(tmp_path, config | {"mtp_layers_block_type": ["attention", "moe"]}))
    assert (read.fields["mtp_hybrid_override_pattern"], read.taken) == ("*E", ())
    assert [value.key for value in read_hf_config(written(tmp_path, config)).taken] == [
        "model.num_nextn_predict_layers"
    ]


# ---- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_hidden_layers": None}, "num_hidden_layers must be given"),
        (
            {"num_hidden_layers": "61"},
            "num_hidden_layers must be an integer from 1 to 10,000, got the text '61'. Remove the quotes: write 61.",
        ),
        ({"hidden_size": "many"}, "hidden_size must be an integer .* got the text 'many'. Correct the number."),
        ({"tie_word_embeddings": "False"}, "tie_word_embeddings must be .* got the text 'False'. .* write false."),
        ({"attention_dropout": "0.1"}, "attention_dropout must be .* got the text '0.1'. Remove the quotes: write 0.1"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers must be an integer from 1 to 10,000"),
        ({"hidden_size": True}, "hidden_size must be an integer"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings must be true or false"),
        ({"index_topk": 2048}, "index_topk must be a key that is understood for this model_type"),
        ({"num_hiden_layers": 61}, "num_hiden_layers must be a key .* Did you mean `num_hidden_layers`"),
        ({"moe_layer_freq": 2}, "moe_layer_freq must be 1, got 2"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder must be false, got true"),
        ({"attention_dropout": -1}, "attention_dropout must be a number from 0 to below 1"),
        ({"num_key_value_heads": 3}, r"num_key_value_heads \(model.kv_heads\) must divide model.heads = 128, got 3"),
        (
            {"num_experts_per_tok": 4, "experts_per_token": 8},
            "experts_per_token must agree with num_experts_per_tok = 4",
        ),
        ({"quantization_config": "fp8"}, "quantization_config must be an object"),
        ({"model_type": "deepseek_v32"}, "model_type must be one of .* Did you mean `deepseek_v3`"),
        ({"model_type": "t5"}, "model_type must be one of .* `moesim list models` .* architecture is deepseek_v3"),
        ({"model_type": "t5", "hidden_size": None}, "model_type must be .* Give the model's fields in the scenario"),
        ({"model_type": 3}, "model_type must be a text, got 3"),
        ({"model_type": None}, "model_type must be given"),
    ],
)
def test_values_that_cannot_be_are_refused_with_file_and_key(tmp_path, changes, says):
    with pytest.raises(InvalidValueError, match=f"config.json: {says}") as caught:
        check_values(scenario(tmp_path, CONFIGS["deepseek-v3"] | changes))
    assert caught.value.hint


JAMBA = {
    "model_type": "jamba",
    **{"attn_layer_offset": 4, "attn_layer_period": 8, "expert_layer_offset": 1, "expert_layer_period": 2},
    **{"hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336, "mamba_d_conv": 4, "mamba_d_state": 16},
    **{"mamba_dt_rank": 256, "mamba_expand": 2, "num_attention_heads": 32, "num_experts": 16, "num_experts_per_tok": 2},
    **{"num_hidden_layers": 32, "num_key_value_heads": 8, "tie_word_embeddings": False, "vocab_size": 65536},
}


def test_the_section_that_an_unknown_model_type_is_answered_with_runs(tmp_path):
    with pytest.raises(InvalidValueError, match="model_type must be one of") as caught:
        read_hf_config(written(tmp_path, JAMBA))
    hint = caught.value.hint
    assert "The nearest architecture is mixtral." in hint and "It leaves out attn_layer_offset, attn_layer_per" in hint
    section = re.search(r"model: (\{.*?\})", hint)[1]
    path = tmp_path / "scenario.yaml"
    path.write_text(SCENARIO.replace("{hf_config: config.json}", section), encoding="utf-8")
    model = model_of(load_scenario(path))
    assert (model.layers, model.experts, model.top_k, model.gated, model.ffn) == (32, 16, 2, True, 14336)


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("dbrx", {"attn_config": 8}, "attn_config must be an object, got 8"),
        ("dbrx", {"ffn_config": {"num_experts": 2}}, "ffn_config.moe_num_experts must be given"),
        ("dbrx", {"attn_config": {"kv_n_heads": 8, "new": 1}}, "attn_config.new must be a key that is understood"),
        ("hunyuan-a13b", {"moe_topk": [8, 4]}, "moe_topk must be the same number for each layer"),
        ("hunyuan-a13b", {"use_cla": True}, "use_cla must be false, got true"),
        ("ernie-4.5-300b-a47b", {"moe_layer_end_index": 40}, "moe_layer_end_index must be -1 or 53, got 40"),
        ("gemma-2-2b", {"sliding_window_size": 8}, "sliding_window_size must be 4096, got 8"),
        ("qwen3-235b-a22b", {"mlp_only_layers": [3]}, "mlp_only_layers must list the first layers"),
        ("qwen3-235b-a22b", {"mlp_only_layers": [94]}, "mlp_only_layers must list layers from 0 to 93, got .94."),
        ("qwen3-235b-a22b", {"shared_expert_intermediate_size": 8}, "shared_expert_intermediate_size must be 0, got 8"),
        ("qwen3-next-80b-a3b", {"layer_types": ["mamba"] * 48}, "layer_types must be a list of linear_attention"),
        ("qwen3-next-80b-a3b", {"layer_types": ["full_attention"]}, "layer_types must have one kind for each of 48"),
        ("minimax-m2", {"attn_type_list": [0] * 62}, "attn_type_list must be .*lightning attention"),
        ("nemotron-h-8b", {"hybrid_override_pattern": "MX"}, "hybrid_override_pattern must be a text of M"),
        ("nemotron-h-8b", {"num_hidden_layers": 50}, "num_hidden_layers must be the 52 letters"),
        ("qwen3-235b-a22b", {"moe_latent_size": 1024}, "moe_latent_size must be null, got 1024"),
        ("gpt-oss-20b", {"sliding_window": None}, "sliding_window must be given with layer_types"),
        ("llama4-scout", {"text_config": None}, "text_config must be an object"),
        ("gpt2-xl", {"n_head": 24}, r"n_embd \(model.hidden\) must be a multiple of model.heads"),
    ],
)
def test_what_a_family_cannot_say_is_refused(tmp_path, name, changes, says):
    with pytest.raises(InvalidValueError, match=says):
        check_values(scenario(tmp_path, CONFIGS[name] | changes))


def test_a_key_below_text_config_is_named_with_it(tmp_path):
    config = CONFIGS["llama4-scout"]
    changed = config | {"text_config": config["text_config"] | {"moe_layers": [0, 5]}}
    with pytest.raises(InvalidValueError, match=r"text_config\.moe_layers must list every layer"):
        read_hf_config(written(tmp_path, changed))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "the file must be JSON, got no valid JSON"),
        (b"\xfa\xfe", "the file must be UTF-8 text"),
        (b"[1]", "the file must be a JSON object"),
        (b"[" * 100_000, "the file must be JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "the file must be JSON"),
        (b" " * ((1 << 20) + 1), "the file must be at most 1 MiB large"),
    ],
)
def test_files_that_are_no_config_are_refused(tmp_path, content, says):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InvalidValueError, match=says):
        read_hf_config(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("{hf_config: ../config.json}", "model.hf_config must be in the scenario's folder"),
        ("{hf_config: none.json}", "model.hf_config must exist"),
        ("{hf_config: config.json, preset: gpt-22b}", "model.hf_config must be left out with model.preset"),
        ("{hf_config: config.json, kv_heads: 3}", r"scenario.yaml:3: model.kv_heads must divide"),
    ],
)
def test_files_elsewhere_and_a_preset_beside_are_refused(tmp_path, model, says):
    written(tmp_path, CONFIGS["mixtral-8x7b"])
    path = tmp_path / "scenario.yaml"
    path.write_text(SCENARIO.replace("{hf_config: config.json}", model), encoding="utf-8")
    with pytest.raises(InvalidValueError, match=says):
        check_values(load_scenario(path))


def test_names_of_hugging_face_are_answered_with_ours(tmp_path):
    path = tmp_path / "scenario.yaml"
    names = "{num_hidden_layers: 94, moe_intermediate_size: 8, intermediate_size: 9, n_routed_experts: 4}"
    path.write_text(SCENARIO.replace("{hf_config: config.json}", names), encoding="utf-8")
    says = (
        "Here num_hidden_layers is `layers`, moe_intermediate_size is `ffn`, intermediate_size is `dense_ffn`, "
        "n_routed_experts is `experts`; or name the file: `hf_config: config.json`"
    )
    with pytest.raises(InvalidValueError, match=says):
        load_scenario(path)


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-5, 10**6)
    | st.floats()
    | st.text(max_size=5)
    | st.lists(st.integers(-1, 3))
)


@given(
    name=st.sampled_from(sorted(CONFIGS)),
    changes=st.dictionaries(st.integers(0, 60), VALUES | st.dictionaries(st.text(max_size=3), VALUES), max_size=3),
    dropped=st.lists(st.integers(0, 60), max_size=2),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_change_of_a_config_is_read_or_refused(tmp_path, name, changes, dropped):
    config = json.loads(json.dumps(CONFIGS[name]))
    part = config.get("text_config", config)
    keys = sorted(part)
    for position, value in changes.items():
        part[keys[position % len(keys)]] = value
    for position in dropped:
        part.pop(keys[position % len(keys)], None)
    try:
        model = ModelSpec(**read_hf_config(written(tmp_path, config)).fields)
    except InvalidValueError as error:
        assert error.rule and error.hint
        return
    row_counted_twice = model.hidden * model.tie_word_embeddings  # a token's row is a row of the head as well
    assert model.num_params + row_counted_twice >= model.num_active_params > 0
