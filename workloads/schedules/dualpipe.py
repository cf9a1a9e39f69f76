"""DualPipe and DualPipeV: forward and backward passes of two chunks run together on each stage.

Model
-----
*DualPipe* has two pipelines: chunk 0 goes down the stages, chunk 1, a copy of the model, goes up; the first half of the
microbatches goes down and the other half up. *DualPipeV* is DualPipe cut in half: chunk 0 goes down the stages and
chunk 1 back up, as in ZB-V, and no weights are kept twice. The two differ in the layout of the chunks alone.

With h = p / 2 for DualPipe and h = p for DualPipeV, stage r of the h stages from the end that chunk 0 enters runs, with
F0 and F1 forward and B0 and B1 backward passes of the two chunks, each over a row of microbatches of its own:

    1. F0                      2 (h - r - 1) times
    2. F0 F1                   r + 1 times
    3. B1 (input) W1 F1        h - r - 1 times
    4. F0 with B1, F1 with B0  the rest of the forward passes of chunk 0
    5. B1, F1 with B0          h - r - 1 times
    6. B1 B0                   r + 1 times, W deferred in the second half
    7. W B0 (input)            h - r - 1 times
    8. W                       the W passes that are left

"with" is a pair of passes that run together. B is the whole backward pass where no W follows. The first F0 and B1 of
phase 4 are no pair on stage h - 1, where B1 waits for this F0.

With F&B the time of a pair and B the whole backward pass of one chunk, the bubble for uniform stages without
communication, where B = F + W, W <= F and B <= F&B <= F + B, is

- DualPipe: (p / 2 - 1)(F&B + B - 3 W), for p and m even and m >= 2 p. This is the bubble of the stages in the middle;
  other stages wait less, by what their pairs save less often. Each stage keeps the weights of two chunks of the model,
  and the activations of p + 1 microbatches at most.
- DualPipeV: (p - 1)(F&B + B - 3 W), for m >= 2 p. This is the (PP / 2 - 1)(F&B + B - 3 W) of the source, whose PP
  counts the chunks of the model.

References
----------
DeepSeek-AI, "DeepSeek-V3 technical report", 2024, section 3.2.1, figure 5 and table 2. DeepSeek-AI, DualPipe, 2025, its
description of DualPipeV ("cut-in-half").
"""

from collections import deque

from workloads.schedules.passes import Order, Pair, Pass, Step
from workloads.schedules.pipeline import Pipeline, require

__all__ = ["check_dualpipe", "check_dualpipe_v", "dualpipe", "dualpipe_v"]


def check_dualpipe(pipeline: Pipeline) -> None:
    """Refuse a pipeline that DualPipe cannot run.

    Raises
    ------
    InvalidValueError
        The number of stages or of microbatches is odd, or the microbatches are fewer than twice the stages.
    """
    p, m = pipeline.num_stages, pipeline.num_microbatches
    require(p % 2 == 0, "parallel.pp", "be even for dualpipe", p, "Two pipelines meet halfway.")
    rule = f"be even and at least {2 * p}, twice the stages, for dualpipe"
    require(m % 2 == 0 and m >= 2 * p, "workload.microbatches", rule, m, "Half of them enter at each end.")


def check_dualpipe_v(pipeline: Pipeline) -> None:
    """Refuse a pipeline that DualPipeV cannot run.

    Raises
    ------
    InvalidValueError
        The microbatches are fewer than twice the stages.
    """
    p, m = pipeline.num_stages, pipeline.num_microbatches
    rule = f"be at least {2 * p}, twice the stages, for dualpipe_v"
    require(m >= 2 * p, "workload.microbatches", rule, m, "Use more microbatches, or zb_v.")


