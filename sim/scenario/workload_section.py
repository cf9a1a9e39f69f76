"""`workload:` of a scenario: what is run on the cluster. Each kind has keys of its own."""

from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from sim.errors import InvalidValueError
from sim.scenario.fields import Bytes, Seconds, Section, TokenCount, Whole, count_of, name_of
from sim.scenario.serving_section import LengthsKey, ServingWorkload
from topology.limits import MAX_GPUS
from workloads.collectives import OPERATIONS
from workloads.memory import MEGATRON_PRECISION, STATE_DTYPE_BYTES, Precision
from workloads.workload_kind import TRAINING

__all__ = [
    "WORKLOADS",
    "CollectiveWorkload",
    "ForwardWorkload",
    "HeldBytes",
    "PassTimes",
    "PassesWorkload",
    "ServingWorkload",
    "TrainingWorkload",
    "WorkloadSpec",
]


class _Workload(Section):
    """What a kind of workload needs of the rest of a scenario."""

    required_sections: ClassVar[tuple[str, ...]]
    """Sections that the workload cannot do without."""
    foreign_sections: ClassVar[tuple[str, ...]] = ()
    """Sections that mean nothing to the workload."""
    has_backward: ClassVar[bool] = False
    """Whether backward passes follow the forward passes."""
    trains: ClassVar[bool] = False
    """Whether a model is trained, with all that its backward passes keep or recompute."""

    @property
    def precision(self) -> Precision:
        """Types of gradients and optimizer states; a workload that does not train has Megatron's, unused."""
        return MEGATRON_PRECISION


class ForwardWorkload(_Workload):
    """Forward passes of batches of sequences."""

    required_sections = ("cluster", "model", "parallel")

    kind: Literal["forward"]
    """Forward passes only."""
    batches: Annotated[int, count_of("workload.batches")] = 1
    """Batches that follow one another."""
    sequences: Annotated[int, count_of("workload.sequences")]
    """Sequences of one batch, over all replicas."""
    sequence_length: Annotated[int, count_of("workload.sequence_length")]
    """Tokens of one sequence."""
    microbatches: Annotated[int, count_of("workload.microbatches")] = 1
    """Microbatches of one batch and pipeline."""


class TrainingWorkload(_Workload):
    """One training step: forward, backward and optimizer."""

    required_sections = ("cluster", "model", "parallel")
    has_backward = trains = TRAINING.trains

    kind: Literal["training"]
    """One training step."""
    sequences: Annotated[int, count_of("workload.sequences")]
    """Sequences of the global batch, over all replicas."""
    sequence_length: Annotated[int, count_of("workload.sequence_length")]
    """Tokens of one sequence."""
    microbatches: Annotated[int, count_of("workload.microbatches")] = 1
    """Microbatches of one pipeline."""
    documents: LengthsKey | None = None
    """Tokens of the documents that sequences are packed from, to which attention is limited; null: a sequence is one
    document (docs/why.md)."""
    gradient_dtype: Annotated[str, name_of(lambda: STATE_DTYPE_BYTES)] = MEGATRON_PRECISION.gradient
    """Type in which gradients are kept and reduced."""
    moment_dtype: Annotated[str, name_of(lambda: STATE_DTYPE_BYTES)] = MEGATRON_PRECISION.moment
    """Type of Adam's two moments; master weights are in fp32."""

    @property
    def precision(self) -> Precision:
        """Types of gradients and optimizer states."""
        return Precision(self.gradient_dtype, self.moment_dtype)


class PassTimes(Section):
    """How long the passes of one stage take."""

    F: Seconds
    """Forward pass of one microbatch [s]."""
    B: Seconds
    """Backward pass, of the inputs where W is given apart [s]."""
    W: Seconds = 0.0
    """Backward pass of the weights [s]."""
    FB: Seconds | None = None
    """A forward and a whole backward pass at a time (DualPipe) [s]; null: as long as one after the other."""


class HeldBytes(Section):
    """What a stage keeps of one microbatch."""

    B: Bytes
    """From its forward pass to its backward pass [bytes]."""
    W: Bytes
    """From its backward pass to that of the weights [bytes]."""


