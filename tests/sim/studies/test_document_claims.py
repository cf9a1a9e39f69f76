"""The document's claims: what a careful reader would say, and that each verdict follows its input."""

import io

import pytest
from conclusions import check_conclusion
from rich.console import Console

from sim.engine.simulation import Run, Simulation
from sim.report.console.run import print_report
from sim.run.result import Result
from sim.scenario.load import load_scenario
from sim.studies.claims import simulate

SMALL = (
    "workload.batches=2",
    "workload.sequences=16",
    "workload.microbatches=4",
    "alternatives=[]",
)
"""A smaller case with the same claims."""

# Claim -> changes that must flip its verdict, and the verdict before and after.
FLIPS = {
    "mesh-product": (["parallel.strategy=EP32_TP8_PP4", "cluster.num_nodes=4"], "holds", "refuted"),
    "params-per-gpu": (["model.ffn=7168"], "holds", "refuted"),
    "weights": (["model.dtype=fp8"], "holds", "refuted"),
    "heads-divide": (["model.heads=32", "model.kv_heads=32"], "holds", "refuted"),
    "hidden-divides": (["model.hidden=2048"], "holds", "refuted"),
    "tp-optimal": (["parallel.strategy=EP64_TP4_PP4_DP4"], "refuted", "not_judged"),
    "fits": (["cluster.device.memory=1 GB"], "holds", "refuted"),
    "headroom": (["cluster.device.memory=1 GB"], "holds", "refuted"),
    "memory-used": (["workload.sequences=128"], "holds", "refuted"),
    "memory-share": (["cluster.device.memory=20 GB"], "holds", "refuted"),
    "layers-divide": (["parallel.stage_layers=[5, 4, 4, 3]"], "holds", "refuted"),
    "stages-balanced": (["model.vocab=16", "parallel.strategy=EP64_TP16_PP1_DP4"], "refuted", "holds"),
    "minimises-bubbles": (["parallel.strategy=EP64_TP16_PP1_DP4"], "refuted", "holds"),
    "throughput": (
        [
            "model.ffn=64",
            "model.layers=4",
            "workload.sequence_length=1024",
            "workload.sequences=1280",
            "cluster.preset=gb200-nvl72",
            "cluster.num_nodes=1",
        ],
        "refuted",
        "holds",
    ),
    "latency": (["workload.sequences=4"], "refuted", "holds"),
    "stage-map": (["parallel.rank_order=[pp, tp, cp, ep, dp]"], "holds", "refuted"),
    "expert-map": (
        ["parallel.strategy=EP16_TP16_PP4", "parallel.convention=megatron", "parallel.sp=true"],
        "holds",
        "refuted",
    ),
    "one-expert-per-gpu": (["model.experts=128"], "holds", "refuted"),
    "perfect-balance": (["routing.kind=multinomial"], "not_judged", "refuted"),
    "all-to-all-defined": (["alternatives=[{parallel.exchange: blocking}]"], "holds", "depends"),
    "all-reduce-optimal": (
        ["parallel.strategy=EP64_TP4_PP4_DP4"],
        "refuted",
        "not_judged",
    ),
    "p2p-efficient": (
        [
            "model.layers=4",
            "model.ffn=64",
            "parallel.strategy=EP1_TP1_PP4_DP4",
            "parallel.convention=megatron",
            "cluster.num_nodes=2",
            "workload.batches=1",
            "workload.microbatches=1",
            "cluster.degraded=[" + ", ".join(f'{{nic: "0.{i}", bandwidth: 1 %}}' for i in range(8)) + "]",
        ],
        "holds",
        "refuted",
    ),
    "mesh-legal": (
        ["parallel.strategy=EP16_TP16_PP4", "parallel.convention=megatron", "parallel.sp=true"],
        "refuted",
        "holds",
    ),
    "serving-legal": (["parallel.strategy=EP16_TP16_PP4", "parallel.convention=vllm"], "refuted", "holds"),
    "optimal": (["rivals=[{workload.microbatches: 1}]"], "refuted", "not_judged"),
}


def _one_claim(claim: str, *changes: str) -> Result:
    """Simulate the small case with one claim, its conclusion left out."""
    full = load_scenario("ep64_tp16_pp4", overrides=[*SMALL, *changes])
    raw = dict(full.raw)
    raw["claims"] = [
        {key: value for key, value in entry.items() if key not in ("supports", "because_of")}
        for entry in raw["claims"]
        if entry["id"] == claim
    ]
    return simulate(type(full).validated(raw, full.places))


