"""The store of finished simulations: what it keeps, how studies divide the work, and databases that are no store."""

import json
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from sim.errors import InvalidValueError, OutputError
from sim.scenario.load import load_scenario
from sim.scenario.scenario import Scenario
from sim.studies.store.keys import point_key, program_digest
from sim.studies.store.owner import LEASE_S, is_at_work, new_owner
from sim.studies.store.record import Record
from sim.studies.store.store import Store, StudyRow
from sim.studies.store.tables import OWNERS

DONE = Record(
    values={"step_time_s": 0.5, "fits": True, "num_gpus": 8}, parts_s={"idle": 0.5}, tokens={"routed": 3}, cost_s=0.25
)
STUDY = StudyRow(
    id="s", command="sweep", scenario="toy", settings={"a": [1]}, num_points=3, program="p", version="0", created=1.0
)
SERVED = """
cluster: {preset: dgx-h100, num_nodes: 1}
model: {preset: qwen3-30b-a3b}
parallel: {strategy: EP1_TP1_PP1_DP1}
workload: {kind: serving, requests: {trace: requests.jsonl}}
"""
RECORDED = """
cluster: {preset: dgx-h100, num_nodes: 1}
model: {layers: 2, hidden: 512, heads: 8, ffn: 512, gated: true, experts: 16, top_k: 2, vocab: 1000}
parallel: {strategy: EP8_TP1_PP1_DP8}
workload: {kind: forward, sequences: 16, sequence_length: 256, microbatches: 2}
routing: {kind: trace, file: a.csv}
"""
KEYS = [f"{number:032x}" for number in range(1200)]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "results.sqlite")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def new_store(request, tmp_path_factory):
    """Return what returns a new place for a store, at every call."""
    if request.param == "sqlite":
        return lambda: str(tmp_path_factory.mktemp("store") / "results.sqlite")
    return request.getfixturevalue("postgresql").url_of_new_schema


@pytest.fixture
def where(new_store):
    """Return where a store may be: what holds of one kind of database holds of every other one."""
    return new_store()


def keep(store, keys, record=DONE):
    store.add("s", {key: ({"a": 1}, record) for key in keys})


def test_what_is_kept_comes_back_after_the_store_was_closed(where):
    """More keys than one statement names, and no result twice."""
    with Store(where) as store:
        keep(store, KEYS)
        keep(store, KEYS[:2], replace(DONE, problem="another"))  # the first result stays
    with Store(where, must_exist=True) as store:
        assert store.finished([*KEYS, "f" * 32]) == set(KEYS)
        assert store.results(KEYS[:2]) == dict.fromkeys(KEYS[:2], DONE)
        assert [row.changes for row in store.rows(keys=KEYS[:1])] == [{"a": 1}]


def test_what_depends_on_the_machine_is_not_kept(where):
    """Memory that ran out is no result of the scenario; its claim is released all the same."""
    with Store(where) as store, Store(where) as other:
        assert store.claim(KEYS[:1]).mine == {KEYS[0]}
        keep(store, KEYS[:1], Record(values={}, problem="no memory", is_final=False))
        assert store.finished(KEYS[:1]) == set()
        assert other.claim(KEYS[:1]).mine == {KEYS[0]}


@settings(max_examples=12)
@given(
    claims=st.lists(
        st.tuples(st.integers(0, 2), st.lists(st.integers(0, 9), min_size=1), st.booleans()), min_size=1, max_size=12
    )
)
def test_no_point_is_claimed_by_two_nor_after_it_is_finished(new_store, claims):
    """Three studies claim and finish in any order: each point is simulated at most once, and none is lost."""
    where = new_store()
    stores = [Store(where) for _ in range(3)]
    owner, finished = {}, set()
    for who, numbers, finishes in claims:
        keys = [KEYS[number] for number in numbers]
        claimed = stores[who].claim(keys)
        assert claimed.finished == set(keys) & finished
        assert claimed.mine == {key for key in keys if key not in finished and owner.get(key, who) == who}
        assert claimed.mine | claimed.finished | claimed.elsewhere == set(keys)
        owner |= dict.fromkeys(claimed.mine, who)
        if finishes:
            keep(stores[who], claimed.mine)
            finished |= claimed.mine
    for store in stores:
        store.close()


def test_a_claim_ends_with_its_study(where):
    with Store(where) as other:
        with Store(where) as store:
            store.claim(KEYS[:3])
            assert other.claim(KEYS[:4]).elsewhere == set(KEYS[:3])
        assert other.claim(KEYS[:4]).mine == set(KEYS[:4])


