"""Files as recorders write them: what each is taken for, and how counts and chosen experts are distinguished."""

import json
import pickle
import zipfile

import numpy as np
import pytest

from sim.errors import InvalidValueError
from sim.scenario.recordings import find_recording, read_recording
from sim.scenario.recordings.arrays import Shape
from sim.scenario.scenario_files import bundled_folder
from workloads.routing import draw_counts
from workloads.routing.skew import Skew

RNG = np.random.default_rng(1)
IDS = np.stack([np.stack([RNG.permutation(64)[:6] for _ in range(3)]) for _ in range(100)])
"""Chosen experts of 100 tokens in 3 layers: top-6 of 64."""
COUNTS = np.stack([np.bincount(IDS[:, layer].ravel(), minlength=64) for layer in range(3)])
"""What `IDS` counts to. Shape [layers, experts]."""

SGLANG = "layer_id,expert_id,count\n3,0,24990\n3,18,39249\n3,29,13378\n3,34,13874\n3,43,22360\n"
"""The start of a file of SGLang's recorder, as a public report shows it."""


def read(tmp_path, name, content, **shape):
    """Return the recording of a text, bytes or arrays by name, written to a file."""
    path = tmp_path / name
    if isinstance(content, dict):
        np.savez(path, **content)
    elif isinstance(content, np.ndarray):
        np.save(path, content)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_recording(path, shape=Shape(**shape))


def refused(tmp_path, name, content, **shape):
    with pytest.raises(InvalidValueError) as refusal:
        read(tmp_path, name, content, **shape)
    return str(refusal.value)


# ---- tables ------------------------------------------------------------------------------------------------------


def test_a_table_of_sglang_is_read_with_the_experts_of_the_model(tmp_path):
    recording = read(tmp_path, "a.csv", SGLANG, num_experts=64)
    assert recording.tokens.shape == (1, 1, 64)
    assert recording.tokens[0, 0, [0, 18, 43, 44, 63]].tolist() == [24990, 39249, 22360, 0, 0]
    idle = "experts 44 to 63 have no rows: idle"
    assert recording.described == f"SGLang's expert distribution: 1 layer (3), 64 experts, 1 step; {idle}"


def test_without_the_model_the_next_power_of_two_is_assumed_and_said(tmp_path):
    """The file lists only experts with tokens, so that the last of them tells a lower bound."""
    recording = read(tmp_path, "a.csv", SGLANG)
    assert recording.tokens.shape[2] == 64
    assert recording.assumes_experts
    assert "64 experts (assumed: the largest in the file is 43" in recording.described


@pytest.mark.parametrize(
    "head",
    [
        "layer,expert,tokens",
        "layer_idx,expert_idx,num_tokens",
        "Layer ID,Expert ID,Token Count",
        "layer,expert_id,load",
    ],
)
def test_columns_are_known_by_the_names_of_several_recorders(tmp_path, head):
    recording = read(tmp_path, "a.csv", f"{head}\n0,1,5\n0,0,3\n")
    assert recording.tokens.tolist() == [[[3.0, 5.0]]]


@pytest.mark.parametrize("mark", ["\t", ";", ", "])
def test_cells_may_be_separated_by_other_marks(tmp_path, mark):
    text = SGLANG.replace(",", mark)
    assert read(tmp_path, "a.tsv", f"# a comment\n\n{text}", num_experts=64).tokens.sum() == 113_851


def test_steps_and_layers_keep_the_numbers_of_the_file(tmp_path):
    rows = [f"{step},{layer},{expert},7" for step in (1000, 1001) for layer in (3, 4) for expert in range(8)]
    recording = read(tmp_path, "a.csv", "\n".join(["forward_pass_id,layer_id,expert_id,count", *rows]))
    assert recording.tokens.shape == (2, 2, 8)
    assert (recording.steps, recording.layers) == ((1000, 1001), (3, 4))
    assert "2 layers (3 to 4), 8 experts, 2 steps (1000 to 1001)" in recording.described


