"""Measured jobs: replayed by hand, with and without stragglers; what is refused; and as a run that others read."""

import json
from pathlib import Path

import numpy as np
import pytest

from sim.cli.measured import import_trace_command
from sim.cli.report import report_command
from sim.cli.why import why_command
from sim.errors import InvalidValueError, SimulationError
from sim.studies.compare import compare_runs
from sim.studies.measured.as_result import result_of, trace_of_step
from sim.studies.measured.operations import read_operations
from sim.studies.measured.replay import Job
from sim.studies.measured.stragglers import find_stragglers

HEADER = "dp_rank,stage,step,optype,seq_id,mc,mb_id,start_ms,duration_ms\n"


def one_f_one_b(*, forward, backward, num_microbatches=4, replicas=1, steps=1, hop=0.0, host=0.0):
    """Return a table of 1F1B, worked out here: each stage's F and B times are given; `host` delays each pass.

    Sends and receives take `hop` after the last comer. This is a schedule of its own, with no part of the program.
    """
    num_stages = len(forward)
    rows, end = [], {}
    orders = []
    for stage in range(num_stages):
        warm_up = min(num_microbatches, num_stages - stage)
        order = [("F", m) for m in range(warm_up)]
        for m in range(num_microbatches):
            order.append(("B", m))
            if warm_up + m < num_microbatches:
                order.append(("F", warm_up + m))
        orders.append(order)
    at, free = [0] * num_stages, [0.0] * num_stages
    start = {}
    while any(at[s] < len(orders[s]) for s in range(num_stages)):
        for s in range(num_stages):
            while at[s] < len(orders[s]):
                kind, m = orders[s][at[s]]
                source = s - 1 if kind == "F" else s + 1
                needs = (kind, m, source)
                if 0 <= source < num_stages and needs not in end:
                    break
                ready = end[needs] + hop if 0 <= source < num_stages else 0.0
                start[kind, m, s] = max(free[s], ready) + host
                end[kind, m, s] = start[kind, m, s] + (forward if kind == "F" else backward)[s]
                free[s] = end[kind, m, s]
                at[s] += 1
    for step in range(steps):
        for replica in range(replicas):
            for (kind, m, s), begin in start.items():
                name = "forward" if kind == "F" else "backward"
                took = end[kind, m, s] - begin
                rows.append((replica, s, step, f"{name}-compute", m, 0, m, begin, took))
                target = s + 1 if kind == "F" else s - 1
                if 0 <= target < num_stages:
                    rows.append((replica, s, step, f"{name}-send", m, -1, -1, end[kind, m, s], hop))
                    rows.append((replica, target, step, f"{name}-recv", m, -1, -1, end[kind, m, s], hop))
    return HEADER + "".join(",".join(map(str, row)) + "\n" for row in rows)


@pytest.fixture
def job_of(tmp_path):
    """Return what makes a job of a table's text."""

    def make(text: str) -> Job:
        file = tmp_path / "table.csv"
        file.write_text(text, "utf-8")
        return Job.of(read_operations(file))

    return make


@pytest.mark.parametrize(("num_stages", "num_microbatches"), [(1, 3), (2, 4), (4, 4), (4, 9)])
def test_even_1f1b_takes_its_closed_form(job_of, num_stages, num_microbatches):
    job = job_of(
        one_f_one_b(forward=[1.0] * num_stages, backward=[2.0] * num_stages, num_microbatches=num_microbatches)
    )
    found = find_stragglers(job)
    expected_s = (num_microbatches + num_stages - 1) * 3e-3
    assert found.measured_step_s == pytest.approx(expected_s)
    assert found.replayed_step_s == pytest.approx(expected_s)
    assert found.slowdown == pytest.approx(1.0)
    assert all(abs(cause.gain_s) < 1e-12 for cause in found.causes)


