"""Searches: bounds below every simulation, the optimum of small spaces, certificates that can be checked, refusals."""

import json
import math
from contextlib import closing

import numpy as np
import pytest

from sim.build.runtime import runtime_of
from sim.cli.run import run_command
from sim.cli.search import search_command
from sim.engine.compiled import loop
from sim.engine.compiled import run as compiled
from sim.errors import InvalidValueError, MoesimError
from sim.run.resources import NO_LIMITS
from sim.run.simulate import simulate_scenario
from sim.scenario.load import load_scenario
from sim.scenario.scenario import Scenario
from sim.studies.search.bounds import TightBounds, cheap_bounds_s
from sim.studies.search.branch import _families, search
from sim.studies.search.found import Found, search_scenario
from sim.studies.search.kept import kept_simulations
from sim.studies.search.launch import launch_flags
from sim.studies.search.maps import IDENTITY, after, applied
from sim.studies.search.space import space_of
from sim.studies.search.workers import Worker, simulate_candidate
from sim.studies.store.store import Store

MODELS = (
    {"layers": 4, "hidden": 1024, "heads": 8, "ffn": 4096, "experts": 8, "top_k": 2, "vocab": 32000},
    {"layers": 8, "hidden": 2048, "heads": 16, "kv_heads": 4, "ffn": 5504, "gated": True, "vocab": 50000},
    {
        "layers": 6,
        "hidden": 1536,
        "heads": 12,
        "ffn": 1024,
        "experts": 12,
        "top_k": 4,
        "vocab": 8000,
        "dense_layers": 2,
    },
)
CLUSTERS = (
    {"preset": "dgx-h100", "num_nodes": 2},
    {"preset": "dgx-a100", "num_nodes": 1},
    {"preset": "dgx-b200", "num_nodes": 2},
)


def scenario(number=0, *, kind="training", runtime="megatron-core-2025", **sections):
    """Return the scenario of a small model on 8 or 16 GPUs, without a strategy of its own that matters."""
    data = {
        "name": f"model {number}",
        "cluster": CLUSTERS[number % len(CLUSTERS)],
        "model": MODELS[number % len(MODELS)],
        "parallel": {"strategy": "TP1", "convention": "megatron"},
        "workload": {"kind": kind, "sequences": 32, "sequence_length": 1024, "microbatches": 1},
        "runtime": {"preset": runtime},
        "routing": {"kind": "balanced"},
    }
    return Scenario.validated(data | sections)


CP_KINDS = ["ring", "all_to_all", "all_gather"]
SCHEDULES = ["gpipe", "1f1b", "zb_h1", "zb_v", "dualpipe", "dualpipe_v", "chimera"]
NARROW = {"parallel.zero": 0, "schedule.recompute": "none", "parallel.cp": 1, "schedule.kind": "1f1b"}
"""Axes that small spaces leave out."""


def drawn(space, count, seed=1):
    """Return positions of candidates, drawn without repetition."""
    number = min(count, len(space.candidates))
    return np.random.default_rng(seed).choice(len(space.candidates), number, replace=False).tolist()


@pytest.mark.parametrize(
    ("made", "count"),
    [
        (scenario(0), 10),
        (scenario(1), 10),
        (scenario(2, runtime="megatron-2022"), 10),
        (scenario(0, kind="forward"), 10),
        (scenario(2, routing={"kind": "zipf", "skew": 1.0}), 6),
        (scenario(0, routing={"kind": "multinomial", "capacity_factor": 1.0}), 6),
        (scenario(0, runtime="ideal", network={"fidelity": "flow"}), 4),
    ],
    ids=lambda value: "" if isinstance(value, int) else None,
)
def test_no_simulation_is_faster_than_its_bounds(made, count):
    space = space_of(made)
    cheap, tight = cheap_bounds_s(space, runtime_of(space.scenario)), TightBounds()
    compared = 0
    for number in drawn(space, count):
        candidate = space.candidates[number]
        try:
            bound = tight.of(space.scenario_of(candidate))
            found = simulate_candidate(space.scenario_of(candidate), candidate, number=number)
        except MoesimError:
            continue
        if found.step_s is None:
            continue
        assert cheap[number] <= found.step_s * (1 + 1e-12), candidate.name
        assert bound.step_s <= found.step_s * (1 + 1e-12), candidate.name
        assert not found.fits or bound.fits, candidate.name
        compared += 1
    assert compared >= count // 2


