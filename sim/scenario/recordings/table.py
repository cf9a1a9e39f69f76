"""A recording as a table: a row for each layer and expert with their tokens, or a row for each choice of a token.

Model
-----
    counts    columns of layer, expert and tokens, and of step where there are several; rows of equal numbers are
              summed, as those of several ranks; in any order, and what has no row has no tokens
    wide      columns of layer and, where there are several, of step; a column of tokens for each expert: 0, 1, 2, ...
    choices   columns of layer and expert without tokens: each row is a token that chose the expert; next to a column of
              experts, a column such as `topk_idx` is the number of the choice
    lists     columns of layer and of chosen experts, in one column as a list (`[5, 12, 31]`) or in a column for each
              choice (`topk_0`, `topk_1`, ...; `expert_0`, ... with a column of tokens): each row is a token

Names of columns are those of `sim.scenario.recordings.names`. Comments begin with `#`.
"""

import csv
import itertools
import re
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.scenario.recordings.names import NOT_ROUTING, canonical, column_roles, source_of
from sim.scenario.recordings.recording import MAX_COUNTS, Recording, build_recording, refusal

__all__ = ["csv_rows", "table_to_recording"]

_MAX_ROWS: Final = 10**7
_MAX_NAMES: Final = 20
"""So many columns that are not read are named."""
_MAX_NUMBER: Final = 1 << 40
"""No number of a layer, expert or step is larger."""
_NEEDED: Final = "have columns of layer, expert and tokens"
_HINT: Final = (
    "Name them layer, expert, tokens and, with several steps, step; or layer, topk_ids with lists of experts."
)

Row = Sequence[Any]


class _Columns(NamedTuple):
    """Positions of columns."""

    layer: int | None
    step: int | None
    expert: int | None
    tokens: int | None
    ids: tuple[int, ...]
    """Columns of chosen experts."""
    wide: tuple[tuple[int, int], ...]
    """Expert and position of each column of tokens of one expert."""

    @property
    def used(self) -> set[int | None]:
        """Positions of the columns whose cells are read."""
        return {self.layer, self.step, self.expert, self.tokens, *self.ids, *(at for _, at in self.wide)}


def csv_rows(path: Path, text: str) -> Iterable[tuple[int, list[str]]]:
    """Yield the number of each line of a CSV text and its cells, without comments and empty lines."""
    lines = text.splitlines()
    sample = next((line for line in lines if line.strip() and not line.startswith("#")), "")
    delimiter = next((mark for mark in (",", "\t", ";") if mark in sample), ",")
    reader = csv.reader((line for line in lines), delimiter=delimiter, skipinitialspace=True)
    try:
        for row in reader:
            if row and not row[0].lstrip().startswith("#") and any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error:
        raise refusal(path, "be CSV in UTF-8", f"line {reader.line_num}, which is none", "Save it as CSV.") from None


