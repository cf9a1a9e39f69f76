"""Stress tests: the grid, what is kept of it, what is said of it."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import sim
import topology
import workloads
from sim.build.build import build
from sim.errors import InvalidValueError
from sim.run.imbalance_bound import IMBALANCE_BOUND
from sim.run.simulate import simulate_scenario
from sim.scenario.claims_section import RemedySpec
from sim.scenario.load import load_scenario, load_scenario_text
from sim.studies.store.keys import point_key
from sim.studies.stress.grid import build_grid, plan_of, remedies_of, with_outdated_plans
from sim.studies.stress.points import run_grid
from sim.studies.stress.report import expert_tokens, stress_test
from sim.studies.stress.summary import FAMILIES, mean_and_interval, summarise
from sim.studies.stress.verdict import conclusion
from workloads.routing.kinds import ROUTINGS

SMALL = """
name: small
cluster: {preset: dgx-h100, num_nodes: 1}
model: {layers: 2, hidden: 512, heads: 8, ffn: 512, gated: true, experts: 16, top_k: 2, vocab: 1000}
parallel: {strategy: EP8_TP1_PP1_DP8}
workload: {kind: forward, sequences: 16, sequence_length: 256, microbatches: 2}
routing: {kind: zipf}
stress:
  skew: [0, 1.5]
  remedies:
    - {name: nothing}
    - {name: EPLB, set: {placement.kind: eplb, placement.replicas: 16}}
    - {name: capacity 1, set: {routing.capacity_factor: 1.0}}
  seeds: 2
"""


@pytest.fixture(scope="module")
def scenario():
    return load_scenario_text(SMALL)


def verdict(rows):
    """Return the conclusion as one text."""
    return " ".join(conclusion(rows))


def row(skew, remedy, step_s, *, dropped=0.0, rerouted=0.0, peak=1e9, fits=True, seeds=(), plan=None):
    """Return what the conclusion reads of a row: 1 M tokens in a step, and the lost copies' share of them is no use."""
    return {
        "plan": plan,
        "lost_fraction": dropped + rerouted,
        "useful_tokens_per_s": 1e6 * (1 - dropped - rerouted) / step_s,
        "skew": skew,
        "remedy": remedy,
        "step_time_s": step_s,
        "step_times_s": seeds or [step_s],
        "dropped_fraction": dropped,
        "rerouted_fraction": rerouted,
        "peak_bytes_per_gpu": peak,
        "fits": fits,
        "changes_nothing": remedy == "nothing",
        "is_comparison": remedy == "as if balanced" or plan == "outdated",
    }


def test_the_grid_has_every_skew_remedy_and_seed(scenario):
    grid = build_grid(scenario)
    assert len(grid.points) == 2 * 3 * 2
    assert {(p.skew, p.remedy, p.seed) for p in grid.points} == {
        (skew, remedy, seed) for skew in (0, 1.5) for remedy in grid.remedies for seed in (1, 2)
    }
    assert grid.points[-1].scenario.spec.routing.skew == 1.5
    assert grid.points[-1].scenario.spec.routing.capacity_factor == 1.0


def test_remedies_meet_the_same_tokens(scenario):
    """Common random numbers: what is routed does not depend on what is done about it."""
    points = [p for p in build_grid(scenario).points if p.skew == 1.5 and p.seed == 2]
    drawn = [expert_tokens(point.scenario) for point in points]
    for other in drawn[1:]:
        np.testing.assert_array_equal(other, drawn[0])


