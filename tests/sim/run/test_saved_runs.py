"""Runs that were saved: the trace is rebuilt whole, and a file that is no trace of the run is refused by name."""

import json

import numpy as np
import pytest

from sim.cli.run import run_command
from sim.cli.timeline import timeline_command
from sim.errors import InvalidValueError
from sim.report.files import npz_bytes
from sim.results.path import path_ns
from sim.results.stages import stages_ns
from sim.run.saved import read_saved

PASSES = """
name: small
parallel: {pp: 3}
workload: {kind: passes, microbatches: 4, pass_times: {F: 1 ms, B: 2 ms, W: 0 ms}, p2p: 10 us}
schedule: {kind: 1f1b}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the folder of a small run."""
    folder = tmp_path_factory.mktemp("saved")
    (folder / "small.yaml").write_text(PASSES, "utf-8")
    run_command(str(folder / "small.yaml"), as_json=True, out=str(folder / "out"), check=False, jobs=1)
    return folder / "out"


@pytest.fixture
def copied(folder, tmp_path):
    """Return a folder with the files that a run is read from, to be damaged."""
    for name in ("result.json", "trace.npz", "details.npz"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    return tmp_path


def test_the_accounts_of_a_saved_trace_are_those_of_the_run(folder):
    run = read_saved(folder / "result.json")
    assert path_ns(run.trace) == run.data["path_ns"]
    assert stages_ns(run.trace) == run.data["stages_ns"]


@pytest.mark.parametrize("name", ["timeline.png", "trace.pftrace", "trace.json"])
def test_pictures_of_a_saved_run_are_those_of_the_run(folder, tmp_path, capsys, name):
    file = tmp_path / f"again{name[name.index('.') :]}"
    timeline_command([str(folder / "result.json")], output=str(file), colour="microbatch", lane=0, as_json=True)
    assert file.read_bytes() == (folder / name).read_bytes()


def rewritten(folder, name, change):
    """Write an array file again, its arrays changed."""
    arrays = dict(np.load(folder / name))
    change(arrays)
    (folder / name).write_bytes(npz_bytes(arrays))


def of_other_run(folder):
    data = json.loads((folder / "result.json").read_text("utf-8"))
    data["path_ns"]["idle"] += 1
    (folder / "result.json").write_text(json.dumps(data), "utf-8")


def column(name, value):
    """Return a change of the first value of a column, which a trace cannot have."""

    def change(arrays):
        arrays[name] = arrays[name].copy()
        arrays[name][0] = value

    return lambda folder: rewritten(folder, "trace.npz", change)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: rewritten(folder, "trace.npz", lambda arrays: arrays.pop("kind")), "no column kind"),
        (
            lambda folder: rewritten(folder, "trace.npz", lambda arrays: arrays.update(lane=arrays["lane"][:3])),
            "column lane of shape",
        ),
        (
            lambda folder: rewritten(folder, "trace.npz", lambda arrays: arrays.update(stage=arrays["stage"] * 0.5)),
            "column stage of type float64",
        ),
        (column("kind", "X"), "kind X, which this version does not know"),
        (column("stage", 3), "column stage with values outside of 0 to 2"),
        (column("released_by", 10**6), "column released_by with values outside"),
        (column("end_ns", -5), "rows that end before they start"),
        (column("bytes", np.nan), "column bytes with a number that is not finite"),
        (lambda folder: rewritten(folder, "details.npz", lambda arrays: arrays.pop("lane_ranks")), "no array lane_ra"),
        (of_other_run, "be of the run of result.json"),
        (lambda folder: (folder / "trace.npz").write_bytes(b"PK\x03\x04none"), "must be an NPZ file"),
    ],
)
def test_arrays_that_are_no_trace_of_the_run_are_refused(copied, damage, words):
    damage(copied)
    with pytest.raises(InvalidValueError) as raised:
        _ = read_saved(copied / "result.json").trace
    assert words in str(raised.value)
    assert ".npz" in str(raised.value)


def test_parts_that_do_not_sum_are_refused(copied):
    def change(arrays):
        arrays["base_ns"] = arrays["base_ns"] + 1

    rewritten(copied, "trace.npz", change)
    with pytest.raises(InvalidValueError, match="parts do not sum"):
        _ = read_saved(copied / "result.json").trace


def test_without_its_arrays_a_run_has_no_trace(copied):
    (copied / "details.npz").unlink()
    assert read_saved(copied / "result.json").trace is None
    with pytest.raises(InvalidValueError, match=r"stand in the folder of its trace\.npz"):
        timeline_command([str(copied / "result.json")], output="a.png", colour="microbatch", lane=0, as_json=True)
