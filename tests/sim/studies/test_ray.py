"""A study on a real Ray on loopback, which the test starts; it is large, so `.ci/run` alone installs it."""

import json
import os

import pytest
from killed_sweeps import kept_results, num_kept, said, start_sweep
from local_ray import READY_S, local_ray, wait_until

NUM_POINTS = 200


@pytest.fixture
def ray_head():
    """Start a Ray of two CPUs; what it has started ends with it."""
    if os.environ.get("MOESIM_RAY") != "required":
        pytest.importorskip("ray", reason="needs Ray: pip install 'moesim[ray]'")
    with local_ray() as head:
        yield head


def worker_of(head):
    """Return a process of the cluster that simulates."""
    import psutil

    found = [one for one in psutil.Process(head.pid).children(recursive=True) if "run_chunk" in one.name()]
    return found[0] if found else None


def test_a_killed_worker_of_ray_costs_its_chunk_a_try_and_no_result(ray_head, tmp_path):
    """The results are those of this machine. That nobody answers is said."""
    store = tmp_path / "a.sqlite"
    sweep = start_sweep(tmp_path, store, NUM_POINTS, "--cluster", "ray")
    wait_until(lambda: store.exists() and num_kept(store) >= 30 and worker_of(ray_head), sweep)
    worker_of(ray_head).kill()
    data = said(sweep)
    assert data["num_simulated"] == NUM_POINTS
    here = said(start_sweep(tmp_path, tmp_path / "b.sqlite", NUM_POINTS, "--jobs", "1"))
    assert data["rows"] == here["rows"]
    assert kept_results(store) == kept_results(tmp_path / "b.sqlite")


def test_a_ray_that_does_not_answer_is_named(monkeypatch, tmp_path):
    """Nobody listens on a port that was just free."""
    if os.environ.get("MOESIM_RAY") != "required":
        pytest.importorskip("ray", reason="needs Ray: pip install 'moesim[ray]'")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    sweep = start_sweep(tmp_path, tmp_path / "a.sqlite", NUM_POINTS, "--cluster", "ray")
    out, _ = sweep.communicate(timeout=READY_S)
    error = json.loads(out)["error"]
    assert (sweep.returncode, error["field"], error["rule"]) == (2, "--cluster", "be a cluster that answers")
