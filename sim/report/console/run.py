"""The whole report of `moesim run --verbose`, from the contract's JSON; by default a screen of it (`summary`).

Order: the phrases of the run; the conclusion; claims, alternatives, uncertainty and findings; metrics; where the time
went; how collectives ran; the hottest links; memory; bounds; assumptions; warnings; the files written. A collective
that is run alone has a line instead of metrics and accounts.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sim.report.console.accounts import print_accounts
from sim.report.console.claims import print_claims, print_sensitivity
from sim.report.console.network import print_collective, print_collectives, print_links
from sim.report.console.serving import print_serving, serving_phrase
from sim.report.console.summary import print_conclusion, print_summary
from sim.report.console.tables import (
    bullets,
    cell,
    heading,
    indented,
    make_console,
    new_table,
    print_rows,
    print_written,
)
from sim.report.console.uncertainty import print_uncertainty
from sim.results.catalog import CATALOG, unit_of
from sim.results.quantities import format_quantity

__all__ = ["format_quantity", "make_console", "print_report", "print_rows", "unit_of_key"]

_SUFFIX_UNITS: Final = (
    ("flops_per_s_per_gpu", "FLOP/s"),
    ("flops_per_s", "FLOP/s"),
    ("tokens_per_s_per_gpu", "tokens/s"),
    ("tokens_per_s", "tokens/s"),
    ("bytes_per_s", "bytes/s"),
    ("bytes_per_gpu", "bytes"),
    ("bytes", "bytes"),
    ("fraction", "ratio"),
    ("_s", "s"),
)
"""End of a key -> its unit, longest first."""
_MARGIN: Final = 2
_BETWEEN: Final = 3

_OF_PASSES: Final = {"parallel", "schedule", "routing"}
"""Sections that do not apply to a collective that is run alone."""
_ROUTED: Final = ("dispatch", "combine")

Row = tuple[str, str]


def print_report(
    data: Mapping[str, Any],
    console: Console,
    *,
    written: Mapping[str, str],
    num_nodes: int | None = None,
    why_not_compiled: str | None = None,
    verbose: bool = True,
) -> None:
    """Print a run.

    Parameters
    ----------
    data
        The JSON object of `run`; a section that is missing or empty is not printed.
    console
        Where to print; the console of `make_console` also suits pipes.
    written
        Content of each file -> its path.
    num_nodes
        Nodes of the cluster that was built; None or 0: as many as the scenario says.
    why_not_compiled
        Why the compiled engine did not run; None: it ran, or was not to.
    verbose
        Whether to print all there is, and not a screen of it.
    """
    if not verbose:
        print_summary(data, console, written=written, header=lambda: _print_header(data, console, num_nodes))
        return
    _print_header(data, console, num_nodes)
    print_conclusion(data.get("conclusion") or (), console)
    _print_unfit(data, console)
    numbers = {item["key"]: number for number, item in enumerate(data.get("assumptions") or (), 1)}
    print_claims(data.get("claims") or (), console, numbers)
    print_sensitivity(data.get("sensitivity") or (), data.get("claims") or (), console)
    print_uncertainty(data.get("uncertainty") or {}, data.get("metrics") or {}, console)
    certificate = (data.get("search") or {}).get("certificate")
    _print_texts("searched", [certificate] if certificate else [], console, mark="•", style="cyan")
    _print_texts("findings", data.get("findings"), console, mark="•", style="cyan")
    if _is_collective(data.get("scenario") or {}):
        print_collective(data, console)
    elif _kind(data.get("scenario") or {}) == "serving":
        print_serving(data, console)
        print_accounts(data.get("stages_ns") or (), {}, console)
    else:
        metrics = data.get("metrics") or {}
        if _kind(data.get("scenario") or {}) == "passes":
            metrics = {name: value for name, value in metrics.items() if name != "num_gpus"}
        _print_quantities("metrics", metrics, console)
        print_accounts(data.get("stages_ns") or (), data.get("path_ns") or {}, console)
        network = (data.get("scenario") or {}).get("network") or {}
        print_collectives(data.get("collectives") or (), network, console)
    print_links(data.get("links") or (), console)
    _print_memory(data.get("memory") or {}, console)
    _print_quantities("bounds", data.get("bounds"), console)
    _print_assumptions(data.get("assumptions") or (), console)
    _print_texts("warnings", data.get("warnings"), console, mark="!", style="bold yellow")
    has_engine = _kind(data.get("scenario") or {}) != "serving"  # whose batches follow one another without an engine
    _print_engine(data.get("engine") or {}, console, has_engine=has_engine, why_not_compiled=why_not_compiled)
    print_written(written, console)


def unit_of_key(key: str) -> str | None:
    """Return the unit of a number by the catalogue of metrics, else by the end of its name.

    >>> unit_of_key("mfu"), unit_of_key("batch_compute_s"), unit_of_key("num_gpus")
    ('ratio', 's', None)
    """
    if key in CATALOG:
        return unit_of(key)
    return next((unit for end, unit in _SUFFIX_UNITS if key.endswith(end)), None)


# ---- private -----------------------------------------------------------------------------------------------------


def _kind(scenario: Mapping[str, Any]) -> str:
    return str((scenario.get("workload") or {}).get("kind") or "")


def _is_collective(scenario: Mapping[str, Any]) -> bool:
    return _kind(scenario) == "collective"


def _print_header(data: Mapping[str, Any], console: Console, num_nodes: int | None) -> None:
    scenario = data.get("scenario") or {}
    if _is_collective(scenario):  # sections that do not apply hold defaults
        left_out = _OF_PASSES - ({"routing"} if scenario["workload"].get("op") in _ROUTED else set())
        scenario = {key: value for key, value in scenario.items() if key not in left_out}
    if _kind(scenario) == "serving":
        parallel = {key: value for key, value in scenario["parallel"].items() if key != "convention"}
        scenario = {key: value for key, value in scenario.items() if key != "schedule"} | {"parallel": parallel}
    is_bare = _kind(scenario) == "passes"  # neither GPUs nor a model
    if is_bare:
        parallel = {key: value for key, value in scenario["parallel"].items() if key != "convention"}
        scenario = {**scenario, "parallel": parallel, "routing": {}}
    has_experts = "exchange_completes" in (data.get("mesh") or {}) or _is_collective(scenario)  # no routing without
    parallel, cluster, workload = (scenario.get(key) or {} for key in ("parallel", "cluster", "workload"))
    num_gpus = None if is_bare else (data.get("metrics") or {}).get("num_gpus")
    device = (cluster.get("device") or {}).get("preset")
    gpus = f"{num_gpus} GPUs" if num_gpus else ""
    num_nodes = num_nodes or cluster.get("num_nodes")
    nodes = "node" if num_nodes == 1 else "nodes"
    phrases = [
        str(parallel.get("strategy") or _axes(parallel)),
        f"convention {parallel['convention']}" if parallel.get("convention") else "",
        f"{gpus} {device}".strip() if device else gpus,
        f"{num_nodes} {nodes} of {cluster.get('preset') or cluster.get('file')}" if cluster.get("num_nodes") else "",
        f"wired {cluster['fabric']['kind']}" if cluster.get("fabric") else "",
        f"{len(cluster['degraded'])} degraded components" if cluster.get("degraded") else "",
        _work(workload),
        f"schedule {scenario['schedule']['kind']}" if (scenario.get("schedule") or {}).get("kind") else "",
        f"routing {scenario['routing']['kind']}" if has_experts and (scenario.get("routing") or {}).get("kind") else "",
        "network flow by flow" if (scenario.get("network") or {}).get("fidelity") == "flow" else "",
    ]
    console.print(cell(scenario.get("name") or "scenario", "bold"))
    console.print(cell(" · ".join(phrase for phrase in phrases if phrase), "dim"))


def _print_unfit(data: Mapping[str, Any], console: Console) -> None:
    """Print at the top where the run does not fit into memory: such a strategy could not run."""
    if (data.get("memory") or {}).get("fits", True) is False:
        console.print(cell("does not fit into memory: see the first finding", "bold red"))


def _axes(parallel: Mapping[str, Any]) -> str:
    axes = ("ep", "etp", "tp", "pp", "dp", "cp", "vpp")
    return "_".join(f"{axis.upper()}{parallel[axis]}" for axis in axes if parallel.get(axis))


def _work(workload: Mapping[str, Any]) -> str:
    kind = str(workload.get("kind") or "")
    if kind == "collective":
        return f"{workload['op'].replace('_', '-')} over {workload['num_ranks']:,} ranks"
    if kind == "serving":
        return serving_phrase(workload)
    if kind == "passes":
        number = workload["microbatches"]
        return f"passes of {number:,} microbatch{'' if number == 1 else 'es'}"
    if not workload.get("sequences") or not workload.get("sequence_length"):
        return kind
    batches = workload.get("batches") or 1
    each = f"{workload['sequences']:,} x {workload['sequence_length']:,} tokens"
    return f"{kind}, {batches} batches of {each}" if batches > 1 else f"{kind} of {each}"


def _print_texts(title: str, texts: Sequence[str] | None, console: Console, *, mark: str, style: str) -> None:
    if texts:
        heading(console, title)
        bullets(console, texts, mark=mark, style=style)


def _print_quantities(title: str, quantities: Mapping[str, Any] | None, console: Console) -> None:
    """Print names and values in as many columns as fit, read downwards."""
    rows = [
        (key, format_quantity(value, unit_of_key(key)))
        for key, value in _flat(quantities or {})
        if isinstance(value, (bool, int, float))
    ]
    if not rows:
        return
    heading(console, title)
    blocks = _blocks(rows, console.width - _MARGIN)
    grid = Table.grid(padding=(0, _BETWEEN, 0, 0))
    grid.add_row(*(_pairs(block, console) for block in blocks))
    indented(console, grid)


def _blocks(rows: Sequence[Row], width: int) -> list[Sequence[Row]]:
    """Return the rows in as many columns of blocks as fit, at most 3.

    >>> _blocks([("a", "1"), ("b", "2"), ("c", "3")], 15)
    [[('a', '1'), ('b', '2')], [('c', '3')]]
    """
    for num_blocks in (3, 2):
        length = -(-len(rows) // num_blocks)
        blocks = [rows[first : first + length] for first in range(0, len(rows), length)]
        widths = [max(len(key) for key, _ in block) + max(len(value) for _, value in block) for block in blocks]
        if sum(widths) + (2 + 2) * len(blocks) + _BETWEEN * (len(blocks) - 1) <= width:
            return blocks
    return [rows]


def _pairs(rows: Sequence[Row], console: Console) -> Table:
    table = new_table(console, "", "", right=[1])
    for key, value in rows:
        table.add_row(cell(key), cell(value, "bold"))
    return table


def _flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Return leaves by their dotted names.

    >>> _flat({"a": 1, "b": {"c": 2}})
    [('a', 1), ('b.c', 2)]
    """
    leaves: list[tuple[str, Any]] = []
    for key, value in values.items():
        leaves += _flat(value, f"{before}{key}.") if isinstance(value, Mapping) else [(f"{before}{key}", value)]
    return leaves


