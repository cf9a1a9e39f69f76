"""The page itself: everything that one run says in one HTML file that loads nothing.

Model
-----
Texts and tables are written by templates, which escape whatever comes from a scenario. The timeline, the curves and the
heat map are drawn by the script from columns that lie in the page (`sim.report.html.columns`). The policy in the page
forbids all requests and every script and style but those of the page, which it names by their hashes; data in the page
cannot end its element, for `<` is written as an escape.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sim.engine.trace import KINDS, STREAMS
from sim.report.html import sections
from sim.report.html.claims import claim_facts, conclusion, count_verdicts
from sim.report.html.colours import palettes
from sim.report.html.columns import pack_columns
from sim.report.html.details import RunDetails
from sim.report.html.evidence import evidence_of
from sim.report.html.pictures import colour_rules, heats_of, legend_of, link_curves, memory_curve
from sim.report.html.spans import DrawnSpans, draw_spans

__all__ = ["write_page"]

_HERE: Final = Path(__file__).parent
_SCRIPTS: Final = (
    "format.js",
    "columns.js",
    "spans.js",
    "view.js",
    "drawing.js",
    "timeline.js",
    "curves.js",
    "heatmap.js",
    "page.js",
)
"""The files of the script, in the order in which they stand in the page."""

_IMPORT: Final = re.compile(r"^import [^;]*;\n|^export (?=\w)", re.MULTILINE)
"""What only modules have: imports, and the word `export`."""

_SECTIONS: Final = (
    ("claims", "Claims", "Is it true? The claims and what decided them"),
    ("helps", "What helps", "What is slow, and what would help most"),
    ("timeline", "Timeline", "What happens when"),
    ("accounts", "Time", "Where the time goes"),
    ("memory", "Memory", "Does it fit? Memory of a GPU"),
    ("experts", "Experts", "How even is the load of experts?"),
    ("links", "Links", "Which links carry the most?"),
    ("strategies", "Strategies", "How do other strategies compare?"),
    ("assumptions", "Assumptions", "What was assumed"),
    ("facts", "Figures", "All figures"),
    ("reproduce", "Reproduce", "How to get this again"),
)
"""Sections of the page in order: id (and template), name in the navigation, heading."""

_DELTAS: Final = frozenset({"row", "start_ns", "stall_start_ns", "path_start_ns"})


def write_page(
    data: Mapping[str, Any],
    path: str | Path,
    *,
    details: RunDetails | None = None,
    why: Mapping[str, Any] | None = None,
    picture: Mapping[str, str] | None = None,
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
    picture
        `source` and `text` of a picture of the cluster.

    Raises
    ------
    OSError
        The file could not be written (`sim.report.files` makes it an `OutputError`).
    """
    Path(path).write_text(_html(data, details, why or {}, picture), encoding="utf-8", newline="\n")


# ---- private -----------------------------------------------------------------------------------------------------


def _html(
    data: Mapping[str, Any], details: RunDetails | None, why: Mapping[str, Any], picture: Mapping[str, str] | None
) -> str:
    """Return the page."""
    trace = details.trace if details is not None and len(details.trace) else None
    drawn = None if trace is None else draw_spans(trace)
    content = _content(data, picture) | {"what_ifs": sections.what_ifs(why)}
    payload: dict[str, Any] = {}
    packed_text = ""
    if details is not None and drawn is not None:
        payload, packed_text, more = _payload(data, details, drawn)
        content |= more
    shown = [(name, short, title) for name, short, title in _SECTIONS if content.get(name)]
    content["sections"] = [
        {"id": name, "short": short, "title": title, "template": f"{name}.html"} for name, short, title in shown
    ]
    ids = [name for name, _, _ in shown]
    for claim in (claim for fact in content["claims"] for claim in fact["claims"]):
        claim["evidence"] = evidence_of(claim["metric"], data, trace, drawn, ids)
    style = Markup((_HERE / "report.css").read_text("utf-8") + colour_rules())
    script = Markup('"use strict";\n(() => {\n' + _script() + "})();\n")
    return (
        _environment()
        .get_template("page.html")
        .render(
            content,
            policy=_policy(style, script),
            style=style,
            script=script,
            version=_version(),
            names=sections.CATEGORY_NAMES,
            payload=_json(payload) if payload else "",
            columns=packed_text,
        )
    )


def _content(data: Mapping[str, Any], picture: Mapping[str, str] | None) -> dict[str, Any]:
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
        "accounts": sections.accounts(data) if sum((data.get("path_ns") or {}).values()) else None,
        "memory": sections.memory_rows(data),
        "links": links if links["num"] else None,
        "picture": picture,
        "strategies": sections.strategies(data),
        "assumptions": assumptions or (warnings + findings),
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
        "shapes": {},
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


def _script() -> str:
    """Return the modules as one script: what they import from one another stands in it before."""
    return "\n".join(_IMPORT.sub("", (_HERE / "scripts" / name).read_text("utf-8")) for name in _SCRIPTS)


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=False,
        keep_trailing_newline=True,
    )


def _policy(style: str, script: str) -> str:
    """Return the Content-Security-Policy: nothing but this style, this script, and pictures that lie in the page."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
    )


def _json(value: object) -> Markup:
    """Return JSON that cannot end the element in which it stands."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _version() -> str:
    try:
        return version("moesim")
    except PackageNotFoundError:
        return ""