def table_to_recording(path: Path, head: Sequence[object], rows: Iterable[tuple[int, Row]]) -> Recording:
    """Return the recording of a table.

    Parameters
    ----------
    path
        File of the table, for errors.
    head
        Names of the columns.
    rows
        Number of the line, and cells, of each row.

    Raises
    ------
    InvalidValueError
        The columns are not those of a recording, or a cell is no number.
    """
    rows = iter(rows)
    first = list(itertools.islice(rows, 1))
    columns = _columns(path, head, first[0][1] if first else ())
    keys, counts, has_lists = array("d"), array("d"), bool(columns.ids)
    for number, (line, row) in enumerate(itertools.chain(first, rows)):
        if number >= _MAX_ROWS or len(counts) >= 4 * _MAX_ROWS:
            raise refusal(path, f"have at most {_MAX_ROWS:,} rows", "more", "Record fewer steps, or write it as NPZ.")
        try:
            layer = 0.0 if columns.layer is None else _number(row[columns.layer])
            step = 0.0 if columns.step is None else _number(row[columns.step])
            for expert, count in _of_row(columns, row):
                keys.extend((step, layer, expert))
                counts.append(count)
        except (ValueError, TypeError, IndexError, OverflowError):
            raise refusal(path, "have numbers in every line", f"line {line}", "Correct it.") from None
    places, tokens = np.array(keys, dtype=float).reshape(-1, 3), np.array(counts, dtype=float)
    num_left_out = 0
    if has_lists:  # a list is padded with -1 where its token chose fewer experts
        is_choice = places[:, 2] != -1
        num_left_out = int((~is_choice).sum())
        places, tokens = places[is_choice], tokens[is_choice]
    word = "chosen experts (a row is a token)" if has_lists else "chosen experts (a row is a choice)"
    source = source_of("".join(map(canonical, head))) if columns.tokens is not None or columns.wide else word
    unused = [str(name) for at, name in enumerate(head) if at not in columns.used and str(name).strip()]
    notes: tuple[str, ...] = (f"{num_left_out:,} choices of -1 left out",) if num_left_out else ()
    if unused:
        more = f" and {len(unused) - _MAX_NAMES} more" if len(unused) > _MAX_NAMES else ""
        notes += (f"not used: {', '.join(name[:40] for name in unused[:_MAX_NAMES])}{more}",)
    return _filled(path, places, tokens, source=source, columns=columns, notes=notes)


# ---- private -----------------------------------------------------------------------------------------------------


def _columns(path: Path, head: Sequence[object], first_row: Row) -> _Columns:
    """Return which column has which role, by the names of the columns and the cells of the first row."""
    roles, shown = column_roles(head), ", ".join(str(name) for name in head)[:200] or "none"
    if {"expert", "ids"} <= set(roles) and all(_is_single(first_row, position) for position in roles["ids"]):
        roles["choice"] = roles.pop("ids")  # numbers of the choices of a token
    found = {role: positions[0] for role, positions in roles.items() if role in {"layer", "step", "expert", "count"}}
    for role, positions in roles.items():
        if role in {"layer", "step", "expert", "count", "ids"} and len(positions) > 1:
            names = ", ".join(str(head[position]) for position in positions)
            raise refusal(path, f"have one column of {role}", names, "Remove or rename the others.")
    ids = tuple(roles.get("ids", [])) or _choice_columns(head, has_tokens="token" in roles)
    if ids:
        found.pop("expert", None)  # the lists are what is read
    if any(canonical(name) in NOT_ROUTING for name in head) and "expert" not in roles and not ids:
        raise refusal(path, "have counts or chosen experts", f"weights ({shown})", "Record the experts of each token.")
    wide = () if "expert" in roles or ids else _wide(head)
    columns = _Columns(found.get("layer"), found.get("step"), found.get("expert"), found.get("count"), ids, wide)
    by_choice = "expert" in found and ("token" in roles or "choice" in roles)
    by_count = "expert" in found and "count" in found
    if not (by_count or (by_choice and "layer" in found) or ids or (wide and "layer" in found)):
        raise refusal(path, _NEEDED, shown, _HINT)
    if "layer" not in found:
        raise refusal(path, _NEEDED, shown, "Name the number of the layer `layer`.")
    return columns._replace(tokens=None if ids else columns.tokens)


def _is_single(row: Row, position: int) -> bool:
    """Return whether a cell is one number, and no list; an absent cell is none."""
    try:
        _number(row[position])
    except (ValueError, TypeError, IndexError, OverflowError):
        return False
    return True


def _wide(head: Sequence[object]) -> tuple[tuple[int, int], ...]:
    """Return expert and position of each column that is named as an expert: 3, expert_3, e3."""
    found = [(re.fullmatch(r"(?:expert|exp|e)?(\d{1,6})", canonical(name)), at) for at, name in enumerate(head)]
    wide = tuple(sorted((int(match[1]), at) for match, at in found if match))
    return wide if len(wide) > 1 and [expert for expert, _ in wide] == list(range(len(wide))) else ()


