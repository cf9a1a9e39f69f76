"""`moesim stress` and `moesim routing summary`: what they print, write and refuse."""

import json
from pathlib import Path

import pytest

TEXT = """
name: small
cluster: {preset: dgx-h100, num_nodes: 1}
model: {layers: 2, hidden: 512, heads: 8, ffn: 512, gated: true, experts: 16, top_k: 2, vocab: 1000}
parallel: {strategy: EP8_TP1_PP1_DP8}
workload: {kind: forward, sequences: 16, sequence_length: 256, microbatches: 2}
routing: {kind: zipf}
"""


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Work in a folder that has `small.yaml`."""
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(TEXT, encoding="utf-8")
    return tmp_path


DENSE, COLLECTIVE = (
    TEXT.replace("experts: 16, top_k: 2, ", "").replace("EP8_TP1_PP1_DP8", "TP1_PP1_DP8"),
    """
cluster: {preset: dgx-h100, num_nodes: 1}
workload: {kind: collective, op: all_reduce, num_ranks: 8, bytes: 1 MB}
""",
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            DENSE.replace("routing: {kind: zipf}", ""),
            "4: model.experts must be at least 2 in a stress test, got 0. In a",
        ),
        (COLLECTIVE, "3: workload.kind must be forward or training in a stress test, got collective. A stress test"),
    ],
    ids=["dense", "collective"],
)
def test_what_has_no_routing_is_refused(moesim, text, message):
    Path("other.yaml").write_text(text, encoding="utf-8")
    code, _, err = moesim("stress", "other.yaml")
    assert (code, err.startswith(f"moesim: other.yaml:{message}")) == (2, True), err


GRID = ("--skew", "0,1", "--placement", "greedy,eplb", "--replicas", "16", "--seeds", "2", "--jobs", "1")


def test_a_stress_test_prints_writes_and_is_resumed(moesim):
    """The second time nothing is simulated, and the same is said."""
    code, out, _ = moesim("stress", "small.yaml", *GRID, "--out", "out")
    assert code == 0
    assert "eplb with 16 replicas" in out
    assert "At skew 0 " in out
    assert out.index("Skew 1 makes the step") < out.index("USEFUL TOKENS/S")
    assert "lower bound of every placement" in out
    names = {path.name for path in Path("out").iterdir()}
    assert names == {"results.sqlite", "stress.html", "stress.json", "stress.png"}
    assert moesim("report", "out/stress.json", "-o", "again.html").code == 0
    assert Path("again.html").read_bytes() == Path("out/stress.html").read_bytes()
    code, text, _ = moesim("stress", "small.yaml", *GRID, "--out", "out", "--json")
    data = json.loads(text)
    assert (code, data["num_points"], data["num_kept"]) == (0, 20, 20)
    names = [
        "nothing",
        "greedy",
        "greedy, outdated plan",
        "eplb with 16 replicas",
        "eplb with 16 replicas, outdated plan",
    ]
    assert [(remedy["name"], remedy["plan"]) for remedy in data["remedies"]] == list(
        zip(names, [None, "own", "outdated", "own", "outdated"], strict=True)
    )


def test_an_option_given_twice_is_one_list(moesim):
    """Its last value alone was taken."""
    once, twice = (
        json.loads(moesim("stress", "small.yaml", *options, "--seeds", "1", "--jobs", "1", "--json")[1])
        for options in (
            ["--skew", "0,1,2", "--placement", "greedy,eplb", "--replicas", "0,16", "--capacity", "1.25:pad,2"],
            ["--skew", "0,1", "--placement", "greedy", "--replicas", "0", "--capacity", "1.25:pad",
             "--skew", "2", "--placement", "eplb", "--replicas", "16", "--capacity", "2"],
        )
    )  # fmt: skip
    assert once == twice
    assert once["skews"] == [0, 1, 2]
    padded = {"routing.capacity_factor": 1.25, "routing.overflow": "pad"}
    assert {"name": "capacity 1.25 padded", "set": padded, "plan": None} in once["remedies"]
    assert len([one for one in once["remedies"] if one["plan"] != "outdated"]) == 4 * 3


def test_padding_is_told_beside_the_imbalance(moesim):
    """The column is of tokens; what each rank computes under a padded capacity is the same for all."""
    once = ("stress", "small.yaml", "--skew", "1", "--seeds", "1", "--jobs", "1", "--capacity")
    assert "with which experts are padded" in moesim(*once, "1:pad")[1]
    assert "with which experts are padded" not in moesim(*once, "1")[1]


def test_an_interrupt_says_where_points_are(moesim, monkeypatch):
    """As soon as there are any; what goes on is the same command, which says how many it found."""
    once = ("stress", "small.yaml", "--skew", "1", "--seeds", "1", "--jobs", "1", "--out", "out")
    assert "from an earlier run" not in moesim(*once)[1]
    assert "1 simulations, 1 of them from an earlier run" in moesim(*once)[1]

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sim.cli.stress.stress_test", interrupt)
    code, _, err = moesim(*once)
    assert code == 130
    assert err.replace("\\", "/").startswith(
        "Points that are done are kept in out/results.sqlite: the same command goes on"
    )
    assert err.endswith("interrupted\n")
    assert moesim(*once[:-2])[2] == "interrupted\n"


def test_a_routing_that_is_set_is_swept_without_naming_skews(moesim):
    """`--set routing.kind=hot_expert`: shares of the tokens, and no exponents."""
    once = ("stress", "small.yaml", "--seeds", "1", "--jobs", "1", "--json", "--set", "workload.microbatches=1")
    assert json.loads(moesim(*once, "--set", "routing.kind=hot_expert")[1])["skews"] == [0, 0.1, 0.2, 0.3, 0.5]
    assert json.loads(moesim(*once, "--set", "routing.kind=hot_expert", "--skew", "0.4")[1])["skews"] == [0.4]


def test_tables_fit_the_width(moesim, monkeypatch):
    """Of more skews than have room some are shown, the last among them."""
    monkeypatch.setenv("COLUMNS", "70")
    skews = ",".join(str(tenth / 10) for tenth in range(7))
    out = moesim(
        "stress",
        "small.yaml",
        "--skew",
        skews,
        "--placement",
        "eplb",
        "--replicas",
        "16",
        "--seeds",
        "1",
        "--jobs",
        "1",
    )[1]
    assert max(map(len, out.splitlines())) <= 70
    header = next(line for line in out.splitlines() if line.split()[:3] == ["remedy", "\\", "skew"])
    assert header.split()[-1] == "0.6"
    assert header.split()[3] == "0"


def test_without_a_folder_nothing_is_written(moesim):
    assert moesim("stress", "small.yaml", "--skew", "1", "--seeds", "1", "--jobs", "1")[0] == 0
    assert [path.name for path in Path().iterdir()] == ["small.yaml"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--skew", "a"],
            "--skew must be numbers of at least 0 with commas between, got a. For example: --skew",
        ),
        (["--skew", "-1"], "--skew must be numbers of at least 0"),
        (["--replicas", "1.5"], "--replicas must be whole numbers, got 1.5. For example: --replicas 0,64"),
        (
            ["--capacity", "1.25:padded"],
            "--capacity must have one of drop, pad, reroute behind a colon, got 1.25:padded",
        ),
        (["--capacity", "1.25:"], "--capacity must have one of drop, pad, reroute behind a colon, got 1.25:"),
        (["--capacity", "x:pad"], "--capacity must be numbers of at least 0"),
        (["--capacity", "none,x"], "--capacity must be numbers of at least 0"),
        (
            ["--replicas", "0,16"],
            "--replicas must be given with --placement eplb, got 0,16. For example: --placement eplb",
        ),
        (["--replicas", "16", "--placement", "greedy"], "--replicas must be given with --placement eplb, got 16."),
        (["--placement", ""], "--placement must be names with commas between"),
        (["--placement", "best"], "placement.kind must be one of contiguous"),
        (
            ["--set", "routing.kind=multinomial", "--skew", "1"],
            "routing.skew must be left out with routing.kind multinomial",
        ),
    ],
)
def test_a_wrong_axis_is_refused(moesim, arguments, message):
    code, _, err = moesim("stress", "small.yaml", *arguments)
    assert code == 2
    assert message in err.replace("stress (placement.kind)", "placement.kind").replace(
        "stress (routing.skew)", "routing.skew"
    )


def test_a_recording_is_summarised(moesim):
    """By hand: 3 and 1 of two experts have max/mean 1.5, Gini 1/4, CV 1/2."""
    Path("a.csv").write_text("layer,expert,tokens\n0,0,3\n0,1,1\n1,0,2\n1,1,2\n", encoding="utf-8")
    code, text, _ = moesim("routing", "summary", "a.csv", "--json")
    assert code == 0
    first, second = json.loads(text)["rows"]
    assert (first["max_over_mean"], first["gini"], first["cv"]) == (1.5, 0.25, 0.5)
    assert (second["max_over_mean"], second["gini"], second["entropy"], second["cv"]) == (1, 0, 1, 0)
    code, out, _ = moesim("routing", "summary", "a.csv")
    assert code == 0
    assert "max/mean" in out


def test_a_recording_is_spread_over_ranks(moesim):
    """By hand: 5, 1, 3, 3 on two ranks are 6 and 6 in order; of 9, 1, 1, 1 one rank has 9 of a mean of 6 at best."""
    lines = [
        f"{layer},{e},{n}" for layer, loads in enumerate([(5, 1, 3, 3), (9, 1, 1, 1)]) for e, n in enumerate(loads)
    ]
    Path("a.csv").write_text("\n".join(["layer,expert,tokens", *lines]), encoding="utf-8")
    code, text, _ = moesim("routing", "summary", "a.csv", "--ranks", "2", "--json")
    first, second = json.loads(text)["rows"]
    assert code == 0
    assert first["contiguous_max_over_mean"] == first["bound_max_over_mean"] == 1
    assert second["contiguous_max_over_mean"] == pytest.approx(10 / 6)  # 9 + 1 of a mean of 6
    assert second["bound_max_over_mean"] == pytest.approx(9 / 6)
    code, text, _ = moesim("routing", "summary", "a.csv", "--ranks", "2", "--replicas", "2", "--json")
    assert json.loads(text)["rows"][1]["bound_max_over_mean"] == 1
    assert json.loads(text)["rows"][1]["eplb_max_over_mean"] == pytest.approx(1, abs=0.2)
    code, out, _ = moesim("routing", "summary", "a.csv", "--ranks", "2", "--replicas", "2")
    assert (code, "EPLB" in out, "at best" in out) == (0, True, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ranks", "3"], "--ranks must divide 2 experts, got 3. Give a number that divides the number of experts"),
        (["--replicas", "2"], "--replicas must be given with --ranks, got 2. For example: --ranks 8 --replicas 2"),
        (["--ranks", "2", "--replicas", "1"], "--replicas must give 2 ranks equally many slots, got 1. For example"),
    ],
)
def test_ranks_that_cannot_hold_a_recording_are_refused(moesim, arguments, message):
    Path("a.csv").write_text("layer,expert,tokens\n0,0,3\n0,1,1\n", encoding="utf-8")
    code, _, err = moesim("routing", "summary", "a.csv", *arguments)
    assert code == 2
    assert message in err


def test_a_recording_that_is_not_there_is_refused(moesim):
    code, _, err = moesim("routing", "summary", "none.csv")
    assert code == 2
    assert "be readable" in err


# ---- recordings --------------------------------------------------------------------------------------------------

SGLANG = "layer_id,expert_id,count\n" + "".join(f"3,{expert},{9 + expert % 5}\n" for expert in range(0, 14))


def test_a_summary_says_what_the_file_was_taken_for(moesim):
    """The layers keep their numbers, and `--experts` tells how many experts there are."""
    Path("a.csv").write_text(SGLANG.replace("3,7,", "3,11,"), encoding="utf-8")
    code, out, _ = moesim("routing", "summary", "a.csv")
    assert code == 0
    assert out.startswith("Read as SGLang's expert distribution: 1 layer (3), 16 experts (assumed: the largest in the")
    assert ": give --experts." in out
    code, out, _ = moesim("routing", "summary", "a.csv", "--experts", "24", "--json")
    data = json.loads(out)
    assert (code, data["experts"], data["rows"][0]["layer"], data["rows"][0]["idle_experts"]) == (0, 24, 3, 11)
    assert data["read_as"].startswith("SGLang's expert distribution: 1 layer (3), 24 experts, 1 step")
    code, _, err = moesim("routing", "summary", "a.csv", "--experts", "12")
    assert (code, "FILE must have --experts = 12 experts, got 16 (read as SGLang" in err) == (2, True)


@pytest.mark.parametrize("command", ["run", "stress"])
def test_a_trace_is_replayed_from_any_folder(moesim, command, tmp_path_factory):
    """`--trace` stands for routing.kind and routing.file; a bundled recording is found by its name."""
    file = tmp_path_factory.mktemp("elsewhere") / "a.csv"
    file.write_text(SGLANG, encoding="utf-8")
    code, out, err = moesim(command, "small.yaml", "--trace", file, "--jobs", "1", "--json")
    assert (code, err) == (0, "")
    data = json.loads(out)
    if command == "run":
        assumed = next(item for item in data["assumptions"] if item["key"] == "routing.file")
        assert (
            "read as SGLang's expert distribution: 1 layer (3), 16 experts, 1 step; experts 14 to 15 have no rows"
            in assumed["why"]
        )
        assert data["scenario"]["routing"]["kind"] == "trace"
        assert data["metrics"]["imbalance_max_over_mean"] > 1
    else:
        assert [row["load"] for row in data["rows"]] == ["balanced", "recorded"]
    code, _, err = moesim(command, "small.yaml", "--trace", "sglang_sample")
    assert (code, "routing.file must have model.experts = 16 experts, got 64 (read as" in err) == (2, True)


@pytest.mark.parametrize("command", ["run", "stress"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trace", "none.csv"], "none.csv: the file must exist and be readable, got no such file"),
        (["--trace", ""], "--trace must be a path, got an empty text"),
        (["--trace", "small.yaml"], "small.yaml: the file must end in one of .csv"),
        (["--trace", "a.csv", "--set", "routing.kind=zipf"], "routing.kind must be set once, got a second value"),
        (["--trace", "a.csv", "--set", "routing.skew=1"], "routing.skew must be left out with routing.kind trace"),
    ],
)
def test_a_trace_that_cannot_be_replayed_is_refused(moesim, command, arguments, message):
    Path("a.csv").write_text(SGLANG, encoding="utf-8")
    code, _, err = moesim(command, "small.yaml", *arguments)
    assert (code, message in err) == (2, True), err


def test_fewer_experts_with_tokens_than_a_token_takes_fill_up_with_idle_experts(moesim):
    """One expert of 16 has tokens, and a token takes two: the first, and any other."""
    Path("a.csv").write_text("layer_id,expert_id,count\n3,5,70\n", encoding="utf-8")
    code, out, _ = moesim("run", "small.yaml", "--trace", "a.csv", "--jobs", "1", "--json")
    data = json.loads(out)
    assert code == 0
    assumed = next(item for item in data["assumptions"] if item["key"] == "routing.file")
    assert "in which fewer experts than top_k have tokens: 1: tokens take idle experts too" in assumed["why"]
    assert data["metrics"]["imbalance_max_over_mean"] > 4  # half of the copies are on one of 8 ranks
