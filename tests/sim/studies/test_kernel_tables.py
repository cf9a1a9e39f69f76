"""Measured kernels against tables without them."""

import json

import numpy as np
import pytest

from sim.studies.kernel_tables import LIMITS, _parts, judge_kernels
from sim.studies.validate import validate
from topology.profiles.bundled import MEASURED_ON, measured_rows
from topology.profiles.operations import OPERATIONS


def test_no_group_of_shapes_is_left_out_in_part():
    for name in MEASURED_ON:
        for rows in measured_rows(name):
            groups = np.stack([rows.shapes[field] for field in OPERATIONS[rows.operation].group], axis=-1)
            for part in _parts(rows):
                left_out = {tuple(group) for group in groups[part].tolist()}
                assert not left_out & {tuple(group) for group in groups[~part].tolist()}


def test_every_operation_has_one_limit():
    for operation in OPERATIONS:
        for fmt in ("bf16", "fp8"):
            assert sum(limit.covers(operation, fmt) for limit in LIMITS.values()) == 1


@pytest.fixture(scope="module")
def errors():
    return judge_kernels()


def test_a_table_knows_its_own_points_better_than_those_left_out(errors):
    for key, left_out in errors.left_out.items():
        assert np.median(errors.fitted[key]) < np.median(left_out)
        assert len(errors.fitted[key]) == len(left_out)


def test_shapes_left_out_are_predicted_within_the_limits_of_their_class(errors):
    assert [figure.case for figure in errors.figures if not figure.is_within] == []


def test_validate_kernels_gives_both_errors_by_operation_and_no_other_suite():
    data = json.loads(validate(["kernels"]).to_json())
    assert list(data["suites"]) == ["kernels"]
    entry = data["suites"]["kernels"]
    gemm = entry["left_out"]["gemm, bf16"]
    assert gemm["fitted"]["median_pct"] < gemm["median_pct"] < gemm["p90_pct"] < gemm["worst_pct"]
    assert entry["systems"]["gemm, bf16"]["num_rows"] == gemm["num_rows"]
    assert {row["metric"] for row in data["rows"]} == {"median_pct", "p90_pct"}
