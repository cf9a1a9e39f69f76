"""The printed report: nothing is cut at any width, nothing is markup, tables fit."""

import copy
import io

import pytest
from rich.console import Console

from sim.report.console.claims import expectation
from sim.report.console.run import print_report, print_rows, unit_of_key
from sim.report.console.tables import PIPE_WIDTH, make_console
from sim.results.accounts import CATEGORIES

REASON = (
    "simulated 5.847 M tokens/s, expected >= 26e6 tokens/s (0.225 times); arithmetic alone at the peak of all GPUs "
    "would allow 26.92 M tokens/s; the wires alone at their datasheet rate give 18.49 M tokens/s; most of the step "
    "goes to tp"
)


def claim(name, verdict, **more):
    return {
        "id": name,
        "says": f"{name} is [bold]great[/bold]",
        "source": "section 6",
        "metric": "steady_tokens_per_s",
        "expect": {"op": ">=", "value": 26e6, "unit": "tokens/s", "tolerance": 5e5},
        "value": 5.847e6,
        "interval": None,
        "verdict": verdict,
        "relevance": "contradicts",
        "reason": f"{name}: {REASON}",
        "relevance_reason": f"what was found about {name} speaks against 'optimal'",
        "bound_compute": 26.92e6,
        "bound_wires": None,
        "alternatives": [],
        "assumptions": ["parallel.dp"],
        "rival": None,
    } | more


def outcome(top_k, verdict, value=1e6):
    return {"set": {"model.top_k": top_k}, "value": value, "verdict": verdict}


@pytest.fixture
def data():
    """Return a run of four stages with a claim of each verdict."""
    stage = dict.fromkeys(CATEGORIES, 0) | {"attention": 300_000_000, "tp": 250_000_000, "idle": 50_000_000}
    return {
        "scenario": {
            "name": "EP64 on 64 GPUs",
            "parallel": {"strategy": "EP64_TP16_PP4", "convention": "spanning"},
            "cluster": {"preset": "dgx-h100", "num_nodes": 8, "device": {"preset": "h100-sxm"}},
        },
        "assumptions": [{"key": "parallel.dp", "value": 1, "why": "what the other axes leave"}],
        "warnings": ["TP16 leaves a node."],
        "findings": ["A deadlock."],
        "metrics": {"step_time_s": 0.6, "mfu": 0.236, "num_gpus": 64, "exposed": {"tp_s": 0.25}, "none": None},
        "path_ns": stage,
        "stages_ns": [dict(stage) for _ in range(4)],
        "memory": {
            "peak_bytes_per_gpu": {"weights": 948_600_832, "logits": 0, "total": 948_600_832},
            "capacity_bytes": 64e9,
            "fits": True,
            "peak_stage": 0,
            "peak_time_s": 0.264,
        },
        "claims": [
            claim(
                "one", "holds", alternatives=[outcome(1, "holds"), outcome(4, "holds"), outcome(8, "not_judged", None)]
            ),
            claim("two", "refuted", rival={"strategy": "EP8_TP8", "value": 7e6}, interval=[5.8e6, 5.9e6]),
            claim("three", "depends", alternatives=[outcome(1, "holds"), outcome(4, "refuted"), outcome(8, "refuted")]),
            claim("four", "not_judged", value=None, expect={"superlative": "least"}),
        ],
        "bounds": {"batch_compute_s": 0.0487},
        "engine": {"runs": 44, "spans": 78_720, "events": 30_891},
    }


def printed(data, width, *, verbose=True, **console):
    file = io.StringIO()
    written = {"timeline": "out/timeline.png"}
    print_report(data, Console(file=file, width=width, **console), written=written, verbose=verbose)
    return file.getvalue()


def words(text):
    return " ".join(text.split())


