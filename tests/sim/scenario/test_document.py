"""Quotes of a document: word for word apart from Markdown, capitals and the sign of a product, or a paraphrase."""

from pathlib import Path

import pytest

from sim.errors import InvalidValueError
from sim.scenario.document import plain_words, stands_in
from sim.scenario.load import load_scenario, load_scenario_text
from sim.scenario.scenario_files import STARTER

DOCUMENT = """\
# Summary of `EP8_TP1`

1. **GPU count**
   - Calculated GPUs (PP × TP): 64
   - Expected throughput: **26M** tokens/second,
     in 50ms
> - *Perfect* load_balance
"""


@pytest.mark.parametrize(
    ("quote", "stands"),
    [
        ("Calculated GPUs (PP x TP): 64", True),
        ("calculated gpus (PP × TP): 64", True),
        ("GPU Count Calculated GPUs", True),
        ("26M tokens/second, in 50ms", True),
        ("**26M tokens/second**", True),
        ("Perfect load_balance", True),
        ("EP8_TP1", True),
        ("6M tokens/second", False),
        ("26M tokens/sec", False),
        ("50 ms", False),
        ("count of GPUs", False),
        ("**", False),
    ],
)
def test_a_quote_stands_in_a_document_word_for_word(quote: str, stands: bool) -> None:
    """Whole words, in their order, with their digits and signs."""
    assert stands_in(quote, plain_words(DOCUMENT)) is stands


def scenario(folder: Path, says: str, **more: object) -> str:
    """Write a scenario with one claim next to the document, and return its text."""
    (folder / "doc.md").write_text(DOCUMENT, encoding="utf-8")
    start = STARTER[: STARTER.index("# What is said about it")]
    keys = "".join(f", {key}: {value}" for key, value in more.items())
    claim = f'{{id: a, says: "{says}", source: "1", metric: mesh.tp, expect: "== 1"{keys}}}'
    return f"{start}document: doc.md\nclaims: [{claim}]\n"


def test_a_claim_that_is_no_quote_is_refused_unless_it_is_a_paraphrase(tmp_path: Path) -> None:
    """With the line of the claim's words and two ways out."""
    file = str(tmp_path / "s.yaml")
    assert load_scenario_text(scenario(tmp_path, "26M tokens/second"), file=file)
    assert load_scenario_text(scenario(tmp_path, "26 million a second", paraphrase="true"), file=file)
    with pytest.raises(InvalidValueError) as refused:
        load_scenario_text(scenario(tmp_path, "26 million a second"), file=file)
    assert refused.value.field == "claims.0.says"
    assert refused.value.rule == "stand in doc.md word for word"
    assert "paraphrase: true" in refused.value.hint


def test_a_document_of_an_argument_may_be_anywhere(tmp_path: Path) -> None:
    """`--set document=FILE` holds the bundled claims against a text of the user's: these stand in no other."""
    path = tmp_path / "other.md"
    path.write_text("Nothing of it.", encoding="utf-8")
    with pytest.raises(InvalidValueError) as refused:
        load_scenario("ep64_tp16_pp4", overrides=[f"document={path}"])
    assert refused.value.field == "claims.0.says"


def test_a_document_that_is_not_there_or_has_no_words_is_refused(tmp_path: Path) -> None:
    """It goes through the gate of all input files."""
    text = scenario(tmp_path, "x")
    (tmp_path / "doc.md").write_text("  **  ", encoding="utf-8")
    with pytest.raises(InvalidValueError, match="hold words"):
        load_scenario_text(text, file=str(tmp_path / "s.yaml"))
    (tmp_path / "doc.md").unlink()
    with pytest.raises(InvalidValueError, match="exist"):
        load_scenario_text(text, file=str(tmp_path / "s.yaml"))


@pytest.mark.parametrize(
    ("change", "field", "rule"),
    [
        ("claims.0.because_of=nobody", "claims.0.because_of", "be the id of a claim"),
        ("claims.0.because_of=throughput", "claims.0.because_of", "not follow from itself in the end"),
        ("claims.0.part=tp", "claims.0.part", "be left out without superlative"),
        ("claims.1.part=wings", "claims.1.part", "be one of tp, all_reduce, pipeline"),
        ("jitter.pass_cv=200 %", "jitter.pass_cv", "be a ratio from 0 to 1"),
    ],
)
def test_keys_of_claims_that_mean_nothing_are_refused(change: str, field: str, rule: str, tmp_path: Path) -> None:
    """By name, with what is possible."""
    path = tmp_path / "s.yaml"
    path.write_text(STARTER, encoding="utf-8")
    with pytest.raises(InvalidValueError) as refused:
        load_scenario(path, overrides=[change])
    assert refused.value.field == field
    assert rule in refused.value.rule