def test_rows_of_several_ranks_are_summed_and_what_is_not_used_is_said(tmp_path):
    recording = read(tmp_path, "a.csv", "rank,layer,expert,count\n0,0,0,3\n1,0,0,4\n0,0,1,1\n1,0,1,1\n")
    assert recording.tokens.tolist() == [[[7.0, 2.0]]]
    assert "not used: rank; rows of equal step, layer and expert were summed" in recording.described


def test_a_row_may_have_the_tokens_of_all_experts(tmp_path):
    recording = read(tmp_path, "a.csv", "layer,expert_0,expert_1,expert_2\n3,1,2,0\n4,0,5,0\n", num_experts=64)
    assert recording.tokens.tolist() == [[[1.0, 2.0, 0.0], [0.0, 5.0, 0.0]]]  # the columns tell the experts


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "token_id,layer_id,expert_id\n0,3,1\n0,3,5\n1,3,1\n1,3,7\n"),
        ("a.csv", "token,layer,expert_0,expert_1\n0,3,1,5\n1,3,1,7\n"),
        ("a.csv", "layer,topk_0,topk_1,topk_2,weight_0\n3,1,5,-1,0.5\n3,1,7,-1,0.5\n"),
        ("a.csv", "token_idx,layer,k,expert_id,weight\n0,3,0,1,0.5\n0,3,1,5,0.5\n1,3,0,1,0.5\n1,3,1,7,0.5\n"),
        (
            "a.csv",
            "token_idx,layer_idx,topk_idx,expert_idx,topk_weight\n0,3,0,1,.5\n0,3,1,5,.5\n1,3,0,1,1\n1,3,1,7,1\n",
        ),
        ("a.csv", "layer_idx,topk_idx,expert_idx\n3,0,1\n3,1,5\n3,0,1\n3,1,7\n"),
        ("a.csv", "token,layer,expert_ids\n0,3,1;5\n1,3,1;7\n"),
        ("a.csv", 'layer,token_idx,topk_ids\n3,0,"[1, 5]"\n3,1,"[1, 7]"\n'),
        (
            "a.jsonl",
            '{"layer": 3, "token_idx": 0, "topk_ids": [1, 5]}\n{"layer": 3, "token_idx": 1, "topk_ids": [1, 7]}',
        ),
        ("a.jsonl", '{"layer": 3, "batch_id": 12, "topk_experts": [[1, 5], [1, 7]]}'),
        ("a.json", '[{"layer": 3, "topk_ids": [1, 5, -1]}, {"layer": 3, "topk_ids": [1, 7, -1]}]'),
    ],
)
def test_rows_of_chosen_experts_are_counted_and_never_summed(tmp_path, name, text):
    recording = read(tmp_path, name, text, num_experts=8)
    assert recording.tokens.tolist() == [[[0, 2, 0, 0, 0, 1, 0, 1]]]
    assert "chosen experts" in recording.described


def test_lists_win_over_a_column_of_experts_and_every_unread_column_is_named(tmp_path):
    extra = ",".join(f"extra_{number}" for number in range(18))
    text = f"layer,expert,topk_ids,{extra},a_last_column_with_a_long_name\n0,9,1;3,{'0,' * 18}0\n"
    described = read(tmp_path, "a.csv", text, num_experts=8).described
    assert f"not used: expert, {extra.replace(',', ', ')}, a_last_column" in described


def test_a_recording_of_a_smaller_model_is_not_filled_up(tmp_path):
    """Most of 8 experts have rows: 64 experts are another model, and 9 may have an idle one."""
    rows = "\n".join(f"0,{expert},5" for expert in range(8))
    assert read(tmp_path, "a.csv", f"layer,expert,count\n{rows}\n", num_experts=64).tokens.shape[2] == 8
    assert read(tmp_path, "b.csv", f"layer,expert,count\n{rows}\n", num_experts=9).tokens.shape[2] == 9
    sparse = rows.replace("0,3,5\n", "")
    assert read(tmp_path, "c.csv", f"layer,expert,count\n{sparse}\n", num_experts=64).tokens.shape[2] == 8
    assert read(tmp_path, "d.csv", SGLANG, num_experts=256).tokens.shape[2] == 256  # 5 of 44 experts tell little


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("layer,expert,tokens,count", "have one column of count, got tokens, count"),
        ("layer,token,router_logits", "have counts or chosen experts, got weights"),
        ("expert,count", "have columns of layer, expert and tokens, got expert, count"),
        ("3,0,24990", "have columns of layer, expert and tokens"),
    ],
)
def test_columns_that_are_no_recording_are_refused(tmp_path, head, words):
    assert words in refused(tmp_path, "a.csv", f"{head}\n0,0,0,0\n")