@pytest.mark.parametrize(
    ("convention", "strategy"),
    [("megatron", "EP16_TP1_PP2_DP16"), ("vllm", "EP16_TP4_PP2_DP4"), ("spanning", "EP32_TP4_PP2")],
)
def test_one_node_of_a_scenario_is_hot(convention, strategy):
    """Of two or four that hold the experts of a stage: 0.8 of the copies of each layer, but for six deviations."""
    text = (
        SMALL.partition("stress:")[0]
        .replace("num_nodes: 1", "num_nodes: 4").replace("experts: 16", "experts: 32").replace("layers: 2", "layers: 8")
        .replace("sequences: 16", "sequences: 32")
        .replace("{strategy: EP8_TP1_PP1_DP8}", f"{{strategy: {strategy}, convention: {convention}}}")
        .replace("kind: zipf", "kind: hot_node, skew: 0.8")
    )  # fmt: skip
    scenario = load_scenario_text(text)
    work = build(scenario).work
    node = work.cluster.node_of(work.mesh.ep_groups(0)[0])
    of_ranks = expert_tokens(scenario).reshape(8, node.size, -1).sum(axis=2)
    of_nodes = np.stack([of_ranks[:, node == one].sum(axis=1) for one in np.unique(node)], axis=1)
    assert of_nodes.shape == (8, node.size // 8)
    copies = of_nodes.sum(axis=1)
    assert (np.abs(of_nodes.max(axis=1) / copies - 0.8) <= 6 * np.sqrt(0.8 * 0.2 * 2 / copies)).all()
    assert len(set(of_nodes.argmax(axis=1).tolist())) > 1  # not the same in all layers


def test_a_hot_node_is_refused_where_there_is_one_node():
    text = SMALL.replace("kind: zipf", "kind: hot_node")
    with pytest.raises(InvalidValueError, match="hot_experts must be given with kind hot_node where one node has all"):
        build(load_scenario_text(text))


def test_options_make_remedies_of_each_axis_alone_and_of_every_combination():
    """Also where no axis names what it is without: replicas are those of eplb, and greedy is tried all the same."""
    found = remedies_of(capacities=[(1.25, None)], placements=["greedy", "eplb"], replicas=[8])
    assert [one.name for one in found] == [
        "nothing", "greedy", "eplb with 8 replicas",
        "capacity 1.25", "greedy, capacity 1.25", "eplb with 8 replicas, capacity 1.25",
    ]  # fmt: skip
    assert found == remedies_of(capacities=[None, (1.25, None)], placements=["greedy", "eplb"], replicas=[8])
    assert found[-1].set == {"placement.kind": "eplb", "placement.replicas": 8, "routing.capacity_factor": 1.25}


def test_a_capacity_says_what_becomes_of_more_tokens():
    found = remedies_of(capacities=[(1.25, kind) for kind in ("drop", "pad", "reroute")], placements=[], replicas=[])
    assert [one.name for one in found[1:]] == [
        "capacity 1.25 with drops", "capacity 1.25 padded", "capacity 1.25 with rerouting",
    ]  # fmt: skip
    assert [one.set["routing.overflow"] for one in found[1:]] == ["drop", "pad", "reroute"]


def test_what_is_done_is_not_done_again(scenario, tmp_path):
    """A result that is missing is simulated again, the others come from the store, and the figures are the same."""
    grid, where = build_grid(scenario), str(tmp_path / "results.sqlite")
    first, kept = run_grid(grid, store=where)
    assert kept == 0
    with sqlite3.connect(where) as connection:
        assert connection.execute("select count(*) from points").fetchone() == (12,)
        connection.execute("delete from points where key = (select min(key) from points)")
    connection.close()
    heard = []
    again, kept = run_grid(grid, store=where, on_progress=lambda done, total: heard.append((done, total)))
    assert kept == 11
    assert heard[-2:] == [(11, 12), (12, 12)]
    assert again == first == run_grid(grid)[0]


def test_another_seed_or_skew_is_another_simulation(scenario):
    keys = [point_key(point.scenario) for point in build_grid(scenario).points]
    assert len(set(keys)) == len(keys)


def test_a_recording_is_compared_with_the_same_tokens_balanced(tmp_path):
    """Two loads stand for the skews: the step of the recording is that of the balanced tokens, and more."""
    (tmp_path / "small.yaml").write_text(SMALL, encoding="utf-8")
    lines = [f"3,{expert},{100 if expert == 0 else 10}" for expert in range(16)]
    recording = tmp_path / "elsewhere" / "a.csv"
    recording.parent.mkdir()
    recording.write_text("\n".join(["layer_id,expert_id,count", *lines]), encoding="utf-8")
    data = stress_test(str(tmp_path / "small.yaml"), trace=recording, num_seeds=1)
    rows = [row for row in data["rows"] if row["remedy"] == "nothing"]
    assert [(row["skew"], row["load"]) for row in rows] == [(0.0, "balanced"), (1.0, "recorded")]
    balanced, recorded = rows
    assert balanced["imbalance_max_over_mean"] == 1.0
    assert recorded["imbalance_max_over_mean"] > 1.5
    assert recorded["slowdown"] > 1.0
    assert data["routing"] == "trace"
    assert data["expert_tokens"]["load"] == "recorded"
    assert "as long as with the same tokens balanced" in data["sentence"]
    assert "skew" not in data["sentence"]
    with pytest.raises(InvalidValueError, match="--skew must be left out with a recording, got 1"):
        stress_test(str(tmp_path / "small.yaml"), trace=recording, skews=[1.0])


def test_the_digest_is_of_every_source_file(tmp_path):
    """Of a copy with one more comment it is another; without the comment the same: names of folders do not count."""
    said = []
    for place, comment in (("a", ""), ("b", ""), ("c", "# changed")):
        for package in (sim, topology, workloads):
            root = Path(package.__file__).parent
            copy = tmp_path / place / package.__name__
            shutil.copytree(root, copy, ignore=shutil.ignore_patterns("__pycache__"))
        file = tmp_path / place / "workloads" / "placement" / "eplb.py"
        file.write_text(file.read_text(encoding="utf-8") + comment, encoding="utf-8")
        code = "from sim.studies.source_digest import source_digest; print(source_digest())"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path / place, capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONPATH": str(tmp_path / place)},
        )  # fmt: skip
        said.append(done.stdout)
    assert said[0] == said[1] != said[2]


