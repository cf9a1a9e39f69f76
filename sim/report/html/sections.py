"""What the sections of the page say, from the JSON object of a run: texts and shares, no markup.

Each function takes the object and returns plain values for a template; a part that the object lacks is empty, and the
template leaves it out.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sim.report.console.run import unit_of_key
from sim.results.accounts import CATEGORIES
from sim.results.catalog import CATALOG, unit_of
from sim.results.quantities import format_quantity, format_ratio

__all__ = [
    "CATEGORY_NAMES",
    "accounts",
    "facts",
    "fastest_rival",
    "figures",
    "helps",
    "link_rows",
    "meaning_of",
    "memory_rows",
    "percent_of",
    "stragglers",
    "strategies",
    "uncertainty_rows",
    "what_ifs",
]

Data = Mapping[str, Any]
Row = dict[str, Any]

CATEGORY_NAMES: Final[Mapping[str, str]] = {
    "attention": "attention",
    "dense_ffn": "dense FFN",
    "expert": "experts",
    "other_compute": "other kernels",
    "optimizer": "optimizer",
    "tp": "tensor parallel (TP)",
    "ep_dispatch": "dispatch to experts (EP)",
    "ep_combine": "combine from experts (EP)",
    "ep_moves": "moves of experts (EP)",
    "pp": "between stages (PP)",
    "dp": "gradients and parameters (DP)",
    "cp": "context parallel (CP)",
    "imbalance": "imbalance",
    "contention": "contention",
    "latency": "latency",
    "stalled": "stalled",
    "foreign": "experts for other stages",
    "idle": "idle",
    "F": "forward pass",
    "B": "backward pass",
    "W": "weight gradient pass",
    "O": "after the last pass",
}
"""Category of the accounts, or kind of span -> its name on the page."""

_FIGURES: Final = (
    ("step_time_s", "step time", "s"),
    ("steady_tokens_per_s", "steady throughput", "tokens/s"),
    ("mfu", "model FLOPs utilisation (MFU)", "ratio"),
    ("exposed_communication_fraction", "communication on the critical path", "ratio"),
    ("bubble_fraction", "pipeline bubble, mean of stages", "ratio"),
    ("collective_time_s", "time of the collective", "s"),
    ("busbw_bytes_per_s", "bus bandwidth", "bytes/s"),
)
"""Metrics at the head of the page, where the run has them."""


def figures(data: Data) -> list[Row]:
    """Return the figures at the head of the page."""
    metrics, sure = data.get("metrics") or {}, (data.get("uncertainty") or {}).get("figures") or {}
    rows = [
        {"label": label, "value": format_quantity(metrics[name], unit), "interval": _interval(sure.get(name), unit)}
        for name, label, unit in _FIGURES
        if metrics.get(name) is not None
    ]
    memory = data.get("memory") or {}
    if memory:
        total, capacity = float(memory["peak_bytes_per_gpu"]["total"]), float(memory["capacity_bytes"])
        fits = "fits" if memory["fits"] else "does not fit"
        value = f"{format_quantity(total, 'bytes')} of {format_quantity(capacity, 'bytes')}"
        rows.append({"label": f"memory at the peak of a GPU: {fits}", "value": value, "interval": ""})
    return rows


def helps(data: Data) -> list[Row]:
    """Return the largest parts of the critical path, with the most that each could save."""
    path = data.get("path_ns") or {}
    step_ns = sum(path.values())
    if not step_ns:
        return []
    parts = sorted(((ns, name) for name, ns in path.items() if ns), reverse=True)[:6]
    return [
        {
            "category": name,
            "name": CATEGORY_NAMES[name],
            "time": format_quantity(ns / 1e9, "s"),
            "share": ns / step_ns,
            "percent": format_quantity(round(ns / step_ns, 4), "ratio"),
        }
        for ns, name in parts
    ]


def percent_of(share: float) -> str:
    """Return a share in percent, to two decimals.

    >>> percent_of(0.12345), percent_of(0.000001)
    ('12.35 %', '< 0.01 %')
    """
    return "< 0.01 %" if 0 < share < 5e-5 else format_quantity(round(share, 4), "ratio")


def what_ifs(why: Data) -> list[Row]:
    """Return the what-ifs of `moesim why`, largest gain first, but for causes of stragglers and those without gain."""
    as_it_is_s = why.get("time_s") or 0.0
    causes = {cause["name"] for cause in (why.get("stragglers") or {}).get("causes", ())}
    return [
        {
            "name": one["name"],
            "meaning": one["meaning"],
            "time": format_quantity(one["time_s"], "s"),
            "gain": format_quantity(one["gain_s"], "s"),
            "share": one["gain_s"] / as_it_is_s,
            "percent": format_quantity(round(one["gain_s"] / as_it_is_s, 4), "ratio"),
        }
        for one in why.get("what_ifs") or ()
        if one.get("gain_s") and one["gain_s"] > 0 and one["name"] not in causes
    ]


def stragglers(found: Data) -> Row:
    """Return the stragglers of `moesim why`: the time without any, and each cause; nothing where there are none."""
    if not found:
        return {}
    as_it_is_s = found["as_it_is_s"]
    return {
        "time": format_quantity(found["time_s"], "s"),
        "as_it_is": format_quantity(as_it_is_s, "s"),
        "slowdown": f"{found['slowdown']:.3f}",
        "basis": found["basis"],
        "rows": [
            {
                "name": cause["name"],
                "meaning": cause["meaning"],
                "time": format_quantity(cause["time_s"], "s"),
                "slowdown": f"{cause['slowdown']:.3f}",
                "of_whole": "–" if cause["share"] is None else f"{round(100 * cause['share'])} %",
                "share": max(0.0, cause["share"] or 0.0),
            }
            for cause in sorted(found["causes"], key=lambda one: -one["gain_s"])
        ],
    }


def accounts(data: Data) -> Row:
    """Return both accounts of time: the critical path, and each stage, by category."""
    path, stages = data.get("path_ns") or {}, data.get("stages_ns") or ()
    used = [name for name in CATEGORIES if path.get(name) or any(stage.get(name) for stage in stages)]
    columns = [("critical path", path), *((f"stage {number}", stage) for number, stage in enumerate(stages))]
    columns = [(name, account) for name, account in columns if sum(account.values())]
    return {
        "title": "Shares of the step time, along the critical path and of each stage; each bar is the whole step.",
        "categories": [{"id": name, "name": CATEGORY_NAMES[name]} for name in used],
        "bars": [{"name": name, "parts": _parts(account, used)} for name, account in columns],
    }


def memory_rows(data: Data) -> Row:
    """Return the memory of the fullest GPU by component, and of every stage."""
    memory = data.get("memory") or {}
    if not memory:
        return {}
    peak, capacity = dict(memory["peak_bytes_per_gpu"]), float(memory["capacity_bytes"])
    total = peak.pop("total")
    reserved = (memory.get("reserved_bytes") or {}).get("total", 0)
    parts = [
        {
            "name": name.replace("_", " ").replace("kv ", "KV "),
            "text": format_quantity(float(size), "bytes"),
            "share": size / capacity,
        }
        for name, size in sorted(peak.items(), key=lambda item: -item[1])
        if size
    ]
    if reserved:
        share, text = reserved / capacity, format_quantity(float(reserved), "bytes")
        parts.append({"name": "reserved: context and communicators", "text": text, "share": share})
    stages = [
        {"name": f"stage {stage}", "text": format_quantity(float(size), "bytes"), "share": size / capacity}
        for stage, size in enumerate(memory.get("peak_of_stages_bytes") or ())
    ]
    return {
        "parts": parts,
        "stages": stages,
        "total": format_quantity(float(total), "bytes"),
        "capacity": format_quantity(capacity, "bytes"),
        "fits": memory["fits"],
        "stage": memory.get("peak_stage"),
        "rank": memory.get("peak_rank"),
        "time": format_quantity(memory.get("peak_time_s"), "s"),
    }


def link_rows(data: Data, *, most: int = 40) -> Row:
    """Return the links that carried the most for their capacity, and a summary of each kind."""
    links = sorted(data.get("links") or (), key=lambda link: (-link["utilisation"], link["name"]))
    kinds: dict[str, list[Data]] = {}
    for link in links:
        kinds.setdefault(link["kind"], []).append(link)
    return {
        "kinds": [_kind_of_links(kind, members) for kind, members in kinds.items()],
        "rows": [_link(link) for link in links[:most]],
        "num": len(links),
    }


def strategies(data: Data) -> list[Row]:
    """Return, for each claim that compares rivals, their values and that of the run, best first."""
    tables = []
    for claim in data.get("claims") or ():
        if not claim.get("rivals"):
            continue
        is_least = (claim.get("expect") or {}).get("superlative") == "least"
        unit = unit_of(claim["metric"])
        rows = [{"name": "this strategy", "value": claim["value"], "is_own": True}]
        rows += [{"name": rival["strategy"], "value": rival["value"], "is_own": False} for rival in claim["rivals"]]
        known = [row for row in rows if isinstance(row["value"], (int, float))]
        known.sort(key=lambda row: row["value"], reverse=not is_least)
        most = max((abs(row["value"]) for row in known), default=0) or 1
        for row in known:
            row |= {"text": format_quantity(row["value"], unit), "share": abs(row["value"]) / most}
        title = meaning_of(claim["metric"]) or claim["metric"]
        better = "less is better" if is_least else "more is better"
        failed = [row["name"] for row in rows if row not in known]
        tables.append(
            {
                "id": claim["id"],
                "says": claim["says"],
                "metric": claim["metric"],
                "title": title,
                "better": better,
                "rows": known,
                "failed": failed,
            }
        )
    return sorted(tables, key=lambda table: -len(table["rows"]))


def meaning_of(metric: str) -> str:
    """Return what a metric means, without reference to the metric before it in the catalogue.

    >>> meaning_of("exposed_tp_fraction")
    'tensor-parallel collectives on the path: the same over the step time'
    """
    if metric not in CATALOG:
        return ""
    meaning, names = CATALOG[metric].meaning, list(CATALOG)
    if not meaning.startswith(("the same", "as mfu")):
        return meaning
    before = names[: names.index(metric)][::-1]
    base = next(
        CATALOG[name].meaning for name in before if not CATALOG[name].meaning.startswith(("the same", "as mfu"))
    )
    return f"{base}: {meaning}"


def fastest_rival(data: Data) -> Row:
    """Return the fastest strategy that was simulated, where it is faster than the run; else nothing."""
    own = (data.get("metrics") or {}).get("step_time_s")
    rivals = [
        (rival["value"], rival["strategy"])
        for claim in data.get("claims") or ()
        if claim["metric"] == "step_time_s"
        for rival in claim.get("rivals") or ()
        if isinstance(rival["value"], (int, float))
    ]
    if not own or not rivals or min(rivals)[0] >= own:
        return {}
    value, name = min(rivals)
    return {"name": name, "time": format_quantity(value, "s"), "times": format_ratio(own / value)}


def facts(data: Data) -> list[Row]:
    """Return every metric of the run and of its mesh, with unit and meaning."""
    rows = []
    for group in ("metrics", "mesh"):
        for name, value in (data.get(group) or {}).items():
            unit = unit_of(name) if name in CATALOG else unit_of_key(name)
            rows.append({"name": name, "text": format_quantity(value, unit), "meaning": meaning_of(name)})
    return rows


def uncertainty_rows(data: Data) -> Row:
    """Return what moves the headline of `run --uncertainty`, largest effect first; nothing without draws."""
    sure = data.get("uncertainty") or {}
    if not sure:
        return {}
    headline = sure["headline"]
    effects = sorted(sure["constants"], key=lambda one: -abs(one["effect"]))
    most = max((abs(one["effect"]) for one in effects), default=0.0) or 1.0
    rows = [
        {
            "name": one["name"],
            "interval": " to ".join(f"{end:.2f}" for end in one["interval"]),
            "values": " to ".join(format_quantity(value, unit_of(headline)) for value in one["values"]),
            "effect": f"{100 * one['effect']:+.1f} %",
            "share": abs(one["effect"]) / most,
            "source": one["source"],
        }
        for one in effects
    ]
    return {"samples": sure["samples"], "headline": headline, "rows": rows}


# ---- private -----------------------------------------------------------------------------------------------------


def _interval(ends: Sequence[float] | None, unit: str) -> str:
    """Return an interval over draws of constants as a text; nothing without one, and where it has no width."""
    return (
        ""
        if not ends or ends[0] == ends[1]
        else f"{format_quantity(ends[0], unit)} to {format_quantity(ends[1], unit)}"
    )


def _parts(account: Mapping[str, int], used: Sequence[str]) -> list[Row]:
    """Return the parts of an account with where each begins, as shares of its sum."""
    whole, begin, parts = sum(account.values()), 0, []
    for name in used:
        ns = account.get(name, 0)
        parts.append(
            {
                "id": name,
                "begin": begin / whole,
                "share": ns / whole,
                "time": format_quantity(ns / 1e9, "s") if ns else "–",
                "percent": percent_of(ns / whole) if ns else "–",
            }
        )
        begin += ns
    return parts


def _kind_of_links(kind: str, links: Sequence[Data]) -> Row:
    mean = sum(link["utilisation"] for link in links) / len(links)
    return {
        "kind": kind,
        "num": f"{len(links):,}",
        "bytes": format_quantity(sum(link["bytes"] for link in links), "bytes"),
        "mean": format_quantity(mean, "ratio"),
        "most": format_quantity(links[0]["utilisation"], "ratio"),
        "share": links[0]["utilisation"],
        "bottleneck": _bottleneck(max((link.get("bottleneck_fraction") or 0 for link in links), default=None)),
        "uneven": format_ratio(links[0]["utilisation"] / mean) if mean else "–",
    }


def _link(link: Data) -> Row:
    return {
        "name": link["name"],
        "kind": link["kind"],
        "bytes": format_quantity(link["bytes"], "bytes"),
        "busy": format_quantity(link["busy_s"], "s"),
        "load": format_quantity(link["utilisation"], "ratio"),
        "share": link["utilisation"],
        "bottleneck": _bottleneck(link.get("bottleneck_fraction")),
    }


def _bottleneck(share: float | None) -> str:
    return "–" if share is None else format_quantity(round(share, 4), "ratio")