@pytest.mark.parametrize(
    "made",
    [
        scenario(0, kind="forward"),
        scenario(1),
        scenario(0, routing={"kind": "multinomial", "capacity_factor": 1.0}),
    ],
    ids=["forward", "training", "drawn"],
)
def test_both_engines_say_the_same_of_a_candidate(made, monkeypatch):
    """Step time, memory and account of time, by SimPy's processes and by the kernel, here interpreted."""
    monkeypatch.setattr(compiled, "compiled_run", lambda: loop.run)
    space = space_of(made, fix={"workload.microbatches": 4, "parallel.cp": 1})
    for number in drawn(space, 3):
        candidate = space.candidates[number]
        by_kernel, by_simpy = (
            simulate_candidate(space.scenario_of(candidate).variant({"engine": engine}), candidate, number=number)
            for engine in ("compiled", "simpy")
        )
        assert by_kernel == by_simpy
        if by_kernel.problem is None:
            values = simulate_scenario(space.scenario_of(candidate)).values
            assert by_kernel.step_s == values["step_time_s"]
            assert by_kernel.tokens_per_s == values["tokens_per_s"]
            assert (by_kernel.memory_bytes, by_kernel.fits) == (values["total"], values["fits"])


@pytest.mark.parametrize("number", [0, 1, 2])
def test_search_finds_the_optimum_of_a_space_that_is_simulated_whole(number):
    made, fix = scenario(number, kind="training"), {**NARROW, "workload.microbatches": 4}
    space = space_of(made, fix=fix)
    times = {}
    for at, candidate in enumerate(space.candidates):
        found = simulate_candidate(space.scenario_of(candidate), candidate, number=at)
        if found.fits and found.step_s is not None:
            times[at] = found.step_s
    searched = search(space, gap=0.0)
    assert searched.is_complete
    assert searched.best.step_s == min(times.values())
    assert searched.gap == 0.0
    assert len(searched.outcomes) < len(space.candidates)


def test_the_excluded_set_can_be_derived_again():
    """Every candidate that was not simulated has a bound above the best over 1 + gap, does not fit, or is refused."""
    space = space_of(scenario(0), fix=NARROW)
    searched = search(space, gap=0.02)
    assert searched.is_complete
    best_s = searched.best.step_s
    simulated = {outcome.number for outcome in searched.outcomes}
    rows = Found(searched=searched, scenario=space.scenario, own=None).bounds()
    for row in rows:  # derived again from what is written alone
        if row["step_time_s"] is None and row["excluded_by"] not in {"memory", "refused"}:
            assert row["bound_s"] * 1.02 >= best_s
            assert row["excluded_by"] == "bound"
    assert min(row["step_time_s"] for row in rows if row["fits"]) == best_s
    assert sum(searched.excluded.values()) + len(searched.outcomes) == len(space.candidates)
    assert searched.lower_bound_s <= best_s <= searched.lower_bound_s * 1.02 * (1 + 1e-12)
    for number in drawn(space, 6, seed=5):  # and none of those is better
        if number in simulated:
            continue
        candidate = space.candidates[number]
        found = simulate_candidate(space.scenario_of(candidate), candidate, number=number)
        assert found.step_s is None or not found.fits or found.step_s * 1.02 >= best_s * (1 - 1e-12)


def test_processes_find_the_same():
    space = space_of(scenario(1), fix={**NARROW, "workload.microbatches": 4})
    here, there = search(space), search(space, jobs=2)
    assert here.best.step_s == there.best.step_s
    assert there.is_complete


def test_a_search_keeps_its_simulations_and_takes_them_from_the_store(tmp_path, monkeypatch):
    """The second one simulates nothing, and both find what a search without a store finds."""
    where, space = str(tmp_path / "results.sqlite"), space_of(scenario(1), fix={**NARROW, "workload.microbatches": 4})

    def searched():
        with closing(kept_simulations(where, scenario(1), space.values, len(space.candidates))) as kept:
            return search(space, limit=4, kept=kept).outcomes

    first = searched()
    with Store(where) as store:
        ((study, num_kept, _),) = store.studies()
    refused = sum(one.problem is not None for one in first)
    assert (study.command, study.num_points) == ("search", len(space.candidates))
    assert num_kept == len(first) - refused > 0
    monkeypatch.setattr("sim.studies.search.kept.observe", None)
    assert searched() == first == search(space, limit=4).outcomes


def test_a_limit_leaves_a_gap_that_is_known():
    searched = search(space_of(scenario(0), fix=NARROW), limit=1, gap=0.0)
    assert len(searched.outcomes) <= 1
    assert searched.gap is None or searched.gap >= 0.0


