"""Names of scenarios are drawn and written as they are: `$` is no formula, and no control character reaches XML."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import networkx as nx
import pytest

from sim.cli import main
from sim.scenario.scenario_files import STARTER
from topology.check_graph import check_graph
from topology.files.graphml import graph_to_graphml

NAMES = ["$x^$ nul \x00 bell \x07 escape \x1b\nline \u202eright to left \U0001f600 <&>\"'", r"$\frac{1}$ $"]


@pytest.fixture
def call(monkeypatch, capsys):
    """Return a function that runs a command and returns its exit code and its output."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["moesim", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr().out

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_strange_name_is_drawn_as_it_is(name, call, tmp_path: Path):
    """A picture is XML, and the name is a text of its own in the JSON."""
    file = tmp_path / "strange.yaml"
    file.write_text(f"name: {json.dumps(name)}\n" + STARTER.partition("\n")[2].replace("\nname:", "\n# name:"), "utf-8")
    for command in (["timeline", file, "-o", tmp_path / "t.svg"], ["topology", file, "-o", tmp_path / "c.svg"]):
        assert call(*command)[0] == 0
        ET.parse(command[-1])  # made here
    code, out = call("run", file, "--json", "--out", tmp_path / "out")
    assert (code, json.loads(out)["scenario"]["name"]) == (0, name)
    assert call("run", file)[0] == 0


def test_no_control_character_reaches_graphml():
    """Not even from a graph that is made in Python; a vertex whose name has one is refused."""
    graph = nx.DiGraph(name="a\x00b")
    graph.add_node("gpu0", kind="gpu", rank=0, node=0, note="\x1b[2J")
    ET.fromstring(graph_to_graphml(graph))  # made here
    graph.add_node("nic\x07", kind="nic")
    with pytest.raises(ValueError, match="printable"):
        check_graph(graph, "own")


def test_a_half_of_a_character_is_refused_and_two_halves_are_one(call, tmp_path: Path):
    """As JSON escapes what is outside the first plane."""
    file = tmp_path / "half.yaml"
    for name, code in (("\\ud83d\\ude00", 0), ("\\ud83d", 2), ("\\ude00\\ud83d", 2)):
        file.write_text(f'name: "{name}"\n' + STARTER.replace("\nname:", "\n# name:"), "utf-8")
        assert call("run", file)[0] == code


def test_a_width_of_0_is_unknown():
    """As some programs that start others say it."""
    words = [sys.executable, "-c", "from sim.cli import main; main()", "list", "schedules"]
    outputs = [
        subprocess.run(words, env={**os.environ, **width}, capture_output=True, check=True).stdout
        for width in ({}, {"COLUMNS": "0"})
    ]
    assert outputs[0] == outputs[1]