def test_a_slow_last_stage_is_found_and_mended(job_of):
    """The last stage is 50 % slower: ideally every pass takes the mean of its kind, and its replay gains the most."""
    found = find_stragglers(job_of(one_f_one_b(forward=[2, 2, 2, 3], backward=[4, 4, 4, 6], num_microbatches=8)))
    assert found.ideal_step_s == pytest.approx((8 + 3) * (2.25 + 4.5) * 1e-3)
    assert found.causes[0].name == "last stage"
    assert found.causes[0].gain_s > 0
    assert found.replayed_step_s == pytest.approx(found.measured_step_s)
    others = {cause.name: cause for cause in found.causes}
    assert others["stage 0"].gain_s <= 0  # it is faster than the mean
    assert others["microbatches"].gain_s == pytest.approx(0.0, abs=1e-12)


def test_delays_of_the_host_are_left_out(job_of):
    slow, fast = (one_f_one_b(forward=[1, 1], backward=[2, 2], host=host) for host in (0.25, 0.0))
    delayed, plain = job_of(slow), job_of(fast)
    assert delayed.replay().step_s == pytest.approx(plain.replay().step_s)
    assert delayed.measured_step_s > plain.measured_step_s


def test_replicas_wait_for_each_other_at_collectives(job_of):
    """Two workers of 5 and 9 ms meet in a reduce-scatter of 2 ms: both steps take 11 ms; ideal 7 + 2."""
    rows = [
        (0, 0, 0, "forward-compute", 0, 0, 0, 0, 5),
        (0, 0, 0, "grads-reduce-scatter", 0, 0, -1, 5, 6),
        (1, 0, 0, "forward-compute", 0, 0, 0, 0, 9),
        (1, 0, 0, "grads-reduce-scatter", 0, 0, -1, 9, 2),
    ]
    job = job_of(HEADER + "".join(",".join(map(str, row)) + "\n" for row in rows))
    np.testing.assert_allclose(job.own_s * 1e3, [5, 2, 9, 2])
    found = find_stragglers(job)
    assert found.replayed_step_s == pytest.approx(11e-3)
    assert found.ideal_step_s == pytest.approx(9e-3)
    worker = next(cause for cause in found.causes if cause.name == "worker 1.0")
    assert worker.step_time_s == pytest.approx(9e-3)  # 7 ms and 2
    assert worker.share == pytest.approx(1.0)


def test_a_long_transfer_is_not_waiting(job_of):
    """A hop of 0.5 ms: what a receive takes longer, it waits for its sender."""
    job = job_of(one_f_one_b(forward=[1, 1], backward=[2, 2], num_microbatches=2, hop=0.5))
    assert job.replay().step_s == pytest.approx(job.measured_step_s)
    transfers = np.array([str(name).endswith(("send", "recv")) for name in job.operations.optype])
    np.testing.assert_allclose(job.own_s[transfers], 0.5e-3)


def test_a_step_becomes_a_trace(job_of):
    job = job_of(one_f_one_b(forward=[1, 1], backward=[2, 2], num_microbatches=3, replicas=2, steps=2))
    trace = trace_of_step(job, 1)
    assert trace.step_ns == (3 + 1) * 3_000_000
    assert (trace.num_stages, trace.num_lanes) == (2, 2)
    data = result_of(trace, name="x", source="y", num_gpus=4, warnings=[])
    assert [sum(stage.values()) for stage in data["stages_ns"]] == [trace.step_ns] * 2
    assert data["metrics"]["bubble_fraction"] == pytest.approx(3 / 12)
    assert sum(data["path_ns"].values()) == trace.step_ns
    assert data["path_ns"]["other_compute"] == trace.step_ns  # F F B on the way, and no wait


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "have a header and rows"),
        ("a,b\n1,2\n", "have a column dp_rank"),
        (HEADER + "0,0,0,forward-compute,0,0,0,0\n", "have 9 cells"),
        (HEADER + "0,0,0,forward-compute,0,0,0,x,1\n", "start_ms must be a number of milliseconds, got x"),
        (HEADER + "0,0,0,forward-compute,0,0,0,0,-1\n", "duration_ms must be a number of milliseconds, at least 0"),
        (HEADER + "0,0,0,forward-compute,0,0,0,nan,1\n", "start_ms must be a number"),
        (HEADER + "-1,0,0,forward-compute,0,0,0,0,1\n", "dp_rank must be an integer of at least 0"),
        (HEADER + "0,0,0,forward-comput,0,0,0,0,1\n", "optype must be one of"),
        (HEADER + "0,0,0,forward-compute,0,0,0,0,1\n0,1,1,forward-compute,0,0,0,0,1\n", "all 2 workers"),
        (
            HEADER + "0,0,0,forward-compute,0,0,0,0,1\n0,0,0,forward-send,0,0,0,1,1\n0,0,0,forward-send,1,0,0,2,1\n",
            "have a forward-send for each of the 1 passes",
        ),
    ],
)
def test_refusals(job_of, text, message):
    with pytest.raises(InvalidValueError) as raised:
        job_of(text)
    assert message in str(raised.value)


