"""The check that every figure of a conclusion is a figure of the same JSON."""

import re
from typing import Any

import pytest

from sim.results.quantities import format_quantity, format_ratio

__all__ = ["check_conclusion"]

_NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?(?![\w])")


def value_at(data: dict[str, Any], source: str) -> float:
    """Return the value that a source names: a dotted name of the JSON, a count of facts, or a quotient of two."""
    first, _, second = source.partition(" / ")
    if second:
        return value_at(data, first) / value_at(data, second)
    group, _, rest = source.partition(".")
    if group == "facts":
        verdict, _, relevance = rest.partition(".")
        return sum(verdict in ("", f["verdict"]) and relevance in ("", f["relevance"]) for f in data["facts"])
    if group == "stages_ns":
        return sum(stage[rest] for stage in data["stages_ns"]) / sum(sum(stage.values()) for stage in data["stages_ns"])
    node: Any = {**data, "claims": {claim["id"]: claim for claim in data["claims"]}}
    for part in source.split("."):
        node = node[int(part)] if isinstance(node, list) else node[part]
    return float(node)


def check_conclusion(data: dict[str, Any]) -> None:
    """Check each figure against the value that it names, and that a sentence has no other number."""
    texts = []
    for figure in data["conclusion_figures"]:
        assert figure["value"] == pytest.approx(value_at(data, figure["source"]), rel=1e-12), figure
        value = int(figure["value"]) if float(figure["value"]).is_integer() else figure["value"]
        printed = format_ratio(value) if figure["unit"] == "times" else format_quantity(value, figure["unit"])
        assert printed == figure["text"] or printed.startswith(figure["text"] + " "), figure
        texts.append(figure["text"].partition(" ")[0])
    numbers = [number for text in data["conclusion"] for number in _NUMBER.findall(text)]
    assert sorted(numbers) == sorted(texts)
