"""Factors of uncertain constants, and intervals over draws of them: identities, closed forms, monotony."""

import json
from dataclasses import fields
from math import exp, log

import numpy as np
import pytest
import step_spreads
from rich.console import Console

from sim.cli.run import run_command
from sim.errors import InvalidValueError
from sim.report.console.summary import print_summary
from sim.results.quantities import format_quantity
from sim.results.uncertainty import Constant, effects_on, interval_of, share_of_best
from sim.scenario.scenario import Scenario
from sim.studies.claims import simulate
from sim.studies.uncertainty import SPREADS, draw_factors, draw_unexplained, with_uncertainty
from topology.uncertainty import KERNEL_AND_LINK_SPREADS, LINK_FACTORS, Factors
from workloads.runtime import HOST_SPREADS, IDEAL, RUNTIMES, UNEXPLAINED, HostFactors, Unexplained

MODEL = {"layers": 2, "hidden": 1024, "heads": 8, "ffn": 4096, "experts": 8, "top_k": 2, "vocab": 8192}


def training(*, nodes=2, **sections):
    """Return a small training step of experts on A100s: EP8 over two nodes where there are two."""
    return Scenario.validated(
        {
            "cluster": {"preset": "dgx-a100", "num_nodes": nodes},
            "model": MODEL,
            "parallel": {"strategy": f"EP8_TP2_PP1_DP{4 * nodes}", "convention": "megatron"},
            "workload": {"kind": "training", "sequences": 32, "sequence_length": 1024, "microbatches": 2},
            "routing": {"kind": "balanced"},
            "runtime": {"preset": "ideal"},
            **sections,
        }
    )


def collective(**sections):
    """Return an all-gather of 1 GiB in a node of eight H100s."""
    workload = {"kind": "collective", "op": "all_gather", "num_ranks": 8, "bytes": "1 GiB"}
    return Scenario.validated({"cluster": {"preset": "dgx-h100", "num_nodes": 1}, "workload": workload, **sections})


def seconds(scenario):
    return simulate(scenario).metrics["step_time_s"]


def figures(scenario):
    """Return all that a run says but its wall time and the scenario."""
    data = simulate(scenario).to_dict()
    return json.dumps({key: value for key, value in data.items() if key not in {"engine", "scenario"}})


def test_every_factor_has_an_interval_and_no_other():
    assert [field.name for field in fields(Factors)] == list(KERNEL_AND_LINK_SPREADS)
    assert [field.name for field in fields(HostFactors)] == list(HOST_SPREADS)
    assert all(spread.relative > 0 and spread.num_groups > 1 and spread.source for spread in SPREADS.values())


def test_factors_of_1_change_no_figure():
    given = {"factors": dict.fromkeys(SPREADS, 1.0), "runtime": {"preset": "megatron-2022"}}
    assert figures(training(**given)) == figures(training(runtime=given["runtime"]))


@pytest.mark.parametrize("name", [name for name in SPREADS if name != "closed_form"])
def test_a_larger_factor_lengthens_a_step(name):
    """Of kernels and links without a host, which would hide them; `closed_form` is of devices without a profile.

    NICs of A100s are at their capacity in a ring under Simple, and no factor makes them faster: nodes of H100s.
    """
    sections = {"runtime": {"preset": "megatron-core-2025" if name in HOST_SPREADS else "ideal"}}
    if name == "byte_time_across_nodes":
        sections["cluster"] = {"preset": "dgx-h100", "num_nodes": 2}
    half, one, two = (seconds(training(**sections, factors={name: factor})) for factor in (0.5, 1.0, 2.0))
    assert half < one < two


def test_a_device_without_a_profile_follows_the_factor_of_the_closed_form_alone():
    one, product, closed = (
        seconds(training(profile="none", factors=factors)) for factors in ({}, {"gemm": 2.0}, {"closed_form": 2.0})
    )
    assert product == one < closed


