"""Runs next to each other: a page of their own, and a section of the page of a run (`moesim report --compare`)."""

import base64
from pathlib import Path
from typing import Any, Final

from sim.report.charts.compare import comparison_png
from sim.report.console.compare import comparison_sentences, figure_rows, letters_of, part_rows
from sim.report.html.shell import render_page
from sim.studies.compare import Comparison

__all__ = ["comparison_content", "write_comparison_page"]

_SECTIONS: Final = (
    ("compare", "Differences", "How do the runs differ?"),
    ("reproduce", "Reproduce", "How to get this again"),
)


def write_comparison_page(comparison: Comparison, path: str | Path, *, command: str) -> None:
    """Write the page of a comparison, which `command` makes.

    Raises
    ------
    OSError
        The file could not be written (`sim.report.files` makes it an `OutputError`).
    """
    names = " and ".join(run.name for run in comparison.runs[:2])
    more = len(comparison.runs) - 2
    content = {
        "name": names + (f" and {more} more" if more else ""),
        "subtitle": f"{len(comparison.runs)} runs compared",
        "conclusion": [],
        "figures": [],
        "compare": True,
        "comparison": comparison_content(comparison),
        "reproduce": True,
        "command": command,
        "scenario": "",
    }
    Path(path).write_text(render_page(content, _SECTIONS, {}, ""), encoding="utf-8", newline="\n")


def comparison_content(comparison: Comparison) -> dict[str, Any]:
    """Return what the template `compare.html` shows of a comparison."""
    data = comparison.to_dict()
    letters = letters_of(data)
    columns = [letters[0], *(text for letter in letters[1:] for text in (letter, f"{letter} - {letters[0]}"))]
    picture = base64.b64encode(comparison_png(comparison)).decode("ascii")
    return {
        "sentences": comparison_sentences(data),
        "warnings": data["warnings"],
        "runs": [{"letter": letter} | run for letter, run in zip(letters, data["runs"], strict=True)],
        "columns": columns,
        "picture": f"data:image/png;base64,{picture}",
        "text": "The runs on one axis of time: what they spend the step on, mean over stages, and their passes.",
        "tables": [
            {
                "title": "Where the time differs, in ms: mean over stages; each column sums to its step",
                "what": "part of the step",
                "rows": part_rows(data),
            },
            {"title": "Figures", "what": "figure", "rows": figure_rows(data)},
        ],
    }
