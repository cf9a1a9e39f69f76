"""`workload:` of kind serving: the requests, the server, what its users are promised, and measured times of layers."""

from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from sim.errors import InvalidValueError
from sim.scenario.fields import Efficiency, Flag, Ratio, Seconds, Section, Text, count_of, name_of
from sim.scenario.units import parse_quantity
from workloads.memory import MEGATRON_PRECISION, Precision
from workloads.serving.arrivals import ARRIVALS
from workloads.serving.balancers import BALANCERS
from workloads.serving.lengths import LENGTH_KINDS
from workloads.serving.server import EXCHANGES, KV_BYTES, POLICIES, ROLES

__all__ = [
    "LengthsKey",
    "LengthsSection",
    "RequestsSection",
    "ServerSection",
    "ServingWorkload",
    "SloSection",
    "SpeculationSection",
    "StepTimesSection",
    "TwoBatchSection",
]

_TRACES: Final = (".jsonl", ".csv")


class LengthsSection(Section):
    """Tokens of prompts, of answers, or of documents in training."""

    kind: Annotated[str, name_of(lambda: LENGTH_KINDS)] = "fixed"
    """Distribution of the tokens."""
    tokens: Annotated[int, count_of("workload.requests.tokens")] | None = None
    """Tokens of each (fixed)."""
    least: Annotated[int, count_of("workload.requests.tokens")] = 1
    """Fewest tokens (uniform)."""
    most: Annotated[int, count_of("workload.requests.tokens")] | None = None
    """Most tokens (uniform, lognormal)."""
    mean: Annotated[int, count_of("workload.requests.tokens")] | None = None
    """Mean of the tokens (lognormal)."""
    cv: Ratio = 1.0
    """Standard deviation over mean (lognormal)."""


def _as_lengths(value: object) -> object:
    """Return a number of tokens as the section of fixed lengths."""
    return {"tokens": value} if isinstance(value, int) and not isinstance(value, bool) else value


LengthsKey = Annotated[LengthsSection, BeforeValidator(_as_lengths, json_schema_input_type=LengthsSection | int)]
"""Lengths, or one number of tokens for all."""


