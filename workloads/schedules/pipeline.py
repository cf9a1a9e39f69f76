"""What a schedule is made for: stages, microbatches, chunks, and what is known of the passes.

Assumptions
-----------
Where no times are given, F, B and W of all stages take as long as each other and a hop takes none.
"""

from dataclasses import dataclass
from functools import cached_property

from sim.errors import InvalidValueError

__all__ = ["Pipeline", "StageTimes", "require"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTimes:
    """How long the passes of one microbatch take on one stage, over all of its chunks but copies."""

    forward_ns: int
    """F."""
    backward_ns: int
    """B, of the inputs."""
    weight_ns: int
    """W."""


_EVEN = StageTimes(forward_ns=1, backward_ns=1, weight_ns=1)


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """The task of a schedule.

    >>> Pipeline(num_stages=2, num_microbatches=3).stage_times[0].forward_ns
    1
    """

    num_stages: int
    """Stages, p."""
    num_microbatches: int
    """Microbatches, m."""
    num_chunks: int = 1
    """Chunks of each stage, v."""
    times: tuple[StageTimes, ...] | None = None
    """Times of each stage; None: not known."""
    hop_ns: int = 0
    """Time from the end of a pass to the start of what it releases on another stage."""
    weight_share: float = 0.4
    """What a microbatch holds from B to W, over what it holds from F to B: 0.37 to 0.43 in Qi et al. 2023, who keep
    attention scores, and up to 0.94 where those are not kept."""

    def __post_init__(self) -> None:
        for field, value in (("parallel.pp", self.num_stages), ("workload.microbatches", self.num_microbatches)):
            require(value >= 1, field, "be at least 1", value, "Give one at least.")

    @cached_property
    def stage_times(self) -> tuple[StageTimes, ...]:
        """Times of each stage."""
        return self.times if self.times is not None else (_EVEN,) * self.num_stages


def require(ok: bool, field: str, rule: str, value: int, hint: str) -> None:
    """Refuse a number of stages or microbatches that a schedule cannot run.

    >>> require(True, "parallel.pp", "be even for chimera", 4, "Two pipelines meet halfway.")

    Raises
    ------
    InvalidValueError
        It is not `ok`.
    """
    if not ok:
        raise InvalidValueError(field=field, rule=rule, value=value, hint=hint)
