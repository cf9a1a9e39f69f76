"""The conclusion of a run: every figure is one of the JSON, and the sentences follow the verdicts."""

import pytest
from conclusions import check_conclusion

from sim.studies.claims import simulate

SMALL = ("workload.batches=2", "workload.sequences=16", "workload.microbatches=4", "alternatives=[]")
LEGAL = "claims=[{id: legal, says: correct, source: '10', metric: mesh.legal_megatron, expect: '== true'}]"
FAST = "claims=[{id: fast, says: fast, source: '6', metric: tokens_per_s, expect: '>= 1 tokens/s'}]"


@pytest.mark.parametrize(
    ("scenario", "changes", "starts"),
    [
        ("ep64_tp16_pp4", [*SMALL, "claims=[]"], ["A step takes", "Most of a stage's time goes to"]),
        (
            "ep64_tp16_pp4",
            [*SMALL, LEGAL],
            [
                "Refuted: the fact that the claims state is refuted",
                "EP64_TP16_PP4 is not legal on 64 GPUs under Megatron's rules",
            ],
        ),
        (
            "ep64_tp16_pp4",
            [*SMALL, FAST, "seeds=2"],
            ["Holds: the fact that the claims state holds", "It does", "It is"],
        ),
        (
            "ep64_tp16_pp4",
            [*SMALL, "claims=[]", "cluster.device.memory=1 GB"],
            ["It does not fit into memory: a GPU needs", "A step takes", "Most"],
        ),
    ],
)
def test_every_figure_of_a_conclusion_is_one_of_the_json(scenario: str, changes: list[str], starts: list[str]) -> None:
    """With claims and without, and where memory is too small."""
    data = simulate(scenario, overrides=changes).to_dict()
    text = " ".join(data["conclusion"])
    at = [text.find(start) for start in starts]
    assert -1 not in at
    assert at == sorted(at)
    check_conclusion(data)
