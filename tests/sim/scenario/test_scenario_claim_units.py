"""A claim is expected in the unit of its metric: what each unit takes, and the exact refusals."""

from typing import NamedTuple

import pytest

from sim.errors import InvalidValueError
from sim.results.catalog import CATALOG
from sim.scenario.claim_units import check_claim_units
from sim.scenario.load import load_scenario, load_scenario_text
from sim.scenario.scenario_files import STARTER, list_bundled


class Row(NamedTuple):
    """A row of a catalogue."""

    unit: str | None


ROWS = {
    "tp_times_pp": Row(None),
    "fits": Row("flag"),
    "mfu": Row("ratio"),
    "imbalance": Row("ratio1"),
    "step_time_s": Row("s"),
    "total": Row("bytes"),
    "tokens_per_s": Row("tokens/s"),
    "model_flops_per_s": Row("FLOP/s"),
}


def checked(contract_text, metric, expect):
    """Load the contract's example with its first claim replaced, and check its units."""
    text = contract_text.replace("steady_tokens_per_s", metric).replace('">= 26e6 tokens/s"', f'"{expect}"')
    check_claim_units(load_scenario_text(text, file="f.yaml"), ROWS)


@pytest.mark.parametrize(
    ("metric", "expect"),
    [
        ("mesh.tp_times_pp", "== 64"),
        ("tp_times_pp", "== 64 +- 2 %"),
        ("memory.fits", "== true"),
        ("fits", "false"),
        ("mfu", ">= 50 %"),
        ("mfu", ">= 0.5"),
        ("imbalance", "== 1.00"),
        ("imbalance", "<= 110 %"),
        ("step_time_s", "<= 50 ms"),
        ("memory.peak_bytes_per_gpu.total", "<= 64 GB"),
        ("tokens_per_s", ">= 26e6 tokens/s"),
        ("model_flops_per_s", ">= 400 TFLOP/s"),
        ("unheard_of", ">= 3 s"),
    ],
)
def test_a_value_in_the_metrics_unit_passes(contract_text, metric, expect):
    checked(contract_text, metric, expect)


NUMBER = 'be a bare number, for {} is a count, got {}. Write for example "== 64".'
FLAG = 'be true or false, for {} is a yes or no, got {}. Write "== true" or "== false".'
RATIO = 'be a bare number or a percentage, for {} is a ratio, got {}. Write for example "<= 5 %".'


@pytest.mark.parametrize(
    ("metric", "expect", "rest"),
    [
        ("mesh.tp_times_pp", ">= 5 s", NUMBER),
        ("mesh.tp_times_pp", "== 50 %", NUMBER),
        ("tp_times_pp", "== true", NUMBER),
        ("memory.fits", ">= 0.5", FLAG),
        ("fits", "== 1", FLAG),
        ("mfu", ">= 3 GB", RATIO),
        ("mfu", "== true", RATIO),
        ("imbalance", "<= 1 s", RATIO),
        ("step_time_s", "<= 5", "be in s, as {} is, got {}. Write the value with such a unit."),
        ("step_time_s", "== true", "be in s, as {} is, got {}. Write the value with such a unit."),
        ("total", "<= 5 GB/s", "be in bytes, as {} is, got {}. Write the value with such a unit."),
        ("tokens_per_s", ">= 26e6", "be in tokens/s, as {} is, got {}. Write the value with such a unit."),
    ],
)
def test_a_value_in_another_unit_is_refused_at_its_line(contract_text, metric, expect, rest):
    with pytest.raises(InvalidValueError) as refused:
        checked(contract_text, metric, expect)
    assert str(refused.value) == f"f.yaml:40: claims.0.expect must {rest.format(metric, expect)}"


def test_a_wrong_unit_in_an_override_names_the_override():
    scenario = load_scenario_text(STARTER, overrides=['claims.0.expect=">= 3"'])
    with pytest.raises(
        InvalidValueError, match=r'^--set claims\.0\.expect=">= 3": claims\.0\.expect must be in tokens/s'
    ):
        check_claim_units(scenario, ROWS)


@pytest.mark.parametrize("name", list_bundled())
def test_bundled_claims_suit_their_metrics(name):
    check_claim_units(load_scenario(name), CATALOG)