@pytest.mark.parametrize("width", [60, 80, 100, 160, 240])
def test_every_reason_is_printed_whole(data, width):
    text = printed(data, width)
    reasons = words(text[text.index("WHY") : text.index("FINDINGS")])
    for item in data["claims"]:
        assert item["reason"] in reasons
        assert f"contradicts: {item['relevance_reason']}" in reasons
        assert f"“{item['says']}”, section 6" in reasons


@pytest.mark.parametrize("width", [80, 100, 160])
@pytest.mark.parametrize("num_stages", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 64])
@pytest.mark.parametrize("is_terminal", [False, True])
def test_tables_fit_the_console_without_broken_cells(data, width, num_stages, is_terminal):
    data["stages_ns"] = [dict(data["stages_ns"][0]) for _ in range(num_stages)]
    text = printed(data, width, force_terminal=is_terminal, color_system=None)
    assert max(map(len, text.splitlines())) <= width
    account = text[text.index("WHERE THE TIME") : text.index("MEMORY PER")].split("\n")[1:-2]
    assert [line.split()[0] for line in account if not line.startswith("  ─")][1:] == ["attention", "tp", "idle"]


def test_a_pipe_gets_neither_colours_nor_frames(data):
    text = printed(data, 120)
    assert "\x1b" not in text
    assert not set(text) & set("─│┃━╶╴┌┐└┘")


def test_a_terminal_gets_colours(data):
    assert "\x1b[1;31m✗ refuted" in printed(data, 120, force_terminal=True, color_system="standard")


def test_sections_come_in_order(data):
    text = printed(data, 120)
    titles = ["CLAIMS", "WHY", "FINDINGS", "METRICS", "WHERE THE TIME WENT", "MEMORY PER GPU"]
    titles += ["BOUNDS", "ASSUMPTIONS", "WARNINGS", "WRITTEN"]
    lines = text.splitlines()
    at = [next(i for i, line in enumerate(lines) if line.startswith(title)) for title in titles]
    assert at == sorted(at)
    assert text.startswith(
        "EP64 on 64 GPUs\nEP64_TP16_PP4 · convention spanning · 64 GPUs h100-sxm · 8 nodes of dgx-h100\n"
    )


@pytest.mark.parametrize(
    "line",
    [
        "  CLAIMS  1 hold, 1 refuted, 1 depend, 1 not judged",
        "  step_time_s 600 ms",
        "  exposed.tp_s 250 ms",
        "  mfu 23.6 %",
        "  attention 300.0 50.0",
        "  idle 50.0 8.3",
        "  weights 948.6 MB 100.0 %",
        "  fits in 64 GB: 1.5 % used",
        "  1 parallel.dp 1 what the other axes leave",
        "  rests on assumptions 1",
        "  ! TP16 leaves a node.",
        "  44 simulations, 78,720 spans, 30,891 events",
        "  timeline out/timeline.png",
        "  5.847 M tokens/s (5.8 to 5.9 M tokens/s over seeds) at least 26 M tokens/s",
        "  no value the least of all rivals",
    ],
)
def test_quantities_are_printed_in_units_of_people(data, line):
    assert words(line) in words(printed(data, 140))


def test_parts_that_are_zero_are_left_out(data):
    text = printed(data, 120)
    assert "ep dispatch" not in text
    assert "logits" not in text


def test_stages_that_do_not_fit_are_given_by_least_and_most(data):
    data["stages_ns"] = [dict(data["stages_ns"][0]) for _ in range(64)]
    data["stages_ns"][7] |= {"attention": 250_000_000, "idle": 100_000_000}
    text = words(printed(data, 100))
    assert "least most mean path" in text
    assert "attention 250.0 41.7 300.0 50.0 299.2 49.9 300.0 50.0" in text


@pytest.mark.parametrize(
    "missing", ["claims", "findings", "metrics", "stages_ns", "memory", "bounds", "engine", "scenario"]
)
def test_a_part_that_is_missing_is_left_out(data, missing):
    less = copy.deepcopy(data)
    del less[missing]
    printed(less, 100)
    less[missing] = type(data[missing])()
    printed(less, 100)