def test_spaces():
    made = scenario(0, kind="forward")
    space = space_of(made)
    assert {c.convention for c in space.candidates} == {"megatron", "vllm"}
    assert len(set(space.candidates)) == len(space.candidates)
    for candidate in space.candidates[::37]:
        s = candidate.strategy
        assert s.tp * s.cp * s.pp * (s.dp or 1) == 16
        assert 32 % ((s.dp or 1) * candidate.microbatches) == 0
    fixed = space_of(made, fix={"parallel.pp": 4}, over={"parallel.tp": [1, 2], "network.all_reduce": ["ring", "tree"]})
    assert {c.strategy.pp for c in fixed.candidates} == {4}
    assert {c.strategy.tp for c in fixed.candidates} == {1, 2}
    assert {c.changes(trains=False)["network.all_reduce"] for c in fixed.candidates} == {"ring", "tree"}
    assert space_of(made, fix={"network.all_reduce": "ring"}).fixed == {"network.all_reduce": "ring"}


@pytest.mark.parametrize(
    ("sections", "options", "message"),
    [
        ({}, {"fix": {"parallel.pp": 3}}, "leave a legal strategy for 16 GPUs"),
        ({}, {"fix": {"parallel.pp": 2}, "over": {"parallel.pp": [1]}}, "be left out where search.fix has it"),
        ({"search": {"fix": {"model.top_k": 1}}}, {}, "have keys of parallel, schedule"),
        ({"search": {"over": {"parallel.tp": 4}}}, {}, "have lists of 1 to"),
        ({"search": {"gap": -1}}, {}, "be a ratio from 0 to 1"),
        ({"search": {"limit": 0}}, {}, "be an integer of at least 1"),
        ({}, {"objective": "beauty"}, "be one of step_time"),
        ({}, {"fix": {"parallel.tq": 1}}, "search: parallel.tq must"),
        ({"what_if": ["no_bubble"]}, {}, "what_if must be left out in a search"),
        ({"jitter": {"pass_cv": 0.02}}, {}, "jitter must be left out in a search"),
    ],
)
def test_refusals(sections, options, message):
    with pytest.raises(InvalidValueError) as raised:
        search_scenario(scenario(0, **sections), **options)
    assert message in str(raised.value)


TINY = {**NARROW, "parallel.tp": 2, "parallel.ep": 4, "parallel.etp": 1, "workload.microbatches": 8}


@pytest.mark.parametrize(
    ("sections", "options"),
    [
        ({}, {"fix": {k: v for k, v in TINY.items() if k != "schedule.kind"}, "over": {"schedule.kind": SCHEDULES}}),
        (
            {},
            {
                "fix": {**TINY, "parallel.tp": 1, "parallel.ep": 1, "parallel.cp": 4},
                "over": {"parallel.cp_kind": CP_KINDS},
            },
        ),
        ({}, {"fix": TINY, "over": {"runtime.kernel_rate": [0.5, 1.0], "runtime.overlap_p2p": [True, False]}}),
        ({"cluster": {**CLUSTERS[0], "degraded": [{"gpu": 0, "speed": 0.5}]}}, {"fix": {**TINY, "parallel.ep": 2}}),
        ({"cluster": {**CLUSTERS[0], "degraded": [{"nic": "0.1", "bandwidth": 0.2}]}}, {"fix": TINY}),
    ],
    ids=["schedules", "context", "runtime", "slow GPU", "slow NIC"],
)
def test_certificates_hold_over_other_axes(sections, options):
    """All candidates are simulated: none has a bound above its time, and the search finds the fastest."""
    space = space_of(scenario(0, **sections), **options)
    worker, searched = Worker(space, NO_LIMITS, None), search(space, gap=0.0)
    families = _families(space)[0]
    least = math.inf
    for number, candidate in enumerate(space.candidates):
        found = worker.simulate(number)
        if found.step_s is None or not found.fits:
            continue
        least = min(least, found.step_s)
        members = [one for one, family in enumerate(families) if family == families[number]]
        of_family = dict(zip(members, worker.family(members[0], members), strict=True))[number]
        for bound_s in (of_family, worker.tight(number)[0]):
            assert bound_s <= found.step_s * (1 + 1e-12), candidate.name
    assert searched.best.step_s == least < math.inf


def test_nothing_fits_is_said():
    large = {**MODELS[0], "layers": 4, "hidden": 16384, "heads": 128, "ffn": 65536, "vocab": 100000}
    found = search_scenario(scenario(0, model=large), fix={**NARROW, "parallel.tp": 8})
    assert found.searched.best is None
    assert "do not fit into memory" in found.sentence
    assert found.to_dict()["best"] is None