def test_no_remedy_is_below_the_bound(scenario):
    """What the best placement could reach for the very tokens of the run, in every row; more slots do not raise it."""
    grid = build_grid(scenario)
    rows = {(row["skew"], row["remedy"]): row for row in summarise(grid, run_grid(grid)[0])}
    for row in rows.values():
        assert 1 <= row["imbalance_bound_max_over_mean"] <= row["imbalance_max_over_mean"] * (1 + 1e-12)
    assert rows[1.5, "nothing"]["imbalance_bound_max_over_mean"] > 1.05
    assert rows[1.5, "EPLB"]["imbalance_bound_max_over_mean"] < rows[1.5, "nothing"]["imbalance_bound_max_over_mean"]


@pytest.mark.parametrize(
    ("convention", "strategy"),
    [
        ("megatron", "EP8_TP1_PP1_DP8"),
        ("vllm", "EP8_TP4_PP1_DP2"),
        ("vllm", "EP8_TP8_PP1"),
        ("spanning", "EP8_TP4_PP2"),
    ],
)
def test_with_an_expert_for_each_rank_every_placement_is_the_best(convention, strategy):
    """Without replicas the busiest rank is the one with the most popular expert: bound and figure are equal."""
    text = SMALL.replace("experts: 16", "experts: 8").replace(
        "{strategy: EP8_TP1_PP1_DP8}", f"{{strategy: {strategy}, convention: {convention}}}"
    ).partition("stress:")[0]  # fmt: skip
    for changes in ({"routing.skew": 1.0}, {"routing.skew": 1.0, "routing.capacity_factor": 1.0}):
        point = load_scenario_text(text).variant(changes, at=("test",))
        values = simulate_scenario(point, wanted={IMBALANCE_BOUND}).values
        assert values[IMBALANCE_BOUND] == pytest.approx(values["imbalance_max_over_mean"], rel=1e-12)
        assert values[IMBALANCE_BOUND] > 1.1


def test_contention_is_given_to_the_transfers_that_suffered_it():
    """In the spanning reading stages exchange at the same time; in one stage without TP nothing meets."""
    text = SMALL.replace("{strategy: EP8_TP1_PP1_DP8}", "{strategy: EP8_TP4_PP2, convention: spanning}")
    text = text.replace("sequence_length: 256", "sequence_length: 2048")
    spread, alone = (
        summarise(grid, run_grid(grid)[0])
        for grid in (build_grid(load_scenario_text(each), skews=[1.0], num_seeds=1) for each in (text, SMALL))
    )
    assert spread[0]["contention_s"]["dispatch"] > 0
    assert spread[0]["contention_s"]["combine"] > 0
    assert {name for name, value in spread[0]["contention_s"].items() if value} <= {"dispatch", "combine", "tp"}
    assert not any(alone[0]["contention_s"].values())
    for row in spread:
        assert sum(row["parts_s"].values()) == pytest.approx(row["step_time_s"], rel=1e-9)
        assert all(value <= row["parts_s"][name] for name, value in row["contention_s"].items())