def _as_list(value: object) -> object:
    """Return pass times given once, for all stages, as a list of one."""
    if value == []:
        raise InvalidValueError(rule="have at least one item", value=value, hint="Give one map of F, B and W.")
    return [value] if isinstance(value, dict) else value


class PassesWorkload(_Workload):
    """A pipeline of passes whose durations are given; no model and no cluster."""

    required_sections = ("parallel",)
    foreign_sections = (
        "cluster",
        "model",
        "routing",
        "placement",
        "network",
        "runtime",
        "profile",
        "factors",
        "stress",
        "search",
    )
    has_backward = True

    kind: Literal["passes"]
    """Passes of given durations."""
    microbatches: Annotated[int, count_of("workload.microbatches")]
    """Microbatches of the pipeline."""
    pass_times: Annotated[
        tuple[PassTimes, ...],
        BeforeValidator(_as_list, json_schema_input_type=PassTimes | list[PassTimes]),
    ]
    """Durations of F, B and W: one mapping for all stages, or a list with one per stage."""
    held: HeldBytes | None = None
    """What a stage keeps of a microbatch, which automatic schedules compare with their limit; null: W 0.4 of B."""
    p2p: Seconds = 0.0
    """Time from the end of a pass to the start of what it releases on the next stage [s]."""


class CollectiveWorkload(_Workload):
    """One collective operation on its own."""

    required_sections = ("cluster",)
    foreign_sections = ("parallel", "schedule", "placement", "runtime", "profile", "stress", "what_if", "jitter")

    kind: Literal["collective"]
    """One collective operation."""
    op: Annotated[str, name_of(lambda: OPERATIONS)]
    """Which operation; `send` is from each rank to the next."""
    num_ranks: Annotated[int, count_of("workload.num_ranks")]
    """Ranks that take part: the first so many, unless `ranks` names them."""
    ranks: Annotated[tuple[Whole, ...], Field(max_length=MAX_GPUS)] | None = None
    """Which ranks take part."""
    bytes: Bytes | None = None
    """Size as nccl-tests counts it [bytes]."""
    tokens: TokenCount | None = None
    """Tokens of each rank, of model.hidden values each."""

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        """Check that the size is given once."""
        if self.bytes is None and self.tokens is None:
            hint = "Give bytes, or tokens with model.hidden and model.top_k."
            raise InvalidValueError(("bytes",), rule="be given, or tokens", value="nothing", hint=hint)
        if self.tokens is None and OPERATIONS[self.op].is_expert_exchange:
            hint = "Give tokens with model.hidden and model.top_k: their bytes follow."
            raise InvalidValueError(("bytes",), rule=f"be left out of op {self.op}", value=self.bytes, hint=hint)
        if self.tokens is not None and not OPERATIONS[self.op].is_exchange:
            hint = "Give bytes."
            raise InvalidValueError(("tokens",), rule=f"be left out of op {self.op}", value=self.tokens, hint=hint)
        if self.ranks is not None and (len(self.ranks) != self.num_ranks or len(set(self.ranks)) != len(self.ranks)):
            hint = "List each once, and as many as num_ranks says."
            raise InvalidValueError(
                ("ranks",), rule=f"name {self.num_ranks} different ranks", value=list(self.ranks), hint=hint
            )
        if self.num_ranks < 2:
            raise InvalidValueError(
                ("num_ranks",),
                rule="be at least 2",
                value=self.num_ranks,
                hint="One rank has no other rank to exchange data with.",
            )
        if self.bytes is not None and self.tokens is not None:
            raise InvalidValueError(
                ("tokens",), rule="be left out when bytes is given", value=self.tokens, hint="Remove one."
            )
        return self


WorkloadSpec = ForwardWorkload | TrainingWorkload | PassesWorkload | CollectiveWorkload | ServingWorkload
"""Any of the kinds."""

WORKLOADS: Final[dict[str, type[Section]]] = {
    "forward": ForwardWorkload,
    "training": TrainingWorkload,
    "passes": PassesWorkload,
    "collective": CollectiveWorkload,
    "serving": ServingWorkload,
}
"""Kind -> its keys."""