@pytest.mark.parametrize(
    ("change", "is_free"),
    [
        ({"expires": 1.0}, False),
        ({"began": "another process"}, True),
        ({"machine": "another", "expires": 1.0}, True),
        ({"machine": "another"}, False),
        ({"began": "", "expires": 1.0}, True),  # a system that does not say when a process began
    ],
)
def test_claims_of_a_process_that_has_gone_are_free(where, change, is_free):
    """On this machine at once, on another one when the lease has run out."""
    with Store(where) as store, Store(where) as other:
        store.claim(KEYS[:2])
        with store._writing() as connection:
            connection.execute(OWNERS.update().values(**change))
        assert other.claim(KEYS[:2]).mine == (set(KEYS[:2]) if is_free else set())


def test_an_owner_is_at_work_until_its_process_ends():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = replace(new_owner(), pid=process.pid)
    from sim.studies.store.owner import _began

    owner = replace(owner, began=_began(process.pid))
    assert is_at_work(owner)
    process.kill()
    time.sleep(0.1)
    assert not is_at_work(owner)  # though nobody has waited for it
    process.communicate()
    assert not is_at_work(owner)


def test_a_lease_is_renewed(where, monkeypatch):
    with Store(where) as store:
        store.claim(KEYS[:1])
        with store._writing() as connection:
            connection.execute(OWNERS.update().values(expires=1.0))
        store._renewed -= LEASE_S
        store.renew()
        with store._reading() as connection:
            assert connection.execute(OWNERS.select()).one().expires > time.time() + LEASE_S / 2


def test_studies_are_listed_and_removed_with_their_points(where):
    with Store(where) as store:
        store.begin_study(STUDY)
        store.begin_study(replace(STUDY, created=9.0))  # it began before
        keep(store, KEYS[:3])
        ((study, num_points, num_bytes),) = store.studies()
        assert (study, num_points) == (STUDY, 3)
        assert num_bytes == 3 * len(DONE.to_json())
        assert store.remove(["s"]) == 3
        assert (store.studies(), store.finished(KEYS[:3])) == ([], set())


# ---- keys --------------------------------------------------------------------------------------------------------


def test_a_key_is_of_everything_that_is_simulated_and_of_nothing_else():
    """Factors, kernels and what-ifs stand outside the sections that an alternative may change, and count."""
    scenario = load_scenario("ep64_tp16_pp4")
    key = point_key(scenario)
    for change in ({"what_if": ["free_tp"]}, {"factors.gemm": 1.5}, {"seed": 9}, {"jitter.pass_cv": 0.1}):
        assert point_key(scenario.variant(change)) != key, change
    assert point_key(scenario, wanted={"fits"}) != key
    assert point_key(scenario.without_judgement().variant({"name": "other", "claims": [], "rivals": []})) == key


def test_another_way_to_write_the_same_scenario_has_the_same_key():
    """A default that is given, and a unit that is another."""
    workload = {"kind": "passes", "microbatches": 4, "pass_times": {"F": "1 ms", "B": "2 ms"}}
    scenario = Scenario.validated({"parallel": {"pp": 2}, "workload": workload})
    same = scenario.variant({"workload.pass_times.F": "1000 us", "schedule.kind": "1f1b", "seed": 1})
    assert point_key(scenario) == point_key(same)


def test_another_content_of_a_file_is_another_simulation(tmp_path):
    """Its name alone would let the results of a recording that was overwritten be taken for those of the new one."""
    (tmp_path / "small.yaml").write_text(RECORDED, encoding="utf-8")
    keys = []
    for first in (1, 22, 1):
        lines = [f"0,{expert},{first if expert == 0 else 1}" for expert in range(16)]
        (tmp_path / "a.csv").write_text("\n".join(["layer,expert,tokens", *lines]), encoding="utf-8")
        keys.append(point_key(load_scenario(str(tmp_path / "small.yaml"))))
    assert keys[0] == keys[2] != keys[1]


def test_requests_that_were_overwritten_are_another_simulation(tmp_path):
    """They are not under a key that is called `file`."""
    (tmp_path / "served.yaml").write_text(SERVED, encoding="utf-8")
    keys = []
    for at_ms in (1, 2, 1):
        request = {"timestamp": at_ms, "input_length": 10, "output_length": 4, "hash_ids": []}
        (tmp_path / "requests.jsonl").write_text(json.dumps(request) + "\n", encoding="utf-8")
        keys.append(point_key(load_scenario(str(tmp_path / "served.yaml"))))
    assert keys[0] == keys[2] != keys[1]