def _print_memory(memory: Mapping[str, Any], console: Console) -> None:
    """Print what fills a GPU at the peak, where and when that is, and whether it fits."""
    components = memory.get("peak_bytes_per_gpu") or {}
    total, capacity = components.get("total"), memory.get("capacity_bytes")
    if not total:
        return
    where = [f"stage {memory['peak_stage']}"] if memory.get("peak_stage") is not None else []
    where += [f"rank {memory['peak_rank']}"] if memory.get("peak_rank") is not None else []
    where += [f"at {format_quantity(memory['peak_time_s'], 's')}"] if memory.get("peak_time_s") is not None else []
    heading(console, "memory per GPU", f"peak on {' '.join(where)}" if where else "")
    table = new_table(console, "", "peak", "of peak", right=[1, 2])
    for component, num_bytes in components.items():
        if num_bytes and component != "total":
            share = f"{100 * num_bytes / total:.1f} %"
            table.add_row(cell(component.replace("_", " ")), cell(format_quantity(num_bytes, "bytes")), cell(share))
    table.add_row(cell("total", "bold"), cell(format_quantity(total, "bytes"), "bold"), cell("100.0 %"))
    indented(console, table)
    if capacity:
        fits = bool(memory.get("fits"))
        verdict = cell("fits" if fits else "does not fit", "bold green" if fits else "bold red")
        reserved = (memory.get("reserved_bytes") or {}).get("total", 0)
        of = f" in {format_quantity(capacity, 'bytes')}: {100 * total / capacity:.1f} % {'used' if fits else 'needed'}"
        if reserved:
            share = f"{100 * reserved / capacity:.1f} %"
            of += f", and {share} ({format_quantity(reserved, 'bytes')}) by context and communicators"
        indented(console, Text.assemble(verdict, cell(of)))