def test_nothing_at_all_is_printed_without_error():
    assert printed({}, 80)


@pytest.mark.parametrize("width", [60, 100])
def test_findings_and_warnings_are_printed_whole(data, width):
    data["findings"], data["warnings"] = [f"found: {REASON}", "b"], [f"beware: {REASON}"]
    text = words(printed(data, width))
    assert f"• found: {REASON} • b" in text
    assert f"! beware: {REASON}" in text


@pytest.mark.parametrize(
    ("rest", "is_whole"),
    [
        ("numba is not installed: pip install 'moesim[fast]'.", True),
        ("all of them carry compute traffic. Name the NICs in use under cluster.nics, of a, b.", True),
        ("embedding 1 of 1, residual_add 2 of 2, grouped_gemm 1 of 2.", False),
    ],
)
def test_a_screen_cuts_a_list_of_particulars_off_a_warning_and_nothing_else(data, rest, is_whole):
    data["warnings"] = [f"beware of what is longer than a line of the screen because of its very many words: {rest}"]
    text = words(printed(data, 100, verbose=False))
    assert (rest in text) == is_whole
    assert "! beware of what is longer" in text


@pytest.mark.parametrize(
    ("compiled", "why", "line"),
    [
        ({"compiled": True}, None, "engine: the compiled engine"),
        ({}, None, "engine: SimPy's processes"),
        ({}, "no kernel is kept", "engine: SimPy's processes, and not the compiled engine: no kernel is kept"),
    ],
)
def test_the_whole_report_says_which_engine_ran(data, compiled, why, line):
    data["engine"] |= compiled
    file = io.StringIO()
    print_report(data, Console(file=file, width=200), written={}, why_not_compiled=why)
    assert line in file.getvalue().splitlines()


def test_control_characters_do_not_reach_the_terminal(data):
    data["claims"][0]["says"] = data["warnings"][0] = data["scenario"]["name"] = "a\x1b[2Jb\x07"
    assert not set(printed(data, 100)) & {"\x1b", "\x07"}


def test_the_report_is_printed_where_letters_are_missing(data):
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    print_report(data, make_console(file), written={})
    file.flush()
    assert b"? holds" in file.buffer.getvalue()


