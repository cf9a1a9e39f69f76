"""A recording of routing, read from the file that a recorder wrote, by the suffix of its name.

Model
-----
    .csv, .tsv, .txt    a table; see `sim.scenario.recordings.table`
    .parquet            a table; needs the extra `parquet` (pandas and pyarrow)
    .jsonl              a table of objects, one in each line
    .json               arrays by name, as nested lists, or a list of objects as in .jsonl
    .npz, .npy          arrays; see `sim.scenario.recordings.arrays`
    .pt, .pth           arrays of a file of `torch.save`

Every file is a regular file of a limited size, and what it unpacks to is limited before it is unpacked.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sim.scenario.file_bytes import parse_json, read_input, read_input_text
from sim.scenario.recordings.arrays import Shape, arrays_to_recording, choices_to_counts, wanted_arrays
from sim.scenario.recordings.names import MAP, canonical
from sim.scenario.recordings.numpy_file import npy_array, npz_arrays
from sim.scenario.recordings.recording import MAX_COUNTS, Recording, build_recording, refusal
from sim.scenario.recordings.table import csv_rows, table_to_recording
from sim.scenario.recordings.torch_file import torch_file_data
from sim.scenario.scenario_files import bundled_folder

__all__ = ["find_recording", "read_recording"]

_TABLES: Final = frozenset({".csv", ".tsv", ".txt", ".parquet", ".jsonl", ".ndjson"})
_MAX_BYTES: Final = 1 << 28
_MAX_TEXT_BYTES: Final = 1 << 26
_MAX_JSON_BYTES: Final = 1 << 25
_TOO_LARGE: Final = "Record fewer steps, or write it as NPZ."
_TRACES: Final = "traces"
"""Folder of the bundled recordings."""


def find_recording(name: str) -> Path:
    """Return the path of a recording: a file, or else a bundled recording by its name.

    >>> find_recording("sglang_sample").name
    'sglang_sample.csv'
    """
    path = Path(name)
    try:
        path = path if path.exists() else path.expanduser()
        if not path.exists() and path.parent in {Path(), Path(_TRACES)}:
            bundled = bundled_folder() / _TRACES / f"{path.name.removesuffix('.csv')}.csv"
            return bundled if bundled.is_file() else path
    except (OSError, ValueError, RuntimeError):
        pass
    return path


def read_recording(path: Path, *, shape: Shape | None = None) -> Recording:
    """Return the recording of a file.

    Parameters
    ----------
    path
        The file.
    shape
        What is known of the model that was recorded.

    Raises
    ------
    InvalidValueError
        The file cannot be read, or is no recording.
    """
    try:
        status = path.stat()
        state = (status.st_mtime_ns, status.st_size)
    except (OSError, ValueError):
        state = (0, 0)
    return _read(path, state, shape or Shape())


# ---- private -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def _read(path: Path, state: tuple[int, int], shape: Shape) -> Recording:
    """Return the recording of a file, which is read again where its time or size has changed."""
    del state
    suffix = path.suffix.lower()
    reader = _READERS.get(suffix)
    if reader is None:
        if path.is_dir():
            read_input(path, _MAX_BYTES)  # refuses it as what it is
        rule = f"end in one of {', '.join(_READERS)}"
        raise refusal(path, rule, path.suffix or "no ending", "Rename or convert it.")
    recording: Recording = reader(path, shape)
    if shape.num_experts is not None:
        recording = recording.with_experts(shape.num_experts)
    return recording


def _of_csv(path: Path, shape: Shape) -> Recording:
    del shape  # the rows tell
    rows = iter(csv_rows(path, read_input_text(path, _MAX_TEXT_BYTES, too_large=_TOO_LARGE)))
    _, head = next(rows, (0, []))
    return table_to_recording(path, [name.strip() for name in head], rows)


def _of_jsonl(path: Path, shape: Shape) -> Recording:
    lines = read_input_text(path, _MAX_JSON_BYTES, too_large=_TOO_LARGE).splitlines()
    return _of_objects(path, [_json(path, line, number) for number, line in enumerate(lines, 1) if line.strip()], shape)


def _of_json(path: Path, shape: Shape) -> Recording:
    data = _json(path, read_input_text(path, _MAX_JSON_BYTES, too_large=_TOO_LARGE))
    if isinstance(data, list) and data and isinstance(data[0], dict):
        return _of_objects(path, data, shape)
    return _of_data(path, data if isinstance(data, dict) else {"the list": data}, shape)


def _of_npz(path: Path, shape: Shape) -> Recording:
    content = read_input(path, _MAX_BYTES, too_large=_TOO_LARGE)
    return arrays_to_recording(path, npz_arrays(path, content, wanted_arrays), shape)


def _of_npy(path: Path, shape: Shape) -> Recording:
    content = read_input(path, _MAX_BYTES, too_large=_TOO_LARGE)
    return arrays_to_recording(path, {path.stem: npy_array(path, content)}, shape)


def _of_torch(path: Path, shape: Shape) -> Recording:
    data = torch_file_data(path, read_input(path, _MAX_BYTES, too_large=_TOO_LARGE))
    return _of_data(path, data if isinstance(data, dict) else {"the tensor": data}, shape)


def _of_parquet(path: Path, _: Shape) -> Recording:
    from sim.scenario.recordings.parquet import parquet_rows  # noqa: PLC0415  # optional, and slow to import

    return table_to_recording(path, *parquet_rows(path, read_input(path, _MAX_BYTES, too_large=_TOO_LARGE)))


def _json(path: Path, text: str, line: int | None = None) -> Any:  # noqa: ANN401  # a JSON value is of any type
    try:
        return parse_json(text)
    except ValueError as error:
        where = "" if line is None else f" in line {line}"
        raise refusal(path, "be JSON of finite numbers", f"{error}{where}"[:200], "Write it with json.dump.") from None


def _of_data(path: Path, data: Mapping[str, Any], shape: Shape) -> Recording:
    """Return the recording of a dict of arrays or nested lists, with SGLang's `records` one step each."""
    records = data.get("records")
    if isinstance(records, list) and records and all(isinstance(record, dict) for record in records):
        return _of_records(path, records, data, shape)
    names = wanted_arrays(str(name) for name, value in data.items() if isinstance(value, (list, np.ndarray)))
    by_name = {str(name): value for name, value in data.items()}
    return arrays_to_recording(path, {name: _as_array(path, name, by_name[name]) for name in names}, shape)


