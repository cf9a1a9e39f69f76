"""A request, a request in service, and what a step computes of the requests of one rank.

Model
-----
A request has `prompt_tokens` and asks for `output_tokens`. A step computes tokens of a request whose keys and values
are not cached; when a step has computed the last of them, it also makes the next output token::

    tokens   = prompt + outputs so far
    computed = tokens whose keys and values are in the cache

Preemption by recomputation sets `computed` to 0: outputs so far are then computed again like a prompt.

A scheduler that runs ahead of the GPUs forms a batch while the one before it is computed. It counts the outputs of that
batch as tokens already, for their number is known; their values are not needed to form a batch.

With speculative decoding a step computes the last output of a request and `num_drafts` tokens that a draft model
proposes, and keeps those up to the first that the model itself would not have made. A draft is kept with probability p
if all drafts before it are, so that the outputs of a step have the mean

    1 + p + p^2 + ... + p^num_drafts = acceptance length

The scheduler counts all of them until the step has been computed, and then takes back what was not kept.

References
----------
Leviathan et al., "Fast inference from transformers via speculative decoding", 2023, arXiv 2211.17192, equation 1.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["Batch", "Chunk", "Request", "ServedRequest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a user asks for."""

    name: str
    """Name in results."""
    arrival_s: float = 0.0
    """Time of arrival; in a closed loop a request arrives when an earlier one has ended."""
    prompt_tokens: int
    """Tokens of the prompt, at least 1."""
    output_tokens: int
    """Tokens of the answer, at least 1."""
    prefix_hashes: tuple[int, ...] = ()
    """Names of the parts of the prompt, each of `hash_tokens` tokens but the last; equal parts that follow equal parts
    hold equal tokens. Empty: the prompt has nothing in common with others."""
    hash_tokens: int = 512
    """Tokens of a part (512 in Mooncake's traces)."""

    @property
    def total_tokens(self) -> int:
        """Most tokens whose keys and values are cached: the last output is never computed."""
        return self.prompt_tokens + self.output_tokens - 1


@dataclass(slots=True, eq=False)
class ServedRequest:
    """A request in service, with what the scheduler and the cache know of it."""

    request: Request
    number: int
    """Place among the requests of the run, from 0."""
    num_tokens: int = field(init=False)
    """Tokens of the prompt, outputs so far, and outputs of batches in flight where the scheduler runs ahead of them."""
    num_computed: int = 0
    """Tokens that are computed, or being computed."""
    num_outputs: int = 0
    """Outputs so far."""
    num_in_flight: int = 0
    """Batches in flight that compute tokens of the request."""
    num_counted: int = 0
    """Outputs that `num_tokens` counts."""
    num_cached_tokens: int = 0
    """Tokens of the prompt that were found in the cache at the first admission."""
    num_preemptions: int = 0
    """How often it was preempted."""
    num_blocks: int = 0
    """Blocks that it has."""
    shared: list[tuple[object, int]] = field(default_factory=list)
    """Cached parts that it uses, with the blocks of each (`kv_cache`)."""
    num_registered: int = 0
    """Parts of the prompt that the cache knows by now (`kv_cache`)."""
    has_gap: bool = False
    """Whether some of its blocks are copies of cached ones, so that its blocks are no chain (`kv_cache`)."""
    keys: tuple[int, ...] | None = None
    """Chained names of the parts of the prompt (`kv_cache`)."""

    def __post_init__(self) -> None:
        self.num_tokens = self.request.prompt_tokens

    @property
    def remaining_outputs(self) -> int:
        """Outputs that are still to come."""
        return self.request.output_tokens - self.num_outputs

    def count(self, outputs: int) -> None:
        """Count outputs, or take them back, as tokens to compute; the last output of all is never computed."""
        request = self.request
        counted = self.num_counted = self.num_counted + outputs
        self.num_tokens = request.prompt_tokens + (counted if counted < request.output_tokens else counted - 1)

    @property
    def is_done(self) -> bool:
        """Whether all outputs are there."""
        return self.num_outputs >= self.request.output_tokens


class Chunk(NamedTuple):
    """A part of a prompt that a step computes."""

    tokens: int
    """Tokens of the chunk."""
    context: int
    """Tokens before it that are in the cache."""


@dataclass(slots=True, eq=False)
class Batch:
    """What a step computes of the requests of one rank."""

    scheduled: list[tuple[ServedRequest, int]] = field(default_factory=list)
    """Each request with its tokens, in the order in which they were scheduled."""
    admitted: list[ServedRequest] = field(default_factory=list)
    """Requests that were waiting before."""
    sampled: list[tuple[ServedRequest, int]] = field(default_factory=list)
    """Requests that receive output tokens, each with the most that it may receive."""
    chunks: list[Chunk] = field(default_factory=list)
    """Parts of prompts."""
    num_tokens: int = 0
    """Tokens of all requests."""
    num_decodes: int = 0
    """Requests that are decoded: the last output is computed, and drafts of the next ones."""
    num_decode_tokens: int = 0
    """Tokens of these requests."""
    decode_context: int = 0
    """Tokens that the decoded tokens attend to, themselves among them, summed over the requests."""
    num_preempted: int = 0
    """Requests that were preempted for this batch."""

    def add(self, served: ServedRequest, tokens: int) -> None:
        """Schedule `tokens` of a request; they count as computed from now on."""
        context = served.num_computed
        computed = served.num_computed = context + tokens
        self.scheduled.append((served, tokens))
        self.num_tokens += tokens
        if context and (tokens == 1 or context == served.num_tokens - 1):
            self.num_decodes += 1
            self.num_decode_tokens += tokens
            self.decode_context += computed
        else:
            self.chunks.append(Chunk(tokens, context))
        served.num_in_flight += 1
        if computed >= served.num_tokens:
            self.sampled.append((served, 1 + computed - served.num_tokens))

    def __bool__(self) -> bool:
        return bool(self.scheduled)
