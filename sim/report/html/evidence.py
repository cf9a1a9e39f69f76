"""What decided a claim: the sections of the page and the spans of the timeline that its metric comes from.

A metric of the catalogue names a section by the table below; a metric of communication also names kinds of spans, of
which the longest piece on the critical path is shown. Memory is shown around the time of its peak.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sim.engine.trace import Trace
from sim.report.html.spans import DrawnSpans
from sim.results.catalog import CATALOG
from sim.results.quantities import format_quantity

__all__ = ["Evidence", "evidence_of"]

_EXCHANGES: Final = ("ep_dispatch", "ep_combine")
_KINDS: Final[Mapping[str, Sequence[str]]] = {
    "exposed_tp_s": ("tp",),
    "exposed_tp_fraction": ("tp",),
    "tp_fraction": ("tp",),
    "exposed_ep_s": _EXCHANGES,
    "exposed_ep_fraction": _EXCHANGES,
    "ep_fraction": _EXCHANGES,
    "exposed_pp_s": ("pp",),
    "exposed_pp_fraction": ("pp",),
    "exposed_dp_s": ("dp",),
    "exposed_cp_s": ("cp",),
    "exposed_ep_moves_s": ("ep_moves",),
    "exposed_communication_s": ("tp", "ep_dispatch", "ep_combine", "ep_moves", "pp", "dp", "cp"),
    "exposed_communication_fraction": ("tp", "ep_dispatch", "ep_combine", "ep_moves", "pp", "dp", "cp"),
    "foreign_fraction": ("expert",),
    "imbalance_max_over_mean": ("expert",),
}
"""Metric -> kinds of spans that it comes from."""

_SECTIONS: Final[Mapping[str, tuple[str, str]]] = {
    "imbalance_max_over_mean": ("experts", "tokens of experts"),
    "dropped_fraction": ("experts", "tokens of experts"),
    "rerouted_fraction": ("experts", "tokens of experts"),
    "bubble_fraction": ("accounts", "time of each stage"),
    "stall_fraction": ("accounts", "time of each stage"),
    "foreign_fraction": ("accounts", "time of each stage"),
    "tp_fraction": ("accounts", "time of each stage"),
    "ep_fraction": ("accounts", "time of each stage"),
}
"""Metric -> section of the page and what it shows, where the group of the metric does not say it."""

_GROUP_SECTIONS: Final[Mapping[str, tuple[str, str]]] = {
    "metrics": ("accounts", "where the time goes"),
    "memory": ("memory", "memory of a GPU"),
    "mesh": ("facts", "mesh"),
}
"""Group of the catalogue -> section of the page and what it shows."""

_AROUND_PEAK: Final = 0.01
"""Share of the step that is shown before and after the peak of memory."""

Evidence = dict[str, Any]


def evidence_of(
    metric: str, data: Mapping[str, Any], trace: Trace | None, drawn: DrawnSpans | None, sections: Sequence[str]
) -> list[Evidence]:
    """Return links to what decided a claim on a metric, those to spans last.

    Parameters
    ----------
    metric
        Name in the catalogue.
    data
        The JSON object of the run.
    trace, drawn
        The record of the run and how it is drawn; None where the page has no timeline.
    sections
        Sections that the page has.
    """
    if metric not in CATALOG:
        return []
    section, text = _SECTIONS.get(metric, _GROUP_SECTIONS[CATALOG[metric].group])
    links: list[Evidence] = [{"section": section, "text": text}] if section in sections else []
    if trace is None or drawn is None or len(trace) == 0:
        return links
    if CATALOG[metric].group == "memory" and "peak_time_s" in (data.get("memory") or {}):
        links.append(_peak(data["memory"], trace))
    elif metric in _KINDS:
        links += _longest(_KINDS[metric], trace, drawn)
    elif metric in ("step_time_s", "tokens_per_s", "steady_tokens_per_s", "latency_s", "mfu", "bubble_fraction"):
        links.append({"section": "timeline", "text": "critical path", "from_ns": trace.start_ns, "to_ns": trace.end_ns})
    return links


def _peak(memory: Mapping[str, Any], trace: Trace) -> Evidence:
    at_ns, around_ns = round(memory["peak_time_s"] * 1e9), max(1, round(trace.step_ns * _AROUND_PEAK))
    text = f"the peak, at {format_quantity(memory['peak_time_s'], 's')} on stage {memory['peak_stage']}"
    return {"section": "timeline", "text": text, "from_ns": at_ns - around_ns, "to_ns": at_ns + around_ns}


def _longest(kinds: Sequence[str], trace: Trace, drawn: DrawnSpans) -> list[Evidence]:
    """Return the longest piece of the critical path of some kinds, or nothing where the path has none."""
    columns = drawn.columns
    numbers: NDArray[np.int64] = columns["path_span"]
    names = trace["kind"][columns["row"][numbers]]
    of_kinds = np.flatnonzero(np.isin(names, list(kinds)))
    if of_kinds.size == 0:
        return []
    piece = int(of_kinds[np.argmax(columns["path_duration_ns"][of_kinds])])
    start, duration = (int(columns[name][piece]) for name in ("path_start_ns", "path_duration_ns"))
    where = f"{format_quantity(duration / 1e9, 's')} at {format_quantity(start / 1e9, 's')}"
    text = f"longest {names[piece]} on the critical path ({where})"
    span = int(numbers[piece])
    return [{"section": "timeline", "text": text, "from_ns": start, "to_ns": start + duration, "span": span}]
