"""Timelines as text: letters by hand, runs of other lengths on one axis."""

from sim.report.console.tables import make_console
from sim.report.console.timelines import NamedTrace, pass_letters, print_timelines
from sim.run.simulate import simulate_scenario
from sim.scenario.load import load_scenario

PASSES = """
parallel: {{pp: {pp}}}
workload: {{kind: passes, microbatches: {microbatches}, pass_times: {{F: 1 ms, B: 2 ms, W: 0 ms}}}}
schedule: {{kind: gpipe}}
"""


def trace_of(tmp_path, pp, microbatches):
    file = tmp_path / "a.yaml"
    file.write_text(PASSES.format(pp=pp, microbatches=microbatches), "utf-8")
    return simulate_scenario(load_scenario(str(file))).run.trace


def test_letters_by_hand(tmp_path):
    """GPipe, two stages, two microbatches: (2 + 1) (1 + 2) = 9 ms, a letter each."""
    trace = trace_of(tmp_path, 2, 2)
    assert pass_letters(trace, 0, 9_000_000, 9) == "FF···BBBB"
    assert pass_letters(trace, 1, 9_000_000, 9) == "·FFBBBB··"
    assert pass_letters(trace, 1, 18_000_000, 18) == "·FFBBBB··"  # nothing after the end


def test_runs_share_one_axis(tmp_path, capsys):
    short, long = trace_of(tmp_path, 2, 2), trace_of(tmp_path, 2, 5)
    print_timelines([NamedTrace("A", short), NamedTrace("B", long)], make_console())
    lines = [line for line in capsys.readouterr().out.splitlines() if " stage " in line]
    assert [line.split()[0] for line in lines] == ["A", "A", "B", "B"]
    assert abs(len(lines[0]) / len(lines[2]) - 0.55) < 0.03  # 9 of 18 ms, and the margin