# ---- arrays ------------------------------------------------------------------------------------------------------


def test_logical_counts_leave_out_dense_layers_and_empty_steps(tmp_path):
    """SGLang's array has a row for every layer, and steps of its buffer that were not filled."""
    counts = np.zeros((3, 6, 64), dtype=np.int32)
    counts[0, 3:], counts[1, 3:] = COUNTS, 2 * COUNTS
    recording = read(tmp_path, "a.npz", {"rank": 0, "logical_count": counts})
    np.testing.assert_array_equal(recording.tokens, [COUNTS, 2 * COUNTS])
    assert recording.described == (
        "SGLang's expert distribution: 3 layers (3 to 5), 64 experts, 2 steps; 3 layers without tokens left out; "
        "1 step without tokens left out"
    )


@pytest.mark.parametrize("name", ["tokens", "logical_count", "expert_load", "counts", "tokens_per_expert"])
def test_counts_of_one_step_need_no_dim_for_it(tmp_path, name):
    np.testing.assert_array_equal(read(tmp_path, "a.npz", {name: COUNTS}).tokens, [COUNTS])


def test_physical_experts_are_summed_to_logical_experts_by_their_map(tmp_path):
    """The load of vLLM counts slots; slots 0 and 64 hold expert 0 here, and slots 1 and 65 expert 1."""
    slots = np.concatenate([COUNTS, COUNTS[:, :2]], axis=1)
    maps = np.tile(np.concatenate([np.arange(64), [0, 1]]), (3, 1))
    recording = read(tmp_path, "a.npz", {"expert_load_window": slots[None], "physical_to_logical_map": maps})
    wanted = COUNTS.copy()
    wanted[:, :2] *= 2
    np.testing.assert_array_equal(recording.tokens, [wanted])
    assert "vLLM's expert load: 3 layers (0 to 2), 64 experts" in recording.described
    assert "66 physical experts summed" in recording.described
    for number, name in enumerate(["expert_load", "expert_load_pass", "counts"]):
        again = read(tmp_path, f"{number}.npz", {name: slots, "physical_to_logical_map": maps})
        np.testing.assert_array_equal(again.tokens, [wanted])
    logical = read(tmp_path, "c.npz", {"logical_count": COUNTS, "physical_to_logical_map": maps})
    np.testing.assert_array_equal(logical.tokens, [COUNTS])
    alone = read(tmp_path, "b.npz", {"expert_load_pass": slots})
    assert "each physical expert is taken for an expert" in alone.described


@pytest.mark.parametrize("dtype", ["i2", "i4", "i8", "u1"])
@pytest.mark.parametrize("name", ["topk_ids", "routed_experts", "topk_idx", "selected_experts"])
def test_chosen_experts_are_counted_whatever_their_type(tmp_path, dtype, name):
    recording = read(tmp_path, "a.npz", {name: IDS.astype(dtype)}, num_experts=64)
    np.testing.assert_array_equal(recording.tokens, [COUNTS])
    assert "100 tokens of top-6 counted" in recording.described


def test_an_array_without_a_name_is_told_by_its_values(tmp_path):
    """Ids differ within each row, and their sums differ from layer to layer; counts of a step sum to the same."""
    for content in (IDS, {"arr_0": IDS}):
        name = "a.npz" if isinstance(content, dict) else "a.npy"
        np.testing.assert_array_equal(read(tmp_path, name, content, num_experts=64).tokens, [COUNTS])
    np.testing.assert_array_equal(read(tmp_path, "b.npy", COUNTS).tokens, [COUNTS])
    np.testing.assert_array_equal(read(tmp_path, "c.npz", {"arr_0": COUNTS}).tokens, [COUNTS])


