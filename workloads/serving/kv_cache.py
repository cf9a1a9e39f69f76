"""The blocks of keys and values of one rank, with a cache of prefixes.

Model
-----
A block holds `block_size` tokens of one request. Free blocks stand in one queue, the longest free first, as in vLLM V1:
a block whose tokens are named stays cached while it is free, until a request takes it. A request gives its blocks back
last block first, so that the ends of prompts are overwritten before their beginnings.

Blocks with equal tokens after equal tokens are one run, with one chained name: the parts of a prompt that a trace
names, and all that a preempted request has computed. A prefix is found in whole blocks, and at least one token of a
request is always computed.

Assumptions
-----------
Two requests that compute the same part at the same time each have blocks of their own; the first one's are cached.
Blocks of a run that are shared while its first request goes on stay until the last of the two has ended.

References
----------
vLLM documentation, "Automatic prefix caching" (V1): hash chain of full blocks, free queue, order of freeing.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from workloads.serving.requests import ServedRequest

__all__ = ["KvCache"]


@dataclass(slots=True, eq=False)
class _Run:
    """Blocks that follow each other under one name."""

    key: int | None
    """Chained name; None: nobody can ask for the tokens."""
    num_blocks: int
    """Blocks that hold tokens."""
    num_users: int = 0
    """Requests that use it; 0: its blocks are free."""
    filler: ServedRequest | None = None
    """The request that adds blocks to it; None: nobody does."""


_Match = list[tuple[_Run, int]]


class KvCache:
    """Blocks of one rank.

    >>> cache = KvCache(num_blocks=4, block_size=16)
    >>> cache.num_free, cache.blocks_of(17)
    (4, 2)
    """

    def __init__(self, *, num_blocks: int, block_size: int, has_prefix_cache: bool = True) -> None:
        self.num_blocks, self.block_size = num_blocks, block_size
        self.has_prefix_cache = has_prefix_cache
        self.num_free = num_blocks
        """Free blocks, cached ones among them."""
        self._free: OrderedDict[int, _Run] = OrderedDict({-1: _Run(None, num_blocks)})
        self._runs: dict[int, _Run] = {}
        self._num_entries = 0

    def blocks_of(self, num_tokens: int) -> int:
        """Return the blocks that hold so many tokens."""
        return -(-num_tokens // self.block_size)

    def find(self, served: ServedRequest) -> tuple[_Match, int]:
        """Return the cached runs that a request without blocks begins with, and the tokens that they hold."""
        if not self.has_prefix_cache:
            return [], 0
        limit = (served.num_tokens - 1) // self.block_size
        match: _Match = []
        found = 0
        for key, size in self._parts(served):
            run = self._runs.get(key)
            if run is None or not run.num_blocks or found >= limit:
                break
            count = min(run.num_blocks, limit - found, size or run.num_blocks)
            match.append((run, count))
            found += count
            if size is None or count < size:
                break
        return match, found * self.block_size

    def start(self, served: ServedRequest, match: _Match, num_tokens: int) -> bool:
        """Give a request the blocks of `num_tokens`, `match` among them; False: there are not enough, nothing is done.

        The request then has computed what `match` holds.
        """
        cached = sum(count for _, count in match)
        returning = sum(run.num_blocks for run, _ in match if not run.num_users)
        needed = self.blocks_of(num_tokens) - cached
        if needed > self.num_free - returning:
            return False
        for run, count in match:
            if not run.num_users:
                self.num_free -= run.num_blocks
                del self._free[id(run)]
            run.num_users += 1
            served.shared.append((run, count))
        served.num_blocks = cached
        served.num_computed = cached * self.block_size
        self._continue_last(served, match)
        return self.grow(served, num_tokens)

    def grow(self, served: ServedRequest, num_tokens: int) -> bool:
        """Give a request the blocks of `num_tokens` in all; False: there are not enough, and it keeps what it has."""
        needed = -(-num_tokens // self.block_size) - served.num_blocks
        if needed > self.num_free:
            return False
        if needed > 0:
            self._take(needed)
            served.num_blocks += needed
        if self.has_prefix_cache and served.num_registered < len(served.request.prefix_hashes):
            self._register(served, num_tokens)
        return True

    def release(self, served: ServedRequest, *, is_done: bool) -> None:
        """Take all blocks of a request back; what a preempted one has computed may be found again."""
        shared = sum(count for _, count in served.shared)
        own = served.num_blocks - shared
        full = served.num_computed // self.block_size - shared
        key = None
        if self.has_prefix_cache and not is_done and not served.has_gap and full > 0 and self._is_whole(served):
            key = self._own_key(served)
            last = served.shared[-1][0] if served.shared else None
            if isinstance(last, _Run) and last.key == key and last.num_users == 1:  # found again, and gone on with
                last.num_blocks += full
                own, key = own - full, None
        if own > 0:
            self._put_own(own, full if key is not None else 0, key)
        for run, _ in reversed(served.shared):
            assert isinstance(run, _Run)
            run.num_users -= 1
            if run.filler is served:
                run.filler = None
            if not run.num_users:
                self._free[id(run)] = run
                self.num_free += run.num_blocks
        served.shared.clear()
        served.num_blocks = served.num_computed = served.num_registered = 0
        served.has_gap = False

    # ---- private -------------------------------------------------------------------------------------------------

    def _parts(self, served: ServedRequest) -> Iterator[tuple[int, int | None]]:
        """Yield the chained name and the blocks of each part of a prompt, then the name of what follows it."""
        for position, key in enumerate(self._keys(served)):
            yield key, self._part_blocks(served, position)
        if served.num_preemptions:
            yield self._own_key(served), None

    def _keys(self, served: ServedRequest) -> tuple[int, ...]:
        if served.keys is None:
            chain, keys = 0, []
            for name in served.request.prefix_hashes:
                chain = hash((chain, name))
                keys.append(chain)
            served.keys = tuple(keys)
        return served.keys

    def _own_key(self, served: ServedRequest) -> int:
        return hash(("request", served.number))

    def _part_blocks(self, served: ServedRequest, position: int) -> int:
        """Return the full blocks of a part of the prompt."""
        request = served.request
        rest = request.prompt_tokens - position * request.hash_tokens
        return max(0, min(request.hash_tokens, rest)) // self.block_size

    def _is_whole(self, served: ServedRequest) -> bool:
        return served.num_registered >= len(served.request.prefix_hashes)

    def _continue_last(self, served: ServedRequest, match: _Match) -> None:
        """Let a request go on with the last part that it found, and count the parts that it has."""
        parts = len(served.request.prefix_hashes)
        served.num_registered = min(len(match), parts)
        if not match or len(match) > parts:
            return
        run, count = match[-1]
        if count < self._part_blocks(served, len(match) - 1):
            if run.filler is None and count == run.num_blocks:
                run.filler = served
                served.num_registered -= 1
            else:
                served.has_gap = True

    def _register(self, served: ServedRequest, num_tokens: int) -> None:
        """Name the full blocks of the prompt, of `num_tokens` that the request has blocks for."""
        keys, hash_tokens = self._keys(served), served.request.hash_tokens
        while served.num_registered < len(keys):
            position = served.num_registered
            whole = self._part_blocks(served, position)
            begun = min(whole, (num_tokens - position * hash_tokens) // self.block_size)
            if begun <= 0 and whole > 0:
                return
            if not served.has_gap and whole > 0:
                self._add_blocks(served, keys[position], begun)
            if begun < whole:
                return
            served.num_registered += 1

    def _add_blocks(self, served: ServedRequest, key: int, num_blocks: int) -> None:
        """Let the run of a name have `num_blocks` blocks of a request, unless another request has it."""
        run = self._runs.get(key)
        if run is not None and run.filler is not served:
            served.has_gap = True
            return
        if run is None:
            run = self._runs[key] = _Run(key, 0, num_users=1, filler=served)
            served.shared.append((run, 0))
        run.num_blocks = max(run.num_blocks, num_blocks)
        if served.shared and served.shared[-1][0] is run:
            served.shared[-1] = (run, run.num_blocks)

    def _put_own(self, num_blocks: int, num_full: int, key: int | None) -> None:
        """Put the blocks that only one request had into the queue, those without a name first."""
        nameless = num_blocks - num_full
        for name, count in ((None, nameless), (key, num_full)):
            if count > 0:
                run = _Run(name, count)
                if name is not None:
                    self._forget(name)
                    self._runs[name] = run
                self._free[id(run)] = run
                self.num_free += count

    def _forget(self, key: int) -> None:
        """Take the name off a run that still has it."""
        run = self._runs.pop(key, None)
        if run is not None:
            run.key = None

    def _take(self, num_blocks: int) -> None:
        """Take blocks from the front of the queue."""
        self.num_free -= num_blocks
        while num_blocks:
            name, run = next(iter(self._free.items()))
            taken = min(num_blocks, run.num_blocks)
            run.num_blocks -= taken
            num_blocks -= taken
            if not run.num_blocks:
                del self._free[name]
                if run.key is not None:
                    self._runs.pop(run.key, None)
                    run.key = None
