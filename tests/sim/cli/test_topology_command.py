"""`moesim topology` as a user types it: tables, pictures, graphs, and what it refuses."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from topology.fabric import build_graph
from topology.files.graphml import graphml_to_graph
from topology.presets.clusters import FABRICS

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def topology(moesim: Command) -> Command:
    """Run `moesim topology` in this process; return exit code, output and errors."""
    return partial(moesim, "topology")


def test_the_table_names_each_kind_of_link_with_its_source(topology: Command) -> None:
    """Bandwidth, efficiency and source of NVLink and NIC are printed."""
    code, out, _ = topology("ep64_tp16_pp4")
    assert code == 0
    for word in ("nvlink", "450 GB/s", "87.6 %", "leaf-spine", "H100 datasheet"):
        assert word in out


def test_json_counts_what_the_table_counts(topology: Command) -> None:
    """128 NVLinks of 64 GPUs, both directions."""
    code, out, _ = topology("ep64_tp16_pp4", "--json")
    data = json.loads(out)
    assert code == 0
    assert (data["num_gpus"], data["vertices"]["gpu"], data["written"]) == (64, 64, None)
    assert {row["kind"]: row["count"] for row in data["link_kinds"]}["nvlink"] == 128


def test_the_written_graph_is_the_presets(topology: Command, tmp_path: Path) -> None:
    """GraphML of a scenario is read back as the graph that the preset builds."""
    code, _, _ = topology("ep64_tp16_pp4", "-o", tmp_path / "c.graphml")
    graph = graphml_to_graph((tmp_path / "c.graphml").read_text(encoding="utf-8"))
    expected = build_graph(FABRICS["dgx-h100"], 8)
    assert code == 0
    assert (dict(graph.nodes(data=True)), list(graph.edges(data=True)), graph.graph) == (
        dict(expected.nodes(data=True)),
        list(expected.edges(data=True)),
        expected.graph,
    )


def test_a_runs_links_colour_the_picture(topology: Command, tmp_path: Path) -> None:
    """`--load` takes the links of a result."""
    names = [f"{a}->{b}" for a, b in build_graph(FABRICS["dgx-h100"], 8).edges]
    links = [{"name": name, "kind": "", "bytes": 1.0, "busy_s": 1.0, "utilisation": 0.5} for name in names]
    (tmp_path / "result.json").write_text(json.dumps({"links": links}), encoding="utf-8")
    code, out, _ = topology("ep64_tp16_pp4", "-o", tmp_path / "t.png", "--load", tmp_path / "result.json")
    assert code == 0
    assert "Wrote" in out
    assert (tmp_path / "t.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "be the JSON of a run"),
        ("[]", "without a list `links`"),
        ('{"links": [1]}', "have links with name and utilisation"),
        ('{"links": [{"name": "a->b", "utilisation": 0.5}]}', "that the scenario's cluster has, got a->b"),
        ('{"links": [{"name": "a->b", "utilisation": -1}]}', "have links with name and utilisation"),
    ],
)
def test_a_load_that_is_none_is_refused(topology: Command, tmp_path: Path, text: str, words: str) -> None:
    """What is no result of this cluster ends with exit code 2 and says so."""
    (tmp_path / "r.json").write_text(text, encoding="utf-8")
    code, _, err = topology("ep64_tp16_pp4", "-o", tmp_path / "t.png", "--load", tmp_path / "r.json")
    assert code == 2
    assert words in err


def test_other_suffixes_and_a_load_without_a_picture_are_refused(topology: Command, tmp_path: Path) -> None:
    """The options that do not go together are named."""
    assert "end in one of .png" in topology("ep64_tp16_pp4", "-o", tmp_path / "t.gif")[2]
    assert "be given with a picture" in topology("ep64_tp16_pp4", "--load", tmp_path / "r.json")[2]
    assert "be readable" in topology("ep64_tp16_pp4", "-o", tmp_path / "t.png", "--load", tmp_path / "r.json")[2]


def test_a_load_of_another_cluster_is_refused(topology: Command, tmp_path: Path) -> None:
    """Links that the run did not have would look idle."""
    result = tmp_path / "result.json"
    links = [{"name": f"{a}->{b}", "utilisation": 0.5} for a, b in build_graph(FABRICS["dgx-h100"], 2).edges]
    result.write_text(json.dumps({"links": links}), encoding="utf-8")
    code, _, stderr = topology("ep64_tp16_pp4", "-o", tmp_path / "x.png", "--load", result)
    assert code == 2
    assert "--load must have all 448 links of" in stderr


def test_a_yaml_that_could_not_be_read_back_is_not_written(topology: Command, tmp_path: Path) -> None:
    """64 nodes are more than 10,000 values."""
    code, _, stderr = topology("ep64_tp16_pp4", "--set", "cluster.num_nodes=64", "-o", tmp_path / "c.yaml")
    assert (code, list(tmp_path.iterdir())) == (2, [])
    assert "--output must be .graphml for a cluster of this size" in stderr
