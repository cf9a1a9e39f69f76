"""`moesim timeline`: windows in units, several scenarios on one axis, and what does not go together."""

import re

import pytest

from sim.report.palette import PASS_KIND_COLOURS

QUICK = [
    word
    for key in (
        "workload.batches=1",
        "workload.sequences=8",
        "workload.microbatches=2",
        "workload.sequence_length=1024",
    )
    for word in ("--set", key)
]


@pytest.mark.parametrize("suffix", [".png", ".pftrace"])
def test_what_the_suffix_names_is_written(moesim, tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    assert moesim("timeline", "ep64_tp16_pp4", *QUICK, "-o", path).code == 0
    assert path.read_bytes()[:1] == {".png": b"\x89", ".pftrace": b"\n"}[suffix]


def test_several_scenarios_are_drawn_on_one_axis(moesim, tmp_path):
    path = tmp_path / "a.svg"
    said = moesim("timeline", "ep64_tp16_pp4", "ep16_tp16_pp4", *QUICK, "-o", path, "--from", "0.5 ms")
    assert said.code == 0
    text = path.read_text("utf-8")
    assert text.count('id="moesim-run:') == 4  # two runs, each with its ground


def test_passes_are_coloured_by_kind_in_the_bands_of_stages_too(moesim, tmp_path):
    """Forward passes of all microbatches have one colour."""
    path = tmp_path / "a.svg"
    assert moesim("timeline", "ep64_tp16_pp4", *QUICK, "-o", path, "--colour", "kind").code == 0
    group = path.read_text("utf-8").partition('id="moesim:pass"')[2].partition("</g>")[0]
    assert set(re.findall(r"fill: (#\w{6})", group)) == {PASS_KIND_COLOURS["F"]}


def test_from_and_to_are_a_window(moesim, tmp_path):
    """The same picture as with --window, and half of it with one end alone."""
    for name, more in {
        "a": ["--window", "0", "2"],
        "b": ["--from", "0 s", "--to", "2 ms"],
        "c": ["--to", "2 ms"],
    }.items():
        assert moesim("timeline", "ep64_tp16_pp4", *QUICK, "-o", tmp_path / f"{name}.svg", *more).code == 0
    first = (tmp_path / "a.svg").read_bytes()
    assert first == (tmp_path / "b.svg").read_bytes() == (tmp_path / "c.svg").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a", "b", "-o", "a.pftrace"], "--output must be a picture for several scenarios"),
        (["a", "b", "-o", "a.png", "--by", "stage"], "--by must be step for several scenarios, got stage"),
        (["a", "-o", "a.png", "--by", "rank"], "--by must be one of stage, step, got rank"),
        (["a", "-o", "a.png", "--colour", "red"], "--colour must be one of microbatch, kind, got red"),
        (["a", "-o", "a.json", "--colour", "kind"], "--colour must be left out for .json"),
        (["a", "-o", "a.json", "--by", "step"], "--by must be left out for .json"),
        (["a", "-o", "a.pftrace", "--from", "1 s"], "--from must be left out for .pftrace, got 1 s"),
        (["a", "-o", "a.png", "--from", "1"], "--from must have a unit, got 1"),
        (["a", "-o", "a.png", "--from", "2 s", "--to", "1 s"], "--to must be later than --from, got 1 s"),
        (["a", "-o", "a.png", "--to", "1 s", "--window", "0", "1"], "--to must be left out with --window"),
    ],
)
def test_what_does_not_go_together_is_refused(moesim, monkeypatch, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    said = moesim("timeline", *arguments)
    assert said.code == 2
    assert words in said.err


def test_a_window_after_the_end_is_refused(moesim, tmp_path):
    said = moesim("timeline", "ep64_tp16_pp4", *QUICK, "-o", tmp_path / "a.png", "--from", "9 s")
    assert said.code == 2
    assert "must lie in the run, which lasts" in said.err
