"""Recorded requests: Mooncake's JSON lines, and the CSV of Azure's traces.

Formats
-------
- JSON lines (`.jsonl`): `timestamp` in ms, `input_length`, `output_length`, and `hash_ids` of the prompt's parts of 512
  tokens, where there are some (Mooncake, FAST 25; Dynamo and LLMServingSim read and write the same).
- CSV: `TIMESTAMP`, `ContextTokens`, `GeneratedTokens` (Azure 2023 and 2024), or `arrived_at`, `num_prefill_tokens`,
  `num_decode_tokens` (Vidur's form of them), or `arrival_s`, `input_toks`, `output_toks`. Times are seconds or dates.

Other fields and columns are read past. Requests must stand in the order of their arrival.
"""

import csv
import math
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from sim.errors import InvalidValueError
from sim.scenario.fields import MAX_REQUESTS
from sim.scenario.file_bytes import parse_json, read_input_text
from workloads.serving.requests import Request

__all__ = ["read_requests"]

_MAX_BYTES: Final = 1 << 28
_MAX_TOKENS: Final = 100_000_000
_COLUMNS: Final = {
    "time": ("timestamp", "arrived_at", "arrival_s", "arrival"),
    "input": ("contexttokens", "num_prefill_tokens", "input_toks", "input_length", "request tokens"),
    "output": ("generatedtokens", "num_decode_tokens", "output_toks", "output_length", "response tokens"),
}
"""Names of columns, in small letters."""
_HINT: Final = "See docs/serving.md for the formats."


def read_requests(path: Path) -> list[Request]:
    """Return the requests of a file, the first at time 0.

    Raises
    ------
    InvalidValueError
        The file cannot be read, has no requests, or a request is out of order or has no length; the line is named.
    """
    hint, too_large = _HINT, "Take a part of the trace."
    text = read_input_text(path, _MAX_BYTES, field="workload.requests.trace", hint=hint, too_large=too_large)
    rows = _of_jsonl(path, text) if path.suffix.lower() == ".jsonl" else _of_csv(path, text)
    requests: list[Request] = []
    first_s = last_s = 0.0
    for line, time_s, prompt, output, hashes in rows:
        if not requests:
            first_s = last_s = time_s
        if time_s < last_s:
            _refuse(path, line, "be sorted by time of arrival", f"{time_s:g} s after {last_s:g} s", "Sort the lines.")
        if len(requests) >= MAX_REQUESTS:
            _refuse(path, line, f"have at most {MAX_REQUESTS:,} requests", "more", "Take a part of the trace.")
        last_s = time_s
        requests.append(
            Request(
                name=str(len(requests)),
                arrival_s=time_s - first_s,
                prompt_tokens=prompt,
                output_tokens=output,
                prefix_hashes=hashes,
            )
        )
    if not requests:
        _refuse(path, None, "have requests", "none", _HINT)
    return requests


# ---- private -----------------------------------------------------------------------------------------------------

_Row = tuple[int, float, int, int, tuple[int, ...]]
"""Line, time of arrival, tokens of prompt and answer, names of the prompt's parts."""


def _of_jsonl(path: Path, text: str) -> Iterator[_Row]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            data = parse_json(line)
        except ValueError as error:
            _refuse(path, number, "be JSON of finite numbers", str(error)[:100], _HINT)
        if not isinstance(data, dict):
            _refuse(path, number, "be a JSON object", type(data).__name__, _HINT)
        for key in ("timestamp", "input_length", "output_length"):
            if key not in data:
                _refuse(path, number, f"have {key}", f"{', '.join(map(str, data))[:100] or 'nothing'}", _HINT)
        prompt = _tokens(path, number, "input_length", data["input_length"])
        hashes = data.get("hash_ids") or ()
        if not isinstance(hashes, (list, tuple)) or not all(isinstance(name, int) for name in hashes):
            _refuse(path, number, "have whole numbers as hash_ids", str(hashes)[:100], _HINT)
        if hashes and len(hashes) != -(-prompt // 512):
            rule = f"have {-(-prompt // 512)} hash_ids, one for each 512 tokens of the prompt"
            _refuse(path, number, rule, len(hashes), "Leave hash_ids out, or give all of them.")
        yield (
            number,
            _seconds(path, number, data["timestamp"]) / 1e3,
            prompt,
            _tokens(path, number, "output_length", data["output_length"]),
            tuple(hashes),
        )


def _of_csv(path: Path, text: str) -> Iterator[_Row]:
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip() and line[0] != "#"]
    if not lines:
        return
    head = [name.strip().lower() for name in next(csv.reader([lines[0][1]]))]
    places = {}
    for role, names in _COLUMNS.items():
        found = [head.index(name) for name in names if name in head]
        if not found:
            _refuse(path, lines[0][0], f"have a column {' or '.join(names)}", ", ".join(head)[:100], _HINT)
        places[role] = found[0]
    for number, line in lines[1:]:
        cells = next(csv.reader([line]))
        if len(cells) < len(head):
            _refuse(path, number, f"have {len(head)} cells", len(cells), "Complete the line, or remove it.")
        yield (
            number,
            _seconds(path, number, cells[places["time"]]),
            _tokens(path, number, "tokens of the prompt", cells[places["input"]]),
            _tokens(path, number, "tokens of the answer", cells[places["output"]]),
            (),
        )


def _tokens(path: Path, line: int, what: str, value: Any) -> int:  # noqa: ANN401  # a cell or a JSON value
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (number.is_integer() and 1 <= number <= _MAX_TOKENS) or isinstance(value, bool):
        rule = f"have a whole number from 1 to {_MAX_TOKENS:,} as {what}"
        _refuse(
            path, line, rule, str(value)[:40], "Correct the line, or remove it: a request has a prompt and an answer."
        )
    return int(number)


def _seconds(path: Path, line: int, value: Any) -> float:  # noqa: ANN401  # a cell or a JSON value
    """Return a time, a number or a date."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        try:
            return datetime.fromisoformat(str(value).strip()[:26]).timestamp()
        except ValueError:
            number = math.nan
    if isinstance(value, bool) or not 0 <= number <= 1e12:
        _refuse(path, line, "have a time of arrival of at least 0", str(value)[:40], _HINT)
    return number


def _refuse(path: Path, line: int | None, rule: str, value: object, hint: str) -> NoReturn:
    raise InvalidValueError(
        file=str(path), line=line, field="workload.requests.trace", rule=rule, value=value, hint=hint
    )