def test_kernels_with_one_factor_scale_together():
    """One GPU under a runtime without a host: a step is kernels alone, so that all of them twice as slow is 2 steps."""
    alone = {
        "cluster": {"preset": "dgx-a100", "num_nodes": 1, "gpus_per_node_used": 1},
        "model": {key: value for key, value in MODEL.items() if key not in {"experts", "top_k"}},
        "parallel": {"strategy": "TP1_PP1_DP1", "convention": "megatron"},
        "workload": {"kind": "forward", "sequences": 1, "sequence_length": 2048},
    }
    kernels = ("gemm", "grouped_gemm", "attention", "memory_bound", "closed_form")
    one, two = (
        seconds(Scenario.validated({**alone, "factors": dict.fromkeys(kernels, factor)})) for factor in (1.0, 2.0)
    )
    assert two == pytest.approx(2 * one, rel=1e-4)


def test_half_of_the_bandwidth_doubles_the_bytes_of_a_collective_and_not_its_latency():
    """T = latency + bytes: with bytes of factor 2, with latency of factor 2, and with both, t is a sum of two parts."""
    one = seconds(collective())
    bytes_, latency, both = (
        seconds(collective(factors=factors))
        for factors in (
            {"byte_time_in_node": 2.0},
            {"latency_in_node": 2.0},
            {"byte_time_in_node": 2.0, "latency_in_node": 2.0},
        )
    )
    assert both == pytest.approx(2 * one, rel=1e-5)
    assert bytes_ - one + latency - one == pytest.approx(one, rel=0.02)  # hidden messages are behind longer bytes
    assert bytes_ > 1.9 * one


def test_an_all_to_all_follows_its_own_factor_alone():
    workload = {"kind": "collective", "op": "all_to_all", "num_ranks": 8, "bytes": "64 MiB"}
    one = seconds(collective(workload=workload))
    assert seconds(collective(workload=workload, factors={"all_to_all": 2.0})) == pytest.approx(2 * one, rel=1e-5)
    others = {name: 2.0 for name in LINK_FACTORS if name != "all_to_all"}
    assert seconds(collective(workload=workload, factors=others)) == one


def test_no_link_carries_more_than_its_datasheet():
    run = simulate(collective(factors={"byte_time_in_node": 0.02, "latency_in_node": 0.02}))
    assert max(link["utilisation"] for link in run.to_dict()["links"]) <= 1 + 1e-9


@pytest.mark.parametrize(
    ("make", "factors", "field"),
    [
        (training, {"gemm": 0}, "factors.gemm"),
        (training, {"gem": 1.1}, "factors.gem"),
        (collective, {"kernel_launch": 1.1}, "factors.kernel_launch"),
    ],
)
def test_a_factor_that_means_nothing_is_refused_by_name(make, factors, field):
    with pytest.raises(InvalidValueError) as refused:
        make(factors=factors)
    assert refused.value.field == field


def test_draws_are_lognormal_with_the_interval_of_each_constant():
    draws = draw_factors(400, seed=3)
    for name, spread in SPREADS.items():
        low, high = np.quantile([draw[name] for draw in draws], (0.05, 0.95))
        assert low == pytest.approx(1 / (1 + spread.relative), rel=0.01)
        assert high == pytest.approx(1 + spread.relative, rel=0.01)
        assert exp(np.mean([log(draw[name]) for draw in draws])) == pytest.approx(1, rel=0.01)


def test_a_constant_that_slows_all_alike_changes_no_order():
    """Intervals overlap, and yet the scenario is the best in every draw."""
    own = [{"step_time_s": factor * 1.00} for factor in (0.8, 1.0, 1.3)]
    rival = [{"step_time_s": factor * 1.01} for factor in (0.8, 1.0, 1.3)]
    assert share_of_best(own, [rival], "step_time_s", "least") == 1
    assert share_of_best(own, [rival], "step_time_s", "most") == 0
    assert interval_of(own, "step_time_s")[1] > interval_of(rival, "step_time_s")[0]


def test_the_interval_holds_the_point_estimate_and_a_claim_near_it_straddles():
    point = seconds(training(nodes=1))
    near, far = f"<= {point} s", f"<= {10 * point} s"
    claims = [
        {"id": name, "says": name, "source": "1", "metric": "step_time_s", "expect": expect}
        for name, expect in (("near", near), ("far", far))
    ]
    result = with_uncertainty(simulate(training(nodes=1, claims=claims)), num_samples=8)
    data = json.loads(result.to_json())
    low, high = data["uncertainty"]["figures"]["step_time_s"]
    assert low < point < high
    near, far = data["claims"]
    assert near["interval"] == far["interval"] == [low, high]
    assert near["straddles"] and 0 < near["share_met"] < 1
    assert not far["straddles"] and far["share_met"] == 1
    assert near["moved_most_by"] in near["reason"]


