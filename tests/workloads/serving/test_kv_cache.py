"""Blocks of keys and values, against counts that can be done by hand."""

import numpy as np
import pytest

from workloads.serving.kv_cache import KvCache
from workloads.serving.requests import Request, ServedRequest


def served(number, prompt, *, outputs=4, hashes=(), hash_tokens=64):
    request = Request(
        name=str(number), prompt_tokens=prompt, output_tokens=outputs, prefix_hashes=hashes, hash_tokens=hash_tokens
    )
    return ServedRequest(request, number)


def admit(cache, one):
    match, cached = cache.find(one)
    assert cache.start(one, match, one.num_tokens)
    one.num_computed = one.num_tokens
    return cached


def test_a_prefix_is_found_in_whole_blocks_and_one_token_is_always_computed():
    cache = KvCache(num_blocks=100, block_size=16)
    assert admit(cache, served(0, 160, hashes=(1, 2, 3))) == 0
    assert cache.num_free == 90
    assert admit(cache, served(1, 160, hashes=(1, 2, 9))) == 128  # two parts of 64 tokens, shared
    assert cache.num_free == 88
    assert admit(cache, served(2, 160, hashes=(1, 2, 3))) == 144  # not the last block: a token must be computed
    assert admit(cache, served(3, 160, hashes=(2, 1, 3))) == 0  # equal parts after others are others


def test_freed_blocks_stay_cached_until_they_are_taken_ends_first():
    cache = KvCache(num_blocks=12, block_size=16)
    first = served(0, 128, hashes=(1, 2))
    admit(cache, first)
    cache.release(first, is_done=True)
    assert cache.num_free == 12
    other = served(1, 96)  # 4 blocks were never used, then 2 of the end of the first prompt are overwritten
    admit(cache, other)
    cache.release(other, is_done=True)
    assert admit(cache, served(2, 128, hashes=(1, 2))) == 96
    assert cache.num_free == 4


def test_a_preempted_request_finds_what_it_had_computed():
    cache = KvCache(num_blocks=10, block_size=16)
    one = served(0, 100)
    admit(cache, one)
    one.num_preemptions = 1
    cache.release(one, is_done=False)
    assert cache.num_free == 10
    assert admit(cache, one) == 96
    assert cache.num_free == 3


def test_without_a_prefix_cache_nothing_is_found():
    cache = KvCache(num_blocks=10, block_size=16, has_prefix_cache=False)
    one = served(0, 64, hashes=(1,))
    admit(cache, one)
    cache.release(one, is_done=True)
    assert admit(cache, served(1, 64, hashes=(1,))) == 0


def test_a_full_cache_takes_nobody_and_changes_nothing():
    cache = KvCache(num_blocks=4, block_size=16)
    admit(cache, served(0, 64))
    late = served(1, 16)
    assert not cache.start(late, [], 16)
    assert (cache.num_free, late.num_blocks) == (0, 0)


@pytest.mark.parametrize("seed", range(6))
def test_no_block_is_lost_or_made_whatever_comes_and_goes(seed):
    random = np.random.default_rng(seed)
    cache = KvCache(num_blocks=64, block_size=4)
    running = []
    for number in range(400):
        hashes = tuple(random.integers(0, 3, random.integers(1, 5)).tolist())
        one = served(number, 8 * len(hashes) + int(random.integers(0, 4)) - 3, hashes=hashes, hash_tokens=8)
        match, cached = cache.find(one)
        if cache.start(one, match, min(one.num_tokens, cached + 6)):
            running.append(one)
        for other in list(running):
            if random.random() < 0.3:
                other.num_preemptions += 1
                cache.release(other, is_done=bool(random.random() < 0.5))
                running.remove(other)
            elif cache.grow(other, other.num_tokens):
                other.num_computed = other.num_tokens
        free = sum(run.num_blocks for run in cache._free.values())
        shared = {id(run): run.num_blocks for one in running for run, _ in one.shared}
        own = sum(one.num_blocks - sum(count for _, count in one.shared) for one in running)
        assert free == cache.num_free
        assert free + sum(shared.values()) + own == cache.num_blocks
    for one in running:
        cache.release(one, is_done=True)
    assert cache.num_free == cache.num_blocks
