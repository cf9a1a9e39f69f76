"""Validation cases whose figures can be had by hand: pipelines of two stages with passes of 1 ms."""

from pathlib import Path

# One microbatch on two stages, F and B of 1 ms, no hop: F F B B one after another, 4 ms; a stage works 2 ms of its own
# span, stage 0 from 0 to 4 ms. Four microbatches under 1F1B: (4 + 1) * 2 ms = 10 ms.
HEAD = """\
name: two stages
parallel: {pp: 2}
workload: {kind: passes, microbatches: 1, pass_times: {F: 1 ms, B: 1 ms}}
"""
RIGHT = "{metric: step_time_s, value: 4 ms, source: by hand, tolerance_pct: 1}"
FOUR = "{metric: step_time_s, value: 8 ms, source: by hand, tolerance_pct: 30, set: {workload.microbatches: 4}}"


def write_case(path: Path, *figures: str, head: str = HEAD) -> Path:
    """Write a case with some published figures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"  - {figure}\n" for figure in figures)
    path.write_text(f"{head}published:\n{lines}" if figures else head, encoding="utf-8")
    return path
