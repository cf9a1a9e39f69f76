"""The picture of several runs on one axis of time: where the step time of each goes, and what its stages run when."""

import tempfile
from pathlib import Path

from sim.report.timeline.runs import ShownRun, draw_runs
from sim.studies.compare import Comparison

__all__ = ["comparison_png", "draw_comparison"]


def draw_comparison(comparison: Comparison, path: Path) -> None:
    """Write the picture of a comparison; the suffix of `path` is the format."""
    shown = [ShownRun(name=run.name, trace=run.trace, parts_ns=run.parts_ns) for run in comparison.runs]
    draw_runs(shown, path, title=f"{len(shown)} runs on one axis of time")


def comparison_png(comparison: Comparison) -> bytes:
    """Return the same picture as the bytes of a PNG."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "compare.png"
        draw_comparison(comparison, path)
        return path.read_bytes()
