"""What a run needs, said before it starts, and limits on it."""

import re

import numpy as np
import pytest

from sim.cli.run import run_command
from sim.engine.simulation import run_plan
from sim.errors import SimulationError
from sim.plan.kernel_costs import KernelCosts
from sim.plan.pipeline import PipelinePlan
from sim.run.estimates import PROCESS_S
from sim.run.model_run import ModelRun
from sim.run.resources import LONG_RUN_S, Limits, Resources, machine_memory_bytes
from sim.run.simulate import build_run
from sim.scenario.load import load_scenario
from sim.studies.claims import simulate
from sim.studies.variants import _largest_divisor as largest_divisor
from topology.cluster import build_cluster
from topology.presets.clusters import FABRICS
from topology.presets.devices import DEVICES
from workloads.kernels import Gemm, GroupedGemm, Scan
from workloads.layers import optimizer_step
from workloads.memory import Precision

SMALL = ["alternatives=[]", "rivals=[]", "claims=[]"]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("ep16_tp16_pp4", []),
        ("ep16_tp16_pp4", ["routing.kind=multinomial", "workload.batches=2"]),
        ("ep64_tp16_pp4", ["workload.batches=2"]),
        ("ep64_tp16_pp4_training", []),
        (
            "ep16_tp16_pp4",  # two replicas, of which one runs
            ["parallel.strategy=EP16_TP16_PP4_DP2", "cluster.num_nodes=16", "workload.sequences=256"],
        ),
    ],
)
def test_operations_are_counted_and_events_are_about_right(name, changes):
    """Exactly as many operations as run, and events within a factor of 2; the minimum is not more."""
    run = model_run(name, *changes)
    found, minimum = run.estimated_resources(), run.minimum_resources()
    stats = run_plan(PipelinePlan(run.work), link_timeline=False).stats
    assert found.num_ops == stats.num_stage_ops
    assert stats.num_events / 2 <= found.num_events <= 2 * stats.num_events
    assert found.num_ops / 2 < minimum.num_ops <= stats.num_stage_ops
    assert minimum.memory_bytes <= found.memory_bytes


def model_run(name: str, *changes: str) -> ModelRun:
    """Return a bundled scenario of a model that can be run."""
    run = build_run(load_scenario(name, overrides=changes))
    assert isinstance(run, ModelRun)
    return run


def expected_of(*changes: str) -> Resources:
    """Return the estimate of the document's scenario with changes."""
    return build_run(load_scenario("ep16_tp16_pp4", overrides=[*SMALL, *changes])).estimated_resources()


def test_an_estimate_of_time_grows_by_the_same_for_each_microbatch():
    """Beyond what is done once: the process, the cluster and the pricing of operations."""
    few, more, most = (
        expected_of(f"workload.microbatches={count}", f"workload.sequences={8 * count}").cpu_s for count in (4, 8, 16)
    )
    assert few is not None
    assert more is not None
    assert most is not None
    assert few > PROCESS_S
    assert most - more == pytest.approx(2 * (more - few))


def test_weight_passes_of_their_own_are_counted():
    """As they run in a zero-bubble schedule."""
    changes = [
        *SMALL,
        "parallel.convention=megatron",
        "parallel.strategy=EP16_TP16_PP4",
        "parallel.sp=true",
        "schedule.kind=zb_h1",
    ]
    run = model_run("ep64_tp16_pp4_training", *changes)
    found = run.estimated_resources()
    stats = run_plan(PipelinePlan(run.work), link_timeline=False).stats
    assert stats.num_stage_ops <= found.num_ops <= 1.05 * stats.num_stage_ops


def test_flows_count_as_what_they_cost():
    """Of equal bytes they end together; where tokens choose at random each ends on its own, in an event's time."""
    together, in_flows, drawn = (
        expected_of(*changes)
        for changes in (
            [],
            ["network.fidelity=flow"],
            ["network.fidelity=flow", "routing.kind=multinomial"],
        )
    )
    assert together.num_ops == in_flows.num_ops == drawn.num_ops
    assert together.num_events < in_flows.num_events < drawn.num_events / 5


def test_a_minimum_says_nothing_of_time():
    """Only a plan does."""
    assert build_run(load_scenario("ep16_tp16_pp4")).minimum_resources().cpu_s is None


def test_a_host_that_lags_makes_an_event_of_each_issue_and_each_kernel():
    """A model of tiny kernels, which the host issues more slowly than the GPU runs them."""
    changes = ["model.hidden=64", "model.heads=16", "model.ffn=64", "workload.sequence_length=128", *SMALL]
    run = model_run("ep64_tp16_pp4_training", *changes)
    stats = run_plan(PipelinePlan(run.work), link_timeline=False).stats
    assert stats.num_events > 1.5 * stats.num_stage_ops
    assert stats.num_events / 2 <= run.estimated_resources().num_events <= 2 * stats.num_events