def test_replicas_help_and_drops_are_told(scenario):
    data = summarise(build_grid(scenario), run_grid(build_grid(scenario))[0])
    found = {(one["skew"], one["remedy"]): one for one in data}
    plain, evened, capped = (found[1.5, name] for name in ("nothing", "EPLB", "capacity 1"))
    assert plain["slowdown"] > evened["slowdown"]
    assert evened["weights_bytes_per_gpu"] > plain["weights_bytes_per_gpu"]
    assert plain["dropped_fraction"] == evened["dropped_fraction"] == 0 < capped["dropped_fraction"]
    for one in data:
        assert sum(one["parts_s"].values()) == pytest.approx(one["step_time_s"], rel=1e-9)
        assert tuple(one["parts_s"]) == FAMILIES
        reference = found[0, "nothing"]["step_time_s"]
        assert sum(one["slowdown_s"].values()) == pytest.approx(one["step_time_s"] - reference, abs=1e-12)


def test_copies_sent_to_other_experts_are_told():
    """By hand: a hot expert of 8 with half of all tokens, top-1 and capacity 1, keeps 1/8 of the copies."""
    text = (
        SMALL.partition("stress:")[0]
        .replace("kind: zipf", "kind: hot_expert, skew: 0.5")
        .replace("top_k: 2", "top_k: 1")
    )
    grid = build_grid(
        load_scenario_text(text.replace("experts: 16", "experts: 8")),
        skews=[0.5],
        num_seeds=1,
        remedies=[
            RemedySpec(name=kind, set={"routing.capacity_factor": 1.0, "routing.overflow": kind})
            for kind in ("drop", "reroute")
        ],
    )
    dropped, rerouted = summarise(grid, run_grid(grid)[0])
    assert dropped["rerouted_fraction"] == rerouted["dropped_fraction"] == 0
    assert rerouted["rerouted_fraction"] == pytest.approx(dropped["dropped_fraction"], rel=1e-12)
    assert rerouted["rerouted_fraction"] == pytest.approx(0.5 - 1 / 8, abs=0.02)


def test_the_interval_is_students():
    """Of 1, 2, 3: mean 2, deviation 1, t 4.30265 with two degrees of freedom."""
    mean, interval = mean_and_interval([1.0, 2.0, 3.0])
    assert mean == 2
    assert interval == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))
    assert mean_and_interval([5.0]) == (5.0, None)


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (10, 2.228), (11, 2.201), (20, 2.086), (30, 2.042), (60, 2.000)],
)
def test_intervals_use_the_quantiles_of_the_tables(degrees, quantile):
    """Abramowitz and Stegun, table 26.10: of n + 1 values with deviation s, half the interval is t s / sqrt(n + 1)."""
    values = [0.0, *range(degrees)]
    mean, interval = mean_and_interval(values)
    half = quantile * np.std(values, ddof=1) / np.sqrt(degrees + 1)
    assert interval == pytest.approx((mean - half, mean + half), abs=6e-4 * half)


@pytest.mark.parametrize("degrees", range(1, 100))
def test_intervals_are_exact_for_all_numbers_of_seeds(degrees):
    """Next to scipy's distribution, which inverts the t distribution in another way; in closed form for n = 1 and 2."""
    values = np.arange(degrees + 1.0)
    mean, interval = mean_and_interval(values.tolist())
    quantile = (interval[1] - mean) / (np.std(values, ddof=1) / np.sqrt(degrees + 1))
    assert quantile == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-9)
    closed = {1: np.tan(0.475 * np.pi), 2: 0.95 * np.sqrt(2 / (1 - 0.95**2))}
    assert quantile == pytest.approx(closed.get(degrees, quantile), rel=1e-12)


def test_slowdowns_are_told_against_the_smallest_skew(scenario):
    """In whatever order skews are given, and however often."""
    grid = build_grid(scenario, skews=[1.5, 0.0, 1.5], num_seeds=1)
    assert grid.skews == (0.0, 1.5)
    rows = summarise(grid, run_grid(grid)[0])
    assert [row["skew"] for row in rows if row["slowdown"] == 1] == [0]
    assert verdict(rows).startswith("Skew 1.5 makes the step ")


