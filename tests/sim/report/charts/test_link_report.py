"""The hottest links and the bytes between GPUs, as tables and pictures."""

import io
from dataclasses import replace

import matplotlib.figure
import numpy as np
import pytest
from report_traces import link_use, record

from sim.plan.logs import PairUse
from sim.report.charts.links import draw_links, draw_pairs
from sim.report.console.network import print_links
from sim.report.console.tables import make_console


def link(name, kind, utilisation, bottleneck):
    """Return a link as the JSON has it; capacity and step are 1."""
    numbers = {"bytes": utilisation, "busy_s": utilisation, "utilisation": utilisation}
    return {"name": name, "kind": kind, **numbers, "bottleneck_fraction": bottleneck}


def printed(links):
    """Return what is printed."""
    target = io.StringIO()
    print_links(links, make_console(target))
    return " ".join(target.getvalue().split())


def test_the_ten_hottest_links_are_printed_hottest_first():
    """Of twelve; equal ones in their order."""
    links = [link(f"l{i}", "nic", 0.5 if i < 3 else i / 100, 0.0) for i in range(12)]
    shown = printed(links)
    assert "HOTTEST LINKS 10 of the 12" in shown
    order = [
        word for word in shown.partition("LINKS BY KIND")[0].split() if word.startswith("l") and word[1:].isdigit()
    ]
    assert order == ["l0", "l1", "l2", *(f"l{i}" for i in range(11, 4, -1))]


def test_a_line_for_each_kind_names_the_longest_bottleneck():
    """Mean load of all links and the highest of any, links that carried nothing included."""
    links = [link("a", "nvlink", 0.4, 0.3), link("b", "nvlink", 0.2, 0.1), link("c", "nvlink", 0.0, 0.0)]
    assert "nvlink 3 0.6 B 20.0 % 40.0 % 30.0 %, a" in printed(links)
    unknown = [{**unused, "bottleneck_fraction": None} for unused in links]
    assert "nvlink 3 0.6 B 20.0 % 40.0 % –" in printed(unknown)


def test_links_that_carried_nothing_are_not_printed():
    """Of a pipeline of given passes, which has none, and of idle ones."""
    assert printed([]) == printed([link("a", "nic", 0.0, 0.0)]) == ""


HOT = {
    "bottleneck_s": np.array([5e-4, 0.0]),
    "hottest": np.array([0]),
    "hot_edges_ns": np.array([0, 500_250, 1_000_500]),
    "hot_utilisation": np.array([[0.5], [0.25]]),
}


@pytest.mark.parametrize("more", [HOT, {}], ids=["with the hottest", "without"])
def test_links_are_drawn_whatever_is_known_of_them(tmp_path, more):
    """The same bytes each time."""
    trace = record([("comm", "tp", 0, 1_000_000)])
    trace = replace(trace, link_use=replace(link_use(), **more))
    for name in ("a.png", "b.png"):
        draw_links(trace, tmp_path / name, title="a $run$")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_class_of_links_stands_once_with_its_count_and_spread(monkeypatch, tmp_path):
    """Of three links one way two carry bytes: 0 to 40 % of what they can in 1 ms, 20 % in the mean."""
    saved = []
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda figure, *_, **__: saved.append(figure))
    use = replace(
        link_use(),
        num_bytes=np.array([0.0, 2e5, 4e5, 1e5]),
        busy_s=np.zeros(4),
        names=("gpu0->nvswitch0", "gpu1->nvswitch0", "gpu2->nvswitch0", "nvswitch0->gpu1"),
        link_kinds=("nvlink",) * 4,
        capacity_bytes_per_s=np.full(4, 1e9),
        **{**HOT, "bottleneck_s": np.array([0.0, 0.0, 5e-4, 0.0]), "hottest": np.array([2, 3])},
    )
    use = replace(use, hot_utilisation=np.array([[0.5, 0.1], [0.25, 0.1]]))
    draw_links(replace(record([("comm", "tp", 0, 1_000_000)]), link_use=use), tmp_path / "a.png", title="a")
    axes = saved[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["gpu->nvswitch", "nvswitch->gpu"]
    rows = [text.get_text() for text in axes.texts][5:]
    assert rows == ["3", "600 kB", "20.0 %", "0.0 to 40.0 %", "50.0 %", "1", "100 kB", "10.0 %", "all alike", "0.0 %"]


def test_what_a_switch_reduces_is_no_traffic_of_pairs(monkeypatch, tmp_path):
    """Two GPUs that exchange 3 bytes one way, and 10 bytes each by way of the switch: one cell, and two strips."""
    saved = []
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda figure, *_, **__: saved.append(figure))
    by_switch = np.array([[0.0, 10.0], [10.0, 0.0]])
    pairs = PairUse(
        num_bytes=np.array([[0.0, 13.0], [10.0, 0.0]]),
        ranks_per_row=1,
        node_of=np.zeros(2, dtype=int),
        by_switch=by_switch,
    )
    draw_pairs(pairs, tmp_path / "a.png", title="a")
    matrix, to_switch, from_switch, *_ = (np.ma.filled(axes.images[0].get_array(), 0) for axes in saved[0].axes[:3])
    assert matrix.tolist() == [[0, 3], [0, 0]]
    assert to_switch.ravel().tolist() == from_switch.ravel().tolist() == [10, 10]
    said = [text.get_text() for text in saved[0].texts]
    assert "3 B inside nodes, 0 B between nodes, 20 B to switches that reduce and multicast" in said
    assert "white: 1 of 2 pairs, which exchanged nothing, and a GPU with itself" in said


@pytest.mark.parametrize(
    "num_bytes",
    [np.zeros((4, 4)), np.full((4, 4), 3.0), np.arange(16.0).reshape(4, 4), np.ones((1, 1))],
    ids=["nothing", "equal", "different", "one"],
)
def test_pairs_are_drawn_whatever_was_sent(tmp_path, num_bytes):
    """Nothing at all, one amount, many; the same bytes each time."""
    nodes = np.arange(len(num_bytes)) // 2
    for name in ("a.png", "b.png"):
        draw_pairs(PairUse(num_bytes=num_bytes, ranks_per_row=2, node_of=nodes), tmp_path / name, title="a $run$")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
