"""Sweeps: grids, points that are found or simulated, studies that are killed and that share a store, plans."""

from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from killed_sweeps import AXES, PASSES, kept_results, kill_at, said, start_sweep

from sim.errors import InvalidValueError, OutputError
from sim.scenario.load import load_scenario_text
from sim.studies.executors.chunk import ChunkRefusedError, run_chunk
from sim.studies.executors.executor import Ended, Executor
from sim.studies.executors.local import LocalProcesses
from sim.studies.store.store import Store
from sim.studies.sweep.grid import Axis, Grid, build_grid, parse_axis
from sim.studies.sweep.points import Watch, run_points
from sim.studies.sweep.report import sweep

SCENARIO = load_scenario_text(PASSES)
NUM_SEEDS = 30
MANY = ",".join(map(str, range(1, 4001)))


def grid_of(*arguments, num_seeds=None):
    return build_grid(SCENARIO, [parse_axis(text) for text in arguments], num_seeds=num_seeds)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_a_grid_has_every_combination_once_in_the_order_of_its_axes(sizes):
    axes = tuple(Axis(key=f"k{i}", values=tuple(range(size))) for i, size in enumerate(sizes))
    grid = Grid(axes=axes)
    found = [tuple(grid.changes(i).values()) for i in range(grid.num_points)]
    assert found == list(product(*(axis.values for axis in axes)))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["parallel.pp"], "--grid must be KEY=A,B"),
        (["parallel.pp="], "--grid must be KEY=A,B"),
        (["=1"], "--grid must be KEY=A,B"),
        (["parallel..pp=1"], "--grid must be KEY=A,B"),
        (["parallel.pp=[1"], "--grid must be valid YAML"),
        (["parallel.pp=1,2,1"], "must name different values of parallel.pp, got 1"),
        (["parallel.qp=1"], "--grid must be a known key, got parallel.qp"),
        (["parallel.pp=1,many"], "--grid parallel.pp must be an integer of at least 1, got many"),
        (["parallel.pp=1,0"], "--grid parallel.pp must be an integer of at least 1, got 0"),
        (["parallel.pp=1", "parallel.pp=2"], "must set each key once, got parallel.pp"),
        (["workload.pass_times={F: 1 ms}", "workload.pass_times.F=1 ms"], "must set each key once"),
        (["schedule.kind=fast"], "--grid schedule.kind must be"),
        ([f"seed={MANY}", f"parallel.pp={MANY}"], r"have at most 10,000,000 combinations, got 16,000,000"),
        ([], "--grid must be given at least once"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_grid_that_cannot_be_is_refused_by_name(arguments, words):
    with pytest.raises(InvalidValueError, match=words.replace("(", r"\(")):
        grid_of(*arguments)


def test_seeds_and_an_axis_of_seeds_cannot_both_be():
    with pytest.raises(InvalidValueError, match=r"got seed. Remove --seeds or the axis seed"):
        grid_of("seed=1,2", num_seeds=2)


def test_a_value_that_only_another_axis_makes_possible_is_a_point():
    """Interleaved stages need `parallel.vpp`, which another axis gives; 1F1B takes none above 1: its row says so."""
    grid = grid_of("schedule.kind=1f1b,interleaved", "parallel.vpp=1,2")
    with Store() as store, LocalProcesses(1) as executor:
        data = sweep(SCENARIO, grid, store=store, executor=executor)
    assert ["vpp" in row.get("problem", "") for row in data["rows"]] == [False, True, False, False]
    assert (data["num_problems"], data["rows"][1]["step_time_s"]) == (1, None)


# ---- studies that are disturbed ----------------------------------------------------------------------------------


def swept(store, *, executor=None, watch=None, grid=None):
    with Store(str(store)) as kept, executor or LocalProcesses(1) as running:
        return sweep(SCENARIO, grid or grid_of(*AXES, num_seeds=NUM_SEEDS), store=kept, executor=running, watch=watch)


def test_a_sweep_that_is_killed_and_two_that_share_its_store_have_every_point_once(tmp_path):
    """Each point is simulated by one of them, and the results are those of an undisturbed sweep."""
    num_points, store = 10 * NUM_SEEDS, tmp_path / "store.sqlite"
    kill_at(50, store, start_sweep(tmp_path, store, num_points, "--jobs", "1"))
    num_kept = len(kept_results(store))
    assert 50 <= num_kept < num_points
    other = start_sweep(tmp_path, store, num_points, "--jobs", "1")
    mine, others = swept(store), said(other)
    assert mine["num_simulated"] + others["num_simulated"] == num_points - num_kept
    undisturbed = swept(tmp_path / "undisturbed.sqlite")
    assert undisturbed["num_simulated"] == num_points
    assert mine["rows"] == others["rows"] == undisturbed["rows"]
    assert kept_results(store) == kept_results(tmp_path / "undisturbed.sqlite")


class Forgetful(Executor):
    """Loses a chunk with a point of one key, as a process does that ends without a word."""

    name, num_workers = "forgetful", 1

    def __init__(self, lost):
        """Lose chunks with this seed."""
        self.chunks, self.lost = [], lost

    def submit(self, chunk):
        """Let it wait."""
        self.chunks.append(chunk)

    def ended(self, timeout_s):
        """Run the first that waits."""
        chunk = self.chunks.pop(0)
        is_lost = any(point.changes["seed"] == self.lost for point in chunk.points)
        return [Ended(chunk=chunk, records=None if is_lost else run_chunk(chunk))]

    def close(self, *, drop):
        """Do nothing."""


def test_a_point_that_ends_its_process_costs_no_other_point(tmp_path):
    """A chunk that is lost is tried point by point; the point that is lost alone is no result and is not kept."""
    grid = grid_of("parallel.pp=1", num_seeds=60)
    data = swept(tmp_path / "a.sqlite", executor=Forgetful(lost=7), grid=grid)
    assert [row["seed"] for row in data["rows"] if "problem" in row] == [7]
    assert len(kept_results(tmp_path / "a.sqlite")) == 59


def test_a_chunk_is_refused_where_the_program_or_a_file_is_another(tmp_path):
    """What a worker would simulate is not what the key says."""
    executor = Forgetful(lost=None)
    executor.ended = lambda timeout_s: (_ for _ in ()).throw(InterruptedError)
    with Store() as store, pytest.raises(InterruptedError):
        run_points(SCENARIO, grid_of("parallel.pp=1"), study="s", store=store, executor=executor)
    (chunk,) = executor.chunks
    assert [record.values["step_time_s"] for record in run_chunk(chunk)] == [pytest.approx(6e-3)]
    with pytest.raises(ChunkRefusedError, match="same version"):
        run_chunk(replace(chunk, program="another"))
    point = replace(chunk.points[0], key="0" * 32)
    with pytest.raises(ChunkRefusedError, match="same files"):
        run_chunk(replace(chunk, points=(point,)))


def test_an_error_of_the_store_ends_the_sweep_and_keeps_what_was_finished(tmp_path, monkeypatch):
    """The disk fills up before half of the points, however large chunks are; the same sweep goes on from there."""
    add, added = Store.add, []

    def full(self, study, records):
        if sum(added) + len(records) > 10 * NUM_SEEDS // 2:
            raise OutputError(file="store", reason="disk is full", hint="Make room.")
        add(self, study, records)
        added.append(len(records))

    monkeypatch.setattr(Store, "add", full)
    with pytest.raises(OutputError, match="disk is full"):
        swept(tmp_path / "a.sqlite")
    num_kept = len(kept_results(tmp_path / "a.sqlite"))
    assert num_kept == sum(added) > 0
    monkeypatch.setattr(Store, "add", add)
    data = swept(tmp_path / "a.sqlite")
    assert (data["num_kept"], data["num_simulated"]) == (num_kept, 10 * NUM_SEEDS - num_kept)


# ---- plans -------------------------------------------------------------------------------------------------------


def test_a_plan_is_made_of_a_sample_before_the_rest_begins(tmp_path):
    """The sample is kept; time and size are those of the sample times what is left."""
    plans = []

    def stop(plan):
        plans.append(plan)
        return False

    data = swept(tmp_path / "a.sqlite", watch=Watch(on_plan=stop))
    (plan,) = plans
    assert (plan.num_points, plan.num_left, plan.sample) == (10 * NUM_SEEDS, 10 * NUM_SEEDS - 16, 16)
    assert len(data["rows"]) == data["num_simulated"] == 16
    with Store(str(tmp_path / "a.sqlite")) as store:
        rows = list(store.rows())
    assert plan.mean_cost_s == pytest.approx(sum(row.record.cost_s for row in rows) / 16)
    per_point = {n: max((plan.mean_cost_s + plan.study_cost_s) / n, plan.study_cost_s) for n in (1, 10, 100)}
    assert plan.time_left_s == pytest.approx(plan.num_left * per_point[1])
    assert plan.time_on_workers_s == {str(n): pytest.approx(plan.num_left * per_point[n]) for n in (10, 100)}
    size = sum(len(row.record.to_json()) for row in rows) / 16
    assert plan.num_left * size < plan.store_bytes < 3 * plan.num_left * size


def test_a_sweep_that_the_disk_cannot_keep_is_refused_after_its_sample(tmp_path, monkeypatch):
    monkeypatch.setattr("sim.studies.sweep.plan.shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(
        OutputError, match=r"take about 0.0 GB, and the disk has 0.0 GB left. What was finished is kept"
    ):
        swept(tmp_path / "a.sqlite")
    assert len(kept_results(tmp_path / "a.sqlite")) == 16


def test_processes_of_this_machine_have_the_results_of_this_process(tmp_path):
    grid = grid_of("parallel.pp=1,2", "workload.microbatches=1,2,3", num_seeds=6)
    here = swept(tmp_path / "a.sqlite", grid=grid)
    there = swept(tmp_path / "b.sqlite", executor=LocalProcesses(2), grid=grid)
    assert here["rows"] == there["rows"]