def _of_records(path: Path, records: Sequence[Mapping[str, Any]], data: Mapping[str, Any], shape: Shape) -> Recording:
    """Return the recording of SGLang's records of passes: counts of physical experts, summed over the ranks.

    Records of chosen experts (mode per_token) are counted, each record by itself: passes differ in their tokens. Ranks
    that record the same tokens, as those of one TP group do, count once.
    """
    maps = {name: _as_array(path, name, value) for name, value in data.items() if canonical(name) in MAP}
    if all("topk_ids_of_layer" in record and "forward_pass_id" in record for record in records):
        return _of_chosen(path, records, maps, shape)
    by_pass: dict[int, NDArray[Any]] = {}
    for record in records:
        number, counts = record.get("forward_pass_id"), record.get("global_physical_count")
        if not isinstance(number, int) or counts is None:
            hint = "Record with --expert-distribution-recorder-mode per_pass, per_token or stat."
            rule = "have forward_pass_id and global_physical_count, or topk_ids_of_layer, in every record"
            raise refusal(path, rule, ", ".join(map(str, record))[:100] or "nothing", hint)
        counts = _as_array(path, "global_physical_count", counts)
        if number in by_pass and by_pass[number].shape != counts.shape:
            raise refusal(path, "have records of one shape", str(list(counts.shape)), "Record again.")
        by_pass[number] = by_pass[number] + counts if number in by_pass else counts
    if len({counts.shape for counts in by_pass.values()}) > 1:
        raise refusal(path, "have records of one shape", "several shapes", "Record again.")
    steps = sorted(by_pass)
    arrays = {"global_physical_count": np.stack([by_pass[number] for number in steps])}
    return arrays_to_recording(path, arrays | maps, shape)


