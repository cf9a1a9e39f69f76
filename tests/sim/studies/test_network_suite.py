"""The bundled suites `network` and `collectives`: published next to modelled, and the constants fitted to them."""

import math
from functools import cache

import fit_network
import numpy as np
import pytest

from sim.studies.validate import validate
from topology import cluster as clusters
from topology.presets.fitted import FITTED

MOST_MEDIAN_PCT, MOST_P90_PCT, MOST_MEDIAN_OF_A_SYSTEM_PCT = 2.0, 6.1, 10.0
MOST_MEDIAN_IN_A_NODE_PCT, MOST_P90_IN_A_NODE_PCT = 6.0, 18.0
STEP = 1.02
"""A fitted constant is the best to 2 %."""


@cache
def network():
    """Return the validation of `network`, as JSON."""
    return validate(["network"]).to_dict()


@cache
def collectives():
    """Return the validation of `collectives`, as JSON."""
    return validate(["collectives"]).to_dict()


def test_published_collectives_are_met():
    """Over all figures: half of them within 2 %, nine of ten within 6.1 %."""
    over_all = network()["over_all"]
    assert over_all["num_rows"] == len(network()["rows"]) >= 60
    assert over_all["median_pct"] <= MOST_MEDIAN_PCT
    assert over_all["p90_pct"] <= MOST_P90_PCT


def test_no_system_is_met_at_the_cost_of_another():
    """Half of the figures of each within 10 %."""
    systems = network()["suites"]["network"]["systems"]
    assert len(systems) >= 10
    assert {name: one["median_pct"] for name, one in systems.items() if one["median_pct"] > 10} == {}
    assert max(one["median_pct"] for one in systems.values()) <= MOST_MEDIAN_OF_A_SYSTEM_PCT


def test_every_figure_that_is_set_apart_has_its_reason():
    """They are shown, and not counted."""
    assert network()["apart"]
    assert all(row["reason"].strip() for row in network()["apart"])


@pytest.mark.parametrize("is_left_out", [False, True])
def test_collectives_of_one_node_are_met_as_well_where_nothing_was_fitted(is_left_out):
    """Whole groups of operation and number of GPUs, another laboratory, and other devices: half within 6 %."""
    errors = [
        abs(row["error_pct"])
        for row in collectives()["rows"]
        if row["case"].partition(",")[0].endswith("left_out") == is_left_out
    ]
    assert len(errors) >= 200
    assert np.median(errors) <= MOST_MEDIAN_IN_A_NODE_PCT
    assert np.percentile(errors, 90) <= MOST_P90_IN_A_NODE_PCT


def test_the_suites_count_the_constants_that_were_fitted(rows):
    """Those of protocols, and five latencies of links that presets take from the table they are compared with."""
    stated = [one["over_all"]["num_fitted_constants"] for one in (network(), collectives())]
    assert stated == [
        fit_network.num_constants(rows, "network") + len(fit_network.LATENCIES_US),
        fit_network.num_constants(rows, "collectives"),
    ]
    assert sum(stated) == len(FITTED) + len(fit_network.LATENCIES_US)


# --- the fit ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def protocols():
    """Take back the protocols that the script puts in the plan's place."""
    before = clusters.protocols_of
    yield
    clusters.protocols_of = before


@pytest.fixture(scope="module")
def rows():
    """Return the published figures with their collectives."""
    return fit_network.load_rows()


def test_every_fitted_constant_belongs_to_one_group_of_cases(rows):
    """So that each is fitted once, to cases that there are."""
    names = [name for group, _ in fit_network.GROUPS for name in group]
    assert sorted(names) == sorted(FITTED)
    assert {case for _, cases in fit_network.GROUPS for case in cases} <= {row.case for row in rows}


@pytest.mark.parametrize("name", FITTED)
def test_a_fitted_constant_is_the_best_there_is(rows, name):
    """2 % more or less of it makes the errors of its cases larger, or is no rate: it is what the fit gives."""
    ((names, cases),) = [group for group in fit_network.GROUPS if name in group[0]]
    chosen = [row for row in rows if row.case in cases]
    constants = {key: fitted.value for key, fitted in FITTED.items()}

    def loss(factor):
        at = [math.log(constants[key] * (factor if key == name else 1.0)) for key in names]
        return fit_network.loss(np.array(at), constants, names, chosen)

    best = loss(1.0)
    assert math.isfinite(best)
    assert loss(STEP) > best
    assert loss(1 / STEP) > best


@pytest.mark.parametrize("suite", fit_network.SUITES)
def test_errors_without_a_table_are_those_that_the_suite_states(rows, suite):
    """With its constants at what would be taken without it: to the digit that stands in `suite.yaml`."""
    left_out = {"network": network, "collectives": collectives}[suite]()["suites"][suite]["left_out"]
    tables = {fit_network.table_of(row.case) for row in rows if row.suite == suite}.intersection(fit_network.TABLES)
    assert tables == set(left_out) - {"link_latency"}
    for table in tables:
        without = {key: one.otherwise if one.table == table else one.value for key, one in FITTED.items()}
        mine = [row for row in rows if row.suite == suite and fit_network.table_of(row.case) == table]
        percent = np.abs(np.expm1(fit_network.log_errors(mine, without))) * 100
        assert np.median(percent) == pytest.approx(left_out[table]["median_pct"], abs=0.1)
        assert np.percentile(percent, 90) == pytest.approx(left_out[table]["p90_pct"], abs=0.1)