def _print_assumptions(assumptions: Sequence[Mapping[str, Any]], console: Console) -> None:
    if not assumptions:
        return
    heading(console, "assumptions", "phrases that the document or the scenario does not give")
    table = new_table(console, "no.", "key", "value", "why", right=[0])
    for number, item in enumerate(assumptions, 1):
        table.add_row(cell(number, "dim"), cell(item["key"]), cell(item["value"], "bold"), cell(item["why"]))
    indented(console, table)


def _print_engine(
    engine: Mapping[str, Any], console: Console, *, has_engine: bool, why_not_compiled: str | None
) -> None:
    """Print the numbers of simulations, spans and events in a line, and in another which engine ran."""
    counted = [(engine.get("runs"), "simulation"), (engine.get("spans"), "span"), (engine.get("events"), "event")]
    texts = [f"{count:,} {noun}{'' if count == 1 else 's'}" for count, noun in counted if count]
    if engine.get("folded"):
        texts.append(
            f"{engine['folded']:,} of {engine['lanes']:,} lanes (all stages) folded: each counted as an equal lane"
        )
    if texts:
        console.print()
        console.print(cell(", ".join(texts), "dim"))
    if engine.get("runs") and has_engine:
        why = "" if why_not_compiled is None else f", and not the compiled engine: {why_not_compiled}"
        ran = "the compiled engine" if engine.get("compiled") else f"SimPy's processes{why}"
        console.print(cell(f"engine: {ran}", "dim"))
