"""The bundled tables of measured training steps: what they say can be, and a row is the scenario that it describes."""

import pytest

from sim.build.build import build
from sim.errors import InvalidValueError
from sim.plan.bounds import bounds_of
from sim.run.simulate import simulate_scenario
from sim.scenario.load import load_scenario_text
from sim.studies.suites import find_suites, is_fitted

SAMPLE = 12
"""About so many rows of each table are built, spread over it, so that the test stays short."""


@pytest.fixture(scope="module")
def training():
    """Return the suite, with all its tables."""
    (suite,) = find_suites(["training"])
    return suite


def test_every_fitted_table_is_fitted_in_part_and_scored_in_part(training):
    """But for cases without a fit, which are scored as a whole; figures apart are in neither half."""
    for case in training.cases:
        figures = enumerate(case.scenario.spec.published)
        halves = [is_fitted(training, case, i) for i, figure in figures if figure.apart is None]
        if case.name not in training.spec.fitted:
            assert not any(halves)
            continue
        assert 0.25 <= sum(halves) / len(halves) <= 0.65, case.name


def test_no_measured_step_is_faster_than_the_arithmetic_at_the_peak_of_all_gpus(training):
    """A figure, a batch or a model that was copied wrongly would be; and none uses less than 0.5 % of the peak."""
    refused = []
    for case in training.cases:
        figures = case.scenario.spec.published
        for i in range(0, len(figures), max(1, len(figures) // SAMPLE)):
            if figures[i].minus is not None or figures[i].apart is not None:
                continue
            try:
                work = build(case.scenario.case(i)).work
            except InvalidValueError as error:
                refused.append(f"{case.name}: {error}")
                continue
            share = bounds_of(work).compute_s / figures[i].value
            assert 0.005 < share < 0.8, (case.name, figures[i].name, share)
    assert refused == []


def test_a_row_is_the_scenario_that_is_written_for_it(training):
    """Selective recomputation of the 22B model on one node, by hand, takes the time of its row to the nanosecond."""
    case = next(case for case in training.cases if case.name == "korthikanti_table5")
    position = next(i for i, figure in enumerate(case.scenario.spec.published) if figure.name == "22B present")
    row = case.scenario.case(position)
    runtime = f"runtime: {row.raw['runtime']}\n" if "runtime" in row.raw else ""
    by_hand = load_scenario_text(f"""\
{runtime}cluster: {{preset: dgx-a100, num_nodes: 1}}
model: {{preset: gpt-22b, n_positions: 2048, dtype: fp16, fused_attention: false, dropout: true, add_bias_linear: true}}
parallel: {{strategy: TP8_PP1_DP1, sp: true}}
workload: {{kind: training, sequences: 4, sequence_length: 2048, microbatches: 1}}
schedule: {{kind: 1f1b, recompute: selective}}
""")
    assert row.spec.published == ()
    times = [simulate_scenario(scenario).values["step_time_s"] for scenario in (row, by_hand)]
    assert times[0] == times[1] > 0