def test_a_pipe_is_as_wide_as_agreed_and_columns_overrides_it(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert make_console(io.StringIO()).width == PIPE_WIDTH
    monkeypatch.setenv("COLUMNS", "77")
    assert make_console(io.StringIO()).width == 77


@pytest.mark.parametrize(
    ("expect", "text"),
    [
        ({"op": "<=", "value": 0.05, "unit": "s"}, "at most 50 ms"),
        ({"op": "==", "value": 468_750_000.0, "unit": None}, "468,750,000"),
        ({"op": "==", "value": True, "unit": None}, "true"),
        ({"op": "!=", "value": 1.5, "unit": None}, "not 1.5"),
    ],
)
def test_expectations_read_as_words(expect, text):
    assert expectation(expect) == text


@pytest.mark.parametrize(
    ("key", "unit"),
    [
        ("achieved_flops_per_s_per_gpu", "FLOP/s"),
        ("busbw_bytes_per_s", "bytes/s"),
        ("capacity_bytes", "bytes"),
        ("some_fraction", "ratio"),
        ("new_time_s", "s"),
        ("stages", None),
    ],
)
def test_the_end_of_a_key_is_its_unit(key, unit):
    assert unit_of_key(key) == unit


def test_rows_of_a_list_keep_long_texts():
    file = io.StringIO()
    long = "a source with many words " * 12
    print_rows(
        "devices",
        ["name", "memory", "source"],
        [["a", "64 GB", long], ["b", "8 GB", "x"]],
        Console(file=file, width=60),
    )
    lines = file.getvalue().splitlines()
    assert lines[1] == "DEVICES"
    start = lines[2].index("source")
    assert words(" ".join(line[start:] for line in lines[3:-1])) == words(long)
    assert lines[2].index("memory") + len("memory") == lines[3].index("64 GB") + len("64 GB")


def test_a_table_without_rows_has_its_head():
    file = io.StringIO()
    print_rows("none", ["name", "memory"], [], Console(file=file, width=60))
    assert "name  memory" in file.getvalue()


def test_the_header_has_the_nodes_of_the_cluster_that_was_built():
    """A file of two hosts makes two nodes whatever the scenario says."""
    cluster = {"file": "dump.xml", "num_nodes": 1, "device": {"preset": "l40s"}}
    data = {"scenario": {"cluster": cluster}, "metrics": {"num_gpus": 4}}
    for num_nodes, words_of_header in ((2, "2 nodes of dump.xml"), (None, "1 node of dump.xml")):
        file = io.StringIO()
        print_report(data, Console(file=file, width=200), written={}, num_nodes=num_nodes)
        assert words_of_header in file.getvalue()


def fact(*claims, verdict="holds", relevance="supports", sentence=""):
    return {"claims": list(claims), "verdict": verdict, "relevance": relevance, "sentence": sentence}


@pytest.fixture
def judged(data):
    """Return a run with facts of three groups and a conclusion."""
    data["conclusion"] = ["Refuted: one.", "It does 5.847 of 26 M tokens/s."]
    data["claims"][0]["paraphrase"] = True
    data["claims"][3] |= {"verdict": "refuted", "supports": "two", "metric": "bubble_fraction", "value": 0.1}
    data["facts"] = [
        fact("one", relevance="irrelevant", sentence="It leaves EP out. Said twice."),
        fact("four", verdict="refuted", sentence="With TP8 it is less. Said twice."),
        fact("two", verdict="refuted", sentence="With EP8 it is less."),
        fact("three", verdict="depends", sentence="Not true: under {a: 1}."),
    ]
    return data


def test_the_summary_begins_with_the_conclusion_and_fits_a_screen(judged):
    text = printed(judged, 240, verbose=False)
    assert max(map(len, text.splitlines())) <= 100
    assert len(text.splitlines()) < 30
    assert "Refuted: one. It does 5.847 of 26 M tokens/s." in " ".join(text.split())
    at = [
        text.index(title) for title in ("Refuted:", "REFUTED  2 of 4", "DEPENDS", "TRUE, BUT", "WHERE THE", "WRITTEN")
    ]
    assert at == sorted(at)
    assert "METRICS" not in text


def test_the_summary_says_each_fact_with_its_reason_once(judged):
    text = words(printed(judged, 100, verbose=False))
    # what is no reason for another claim comes first; a paraphrase has no quotation marks
    assert text.index("“two is [bold]great[/bold]” (section 6)") < text.index("“four is")
    assert "one is [bold]great[/bold] (section 6): 5.847 M tokens/s. It leaves EP out." in text
    assert "“one" not in text
    assert text.count("Said twice.") == 1
    assert "With TP8 it is less." in text


def test_the_summary_of_a_run_without_claims_says_time_and_memory(data):
    for key in ("claims", "findings"):
        del data[key]
    text = words(printed(data, 100, verbose=False))
    assert (
        "WHERE THE TIME WENT a step of 600 ms, mean of the stages: attention 50 %, TP collectives 42 %, idle 8 %"
        in text
    )
    assert "MEMORY PER GPU 948.6 MB of 64 GB at the peak: weights 948.6 MB" in text
    assert printed({}, 80, verbose=False)


def test_the_header_of_a_dense_model_names_no_routing(data):
    data["scenario"]["routing"] = {"kind": "multinomial"}
    assert "routing" not in printed(data, 100).splitlines()[1]
    data["mesh"] = {"exchange_completes": True}
    assert "routing multinomial" in printed(data, 100).splitlines()[1]