@pytest.mark.parametrize("least_s", [0.5, LONG_RUN_S])
def test_a_long_run_is_announced_before_it_begins(monkeypatch, capsys, least_s):
    """On standard error, with time and memory; a short run says nothing."""
    monkeypatch.setattr("sim.run.scenario_run.LEAST_LONG_EVENTS", 0)
    monkeypatch.setattr("sim.run.scenario_run.LONG_RUN_S", least_s)
    changes = [*SMALL, "workload.batches=1", "workload.microbatches=2", "workload.sequences=16"]
    assert run_command("ep16_tp16_pp4", changes=changes, as_json=True, check=False, jobs=1) == 0
    said = capsys.readouterr().err
    assert ("expected: about " in said and "of processor time" in said and "(262 operations)" in said) == (
        least_s < LONG_RUN_S
    )
    assert said.count("expected") == (least_s < LONG_RUN_S)


def test_a_run_that_would_need_more_events_is_refused_before_it_starts():
    """The limit, the estimate and the hint."""
    expected = (
        r"the run must need at most 8,500 events, got about [\d,]+ \(8,384 operations\)\. "
        r"Use fewer microbatches, batches or layers, or raise --max-events\."
    )
    with pytest.raises(SimulationError, match=expected) as refused:
        simulate("ep16_tp16_pp4", overrides=SMALL, limits=Limits(max_events=8_500))
    assert refused.value.exit_code == 3


def test_a_run_that_would_need_more_memory_is_refused_before_it_starts():
    """In the user's units."""
    with pytest.raises(SimulationError, match=r"the run must need at most 70 MB of memory, got about [\d.]+ MB"):
        simulate("ep16_tp16_pp4", overrides=SMALL, limits=Limits(max_memory_bytes=70e6))


def test_a_run_within_its_limits_runs():
    """And gives what it gives without them."""
    limits = Limits(max_events=100_000, max_memory_bytes=1e9)
    limited, free = (simulate("ep16_tp16_pp4", overrides=SMALL, limits=one) for one in (limits, Limits()))
    assert limited.metrics == free.metrics


def test_an_alternative_over_the_limit_is_named_as_not_run():
    """The scenario itself runs, and its claim says which alternative could not be."""
    changes = ["rivals=[]", "alternatives=[{workload.microbatches: 32}]", "workload.batches=1"]
    result = simulate("ep64_tp16_pp4", overrides=changes, limits=Limits(max_events=6000))
    assert any(
        "workload.microbatches: 32" in finding and "at most 6,000 events" in finding for finding in result.findings
    )


def test_measured_passes_have_limits_too(tmp_path):
    """One operation for each pass: 2 x 4 stages x 8 microbatches."""
    times = "{F: 10 ms, B: 10 ms, W: 5 ms}"
    workload = f"{{kind: passes, microbatches: 8, pass_times: {times}, p2p: 0.6 ms}}"
    file = tmp_path / "passes.yaml"
    file.write_text(f"name: p\nparallel: {{pp: 4}}\nworkload: {workload}\nschedule: {{kind: 1f1b}}\n", encoding="utf-8")
    with pytest.raises(SimulationError, match=r"at most 100 events, got about [\d,]+ \(64 operations\)"):
        simulate(file, limits=Limits(max_events=100))
    with pytest.raises(SimulationError, match=r"at most 10 events, got at least 64 \(64 operations\)"):
        simulate(file, limits=Limits(max_events=10))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["workload.batches=10000000"],
            "the run must need at most 50,000,000 events, got at least 15,360,000,016 (15,360,000,000 operations). "
            "Use fewer microbatches, batches or layers, or raise --max-events.",
        ),
        (
            ["workload.microbatches=10000000", "workload.sequences=10000000", "workload.batches=1"],
            "the run must need at most 50,000,000 events, got at least 960,000,016 (960,000,000 operations). "
            "Use fewer microbatches, batches or layers, or raise --max-events.",
        ),
        (
            ["routing.kind=multinomial", "model.experts=65536", "model.top_k=128"],
            "the run must need at most 50,000,000 events, got at least 138,518,839 (6,144 operations). "
            "Use fewer microbatches, batches or layers, or raise --max-events.",
        ),
    ],
)
def test_a_run_that_could_never_end_is_refused_without_limits(changes, message):
    """By the engine's own budget, before anything is planned; alternatives and rivals are not begun either."""
    with pytest.raises(SimulationError) as refused:
        simulate("ep64_tp16_pp4", overrides=changes, jobs=2)
    assert str(refused.value) == message


def test_passes_that_could_never_end_are_refused_without_limits(tmp_path):
    """An operation for each of 2 x 1,000 x 10,000,000 passes."""
    file = tmp_path / "passes.yaml"
    workload = "{kind: passes, microbatches: 10000000, pass_times: {F: 1 ms, B: 1 ms}}"
    file.write_text(f"parallel: {{pp: 1000}}\nworkload: {workload}\n", encoding="utf-8")
    with pytest.raises(SimulationError, match=r"at most 50,000,000 events, got at least 20,000,000,000 "):
        simulate(file)


