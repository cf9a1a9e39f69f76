"""Traces of PyTorch's profiler: small ones made here in its form, and broken ones."""

import gzip
import json

import numpy as np
import pytest

from sim.cli.measured import import_kineto_command
from sim.errors import InvalidValueError
from sim.results.stages import stages_ns
from sim.studies.measured.kineto import check_ranks, kernel_kind, read_kineto, trace_of_ranks


def kernel(name, ts, dur, *, stream=7, correlation=0, **args):
    """Return an event of a kernel as Kineto writes it; microseconds."""
    return {
        "ph": "X",
        "cat": "kernel",
        "name": name,
        "pid": 0,
        "tid": stream,
        "ts": ts,
        "dur": dur,
        "args": {"device": 0, "stream": stream, "correlation": correlation, **args},
    }


def mark(number, ts, dur, category="gpu_user_annotation"):
    return {"ph": "X", "cat": category, "name": f"ProfilerStep#{number}", "pid": 0, "tid": 7, "ts": ts, "dur": dur}


GEMM = "sm90_xmma_gemm_bf16bf16_bf16f32"
REDUCE = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL"
EVENTS = [
    {"ph": "M", "name": "process_name", "pid": 0, "args": {"name": "python"}},
    {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 1, "tid": 1, "ts": 990, "dur": 3},
    mark(4, 0, 900),
    mark(5, 1000, 100),
    kernel("an earlier kernel", 100, 50),
    kernel("void flash_fwd_kernel<128>", 1000, 10),
    kernel(REDUCE, 1005, 15, stream=20, **{"Process Group Description": "TENSOR_MODEL_PARALLEL_GROUP"}),
    kernel(GEMM, 1015, 20),
    kernel("multi_tensor_apply_kernel<adam>", 1050, 30),
]


def write(path, events, *, rank=None, world_size=2):
    data = {"schemaVersion": 1, "traceEvents": events}
    if rank is not None:
        data["distributedInfo"] = {"backend": "nccl", "rank": rank, "world_size": world_size}
    path.write_text(json.dumps(data), "utf-8")
    return path


def test_a_step_by_hand(tmp_path):
    """Flash 0 to 10, a gap of 5 in which the all-reduce runs, GEMM 15 to 35, nothing to 50, Adam to 80 us."""
    one = read_kineto(write(tmp_path / "rank0.json", EVENTS, rank=0))
    assert (one.rank, one.step, len(one.kernels)) == (0, 5, 4)
    trace = trace_of_ranks([one])
    (account,) = stages_ns(trace)
    spent = {part: ns for part, ns in account.items() if ns}
    assert spent == {"attention": 10_000, "tp": 5_000, "other_compute": 20_000, "stalled": 15_000, "optimizer": 30_000}
    assert trace.step_ns == 80_000