def test_the_conclusion_names_the_best_remedy_and_its_price():
    """A remedy that drops 40 % of the copies takes less time, and does 0.6 million useful tokens/s, not a million."""
    rows = [
        row(0, "nothing", 1.0), row(0, "EPLB", 1.0, peak=2e9), row(0, "drop", 0.999, dropped=0.01),
        row(0, "as if balanced", 0.5), row(1, "as if balanced", 0.5),
        row(1, "nothing", 3.0), row(1, "EPLB", 1.5, peak=2e9), row(1, "drop", 1.0, dropped=0.4),
    ]  # fmt: skip
    assert conclusion(rows) == [
        'Skew 1 makes the step 3.00 times as long as at skew 0, with "nothing".',
        'At skew 0 no remedy that keeps all token copies is faster than "nothing".',
        'At skew 1 "EPLB" is best: its step takes 1.50 times that of skew 0, against 3.00 times with "nothing", for '
        "1 GB more memory per GPU.",
        '"drop" takes 33 % less time by dropping 40.0 % of the token copies: 600 k useful tokens/s against 666.7 k.',
    ]


def test_a_plan_that_knows_what_it_is_tested_on_says_so_with_an_outdated_plan_next_to_it():
    rows = [
        row(0, "nothing", 1.0), row(0, "EPLB", 1.0, plan="own"), row(0, "EPLB, outdated plan", 1.0, plan="outdated"),
        row(1, "nothing", 3.0), row(1, "EPLB", 1.5, plan="own"), row(1, "EPLB, outdated plan", 3.5, plan="outdated"),
    ]  # fmt: skip
    assert conclusion(rows)[-1] == (
        "Its plan is made from the very popularity that it is tested on; with an outdated plan the step takes 3.50 "
        "times that of skew 0."
    )
    alone = [each for each in rows if each["plan"] != "outdated"]
    assert conclusion(alone)[-1] == "Its plan is made from the very popularity that it is tested on: the best case."
    earlier = [{**each, "plan": each["plan"] and "earlier"} for each in alone]
    assert "plan" not in verdict(earlier)


@pytest.mark.parametrize(
    ("changes", "plan"),
    [
        ({}, None),
        ({"placement.kind": "greedy"}, "own"),
        ({"placement.kind": "eplb", "placement.plan_seed": 7}, "outdated"),
        ({"placement.kind": "eplb", "placement.stale": 9, "routing.kind": "drift"}, "earlier"),
        ({"placement.kind": "eplb", "placement.every": 1}, "earlier"),
        ({"placement.kind": "eplb", "routing.kind": "multinomial"}, None),
    ],
)
def test_what_a_placement_is_planned_from(scenario, changes, plan):
    assert plan_of(scenario.variant(changes, at=("test",))) == plan


def test_every_plan_of_the_popularity_that_is_tested_has_an_outdated_companion(scenario):
    """Whose plan is made for other popular experts: without them replicas stand in the wrong places."""
    remedies = with_outdated_plans(scenario, scenario.spec.stress.remedies)
    assert [one.name for one in remedies] == ["nothing", "EPLB", "EPLB, outdated plan", "capacity 1"]
    grid = build_grid(scenario, skews=[1.5], remedies=remedies, num_seeds=2)
    seeds = [p.scenario.spec.placement.plan_seed for p in grid.points if p.remedy == "EPLB, outdated plan"]
    assert len({*seeds, 1, 2}) == 4
    rows = {one["remedy"]: one for one in summarise(grid, run_grid(grid)[0])}
    assert rows["EPLB, outdated plan"]["imbalance_max_over_mean"] > 1.5 * rows["EPLB"]["imbalance_max_over_mean"]
    assert rows["EPLB, outdated plan"]["is_comparison"]
    unshuffled = load_scenario_text(SMALL.replace("{kind: zipf}", "{kind: zipf, shuffled: false}"))
    assert (
        len(with_outdated_plans(unshuffled, unshuffled.spec.stress.remedies)) == 3
    )  # its popularity is always the same


