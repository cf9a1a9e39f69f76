"""Where the values of a scenario come from: a line of its file, a `--set`, or one of its alternatives or rivals.

`Places` adds file and line to an error. An error in an alternative names the line of the alternative, because the value
of the file itself is right.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from sim.errors import InvalidValueError, KeyPath, dotted

__all__ = ["Places", "key_path", "path_of"]


class _Place(NamedTuple):
    """The place of a value, as an `InvalidValueError` names it."""

    file: str | None
    """The file, or the argument."""
    line: int | None
    """The line in the file."""
    field: str
    """The dotted key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The places of one scenario's values."""

    file: str | None = None
    """The scenario file; None: the scenario was not read from one."""
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    """Key path -> line, in the order of the file."""
    overrides: tuple[tuple[KeyPath, str | None], ...] = ()
    """Paths that were set by an argument, and that argument; None where it needs no other name than the key."""
    given_files: frozenset[str] = frozenset()
    """Files that an argument names, which need not be in the scenario's folder."""
    variant: KeyPath | None = None
    """The alternative or rival the values come from, such as `("alternatives", 0)`."""
    table: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    """Position of a published figure that stands in a table -> that file and its line."""

    def located(self, error: InvalidValueError) -> InvalidValueError:
        """Return an error of a scenario's key with file and line; an error that has a file already stays as it is.

        Examples
        --------
        >>> places = Places(file="a.yaml", lines={("model", "layers"): 7})
        >>> print(places.located(InvalidValueError("model.layers", "be even", 3, "Write 4.")))
        a.yaml:7: model.layers must be even, got 3. Write 4.
        """
        if error.is_located:
            return error
        place = self._place(path_of(error))
        return error.at(field=place.field, file=place.file, line=place.line)

    def first(self, errors: Iterable[InvalidValueError]) -> InvalidValueError:
        """Return the first error in the order of the file, located; a missing key comes after keys that are there."""
        order, ends = {path: i for i, path in enumerate(self.lines)}, dict[KeyPath, int]()
        for path, i in order.items():
            ends.update((path[:length], i) for length in range(len(path) + 1))
        return self.located(min(errors, key=lambda error: _position(path_of(error), order, ends)))

    def of_variant(self, variant: KeyPath | None) -> "Places":
        """Return the places of an alternative or rival."""
        return replace(self, variant=variant)

    def _place(self, path: KeyPath) -> _Place:
        """Return the place of the value at `path`."""
        name, where = dotted(path) or "the scenario", path
        if self.variant is not None:
            keys = [p for p in self.lines if p[:-1] == self.variant and _related(key_path(str(p[-1])), path)]
            name, where = f"{dotted(self.variant)} ({name})", keys[0] if keys else self.variant
        for set_path, argument in reversed(self.overrides):
            if _related(set_path, where):
                return _Place(argument, None, name)
        if where[:1] == ("published",) and len(where) > 1 and (row := self.table.get(int(where[1]))) is not None:
            return _Place(*row, name)
        return _Place(self.file, self._line(where), name)

    def line_of(self, path: KeyPath) -> int | None:
        """Return the line of the file where the value at `path` stands; None where an argument sets it."""
        return self._place(path).line

    def _line(self, path: KeyPath) -> int | None:
        """Return the line of a path, or of the nearest section around it."""
        around = (path[:length] for length in range(len(path), -1, -1))
        return next((self.lines[p] for p in around if p in self.lines), None)


def path_of(error: InvalidValueError) -> KeyPath:
    """Return the key path that an error is about."""
    return key_path(error.field) if error.path is None else error.path


def key_path(text: str) -> KeyPath:
    """Return the path that a dotted key names; digits are positions in a list.

    Below an alternative, a rival, `assumed`, and the `set` and `minus` of a published figure the rest is one key, for
    these sections are flat maps of dotted keys.

    Examples
    --------
    >>> key_path("claims.0.expect"), key_path("alternatives.1.model.top_k")
    (('claims', 0, 'expect'), ('alternatives', 1, 'model.top_k'))
    """
    parts = text.split(".")
    if parts[0] in {"alternatives", "rivals"} and len(parts) > 3:
        parts = [*parts[:2], ".".join(parts[2:])]
    elif parts[0] == "published" and parts[2:3] in (["set"], ["minus"]) and len(parts) > 4:
        parts = [*parts[:3], ".".join(parts[3:])]
    elif parts[0] == "assumed" and len(parts) > 2:
        parts = [parts[0], ".".join(parts[1:])]
    return tuple(int(part) if part.isdecimal() and part.isascii() and len(part) < 6 else part for part in parts)


def _related(path: KeyPath, other: KeyPath) -> bool:
    """Return whether two paths are equal, or one path leads to a section around the other."""
    shorter = min(len(path), len(other))
    return shorter > 0 and path[:shorter] == other[:shorter]


def _position(path: KeyPath, order: Mapping[KeyPath, int], ends: Mapping[KeyPath, int]) -> tuple[int, int]:
    """Return the position of a path in the file; a missing key stands at the end of the section that it belongs to."""
    if path in order:
        return order[path], 0
    around = next((path[:n] for n in range(len(path) - 1, -1, -1) if path[:n] in order), ())
    return ends.get(around, 0), 1
