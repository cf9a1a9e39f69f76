"""`moesim sweep` and `moesim results`: a table, a picture, a store that a second command takes everything from."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from saying import Said

Moesim = Callable[..., Said]
PASSES = """
name: toy
parallel: {pp: 4}
workload: {kind: passes, microbatches: 8, pass_times: {F: 1 ms, B: 2 ms}}
"""
GRID = ("--grid", "parallel.pp=1,2,4", "--grid", "workload.microbatches=4,8")


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    """Return a scenario of passes, which takes a few milliseconds."""
    path = tmp_path / "toy.yaml"
    path.write_text(PASSES, encoding="utf-8")
    return path


def test_a_metric_is_drawn_over_another_and_is_a_column_of_the_table(
    moesim: Moesim, scenario: Path, tmp_path: Path
) -> None:
    """The picture is another than over the axis; a metric that does not exist is refused."""
    options = ("sweep", scenario, *GRID, "--metric", "step_time_s", "--jobs", 1, "--json", "-o")
    over_axis, over_metric = tmp_path / "axis.svg", tmp_path / "metric.svg"
    moesim(*options, over_axis)
    data = json.loads(moesim(*options, over_metric, "--against", "bubble_fraction").out)
    assert (data["metrics"], data["against"]) == (["step_time_s", "bubble_fraction"], "bubble_fraction")
    assert "bubble_fraction" in over_metric.read_text(encoding="utf-8")
    assert "bubble_fraction" not in over_axis.read_text(encoding="utf-8")
    assert "--against must be the name of a metric" in moesim(*options, over_metric, "--against", "bubbles").err
    without = moesim("sweep", scenario, "--grid", "parallel.pp=2", "--metric", "mfu", "-j", 1)
    assert "no point has a value of the metrics that --metric names" in without.out


def test_a_sweep_has_the_step_of_every_combination_and_a_second_takes_all_from_the_store(
    moesim: Moesim, scenario: Path, tmp_path: Path
) -> None:
    """1F1B takes (microbatches + stages - 1) (F + B)."""
    out = tmp_path / "out"
    data = json.loads(moesim("sweep", scenario, *GRID, "--out", out, "--jobs", 1, "--json").out)
    steps = {(row["parallel.pp"], row["workload.microbatches"]): row["step_time_s"] for row in data["rows"]}
    assert steps == {(pp, m): pytest.approx((m + pp - 1) * 3e-3) for pp in (1, 2, 4) for m in (4, 8)}
    assert (data["num_points"], data["num_simulated"], data["num_kept"]) == (6, 6, 0)
    with (out / "sweep.csv").open(encoding="utf-8") as stream:
        assert [float(row["step_time_s"]) for row in csv.DictReader(stream)] == [*steps.values()]
    assert (out / "sweep.png").stat().st_size > 10_000
    assert json.loads((out / "sweep.json").read_text(encoding="utf-8"))["rows"] == data["rows"]
    again = json.loads(moesim("sweep", scenario, *GRID, "--out", out, "--jobs", 1, "--json").out)
    assert (again["num_simulated"], again["num_kept"], again["rows"]) == (0, 6, data["rows"])


def test_a_larger_sweep_simulates_only_what_is_new(moesim: Moesim, scenario: Path, tmp_path: Path) -> None:
    """Keys are of content: a point is known whatever grid it was in, with the program's own value left out."""
    store = tmp_path / "store.sqlite"
    assert moesim("sweep", scenario, *GRID, "--store", store, "--jobs", 1).code == 0
    more = ("--grid", "workload.microbatches=8,16", "--grid", "parallel.pp=2,4", "--grid", "schedule.kind=1f1b")
    data = json.loads(moesim("sweep", scenario, *more, "--store", store, "--jobs", 1, "--json").out)
    assert (data["num_simulated"], data["num_kept"]) == (2, 2)
    planned = moesim("sweep", scenario, *more, "--store", store, "-j", 1, "--plan")
    assert "nothing is left to plan" in planned.err
    assert "SWEEP  toy: 4 points" in planned.out