def test_every_claim_of_the_document_has_a_perturbation() -> None:
    """A claim added to the scenario must come with what flips it."""
    assert {claim.id for claim in load_scenario("ep64_tp16_pp4").spec.claims} == set(FLIPS)


@pytest.mark.slow
@pytest.mark.parametrize("claim", FLIPS)
def test_a_verdict_flips_when_its_input_is_perturbed(claim: str) -> None:
    """The verdict is computed: other input, other verdict, other reason."""
    changes, before, after = FLIPS[claim]
    here, there = _one_claim(claim).claims[0], _one_claim(claim, *changes).claims[0]
    assert (here.verdict, there.verdict) == (before, after)
    assert here.reason != there.reason


@pytest.fixture(scope="module")
def full_result() -> Result:
    """Run the main job, whole."""
    return simulate("ep64_tp16_pp4", jobs=2)


EXPECTED = {
    "mesh-product": ("holds", "irrelevant"),
    "params-per-gpu": ("holds", "supports"),
    "weights": ("holds", "supports"),
    "heads-divide": ("holds", "irrelevant"),
    "hidden-divides": ("holds", "irrelevant"),
    "tp-optimal": ("refuted", "contradicts"),
    "fits": ("holds", "supports"),
    "headroom": ("holds", "supports"),
    "memory-used": ("depends", "irrelevant"),
    "memory-share": ("depends", "irrelevant"),
    "layers-divide": ("holds", "irrelevant"),
    "stages-balanced": ("refuted", "contradicts"),
    "minimises-bubbles": ("refuted", "contradicts"),
    "throughput": ("refuted", "contradicts"),
    "latency": ("refuted", "contradicts"),
    "stage-map": ("holds", "irrelevant"),
    "expert-map": ("holds", "irrelevant"),
    "one-expert-per-gpu": ("holds", "irrelevant"),
    "perfect-balance": ("refuted", "contradicts"),
    "all-to-all-defined": ("depends", "irrelevant"),
    "all-reduce-optimal": ("refuted", "contradicts"),
    "p2p-efficient": ("holds", "irrelevant"),
    "mesh-legal": ("refuted", "contradicts"),
    "serving-legal": ("refuted", "contradicts"),
    "optimal": ("refuted", "contradicts"),
}
"""What a careful reader of the document says of each atom (verdict, relevance)."""


@pytest.mark.slow
def test_the_verdicts_are_a_careful_readers(full_result: Result) -> None:
    """All atoms at once, with all alternatives and rivals."""
    found = {verdict.claim.id: (verdict.verdict, verdict.relevance) for verdict in full_result.claims}
    assert found == EXPECTED


def test_every_run_that_is_counted_is_a_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    """`engine.runs` counts the scenario, its probe, alternatives and rivals that ran, and no other."""
    ran = []
    run = Simulation.run

    def counting(self: Simulation) -> Run:
        ran.append(self)
        return run(self)

    monkeypatch.setattr(Simulation, "run", counting)
    illegal_and_legal = "alternatives=[{model.top_k: 1}, {parallel.convention: megatron}]"
    result = simulate("ep64_tp16_pp4", overrides=[*SMALL[:-1], illegal_and_legal, "rivals=[EP16_TP8_PP4_DP2]"])
    assert result.num_runs == len(ran)
    # the scenario and its probe, top-1, the rival, four changes of parts, and not the reading that is illegal
    assert len(ran) == 2 + 1 + 1 + 4


@pytest.mark.slow
def test_throughput_is_refuted_on_every_real_64_gb_device(full_result: Result) -> None:
    """MI250X GCD and Ascend 910B, in the most generous reading."""
    claim = next(c for c in full_result.to_dict()["claims"] if c["id"] == "throughput")
    devices = [a for a in claim["alternatives"] if "cluster.device.preset" in a["set"]]
    assert len(devices) == 2
    assert all(a["verdict"] == "refuted" for a in devices)