def test_a_routing_that_is_set_sweeps_its_own_skews(scenario):
    """Those of the section are measured in another unit; a skew that is given is swept with them."""
    assert build_grid(scenario, num_seeds=1).skews == (0, 1.5)
    hot = scenario.variant({"routing.kind": "hot_expert"}, at=("test",))
    assert build_grid(hot, num_seeds=1, is_other_routing=True).skews == ROUTINGS["hot_expert"].swept_skews
    bare = load_scenario_text(SMALL.partition("stress:")[0].replace("{kind: zipf}", "{kind: zipf, skew: 0.6}"))
    assert build_grid(bare).skews == tuple(sorted({0.6, *ROUTINGS["zipf"].swept_skews}))
    assert build_grid(bare, skews=[2.0]).skews == (2,)


@pytest.mark.parametrize("kind", [name for name, entry in ROUTINGS.items() if entry.skew_measure])
def test_the_default_sweep_of_a_routing_begins_even_and_is_legal(scenario, kind):
    skews = ROUTINGS[kind].swept_skews
    assert skews[0] == 0
    assert list(skews) == sorted(skews)
    two_nodes = load_scenario_text(
        SMALL.replace("num_nodes: 1", "num_nodes: 2")
        .replace("EP8_TP1_PP1_DP8", "EP16_TP1_PP1_DP16")
        .replace("sequences: 16", "sequences: 32")
    )
    for skew in skews:
        build(two_nodes.variant({"routing.kind": kind, "routing.skew": skew}, at=("test",)))


def test_useful_tokens_are_those_whose_copies_are_computed_as_chosen(scenario):
    """Seed by seed, over the step; without losses all tokens."""
    grid = build_grid(scenario)
    done = run_grid(grid)[0]
    rows = {(one["skew"], one["remedy"]): one for one in summarise(grid, done)}
    capped = rows[1.5, "capacity 1"]
    kept = [1 - each.tokens["dropped"] / each.tokens["routed"] for each in done[-2:]]
    speeds = [each.values["tokens_per_s"] for each in done[-2:]]
    assert 0 < kept[0] < 1
    assert capped["useful_tokens_per_s"] == pytest.approx(sum(a * b for a, b in zip(kept, speeds, strict=True)) / 2)
    plain = rows[1.5, "nothing"]
    assert plain["useful_tokens_per_s"] == pytest.approx(plain["tokens_per_s"])


def test_rerouting_buys_time_with_quality_as_dropping_does():
    """It is left out where another loses nothing, and named where each loses more."""
    rows = [row(1, "nothing", 3.0), row(1, "reroute", 1.0, rerouted=0.2), row(1, "EPLB", 1.5)]
    assert '"EPLB" is best' in verdict(rows)
    lossy = verdict([row(1, "drop", 3.0, dropped=0.3), row(1, "reroute", 1.0, dropped=0.01, rerouted=0.2)])
    assert lossy.endswith("dropping 1.0 % and rerouting 20.0 % of the token copies.")


@pytest.mark.parametrize(("peak", "words"), [(0.5e9, "for 500 MB less memory per GPU"), (1e9, "for as much memory")])
def test_the_price_is_that_of_all_memory(peak, words):
    """Replicas weigh more, and yet an even load can need less."""
    assert words in verdict([row(1, "nothing", 3.0), row(1, "EPLB", 1.5, peak=peak)])


def test_at_one_skew_no_skew_is_told():
    """A recording has none. There the step is compared with that of the first remedy."""
    rows = [row(0, "nothing", 3.0, fits=False), row(0, "EPLB", 1.5, peak=2e9)]
    assert verdict(rows) == (
        '"EPLB" is best: its step takes 0.50 times as long as with "nothing", which does not fit into memory, for 1 GB '
        "more memory per GPU."
    )


