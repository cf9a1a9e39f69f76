"""A store on a real PostgreSQL server: studies that share it, and what goes wrong with servers."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from killed_sweeps import AXES, PASSES, kept_results, said, start_sweep
from sqlalchemy.exc import DBAPIError
from test_store import DONE, KEYS, keep

from sim.errors import InvalidValueError, OutputError
from sim.scenario.load import load_scenario_text
from sim.studies.executors.local import LocalProcesses
from sim.studies.store.store import Store
from sim.studies.sweep import points
from sim.studies.sweep.grid import build_grid, parse_axis
from sim.studies.sweep.points import Watch
from sim.studies.sweep.report import sweep

NUM_SEEDS = 12
SCENARIO = load_scenario_text(PASSES)


def swept(where, watch=None):
    grid = build_grid(SCENARIO, [parse_axis(text) for text in AXES], num_seeds=NUM_SEEDS)
    with Store(str(where)) as kept, LocalProcesses(1) as executor:
        return sweep(SCENARIO, grid, store=kept, executor=executor, watch=watch)


def test_two_processes_on_one_server_simulate_each_point_once(postgresql, tmp_path, monkeypatch):
    """The second one begins in the middle; the results are those of a file on this machine."""
    monkeypatch.setattr(points, "_MAX_CHUNK", 8)  # leaves points to the other one
    where, others = postgresql.url_of_new_schema(), []

    def begin_other(done, total):
        if done >= 40 and not others:
            others.append(start_sweep(tmp_path, where, total, "--jobs", "1"))
            second = f"select 1 from {where.partition('%3D')[2]}.owners offset 1"
            while not postgresql.execute(second) and others[0].poll() is None:
                time.sleep(0.02)

    mine = swept(where, Watch(on_progress=begin_other))
    theirs = said(others[0])
    assert mine["num_simulated"] + theirs["num_simulated"] == 10 * NUM_SEEDS
    assert min(mine["num_simulated"], theirs["num_simulated"]) > 0
    assert mine["rows"] == theirs["rows"] == swept(tmp_path / "here.sqlite")["rows"]
    assert kept_results(where) == kept_results(tmp_path / "here.sqlite")


def test_tables_that_two_processes_make_at_the_same_time_are_made_once(postgresql):
    """The second one waits for the first, and finds them."""
    for _ in range(3):
        where = postgresql.url_of_new_schema()
        with ThreadPoolExecutor(2) as threads:
            for store in threads.map(Store, [where, where]):
                store.close()


def test_a_server_that_ends_in_the_middle_costs_no_finished_result(postgresql):
    """The study ends with a message; when the server is there again the same study goes on."""
    where = postgresql.url_of_new_schema()

    def stop_server(done, total):
        if done > 40:
            postgresql.stop()

    try:
        with pytest.raises(OutputError, match="Check the address, and that the server runs") as refusal:
            swept(where, Watch(on_progress=stop_server))
        assert refusal.value.exit_code == 4
    finally:
        postgresql.start_again()
    data = swept(where)
    assert data["num_kept"] > 40
    assert data["num_kept"] + data["num_simulated"] == 10 * NUM_SEEDS


def test_a_damaged_row_is_simulated_again(postgresql):
    where = postgresql.url_of_new_schema()
    with Store(where) as store:
        keep(store, KEYS[:3])
        with store._writing() as connection:
            connection.exec_driver_sql(f"update points set result = '{{}}' where key = '{KEYS[1]}'")
        assert store.results(KEYS[:3]) == dict.fromkeys((KEYS[0], KEYS[2]), DONE)
        assert store.finished(KEYS[:3]) == {KEYS[0], KEYS[2]}
        assert store.claim(KEYS[:3]).mine == {KEYS[1]}


def test_one_transaction_writes_at_a_time(postgresql):
    """Two that write the same rows in other orders could wait for each other; so the second waits for the first."""
    where = postgresql.url_of_new_schema()
    with Store(where) as store, Store(where) as other, store._writing():
        with other._engine.connect() as connection, pytest.raises(DBAPIError, match="lock timeout"):
            connection.exec_driver_sql("set lock_timeout = '50ms'")
            connection.exec_driver_sql(f"select pg_advisory_xact_lock({int.from_bytes(b'moesim')})")
        assert other.finished(KEYS) == set()  # who reads does not wait


def test_what_is_wrong_with_a_server_is_named_with_what_to_do(postgresql):
    """No such database, no such user, no right to make tables, tables of another program, another version."""
    with pytest.raises(OutputError, match=r'"nowhere" does not exist.* Make the database first: createdb nowhere'):
        Store(postgresql.url("nowhere"))
    with pytest.raises(OutputError, match=r'role "nobody" does not exist.* Check the user'):
        Store(postgresql.url(user="nobody"))
    where = postgresql.url_of_new_schema()
    postgresql.execute("create role reader login")
    with pytest.raises(OutputError, match=r"no schema has been selected.* Let the user make and write tables"):
        Store(where.replace("://store@", "://reader@"))
    with pytest.raises(InvalidValueError, match="must be a store of results, got no tables"):
        Store(where, must_exist=True)
    with Store(where) as store, store._writing() as connection:
        connection.exec_driver_sql("update moesim_store set version = 0")
    with pytest.raises(InvalidValueError, match=r"got version 0. An older version of the program"):
        Store(where)
