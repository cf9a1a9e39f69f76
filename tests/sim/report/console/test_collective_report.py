"""How collectives ran, as printed: one on its own in place of metrics and accounts, and a line per kind of a run's."""

import io

import pytest
from rich.console import Console

from sim.report.console.run import print_report

ALONE = {
    "scenario": {
        "name": "one",
        "cluster": {"preset": "dgx-h100", "num_nodes": 2},
        "parallel": {"convention": "megatron"},
        "schedule": {"kind": "1f1b"},
        "routing": {"kind": "multinomial"},
        "workload": {"kind": "collective", "op": "all_reduce", "num_ranks": 16, "bytes": 1e6},
    },
    "metrics": {
        "collective_time_s": 50e-6,
        "algbw_bytes_per_s": 20e9,
        "busbw_bytes_per_s": 37.5e9,
        "step_time_s": 50e-6,
        "num_gpus": 16,
    },
    "path_ns": {"tp": 30_000, "latency": 20_000},
    "stages_ns": [{"tp": 30_000, "latency": 20_000}],
    "collectives": [
        {
            "operation": "all_reduce",
            "num_ranks": 16,
            "num_bytes": 1e6,
            "algorithm": "tree",
            "protocol": "LL128",
            "time_ns": 50_000,
        }
    ],
}


def printed(data, width=120):
    """Return what is printed, each line with single spaces."""
    file = io.StringIO()
    print_report(data, Console(file=file, width=width), written={})
    return [" ".join(line.split()) for line in file.getvalue().splitlines()]


def test_a_collective_on_its_own_has_its_algorithm_times_and_bandwidths():
    """50 us, of which 20 wait for messages."""
    lines = printed(ALONE)
    assert "all-reduce 16 1 MB tree LL128 50 us 20 us 20 GB/s 37.5 GB/s" in lines
    assert "ranks bytes algorithm protocol time latency algbw busbw" in lines


def test_what_means_nothing_to_a_collective_is_not_printed():
    """No convention, schedule or routing, no parts of a pass, and no number twice."""
    lines = printed(ALONE)
    assert lines[:2] == ["one", "16 GPUs · 2 nodes of dgx-h100 · all-reduce over 16 ranks"]
    assert not {"METRICS", "stage 0", "step_time_s"} & {word for line in lines for word in (line, *line.split())}


def test_the_routing_of_a_dispatch_is_printed():
    """It decides who gets what."""
    scenario = ALONE["scenario"] | {"workload": {"kind": "collective", "op": "dispatch", "num_ranks": 16}}
    assert printed(ALONE | {"scenario": scenario})[1].endswith("dispatch over 16 ranks · routing multinomial")


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_narrow_console_cuts_nothing(width):
    """Cells are folded: every letter of the algorithm is there."""
    text = "".join("".join(printed(ALONE, width)).split())
    assert all(letter in text for letter in "LL128")


def test_a_run_has_a_line_for_each_kind_of_collective():
    """Two sizes that ran alike are one line, another protocol is another."""
    (one,) = ALONE["collectives"]
    rows = [one, one | {"num_bytes": 4e6, "time_ns": 90_000}, one | {"protocol": "Simple"}]
    forward = {"scenario": {"workload": {"kind": "forward"}, "network": {"all_reduce": "auto"}}, "collectives": rows}
    lines = printed(forward)
    at = next(i for i, line in enumerate(lines) if line.startswith("COLLECTIVES algorithms that `auto` chose"))
    assert lines[at + 2 :] == [
        "all-reduce 16 1 MB to 4 MB tree LL128 50 us to 90 us",
        "all-reduce 16 1 MB tree Simple 50 us",
    ]


def test_what_the_scenario_named_was_not_picked():
    """The heading says so."""
    forward = ALONE | {"scenario": {"workload": {"kind": "forward"}, "network": {"all_reduce": "ring"}}}
    assert "COLLECTIVES time without other traffic" in printed(forward)


def test_the_bottleneck_of_a_slow_protocol_is_among_the_hottest_links():
    """Twelve NVLinks carry more for their capacity than the NIC that LL holds half of the time."""
    link = {"kind": "nvlink", "bytes": 1e6, "busy_s": 20e-6, "utilisation": 0.1, "bottleneck_fraction": 0.0}
    nic = {
        "name": "nic0",
        "kind": "nic",
        "bytes": 1e5,
        "busy_s": 20e-6,
        "utilisation": 0.05,
        "bottleneck_fraction": 0.5,
    }
    lines = printed(ALONE | {"links": [*({"name": f"nvlink{i}"} | link for i in range(12)), nic]})
    at = next(i for i, line in enumerate(lines) if line.startswith("HOTTEST LINKS"))
    assert lines[at + 2].startswith("nic0 nic 100 kB 5.0 % 20 us 50.0 %")