def test_every_era_with_published_steps_has_what_they_leave_unexplained():
    assert set(UNEXPLAINED) < set(RUNTIMES) - {IDEAL}
    assert all(part.own > 0 <= part.common and part.num_tables > 1 and part.source for part in UNEXPLAINED.values())


@pytest.mark.parametrize(("common", "own"), [(0.2, 0.0), (0.0, 0.2), (0.2, 0.1)])
def test_what_is_unexplained_is_lognormal_and_in_part_common_to_all_strategies(common, own):
    """Both parts together have the interval that is stated; differences of strategies have that of their own parts."""
    part = Unexplained(common=common, own=own, num_tables=2, source="")
    one, other = draw_unexplained(part, num_bases=2, num_samples=4000, seed=1)
    assert np.quantile(one, (0.05, 0.95)) == pytest.approx(part.both_ends, rel=0.02)
    apart = exp(2**0.5 * log(1 + own))
    assert np.quantile(one / other, (0.05, 0.95)) == pytest.approx((1 / apart, apart), rel=0.02)


def test_times_and_rates_of_a_step_follow_what_is_unexplained():
    """Each draw makes the same tokens: the longest step has the least rate. A forward pass has no such part."""
    known = {"runtime": {"preset": "megatron-core-2025"}}
    result = with_uncertainty(simulate(training(nodes=1, **known)), num_samples=2)
    data = result.to_dict()
    assert data["uncertainty"]["unexplained"]["preset"] == "megatron-core-2025"
    step, rate = (data["uncertainty"]["figures"][name] for name in ("step_time_s", "tokens_per_s"))
    tokens = data["metrics"]["step_time_s"] * data["metrics"]["tokens_per_s"]
    # percentiles of two draws lie between them: a linear mean of reciprocals is a little above that of the values
    assert step[1] * rate[0] == pytest.approx(tokens, rel=0.02)
    named = {one["name"]: one for one in data["uncertainty"]["constants"]}["unexplained"]
    assert named["values"][1] == pytest.approx(data["metrics"]["step_time_s"] * named["interval"][1])
    without = with_uncertainty(simulate(training(nodes=1)), num_samples=2).to_dict()["uncertainty"]
    assert without["unexplained"] is None
    assert "unexplained" not in {one["name"] for one in without["constants"]}


def test_strategies_that_are_modelled_as_equal_can_be_either_way():
    """A rival with the same keys is as good in every draw of constants, and the better one in half of the others."""
    claim = {"id": "best", "says": "best", "source": "1", "metric": "step_time_s", "superlative": "least"}
    rival = {"parallel.strategy": "EP8_TP2_PP1_DP4", "parallel.convention": "megatron", "network.all_reduce": "ring"}
    shares = []
    for preset in ("ideal", "megatron-core-2025"):
        scenario = training(nodes=1, claims=[claim], rivals=[rival], runtime={"preset": preset})
        scenario = scenario.variant({"network.all_reduce": "ring"})
        result = with_uncertainty(simulate(scenario), num_samples=6)
        shares.append(json.loads(result.to_json())["claims"][0]["share_met"])
    assert shares[0] == 1
    assert 0 < shares[1] < 1


def test_spreads_of_steps_are_percentiles_of_the_fitted_rows():
    """Two tables of one row each way: 10 % apart in common, and 2 % around their medians."""
    rows = {
        "slow": [step_spreads.Row(0.12, True), step_spreads.Row(0.10, True), step_spreads.Row(0.08, True)],
        "fast": [step_spreads.Row(-0.10, True), step_spreads.Row(0.9, False)],
    }
    spread = step_spreads.spread_of(rows, {"slow": 0.03, "fast": 0.05})
    assert spread.own == pytest.approx(0.02)
    assert spread.constant == pytest.approx(0.04)
    assert spread.common == pytest.approx((0.12**2 - 0.02**2 - 0.04**2) ** 0.5)
    assert spread.share_within([0.1, -0.13]) == 0.5


