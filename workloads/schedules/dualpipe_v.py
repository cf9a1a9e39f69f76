"""DualPipeV: DualPipe cut in half, one pipeline down and back up, with no weights kept twice.

Model
-----
Chunk 0 runs down the stages and chunk 1 back up, as in ZB-V: of 2 p parts of the model, each stage holds two. See
`paired_order` for the phases, with h = p.

With F&B the time of a pair and B the whole backward pass of one chunk, the bubble is (p - 1)(F&B + B - 3 W) for uniform
stages without communication where B = F + W, W <= F and B <= F&B <= F + B, for m >= 2 p: the
(PP / 2 - 1)(F&B + B - 3 W) of the source, whose PP counts the parts of the model.

References
----------
DeepSeek-AI, DualPipe, 2025, its description of DualPipeV ("cut-in-half").
"""

from workloads.schedules.base import Order
from workloads.schedules.paired_order import paired_order
from workloads.schedules.pipeline import Pipeline, require

__all__ = ["check_dualpipe_v", "dualpipe_v"]


def check_dualpipe_v(pipeline: Pipeline) -> None:
    """Refuse a pipeline that the schedule cannot run.

    Raises
    ------
    InvalidValueError
        The microbatches are fewer than twice the stages.
    """
    p, m = pipeline.num_stages, pipeline.num_microbatches
    rule = f"be at least {2 * p}, twice the stages, for dualpipe_v"
    require(m >= 2 * p, "workload.microbatches", rule, m, "Use more microbatches, or zb_v.")


def dualpipe_v(pipeline: Pipeline) -> Order:
    """DualPipeV: DualPipe cut in half, one pipeline down and back up, with no weights kept twice.

    >>> order = dualpipe_v(Pipeline(num_stages=1, num_microbatches=2))
    >>> " ".join(f"{s.kind}{s.microbatch}.{s.chunk}" for s in order[0])
    'F0.0 F0.1 F1.0 B0.1 FB1.1 B1.1 B1.0 W1.0'
    """
    p, m = pipeline.num_stages, pipeline.num_microbatches
    return [paired_order(stage, p, (range(m), range(m))) for stage in range(p)]
