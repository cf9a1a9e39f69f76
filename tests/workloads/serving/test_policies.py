"""Which requests form a batch, step by step."""

import pytest

from sim.errors import InvalidValueError
from workloads.serving.kv_cache import KvCache
from workloads.serving.policies import POLICY_CLASSES, SglangScheduler, VllmScheduler
from workloads.serving.requests import Request, ServedRequest
from workloads.serving.server import POLICIES, ServerLimits


def scheduler_of(kind=VllmScheduler, *, blocks=100, tokens=8, seqs=4, block_size=4, **more):
    limits = ServerLimits(max_num_batched_tokens=tokens, max_num_seqs=seqs, block_size=block_size, **more)
    return kind(limits, KvCache(num_blocks=blocks, block_size=block_size, has_prefix_cache=False))


def submit(scheduler, *shapes):
    for number, (prompt, output) in enumerate(shapes):
        request = Request(name=str(number), prompt_tokens=prompt, output_tokens=output)
        scheduler.submit(ServedRequest(request, number))


def steps_of(scheduler, most=200):
    """Run to the end; return the tokens of each request in each step."""
    steps = []
    while scheduler.has_work:
        batch = scheduler.schedule()
        steps.append({served.number: tokens for served, tokens in batch.scheduled})
        scheduler.complete(batch)
        assert len(steps) < most
    return steps


def test_every_policy_has_its_scheduler():
    assert tuple(POLICY_CLASSES) == POLICIES


def test_vllm_fills_one_budget_with_decodes_first_and_chunks_of_prompts_after():
    scheduler = scheduler_of()
    submit(scheduler, (3, 3), (10, 2))
    assert steps_of(scheduler) == [{0: 3, 1: 5}, {0: 1, 1: 5}, {0: 1, 1: 1}]


def test_vllm_admits_no_more_than_max_num_seqs():
    scheduler = scheduler_of(seqs=1)
    submit(scheduler, (2, 1), (2, 1))
    assert steps_of(scheduler) == [{0: 2}, {1: 2}]


def test_vllm_preempts_the_last_request_and_computes_it_again():
    """4 blocks of 4 tokens: at 8 tokens each both are full; the second is preempted when the first needs a third."""
    scheduler = scheduler_of(blocks=4, tokens=16)
    submit(scheduler, (7, 4), (7, 4))
    steps = steps_of(scheduler)
    assert steps == [{0: 7, 1: 7}, {0: 1, 1: 1}, {0: 1}, {0: 1}, {1: 9}, {1: 1}]
    assert scheduler.num_preemptions == 1
    assert scheduler.cache.num_free == 4


def test_vllm_admits_nobody_in_a_step_that_preempts():
    scheduler = scheduler_of(blocks=4, tokens=16)
    submit(scheduler, (7, 4), (7, 4), (1, 1))
    assert {2: 1} not in steps_of(scheduler)[:3]


def test_a_long_prompt_is_cut_by_its_own_threshold():
    scheduler = scheduler_of(long_prefill_token_threshold=3)
    submit(scheduler, (7, 1))
    assert steps_of(scheduler) == [{0: 3}, {0: 3}, {0: 1}]


def test_sglang_computes_prompts_or_decodes_and_not_both():
    scheduler = scheduler_of(SglangScheduler)
    submit(scheduler, (3, 3), (10, 2))
    assert steps_of(scheduler) == [{0: 3, 1: 5}, {1: 5}, {0: 1, 1: 1}, {0: 1}]


def test_sglang_reserves_room_for_outputs_that_it_expects():
    """20 tokens of cache: the first has 4 and may make 10, so that the second, which needs 14, waits for its end."""
    scheduler = scheduler_of(SglangScheduler, blocks=5)
    submit(scheduler, (4, 10), (4, 10))
    steps = steps_of(scheduler)
    assert [set(step) for step in steps].count({0, 1}) == 0
    assert scheduler.num_preemptions == 0


def test_sglang_retracts_the_request_with_the_fewest_outputs():
    scheduler = scheduler_of(SglangScheduler, blocks=6, schedule_conservativeness=0.0)
    submit(scheduler, (4, 12), (8, 12))
    steps_of(scheduler)
    assert scheduler.num_preemptions >= 1
    assert scheduler.cache.num_free == 6


def test_a_server_for_decodes_computes_no_prompt():
    scheduler = scheduler_of(role="decode")
    submit(scheduler, (40, 3))
    assert steps_of(scheduler) == [{0: 1}, {0: 1}, {0: 1}]


def test_a_batch_without_a_token_for_each_request_is_refused():
    with pytest.raises(InvalidValueError, match=r"at least workload.server.max_num_seqs = 4"):
        ServerLimits(max_num_batched_tokens=3, max_num_seqs=4)