def _of_chosen(
    path: Path, records: Sequence[Mapping[str, Any]], maps: Mapping[str, NDArray[Any]], shape: Shape
) -> Recording:
    """Return the recording of records with the experts of each token, [layers, tokens, top_k] in each record."""
    ids_of_pass: dict[int, list[NDArray[Any]]] = {}
    num_equal = 0
    for record in records:
        number, ids = record["forward_pass_id"], _as_array(path, "topk_ids_of_layer", record["topk_ids_of_layer"])
        if not isinstance(number, int):
            raise refusal(path, "have whole numbers as forward_pass_id", str(number)[:40], "Record again.")
        if any(np.array_equal(ids, other) for other in ids_of_pass.setdefault(number, [])):
            num_equal += 1
        elif ids.size:
            ids_of_pass[number].append(ids)
    counted = {
        number: [choices_to_counts(path, "topk_ids_of_layer", ids) for ids in of_pass]
        for number, of_pass in sorted(ids_of_pass.items())
        if of_pass
    }
    all_counts = [counts for of_pass in counted.values() for counts in of_pass]
    if len({counts.shape[0] for counts in all_counts}) != 1:
        raise refusal(path, "have topk_ids_of_layer of equally many layers in every record", "others", "Record again.")
    width = max(counts.shape[1] for counts in all_counts)
    width = max([width, *(slots.shape[-1] for slots in maps.values() if slots.ndim)])
    if len(counted) * all_counts[0].shape[0] * width > MAX_COUNTS:
        raise refusal(path, f"have at most {MAX_COUNTS:,} counts", "more", _TOO_LARGE)
    tokens = np.zeros((len(counted), all_counts[0].shape[0], width))
    for step, of_pass in enumerate(counted.values()):
        for counts in of_pass:
            tokens[step, :, : counts.shape[1]] += counts
    if maps:
        return arrays_to_recording(path, {"global_physical_count": tokens, **maps}, shape)
    return build_recording(
        path,
        tokens,
        source="chosen experts (top-k ids)",
        steps=tuple(counted),
        tells_experts=False,
        is_complete=bool((tokens > 0).all()),
        notes=(f"records of the same tokens on other ranks left out: {num_equal:,}",) if num_equal else (),
    )


def _as_array(path: Path, name: str, value: object) -> NDArray[Any]:
    """Return an array or nested lists as an array of numbers."""
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError):
        array = np.asarray(None)
    if array.dtype.kind not in "iuf":
        raise refusal(path, f"have lists of numbers, all equally long, in {name}", "others", "Write it as an array.")
    if array.size > 8 * MAX_COUNTS:
        raise refusal(path, f"have at most {8 * MAX_COUNTS:,} numbers in {name}", f"{array.size:,}", _TOO_LARGE)
    return array


def _of_objects(path: Path, objects: Sequence[object], shape: Shape) -> Recording:
    """Return the recording of objects, each a row; an object with counts of all layers is a step."""
    if not objects or not all(isinstance(row, dict) for row in objects):
        raise refusal(path, "have an object in each line", "something else, or none", "Write lines {...}.")
    rows: list[Mapping[str, Any]] = [row for row in objects if isinstance(row, dict)]
    head = list(dict.fromkeys(str(name) for row in rows for name in row))
    nested = [name for name in wanted_arrays(head) if isinstance(rows[0].get(name), list)]
    is_step = "layer" not in {canonical(name).removesuffix("id").removesuffix("idx") for name in head}
    if is_step and len(nested) == 1 and canonical(nested[0]) not in MAP:
        steps = [_as_array(path, nested[0], row.get(nested[0])) for row in rows]
        if len({step.shape for step in steps}) > 1:
            raise refusal(path, f"have {nested[0]} of one shape", "several shapes", "Record one model.")
        return arrays_to_recording(path, {nested[0]: np.stack(steps)}, shape)
    cells: Iterable[tuple[int, list[Any]]] = (
        (number, [row.get(name) for name in head]) for number, row in enumerate(rows, 1)
    )
    return table_to_recording(path, head, cells)


_READERS: Final = {
    ".csv": _of_csv,
    ".tsv": _of_csv,
    ".txt": _of_csv,
    ".parquet": _of_parquet,
    ".jsonl": _of_jsonl,
    ".ndjson": _of_jsonl,
    ".json": _of_json,
    ".npz": _of_npz,
    ".npy": _of_npy,
    ".pt": _of_torch,
    ".pth": _of_torch,
}
"""Suffix of a file -> function that reads it."""