@pytest.mark.parametrize("shape", [(4, 64, 2), (4, 512, 6), (512, 48, 8), (64, 2)])
def test_ids_with_repeats_are_never_summed_as_counts(tmp_path, shape):
    """Drawn with replacement: rows with an id twice do not make counts of ids, nor do ids that are saved as floats."""
    ids = np.random.default_rng(2).integers(0, 64, shape)
    ids[..., :2] = np.where(ids[..., :1] % 8, ids[..., :2], 7)
    for name, array in (("a.npy", ids), ("b.npy", ids.astype(float))):
        assert "which may be either. Name it" in refused(tmp_path, name, array)
    assert read(tmp_path, "c.npz", {"topk_ids": ids}).tokens.sum() == ids.size


def test_more_layers_than_tokens_are_remarked_where_no_model_tells_them(tmp_path):
    """Ids [4, 64, 2] are four tokens in 64 layers, or 64 tokens in four: a name or a model tells."""
    ids = np.random.default_rng(2).integers(0, 64, (4, 64, 2))
    recording = read(tmp_path, "a.npz", {"topk_ids": ids})
    assert "if these are 64 tokens in 4 layers, name it topk_ids_of_layer" in recording.described
    assert "64 layers" in recording.described
    for name, shape in (("topk_ids_of_layer", {}), ("topk_ids", {"num_layers": 4}), ("topk_ids", {"num_layers": 64})):
        described = read(tmp_path, "b.npz", {name: ids}, **shape).described
        assert "name it" not in described


def test_choices_that_are_none_are_counted_in_a_remark(tmp_path):
    ids = IDS.copy()
    ids[:5, :, 0] = -1
    assert "15 choices of -1 left out" in read(tmp_path, "a.npz", {"topk_ids": ids}).described
    assert "2 choices of -1 left out" in read(tmp_path, "a.csv", "layer,topk_ids\n0,1;-1\n0,3;-1\n").described


def test_fractions_are_shares_and_no_counts(tmp_path):
    shares = np.random.default_rng(2).random((4, 16))
    for name, content in (
        ("a.npy", shares),
        ("b.npz", {"tokens": shares}),
        ("c.csv", "layer,expert,tokens\n0,0,5.5\n"),
    ):
        assert read(tmp_path, name, content).source == "shares, not counts"


def test_an_array_that_could_be_either_needs_a_name_or_a_model(tmp_path):
    """Two tokens, two layers, top-3 of 16, or two steps, two layers and three experts."""
    array = np.array([[[3, 9, 15], [2, 8, 1]], [[0, 5, 7], [11, 4, 6]]])
    assert "which may be either. Name it: tokens for counts" in refused(tmp_path, "a.npy", array)
    assert read(tmp_path, "b.npy", array, num_experts=16, top_k=3).tokens.shape == (1, 2, 16)
    assert read(tmp_path, "c.npy", array, num_experts=3, top_k=2).tokens.shape == (2, 2, 3)


def test_ids_under_a_name_of_counts_are_refused(tmp_path):
    assert "have counts, and no ids of experts, as tokens" in refused(tmp_path, "a.npz", {"tokens": IDS})


def test_layers_may_come_first_and_places_without_a_choice_are_left_out(tmp_path):
    """As in SGLang's `topk_ids_of_layer` [layers, tokens, top_k], padded with -1; or where the model says so."""
    padded = np.full((3, 110, 8), -1)
    padded[:, :100, :6] = IDS.swapaxes(0, 1)
    for name, shape in (("topk_ids_of_layer", {}), ("topk_ids", {"num_layers": 3})):
        recording = read(tmp_path, f"{name}.npz", {name: padded}, num_experts=64, **shape)
        np.testing.assert_array_equal(recording.tokens, [COUNTS])


