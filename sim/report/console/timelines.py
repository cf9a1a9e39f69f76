"""Timelines as text, on one axis of time: a line of letters for each stage of each run."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.text import Text

from sim.engine.trace import PASS_KINDS, Trace
from sim.report.console.tables import cell, heading
from sim.results.quantities import format_quantity

__all__ = ["NamedTrace", "pass_letters", "print_timelines"]

_STYLES: Final = {"F": "cyan", "B": "yellow", "W": "green", "O": "magenta", "·": "dim"}
PASS_NAMES: Final[Mapping[str, str]] = {
    "F": "F forward",
    "B": "B backward",
    "W": "W weight gradient",
    "O": "O gradients and optimizer",
}
"""Name of each kind of pass."""
_IDLE: Final = "·"
_LEAST_WIDTH: Final = 20
_MOST_LINES: Final = 16
"""Stages of a run that have a line; of more, so many at equal distances."""


class NamedTrace(NamedTuple):
    """A trace and the letter of its run."""

    letter: str
    trace: Trace


def print_timelines(runs: Sequence[NamedTrace], console: Console) -> None:
    """Print when the stages of runs run their passes, each run from its own start on."""
    longest_ns = max((run.trace.step_ns for run in runs), default=0)
    if not longest_ns:
        return
    kinds = {kind for run in runs for kind in np.unique(run.trace["kind"][run.trace.rows("pass")]).tolist()}
    names = ", ".join(PASS_NAMES[kind] for kind in PASS_KINDS if kind in kinds)
    note = f"0 to {format_quantity(longest_ns * 1e-9, 's')}: {names}; small letters wait, · is idle"
    heading(console, "timelines on one axis", note)
    margin = max(len(f"{run.letter} stage {run.trace.num_stages - 1}") for run in runs) + 4
    width = max(_LEAST_WIDTH, console.width - margin - 1)
    for run in runs:
        for stage in _shown_stages(run.trace.num_stages):
            name = f"  {run.letter} stage {stage}".ljust(margin)
            letters = pass_letters(run.trace, stage, longest_ns, width)
            console.print(Text.assemble(cell(name, "dim"), _coloured(letters)), no_wrap=True, crop=True)
    hidden = [run.letter for run in runs if run.trace.num_stages > _MOST_LINES]
    if hidden:
        console.print(cell(f"  of {', '.join(hidden)} {_MOST_LINES} stages at equal distances", "dim"))


def pass_letters(trace: Trace, stage: int, longest_ns: int, width: int) -> str:
    """Return what lane 0 of a stage runs, as at most `width` letters over `longest_ns`.

    A letter is the kind of pass that fills most of its time, a small letter where a pass is open and kernels run in
    less than half of the time, and `·` where no pass is open. After the end of the run there are no letters.
    """
    rows = trace.rows("pass", stage=stage, lane=0)
    edges_ns = np.linspace(0, longest_ns, width + 1)
    filled = np.zeros((len(PASS_KINDS) + 1, width))
    kinds = trace["kind"][rows]
    for number, kind in enumerate(PASS_KINDS):
        filled[number] = np.diff(_covered(*_spans(trace, rows[kinds == kind]), edges_ns))
    open_ns = filled[:-1].sum(axis=0)
    filled[-1] = np.maximum(0.0, np.diff(edges_ns) - open_ns)
    letters = np.array([*PASS_KINDS, _IDLE])[filled.argmax(axis=0)]
    works = np.concatenate([trace.rows(stream, stage=stage, lane=0) for stream in ("compute", "foreign")])
    waits = np.diff(_covered(*_spans(trace, works), edges_ns)) < open_ns / 2
    letters = np.where(waits, np.char.lower(letters), letters)
    return "".join(letters[edges_ns[:-1] < trace.step_ns].tolist())


# ---- private -----------------------------------------------------------------------------------------------------


def _shown_stages(num_stages: int) -> list[int]:
    """Return the stages that have a line.

    >>> _shown_stages(3), len(_shown_stages(64))
    ([0, 1, 2], 16)
    """
    return sorted({round(at) for at in np.linspace(0, num_stages - 1, min(num_stages, _MOST_LINES)).tolist()})


def _spans(trace: Trace, rows: NDArray[np.intp]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return starts and ends of rows, since the start of the run."""
    return trace.ints("start_ns")[rows] - trace.start_ns, trace.ints("end_ns")[rows] - trace.start_ns


def _covered(
    starts_ns: NDArray[np.int64], ends_ns: NDArray[np.int64], at_ns: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the time that spans cover before each moment, spans at one time counted each. Shapes [N], [N], [T] -> [T].

    >>> _covered(np.array([0, 6]), np.array([4, 8]), np.array([0.0, 2.0, 5.0, 9.0]))
    array([0., 2., 4., 6.])
    """
    begun, done = np.sort(starts_ns), np.sort(ends_ns)
    before: list[NDArray[np.float64]] = []
    for times in (begun, done):
        count = np.searchsorted(times, at_ns)
        sums = np.concatenate([[0.0], np.cumsum(times, dtype=np.float64)])
        before.append(count * at_ns - sums[count])
    covered: NDArray[np.float64] = before[0] - before[1]
    return covered


def _coloured(letters: str) -> Text:
    """Return letters, each run of one letter in its colour."""
    text = Text()
    for letter in letters:
        text.append(letter, style=_STYLES[letter.upper()])
    return text
