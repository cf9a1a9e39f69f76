"""Tuned recipes of Megatron-Bridge as scenarios: blank cells, what is refused and not counted, and runs that fit.

The rows are facts of NVIDIA-NeMo/Megatron-Bridge, `perf_recipes` (Apache-2.0), in the columns of the table that
`benchmarks/megatron_bridge_recipes.py` takes.
"""

import csv
from pathlib import Path

import pytest
from megatron_bridge_recipes import main, outcome_of
from recipes.recipe import RefusedError
from recipes.scenarios import ILLEGAL_IN_MEGATRON, scenario_of
from recipes.tables import read_table

COLUMNS = (
    *("model", "gpu", "gpus", "precision", "TP", "PP", "CP", "VP", "EP", "ETP", "GBS", "MBS", "seq", "SP", "layout"),
    *("recompute", "recompute_granularity", "recompute_layers", "dispatcher", "ep_overlap", "cuda_graph"),
    *("cuda_graph_scope", "fsdp", "offload_layers", "calls", "base", "file"),
)
DEEPSEEK = {"model": "deepseek_v3", "gpu": "gb300", "precision": "bf16", "base": "deepseek_v3_pretrain_config"}
QWEN = {"TP": 1, "CP": 1, "SP": "False", "seq": 4096}
QWEN_235B = QWEN | {"model": "qwen3_235b_a22b", "base": "qwen3_235b_a22b_pretrain_config", "MBS": 2}
QWEN_30B = QWEN | {"model": "qwen3_30b_a3b", "gpu": "b200", "gpus": 8, "precision": "bf16", "PP": 1, "EP": 8}
QWEN_30B |= {"GBS": 512, "MBS": 1, "base": "qwen3_30b_a3b_pretrain_config"}
LLAMA = {"model": "llama3_8b", "gpu": "h100", "precision": "fp8cs"}
ROWS = {
    "default layout": DEEPSEEK
    | {"gpus": 256, "TP": 1, "PP": 8, "CP": 1, "VP": 2, "EP": 8, "GBS": 4096, "MBS": 1, "SP": "False"}
    | {"gpu": "b300", "layout": "default map", "recompute": "['mla_up_proj']"},
    "layout": DEEPSEEK
    | {"gpus": 256, "precision": "fp8mx_partial_cg_dev", "TP": 1, "PP": 4, "CP": 1, "VP": 2, "EP": 64, "ETP": 1}
    | {"gpu": "gb200", "GBS": 8192, "MBS": 1, "layout": "Et*4|(tttt|)*14tmL", "dispatcher": "hybridep"},
    "FSDP": DEEPSEEK | {"gpus": 64, "precision": "bf16_fsdp"},
    "HSDP": DEEPSEEK | {"gpus": 128, "precision": "fp8mx_hsdp", "EP": 32, "MBS": 1, "cuda_graph": "full_iteration"},
    "too few": QWEN_235B | {"gpu": "gb300", "gpus": 64, "precision": "bf16", "PP": 4, "EP": 32, "GBS": 2048},
    "ends": QWEN_235B | {"gpu": "b300", "gpus": 256, "precision": "fp8mx", "PP": 8, "VP": 3, "EP": 8, "GBS": 8192},
    "few layers": LLAMA
    | {"gpus": 8, "TP": 1, "PP": 1, "CP": 1, "GBS": 128, "MBS": 1, "SP": "False", "recompute_granularity": "full"}
    | {"recompute_layers": 5, "base": "llama3_8b_pretrain_config"},
    "sibling": LLAMA | {"gpus": 64, "GBS": "global_batch_size"},
    "NVFP4": QWEN_30B | {"precision": "nvfp4"},
    "vision": QWEN_30B | {"model": "qwen3_vl_30b_a3b"},
    "LoRA": QWEN_30B | {"base": "qwen3_30b_a3b_peft_config"},
    "no shape": QWEN_30B | {"model": "qwen9_30b"},
    "no GPU": QWEN_30B | {"gpu": "tpu7"},
    "other base": QWEN_30B | {"seq": "", "base": "other_pretrain_config"},
    "no base": QWEN_30B | {"model": "mixtral_8x7b", "seq": "", "base": "other_pretrain_config"},
    "no sibling": QWEN_30B | {"precision": "fp8sc", "GBS": "global_batch_size", "base": ""},
    "no number": QWEN_30B | {"gpus": "many"},
    "unknown module": QWEN_30B | {"recompute": "['mhc']"},
}
RESULTS = """# comment
release,section,model,System,Precision,num_gpus,GBS,MBS,Sequence Length,FSDP,TP,PP,CP,VP,EP,GA,Tokens / sec / GPU,\
Model TFLOP / sec / GPU,srcfile
26.02,Pre-Training,Qwen3_30B_a3B,DGX-H100,FP8,16,1024,1,4096,0,1,1,1,n/a,16,,"8,826 (1,200)",203,
25.09,Pre-Training,LLAMA3_70B,DGX-H100,,64,128,1,8192,0,4,8,1,5,n/a,64,1619,727,
25.09,LoRA,LLAMA3_70B,DGX-H100,FP8,64,128,1,8192,0,4,8,1,5,n/a,64,1619,727,
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Return the table of all rows."""
    path = tmp_path / "recipes.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write("# comment\n")
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(ROWS.values())
    return path


