"""Studies on a real Dask cluster: a scheduler and two workers on loopback, one start for all tests here."""

import socket

import pytest
from killed_sweeps import AXES, PASSES, kept_results
from local_dask import local_dask

from sim.errors import InvalidValueError, SimulationError
from sim.scenario.load import load_scenario_text
from sim.studies.executors import dask_cluster
from sim.studies.executors.choose import choose_executor
from sim.studies.executors.local import LocalProcesses
from sim.studies.store.store import Store
from sim.studies.sweep import points
from sim.studies.sweep.grid import build_grid, parse_axis
from sim.studies.sweep.points import Watch
from sim.studies.sweep.report import sweep

pytestmark = pytest.mark.filterwarnings("ignore")  # Dask's own
SCENARIO = load_scenario_text(PASSES)
NUM_SEEDS = 20


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Return a cluster of two workers."""
    pytest.importorskip("distributed", reason="needs the extra dask")
    with local_dask(tmp_path_factory.mktemp("dask"), workers=2) as started:
        yield started


def swept(store, executor, watch=None):
    grid = build_grid(SCENARIO, [parse_axis(text) for text in AXES], num_seeds=NUM_SEEDS)
    with Store(str(store)) as kept, executor:
        return sweep(SCENARIO, grid, store=kept, executor=executor, watch=watch)


def test_workers_with_another_program_are_refused_before_and_during_a_study(cluster, tmp_path, monkeypatch):
    """One that comes later is found by its first chunk."""
    monkeypatch.setattr(points, "program_digest", lambda: "another")
    with pytest.raises(InvalidValueError, match="--cluster must be workers that have the same version of the program"):
        swept(tmp_path / "a.sqlite", choose_executor(cluster.url, 1))
    monkeypatch.setattr(dask_cluster, "program_digest", lambda: "another")
    with pytest.raises(InvalidValueError, match=r"same version of the program, got dask://.* where tcp://.* Install"):
        choose_executor(cluster.url, 1)


def test_a_killed_worker_costs_its_chunk_a_try_and_no_result(cluster, tmp_path):
    """The results are those of this machine; without any worker a study is refused, and ends in the middle of one."""
    killed = []

    def kill_one(done, total):
        if done > 40 and not killed:
            killed.append(cluster.processes["worker 0"])
            killed[0].kill()

    data = swept(tmp_path / "a.sqlite", choose_executor(cluster.url, 1), Watch(on_progress=kill_one))
    assert killed
    assert data["num_simulated"] == len(kept_results(tmp_path / "a.sqlite")) == 10 * NUM_SEEDS
    assert data["rows"] == swept(tmp_path / "b.sqlite", LocalProcesses(1))["rows"]
    assert kept_results(tmp_path / "a.sqlite") == kept_results(tmp_path / "b.sqlite")


def test_a_cluster_that_loses_all_its_workers_ends_the_study_and_keeps_what_was_finished(
    cluster, tmp_path, monkeypatch
):
    """The study waits for a while, for workers may come; a new one is refused at once."""
    monkeypatch.setattr(dask_cluster, "_ALONE_S", 1.0)

    def kill_all(done, total):
        if done > 40:
            cluster.processes["worker 1"].kill()

    with pytest.raises(SimulationError, match=r"it has had no worker for 1 s. What was finished is kept"):
        swept(tmp_path / "a.sqlite", choose_executor(cluster.url, 1), Watch(on_progress=kill_all))
    assert 40 < len(kept_results(tmp_path / "a.sqlite")) < 10 * NUM_SEEDS
    with pytest.raises(InvalidValueError, match=r"--cluster must have workers, got dask://.* with none"):
        choose_executor(cluster.url, 1)


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    """Nobody listens on a port that was just free."""
    pytest.importorskip("distributed", reason="needs the extra dask")
    monkeypatch.setattr(dask_cluster, "_REACH_S", 0.2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(InvalidValueError, match=f"must be a scheduler that answers, got dask://127.0.0.1:{port}"):
        choose_executor(f"dask://127.0.0.1:{port}", 1)


@pytest.mark.parametrize("name", ["dask", "dask://", "slurm://host", "tcp://127.0.0.1:1"])
def test_another_kind_of_cluster_is_refused(name):
    with pytest.raises(InvalidValueError, match="--cluster must be a Dask or Ray cluster, got"):
        choose_executor(name, 1)