class RequestsSection(Section):
    """Which requests arrive, and when."""

    trace: Text | None = None
    """File of requests in the scenario's folder: Mooncake's JSON lines, or Azure's CSV."""
    repeat: Annotated[int, count_of("workload.requests.repeat")] = 1
    """How often the requests of the trace come, one copy after the other; prompts of a copy are new."""
    speed: Ratio = 1.0
    """What the rate of the trace is multiplied by."""
    arrival: Annotated[str, name_of(lambda: ARRIVALS)] | None = None
    """How requests arrive (open loop)."""
    rate: Text | None = None
    """Requests a second, such as `10/s`."""
    cv: Ratio = 1.0
    """Standard deviation over mean of the gaps between requests (gamma)."""
    burst: Annotated[int, count_of("workload.requests.count")] = 1
    """Requests that arrive together (bursts)."""
    concurrency: Annotated[int, count_of("workload.requests.count")] | None = None
    """Requests in service or waiting at any time: one arrives when another has ended (closed loop)."""
    count: Annotated[int, count_of("workload.requests.count")] | None = None
    """Requests in all; with a trace the first so many; null: all of the trace, or 10 times the concurrency."""
    input: LengthsKey | None = None
    """Tokens of prompts: a number, or a distribution."""
    output: LengthsKey | None = None
    """Tokens of answers: a number, or a distribution."""
    shared_prefix: Annotated[int, count_of("workload.requests.tokens", least=0)] = 0
    """Tokens that all prompts begin with, such as those of a system prompt."""
    warmup: Annotated[int, count_of("workload.requests.count", least=0)] = 0
    """Requests, the first by arrival, that no metric of requests counts."""
    count_every: Annotated[int, count_of("workload.requests.count")] = 1
    """One of so many requests, the first and each n-th after it, counts in metrics of requests."""

    @property
    def rate_per_s(self) -> float | None:
        """Requests a second; None where no rate is given."""
        return None if self.rate is None else _rate(self.rate)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        """Check that requests have one source, with all that it needs and nothing that it ignores."""
        sources = [key for key in ("trace", "arrival", "concurrency") if getattr(self, key) is not None]
        if not sources:
            hint = "Write trace: requests.jsonl, arrival: poisson with a rate, or concurrency: 64."
            raise InvalidValueError(("trace",), "be given, or arrival, or concurrency", "nothing", hint)
        if len(sources) == 2 and sources[0] != "trace":
            raise InvalidValueError((sources[1],), f"be left out with {sources[0]}", "both", "Remove one of the two.")
        if self.trace is not None:
            self._check_trace()
        else:
            self._check_drawn()
        return self

    def _check_trace(self) -> None:
        self._refuse_given(("arrival", "rate", "cv", "burst", "input", "output", "shared_prefix"), "a trace")
        if not str(self.trace).lower().endswith(_TRACES):
            rule = f"end in {' or '.join(_TRACES)}"
            raise InvalidValueError(("trace",), rule, self.trace, "Mooncake's traces are .jsonl, Azure's are .csv.")
        if self.speed == 0:
            raise InvalidValueError(("speed",), "be more than 0", self.speed, "Write 1.")

    def _check_drawn(self) -> None:
        self._refuse_given(("repeat", "speed"), "requests that are drawn")
        for key, example in (("count", "count: 1000"), ("input", "input: 1024"), ("output", "output: 128")):
            if getattr(self, key) is None and not (key == "count" and self.concurrency is not None):
                raise InvalidValueError((key,), "be given", "nothing", f"Add {example}.")
        if self.concurrency is not None:
            self._refuse_given(("rate", "cv", "burst"), "concurrency")
            return
        needs_rate = self.arrival != "at_once"
        if needs_rate and self.rate is None:
            raise InvalidValueError(("rate",), f"be given with arrival {self.arrival}", "nothing", "Write rate: 10/s.")
        wanted = {"rate": needs_rate, "cv": self.arrival == "gamma", "burst": self.arrival == "bursts"}
        self._refuse_given([key for key, is_used in wanted.items() if not is_used], f"arrival {self.arrival}")
        if self.arrival == "gamma" and self.cv == 0:
            raise InvalidValueError(("cv",), "be more than 0", self.cv, "Write arrival: uniform for equal gaps.")
        if self.rate is not None:
            _rate(self.rate)

    def _refuse_given(self, keys: "tuple[str, ...] | list[str]", what: str) -> None:
        """Refuse keys that would mean nothing."""
        for key in keys:
            if key in self.model_fields_set and getattr(self, key) is not None:
                value = getattr(self, key)
                shown = "a section" if isinstance(value, Section) else value
                raise InvalidValueError((key,), f"be left out with {what}", shown, "Remove it.")