def test_a_file_that_an_argument_names_counts_wherever_it_is(tmp_path, monkeypatch):
    """`--set profile=FILE` is a path from where the command runs, and not from the scenario's folder."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "served.yaml").write_text(SERVED, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    keys = []
    for content in ("a", "b"):
        (tmp_path / "own.csv").write_text(content, encoding="utf-8")
        keys.append(point_key(load_scenario("folder/served.yaml", overrides=["profile=own.csv"])))
    assert keys[0] != keys[1]


def test_other_code_is_another_simulation(monkeypatch):
    """The version alone would let results from before a change be taken for those after it."""
    scenario = load_scenario("ep64_tp16_pp4")
    before = point_key(scenario)
    program_digest.cache_clear()
    monkeypatch.setattr("sim.studies.store.keys.source_digest", lambda: "of other code")
    assert point_key(scenario) != before
    monkeypatch.undo()
    program_digest.cache_clear()
    assert point_key(scenario) == before


# ---- databases that are no store ---------------------------------------------------------------------------------


def test_a_damaged_row_is_simulated_again(path):
    """A text that was changed under its checksum is no result."""
    with Store(path) as store:
        keep(store, KEYS[:3])
    with sqlite3.connect(path) as connection:
        connection.execute("update points set result = replace(result, '0.5', '0.4') where key = ?", [KEYS[1]])
    connection.close()
    with Store(path) as store:
        assert store.results(KEYS[:3]).keys() == {KEYS[0], KEYS[2]}
        assert store.finished(KEYS[:3]) == {KEYS[0], KEYS[2]}
        assert store.claim(KEYS[:3]).mine == {KEYS[1]}


def test_a_damaged_file_is_named_with_what_to_do(path):
    with Store(path) as store:
        keep(store, KEYS)
    content = bytearray(Path(path).read_bytes())
    content[4096:] = b"x" * (len(content) - 4096)
    Path(path).write_bytes(content)
    with pytest.raises(OutputError, match=r"results.sqlite: .*malformed.* damaged"), Store(path) as store:
        store.finished(KEYS)


@pytest.mark.parametrize("content", [b"no database at all, but a text of some length" * 100, b"\x89PNG" * 2000])
def test_a_file_that_is_no_database_is_left_as_it_is(path, content):
    Path(path).write_bytes(content)
    with pytest.raises(InvalidValueError, match="must be a store of results, got a file that is not a database"):
        Store(path)
    assert Path(path).read_bytes() == content


@pytest.mark.parametrize(("table", "found"), [("points", "tables points"), ("moesim_store", "a table .* another form")])
def test_a_database_of_another_program_is_left_as_it_is(path, table, found):
    with sqlite3.connect(path) as connection:
        connection.execute(f"create table {table} (x)")
    connection.close()
    with pytest.raises(InvalidValueError, match=rf"results.sqlite: the store must be a store of results, got {found}"):
        Store(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("select name from sqlite_master").fetchall() == [(table,)]
    connection.close()


@pytest.mark.parametrize(("version", "words"), [(0, "An older version"), (99, "A newer version")])
def test_a_store_of_another_version_is_refused_and_kept(path, version, words):
    with Store(path) as store:
        keep(store, KEYS[:1])
        with store._writing() as connection:
            connection.exec_driver_sql(f"update moesim_store set version = {version}")
    with pytest.raises(InvalidValueError, match=rf"results.sqlite: .* got version {version}. {words} of the"):
        Store(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("select count(*) from points").fetchone() == (1,)
    connection.close()


def test_a_full_disk_ends_with_a_message_and_keeps_what_was_finished(path):
    """The database may grow by a few pages: SQLite says what it says of a full disk."""
    with Store(path) as store:
        keep(store, KEYS[:10])

        @event.listens_for(store._engine, "begin")
        def _bound(connection):
            connection.exec_driver_sql(f"pragma max_page_count = {Path(path).stat().st_size // 4096 + 30}")

        store._engine.dispose()
        with pytest.raises(OutputError, match=r"disk is full. What was finished is kept: make room") as refusal:
            keep(store, KEYS[10:])
        assert refusal.value.exit_code == 4
    with Store(path) as store:
        assert store.finished(KEYS) == set(KEYS[:10])


def test_a_folder_a_missing_file_and_a_missing_driver_are_named(tmp_path):
    with pytest.raises(OutputError, match="Is a directory"):
        Store(str(tmp_path))
    with pytest.raises(InvalidValueError, match=r"none.sqlite: the store must exist, got no such file"):
        Store(str(tmp_path / "none.sqlite"), must_exist=True)
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match=r"such.sqlite: .* Choose a folder"):
        Store(str(tmp_path / "file" / "such.sqlite"))
    with pytest.raises(InvalidValueError, match="must be a path or a URL of SQLAlchemy"):
        Store("nothing://here")
    with pytest.raises(InvalidValueError, match=r"oracle://me:\*\*\*@here/x: the store must have its driver") as found:
        Store("oracle://me:secret@here/x")
    assert "secret" not in str(found.value)


def test_a_url_of_sqlite_is_a_file(tmp_path):
    with Store(f"sqlite:///{tmp_path / 'a.sqlite'}") as store:
        keep(store, KEYS[:1])
        assert store.path == tmp_path / "a.sqlite"
    with Store(str(tmp_path / "a.sqlite"), must_exist=True) as store:
        assert store.finished(KEYS) == {KEYS[0]}
