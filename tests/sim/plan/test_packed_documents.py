"""Packed documents in a run: identities with sequences of one document, and a time of its own on each rank."""

import numpy as np
import pytest

from sim.build.build import build
from sim.errors import InvalidValueError
from sim.plan.costs import Costs
from sim.plan.ops import by_rank
from sim.run.simulate import simulate_scenario
from sim.scenario.scenario import Scenario
from sim.studies.why import explain_step
from workloads.kernels import Gemm

LONG_TAIL = {"kind": "lognormal", "mean": 700, "cv": 2.0}


def training(*, strategy="TP2_PP2_DP2", sequences=16, length=2048, documents=None, **sections):
    workload = {"kind": "training", "sequences": sequences, "sequence_length": length, "microbatches": 4}
    return Scenario.validated(
        {
            "cluster": {"preset": "dgx-h100", "num_nodes": 1},
            "model": {"layers": 4, "hidden": 1024, "heads": 8, "ffn": 4096, "vocab": 32000},
            "parallel": {"strategy": strategy, "convention": "megatron"},
            "workload": workload | ({} if documents is None else {"documents": documents}),
            **sections,
        }
    )


def spans(scenario):
    """Return what ran when, in an order that does not depend on which lanes ran for others."""
    arrays = simulate_scenario(scenario).run.trace.arrays()
    names = ("stage", "lane", "stream", "kind", "microbatch", "layer", "start_ns", "end_ns")
    return sorted(zip(*(arrays[name].tolist() for name in names), strict=True))


@pytest.mark.parametrize(
    ("documents", "sequences", "length"),
    [(1024, 32, 1024), (2048, 16, 2048), (100_000, 16, 2048)],
    ids=["two to a sequence", "one to a sequence", "longer than a sequence"],
)
@pytest.mark.parametrize("strategy", ["TP2_PP2_DP2", "TP2_PP2_CP2", "EP2_PP2_DP4"])
def test_documents_of_one_length_are_sequences_of_that_length(documents, sequences, length, strategy):
    experts = {"experts": 4, "top_k": 2} if strategy.startswith("EP") else {}
    model = {"layers": 4, "hidden": 1024, "heads": 8, "ffn": 4096, "vocab": 32000} | experts
    sections = {"strategy": strategy, "model": model, "routing": {"kind": "balanced"}}
    packed = spans(training(documents=documents, **sections))
    assert packed == spans(training(sequences=sequences, length=length, **sections))


def attention_ns(scenario):
    """Return the time that the kernels of attention take in each microbatch of each lane. Shape [lanes, M]."""
    trace = simulate_scenario(scenario).run.trace.unfolded()
    rows = trace.rows("compute")
    rows = rows[trace["kind"][rows] == "attention"]
    took_ns = np.zeros((trace.num_lanes, 4), dtype=np.int64)
    spent = (trace.ints("end_ns") - trace.ints("start_ns"))[rows]
    np.add.at(took_ns, (trace.ints("lane")[rows], trace.ints("microbatch")[rows]), spent)
    return took_ns


def test_even_lengths_give_every_microbatch_the_mean():
    uneven, even = training(documents=LONG_TAIL), training(documents=LONG_TAIL, what_if=["even_lengths"])
    lengths = build(uneven).work.attended_lengths
    assert np.unique(build(even).work.attended_lengths).tolist() == [round(lengths.mean())]
    assert np.unique(attention_ns(even)).size == 1
    took_ns = attention_ns(uneven)
    assert np.array_equal(np.argsort(took_ns, axis=None), np.argsort(lengths, axis=None))  # longer takes longer


def test_each_rank_takes_its_own_of_several_ops():
    costs = Costs(build(training()).work.cluster, dtype="bf16").kernels
    short, long = (costs.compute([Gemm(kind="attention", m=tokens, n=512, k=512)], 3) for tokens in (512, 8192))
    of_rank = np.array([1, 0, 1])
    found = by_rank([short, long], of_rank)
    assert found.total_ns.tolist() == [long.total_ns[0], short.total_ns[0], long.total_ns[0]]
    assert found.kernels[0].flops == pytest.approx((2 * long.kernels[0].flops + short.kernels[0].flops) / 3)


def test_uneven_lengths_are_a_cause_of_straggling():
    why = explain_step(training(strategy="TP4_PP2", sequences=4, documents=LONG_TAIL, length=8192))
    causes = {cause["name"]: cause for cause in why.to_dict()["stragglers"]["causes"]}
    assert causes["even_lengths"]["gain_s"] > 0


def test_documents_without_their_mean_are_refused():
    with pytest.raises(InvalidValueError, match=r"workload\.documents"):
        simulate_scenario(training(documents={"kind": "lognormal", "cv": 1.0}))