class SpeculationSection(Section):
    """Tokens that a draft model proposes and the model verifies in one step."""

    num_tokens: Annotated[int, count_of("workload.server.speculation.num_tokens")]
    """Tokens proposed of each request in a step: `num_speculative_tokens`."""
    acceptance_length: Annotated[float, Field(ge=1.0, le=1001.0)]
    """Mean outputs of a step of a request, the verified token among them, as measured: from 1 to 1 + num_tokens."""
    layers: Annotated[int, count_of("model.layers", least=0)] = 1
    """Layers of the draft model, each like the last of the model, run for each proposed token (MTP, EAGLE: 1); 0:
    drafts cost nothing."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        """Check that a step can have so many outputs."""
        if self.acceptance_length > 1 + self.num_tokens:
            rule = f"be at most 1 + num_tokens = {1 + self.num_tokens}"
            hint = "It counts the token that the model makes itself: 1 where no draft is kept."
            raise InvalidValueError(("acceptance_length",), rule, self.acceptance_length, hint)
        return self


class TwoBatchSection(Section):
    """Batches cut in two: one half computes while the tokens of the other travel to experts and back."""

    decode_tokens: Annotated[int, count_of("workload.requests.tokens", least=2)] = 32
    """Fewest tokens of each data-parallel rank, in a step of decodes (vLLM's `--dbo-decode-token-threshold`)."""
    prefill_tokens: Annotated[int, count_of("workload.requests.tokens", least=2)] = 512
    """Fewest tokens of each data-parallel rank, in a step with prompts (vLLM's `--dbo-prefill-token-threshold`)."""


class ServerSection(Section):
    """The limits of the server; a null limit is what vLLM takes by default."""

    policy: Annotated[str, name_of(lambda: POLICIES)] = "vllm"
    """Which requests form a batch: vLLM's rule or SGLang's."""
    role: Annotated[str, name_of(lambda: ROLES)] = "both"
    """`both`: prompts are computed here; `decode`: prompts come computed from other servers, free of time."""
    max_num_batched_tokens: Annotated[int, count_of("workload.requests.tokens")] | None = None
    """Tokens of a batch on one data-parallel rank; SGLang's `chunked_prefill_size`."""
    max_num_seqs: Annotated[int, count_of("workload.requests.count")] | None = None
    """Requests in service on one data-parallel rank."""
    async_scheduling: Flag | None = None
    """Whether a batch is formed while the one before it is computed; null: true, as vLLM from 0.14 and SGLang from 0.4
    do. With pipeline stages as many batches are in flight as stages."""
    receive_interval: Annotated[int, count_of("workload.server.receive_interval")] = 1
    """Batches of decodes after which requests that came reach the queue: SGLang's `--scheduler-recv-interval`."""
    speculation: SpeculationSection | None = None
    """Speculative decoding; null: each step makes one token of a request."""
    two_batch_overlap: TwoBatchSection | None = None
    """Dual or two-batch overlap; null: exchanges of tokens run alone."""
    routing_steps: Annotated[int, count_of("workload.server.routing_steps")] | None = None
    """Steps of a group that are one microbatch to `routing` and `placement`, so that loads drift and plans age; null:
    the popularity of the experts never changes."""
    block_size: Annotated[int, count_of("workload.server.block_size")] | None = None
    """Tokens of a KV block; null: 16 with vLLM, 1 with SGLang."""
    gpu_memory_utilization: Efficiency = 0.9
    """Part of the memory that the server may take."""
    kv_blocks: Annotated[int, count_of("workload.server.kv_blocks")] | None = None
    """KV blocks of one data-parallel rank; null: as many as memory has."""
    kv_cache_dtype: Annotated[str, name_of(lambda: KV_BYTES)] = "auto"
    """Type of keys and values: `auto` is bf16, `fp8` has half of the bytes."""
    prefix_caching: Flag = True
    """Whether blocks of prompts that begin alike are shared."""
    long_prefill_token_threshold: Annotated[int, count_of("workload.requests.tokens", least=0)] = 0
    """Most tokens of a prompt in one batch (vLLM); 0: no limit."""
    max_prefill_tokens: Annotated[int, count_of("workload.requests.tokens")] = 16_384
    """Tokens of prompts in one batch (SGLang)."""
    schedule_conservativeness: Ratio = 1.0
    """What the expected outputs of admitted requests are multiplied by (SGLang)."""
    clip_max_new_tokens: Annotated[int, count_of("workload.requests.tokens")] = 4_096
    """Most outputs that are expected of a request (SGLang)."""
    balancer: Annotated[str, name_of(lambda: BALANCERS)] = "least_loaded"
    """Which data-parallel rank a request goes to."""
    balancer_interval: Seconds = 0.1
    """Time after which the balancer learns the ranks' counts again [s]."""
    host_time: Seconds | None = None
    """Time between two steps in which the host schedules and the GPUs wait [s]; null: 0."""
    request_time: Seconds | None = None
    """Time of a request from its arrival to the scheduler [s]: HTTP, template and tokeniser; null: 0."""
    cuda_graph_sizes: (
        Annotated[tuple[Annotated[int, count_of("workload.requests.count")], ...], Field(max_length=1000)] | None
    ) = None
    """Sizes that decode batches are padded to; []: no graphs; null: as vLLM captures them."""
    exchange: Annotated[str, name_of(lambda: EXCHANGES)] | None = None
    """How tokens of data-parallel ranks reach experts: vLLM's `all_gather` of all tokens, or the `all_to_all` of
    `network.all_to_all`; null: all_to_all where `network.all_to_all` is given, else all_gather."""
    step_times: Literal["classes", "full"] = "classes"
    """`classes`: times are kept by class of composition; `full`: every collective of every step is simulated."""


class SloSection(Section):
    """What users are promised; goodput counts the requests that meet all of it."""

    ttft: Seconds | None = None
    """Most time to the first token [s]."""
    tpot: Seconds | None = None
    """Most mean time of each further token of a request [s]."""
    latency: Seconds | None = None
    """Most time to the last token [s]."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        """Check that something is promised."""
        if self.ttft is None and self.tpot is None and self.latency is None:
            raise InvalidValueError(("ttft",), "be given, or tpot, or latency", "nothing", "Write ttft: 2 s.")
        return self


class StepTimesSection(Section):
    """Measured times of layers in place of the model of the device: CSV files in the scenario's folder."""

    dense: Text
    """Columns layer, tokens, time_us."""
    attention: Text
    """Columns prefill_chunk, kv_prefill, n_decode, kv_decode, time_us."""
    moe: Text | None = None
    """Columns tokens, activated_experts, time_us; needed where the model has experts."""
    per_sequence: Text
    """Columns layer, sequences, time_us: output head and sampler."""
    link: Text | None = None
    """Bandwidth between data-parallel ranks that exchange tokens, such as `25 GB/s`; null: `cluster` prices them."""
    link_latency: Seconds = 0.0
    """Time of an exchange of tokens before the first byte [s]; only with `link`."""

    @property
    def link_bytes_per_s(self) -> float | None:
        """Bandwidth of the link; None where none is given."""
        return None if self.link is None else parse_quantity(self.link, "bytes/s")

    @model_validator(mode="after")
    def _link(self) -> Self:
        """Check the link."""
        if self.link is None and self.link_latency:
            raise InvalidValueError(("link_latency",), "be left out without link", self.link_latency, "Add link.")
        if self.link is not None and not self.link_bytes_per_s:
            raise InvalidValueError(("link",), "be more than 0", self.link, "Write for example 25 GB/s.")
        return self


class ServingWorkload(Section):
    """Requests are served: time to the first token, time of each further token, goodput."""

    required_sections: ClassVar[tuple[str, ...]] = ("cluster", "model", "parallel")
    foreign_sections: ClassVar[tuple[str, ...]] = (
        "schedule",
        "stress",
        "what_if",
        "jitter",
        "engine",
        "search",
    )
    has_backward: ClassVar[bool] = False
    trains: ClassVar[bool] = False

    kind: Literal["serving"]
    """Requests of many users, batched as they come."""
    requests: RequestsSection
    """Which requests arrive, and when."""
    server: ServerSection = ServerSection()
    """The limits of the server."""
    slo: SloSection | None = None
    """What users are promised."""
    layer_times: StepTimesSection | None = None
    """Measured times of layers; null: the model of the device."""

    @property
    def precision(self) -> Precision:
        """Types of gradients and optimizer states; nothing is trained."""
        return MEGATRON_PRECISION


def _rate(text: str) -> float:
    """Return requests a second of a text such as `10/s`."""
    number, slash, unit = text.replace(" ", "").partition("/")
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    if slash != "/" or unit not in ("s", "min") or not 1e-6 <= value <= 1e9:
        raise InvalidValueError(("rate",), "be requests a second or minute, such as 10/s", text, "Write 10/s.")
    return value / (60.0 if unit == "min" else 1.0)
