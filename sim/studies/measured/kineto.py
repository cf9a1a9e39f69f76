"""Traces of PyTorch's profiler (Kineto's JSON, one file for each rank) as a trace of one step.

Model
-----
Kernels get their kind by name (`KERNEL_KINDS`), NCCL's by the description of their group where the trace has it. Each
rank is a lane of one stage, its kernels in order of time:

    compute     kernels that are no collectives
    async       collectives and sends, on whatever stream they ran
    await       the parts of these in which no kernel of the rank ran: what a profiler calls exposed
    pass        the whole step, so that times without any kernel are `stalled`

A step is what `ProfilerStep#n` marks on the GPU, else kernels that were launched within its mark on the host, else the
whole trace. Ranks start at their own first kernel: clocks of hosts are not compared.
"""

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from sim.engine.trace import Trace
from sim.errors import InvalidValueError
from sim.scenario.file_bytes import parse_json, read_input
from sim.studies.measured.as_result import TraceRows

__all__ = ["KERNEL_KINDS", "RankTrace", "check_ranks", "kernel_kind", "read_kineto", "trace_of_ranks"]

KERNEL_KINDS: Final[Sequence[tuple[str, str]]] = (
    (r"multi_?tensor_?apply|adam|lamb|optimizer|l2norm", "optimizer"),
    (r"deep_?ep.*combine|combine_token|unpermute.*a2a", "ep_combine"),
    (r"deep_?ep|dispatch_token|notify_dispatch", "ep_dispatch"),
    (r"flash|fmha|fused_attention|attention|mha_|scaled_masked_softmax|softmax_warp", "attention"),
    (r"grouped_?gemm|moe|expert|permute|topk", "expert"),
)
"""Pattern in the name of a kernel, in any case -> kind of its row; the first that is found. Others are
`other_compute`: the name of a matrix product does not say what it is for."""

