"""Huge but well-formed numbers: each is refused or simulated, and none hangs or runs out of memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from huge_values import HUGE, SCENARIOS, integer_keys

from sim.scenario.fields import MAX_SIZES

CHECKOUT = Path(__file__).parents[3]
PATIENCE_S = 300
"""Seconds after which a run of all cases of a kind counts as hanging; it takes some ten."""


@pytest.mark.parametrize("kind", SCENARIOS)
def test_a_huge_integer_is_refused_or_simulated_whichever_key_it_is_given_for(kind: str) -> None:
    """In a process of its own, that is ended where it hangs; a traceback would end it too."""
    ended = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("huge_values.py")), kind],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    outcomes = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(outcomes) >= len(HUGE) * len(integer_keys(kind))
    assert {outcome["code"] for outcome in outcomes} <= {0, 2, 3}
    accepted = {outcome["changes"][0].partition("=")[0] for outcome in outcomes if not outcome["code"]}
    assert "\n" not in "".join(outcome["said"] for outcome in outcomes)
    assert accepted - {"seed", "alternatives", "rivals"} <= set(MAX_SIZES)
    for outcome in outcomes:
        if outcome["changes"][0].endswith(str(HUGE[-1])):
            assert outcome["code"] == 2, outcome


@pytest.mark.parametrize("kind", SCENARIOS)
def test_every_integer_key_has_a_largest_value(kind: str) -> None:
    """In the table of sizes, but for the seed, which nothing is made of, the number of seeds, and lengths of documents.

    Those have the limit of `workload.requests.tokens`.
    """
    assert set(integer_keys(kind)) - set(MAX_SIZES) <= {"seed", "seeds", "workload.documents"}