@pytest.mark.slow
def test_reasons_name_what_a_reader_needs(full_result: Result) -> None:
    """The figures of the design's table stand in the reasons, and each comes from the run."""
    reason = {verdict.claim.id: f"{verdict.reason} {verdict.relevance_reason}" for verdict in full_result.claims}
    assert "at least 256 GPUs are needed" in reason["mesh-legal"]
    assert "it would be 117.4 M, with 48 of 64 experts on other stages" in reason["params-per-gpu"]
    assert "spans 2 nodes" in reason["heads-divide"]
    assert "deadlock" in reason["all-to-all-defined"]
    assert "multinomial" in reason["perfect-balance"]
    assert "only where an expert serves all stages" in reason["expert-map"]
    assert "unsharded hidden state of 2.684 GB" in reason["memory-used"]
    assert "training would hold 8.5" in reason["fits"]
    assert "(p-1)/(m+p-1) is 4.5% with p = 4 and m = 64" in reason["minimises-bubbles"]
    assert "the bubble here is 6.1%, for stages are not equal" in reason["minimises-bubbles"]
    assert "with EP64_TP8_PP4_DP2 the whole step takes" in reason["all-reduce-optimal"]


@pytest.mark.slow
def test_one_fact_is_counted_once(full_result: Result) -> None:
    """25 claims of 18 facts, in few simulations, and each figure of the conclusion is the JSON's."""
    data = full_result.to_dict()
    assert (len(data["claims"]), len(data["facts"])) == (25, 18)
    assert {c["id"]: c["because_of"] for c in data["claims"] if c["because_of"]} == {
        "weights": "params-per-gpu",
        "hidden-divides": "heads-divide",
        "memory-share": "memory-used",
        "headroom": "fits",
        "latency": "throughput",
        "stage-map": "expert-map",
        "serving-legal": "mesh-legal",
    }
    assert data["engine"]["runs"] <= 40
    check_conclusion(data)


@pytest.mark.slow
def test_the_screen_of_the_main_job_is_short_and_begins_with_the_conclusion(full_result: Result) -> None:
    """About a screen and a half of at most 100 columns; the words of every claim stand on it."""
    file = io.StringIO()
    print_report(full_result.to_dict(), Console(file=file, width=160), written={}, verbose=False)
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= 100
    assert len(lines) <= 72
    assert lines == [line.rstrip() for line in lines]
    assert next(line for line in lines[2:] if line.startswith("Refuted: of the 18 facts"))
    text = " ".join(file.getvalue().split())
    assert all(f"“{verdict.claim.says}”" in text for verdict in full_result.claims)


def test_wires_alone_take_27_and_50_ms_per_all_reduce() -> None:
    """2.68 GB a layer, 4 layers: hierarchical 2(k-1)/k S/8 = 26.8 ms, flat 2(n-1)/n S/8 = 50.3 ms at 50 GB/s."""
    result = simulate("ep64_tp16_pp4", overrides=["claims=[]", "alternatives=[]", "rivals=[]", "workload.batches=1"])
    bounds = result.to_dict()["bounds"]
    stage_bytes = 4 * 128 * 10240 * 1024 * 2
    assert bounds["all_reduce_nic_hierarchical_s"] == pytest.approx(2 * (1 / 2) * stage_bytes / 8 / 50e9, rel=1e-12)
    assert bounds["all_reduce_nic_ring_s"] == pytest.approx(2 * (15 / 16) * stage_bytes / 8 / 50e9, rel=1e-12)


@pytest.mark.parametrize(
    ("top_k", "length", "sequences", "expected_s"),
    [(2, 10240, 128, 0.048), (1, 10240, 128, 0.029), (2, 2048, 640, 0.043), (1, 2048, 640, 0.023)],
)
def test_arithmetic_alone_at_the_full_peak(top_k: int, length: int, sequences: int, expected_s: float) -> None:
    """One forward pass over 1.31 M tokens at 64 x 989 TFLOP/s; quoted to two digits, for 1.3 M tokens."""
    result = simulate(
        "ep64_tp16_pp4",
        overrides=[
            "claims=[]",
            "alternatives=[]",
            "rivals=[]",
            "workload.batches=1",
            f"model.top_k={top_k}",
            f"workload.sequence_length={length}",
            f"workload.sequences={sequences}",
        ],
    )
    bound_s = result.to_dict()["bounds"]["batch_compute_s"]
    assert bound_s * 1.3e6 / (sequences * length) == pytest.approx(expected_s, abs=0.0006)