def test_steps_go_by_launches_where_only_the_host_marks_them(tmp_path):
    launch = {"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "ts": 20, "dur": 2}
    events = [
        mark(1, 0, 100, "user_annotation"),
        mark(2, 100, 100, "user_annotation"),
        {**launch, "args": {"correlation": 1}},
        {**launch, "ts": 150, "args": {"correlation": 2}},
        kernel(GEMM, 130, 40, correlation=1),  # launched in step 1, runs while the host is in step 2
        kernel(GEMM, 180, 50, correlation=2),
    ]
    path = write(tmp_path / "a.json", events)
    assert [k.end_ns for k in read_kineto(path, step=1).kernels] == [40_000]
    assert [k.end_ns for k in read_kineto(path).kernels] == [50_000]
    with pytest.raises(InvalidValueError, match=r"be a step with kernels, got 3. a.json has 1, 2"):
        read_kineto(path, step=3)


def test_ranks_are_lanes(tmp_path):
    files = [write(tmp_path / f"r{rank}.json", EVENTS, rank=rank) for rank in (1, 0)]
    trace = trace_of_ranks([read_kineto(file) for file in files])
    assert trace.num_lanes == 2
    np.testing.assert_array_equal(trace.lane_ranks.ravel(), [0, 1])
    assert sum(stages_ns(trace)[0].values()) == trace.step_ns


@pytest.mark.parametrize(
    ("name", "group", "kind"),
    [
        ("ncclDevKernel_SendRecv", "PIPELINE_MODEL_PARALLEL_GROUP", "pp"),
        ("ncclDevKernel_SendRecv", "EXPERT_MODEL_PARALLEL_GROUP", "ep_dispatch"),
        ("ncclDevKernel_ReduceScatter_Sum_f32", "DATA_PARALLEL_GROUP_WITH_CP", "dp"),
        ("ncclDevKernel_AllGather_RING_LL", "TENSOR_MODEL_PARALLEL_GROUP", "tp"),
        ("ncclDevKernel_AllGather_RING_LL", None, "dp"),
        ("ncclKernel_SendRecv_RING_SIMPLE", None, "pp"),
        ("deep_ep::internode::dispatch", None, "ep_dispatch"),
        ("deep_ep::internode::combine", None, "ep_combine"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop", None, "attention"),
        ("grouped_gemm_kernel", None, "expert"),
        ("nvjet_hsh_256x128", None, "other_compute"),
    ],
)
def test_kinds_of_kernels(name, group, kind):
    args = {} if group is None else {"Process Group Description": group}
    assert kernel_kind(name, args)[0] == kind


def test_packed_traces_and_guessed_groups(tmp_path, capsys):
    plain = write(tmp_path / "plain.json", [kernel(GEMM, 0, 5), kernel(REDUCE, 5, 5)])
    packed = tmp_path / "packed.json.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_kineto(packed).kernels == read_kineto(plain).kernels
    import_kineto_command([str(packed)], as_json=True, out=str(tmp_path / "out"))
    data = json.loads(capsys.readouterr().out)
    assert "1 collectives say no group" in data["warnings"][0]
    assert data["stages_ns"][0]["dp"] == 5_000
    assert (tmp_path / "out" / "timeline.png").stat().st_size > 1000
    assert "moesim import kineto" in (tmp_path / "out" / "report.html").read_text("utf-8")
    import_kineto_command([str(plain)], as_json=False)
    assert "10 us; most of it is other compute (50 %), dp (50 %)" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "be the JSON of PyTorch's profiler"),
        (b"{}", "JSON without traceEvents"),
        (b'{"traceEvents": 3}', "JSON without traceEvents"),
        (b'{"traceEvents": []}', "have kernels"),
        (b'{"traceEvents": [1, null, {"ph": "X"}]}', "have kernels"),
        (
            b'{"traceEvents": [{"ph": "X", "cat": "kernel", "name": "a", "ts": "x", "dur": 1}]}',
            "ts must be microseconds",
        ),
        (
            b'{"traceEvents": [{"ph": "X", "cat": "kernel", "name": "a", "ts": 1, "dur": -1}]}',
            "dur must be microseconds",
        ),
        (b'{"traceEvents": [{"ph": "X", "cat": "kernel", "name": "a", "ts": NaN, "dur": 1}]}', "not finite"),
        (b"\x1f\x8bnot a gzip file", "be the JSON of PyTorch's profiler"),
        (gzip.compress(b'{"traceEvents": []}', mtime=0)[:-9], "a part of one"),
        (b"[" * 500, "levels"),
    ],
)
def test_broken_traces_are_refused(tmp_path, content, message):
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(InvalidValueError) as raised:
        read_kineto(path)
    assert message in str(raised.value)


def test_ranks_of_different_steps_are_refused(tmp_path):
    files = [str(write(tmp_path / f"{number}.json", [mark(number, 0, 50), kernel(GEMM, 1, 5)])) for number in (1, 2)]
    with pytest.raises(InvalidValueError, match="be of one step, got steps 1, 2"):
        import_kineto_command(files, as_json=True)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ([(0, 2), (0, 2)], "be of different ranks, got rank 0 in 0.json and 1.json"),
        ([(0, 2), (None, 2)], "distributedInfo.rank must be given"),
        ([(0, 2), (1, 4)], "be of one job, got jobs of 2, 4 ranks"),
        ([(2, 2)], "below world_size 2, got 2"),
        ([("a", 2)], "be a rank from 0 on"),
    ],
)
def test_traces_that_are_not_of_the_ranks_of_one_job_are_refused(tmp_path, places, message):
    with pytest.raises(InvalidValueError) as raised:
        check_ranks(
            [
                read_kineto(write(tmp_path / f"{number}.json", EVENTS, rank=rank, world_size=world_size))
                for number, (rank, world_size) in enumerate(places)
            ]
        )
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("places", "warnings"),
    [
        ([(0, 2), (1, 2)], []),
        ([(None, 2)], []),
        ([(3, 8)], ["of the job's 8 ranks 1 have a trace"]),
        ([(None, 2), (None, 2)], ["counted from 0 in the order of the files"]),
    ],
)
def test_ranks_that_are_not_there_are_named(tmp_path, places, warnings):
    found = check_ranks(
        [
            read_kineto(write(tmp_path / f"{number}.json", EVENTS, rank=rank, world_size=world_size))
            for number, (rank, world_size) in enumerate(places)
        ]
    )
    assert len(found) == len(warnings)
    assert all(words in text for words, text in zip(warnings, found, strict=True))
