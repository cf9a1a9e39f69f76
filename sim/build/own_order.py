"""The order of passes of a scenario with a schedule of the user's own."""

from typing import Final

from sim.scenario.file_bytes import read_input_text
from sim.scenario.scenario import Scenario
from workloads.schedules import PipelineOrder
from workloads.schedules.custom import read_custom

__all__ = ["read_own_order"]

_MAX_BYTES: Final = 1 << 26
"""The largest file that is read."""


def read_own_order(scenario: Scenario, *, num_stages: int, num_microbatches: int, num_chunks: int) -> PipelineOrder:
    """Return the pipeline_order of `schedule.file`, a file in the scenario's folder or below it.

    Raises
    ------
    InvalidValueError
        The file cannot be read, or holds no order of the pipeline; the line is that of the file.
    """
    chunk_order = scenario.spec.schedule.chunk_order
    path = scenario.file_beside("schedule.file", scenario.spec.schedule.file or "")
    hint = "Write a text file with one line of passes per stage."
    text = read_input_text(path, _MAX_BYTES, hint=hint, too_large="Use fewer microbatches.")
    with scenario.located_errors(other_file=path):
        return read_custom(
            text,
            num_stages=num_stages,
            num_microbatches=num_microbatches,
            num_chunks=num_chunks if chunk_order == "round_robin" else 2,
            chunk_order=chunk_order,
            forward=scenario.spec.workload.kind == "forward",
        )