def dualpipe(pipeline: Pipeline) -> Order:
    """DualPipe: two pipelines, one down and one up, whose forward and backward passes run together on each stage.

    >>> order = dualpipe(Pipeline(num_stages=2, num_microbatches=4))
    >>> " ".join(f"{s.kind}{s.microbatch}.{s.chunk}" for s in order[0])
    'F0.0 F2.1 F1.0 B2.1 FB3.1 B3.1 B1.0 W1.0'
    """
    p, m = pipeline.num_stages, pipeline.num_microbatches
    down, up = range(m // 2), range(m // 2, m)
    lower = [_steps(stage, p // 2, _Writer((down, up), (0, 1))) for stage in range(p // 2)]
    upper = [_steps(p - 1 - stage, p // 2, _Writer((up, down), (1, 0))) for stage in range(p // 2, p)]
    return lower + upper


def dualpipe_v(pipeline: Pipeline) -> Order:
    """DualPipeV: DualPipe cut in half, one pipeline down and back up, with no weights kept twice.

    >>> order = dualpipe_v(Pipeline(num_stages=1, num_microbatches=2))
    >>> " ".join(f"{s.kind}{s.microbatch}.{s.chunk}" for s in order[0])
    'F0.0 F0.1 F1.0 B0.1 FB1.1 B1.1 B1.0 W1.0'
    """
    p, microbatches = pipeline.num_stages, range(pipeline.num_microbatches)
    return [_steps(stage, p, _Writer((microbatches, microbatches), (0, 1))) for stage in range(p)]


class _Writer:
    """The steps of a stage, with the next microbatch of each kind and chunk and the W passes that are deferred."""

    def __init__(self, microbatches: tuple[range, range], chunks: tuple[int, int]) -> None:
        """Write passes of chunks 0 and 1 of the module's phases, which are the stage's `chunks`."""
        self.steps: list[Step] = []
        self.num_microbatches = len(microbatches[0])
        self._microbatches, self._chunks = microbatches, chunks
        self._next = {(kind, chunk): 0 for kind in "FB" for chunk in (0, 1)}
        self._deferred: deque[Pass] = deque()

    def pass_(self, kind: str, chunk: int, *, defers_weight: bool = False) -> None:
        """Write F or B of a chunk; with `defers_weight` B is by input alone and its W follows later."""
        pass_ = self._take(kind, chunk)
        self.steps.append(pass_)
        if defers_weight:
            self._deferred.append(pass_._replace(kind="W"))

    def pair(self, forward: int, backward: int) -> None:
        """Write F of one chunk together with B of the other chunk."""
        f, b = self._take("F", forward), self._take("B", backward)
        self.steps.append(Pair("FB", f.microbatch, f.chunk, b.microbatch, b.chunk))

    def weights(self, number: int) -> None:
        """Write the W passes that have been deferred longest."""
        self.steps += [self._deferred.popleft() for _ in range(number)]

    def _take(self, kind: str, chunk: int) -> Pass:
        number = self._next[kind, chunk]
        self._next[kind, chunk] = number + 1
        return Pass(kind, self._microbatches[chunk][number], self._chunks[chunk])


def _steps(r: int, h: int, writer: _Writer) -> list[Step]:
    """Return the steps of stage `r` of `h`.

    >>> steps = _steps(0, 1, _Writer((range(2), range(2)), (0, 1)))
    >>> " ".join(s.kind + str(s.microbatch) for s in steps)
    'F0 F0 F1 B0 FB1 B1 B1 W1'
    """
    outside, inside = h - r - 1, r + 1
    for _ in range(2 * outside):
        writer.pass_("F", 0)
    for _ in range(inside):
        writer.pass_("F", 0)
        writer.pass_("F", 1)
    for _ in range(outside):
        writer.pass_("B", 1, defers_weight=True)
        writer.weights(1)
        writer.pass_("F", 1)
    for i in range(writer.num_microbatches - 2 * outside - inside):
        if i == 0 and outside == 0:
            writer.pass_("F", 0)
            writer.pass_("B", 1)
        else:
            writer.pair(0, 1)
        writer.pair(1, 0)
    for _ in range(outside):
        writer.pass_("B", 1)
        writer.pair(1, 0)
    for i in range(2 * inside):  # from the middle on, which an odd r puts before B1 and an even r before B0
        writer.pass_("B", 1 - i % 2, defers_weight=i >= inside)
    for _ in range(outside):
        writer.weights(1)
        writer.pass_("B", 0, defers_weight=True)
    writer.weights(inside)
    return writer.steps
