"""The page of a run: everything that the run says in one HTML file that loads nothing.

Model
-----
Texts and tables are written by templates, which escape whatever comes from a scenario. The timeline, the curves and the
heat maps are drawn by the script from columns that lie in the page (`sim.report.html.columns`).
`sim.report.html.shell` puts them together.
"""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sim.engine.trace import KINDS, STREAMS
from sim.report.html import sections
from sim.report.html.claims import claim_facts, conclusion, count_verdicts
from sim.report.html.cluster import shapes_of
from sim.report.html.colours import palettes
from sim.report.html.columns import pack_columns
from sim.report.html.details import RunDetails
from sim.report.html.evidence import evidence_of
from sim.report.html.pictures import heats_of, legend_of, link_curves, memory_curve
from sim.report.html.shell import render_page
from sim.report.html.spans import DrawnSpans, draw_spans
from sim.studies.why import stragglers_of_measured

__all__ = ["write_page"]


_SECTIONS: Final = (
    ("claims", "Claims", "Is it true? The claims and what decided them"),
    ("helps", "What helps", "What is slow, and what would help most"),
    ("stragglers", "Stragglers", "What do stragglers cost, cause by cause?"),
    ("compare", "Differences", "How do other runs differ?"),
    ("timeline", "Timeline", "What happens when"),
    ("accounts", "Time", "Where the time goes"),
    ("memory", "Memory", "Does it fit? Memory of a GPU"),
    ("experts", "Experts", "How even is the load of experts?"),
    ("links", "Links", "Which links carry the most?"),
    ("strategies", "Strategies", "How do other strategies compare?"),
    ("uncertainty", "Uncertainty", "How sure is it, and what moves it?"),
    ("assumptions", "Assumptions", "What was assumed"),
    ("facts", "Figures", "All figures"),
    ("reproduce", "Reproduce", "How to get this again"),
)
"""Sections of the page in order: id (and template), name in the navigation, heading."""

_MOST_SPANS: Final = 1_000_000
"""The page of a run of more spans has no timeline: its file would be larger than 10 MB."""
_DELTAS: Final = frozenset({"row", "start_ns", "stall_start_ns", "path_start_ns"})


def write_page(
    data: Mapping[str, Any],
    path: str | Path,
    *,
    details: RunDetails | None = None,
    why: Mapping[str, Any] | None = None,
    comparison: Mapping[str, Any] | None = None,
) -> None:
    """Write the page of a run.

    Parameters
    ----------
    data
        The JSON object of the run.
    path
        File to write.
    details
        The record of the run; without it the page has no timeline.
    why
        The JSON object of `moesim why`, for what would help.
    comparison
        What `sim.report.html.compare.comparison_content` says of the run and others.

    Raises
    ------
    OSError
        The file could not be written (`sim.report.files` makes it an `OutputError`).
    """
    Path(path).write_text(_html(data, details, why or {}, comparison or {}), encoding="utf-8", newline="\n")


# ---- private -----------------------------------------------------------------------------------------------------


def _html(
    data: Mapping[str, Any], details: RunDetails | None, why: Mapping[str, Any], comparison: Mapping[str, Any]
) -> str:
    """Return the page."""
    trace = details.trace if details is not None and 0 < len(details.trace) <= _MOST_SPANS else None
    drawn = None if trace is None else draw_spans(trace)
    content = _content(data) | {
        "what_ifs": sections.what_ifs(why),
        "stragglers": sections.stragglers(why.get("stragglers") or stragglers_of_measured(data) or {}),
        "compare": bool(comparison),
        "comparison": comparison,
    }
    if details is not None and len(details.trace) > _MOST_SPANS:
        said = (
            f"The run has {len(details.trace):,} spans, more than the page draws ({_MOST_SPANS:,}): open trace.pftrace."
        )
        content |= {"warnings": [said, *content["warnings"]], "assumptions": True}
    payload: dict[str, Any] = {}
    packed_text = ""
    if details is not None and drawn is not None:
        payload, packed_text, more = _payload(data, details, drawn)
        content |= more
    ids = [name for name, _, _ in _SECTIONS if content.get(name)]
    for claim in (claim for fact in content["claims"] for claim in fact["claims"]):
        claim["evidence"] = evidence_of(claim["metric"], data, trace, drawn, ids)
    return render_page(content, _SECTIONS, payload, packed_text)


