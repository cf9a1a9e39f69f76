"""What is to be planned, as one value: a model on a cluster (`Work`), or one collective (`CollectiveWork`).

Model
-----
    tokens of a microbatch = sequences / (DP * microbatches) * sequence_length         of one replica
    ... of a rank          = tokens / CP                                              and of its TP group

`sim.build.work_checks` refuses what does not go together.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from sim.build.work_checks import check_work
from topology.cluster import Cluster
from topology.profiles import DeviceProfile
from topology.uncertainty import MODEL_ITSELF, Factors
from workloads.blocks.ffn import MoeFfn
from workloads.collectives.settings import NetworkSettings
from workloads.context_parallel import ContextParallel
from workloads.documents import attended_lengths
from workloads.jitter import EXACT, Jitter
from workloads.memory import (
    MEGATRON_PRECISION,
    ZERO_LEVELS,
    Fsdp,
    Precision,
    Recompute,
    Sharding,
    StageParameters,
    deepep_buffer_bytes,
)
from workloads.mesh import Mesh
from workloads.model import ModelSpec
from workloads.placement import PlacementRule
from workloads.routing import ROUTINGS, RoutingSettings
from workloads.runtime import HostFactors, Runtime
from workloads.schedules import (
    DEFAULT_CHUNK_ORDER,
    ChunkLayout,
    Pair,
    PipelineOrder,
    ScheduleKind,
    schedule_kind_of,
)
from workloads.serving.lengths import Lengths
from workloads.what_if import EVEN_LENGTHS
from workloads.workload_kind import WorkloadKind

__all__ = ["CollectiveWork", "Work"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Work:
    """A model, laid out on a cluster, and the work it does there."""

    cluster: Cluster
    model: ModelSpec
    mesh: Mesh
    """Groups of ranks; where the schedule keeps two replicas of the model, data-parallel groups reach over both."""
    kind: WorkloadKind
    """Whether the model is run forward or trained."""
    batches: int
    """Batches one after another (forward); 1 in training."""
    sequences: int
    """Sequences of one batch, over all replicas."""
    sequence_length: int
    """Tokens of a sequence."""
    documents: Lengths | None = None
    """Documents that sequences are packed from (training); None: each sequence is one."""
    microbatches: int
    """Microbatches of one batch and pipeline."""
    schedule: str
    """Schedule by name."""
    chunk_order: str = DEFAULT_CHUNK_ORDER
    """Where the chunks stand under schedule `custom`: one of `CHUNK_ORDERS`."""
    recompute: Recompute = field(default_factory=Recompute)
    """What a backward pass computes again."""
    offload_layers: int = 0
    """Layers at the start of each model chunk whose activations are on the host between F and B (training)."""
    routing: RoutingSettings = field(default_factory=RoutingSettings)
    """Which experts tokens are sent to."""
    placement: PlacementRule = field(default_factory=PlacementRule)
    """Which rank holds which expert."""
    seed: int = 1
    """Seed of all draws."""
    network: NetworkSettings = field(default_factory=NetworkSettings)
    """How transfers are simulated."""
    context: ContextParallel = field(default_factory=ContextParallel)
    """How CP ranks compute attention together; its size follows from the mesh."""
    runtime: Runtime = field(default_factory=Runtime)
    """What the software does."""
    profile: DeviceProfile | None = None
    """Measured kernels of the device; None: the closed form of the device prices kernels."""
    factors: Factors = MODEL_ITSELF
    """What times of kernels and transfers are multiplied by."""
    host_factors: HostFactors = field(default_factory=HostFactors)
    """What times of the host are multiplied by."""
    what_if: tuple[str, ...] = ()
    """What the run is without, names of `WHAT_IFS`."""
    jitter: Jitter = EXACT
    """How much the times of passes vary."""
    exchange: str = "one_sided"
    """How the spanning convention enters its expert exchange: one_sided, or blocking over all stages."""
    zero: int = 0
    """0: every replica holds the optimizer; 1: the replicas split the optimizer; 2: gradients too; 3: weights too."""
    fsdp: Fsdp | None = None
    """Fully sharded data parallelism, which excludes `zero`."""
    precision: Precision = MEGATRON_PRECISION
    """Types of gradients and optimizer states (training)."""
    chunk_layers: tuple[int, ...]
    """Layers of each model chunk, in the order of the model; `chunk_layout` says where the chunks stand."""
    embedding_chunk: int = 0
    """The model chunk that holds the embedding."""
    head_chunk: int = None  # type: ignore[assignment]  # filled in when the work is built
    """The model chunk that holds last norm, output head and loss; default: the last."""
    mtp_chunk: int = None  # type: ignore[assignment]  # filled in when the work is built
    """The model chunk that holds the MTP layers; default: that of the head."""
    own_order: PipelineOrder | None = None
    """The steps of schedule `custom`."""

    def __post_init__(self) -> None:
        if self.mesh.is_mirrored != self.has_two_replicas:
            object.__setattr__(self, "mesh", replace(self.mesh, is_mirrored=self.has_two_replicas))
        if self.head_chunk is None:
            object.__setattr__(self, "head_chunk", self.chunk_layout.num_model_chunks - 1)
        if self.mtp_chunk is None:
            object.__setattr__(self, "mtp_chunk", self.head_chunk)
        if self.context.size != self.mesh.strategy.cp:
            object.__setattr__(self, "context", replace(self.context, size=self.mesh.strategy.cp))
        check_work(self)

    @property
    def sharding(self) -> Sharding:
        """Which states the data-parallel replicas split."""
        return ZERO_LEVELS[self.zero] if self.fsdp is None else self.fsdp.sharding

    @property
    def num_microbatches(self) -> int:
        """Microbatches of one pipeline over all batches."""
        return self.batches * self.microbatches

    @property
    def sequences_per_microbatch(self) -> int:
        """Sequences of one microbatch of one replica."""
        return self.sequences // (self.mesh.dp * self.microbatches)

    @property
    def tokens(self) -> int:
        """Tokens of one microbatch of one replica."""
        return self.sequences_per_microbatch * self.sequence_length

    @property
    def attended_lengths(self) -> NDArray[np.int64] | None:
        """Tokens of a sequence that takes as long as those of each replica and microbatch. Shape [DP, M].

        None: it is `sequence_length` in all of them.
        """
        if self.documents is None:
            return None
        lengths = attended_lengths(
            self.documents,
            num_replicas=self.mesh.dp,
            num_microbatches=self.num_microbatches,
            sequences=self.sequences_per_microbatch,
            sequence_length=self.sequence_length,
            seed=self.seed,
        )
        return np.full_like(lengths, round(lengths.mean())) if EVEN_LENGTHS in self.what_if else lengths

    @property
    def attended_length(self) -> int:
        """Mean of `attended_lengths`, which the FLOPs of attention follow."""
        lengths = self.attended_lengths
        return self.sequence_length if lengths is None else round(float(lengths.mean()))

    @property
    def may_fold(self) -> bool:
        """Whether lanes may run alike: neither passes vary, nor the documents of replicas."""
        has_own_lengths = self.documents is not None and EVEN_LENGTHS not in self.what_if
        return not self.jitter.is_on and not has_own_lengths

    def attended_lengths_on(self, lane: int, microbatch: int) -> NDArray[np.int64] | None:
        """Return the attended length of a microbatch on each rank of a lane, as all its replicas have it. Shape [R]."""
        lengths, s = self.attended_lengths, self.mesh.strategy
        if lengths is None:
            return None
        places = lane * self.mesh.lane_size + np.arange(self.mesh.lane_size)
        on_ranks: NDArray[np.int64] = lengths[places // (s.cp * s.tp), microbatch]
        return on_ranks

    @property
    def rank_tokens(self) -> int:
        """Tokens of one microbatch that a rank, with its TP group, owns: 1 / CP of the replica's."""
        return self.tokens // self.mesh.strategy.cp

    @property
    def activation_bytes(self) -> float:
        """Bytes of the hidden states of one microbatch of one TP group."""
        return float(self.rank_tokens * self.model.hidden * self.model.dtype_bytes)

    @property
    def gathered_bytes(self) -> float:
        """Bytes of the hidden states of one microbatch as sequence parallelism gathers them before a linear layer."""
        recipe = self.model.formats.recipe
        of_element = self.model.dtype_bytes if recipe is None else self.model.formats.gather_bytes
        return float(self.tokens * self.model.hidden * of_element)

    @property
    def arrival(self) -> str:
        """How copies of tokens lie where their experts are, a key of `ARRIVALS`; each rank sorts what no one sends."""
        if self.gathers_tokens or self.has_replicated_tokens:
            return "experts"
        return self.network.all_to_all_algorithm.arrival

    @property
    def permutes_at_source(self) -> bool:
        """Whether the tokens' owners sort copies by expert, and put them back, rather than who receives them."""
        return self.gathers_tokens or self.has_replicated_tokens or self.arrival == "chunks"

    @property
    def dispatch_bytes(self) -> float:
        """Bytes of a token, or of the gradient of its result, on the way to an expert."""
        return float(self.model.expert_hidden * self.model.formats.dispatch_bytes(self.model.dtype_bytes))

    @property
    def combine_bytes(self) -> float:
        """Bytes of a token on the way back from an expert."""
        return float(self.model.expert_hidden * self.model.dtype_bytes)

    @property
    def batch_tokens(self) -> int:
        """Tokens of one batch over all replicas."""
        return self.sequences * self.sequence_length

    @property
    def head_tokens(self) -> int:
        """Tokens of a microbatch that meet the output head: all in training, the last of each sequence in prefill."""
        return self.tokens if self.kind.trains else self.sequences_per_microbatch

    @property
    def rank_head_tokens(self) -> int:
        """Tokens of a microbatch that meet the output head on one rank; in prefill the first CP rank has the last."""
        return self.rank_tokens if self.kind.trains else self.sequences_per_microbatch

    @property
    def has_balanced_routing(self) -> bool:
        """Whether every expert receives equally many tokens in every layer, microbatch and lane, without a draw."""
        return ROUTINGS[self.routing.kind].is_balanced

    @property
    def has_replicated_tokens(self) -> bool:
        """Whether all ranks of a lane have all its tokens."""
        return self.mesh.replicates_tokens_over_tp

    @property
    def gathers_tokens(self) -> bool:
        """Whether every rank of a lane gathers all its tokens for the experts, each token once."""
        return self.mesh.gathers_tokens

    @property
    def expert_slice(self) -> MoeFfn:
        """The experts as a rank has them: 1 / ETP of their width."""
        return self.model.moe_ffn.sliced(self.mesh.strategy.etp)

    @property
    def owned_tokens(self) -> int:
        """Tokens of a microbatch that each source rank sends off."""
        return self.rank_tokens if self.has_replicated_tokens else self.rank_tokens // self.mesh.strategy.tp

    @property
    def copies_per_host(self) -> float:
        """Copies of tokens of one lane's microbatch that a host of experts receives in a layer, mean of the hosts."""
        return self.rank_tokens * self.model.top_k / self.mesh.expert_shards

    @property
    def num_limited_nodes(self) -> int:
        """Nodes that an expert group spans, where a token may not go to all of them; 1 without such a limit."""
        if self.routing.max_nodes_per_token is None:
            return 1
        return int(np.unique(self.cluster.node_of(self.mesh.ep_groups(0)[0])).size)

    @property
    def schedule_kind(self) -> ScheduleKind:
        """Properties of the schedule."""
        return schedule_kind_of(self.schedule, self.chunk_order)

    @property
    def chunk_layout(self) -> ChunkLayout:
        """Where the model chunks stand."""
        return self.schedule_kind.layout_on(self.mesh.num_stages, self.mesh.strategy.vpp)

    @property
    def has_two_replicas(self) -> bool:
        """Whether each model chunk stands on two stages, as two replicas of the model (Chimera, DualPipe)."""
        return self.chunk_layout.num_copies == 2

    @property
    def splits_backward(self) -> bool:
        """Whether W is a pass of its own."""
        return self.schedule_kind.splits_backward

    @property
    def overlaps_moe(self) -> bool:
        """Whether each forward pass runs next to the backward pass of another microbatch, for its exchanges."""
        return self.runtime.overlap_moe and self.kind.trains

    @property
    def exchanges_tokens(self) -> bool:
        """Whether copies of tokens are sent to experts on other ranks, and not all tokens to every rank."""
        is_sent = not (self.gathers_tokens or self.has_replicated_tokens)
        return self.model.experts > 0 and self.mesh.strategy.ep > 1 and is_sent

    @property
    def dispatcher_buffer_bytes(self) -> int:
        """Bytes of the buffers that the dispatcher keeps on every rank."""
        if not (self.exchanges_tokens and self.network.all_to_all_algorithm.keeps_buffers):
            return 0
        num_sms = self.network.exchange_num_sms or 0
        return deepep_buffer_bytes(2.0 * self.model.expert_hidden, self.mesh.strategy.ep, num_sms)

    @property
    def runs_pairs(self) -> bool:
        """Whether forward and backward passes run at the same time."""
        if self.own_order is None:
            return self.schedule_kind.pairs or self.overlaps_moe
        return any(isinstance(step, Pair) for steps in self.own_order.order for step in steps)

    @property
    def overlaps_grad_reduce(self) -> bool:
        """Whether gradients are reduced next to backward passes: the runtime does so wherever that can be."""
        return self.runtime.overlap_grad_reduce and self.why_no_overlap is None

    @property
    def overlaps_param_gather(self) -> bool:
        """Whether parameters are gathered next to forward passes: the runtime does so wherever that can be."""
        return self.runtime.overlap_param_gather and self.why_no_overlap is None and self.zero == 1

    @property
    def overlaps_tp(self) -> bool:
        """Whether collectives over TP run in pieces next to products: the runtime does so with sequence parallelism."""
        return self.runtime.overlap_tp and self.mesh.sp and self.mesh.strategy.tp > 1

    @property
    def why_no_overlap(self) -> str | None:
        """Why data-parallel exchanges cannot overlap with passes; None where they can."""
        if not self.kind.trains:
            return "in a forward pass, which has no gradients"
        if self.fsdp is not None:
            return "with parallel.fsdp, which exchanges next to layers without it"
        if self.sharding.gradients:
            return f"with parallel.zero {self.zero}, which exchanges in every pass (not supported yet)"
        if self.mesh.convention.experts_span_stages:
            return (
                f"under the convention {self.mesh.convention.name}, whose experts serve all stages (not supported yet)"
            )
        if self.has_two_replicas:
            return f"with schedule.kind {self.schedule}, whose stages hold two copies of the model (not supported yet)"
        return None

    @property
    def visits_of_stage(self) -> int:
        """How often a microbatch visits each stage on its way forward."""
        return self.chunk_layout.num_model_chunks // self.mesh.num_stages

    def model_chunks_of(self, stage: int) -> tuple[int, ...]:
        """Return the model chunks that a stage holds, chunk by chunk."""
        return tuple(self.chunk_layout.model_chunk_of(stage, chunk) for chunk in range(self.chunk_layout.num_chunks))

    @property
    def layers(self) -> range:
        """All layers that run: those of the model, and in training those of MTP."""
        return range(self.model.num_all_layers if self.kind.trains else self.model.layers)

    @property
    def chunks_with_embedding(self) -> tuple[int, ...]:
        """The model chunks that hold the embedding: that of the first layer, and of the layers of MTP."""
        has_mtp = len(self.layers) > self.model.layers
        return (self.embedding_chunk, self.mtp_chunk) if has_mtp else (self.embedding_chunk,)

    @property
    def num_heads(self) -> int:
        """How often a microbatch passes the output head: once, and in training once more for each layer of MTP."""
        return 1 + len(self.layers) - self.model.layers

    def layers_of(self, stage: int) -> Sequence[int]:
        """Return the layers of a stage, of all of its chunks."""
        return [layer for chunk in self.model_chunks_of(stage) for layer in self.layers_of_model_chunk(chunk)]

    def layers_of_model_chunk(self, chunk: int) -> Sequence[int]:
        """Return the layers of a model chunk, those of MTP last."""
        first = sum(self.chunk_layers[:chunk])
        layers = range(first, first + self.chunk_layers[chunk])
        mtp = self.layers[self.model.layers :]
        return [*layers, *mtp] if mtp and chunk == self.mtp_chunk else layers

    def recompute_of(self, layer: int) -> Recompute:
        """Return what the backward pass of layer number `layer` computes again."""
        if self.recompute.num_layers is None:
            return self.recompute
        chunks = map(self.layers_of_model_chunk, range(self.chunk_layout.num_model_chunks))
        return self.recompute.of_layer(next(layers.index(layer) for layers in chunks if layer in layers))

    def is_offloaded(self, layer: int) -> bool:
        """Tell whether the activations of layer number `layer` are on the host between F and B."""
        if not self.offload_layers:
            return False
        chunks = map(self.layers_of_model_chunk, range(self.chunk_layout.num_model_chunks))
        return any(layer in layers[: self.offload_layers] for layers in chunks)

    def num_hidden_states_after(self, chunk: int) -> int:
        """Return the hidden states of a token that leave a model chunk: those of MTP too, on their way to the loss."""
        return self.num_heads if self.mtp_chunk <= chunk < self.head_chunk else 1

    def stage_parameters(self, stage: int) -> StageParameters:
        """Return what a stage holds of the model, in all of its chunks."""
        chunks = self.model_chunks_of(stage)
        return StageParameters(
            layers=self.layers_of(stage),
            has_embedding=any(chunk in chunks for chunk in self.chunks_with_embedding),
            has_head=self.head_chunk in chunks,
            expert_replicas=self.placement.replicas,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CollectiveWork:
    """One collective operation between the ranks of a cluster, as a benchmark of collectives runs it."""

    cluster: Cluster
    op: str
    """A key of `workloads.collectives.OPERATIONS`."""
    ranks: NDArray[np.intp]
    """Who takes part. Shape [R]."""
    num_bytes: float
    """Size as nccl-tests counts it; of dispatch and combine the bytes of one token."""
    tokens: int = 0
    """Tokens of each rank, of dispatch and combine."""
    top_k: int = 1
    """Experts of a token."""
    experts: int = 0
    """Experts, spread evenly over the ranks."""
    routing: RoutingSettings = field(default_factory=RoutingSettings)
    """Which experts tokens are sent to."""
    seed: int = 1
    """Seed of the draws."""
    network: NetworkSettings = field(default_factory=NetworkSettings)
    """How transfers are simulated."""
    factors: Factors = MODEL_ITSELF
    """What times of transfers are multiplied by."""