@pytest.mark.parametrize(
    ("framework", "convention", "expected"),
    [
        ("megatron", "megatron", "--tensor-model-parallel-size 2 --pipeline-model-parallel-size 2 --sequence-parallel"),
        ("vllm", "vllm", "--tensor-parallel-size 2 --pipeline-parallel-size 2 --data-parallel-size 4"),
        ("sglang", "vllm", "--tp-size 8 --pp-size 2 --dp-size 4 --enable-dp-attention"),
    ],
)
def test_launch_flags(framework, convention, expected):
    fix = {"parallel.tp": 2, "parallel.pp": 2, "parallel.convention": convention, "parallel.cp": 1, "parallel.vpp": 1}
    candidate = space_of(scenario(0, kind="forward"), fix=fix).candidates[0]
    assert launch_flags(candidate, framework, sequences=32, sequence_length=1024).startswith(expected)
    other = "vllm" if convention == "megatron" else "megatron"
    with pytest.raises(InvalidValueError, match="be a framework of the convention"):
        launch_flags(candidate, other, sequences=32, sequence_length=1024)


def test_maps_are_those_of_a_lane_and_its_host():
    kernel_issued_late = (3.0, 3.0 + 5.0, -math.inf, 5.0)  # the host needs 5, then the kernel takes 3
    waits = (0.0, -math.inf, 2.0, 2.0)  # the host waits for the lane and works for 2
    assert applied(kernel_issued_late, 0.0, 0.0) == (8.0, 5.0)
    assert applied(after(kernel_issued_late, waits), 0.0, 0.0) == (8.0, 10.0)
    assert after(IDENTITY, waits) == after(waits, IDENTITY) == waits


def test_command_from_flags(tmp_path, capsys):
    best, written = tmp_path / "best.yaml", tmp_path / "flags.yaml"
    code = search_command(
        model="qwen3-30b-a3b",
        cluster="dgx-h100",
        gpus=8,
        training=True,
        sequences=16,
        sequence_length=1024,
        write=str(written),
        fix=["parallel.cp=1", "schedule.recompute=full", "schedule.kind=1f1b"],
        over=["parallel.ep=4,8"],
        gap="0",
        output=str(best),
        framework="megatron",
        as_json=True,
        jobs=1,
    )
    data = json.loads(capsys.readouterr().out)
    assert code == 0
    assert data["is_complete"]
    assert data["space"] == data["simulated"] + data["excluded"] + data["excluded_by"]["left"]
    assert data["flags"].startswith("--tensor-model-parallel-size")
    again = load_scenario(str(best))
    assert again.spec.parallel.strategy == data["best"]["parallel.strategy"]
    assert load_scenario(str(written)).spec.workload.sequences == 16
    assert data["document"]["strategy"] == "EP1_TP1_PP1_DP8"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "qwen3-30b-a3b"}, "--cluster must be given without a scenario"),
        ({"scenario": "ep64_tp16_pp4", "gpus": 8}, "--gpus must be left out with a scenario"),
        ({}, "SCENARIO must be given"),
        ({"scenario": "ep64_tp16_pp4", "framework": "deepspeed"}, "--as must be one of megatron"),
        ({"scenario": "ep64_tp16_pp4", "fix": ["parallel.pp=4", "parallel.pp=2"]}, "name parallel.pp once"),
        ({"scenario": "ep64_tp16_pp4", "fix": ["parallel.pp"]}, "--fix must be KEY=VALUE"),
        ({"scenario": "ep64_tp16_pp4", "fix": ["model.top_k=1"]}, "have keys of parallel"),
        ({"scenario": "ep64_tp16_pp4", "gap": "200 %"}, "be a ratio from 0 to 1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InvalidValueError) as raised:
        search_command(**arguments, as_json=True)
    assert message in str(raised.value)


def test_report_is_printed(capsys):
    fix = ["parallel.tp=1", "parallel.cp=1", "parallel.convention=megatron", "workload.microbatches=2"]
    assert search_command("ep64_tp16_pp4", fix=fix, gap="10 %", as_json=False, jobs=1) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "in this space beats" in printed
    assert "The scenario's own strategy, EP64_TP16_PP4 (convention spanning), takes 1.199 s" in printed
    assert "KINDS OF STRATEGIES" in printed


def test_a_run_judges_by_the_best_that_was_found(capsys):
    """The best strategy becomes a rival, and a claim of an optimum names it."""
    narrow = (
        "{fix: {parallel.tp: 1, parallel.cp: 1, parallel.convention: megatron, workload.microbatches: 2}, gap: 10 %}"
    )
    changes = ["alternatives=[]", "rivals=[]", f"search={narrow}"]
    run_command("ep64_tp16_pp4", changes=changes, as_json=True, check=False, jobs=1)
    data = json.loads(capsys.readouterr().out)
    claim = next(claim for claim in data["claims"] if claim["id"] == "optimal")
    assert claim["verdict"] == "refuted"
    assert claim["rival"]["strategy"].startswith(data["search"]["best_strategy"])
    assert claim["rival"]["value"] == pytest.approx(data["search"]["best_step_time_s"])
    assert "in this space beats" in data["search"]["certificate"]
