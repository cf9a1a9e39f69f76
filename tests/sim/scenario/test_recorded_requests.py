"""Recorded requests and measured layers: what is read, and what is refused with its line."""

import pytest

from sim.build.serving import build_serving
from sim.errors import InvalidValueError
from sim.scenario.load import load_scenario
from sim.scenario.recordings.requests import read_requests
from sim.scenario.recordings.step_times import read_step_times

JSONL = '{"timestamp": 1000, "input_length": 700, "output_length": 3, "hash_ids": [4, 9]}\n'
SCENARIO = """
cluster: {preset: dgx-h100, num_nodes: 1, gpus_per_node_used: 1}
model: {layers: 2, hidden: 256, heads: 4, ffn: 512, vocab: 1000}
parallel: {tp: 1}
workload: {kind: serving, requests: {trace: trace.jsonl, REST}}
"""


def file_of(tmp_path, text, name="trace.jsonl"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_mooncakes_lines_are_read(tmp_path):
    second = JSONL.replace("1000", "2500").replace("[4, 9]", "[4, 5]")
    first, later = read_requests(file_of(tmp_path, JSONL + second))
    assert (first.arrival_s, first.prompt_tokens, first.output_tokens, first.prefix_hashes) == (0.0, 700, 3, (4, 9))
    assert later.arrival_s == 1.5


@pytest.mark.parametrize(
    "text",
    [
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.97996,374,44\n2023-11-16 18:17:05.47996,9,1\n",
        "# a comment\narrived_at,num_prefill_tokens,num_decode_tokens\n3.5,374,44\n5.0,9,1\n",
        "arrival_s,input_toks,output_toks\n3.5,374,44\n5.0,9,1\n",
    ],
)
def test_azures_columns_are_read(tmp_path, text):
    first, later = read_requests(file_of(tmp_path, text, "trace.csv"))
    assert (first.prompt_tokens, first.output_tokens, later.prompt_tokens) == (374, 44, 9)
    assert later.arrival_s == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "have requests"),
        (JSONL + JSONL.replace("1000", "900"), "trace.jsonl:2"),
        (JSONL + JSONL.replace("1000", "900"), "be sorted by time of arrival"),
        (JSONL.replace("700", "0"), "whole number from 1 to 100,000,000 as input_length"),
        (JSONL.replace("700", "1e30"), "whole number from 1 to 100,000,000 as input_length"),
        (JSONL.replace("3,", "2.5,"), "as output_length"),
        (JSONL.replace("1000", "-5"), "time of arrival of at least 0"),
        (JSONL.replace("1000", "NaN"), "be JSON of finite numbers"),
        (JSONL.replace("[4, 9]", "[4]"), "have 2 hash_ids"),
        (JSONL.replace("[4, 9]", '["a", 1]'), "have whole numbers as hash_ids"),
        ("[1, 2]\n", "be a JSON object"),
        ('{"timestamp": 1}\n', "have input_length"),
    ],
)
def test_bad_lines_are_refused(tmp_path, text, words):
    with pytest.raises(InvalidValueError) as caught:
        read_requests(file_of(tmp_path, text))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", "have a column timestamp or arrived_at"),
        ("arrival_s,input_toks,output_toks\n0,1\n", "have 3 cells"),
        ("arrival_s,input_toks,output_toks\nsoon,1,1\n", "time of arrival"),
    ],
)
def test_bad_tables_are_refused(tmp_path, text, words):
    with pytest.raises(InvalidValueError, match=words):
        read_requests(file_of(tmp_path, text, "trace.csv"))


def work_of(tmp_path, rest):
    file_of(tmp_path, JSONL + JSONL.replace("1000", "3000"))
    path = file_of(tmp_path, SCENARIO.replace("REST", rest), "scenario.yaml")
    return build_serving(load_scenario(path))


def test_copies_of_a_trace_follow_each_other_with_prompts_of_their_own(tmp_path):
    work = work_of(tmp_path, "repeat: 2, speed: 2, count: 3")
    assert [request.arrival_s for request in work.requests] == [0.0, 1.0, 2.0]
    assert [request.prefix_hashes for request in work.requests] == [(4, 9), (4, 9), (14, 19)]


def test_a_block_that_does_not_divide_the_parts_of_prompts_is_refused(tmp_path):
    with pytest.raises(InvalidValueError, match=r"workload.server.block_size must divide the 512 tokens"):
        work_of(tmp_path, "count: 2}, server: {block_size: 48")


def test_more_copies_of_a_trace_than_can_be_kept_are_refused(tmp_path):
    with pytest.raises(InvalidValueError, match=r"workload.requests.repeat must make at most 1,000,000 requests"):
        work_of(tmp_path, "repeat: 600000")


def test_measured_layers_have_their_columns_and_numbers(tmp_path):
    columns = ("tokens", "activated_experts", "time_us")
    layers, rows = read_step_times(file_of(tmp_path, "# x\ntokens,activated_experts,time_us\n1,8,50.2\n"), "f", columns)
    assert (layers, rows.tolist()) == ([], [[1.0, 8.0, 50.2]])
    for text, words in (
        ("tokens,time_us\n1,2\n", "have the columns"),
        ("tokens,activated_experts,time_us\n", "have rows"),
        ("tokens,activated_experts,time_us\n1,-8,3\n", "a number of at least 0"),
    ):
        with pytest.raises(InvalidValueError, match=words):
            read_step_times(file_of(tmp_path, text), "f", columns)
