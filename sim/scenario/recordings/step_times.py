"""Measured times of a model's layers inside of a serving framework, by tokens, sequences and experts."""

import csv
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError
from sim.scenario.file_bytes import read_input_text

__all__ = ["read_step_times"]

_MAX_BYTES: Final = 1 << 26


def read_step_times(path: Path, field: str, columns: tuple[str, ...]) -> tuple[list[str], NDArray[np.float64]]:
    """Return the texts of the column `layer` (empty without one) and the numbers of the others, in their order.

    Comments begin with `#`; other columns than `columns` are refused.

    Raises
    ------
    InvalidValueError
        The file cannot be read, has other columns or no rows, or a cell is no number of at least 0.
    """
    hint = f"Write a CSV file with the columns {', '.join(columns)}."
    text = read_input_text(path, _MAX_BYTES, field=field, hint=hint, too_large="Thin the rows out.")
    lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip() and line[0] != "#"]
    head = tuple(name.strip() for name in lines[0][1].split(",")) if lines else ()
    if head != columns:
        raise InvalidValueError(
            file=str(path), field=field, rule=f"have the columns {', '.join(columns)}", value=", ".join(head), hint=hint
        )
    if len(lines) < 2:
        raise InvalidValueError(file=str(path), field=field, rule="have rows", value="none", hint=hint)
    layers, numbers = [], []
    for number, line in lines[1:]:
        cells = next(csv.reader([line]))
        try:
            texts = cells[:1] if columns[0] == "layer" else []
            values = [float(cell) for cell in cells[len(texts) :]]
            if len(cells) != len(columns) or not all(0 <= value < 1e15 for value in values):
                raise ValueError
        except ValueError:
            rule = "have a number of at least 0 in each column"
            raise InvalidValueError(
                file=str(path), line=number, field=field, rule=rule, value=line[:60], hint=hint
            ) from None
        layers += texts
        numbers.append(values)
    return layers, np.array(numbers)
