"""A pipeline of passes whose times are given, as what is to be planned."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sim.time import to_ns
from workloads.jitter import EXACT, Jitter
from workloads.schedules import Pipeline, PipelineOrder, StageTimes, build_pipeline_order

__all__ = ["PassesWork"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PassesWork:
    """A pipeline of passes whose times are given, on one rank per stage, without model and cluster."""

    pass_times_s: Sequence[tuple[float, float, float]]
    """F, B and W of each stage."""
    num_microbatches: int
    """Microbatches of the pipeline."""
    p2p_s: float
    """Time of a hop between stages."""
    schedule: str
    """Schedule by name."""
    num_chunks: int = 1
    """Chunks of each stage, where the schedule takes any number."""
    pair_s: Sequence[float | None] | None = None
    """Time of F and B run at the same time, of each stage; None: as long as F and B one after the other."""
    weight_share: float | None = None
    """What a microbatch keeps from B to W over what it keeps from F to B; None: the default of `Pipeline`."""
    own_order: PipelineOrder | None = None
    """The steps of schedule `custom`."""
    what_if: tuple[str, ...] = ()
    """What the run is without, names of `WHAT_IFS`."""
    jitter: Jitter = EXACT
    """How much the times of passes vary."""
    seed: int = 1
    """Seed of what varies."""
    pipeline_order: PipelineOrder = field(init=False)
    """The steps of every stage."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "pipeline_order", self.own_order or self._built_order())

    @property
    def num_stages(self) -> int:
        """Stages of the pipeline."""
        return len(self.pass_times_s)

    def _built_order(self) -> PipelineOrder:
        pipeline = Pipeline(
            num_stages=self.num_stages,
            num_microbatches=self.num_microbatches,
            num_chunks=self.num_chunks,
            times=tuple(_stage_times(*map(to_ns, times)) for times in self.pass_times_s),
            hop_ns=to_ns(self.p2p_s),
        )
        if self.weight_share is not None:
            pipeline = replace(pipeline, weight_share=self.weight_share)
        return build_pipeline_order(self.schedule, pipeline)


def _stage_times(forward_ns: int, backward_ns: int, weight_ns: int) -> StageTimes:
    return StageTimes(forward_ns=forward_ns, backward_ns=backward_ns, weight_ns=weight_ns)
