"""What users of a server see, as a table; rates, the queue and the cache below it."""

from collections.abc import Mapping
from typing import Any, Final

from rich.console import Console

from sim.report.console.tables import cell, heading, indented, new_table
from sim.results.catalog import unit_of
from sim.results.quantities import format_quantity

__all__ = ["print_serving", "serving_phrase"]

_ROWS: Final = (
    ("time to first token", "ttft"),
    ("time per further token", "tpot"),
    ("time between tokens", "itl"),
    ("latency", "e2e_latency"),
    ("queue", "queue"),
)
_STATISTICS: Final = ("mean", "p50", "p90", "p99")
_LINES: Final = (
    ("rates", ("output_tokens_per_s", "output_tokens_per_s_per_gpu", "tokens_per_s_per_user", "requests_per_s")),
    ("promises", ("goodput_requests_per_s", "slo_attainment")),
    ("batches", ("running_mean", "largest_batch", "num_steps", "waiting_mean", "waiting_max")),
    ("KV cache", ("kv_blocks", "kv_use_mean", "kv_use_max", "prefix_hit_fraction", "num_preemptions")),
)
_WORDS: Final = {
    "output_tokens_per_s": "output",
    "output_tokens_per_s_per_gpu": "per GPU",
    "tokens_per_s_per_user": "per user",
    "requests_per_s": "requests/s",
    "goodput_requests_per_s": "goodput in requests/s",
    "slo_attainment": "kept for",
    "running_mean": "running",
    "largest_batch": "largest on a rank",
    "num_steps": "steps",
    "waiting_mean": "waiting",
    "waiting_max": "most waiting",
    "kv_blocks": "blocks of a rank",
    "kv_use_mean": "used",
    "kv_use_max": "at most",
    "prefix_hit_fraction": "of prompts found",
    "num_preemptions": "preemptions",
}


def serving_phrase(workload: Mapping[str, Any]) -> str:
    """Return what is served, in a phrase.

    >>> serving_phrase({"kind": "serving", "requests": {"concurrency": 8, "count": 80}, "server": {"policy": "vllm"}})
    'serving 80 requests, 8 at a time, vllm'
    """
    requests, server = workload["requests"], workload.get("server") or {}
    if requests.get("trace"):
        how = f"as {requests['trace']} says" if not requests.get("concurrency") else f"of {requests['trace']}"
    else:
        rate = f" {requests['rate']}" if requests.get("rate") else ""
        how = f"{(requests.get('arrival') or '').replace('_', ' ')}{rate}"
    if requests.get("concurrency"):
        how = f"{requests['concurrency']} at a time"
    count = f"{requests['count']:,} " if requests.get("count") else ""
    return f"serving {count}requests, {how}, {server.get('policy')}"


def print_serving(data: Mapping[str, Any], console: Console) -> None:
    """Print the times that users see, then rates, batches and the KV cache."""
    metrics = data["metrics"]
    num, cut = metrics["num_requests"], (data["scenario"]["workload"]["requests"] or {}).get("warmup") or 0
    heading(console, "users", f"{num:,} requests" + (f", {cut:,} of a warm-up left out" if cut else ""))
    table = new_table(console, "", *_STATISTICS, right=range(1, 1 + len(_STATISTICS)))
    for words, name in _ROWS:
        if f"{name}_mean_s" in metrics:
            table.add_row(cell(words), *(cell(format_quantity(metrics[f"{name}_{s}_s"], "s")) for s in _STATISTICS))
    indented(console, table)
    grid = new_table(console, "", "")
    for title, names in _LINES:
        if title == "promises" and not data["scenario"]["workload"].get("slo"):
            continue
        said = [f"{_WORDS[name]} {_number(name, metrics[name])}" for name in names if name in metrics]
        grid.add_row(cell(title, "bold"), cell(", ".join(said)))
    grid.add_row(cell("keeps up", "bold"), cell("yes" if metrics["is_stable"] else "no: the queue grows"))
    indented(console, grid)


def _number(name: str, value: float) -> str:
    if isinstance(value, float) and unit_of(name) is None:
        return f"{value:,.3g}"
    return format_quantity(value, unit_of(name))
