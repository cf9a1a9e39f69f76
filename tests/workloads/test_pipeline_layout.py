"""Layout strings of Megatron-LM: what each model chunk holds, counted by hand, and what is refused."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import InvalidValueError
from workloads.pipeline_layout import PipelineLayout, layout_text, parse_layout

# Layouts of DeepSeek-V3, 61 layers and one MTP layer, counted by hand:
# text -> (layers of the first and the last chunks, chunks, chunk of the loss, MTP layers, their chunk).
DEEPSEEK_V3 = {
    # Megatron-LM, docs/user-guide/features/pipeline_parallel_layout: PP16 VPP2, MTP and loss alone.
    "Et*3|(tt|)*29,m|L": ((3, 2), (2, 0, 0), 32, 31, 1, 30),
    # Megatron-LM, MoE training guide: DeepSeek-V3 on GB200, 32 stages, the loss alone.
    "Et|(tt|)*30L": ((1, 2), (2, 2, 0), 32, 31, 0, 31),
    # Megatron-Bridge, performance recipe of DeepSeek-V3 on H100: MTP and loss together.
    "Et|(tt|)*30mL": ((1, 2), (2, 2, 0), 32, 31, 1, 31),
    # A published launch script, PP8 VPP4: a chunk of 3 layers in the middle.
    "Et*2|(tt|)*22t|(tt|)*7mL": ((2, 2), (2, 2, 0), 32, 31, 1, 31),
}


@pytest.mark.parametrize("text", DEEPSEEK_V3)
def test_published_layouts_of_deepseek_v3_place_61_layers(text):
    first, last, num_chunks, head, num_mtp, mtp = DEEPSEEK_V3[text]
    layout = parse_layout(text)
    assert layout.layers[:2] == first and layout.layers[-3:] == last
    assert (layout.num_chunks, sum(layout.layers)) == (num_chunks, 61)
    assert (layout.embedding_chunk, layout.head_chunk) == (0, head)
    assert (layout.num_mtp_layers, layout.mtp_chunk) == (num_mtp, mtp)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Et*3|t*4|mL", "Ettt|tttt|mL"),
        ("E,t*2,|,t,t,L", "Ett|ttL"),
        ("Et|(t*2|)*2tL", "Et|tt|tt|tL"),  # numbers inside of parentheses
        ("E(t|)*3L", "Et|t|t|L"),
        ("Et|*3tL", "Et|||tL"),  # a repeated end of a chunk leaves chunks empty
        ("|Et||tL", "|Et||tL"),
        ("Et*10L", "Et" + "t" * 9 + "L"),
        ("Et*0tL", "EtL"),
    ],
)
def test_repetitions_are_written_out(text, same):
    assert parse_layout(text) == parse_layout(same)


def test_empty_chunks_and_a_loss_alone_count_as_chunks():
    assert parse_layout("E||tt|L") == PipelineLayout(
        layers=(0, 0, 2, 0), embedding_chunk=0, head_chunk=3, num_mtp_layers=0, mtp_chunk=3
    )
    assert parse_layout("|Et|L|").head_chunk == 2
    assert parse_layout("|Et|L|").embedding_chunk == 1


def test_a_list_says_what_its_string_says():
    names = [["embedding", "decoder", "decoder"], ["decoder"], ["mtp", "loss"]]
    assert layout_text(names) == layout_text(["Ett", "t", "mL"]) == "Ett|t|mL"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tt|L", "place E (the embedding) once, got 0 of them"),
        ("EtE|L", "place E (the embedding) once, got 2 of them"),
        ("Et|t", "place L (the loss) once, got 0 of them"),
        ("tE|L", "L last, got `E` at character 2"),
        ("EtLt", "L last, got `t` at character 4"),
        ("Etmt|L", "t before m, and L last, got `t` at character 4"),
        ("Etm|mL", "place all m in one stage, got m in stages 0, 1"),
        ("Et|x|L", "got `x` at character 4"),
        ("Et |L", "got ` ` at character 3. Remove spaces"),
        ("ET|L", "got `T` at character 2. A transformer layer is a small t"),
        ("Et*|L", "have a number behind each *, got `*` at character 3"),
        ("E*t|L", "have a number behind each *, got `*` at character 2"),
        ("Et*2*3|L", "got `*` at character 5"),
        ("E(tt|L", "close each parenthesis, got `(` at character 2"),
        ("E(t|)L", "repeat what stands in parentheses, got `)` at character 5"),
        ("Et|)L", "got `)` at character 4. There is no ("),
        ("E((t|)*2)*2L", "got `(` at character 3. Parentheses do not nest"),
        ("Et*999999999999|L", "stand for at most 20,000 layers and stages"),
        ("E(t*1000|)*1000L", "stand for at most 20,000 layers and stages"),
    ],
)
def test_what_is_no_layout_is_refused_with_its_place(text, says):
    with pytest.raises(InvalidValueError, match=re.escape(says)) as caught:
        parse_layout(text)
    assert caught.value.field == "parallel.layout" and caught.value.hint


@pytest.mark.parametrize("stages", [["Et", 3], [["decoder", "head"]], ["E|t", "L"], [None]])
def test_what_no_list_may_hold_is_refused(stages):
    with pytest.raises(InvalidValueError, match="list for each stage"):
        layout_text(stages)


@given(st.text(alphabet="EtmL|()*,0123 x", max_size=30))
def test_any_text_is_read_or_refused(text):
    try:
        layout = parse_layout(text)
    except InvalidValueError:
        return
    assert layout.num_chunks == len(layout.layers) > layout.head_chunk >= layout.mtp_chunk >= layout.embedding_chunk
