"""Real runs of vLLM, end to end: what is within their tolerances stays there."""

import pytest

from sim.studies.validate import validate

CASES = ("vllm_qwen3_30b_dp2ep2", "vllm_llama_8b", "vllm_llama_8b_rtx4090")


@pytest.mark.parametrize("case", CASES)
def test_a_measured_run_is_met_within_its_tolerances(case):
    validation = validate((f"serving/{case}",))
    errors = {figure.metric: figure.error_pct for figure in validation.figures}
    assert set(errors) == {"ttft_mean_s", "tpot_mean_s", "e2e_latency_mean_s"}
    assert not validation.has_failed, errors