def test_steps_may_come_before_tokens_and_layers_may_be_arrays_of_their_own(tmp_path):
    recording = read(tmp_path, "a.npz", {"topk_ids": np.stack([IDS, IDS])}, num_experts=64)
    np.testing.assert_array_equal(recording.tokens, [COUNTS, COUNTS])
    by_layer = {f"layer_{layer + 10}": IDS[:, layer] for layer in range(3)}
    recording = read(tmp_path, "b.npz", by_layer, num_experts=64)
    np.testing.assert_array_equal(recording.tokens, [COUNTS])
    assert recording.layers == (10, 11, 12)
    recording = read(tmp_path, "c.npz", {f"layer_{layer}": COUNTS[layer] for layer in range(3)})
    np.testing.assert_array_equal(recording.tokens, [COUNTS])
    recording = read(tmp_path, "layers_58_topk_ids.npy", IDS, num_experts=64)
    np.testing.assert_array_equal(recording.tokens, [COUNTS])
    for content in (COUNTS[0], IDS[:, 0]):
        recording = read(tmp_path, "layer_3.npy", content, num_experts=64, top_k=6)
        np.testing.assert_array_equal(recording.tokens, [COUNTS[:1]])
        assert recording.layers == (3,)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        ({"topk_ids": IDS - 2}, "have experts from 0 to 4095 in topk_ids, or -1 for none"),
        ({"topk_ids": IDS + 0.5}, "have experts from 0 to 4095"),
        ({"topk_ids": np.zeros((2, 600, 600), dtype=int)}, "with top_k of at most 64"),
        ({"topk_ids": np.arange(6)}, "have topk_ids [tokens, layers, top_k]"),
        (
            {"expert_load_pass": COUNTS, "physical_to_logical_map": COUNTS[:, :5]},
            "have a physical_to_logical_map [3, 64]",
        ),
        ({"tokens": COUNTS, "logical_count": COUNTS}, "have one array of routing"),
        ({"router_logits": np.ones((4, 3, 64))}, "have one array of routing, got none"),
        ({"tokens": np.zeros((0, 3))}, "have numbers in tokens, got an empty array"),
    ],
)
def test_arrays_that_are_no_recording_are_refused(tmp_path, array, words):
    assert words in refused(tmp_path, "a.npz", array)


def test_json_holds_arrays_as_lists_and_lines_of_steps(tmp_path):
    text = json.dumps({"rank": 0, "logical_count": COUNTS.tolist()})
    np.testing.assert_array_equal(read(tmp_path, "a.json", text).tokens, [COUNTS])
    lines = "\n".join(json.dumps({"step": step, "expert_load": COUNTS.tolist()}) for step in range(2))
    np.testing.assert_array_equal(read(tmp_path, "b.jsonl", lines).tokens, [COUNTS, COUNTS])
    records = [
        {"forward_pass_id": number, "rank": rank, "global_physical_count": COUNTS.tolist()}
        for number in (7, 8)
        for rank in (0, 1)
    ]
    data = {"records": records, "last_physical_to_logical_map": np.tile(np.arange(64), (3, 1)).tolist()}
    recording = read(tmp_path, "c.json", json.dumps(data))
    np.testing.assert_array_equal(recording.tokens, [2 * COUNTS, 2 * COUNTS])
    assert recording.source == "SGLang's expert distribution"


@pytest.mark.parametrize("with_map", [False, True])
def test_records_of_the_experts_of_each_token_are_counted_pass_by_pass(tmp_path, with_map):
    """Passes and ranks differ in their tokens; a rank that records the tokens of another rank counts once."""
    ids = IDS.swapaxes(0, 1)
    parts = ((7, 0, ids[:, :60]), (7, 1, ids[:, 60:]), (7, 2, ids[:, :60]), (8, 0, ids), (9, 0, ids[:, :0]))
    records = [
        {"forward_pass_id": number, "rank": rank, "topk_ids_of_layer": part.tolist(), "input_ids": [1]}
        for number, rank, part in parts
    ]
    data = {"records": records}
    if with_map:
        data["last_physical_to_logical_map"] = np.tile(np.arange(64), (3, 1)).tolist()
    recording = read(tmp_path, "a.json", json.dumps(data), num_experts=64)
    np.testing.assert_array_equal(recording.tokens, [COUNTS, COUNTS])
    if not with_map:
        assert recording.steps == (7, 8)
        assert "records of the same tokens on other ranks left out: 1" in recording.described


