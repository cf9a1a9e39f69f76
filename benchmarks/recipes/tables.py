"""The two tables of recipes, and what their blank cells mean.

Blank cells
-----------
A cell that is blank has the value of the recipe's base (`bases.yaml`), or of a base of the model where the base is not
known. A row without a base repeats the recipe of the same model, GPU and precision on the fewest GPUs, with its global
batch scaled by the GPUs. Under FSDP, TP and PP are 1 where they are blank, for Megatron's FSDP has no pipeline.
"""

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from recipes.recipe import Recipe, RefusedError, cluster_of, model_of, precision_of
from workloads.pipeline_layout import parse_layout

__all__ = ["Row", "read_table"]

Cells = Mapping[str, str]
_BASES: Final[dict[str, Any]] = YAML(typ="safe").load(Path(__file__).with_name("bases.yaml").read_text("utf-8"))
_NAMES: Final = ("model", "gpu", "gpus", "precision")
_MESH: Final = {"TP": "tp", "PP": "pp", "CP": "cp", "VP": "vpp", "EP": "ep", "ETP": "etp", "MBS": "mbs"}
"""Columns of whole numbers -> fields of a recipe."""
_PERFORMANCE: Final = {
    "model": "model",
    "System": "gpu",
    "num_gpus": "gpus",
    "Precision": "precision",
    "Sequence Length": "seq",
    **{name: name for name in ("TP", "PP", "CP", "VP", "EP", "GBS", "MBS")},
}
"""Columns of the table of published results -> columns of the table of recipes."""
_COLUMNS: Final = (
    *(*_NAMES, *_MESH, "GBS", "seq", "SP", "layout", "recompute", "recompute_granularity", "recompute_layers"),
    *("dispatcher", "ep_overlap", "cuda_graph", "cuda_graph_scope", "fsdp", "offload_layers", "calls", "base"),
)
"""Columns of the table of recipes."""
_NOT_IN_RESULTS: Final = ("split", "recompute", "gradients", "moments", "mtp")
"""What the table of results does not say."""
_NONE: Final = {"", "n/a", "none", "null"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row: its name, and the recipe, which is refused by an exception that says why."""

    name: str
    recipe: Callable[[], Recipe]


def read_table(path: Path) -> list[Row]:
    """Return the rows of either table: tuned recipes, or published results; lines that open with `#` are skipped."""
    with path.open(newline="", encoding="utf-8") as file:
        read = csv.DictReader(line for line in file if not line.startswith("#"))
        blank = dict.fromkeys(_COLUMNS, "")
        records = [blank | {key: (text or "").strip() for key, text in row.items()} for row in read]
    if records and "System" in (read.fieldnames or ()):
        return [_result_row(record) for record in records]
    return [
        Row(name=" ".join(record[key] for key in _NAMES), recipe=lambda record=record: _tuned_recipe(record, records))
        for record in records
    ]


# ---- tuned recipes -------------------------------------------------------------------------------------------------


def _tuned_recipe(cells: Cells, table: list[dict[str, str]]) -> Recipe:
    fp8_recipe, model = precision_of(cells["precision"]), model_of(cells["model"])
    _refuse_adapters(cells)
    defaults, why = _defaults(cells, table)
    fsdp = _fsdp_of(cells)
    values: dict[str, Any] = dict(_numbers(cells))
    values |= {"sequences": _number(cells["GBS"]), "sequence_length": _number(cells["seq"])}
    values["sp"] = {"True": True, "False": False}.get(cells["SP"])
    values |= {"offload_layers": _number(cells["offload_layers"]), **_recompute(cells)}
    given = {key: value for key, value in values.items() if value is not None}
    pp_vpp = f"{given.get('pp', defaults.get('pp', 1))}x{given.get('vpp', 1)}"
    layout, layouts = cells["layout"], defaults.pop("layouts", {})
    if layout and layout != "default map":
        given["layout"] = layout
        chunks = parse_layout(layout).num_chunks // given.get("pp", defaults.get("pp", 1))
        if chunks != given.get("vpp", 1):
            given["vpp"], defaults["vpp"] = chunks, chunks
    elif pp_vpp in layouts:
        defaults["layout"] = layouts[pp_vpp]
    if "pp" in given:
        defaults.pop("vpp", None)  # a recipe that sets PP and no VPP has one chunk in each stage
        given.setdefault("vpp", 1)
    if given.get("tp") == 1:
        given.setdefault("sp", False)
    if fsdp != "none":
        defaults |= {"tp": 1, "pp": 1, "sp": False, "layout": None}
    for key in ("sequences", "sequence_length"):
        if key not in defaults | given:
            raise RefusedError("no base recipe", f"{key} is blank, and the base is {cells['base'] or 'blank'}")
    tuned = dict.fromkeys(_BASES["tuned"], _BASES["tuned_source"])
    assumed = {key: tuned.get(key, why) for key in defaults if key not in given}
    if cells["precision"].startswith("fp8ds"):
        assumed["fp8_recipe"] = "delayed scaling has a factor of each tensor, as current scaling has"
    return Recipe(
        name=" ".join(cells[key] for key in _NAMES),
        model=model,
        gpu=cluster_of(cells["gpu"])[0],
        num_gpus=int(cells["gpus"]),
        fp8_recipe=fp8_recipe,
        fsdp=fsdp,
        runtime=_runtime(cells),
        assumed=assumed,
        **{**defaults, **given},
    )


def _refuse_adapters(cells: Cells) -> None:
    words = re.findall(r"[a-z]+", " ".join(cells[key] for key in ("model", "base", "calls")).lower())
    for word in ("lora", "peft", "dora"):
        if word in words:
            raise RefusedError("LoRA", f"{cells['model']} {cells['base']} trains adapters")


def _fsdp_of(cells: Cells) -> str:
    words = cells["precision"].split("_")
    if "hsdp" in words:
        return "hybrid"
    return "full" if "fsdp" in words or cells["fsdp"] == "True" else "none"


def _defaults(cells: Cells, table: list[dict[str, str]]) -> tuple[dict[str, Any], str]:
    """Return what blank cells of a row mean, and why."""
    whole = _BASES["whole"].get(" ".join(cells[key] for key in _NAMES))
    if whole is not None:
        return _complete(whole), f"{_BASES['source']}, recipe of the same name"
    name = cells["base"]
    if name in _BASES["bases"]:
        return _complete(_BASES["bases"][name]), f"{_BASES['source']}, {name}"
    if name:
        bases = [base for of, base in _BASES["bases"].items() if _model_of_base(of) == model_of(cells["model"])]
        return (_complete(bases[0]) if bases else {}), f"{_BASES['source']} has no {name}: base recipe of the model"
    return _of_sibling(cells, table)


def _complete(base: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a base as tuned recipes have it, its modules as a tuple."""
    recompute = base.get("recompute", "none")
    return {**base, **_BASES["tuned"], "recompute": recompute if isinstance(recompute, str) else tuple(recompute)}


def _of_sibling(cells: Cells, table: list[dict[str, str]]) -> tuple[dict[str, Any], str]:
    """Return the values of the same model, GPU and precision on the fewest GPUs, its batch scaled by the GPUs."""
    alike = [
        other
        for other in table
        if other["base"] and all(other[key] == cells[key] for key in ("model", "gpu", "precision"))
    ]
    if not alike:
        raise RefusedError("no base recipe and no recipe alike", " ".join(cells[key] for key in _NAMES))
    sibling = min(alike, key=lambda other: int(other["gpus"]))
    recipe = _tuned_recipe(sibling, table)
    factor = int(cells["gpus"]) / recipe.num_gpus
    names = ("tp", "pp", "cp", "vpp", "ep", "etp", "sp", "mbs", "sequence_length", "layout", "split", "recompute")
    names += ("recompute_layers", "gradients", "moments", "mtp")
    values = {key: getattr(recipe, key) for key in names}
    values["sequences"] = round(recipe.sequences * factor)
    return values, f"as on {recipe.num_gpus} GPUs, the global batch scaled by the GPUs"


def _numbers(cells: Cells) -> Iterator[tuple[str, int | None]]:
    for column, key in _MESH.items():
        yield key, _number(cells[column])


def _number(text: str) -> int | None:
    """Return a whole number, None of a blank cell and of an expression of the recipe's code."""
    return int(text) if text.strip().isdigit() else None


def _recompute(cells: Cells) -> dict[str, Any]:
    kind, modules = cells["recompute_granularity"], cells["recompute"]
    if kind == "full":
        return {"recompute": "full", "recompute_layers": _number(cells["recompute_layers"])}
    if modules:
        return {"recompute": _words(modules) or "none"}
    return {"recompute": ("core_attn",)} if kind == "selective" else {}


def _runtime(cells: Cells) -> dict[str, Any]:
    """Return the keys of `runtime` that a row sets."""
    runtime: dict[str, Any] = {}
    if cells["dispatcher"]:
        runtime["dispatcher"] = cells["dispatcher"]
    if cells["ep_overlap"] == "True":
        runtime["overlap_moe"] = True
    if cells["cuda_graph"] and cells["cuda_graph"] != "none":
        runtime["launch"] = "cuda_graphs"
        scope = _words(cells["cuda_graph_scope"])
        if scope and scope != ("full_iteration",):
            runtime["graph_scope"] = list(scope)
    return runtime


def _words(text: str) -> tuple[str, ...]:
    """Return the names in a list that is written as in Python, or the one name that is written without brackets.

    >>> _words("['attn', 'moe_router']"), _words("full_iteration"), _words("[]")
    (('attn', 'moe_router'), ('full_iteration',), ())
    """
    return tuple(re.findall(r"\w+", text))


# ---- published results ---------------------------------------------------------------------------------------------


def _result_row(record: dict[str, str]) -> Row:
    cells = dict.fromkeys(_COLUMNS, "") | {column: record[name] for name, column in _PERFORMANCE.items()}
    name = " ".join([record["release"].replace(" NeMo Container", ""), *(cells[key] for key in _NAMES)])
    return Row(name=name, recipe=lambda: _result_recipe(name, cells, record))


def _result_recipe(name: str, cells: Cells, record: Cells) -> Recipe:
    section = record["section"].lower()
    for word, cause in (("lora", "LoRA"), ("vision", "vision"), ("vlm", "vision")):
        if word in section:
            raise RefusedError(cause, record["section"])
    model, precision = model_of(cells["model"]), cells["precision"]
    assumed = {} if precision else {"fp8_recipe": "the table of this release states no precision"}
    values: dict[str, Any] = {key: number for key, number in _numbers(cells) if number is not None}
    taken = _of_base(model, f"{values.get('pp', 1)}x{values.get('vpp', 1)}")
    assumed |= dict.fromkeys(taken, f"{_BASES['source']}, base recipe of the model")
    assumed |= dict.fromkeys(_BASES["tuned"], _BASES["tuned_source"])
    assumed["sp"] = "on with TP, as in the recipes"
    return Recipe(
        name=name,
        model=model,
        gpu=cluster_of(cells["gpu"])[0],
        num_gpus=int(cells["gpus"]),
        fp8_recipe=precision_of(precision or "FP8-CS"),
        sequences=int(cells["GBS"]),
        sequence_length=int(cells["seq"]),
        sp=values.get("tp", 1) > 1,
        fsdp="none" if record["FSDP"].lower() in _NONE | {"0"} else "full",
        assumed=assumed,
        published={
            "tokens_per_s_per_gpu": _figure(record["Tokens / sec / GPU"]),
            "model_flops_per_s_per_gpu": _figure(record["Model TFLOP / sec / GPU"]) * 1e12,
        },
        **taken,
        **values,
    )


def _of_base(model: str, pp_vpp: str) -> dict[str, Any]:
    """Return what the table of results does not say and the base recipe of a model does."""
    for name, base in _BASES["bases"].items():
        if _model_of_base(name) == model:
            values = _complete(base)
            taken = {key: values[key] for key in _NOT_IN_RESULTS if key in values}
            layout = base.get("layouts", {}).get(pp_vpp)
            return taken if layout is None else taken | {"layout": layout}
    return dict(_BASES["tuned"])


def _figure(text: str) -> float:
    """Return the first number of a cell such as `1633` or `1,619 (1,200)`.

    >>> _figure("1,619 (1,200)")
    1619.0
    """
    return float(re.sub(r"\(.*", "", text).replace(",", ""))


def _model_of_base(name: str) -> str | None:
    try:
        return model_of(re.sub(r"^_|_(default_)?pretrain_config$", "", name))
    except RefusedError:
        return None
