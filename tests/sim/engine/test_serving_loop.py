"""The loop of a server against counts that can be done by hand, and against queueing theory."""

import numpy as np
import pytest

from sim.engine.serving import ServeOptions, serve
from sim.errors import SimulationError
from sim.plan.serving_costs import StepTime
from workloads.serving.balancers import LeastLoaded, RoundRobin
from workloads.serving.kv_cache import KvCache
from workloads.serving.policies import SglangScheduler, VllmScheduler
from workloads.serving.requests import Request
from workloads.serving.server import ServerLimits
from workloads.serving.speculation import Acceptance

MS = 1_000_000


class LinearCosts:
    """A step takes a time, and a time for each token of the rank with the most."""

    def __init__(self, step_ns=10 * MS, token_ns=MS, num_stages=1):
        self.step_ns, self.token_ns, self.num_stages = step_ns, token_ns, num_stages

    def step(self, batches):
        """Return the time of a step."""
        time_ns = self.step_ns + self.token_ns * max(batch.num_tokens for batch in batches)
        return StepTime((time_ns,) * self.num_stages, (("attention", time_ns * self.num_stages),))


def rank(*, tokens=100, seqs=100, blocks=1000):
    limits = ServerLimits(max_num_batched_tokens=tokens, max_num_seqs=seqs)
    return VllmScheduler(limits, KvCache(num_blocks=blocks, block_size=16, has_prefix_cache=False))


def requests_of(*rows):
    return [
        Request(name=str(n), arrival_s=arrival_s, prompt_tokens=prompt, output_tokens=output)
        for n, (arrival_s, prompt, output) in enumerate(rows)
    ]


def ahead():
    """Return a rank whose scheduler runs a batch ahead."""
    limits = ServerLimits(max_num_batched_tokens=100, max_num_seqs=100, async_scheduling=True)
    return VllmScheduler(limits, KvCache(num_blocks=1000, block_size=16, has_prefix_cache=False))


def run(requests, groups=None, costs=None, balancer=None, **options):
    groups = groups or [[rank()]]
    num_ranks = sum(map(len, groups))
    return serve(requests, groups, costs or LinearCosts(), balancer or RoundRobin(num_ranks), ServeOptions(**options))


def test_one_request_alone_takes_its_prompt_and_then_a_step_for_each_token():
    log = run(requests_of((0.5, 30, 5)))
    (record,) = log.requests
    assert record.first_ns - record.arrival_ns == 40 * MS
    assert record.end_ns - record.first_ns == 4 * 11 * MS
    assert dict(log.token_gaps_ns) == {11 * MS: 4}


def test_a_request_that_arrives_in_a_step_waits_for_its_end_and_then_shares_the_next():
    log = run(requests_of((0.0, 30, 3), (0.010, 20, 1)))
    first, second = log.requests
    assert (second.scheduled_ns, second.first_ns) == (40 * MS, (40 + 10 + 1 + 20) * MS)
    assert first.end_ns == (71 + 11) * MS
    assert log.token_gaps_ns == {31 * MS: 1, 11 * MS: 1}


def test_a_prompt_longer_than_the_budget_takes_several_steps():
    log = run(requests_of((0.0, 250, 1)))
    assert log.requests[0].first_ns == (3 * 10 + 250) * MS
    assert [step.num_prefill_tokens for step in log.steps] == [100, 100, 50]


def test_ranks_that_exchange_tokens_step_together_and_others_do_not():
    requests = requests_of((0.0, 90, 1), (0.0, 10, 2))
    together = run(requests, [[rank(), rank()]])
    apart = run(requests, [[rank()], [rank()]])
    assert together.requests[1].first_ns == 100 * MS
    assert apart.requests[1].first_ns == 20 * MS


def test_as_many_batches_are_in_flight_as_stages():
    """Two requests take turns on two stages: each has a token every two stage times, and both stages always work."""
    requests = requests_of((0.0, 1, 10), (0.001, 1, 10))
    log = run(requests, costs=LinearCosts(num_stages=2), num_stages=2)
    assert {step.end_ns - step.start_ns for step in log.steps} == {22 * MS}
    assert log.requests[0].end_ns == 220 * MS
    assert log.requests[1].end_ns == 231 * MS


def test_a_closed_loop_holds_its_concurrency():
    log = run(requests_of(*[(0.0, 10, 3)] * 6), concurrency=2)
    assert [record.arrival_ns for record in log.requests[:2]] == [0, 0]
    ends = sorted(record.end_ns for record in log.requests)
    assert [record.arrival_ns for record in log.requests[2:]] == [end + 1 for end in ends[:4]]


def test_a_scheduler_that_runs_ahead_has_a_request_wait_for_the_batch_that_is_formed_too():
    """The second request arrives in the prompt of the first: a decode has been formed, and comes before it."""
    requests = requests_of((0.0, 30, 6), (0.010, 20, 1))
    together, later = run(requests), run(requests, [[ahead()]], runs_ahead=True)
    assert together.requests[1].first_ns == (40 + 10 + 1 + 20) * MS
    assert later.requests[1].scheduled_ns == (40 + 11) * MS
    assert later.requests[1].first_ns == (40 + 11 + 10 + 1 + 20) * MS
    assert later.token_gaps_ns == {11 * MS: 4, 31 * MS: 1}