def _choice_columns(head: Sequence[object], *, has_tokens: bool) -> tuple[int, ...]:
    """Return the positions of the columns of one choice each: topk_0, topk_1; or expert_0, expert_1 of a token."""
    words = (
        r"(?:topk|choice|topkid|topkidx|topkids)"
        if not has_tokens
        else r"(?:topk|choice|topkid|topkidx|topkids|expert|expertid|e|k)?"
    )
    return tuple(at for at, name in enumerate(head) if re.fullmatch(rf"{words}\d{{1,3}}", canonical(name)))


def _of_row(columns: _Columns, row: Row) -> Iterable[tuple[float, float]]:
    """Return expert and tokens of each entry of a row."""
    if columns.wide:
        return [(float(expert), _number(row[at])) for expert, at in columns.wide]
    if columns.ids:
        return [(_number(expert), 1.0) for at in columns.ids for expert in _listed(row[at])]
    if columns.expert is None:
        raise ValueError
    return [(_number(row[columns.expert]), 1.0 if columns.tokens is None else _number(row[columns.tokens]))]


def _listed(cell: object) -> list[Any]:
    """Return the experts of a cell: a list, nested or not, or the text of one."""
    if isinstance(cell, str):
        return re.sub(r"[^0-9+\-.eE]+", " ", cell).split()
    if isinstance(cell, (list, tuple)):
        return [expert for inner in cell for expert in (_listed(inner) if isinstance(inner, list) else [inner])]
    return [cell]


def _number(cell: object) -> float:
    """Return the number of a cell, which must be finite only where it is a layer, step or expert."""
    if isinstance(cell, bool) or cell is None:
        raise ValueError
    return float(cell)  # type: ignore[arg-type]  # what is no number raises


def _filled(
    path: Path,
    places: NDArray[np.float64],
    counts: NDArray[np.float64],
    *,
    source: str,
    columns: _Columns,
    notes: tuple[str, ...],
) -> Recording:
    """Return the recording of rows of step, layer, expert [N, 3] and tokens [N]."""
    is_whole = np.isfinite(places).all() and (places >= 0).all() and (places == np.floor(places)).all()
    if not len(places) or not is_whole or places.max() > _MAX_NUMBER:
        rule = "number layers, experts and steps by whole numbers of at least 0"
        raise refusal(path, rule, "other numbers, or none", "Correct them.")
    if not np.isfinite(counts).all() or (counts < 0).any():
        raise refusal(path, "have finite tokens of at least 0", "others, or none", "Correct them.")
    whole = places.astype(np.int64)
    steps, at_step = np.unique(whole[:, 0], return_inverse=True)
    layers, at_layer = np.unique(whole[:, 1], return_inverse=True)
    num_experts = int(whole[:, 2].max()) + 1
    num_counts = steps.size * layers.size * num_experts
    if num_counts > MAX_COUNTS:
        raise refusal(path, f"have at most {MAX_COUNTS:,} counts", f"{num_counts:,}", "Correct the numbers.")
    at = np.ravel_multi_index((at_step, at_layer, whole[:, 2]), (steps.size, layers.size, num_experts))
    with np.errstate(over="ignore"):
        tokens = np.bincount(at, weights=counts, minlength=num_counts)
    num_listed = np.unique(at).size
    is_summed = num_listed < len(at) and columns.tokens is not None
    notes += ("rows of equal step, layer and expert were summed",) if is_summed else ()
    return build_recording(
        path,
        np.asarray(tokens.reshape(steps.size, layers.size, num_experts), dtype=float),
        source=source,
        layers=tuple(layers.tolist()),
        steps=tuple(steps.tolist()),
        tells_experts=bool(columns.wide) or bool((counts == 0).any()),
        is_complete=num_listed == num_counts,
        notes=notes,
    )