_NCCL: Final = re.compile(r"nccl|nvshmem|rccl|mscclpp", re.IGNORECASE)
_GROUPS: Final = (
    ("EXPERT", "ep_dispatch"),
    ("PIPELINE", "pp"),
    ("CONTEXT", "cp"),
    ("TENSOR", "tp"),
    ("DATA", "dp"),
)
"""Word in the description of a process group -> kind; Megatron Core names its groups so."""
_OPERATIONS: Final = ((r"send|recv", "pp"), (r"all_?to_?all", "ep_dispatch"))
"""Pattern in the name of a collective without such a word -> kind; others are `dp`."""
_MAX_BYTES: Final = 1 << 29
_KERNELS: Final = frozenset({"kernel", "gpu_memcpy", "gpu_memset"})
_STEP: Final = re.compile(r"ProfilerStep#(\d+)")
_HINT: Final = "Give the file that torch.profiler's export_chrome_trace wrote, .json or .json.gz."
_MOST_US: Final = 1e18


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel on a GPU."""

    start_ns: int
    end_ns: int
    kind: str
    is_transfer: bool


@dataclass(frozen=True, kw_only=True)
class RankTrace:
    """The kernels of a rank in one step."""

    path: Path
    rank: int | None
    """None: the trace does not say."""
    world_size: int | None
    """Ranks of the job; None: the trace does not say."""
    step: int | None
    """Number of the step; None: the trace marks none."""
    kernels: list[Kernel]
    """In order of start; the first starts at 0."""
    warnings: tuple[str, ...] = ()


def kernel_kind(name: str, args: Mapping[str, Any]) -> tuple[str, bool]:
    """Return the kind of a kernel's row, and whether it is a transfer between ranks.

    >>> kernel_kind("void flash::flash_fwd_kernel<...>", {})
    ('attention', False)
    >>> kernel_kind("ncclDevKernel_AllReduce_Sum_bf16", {"Process Group Description": "TENSOR_MODEL_PARALLEL_GROUP"})
    ('tp', True)
    """
    if _NCCL.search(name):
        group = str(args.get("Process Group Description", "")).upper()
        kind = next((kind for word, kind in _GROUPS if word in group), None)
        operation = f"{name} {args.get('Collective name', '')}".lower()
        if kind is None:
            kind = next((kind for pattern, kind in _OPERATIONS if re.search(pattern, operation)), "dp")
        return kind, True
    lowered = name.lower()
    kind = next((kind for pattern, kind in KERNEL_KINDS if re.search(pattern, lowered)), "other_compute")
    return kind, kind in {"ep_dispatch", "ep_combine"}


def read_kineto(path: Path, *, step: int | None = None) -> RankTrace:
    """Read the kernels of one step of a rank: of `step`, else of the last that is whole.

    Raises
    ------
    InvalidValueError
        The file is no trace of PyTorch's profiler, has no kernels, or not that step.
    """
    data = _read(path)
    events = [event for event in data["traceEvents"] if isinstance(event, Mapping) and event.get("ph") == "X"]
    gpu = [event for event in events if str(event.get("cat", "")).lower() in _KERNELS]
    if not gpu:
        value = f"{len(events)} other events" if events else "no events"
        hint = "Profile with ProfilerActivity.CUDA."
        raise InvalidValueError(
            file=str(path), field="traceEvents", rule="have kernels of a GPU", value=value, hint=hint
        )
    number, chosen = _kernels_of_step(path, events, gpu, step)
    rank, world_size = _place(path, data.get("distributedInfo"))
    kernels = sorted((_kernel(path, event) for event in chosen), key=lambda one: (one.start_ns, one.end_ns))
    first_ns = kernels[0].start_ns
    unnamed = sum(
        "Process Group Description" not in _args(event) for event in chosen if _NCCL.search(str(event.get("name")))
    )
    warnings = (
        (f"{path.name}: {unnamed} collectives say no group; their kind is guessed from their name",) if unnamed else ()
    )
    return RankTrace(
        path=path,
        rank=rank,
        world_size=world_size,
        step=number,
        kernels=[Kernel(k.start_ns - first_ns, k.end_ns - first_ns, k.kind, k.is_transfer) for k in kernels],
        warnings=warnings,
    )


def trace_of_ranks(ranks: Sequence[RankTrace]) -> Trace:
    """Return a trace with a lane for each rank; ranks that no file gives are counted from 0 (`check_ranks`)."""
    numbers = [number if one.rank is None else one.rank for number, one in enumerate(ranks)]
    rows = TraceRows()
    for lane, (number, one) in enumerate(sorted(zip(numbers, ranks, strict=True), key=lambda item: item[0])):
        _add_rank(rows, lane, number, one)
    return rows.trace(np.array(sorted(numbers), dtype=np.intp).reshape(1, -1, 1))


def check_ranks(ranks: Sequence[RankTrace]) -> list[str]:
    """Return warnings about ranks that are not there or not said, of traces that are of one step of one job.

    Raises
    ------
    InvalidValueError
        Traces are of different steps or jobs, of one rank, or say their rank only in part.
    """
    first = ranks[0]
    steps, sizes = ({getattr(one, name) for one in ranks} for name in ("step", "world_size"))
    if len(steps) > 1:
        shown = ", ".join(sorted(str(number) for number in steps))
        raise InvalidValueError("TRACE", "be of one step", f"steps {shown}", "Give --step, which all of them have.")
    seen: dict[int | None, RankTrace] = {}
    for one in ranks:
        if (one.rank is None) != (first.rank is None):
            silent = one if one.rank is None else first
            hint = 'Add "distributedInfo": {"rank": 1} to the JSON, with its rank.'
            raise InvalidValueError(
                file=str(silent.path), field="distributedInfo.rank", rule="be given", value="nothing", hint=hint
            )
        if one.rank is not None and one.rank in seen:
            value = f"rank {one.rank} in {seen[one.rank].path.name} and {one.path.name}"
            raise InvalidValueError("TRACE", "be of different ranks", value, "Give each rank's file once.")
        seen[one.rank] = one
    if len(sizes) > 1:
        shown = ", ".join(sorted(str(number) for number in sizes))
        raise InvalidValueError("TRACE", "be of one job", f"jobs of {shown} ranks", "Give the files of one run.")
    if first.rank is None and len(ranks) > 1:
        return ["the traces do not say their ranks, which are counted from 0 in the order of the files"]
    if first.world_size is not None and first.world_size > len(ranks):
        return [f"of the job's {first.world_size} ranks {len(ranks)} have a trace; means are over these"]
    return []


# ---- private -----------------------------------------------------------------------------------------------------


def _read(path: Path) -> Mapping[str, Any]:
    """Return the JSON object of a trace."""
    content = read_input(path, _MAX_BYTES, field="the trace", hint=_HINT, too_large="Profile fewer steps.")
    try:
        if content.startswith(b"\x1f\x8b"):
            unpack = zlib.decompressobj(wbits=31)
            content = unpack.decompress(content, _MAX_BYTES)
            if unpack.unconsumed_tail or not unpack.eof:
                what = "a larger file" if unpack.unconsumed_tail else "a part of one"
                rule = f"unpack to a whole file of at most {_MAX_BYTES >> 20} MiB"
                raise InvalidValueError(file=str(path), field="the trace", rule=rule, value=what, hint=_HINT)
        data = parse_json(content.decode("utf-8", errors="replace"))
    except InvalidValueError:
        raise
    except zlib.error:
        raise _no_trace(path, "a damaged gzip file") from None
    except ValueError as error:
        raise _no_trace(path, str(error)[:60]) from None
    if isinstance(data, list):  # Chrome's short form
        data = {"traceEvents": data}
    if not isinstance(data, Mapping) or not isinstance(data.get("traceEvents"), list):
        raise _no_trace(path, "JSON without traceEvents")
    return data


def _no_trace(path: Path, value: str) -> InvalidValueError:
    rule = "be the JSON of PyTorch's profiler"
    return InvalidValueError(file=str(path), field="the trace", rule=rule, value=value, hint=_HINT)


def _place(path: Path, info: object) -> tuple[int | None, int | None]:
    """Return the rank of a trace and how many there are, as far as its `distributedInfo` says."""
    if not isinstance(info, Mapping) or info.get("rank") is None:
        return None, None
    rank, world_size = info["rank"], info.get("world_size")
    most = 1 << 20 if world_size is None else world_size
    is_whole = all(isinstance(value, int) and not isinstance(value, bool) for value in (rank, most))
    if not is_whole or not 0 <= rank < most:
        rule = "be a rank from 0 on" + ("" if world_size is None else f", below world_size {world_size}")
        raise InvalidValueError(
            file=str(path), field="distributedInfo.rank", rule=rule[:80], value=str(rank)[:40], hint=_HINT
        )
    return rank, world_size


def _args(event: Mapping[str, Any]) -> Mapping[str, Any]:
    args = event.get("args")
    return args if isinstance(args, Mapping) else {}


def _times_ns(path: Path, event: Mapping[str, Any]) -> tuple[int, int]:
    """Return start and end of an event, which gives microseconds."""
    start_us, duration_us = _microseconds(path, event, "ts", -_MOST_US), _microseconds(path, event, "dur", 0)
    start_ns = round(start_us * 1000)  # an integer stays exact
    return start_ns, start_ns + round(duration_us * 1000)


def _microseconds(path: Path, event: Mapping[str, Any], key: str, least: float) -> float:
    value = event.get(key, 0 if key == "dur" else None)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= _MOST_US:
        rule = "be microseconds" + (", at least 0" if key == "dur" else "")
        hint = f"The event is {str(event.get('name'))[:40]}. {_HINT}"
        raise InvalidValueError(file=str(path), field=key, rule=rule, value=str(value)[:40], hint=hint)
    return value


def _kernel(path: Path, event: Mapping[str, Any]) -> Kernel:
    kind, is_transfer = kernel_kind(str(event.get("name", "")), _args(event))
    return Kernel(*_times_ns(path, event), kind, is_transfer)


def _kernels_of_step(
    path: Path, events: Iterable[Mapping[str, Any]], gpu: list[Mapping[str, Any]], step: int | None
) -> tuple[int | None, list[Mapping[str, Any]]]:
    """Return the number of the step and its kernels."""
    marks: dict[str, dict[int, tuple[int, int]]] = {"gpu_user_annotation": {}, "user_annotation": {}}
    launched: dict[Any, int] = {}
    for event in events:
        category = str(event.get("cat", "")).lower()
        found = _STEP.search(str(event.get("name", ""))) if category in marks else None
        if found:
            marks[category][int(found[1])] = _times_ns(path, event)
        elif category in {"cuda_runtime", "cuda_driver", "runtime"}:
            launched[_args(event).get("correlation")] = _times_ns(path, event)[0]
    own = marks["gpu_user_annotation"] or marks["user_annotation"]
    if not own:
        if step is not None:
            raise InvalidValueError(
                "--step", "be a step that the trace marks", step, "The trace marks none: leave it out."
            )
        return None, gpu
    on_gpu = bool(marks["gpu_user_annotation"])
    by_step: dict[int, list[Mapping[str, Any]]] = {number: [] for number in own}
    for event in gpu:
        at_ns = _times_ns(path, event)[0]
        if not on_gpu:
            at_ns = launched.get(_args(event).get("correlation"), at_ns)
        for number, (begin_ns, end_ns) in own.items():
            if begin_ns <= at_ns < end_ns:
                by_step[number].append(event)
    steps = sorted(number for number, found in by_step.items() if found)
    if step is None and steps:
        step = steps[-1]
    if step not in steps:
        shown = ", ".join(map(str, steps[:8])) or "none"
        raise InvalidValueError("--step", "be a step with kernels", step, f"{path.name} has {shown}.")
    return step, by_step[step]


def _add_rank(rows: TraceRows, lane: int, rank: int, one: RankTrace) -> None:
    """Add the rows of a rank."""
    where = {"stage": 0, "lane": lane, "rank": rank, "microbatch": 0}
    end_ns = max(kernel.end_ns for kernel in one.kernels)
    rows.add(**where, stream="pass", kind="F", start_ns=0, end_ns=end_ns)
    last_row, last_end_ns, reached_ns = -1, 0, 0
    gaps: list[tuple[int, int]] = []
    for kernel in one.kernels:
        stream = "async" if kernel.is_transfer else "compute"
        row = rows.add(
            **where,
            stream=stream,
            kind=kernel.kind,
            start_ns=kernel.start_ns,
            end_ns=kernel.end_ns,
            released_by=last_row if last_end_ns <= kernel.start_ns else -1,
        )
        if not kernel.is_transfer:
            if kernel.start_ns > reached_ns:
                gaps.append((reached_ns, kernel.start_ns))
            reached_ns = max(reached_ns, kernel.end_ns)
        if kernel.end_ns >= last_end_ns:
            last_row, last_end_ns = row, kernel.end_ns
    gaps.append((reached_ns, end_ns))
    _add_waits(rows, where, gaps, [kernel for kernel in one.kernels if kernel.is_transfer])


def _add_waits(
    rows: TraceRows, where: Mapping[str, int], gaps: Sequence[tuple[int, int]], transfers: Sequence[Kernel]
) -> None:
    """Add an `await` for each part of a transfer in which no kernel ran."""
    first = 0
    for begin_ns, stop_ns in gaps:
        while first < len(transfers) and transfers[first].end_ns <= begin_ns:
            first += 1
        at_ns = begin_ns
        for transfer in transfers[first:]:
            if transfer.start_ns >= stop_ns:
                break
            start_ns, end_ns = max(at_ns, transfer.start_ns), min(stop_ns, transfer.end_ns)
            if end_ns > start_ns:
                rows.add(**where, stream="await", kind=transfer.kind, start_ns=start_ns, end_ns=end_ns)
                at_ns = end_ns