def test_a_cycle_is_named(job_of):
    """Two stages that each receive what the other sends only after it has received."""
    rows = [
        (0, 0, 0, "backward-compute", 0, 0, 0, 0, 1),
        (0, 0, 0, "backward-recv", 0, 0, 0, 0, 1),
        (0, 0, 0, "forward-compute", 0, 0, 0, 1, 1),
        (0, 0, 0, "forward-send", 0, 0, 0, 2, 1),
        (0, 1, 0, "forward-compute", 0, 0, 0, 0, 1),
        (0, 1, 0, "forward-recv", 0, 0, 0, 0, 1),
        (0, 1, 0, "backward-compute", 0, 0, 0, 1, 1),
        (0, 1, 0, "backward-send", 0, 0, 0, 2, 1),
    ]
    with pytest.raises(SimulationError, match="cycle"):
        job_of(HEADER + "".join(",".join(map(str, row)) + "\n" for row in rows))


def test_command_writes_what_compare_reads(tmp_path, capsys):
    table = tmp_path / "job.csv"
    table.write_text(one_f_one_b(forward=[1, 1], backward=[2, 3], num_microbatches=3), "utf-8")
    import_trace_command(str(table), as_json=True, out=str(tmp_path / "out"))
    data = json.loads(capsys.readouterr().out)
    assert data["causes"][0]["name"] == "last stage"
    saved = Path(data["written"]["result"])
    assert json.loads(saved.read_text("utf-8"))["stragglers"]["slowdown"] == data["slowdown"]
    comparison = compare_runs([str(saved), str(saved)]).to_dict()
    assert comparison["differences"][0]["step_time_s"] == 0.0
    assert sum(comparison["runs"][0]["parts_s"].values()) == pytest.approx(data["measured_step_time_s"])
    import_trace_command(str(table), as_json=False)
    assert "The most would be gained if operations of stage 1 took their ideal time" in " ".join(
        capsys.readouterr().out.split()
    )
    with pytest.raises(InvalidValueError, match="be a step of the table"):
        import_trace_command(str(table), step=7, as_json=True)


def test_why_of_a_replayed_job_is_what_each_cause_costs(tmp_path, capsys):
    """Figures, sentence and picture are those of the replay; the path is that of the step as measured."""
    table = tmp_path / "job.csv"
    table.write_text(one_f_one_b(forward=[1, 1], backward=[2, 3], num_microbatches=3), "utf-8")
    import_trace_command(str(table), as_json=True, out=str(tmp_path / "out"))
    replayed = json.loads(capsys.readouterr().out)
    why_command(str(tmp_path / "out" / "result.json"), output=str(tmp_path / "why.svg"), as_json=True)
    data = json.loads(capsys.readouterr().out)
    found = data["stragglers"]
    assert (found["slowdown"], found["time_s"]) == (replayed["slowdown"], replayed["ideal_step_time_s"])
    for cause, of_replay in zip(found["causes"], replayed["causes"], strict=True):
        assert cause["slowdown"] == pytest.approx(replayed["step_time_s"] / of_replay["step_time_s"])
    assert sum(data["path_ns"].values()) == data["step_ns"] == round(replayed["measured_step_time_s"] * 1e9)
    assert data["path_rows"] > 0
    picture = (tmp_path / "why.svg").read_text("utf-8")
    assert all(f"<!-- {cause['name']} -->" in picture for cause in found["causes"])
    report_command(str(tmp_path / "out" / "result.json"), output=str(tmp_path / "a.html"), as_json=True)
    assert '<section id="stragglers"' in (tmp_path / "a.html").read_text("utf-8")
