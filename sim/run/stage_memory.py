"""The bytes on the GPUs of each stage of a work, for the account of memory along its trace.

Model
-----
    buffers   send and receive buffers of a microbatch, and of each copy of a token as it leaves and as it arrives on
              the hottest ranks, with padding and without what is dropped; the activations of a recomputed layer, as
              long as they exist; the gradients inside of the block whose backward pass needs most; layers that ZeRO 2
              and 3 hold whole; what context parallelism adds while attention runs (`workloads.context_parallel`)
    experts   copies of tokens that arrived: of a microbatch of one lane, or where experts serve all stages of all lanes
    logits    of a microbatch in the model's type (4 bytes where the head is computed in these), and in training the
              softmax in 4 bytes in addition, which each layer of MTP keeps too: one head has its logits at a time

A stage of a bidirectional pipeline holds two chunks of the model, its own and that of the stage opposite.
"""

from sim.build.work import Work
from sim.results.memory import ChunkMemory, StageMemory
from workloads.memory import (
    Recompute,
    activation_bytes_per_microbatch,
    bytes_per_token_copy,
    forward_working_bytes,
    gradient_bytes_in_block,
    kv_cache_bytes,
    params_per_rank,
    state_bytes,
    weight_pass_bytes_per_microbatch,
)

__all__ = ["stage_memory"]


def stage_memory(work: Work, stage: int, *, skew: tuple[float, float] = (1.0, 1.0)) -> StageMemory:
    """Return the bytes on each GPU of a stage.

    Parameters
    ----------
    work, stage
        What runs, and where.
    skew
        Most rows that a rank sends and receives in one exchange, over the mean copies of the ranks.
    """
    if not work.kind.trains:
        return _forward_memory(work, stage, skew)
    model = work.model
    state = state_bytes(
        model, work.mesh, work.stage_parameters(stage), stage, sharding=work.sharding, precision=work.precision
    )
    return StageMemory(
        weights=state.weights,
        gradients=state.gradients,
        optimizer=state.optimizer,
        buffers=_exchange_bytes(work, skew)
        + _recomputed_bytes(work, stage)
        + _copied_bytes(work, stage)
        + state.working
        + gradient_bytes_in_block(
            model,
            work.mesh,
            work.layers_of(stage),
            work.rank_tokens,
            sequence_length=work.sequence_length,
            context=work.context,
        ),
        chunks=tuple(_chunk(work, model_chunk) for model_chunk in work.model_chunks_of(stage)),
    )


# ---- private -----------------------------------------------------------------------------------------------------


def _chunk(work: Work, model_chunk: int) -> ChunkMemory:
    """Return the bytes that a microbatch adds while it trains the layers of a chunk of the model."""
    model, mesh, tokens, layers = work.model, work.mesh, work.rank_tokens, work.layers_of_model_chunk(model_chunk)
    on_device = layers[work.offload_layers :]
    activations = activation_bytes_per_microbatch(
        model, mesh, on_device, tokens, work.recompute, sequence_length=work.sequence_length
    )
    moe_layers = list(filter(model.is_moe_layer, on_device))
    recompute = work.recompute_of(moe_layers[-1]) if moe_layers else work.recompute
    num_moe = sum(work.recompute_of(layer) == recompute for layer in moe_layers)  # the others keep nothing of experts
    experts = num_moe * work.copies_per_host * bytes_per_token_copy(model, recompute, etp=mesh.strategy.etp)
    num_served = mesh.num_lanes if mesh.convention.experts_span_stages else 1
    waiting, of_experts = weight_pass_bytes_per_microbatch(model, mesh, layers, tokens)
    width = model.padded_vocab(mesh.strategy.tp) / mesh.strategy.tp
    return ChunkMemory(
        activations=activations - experts,
        expert_activations=num_served * experts,
        weight_pass=waiting,
        expert_weight_pass=of_experts,
        logits=work.rank_head_tokens * width * (model.logit_bytes + 4 * work.num_heads)
        if model_chunk == work.head_chunk
        else 0.0,
    )


def _exchange_bytes(work: Work, skew: tuple[float, float]) -> float:
    """Return send and receive buffers of one microbatch: copies of tokens as they leave, and as they arrive.

    Two passes at a time have two of them.
    """
    model, s = work.model, work.mesh.strategy
    copies = sum(skew) * max(1, model.top_k) if model.experts and s.ep > 1 else 0
    streams = 2  # residual streams as they leave a stage and as they arrive
    if work.gathers_tokens:  # all tokens of a lane, and the results before they are summed
        copies, streams = 0, 2 + 2 * work.mesh.lane_size
    elif s.etp > 1:  # the tensor of all ranks that hold slices of the same experts
        copies += skew[1] * model.top_k * s.etp
    at_a_time = 2 if work.runs_pairs and work.kind.trains else 1
    return (
        at_a_time
        * work.rank_tokens
        * model.dtype_bytes
        / s.tp
        * (streams * model.hidden + copies * model.expert_hidden)
    )


def _copied_bytes(work: Work, stage: int) -> float:
    """Return the activations of two layers on their way to the host or back."""
    offloaded = filter(work.is_offloaded, work.layers_of(stage))
    return 2 * max(
        (
            activation_bytes_per_microbatch(
                work.model, work.mesh, [layer], work.rank_tokens, work.recompute, sequence_length=work.sequence_length
            )
            for layer in offloaded
        ),
        default=0.0,
    )


def _recomputed_bytes(work: Work, stage: int) -> float:
    """Return the bytes of the fullest layer that exist only while its backward pass runs, for they are recomputed."""
    if work.recompute.kind == "none":
        return 0.0
    layers = work.layers_of(stage)
    firsts = {id(work.model.layer(layer)): layer for layer in reversed(layers)}

    def kept(layer: int, recompute: Recompute) -> float:
        return activation_bytes_per_microbatch(
            work.model, work.mesh, [layer], work.rank_tokens, recompute, sequence_length=work.sequence_length
        )

    return max(
        (kept(layer, Recompute()) - kept(layer, work.recompute) for layer in sorted(firsts.values())), default=0.0
    )


def _forward_memory(work: Work, stage: int, skew: tuple[float, float]) -> StageMemory:
    model, mesh, tp = work.model, work.mesh, work.mesh.strategy.tp
    logits = work.rank_head_tokens * model.padded_vocab(tp) / tp * model.logit_bytes
    return StageMemory(
        weights=float(sum(params_per_rank(model, mesh, work.stage_parameters(stage))) * model.weight_bytes),
        buffers=_exchange_bytes(work, skew),
        chunks=tuple(
            ChunkMemory(
                activations=forward_working_bytes(model, mesh, work.rank_tokens, skew=skew[1], context=work.context),
                logits=logits if model_chunk == work.head_chunk else 0.0,
                kv_cache=kv_cache_bytes(
                    model,
                    work.layers_of_model_chunk(model_chunk),
                    work.sequences_per_microbatch,
                    work.sequence_length,
                    tp,
                    cp=mesh.strategy.cp,
                ),
            )
            for model_chunk in work.model_chunks_of(stage)
        ),
    )
