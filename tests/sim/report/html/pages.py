"""Pages for the tests: a small run with hostile names, and one of many spans."""

import numpy as np

from sim.engine.trace import COLUMNS, KINDS, STREAMS, LinkUse, Trace

HOSTILE = '</script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 2"> & "quoted" \u2028'
"""A text that would become markup or script wherever it is written as it is."""


def many_spans(count, *, num_stages=4):
    """Return a trace of kernels and transfers in turn, a pass for each 20 of them, each released by the one before."""
    per_stage = count // num_stages
    columns = {name: [] for name in COLUMNS}
    rng = np.random.default_rng(1)
    for stage in range(num_stages):
        num_pass = per_stage // 21
        num_ops = per_stage - num_pass
        length = rng.integers(1_000, 50_000, num_ops)
        end = np.cumsum(length)
        start = end - length
        is_kernel = np.arange(num_ops) % 2 == 0
        pass_start = start[:: num_ops // num_pass + 1]
        pass_end = np.append(pass_start[1:], end[-1])
        number = len(columns["start_ns"]) and sum(map(len, columns["start_ns"]))
        rows = {
            "start_ns": np.concatenate([start, pass_start]),
            "end_ns": np.concatenate([end, pass_end]),
            "stream": np.concatenate(
                [
                    np.where(is_kernel, STREAMS.index("compute"), STREAMS.index("comm")),
                    np.full(pass_start.size, STREAMS.index("pass")),
                ]
            ),
            "kind": np.concatenate(
                [
                    np.where(is_kernel, KINDS.index("attention"), KINDS.index("tp")),
                    np.full(pass_start.size, KINDS.index("F")),
                ]
            ),
            "released_by": np.concatenate(
                [np.arange(num_ops) - 1 + np.where(np.arange(num_ops) > 0, number, 0), np.full(pass_start.size, -1)]
            ),
            "microbatch": np.concatenate([np.zeros(num_ops), np.arange(pass_start.size)]),
        }
        size = rows["start_ns"].size
        rows |= {"stage": np.full(size, stage), "base_ns": rows["end_ns"] - rows["start_ns"]}
        for name in COLUMNS:
            default = -1 if name in ("rank", "group", "chunk", "layer") else 0
            columns[name].append(rows.get(name, np.full(size, default)))
    table = {
        name: np.concatenate(parts).astype(np.float64 if name in ("bytes", "flops") else np.int64)
        for name, parts in columns.items()
    }
    return Trace(
        columns=table,
        num_stages=num_stages,
        num_lanes=1,
        lane_ranks=np.arange(num_stages).reshape(num_stages, 1, 1),
        link_use=LinkUse(
            num_bytes=np.zeros(0),
            busy_s=np.zeros(0),
            time_ns=np.zeros(0, dtype=np.int64),
            utilisation=np.zeros((0, 0)),
            kinds=(),
            names=(),
            link_kinds=(),
            capacity_bytes_per_s=np.zeros(0),
        ),
    )