@pytest.fixture
def rows(table):
    """Return the rows by their names here."""
    return dict(zip(ROWS, read_table(table), strict=True))


def test_blank_cells_are_those_of_the_base_and_are_listed(rows):
    recipe = rows["default layout"].recipe()
    assert (recipe.sequence_length, recipe.gradients, recipe.moments, recipe.mtp) == (4096, "bf16", "bf16", 1)
    assert (recipe.layout, recipe.vpp, recipe.etp) == ("Et*4|(t*4|)*14tmL", 2, 1)
    assert set(recipe.assumed) >= {"sequence_length", "gradients", "moments", "layout"}
    assert not {"tp", "pp", "ep", "sequences", "mbs", "recompute"} & set(recipe.assumed)


def test_a_layout_says_how_many_chunks_there_are(rows):
    recipe = rows["layout"].recipe()
    assert (recipe.vpp, recipe.fp8_recipe) == (4, "mxfp8")


@pytest.mark.parametrize(("name", "fsdp", "ep"), [("FSDP", "full", 64), ("HSDP", "hybrid", 32)])
def test_fsdp_has_no_pipeline(rows, name, fsdp, ep):
    recipe = rows[name].recipe()
    assert (recipe.fsdp, recipe.tp, recipe.pp, recipe.ep, recipe.layout) == (fsdp, 1, 1, ep, None)
    assert "zero" not in scenario_of(recipe)["parallel"]


def test_embedding_and_loss_count_as_layers_where_the_base_says_so(rows):
    parallel = scenario_of(rows["ends"].recipe())["parallel"]
    assert parallel["stage_layers"] == [3, *[4] * 22, 3]


def test_a_row_without_a_base_repeats_a_smaller_one_with_its_batch_scaled(rows):
    small, large = (rows[name].recipe() for name in ("few layers", "sibling"))
    assert (large.num_gpus, large.sequences, large.recompute, large.recompute_layers) == (64, 1024, "full", 5)
    assert large.sequences / large.num_gpus == small.sequences / small.num_gpus
    assert "8 GPUs" in large.assumed["sequences"]


def test_a_base_that_is_not_known_is_that_of_the_model_which_is_an_assumption(rows):
    recipe = rows["other base"].recipe()
    assert recipe.sequence_length == 4096
    assert "no other_pretrain_config" in recipe.assumed["sequence_length"]


def test_a_rack_is_filled_evenly_in_whole_trays(rows):
    assert scenario_of(rows["HSDP"].recipe())["cluster"] == {
        "preset": "gb300-nvl72",
        "num_nodes": 2,
        "gpus_per_node_used": 64,
    }


def test_a_short_run_has_all_of_the_recipe_but_its_microbatches(rows):
    recipe = rows["ends"].recipe()
    short, whole = scenario_of(recipe), scenario_of(recipe, full=True)
    assert (short["workload"]["microbatches"], whole["workload"]["microbatches"]) == (16, 8192 // 32 // 2)
    changed = {key: value for key, value in short["workload"].items() if value != whole["workload"][key]}
    assert set(changed) == {"microbatches", "sequences"}
    assert {key: short[key] for key in short if key != "workload"} == {
        key: whole[key] for key in whole if key != "workload"
    }


@pytest.mark.parametrize(
    ("name", "cause", "counted"),
    [
        ("NVFP4", "NVFP4", False),
        ("vision", "vision", False),
        ("LoRA", "LoRA", False),
        ("no shape", "model without a preset", False),
        ("no GPU", "GPU without a preset", False),
        ("too few", ILLEGAL_IN_MEGATRON, True),
        ("no base", "no base recipe", True),
        ("no sibling", "no base recipe and no recipe alike", True),
        ("no number", "the row cannot be read", True),
        ("unknown module", "refused: schedule.recompute_modules", True),
    ],
)
def test_what_cannot_be_said_is_refused_by_its_cause(rows, name, cause, counted):
    outcome = outcome_of(rows[name])
    assert (outcome.cause, outcome.is_counted) == (cause, counted)
    assert outcome.detail


def test_a_recipe_runs_and_fits_and_the_summary_counts_it(table, capsys):
    assert main([str(table), "--only", "llama3_8b h100 8", "--list"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("ok  llama3_8b h100 8 fp8cs")
    assert "counted 1, legal, run and fit 1 = 100.0%" in printed


def test_published_results_become_scenarios_with_their_measured_rates(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text(RESULTS, encoding="utf-8")
    qwen, llama, lora = read_table(path)
    recipe = qwen.recipe()
    assert (recipe.model, recipe.ep, recipe.fp8_recipe) == ("qwen3-30b-a3b", 16, "tensorwise")
    assert dict(recipe.published) == {"tokens_per_s_per_gpu": 8826, "model_flops_per_s_per_gpu": 203e12}
    scenario = scenario_of(llama.recipe(), full=True)
    assert scenario["parallel"] == {"tp": 4, "pp": 8, "vpp": 5, "dp": 2, "sp": True, "zero": 1}
    assert "fp8_recipe" in llama.recipe().assumed
    with pytest.raises(RefusedError, match="LoRA"):
        lora.recipe()