def test_memory_is_not_bought_for_noise():
    """Two that are as fast: within 1 %, or seed by seed. Of them the one with the least memory, then without drops."""
    slow = row(0, "nothing", 3.0, seeds=[2.9, 3.0, 3.1])
    big, small = row(0, "64 replicas", 1.0, peak=4e9, seeds=[0.9, 1.0, 1.1]), row(0, "32 replicas", 1.005, peak=2e9)
    small["step_times_s"] = [1.0, 1.005, 1.01]
    assert '"32 replicas" is best' in verdict([slow, big, small])
    noisy = row(0, "32 replicas", 1.04, peak=2e9, seeds=[0.86, 1.0, 1.26])
    assert '"32 replicas" is best' in verdict([slow, big, noisy])
    later = row(0, "32 replicas", 1.1, peak=2e9, seeds=[1.0, 1.1, 1.2])
    assert '"64 replicas" is best' in verdict([slow, big, later])
    dropping = row(0, "drop", 1.0, peak=1.995e9, dropped=0.0005, seeds=[1.0, 1.0, 1.0])
    assert '"32 replicas" is best' in verdict([slow, dropping, small])


@pytest.mark.parametrize(
    ("seeds", "others"),
    [
        ([82.07, 89.03], [66.30, 66.69]),  # a fourth slower, but for two seeds t is 12.7
        ([1.03, 1.04], [1.0, 1.001]),  # a little, but with every seed
        ([0.8, 1.0, 1.5], [0.9, 1.0, 1.1]),  # a tenth: too much for noise, whatever the interval
        ([1.03], [1.0]),
    ],
)
def test_the_sentence_does_not_contradict_the_table(seeds, others):
    """A remedy that is clearly slower is not as fast for want of seeds, however much memory it saves."""
    lean = row(0, "nothing", sum(seeds) / len(seeds), seeds=seeds)
    fast = row(0, "EPLB", sum(others) / len(others), peak=2e9, seeds=others)
    interval = mean_and_interval([one - other for one, other in zip(seeds, others, strict=True)])[1]
    assert interval is None or interval[0] < 0  # which alone would excuse it
    assert '"EPLB" is best' in verdict([lean, fast])


def test_rerouting_is_no_free_remedy():
    """As dropping: it computes what no token has chosen. Where every remedy loses more, it is named."""
    rows = [row(0, "nothing", 3.0), row(0, "reroute", 1.0, rerouted=0.3)]
    assert conclusion(rows) == [
        'Every remedy but "nothing" loses token copies.',
        '"reroute" takes 67 % less time by rerouting 30.0 % of the token copies: 700 k useful tokens/s '
        "against 333.3 k.",
    ]
    assert "rerouting 30.0 % of the token copies" in verdict([row(0, "drop", 3.0, dropped=0.2), rows[1]])


def test_the_sentence_says_where_no_other_remedy_keeps_all_copies():
    """At skew 0 the capacity drops nothing and is compared; at skew 1 there is nothing to compare with."""
    rows = [
        row(0, "nothing", 1.0), row(0, "capacity", 1.0), row(1, "nothing", 3.0), row(1, "capacity", 1.0, dropped=0.3),
    ]  # fmt: skip
    assert conclusion(rows)[1:] == [
        'At skew 0 no remedy is faster than "nothing".',
        'At skew 1 every remedy but "nothing" loses token copies.',
        '"capacity" takes 67 % less time by dropping 30.0 % of the token copies: 700 k useful tokens/s '
        "against 333.3 k.",
    ]
    lossless = verdict([*rows, row(0, "greedy", 1.0), row(1, "greedy", 3.0)])
    assert "at skew 0 to 1 no remedy" in lossless.lower()


def test_a_range_of_skews_says_at_which_a_figure_is():
    rows = [row(skew, name, step) for skew in (0, 1) for name, step in (("nothing", 3.0), ("greedy", 1.0 + skew))]
    assert conclusion(rows)[1].startswith('At skew 0 to 1 "greedy" is best; at skew 1 its step takes 0.67 times')


def test_a_first_remedy_that_is_one_is_not_called_the_scenario():
    """As where it did not run at a skew: there it is no comparison either."""
    rows = [row(0, "greedy", 1.0), row(0, "EPLB", 1.0), {**row(1, "greedy", 1.0), "step_time_s": None}]
    assert conclusion([*rows, row(1, "EPLB", 2.0)]) == [
        'At skew 0 no remedy is faster than "greedy".',
        'At skew 1 "EPLB" is best: its step takes 2.00 times that of skew 0.',
    ]


