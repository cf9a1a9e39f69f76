"""What a work must be, beyond what its fields alone say: heads and TP, layers and PP, experts and EP, sequences.

Each refusal names the remedies that may lead out of it; `sim.build.hints` tries them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from sim.errors import InvalidValueError, Remedy
from workloads.schedules import Pipeline

if TYPE_CHECKING:
    from sim.build.work import Work

__all__ = ["check_work"]

_MOST_SIZES: Final = 4
"""Other sizes of an axis that a hint tries."""


def check_work(work: "Work") -> None:
    """Refuse a work whose parts do not go together.

    Raises
    ------
    InvalidValueError
        With the key, the rule, the value, and remedies.
    """
    _check_heads(work)
    _check_experts(work)
    _check_sequences(work)
    _check_context(work)
    _check_tokens(work)
    _check_placement(work)
    _check_chunks(work)
    _check_offload(work)
    _refuse_unbuilt(work)


# ---- private -----------------------------------------------------------------------------------------------------


def _check_heads(work: "Work") -> None:
    """Check that TP splits the attention of every kind of layer."""
    model, s = work.model, work.mesh.strategy
    for layer, _ in model.layer_kinds(range(model.layers)):
        why = None if layer.attention is None else layer.attention.why_not_split(s.tp)
        if why is not None:
            field, heads = why
            shared = field == "kv_heads"
            rule = f"divide {field} = {heads}" + (" or be a multiple of it" if shared else "")
            hint = "Choose another TP." if shared else "Choose TP among its divisors."
            error = InvalidValueError("parallel.tp", rule=rule, value=s.tp, hint=hint)
            raise error.with_remedies(_with_axis(work, "tp", heads))


def _check_experts(work: "Work") -> None:
    """Check that EP and ETP split the experts."""
    model, s = work.model, work.mesh.strategy
    slots = model.experts + work.placement.replicas
    _require(
        slots % s.ep == 0,
        "placement.replicas" if work.placement.replicas else "parallel.ep",
        f"give all EP = {s.ep} ranks equally many of {slots} slots, {model.experts} experts and "
        f"{work.placement.replicas} replicas"
        if work.placement.replicas
        else f"divide experts = {model.experts}, or experts + placement.replicas",
        work.placement.replicas or s.ep,
        "Choose EP among the divisors of the slots.",
        lambda: [
            *(remedy for n, remedy in _with_replicas(work) if n > 0),
            *_with_axis(work, "ep", slots),
            *(remedy for n, remedy in _with_replicas(work) if n == 0),
        ],
    )
    for axis in ("ep", "etp"):
        _require(
            getattr(s, axis) == 1 or model.experts > 0,
            f"parallel.{axis}",
            "be 1 for a dense model",
            getattr(s, axis),
            f"Drop {axis.upper()} or set model.experts.",
            partial(_with_axis, work, axis, 1),
        )
    _require(
        model.ffn % s.etp == 0,
        "parallel.etp",
        f"divide model.ffn = {model.ffn}, the width of an expert",
        s.etp,
        "Choose ETP among its divisors.",
        partial(_with_axis, work, "etp", model.ffn),
    )


def _check_sequences(work: "Work") -> None:
    """Check that every microbatch of every replica has equally many sequences."""
    per_pipeline = work.mesh.dp * work.microbatches
    _require(
        work.sequences % per_pipeline == 0,
        "workload.sequences",
        f"be a multiple of DP x microbatches = {work.mesh.dp} x {work.microbatches} = {per_pipeline}",
        work.sequences,
        "Change workload.sequences or workload.microbatches.",
        lambda: [
            *_with_microbatches(work),
            *(
                Remedy({"workload.sequences": number}, f"workload.sequences: {number}")
                for number in (max(1, work.sequences // per_pipeline) * per_pipeline,)
            ),
        ],
    )


def _check_tokens(work: "Work") -> None:
    """Check that TP splits the tokens of a microbatch."""
    s = work.mesh.strategy
    _require(
        work.rank_tokens % s.tp == 0,
        "workload.sequence_length",
        f"give tokens per microbatch that divide by TP = {s.tp} (they are split over it)",
        work.rank_tokens,
        f"Use a sequence length that is a multiple of {s.tp}.",
        lambda: [
            Remedy({"workload.sequence_length": length}, f"workload.sequence_length: {length}")
            for length in (work.sequence_length // s.tp * s.tp, -(-work.sequence_length // s.tp) * s.tp)
            if length
        ],
    )


def _check_context(work: "Work") -> None:
    """Check that sequences have 2 CP chunks, and that the ranks can compute every kind of layer together."""
    cp, length = work.mesh.strategy.cp, work.sequence_length
    if cp == 1:
        return
    part = 2 * cp
    _require(
        length % part == 0,
        "workload.sequence_length",
        f"be a multiple of 2 CP = {part}: a rank has two chunks of each sequence",
        length,
        f"Use a multiple of {part}.",
        lambda: [
            Remedy({"workload.sequence_length": near}, f"workload.sequence_length: {near}")
            for near in (length // part * part, -(-length // part) * part)
            if near
        ],
    )
    for layer, _ in work.model.layer_kinds(work.layers):
        if layer.attention is not None:
            work.context.check(layer.attention, work.mesh.strategy.tp)


def _check_placement(work: "Work") -> None:
    _require(
        not work.placement.replicas or work.model.experts > 0,
        "placement.replicas",
        "be left out of a dense model",
        work.placement.replicas,
        "Remove it, or give model.experts.",
    )
    every = work.placement.every
    _require(
        not work.kind.trains or every is None or every % work.microbatches == 0,
        "placement.every",
        f"be a multiple of workload.microbatches = {work.microbatches} in training: a plan holds for whole steps",
        every,
        "Use a multiple of workload.microbatches, or a forward pass.",
        lambda: [Remedy({"placement.every": work.microbatches}, f"placement.every: {work.microbatches}")],
    )


def _check_offload(work: "Work") -> None:
    """Refuse what Megatron-LM refuses together with activations on the host."""
    if not work.offload_layers:
        return
    for ok, rule, hint in (
        (work.kind.trains, "be left out of a forward pass", "A forward pass keeps no activations: remove it."),
        (
            work.recompute.kind == "none",
            "be left out with schedule.recompute",
            "Megatron-LM runs one of the two: remove one.",
        ),
        (
            work.mesh.num_stages == 1,
            "be left out with PP > 1",
            "Megatron-LM offloads without PP: remove it.",
        ),
    ):
        _require(ok, "schedule.offload_layers", rule, work.offload_layers, hint)


def _check_chunks(work: "Work") -> None:
    s, model, chunks = work.mesh.strategy, work.model, work.chunk_layout.num_chunks
    _require(
        s.vpp in {1, chunks} and not (s.vpp == 1 and work.schedule_kind.needs_num_chunks),
        "parallel.vpp",
        f"be {'at least 2' if chunks == s.vpp == 1 else chunks} with schedule.kind {work.schedule}",
        s.vpp,
        "Write the number of chunks of each stage." if chunks == s.vpp else "Leave it out.",
    )
    if work.schedule_kind.requires is not None:
        work.schedule_kind.requires(Pipeline(num_stages=s.pp, num_microbatches=work.num_microbatches))
    _require(
        len(work.chunk_layers) == work.chunk_layout.num_model_chunks and sum(work.chunk_layers) == model.layers,
        "parallel.stage_layers",
        f"give {work.chunk_layout.num_model_chunks} counts, one per "
        f"{'stage' if chunks == 1 else 'part of the model'}, that sum to layers = {model.layers}",
        list(work.chunk_layers),
        "Correct the split.",
        lambda: [Remedy({"parallel.stage_layers": _even_split(work)}, str(_even_split(work)))],
    )
    _require(
        not (work.has_two_replicas and work.fsdp is not None),
        "parallel.fsdp",
        f"be none with schedule.kind {work.schedule}, whose stages hold two copies of the model (others: not "
        "supported yet)",
        "hybrid" if work.fsdp is not None and work.fsdp.num_instances > 1 else "full",
        "The copies would have to meet in every pass: use zero 1, or a schedule of one pipeline.",
    )
    _require(
        not (work.has_two_replicas and work.kind.trains and work.sharding.gradients),
        "parallel.zero",
        f"be 0 or 1 with schedule.kind {work.schedule}, whose stages hold two copies of the model (others: not "
        "supported yet)",
        work.zero,
        "The copies would have to meet in every pass: use zero 1, or a schedule of one pipeline.",
    )


def _even_split(work: "Work") -> list[int]:
    """Return as many layers for each chunk as can be, the first chunks with one more."""
    every, rest = divmod(work.model.layers, work.chunk_layout.num_model_chunks)
    return [every + (i < rest) for i in range(work.chunk_layout.num_model_chunks)]


def _with_axis(work: "Work", axis: str, whole: int) -> list[Remedy]:
    """Return strategies with another size of an axis, divisors of `whole`, the nearest to the given size first.

    EP under a convention that derives DP from EP takes DP along.
    """
    s = replace(work.mesh.convention.as_named(work.mesh.strategy), dp=None)
    given = getattr(s, axis)
    divisors = [size for size in range(1, min(whole, work.mesh.world) + 1) if whole % size == 0 and size != given]
    nearest = sorted(divisors, key=lambda size: (abs(math.log2(size / given)), size))
    names = [replace(s, **{axis: size}).name for size in nearest[:_MOST_SIZES]]  # type: ignore[arg-type]  # a size
    return [Remedy({"parallel.strategy": name}, name) for name in names]


def _with_replicas(work: "Work") -> list[tuple[int, Remedy]]:
    """Return the numbers of replicas below and above the given number that fill all ranks, the nearest first."""
    if not work.model.experts:
        return []
    given, ep = work.placement.replicas, work.mesh.strategy.ep
    below = given - (work.model.experts + given) % ep
    numbers = sorted((n for n in (below, below + ep) if n >= 0), key=lambda n: (abs(n - given), -n))
    return [(n, Remedy({"placement.replicas": n}, f"placement.replicas: {n}")) for n in numbers]


def _with_microbatches(work: "Work") -> list[Remedy]:
    """Return numbers of microbatches that the sequences of a replica divide by, the nearest first."""
    per_replica, rest = divmod(work.sequences, work.mesh.dp)
    if rest:
        return []
    fitting = [m for m in range(work.microbatches, 0, -1) if per_replica % m == 0][:1]
    return [Remedy({"workload.microbatches": m}, f"workload.microbatches: {m}") for m in fitting]


def _refuse_unbuilt(work: "Work") -> None:
    s, convention = work.mesh.strategy, work.mesh.convention
    _require(
        not work.kind.trains or convention.supports_training,
        "workload.kind",
        f"be forward under the {convention.name} convention, which serves and does not train",
        work.kind.name,
        "Use convention: megatron for training.",
    )
    _require(
        not (work.model.experts and convention.splits_sequence_over_tp and s.tp > 1 and not work.mesh.sp),
        "parallel.sp",
        "be true where TP > 1 meets experts (otherwise: not supported yet)",
        work.mesh.sp,
        "Set sp: true, or leave it out.",
    )


def _require(  # noqa: PLR0917 - in the order of a message
    ok: bool, field: str, rule: str, value: object, hint: str, remedies: Callable[[], Sequence[Remedy]] = tuple
) -> None:
    if not ok:
        raise InvalidValueError(field=field, rule=rule, value=value, hint=hint).with_remedies(remedies())