def test_what_slows_a_rival_as_well_moves_no_superlative():
    """The first constant doubles both, the second the scenario alone by a tenth."""
    constants = [Constant(name=name, ends=(1.0, 2.0), num_groups=2, source="") for name in ("both", "own")]
    own = [({"mfu": 0.2}, {"mfu": 0.4}), ({"mfu": 0.2}, {"mfu": 0.22})]
    rival = [({"mfu": 0.1}, {"mfu": 0.3}), ({"mfu": 0.1}, {"mfu": 0.1})]
    assert effects_on("mfu", 0.2, constants, own)[0].constant.name == "both"
    difference = effects_on("mfu", 0.2, constants, own, rival)
    assert difference[0].constant.name == "own"
    assert difference[0].relative == pytest.approx(0.1)
    assert difference[1].relative == pytest.approx(0.0)


def test_a_superlative_is_judged_draw_by_draw():
    """TP2 exchanges activations and TP1 does not: no draw of constants changes which of the two is faster."""
    claim = {"id": "best", "says": "best", "source": "1", "metric": "step_time_s", "superlative": "least"}
    rival = {"parallel.strategy": "EP8_TP1_PP1_DP8", "parallel.convention": "megatron"}
    result = with_uncertainty(simulate(training(nodes=1, claims=[claim], rivals=[rival])), num_samples=3)
    (judged,) = json.loads(result.to_json())["claims"]
    assert judged["share_met"] in {0, 1}
    assert (judged["share_met"] == 1) == (judged["verdict"] != "refuted")
    assert judged["moved_most_by"] in SPREADS
    assert "of the draws of constants and seeds" in judged["reason"]


def test_the_host_moves_a_step_most_that_waits_for_it():
    host = {"preset": "ideal", "kernel_launch": "1 ms"}
    result = with_uncertainty(simulate(training(nodes=1, runtime=host)), num_samples=2)
    effect = result.uncertainty.moves_most
    assert effect.constant.name == "kernel_launch"
    assert effect.relative == pytest.approx(1.45 - 1 / 1.45, rel=0.1)  # the whole step is the host's
    ideal = with_uncertainty(simulate(training(nodes=1)), num_samples=2)
    assert ideal.uncertainty.moves_most.constant.name not in HOST_SPREADS


def test_a_draw_can_be_run_again_by_its_keys():
    """The end of a constant's interval is a scenario like any other."""
    result = with_uncertainty(simulate(collective()), num_samples=2)
    effect = result.uncertainty.moves_most
    again = seconds(collective(factors={effect.constant.name: effect.constant.ends[1]}))
    assert again == effect.values[1]


def test_given_passes_have_no_constants():
    passes = {"kind": "passes", "microbatches": 4, "pass_times": {"F": "1 ms", "B": "2 ms"}}
    result = simulate(Scenario.validated({"parallel": {"pp": 2}, "workload": passes}))
    with pytest.raises(InvalidValueError, match="no constant makes them"):
        with_uncertainty(result)


def test_samples_without_uncertainty_are_refused():
    with pytest.raises(InvalidValueError, match="--samples must be given with --uncertainty, got 5"):
        run_command("ep64_tp16_pp4", as_json=True, check=False, samples=5)


def test_processes_change_nothing():
    one, two = (with_uncertainty(simulate(collective()), num_samples=2, jobs=jobs).to_dict() for jobs in (1, 2))
    assert one["uncertainty"] == two["uncertainty"]


def test_a_screen_of_a_run_has_the_interval_of_its_headline(capsys):
    """What `--uncertainty` shows stands on the screen without `--verbose`."""
    result = with_uncertainty(simulate(training(nodes=1)), num_samples=2)
    console = Console(width=200, force_terminal=False)
    print_summary(result.to_dict(), console, written={}, header=lambda: None)
    low, high = (format_quantity(end, "s") for end in result.uncertainty.figures["step_time_s"])
    assert f"UNCERTAINTY  step_time_s {low} to {high}, 5 to 95 % of 2 draws; factors." in " ".join(
        capsys.readouterr().out.split("\n")
    )