def test_what_does_not_fit_is_not_the_best():
    """It is said where it is what others are compared with, and where there is no other."""
    rows = [
        row(0, "nothing", 1.0, fits=False), row(0, "EPLB", 1.0, peak=2e9),
        row(1, "nothing", 3.0, fits=False), row(1, "EPLB", 1.5, fits=False),
    ]  # fmt: skip
    said = verdict(rows)
    assert 'At skew 0 "EPLB" is best' in said
    assert "which does not fit into memory" in said
    assert said.endswith(" At skew 1 no remedy fits into memory.")
    assert verdict(rows[2:]) == "No point of the grid fits into memory."


def test_a_row_says_whether_every_seed_fits(scenario):
    grid = build_grid(scenario)
    done = run_grid(grid)[0]
    assert all(one["fits"] is True for one in summarise(grid, done))
    done[0] = replace(done[0], values={**done[0].values, "fits": 0.0})
    assert [one["fits"] for one in summarise(grid, done)] == [False, True, True, True, True, True]


def test_without_remedies_the_sentence_says_what_skew_costs():
    rows = [row(0, "nothing", 1.0), row(1, "nothing", 3.0), row(2, "nothing", 2.0, fits=False)]
    assert verdict(rows) == (
        "Nothing was tried against skew: the step takes 1 s at skew 0 and at most 3.00 times that, at skew 1. It does "
        "not fit into memory at skew 2."
    )
    assert verdict([row(0.5, "greedy", 1.0)]) == 'Nothing but "greedy" was tried: the step takes 1 s at skew 0.5.'


def test_a_sentence_is_said_where_nothing_ran():
    assert verdict([{**row(0, "nothing", 1.0), "step_time_s": None}]) == "No point of the grid could be simulated."


def test_a_remedy_that_cannot_be_is_refused_before_anything_runs(tmp_path):
    text = SMALL.replace("placement.replicas: 16", "placement.replicas: 3")
    (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidValueError, match="equally many"):
        stress_test(str(tmp_path / "bad.yaml"))


def test_what_cannot_be_had_is_shown_and_not_recommended(tmp_path):
    """The same rows, and the sentence of those that are left; a routing of its own is such without saying so."""
    said, rows = {}, {}
    for comparison in (False, True):
        text = SMALL.replace("{name: EPLB,", f"{{name: EPLB, comparison: {str(comparison).lower()},")
        text = text.replace(
            "    - {name: capacity 1, set: {routing.capacity_factor: 1.0}}",
            "    - {name: even, set: {routing: {kind: balanced}}}",
        )
        (tmp_path / "small.yaml").write_text(text, encoding="utf-8")
        data = stress_test(str(tmp_path / "small.yaml"), skews=[1.5], num_seeds=2)
        said[comparison] = data["sentence"]
        rows[comparison] = [(row["remedy"], row["step_time_s"], row["is_comparison"]) for row in data["rows"]]
    assert '"EPLB" is best' in said[False]
    assert "EPLB" not in said[True]
    assert [row[:2] for row in rows[False]] == [row[:2] for row in rows[True]]
    assert [row[2] for row in rows[True]] == [False, True, True, True]
    assert [row[2] for row in rows[False]] == [False, False, True, True]


def test_the_first_remedy_can_be_had():
    """All others are compared with it."""
    with pytest.raises(InvalidValueError, match="comparison must be false for the first remedy"):
        load_scenario_text(SMALL.replace("{name: nothing}", "{name: nothing, comparison: true}"))


def test_plans_moved_for_nothing_are_a_comparison():
    remedies = load_scenario("stress/drift_replanned").spec.stress.remedies
    assert [one.name for one in remedies if one.comparison] == ["a plan every 16, moves for nothing"]


def test_two_remedies_must_have_two_names():
    with pytest.raises(InvalidValueError, match="be unique"):
        load_scenario_text(SMALL.replace("name: EPLB", "name: nothing"))


def test_the_report_is_json(tmp_path):
    (tmp_path / "small.yaml").write_text(SMALL, encoding="utf-8")
    data = stress_test(str(tmp_path / "small.yaml"), skews=[0.0], num_seeds=1, jobs=2)
    assert json.loads(json.dumps(data, allow_nan=False))["num_points"] == 4
    assert np.array(data["expert_tokens"]["tokens"]).sum() == 2 * 2 * 16 * 256 / 2  # layers top_k tokens / microbatches
