"""`moesim explain` for people: what is legal says its sizes, what is not says why and what is near."""

import pytest

from sim.cli.describe import explain_command


def test_explain_says_why_a_mesh_is_illegal_and_which_legal_one_is_near(capsys: pytest.CaptureFixture[str]) -> None:
    """The document's strategy is no Megatron mesh on 64 GPUs, and is one in the spanning reading."""
    explain_command("EP64_TP16_PP4", gpus=64, gpus_per_node=8, as_json=False)
    parts = dict(part.split(": ", 1) for part in capsys.readouterr().out.strip().split("\n\n")[1:])
    assert parts["megatron"].startswith("illegal\n")
    assert "ETP x EP x PP = 1 x 64 x 4 = 256" in parts["megatron"]
    assert "\n  nearest  EP" in parts["megatron"]
    assert parts["spanning"].startswith("legal\n")


def test_explain_says_the_sizes_of_a_legal_mesh(capsys: pytest.CaptureFixture[str]) -> None:
    """TP8 x PP2 on 16 GPUs: its axes and groups stand in a line each."""
    explain_command("EP1_TP8_PP2", gpus=16, gpus_per_node=8, as_json=False)
    text = capsys.readouterr().out
    assert text.startswith("EP1_TP8_PP2 on 16 GPUs, nodes of 8\n\nmegatron: legal\n")
    assert "  axes     TP8 PP2 EP1 DP1 ETP1 with sequence parallelism\n" in text