def test_a_request_that_runs_ahead_computes_each_token_once():
    log = run(requests_of(*[(0.0, 10, n) for n in (1, 2, 9)]), [[ahead()]], runs_ahead=True)
    assert log.num_prefilled + log.num_decoded == 3 * 10 + 0 + 1 + 8
    assert [one.num_outputs for one in log.served] == [1, 2, 9]


@pytest.mark.parametrize("runs_ahead", [False, True])
def test_drafts_that_are_all_kept_make_answers_as_much_faster(runs_ahead):
    """Ten outputs: one of the prompt, then two steps of 1 + 3 tokens, and a last one that needs a single token."""
    limits = ServerLimits(
        max_num_batched_tokens=100, max_num_seqs=9, num_drafts=3, acceptance_length=4.0, async_scheduling=runs_ahead
    )
    acceptance = Acceptance(num_drafts=3, acceptance_length=4.0, seed=1)
    scheduler = VllmScheduler(limits, KvCache(num_blocks=99, block_size=16, has_prefix_cache=False), acceptance)
    log = run(requests_of((0.0, 20, 10)), [[scheduler]], runs_ahead=runs_ahead)
    assert log.token_gaps_ns == {14 * MS: 2, 11 * MS: 1}
    assert (log.num_decoded, log.num_rejected) == (9, 0)


@pytest.mark.parametrize("runs_ahead", [False, True])
def test_a_step_yields_the_acceptance_length_and_drafts_that_are_not_kept_are_computed_again(runs_ahead):
    limits = ServerLimits(
        max_num_batched_tokens=400, max_num_seqs=40, num_drafts=3, acceptance_length=2.5, async_scheduling=runs_ahead
    )
    acceptance = Acceptance(num_drafts=3, acceptance_length=2.5, seed=1)
    scheduler = VllmScheduler(limits, KvCache(num_blocks=9999, block_size=16, has_prefix_cache=False), acceptance)
    log = run(requests_of(*[(0.0, 5, 400)] * 40), [[scheduler]], runs_ahead=runs_ahead)
    assert log.num_prefilled + log.num_decoded - log.num_rejected == 40 * (5 + 399)
    assert 40 * 399 / sum(log.token_gaps_ns.values()) == pytest.approx(2.5, rel=0.02)


def test_blocks_that_run_out_while_a_batch_is_ahead_preempt_and_all_requests_end():
    limits = ServerLimits(max_num_batched_tokens=100, max_num_seqs=9, async_scheduling=True)
    scheduler = VllmScheduler(limits, KvCache(num_blocks=5, block_size=16, has_prefix_cache=False))
    log = run(requests_of(*[(0.0, 20, 30)] * 4), [[scheduler]], runs_ahead=True)
    assert log.num_preemptions > 0
    assert log.blocks_left == [5]
    assert {one.num_outputs for one in log.served} == {30}


def test_sglang_receives_requests_after_so_many_batches_of_decodes():
    """One request decodes; another that arrives in its third decode is received after the fifth."""

    def first_ns(interval):
        limits = ServerLimits(policy="sglang", max_num_batched_tokens=100, max_num_seqs=9, receive_interval=interval)
        scheduler = SglangScheduler(limits, KvCache(num_blocks=999, block_size=1, has_prefix_cache=False))
        return run(requests_of((0.0, 30, 20), (0.065, 20, 1)), [[scheduler]]).requests[1].first_ns

    assert first_ns(1) == (40 + 3 * 11 + 30) * MS
    assert first_ns(5) == (40 + 5 * 11 + 30) * MS


def test_the_balancer_counts_what_it_sent_until_it_learns_again():
    requests = requests_of(*[(0.0, 10, 2)] * 4)
    log = run(requests, [[rank()], [rank()]], balancer=LeastLoaded(2), balancer_interval_ns=100 * MS)
    assert [record.rank for record in log.requests] == [0, 1, 0, 1]


def test_the_mean_wait_of_a_queue_with_equal_service_is_that_of_theory():
    """M/D/1 at load 0.6 waits 0.6 / (2 * 0.4) services on average (Pollaczek and Khinchine)."""
    random = np.random.default_rng(3)
    num, service_s = 20_000, 0.02
    times = np.cumsum(random.exponential(service_s / 0.6, num))
    costs = LinearCosts(step_ns=19 * MS)
    log = run(requests_of(*((t, 1, 1) for t in times)), [[rank(seqs=1)]], costs)
    waits_s = np.array([record.scheduled_ns - record.arrival_ns for record in log.requests]) / 1e9
    batches = waits_s.reshape(20, -1).mean(axis=1)
    error = 4 * batches.std() / len(batches) ** 0.5
    assert abs(waits_s.mean() - service_s * 0.6 / 0.8) < error < 0.3 * service_s


def test_a_run_that_never_drains_is_stopped_and_said_so():
    with pytest.raises(SimulationError, match=r"never drains: 1 of 1 requests are left.*Free KV blocks"):
        run(requests_of((0.0, 30, 30)), [[rank(blocks=3)]])


def test_a_run_over_its_events_is_ended():
    with pytest.raises(SimulationError, match=r"at most 5 events, got more at .* with 1 of 1 requests left"):
        run(requests_of((0.0, 30, 30)), max_events=5)
