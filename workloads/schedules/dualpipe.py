"""DualPipe: two pipelines, one down and one up, whose forward and backward passes run together on each stage.

Model
-----
Chunk 0 is the pipeline down, chunk 1 a copy of the model up; the first half of the microbatches goes down and the other
up. See `paired_order` for the phases, with h = p / 2.

With F&B the time of a pair and B the whole backward pass, the bubble is (p / 2 - 1)(F&B + B - 3 W) for uniform stages
without communication where B = F + W, W <= F and B <= F&B <= F + B, for p and m even and m >= 2 p; it is that of the
stages in the middle.
Others wait less by what their pairs save less often. Each stage keeps the weights of two parts of the
model, and the activations of p + 1 microbatches at most.

References
----------
DeepSeek-AI, "DeepSeek-V3 technical report", 2024, section 3.2.1, figure 5 and table 2.
"""

from workloads.schedules.base import Order
from workloads.schedules.paired_order import paired_order
from workloads.schedules.pipeline import Pipeline, require

__all__ = ["check_dualpipe", "dualpipe"]


def check_dualpipe(pipeline: Pipeline) -> None:
    """Refuse a pipeline that the schedule cannot run.

    Raises
    ------
    InvalidValueError
        Stages or microbatches are odd, or the microbatches fewer than twice the stages.
    """
    p, m = pipeline.num_stages, pipeline.num_microbatches
    require(p % 2 == 0, "parallel.pp", "be even for dualpipe", p, "Two pipelines meet halfway.")
    rule = f"be even and at least {2 * p}, twice the stages, for dualpipe"
    require(m % 2 == 0 and m >= 2 * p, "workload.microbatches", rule, m, "Half of them enter at each end.")


def dualpipe(pipeline: Pipeline) -> Order:
    """DualPipe: two pipelines, one down and one up, whose forward and backward passes run together on each stage.

    >>> order = dualpipe(Pipeline(num_stages=2, num_microbatches=4))
    >>> " ".join(f"{s.kind}{s.microbatch}.{s.chunk}" for s in order[0])
    'F0.0 F2.1 F1.0 B2.1 FB3.1 B3.1 B1.0 W1.0'
    """
    p, m = pipeline.num_stages, pipeline.num_microbatches
    rows = (range(m // 2), range(m // 2, m))
    return [paired_order(min(stage, p - 1 - stage), p // 2, rows, is_swapped=stage >= p // 2) for stage in range(p)]