def _content(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the templates show of the JSON object."""
    scenario = data.get("scenario") or {}
    assumptions, warnings, findings = (list(data.get(key) or ()) for key in ("assumptions", "warnings", "findings"))
    links = sections.link_rows(data)
    claims = claim_facts(data)
    return {
        "name": str(scenario.get("name") or "scenario"),
        "subtitle": _subtitle(data),
        "conclusion": conclusion(data),
        "figures": sections.figures(data),
        "claims": claims,
        "claims_lead": f"The claims state {len(claims)} facts. {count_verdicts(claims)}" if claims else "",
        "helps": sections.helps(data),
        "fastest": sections.fastest_rival(data),
        "accounts": sections.accounts(data) if sum((data.get("path_ns") or {}).values()) else None,
        "memory": sections.memory_rows(data),
        "links": links if links["num"] else None,
        "picture": None,
        "strategies": sections.strategies(data),
        "uncertainty": sections.uncertainty_rows(data),
        "assumptions": bool(assumptions or warnings or findings),
        "assumption_rows": assumptions,
        "warnings": warnings,
        "findings": findings,
        "facts": sections.facts(data),
        "reproduce": True,
        "command": "moesim run SCENARIO",
        "scenario": json.dumps(scenario, indent=1, ensure_ascii=False),
        "heats": [],
        "curves": [],
    }


def _payload(
    data: Mapping[str, Any], details: RunDetails, drawn: DrawnSpans
) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """Return the data of the script, its columns as text, and what the templates show of the record of the run."""
    trace = details.trace
    memory, memory_columns = memory_curve(data.get("memory") or {})
    links, link_columns = link_curves(trace.link_use)
    heats, heat_columns = heats_of(details)
    columns = drawn.columns | memory_columns | link_columns | heat_columns
    times = {name for name in columns if name.endswith("_ns") and name.startswith(("memory_", "link_"))}
    packed = pack_columns(columns, deltas=_DELTAS | times)
    curves = [*memory, *links]
    payload = {
        "name": str((data.get("scenario") or {}).get("name") or ""),
        "kinds": list(KINDS),
        "kindNames": dict(sections.CATEGORY_NAMES),
        "streams": list(STREAMS),
        "bands": drawn.bands,
        "tracks": drawn.tracks,
        "index": packed.index,
        "startNs": trace.start_ns,
        "endNs": trace.end_ns,
        "shapes": shapes_of(data),
        "palettes": palettes(),
        "curves": curves,
        "heat": heats,
    }
    more = {
        "timeline": True,
        "num_spans": f"{len(trace):,}",
        "num_bands": len(drawn.bands),
        "curves": curves,
        "curves_label": f"Over time: {'; '.join(curve['title'] for curve in curves)}.",
        "legend": legend_of(trace),
        "heats": heats,
        "experts": bool(heats),
        "experts_lead": "A step waits for the rank with the most tokens: what is above the mean is lost on all others.",
    }
    if details.command:
        more["command"] = details.command
    if details.picture:
        source = f"data:image/svg+xml;base64,{base64.b64encode(details.picture).decode('ascii')}"
        text = "The cluster: each link is coloured by its mean load over the step, from light to dark."
        more["picture"] = {"source": source, "text": text}
    return payload, packed.text, more


def _subtitle(data: Mapping[str, Any]) -> str:
    scenario = data.get("scenario") or {}
    workload, cluster = scenario.get("workload") or {}, scenario.get("cluster") or {}
    gpus = (data.get("metrics") or {}).get("num_gpus")
    parts = [
        str(workload.get("kind") or ""),
        str((scenario.get("parallel") or {}).get("strategy") or ""),
        f"{gpus:,} GPUs" if gpus else "",
        str(cluster.get("preset") or cluster.get("file") or ""),
    ]
    return " · ".join(part for part in parts if part)