@pytest.mark.parametrize(
    "records",
    [
        [{"forward_pass_id": "a", "topk_ids_of_layer": [[[1, 2]]]}],
        [{"forward_pass_id": 1, "topk_ids_of_layer": [[1, 2]]}],
        [{"forward_pass_id": 1, "topk_ids_of_layer": []}],
        [{"forward_pass_id": 1, "topk_ids_of_layer": [[[1, 2]]]}, {"forward_pass_id": 1, "rank": 3}],
        [{"forward_pass_id": n, "topk_ids_of_layer": [[[1, 2]]] * n} for n in (1, 2)],
        [{"forward_pass_id": 1, "topk_ids_of_layer": [[[-1, -1]]]}],
    ],
)
def test_records_that_are_no_routing_are_refused(tmp_path, records):
    refused(tmp_path, "a.json", json.dumps({"records": records}))


# ---- files of torch.save -----------------------------------------------------------------------------------------


class Storage:
    """A storage of a tensor, which `torch.save` pickles by its key."""


class Tensor:
    """Stands for a tensor: it is pickled as PyTorch pickles a tensor over storage "0"."""

    def __init__(self, shape, function="torch._utils _rebuild_tensor_v2"):
        self.shape, self.function = shape, function


def torch_file(tensor, values):
    """Return the bytes of a file as `torch.save({"rank": 0, "logical_count": tensor}, ...)` writes it.

    The opcodes are those of pickle protocol 2, written out because PyTorch is not needed by any test.
    """
    strides = np.cumprod([1, *tensor.shape[:0:-1]])[::-1].tolist()

    def number(value):
        return b"J" + int(value).to_bytes(4, "little", signed=True)

    def text(value):
        return b"X" + len(value).to_bytes(4, "little") + value.encode()

    def named(value):
        module, name = value.split()
        return f"c{module}\n{name}\n".encode()

    def many(items):
        return b"(" + b"".join(map(number, items)) + b"t"

    storage = b"(" + text("storage") + named("torch IntStorage") + text("0") + text("cpu") + number(values.size) + b"tQ"
    hooks = named("collections OrderedDict") + b")R"
    arguments = b"(" + storage + number(0) + many(tensor.shape) + many(strides) + b"\x89" + hooks + b"t"
    pickled = (
        b"\x80\x02}(" + text("rank") + number(0) + text("logical_count") + named(tensor.function) + arguments + b"R"
    )
    return pickled + text("average_utilization_rate_over_window") + b"Nu."


def write_torch_file(path, pickled, values):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", values.astype("<i4").tobytes())
        archive.writestr("archive/version", "3\n")


def test_a_file_of_torch_save_is_read_without_pytorch(tmp_path):
    write_torch_file(tmp_path / "a.pt", torch_file(Tensor((1, 3, 64)), COUNTS), COUNTS)
    recording = read_recording(tmp_path / "a.pt")
    np.testing.assert_array_equal(recording.tokens, [COUNTS])
    assert recording.source == "SGLang's expert distribution"


def test_nothing_of_a_pickle_is_run(tmp_path):
    """Other callables than those of tensors are refused, and so are tensors beyond their storage."""
    write_torch_file(tmp_path / "a.pt", torch_file(Tensor((1, 3, 64), "os system"), COUNTS), COUNTS)
    write_torch_file(tmp_path / "b.pt", torch_file(Tensor((9, 3, 64)), COUNTS), COUNTS)
    write_torch_file(tmp_path / "c.pt", pickle.dumps(Storage(), protocol=4), COUNTS)
    for name in ("a.pt", "b.pt", "c.pt"):
        with pytest.raises(InvalidValueError, match=r"be a file of torch\.save with tensors of numbers"):
            read_recording(tmp_path / name)


# ---- the bundled recording ---------------------------------------------------------------------------------------


def test_the_bundled_recording_is_found_by_its_name_and_is_what_its_header_says():
    path = find_recording("sglang_sample")
    assert path == find_recording("traces/sglang_sample.csv") == bundled_folder() / "traces" / "sglang_sample.csv"
    recording = read_recording(path, shape=Shape(num_experts=64))
    drawn = draw_counts(
        "drift",
        num_sources=1,
        tokens=4096,
        num_experts=64,
        top_k=6,
        seed=7,
        layers=range(1, 9),
        microbatches=[0],
        skew=Skew(skew=1.0, dead_experts=1),
    )
    np.testing.assert_array_equal(recording.tokens, drawn[:, :, 0])
    assert recording.layers == tuple(range(1, 9))