def test_a_run_that_needs_more_memory_than_the_machine_has_is_refused(monkeypatch):
    """The routing of 8,192 ranks over 65,536 experts is 8.6 GB in one layer."""
    monkeypatch.setattr("sim.run.resources.machine_memory_bytes", lambda: 8_000_000_000)
    changes = ["cluster.num_nodes=1024", "parallel.strategy=EP8192_TP1_PP1", "model.experts=65536", *SMALL]
    sizes = ["workload.sequences=8192", "workload.microbatches=1"]
    with pytest.raises(
        SimulationError, match=r"at most this machine's 8 GB of memory, got at least 10\.\d+ GB .* experts or GPUs"
    ):
        simulate("ep16_tp16_pp4", overrides=[*changes, *sizes])


def test_more_events_than_the_engines_own_are_run_where_a_user_allows_them():
    """The engine's budget follows, and fewer events than it has leave it as it is."""
    assert [Limits(max_events=n).engine_events for n in (None, 10, 10**9)] == [50_000_000, 50_000_000, 10**9]


def test_the_machines_memory_is_at_most_what_is_built_in():
    """As the system says; a container may have less."""
    memory_bytes = machine_memory_bytes()
    assert memory_bytes is None or memory_bytes > 65e6


def test_a_machine_that_does_not_tell_its_memory_bounds_nothing(monkeypatch):
    """As on systems without sysconf, containers and resource limits."""
    monkeypatch.setattr("sim.run.resources._memory_limits_bytes", lambda: iter(()))
    assert machine_memory_bytes() is None
    Limits().check_minimum(Resources(num_ops=1, num_events=1, memory_bytes=1e18))


def test_links_are_counted_without_wiring_them():
    """As many as the graph has."""
    for preset, num_nodes in (("dgx-h100", 1), ("dgx-h100", 5), ("dgx-h100", 40), ("gb200-nvl72", 2)):
        cluster = build_cluster(FABRICS[preset], num_nodes, DEVICES["h100-sxm"])
        assert cluster.min_num_links == len(cluster.link_names)


def test_a_time_that_the_clock_cannot_hold_names_file_operation_and_sizes():
    """And the lines of what the file gives."""
    changes = ["workload.sequence_length=100000000", "workload.sequences=10000000", "workload.microbatches=1"]
    with pytest.raises(SimulationError) as refused:
        simulate("ep64_tp16_pp4", overrides=[*SMALL, *changes])
    said = str(refused.value)
    assert str(refused.value.as_dict()["file"]).endswith("ep64_tp16_pp4.yaml")
    seconds = r"26623421948\.09\d*"  # further digits are the machine's
    assert re.search(rf"got {seconds} s for a kernel of attention, 1.28e\+25 FLOPs and 5.12e\+17 bytes\. Lower", said)
    assert said.endswith(
        "The workload has sequences 10000000, sequence_length 100000000, microbatches 1, batches 4 (line 30)."
    )


def test_a_transfer_that_the_clock_cannot_hold_is_named():
    """A NIC of one byte a second."""
    changes = ["cluster.nic_bandwidth=1 B/s", "workload.sequences=1000000", "workload.microbatches=1"]
    with pytest.raises(SimulationError, match="for a transfer of kind all_reduce, alone on its links"):
        simulate("ep64_tp16_pp4", overrides=[*SMALL, *changes])


@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        (Gemm(kind="dense_ffn", m=10**17, n=10**9, k=10**9), r"dense ffn, \[100000000000000000, 1000000000\] x"),
        (Scan(kind="attention", flops=1e30, num_bytes=1.0), r"attention, 1e\+30 FLOPs and 1 bytes"),
        (optimizer_step(1e30, Precision())[0], r"optimizer, 4e\+30 bytes"),
        (
            GroupedGemm(kind="expert", tokens=np.array([[10**17, 1]]), n=10**9, k=10**9),
            "expert, up to 100000000000000000 tokens for an expert of",
        ),
    ],
)
def test_a_kernel_that_the_clock_cannot_hold_is_named_by_its_sizes(kernel, said):
    """Whatever its kind."""
    with pytest.raises(SimulationError, match=f"for a kernel of {said}"):
        KernelCosts(DEVICES["h100-sxm"], dtype="bf16").kernel_ns(kernel, 1)


@pytest.mark.parametrize(("number", "at_most"), [(10**7, 10**7 - 1), (12, 5), (7, 6), (36, 36), (1, 9)])
def test_the_largest_divisor_is_that_of_trial(number, at_most):
    """Against trying all."""
    assert largest_divisor(number, at_most=at_most) == next(
        divisor for divisor in range(min(at_most, number), 0, -1) if number % divisor == 0
    )
