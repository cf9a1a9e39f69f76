"""The limits of a server, as a framework's version sets them by default.

References
----------
vLLM 0.19, `EngineArgs._set_default_args` and `CacheConfig` (GPUs of 70 GiB and more except A100: 8,192 tokens and 1,024
sequences for an API server, 16,384 and 1,024 offline; else 2,048 and 256); SGLang `server_args.py` (chunks of 8,192
tokens, prefill batches of 16,384, pages of 1 token, 4,096 new tokens counted at most).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from sim.errors import InvalidValueError
from workloads.serving.balancers import BALANCERS

__all__ = ["EXCHANGES", "KV_BYTES", "POLICIES", "ROLES", "ServerLimits", "default_limits"]

POLICIES: Final = ("vllm", "sglang")
"""Policies of schedulers; `workloads.serving.policies` has what each does."""
EXCHANGES: Final = ("all_gather", "all_to_all")
"""How tokens of data-parallel ranks reach experts: all to all ranks and a reduce-scatter back, or each to its experts'
ranks."""
KV_BYTES: Final = {"auto": 2, "fp8": 1}
"""Bytes of an element of the KV cache by the name of its type; auto: bf16."""
ROLES: Final = ("both", "decode")
"""What a server computes: prompts and answers, or answers alone, of prompts that come computed."""

_LARGE_BYTES = 70 * 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """What a scheduler may put into a batch, and how the server is run."""

    policy: str = "vllm"
    """Which requests form a batch: `vllm` or `sglang`."""
    max_num_batched_tokens: int
    """Tokens of a batch on one data-parallel rank; of SGLang tokens of a chunk (`chunked_prefill_size`)."""
    max_num_seqs: int
    """Requests in service on one data-parallel rank."""
    async_scheduling: bool = False
    """Whether a batch is formed while the one before it is computed (vLLM's `--async-scheduling`, SGLang's overlap)."""
    num_drafts: int = 0
    """Tokens that a draft model proposes of each request in a step; 0: there is none."""
    acceptance_length: float = 1.0
    """Mean outputs of a step of a request, from 1 to 1 + `num_drafts`."""
    draft_layers: int = 0
    """Layers of the draft model, each like the last of the model."""
    two_batch_overlap: tuple[int, int] | None = None
    """Tokens of each rank from which a step of decodes, and one with prompts, is cut in two halves: one computes while
    the tokens of the other travel. None: no step is."""
    routing_steps: int | None = None
    """Steps of a group with one popularity of the experts, that of a microbatch of the routing; None: all."""
    receive_interval: int = 1
    """Batches of decodes after which requests that came reach the queue (SGLang's `--scheduler-recv-interval`)."""
    block_size: int = 16
    """Tokens of a KV block."""
    gpu_memory_utilization: float = 0.9
    """Part of the memory that the server may take; the KV cache has what weights and activations leave of it."""
    kv_blocks: int | None = None
    """KV blocks of one data-parallel rank; null: as many as memory has."""
    kv_cache_dtype: str = "auto"
    """Type of keys and values: a name of `KV_BYTES`."""
    prefix_caching: bool = True
    """Whether blocks of prompts that begin alike are shared."""
    long_prefill_token_threshold: int = 0
    """Most tokens of a prompt in one batch (vLLM); 0: no limit."""
    max_prefill_tokens: int = 16_384
    """Tokens of prompts in one batch (SGLang)."""
    schedule_conservativeness: float = 1.0
    """What the expected outputs of admitted requests are multiplied by (SGLang)."""
    clip_max_new_tokens: int = 4_096
    """Most outputs that are expected of a request (SGLang)."""
    balancer: str = "least_loaded"
    """Which data-parallel rank a request goes to: `least_loaded` (vLLM's) or `round_robin`."""
    balancer_interval_s: float = 0.1
    """Time after which the balancer learns the ranks' counts again (vLLM's coordinator: 100 ms)."""
    host_s: float = 0.0
    """Time between two steps in which the host schedules and the GPUs wait."""
    request_s: float = 0.0
    """Time of a request from its arrival to the scheduler: HTTP, template and tokeniser."""
    role: str = "both"
    """What the server computes: a name of `ROLES`."""
    exchange: str = "all_gather"
    """How tokens reach experts on other data-parallel ranks: a name of `EXCHANGES`."""
    cuda_graph_sizes: tuple[int, ...] | None = None
    """Sizes that decode batches are padded to; empty: no graphs; null: as vLLM captures them."""

    def __post_init__(self) -> None:
        for key, names in (("policy", POLICIES), ("balancer", tuple(BALANCERS))):
            if getattr(self, key) not in names:
                rule, hint = f"be one of {', '.join(names)}", f"Write {names[0]}."
                raise InvalidValueError(f"workload.server.{key}", rule, getattr(self, key), hint)
        if self.max_num_batched_tokens < self.max_num_seqs and self.policy == "vllm":
            hint = "A decode step has a token of every request: raise it, or lower max_num_seqs."
            rule = f"be at least workload.server.max_num_seqs = {self.max_num_seqs}"
            raise InvalidValueError("workload.server.max_num_batched_tokens", rule, self.max_num_batched_tokens, hint)

    @property
    def kv_share(self) -> float:
        """Bytes of an element of the KV cache over those of bf16."""
        return KV_BYTES[self.kv_cache_dtype] / KV_BYTES["auto"]

    @property
    def graph_sizes(self) -> tuple[int, ...]:
        """Sizes that decode batches are padded to, ascending.

        vLLM captures 1, 2, 4, then every 8th up to 256, and every 16th up to 512, and none above twice the tokens of
        `max_num_seqs` decodes (`VllmConfig._set_cudagraph_sizes`); with drafts each is rounded up to whole requests.
        """
        if self.cuda_graph_sizes is not None:
            return tuple(sorted(self.cuda_graph_sizes))
        return _captured_sizes(self.max_num_seqs, 1 + self.num_drafts)

    def padded(self, num_tokens: int) -> int:
        """Return the size of the graph that a decode batch runs in; larger batches run eagerly, as they are."""
        return next((size for size in self.graph_sizes if size >= num_tokens), num_tokens)


@lru_cache(maxsize=16)
def _captured_sizes(max_num_seqs: int, queries: int) -> tuple[int, ...]:
    """Return the sizes that vLLM captures, for requests of so many tokens each."""
    most = min(2 * max_num_seqs * queries, 512)
    sizes = (-(-size // queries) * queries for size in (1, 2, 4, *range(8, 256, 8), *range(256, 513, 16)))
    return tuple(dict.fromkeys(size for size in sizes if size <= most))


def default_limits(*, memory_bytes: float, device: str) -> tuple[int, int]:
    """Return vLLM's default tokens and requests of a batch on a server.

    >>> default_limits(memory_bytes=80e9, device="h100-sxm"), default_limits(memory_bytes=80e9, device="a100-sxm-80gb")
    ((8192, 1024), (2048, 256))
    """
    is_large = memory_bytes >= _LARGE_BYTES and "a100" not in device.lower()
    return (8192, 1024) if is_large else (2048, 256)
