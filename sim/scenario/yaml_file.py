"""YAML of a scenario file: plain Python data, and the line of every key.

Model
-----
The stream of parser events is composed here, with one rule set (YAML 1.2, core schema) and nothing that a scenario does
not need: no anchors and aliases, no tags, no duplicate keys, no second document, no directives, at most 20 levels,
10,000 values and 256 KiB. So no object is constructed, no alias expands, the longest file is answered in about a
second, and a file that is refused names its line.

- `26e6`, `1e6`, `0.0` and `.5` are numbers (floats), `26` and `0x1a` integers, `true` and `false` flags; `yes`, `on`
  and `1_000` are texts, as YAML 1.2 has it. `.inf` and `.nan` are refused: nothing in a scenario is infinite.
- Keys are texts, whatever they look like.

ruamel's round-trip loader knows lines and duplicate keys too, but takes 1.7 times as long for a scenario, and builds
all values before one of them can be refused.
"""

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)

from sim.errors import InvalidValueError, KeyPath, dotted, shown
from sim.scenario.file_bytes import read_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_VALUES", "YamlDocument", "parse_yaml", "parse_yaml_value", "read_yaml_file"]

MAX_BYTES: Final = 1 << 18
"""The largest scenario file that is read."""
MAX_DEPTH: Final = 20
"""The deepest nesting of mappings and lists."""
MAX_VALUES: Final = 10_000
"""The most values (mappings, lists and scalars) of one file."""

_TOO_LARGE: Final = {
    "scenario": "Split it into several scenarios.",
    "cluster": "Write it as GraphML: `moesim topology SCENARIO -o cluster.graphml`.",
}
_STARTERS: Final = {
    "scenario": "`moesim init FILE` writes one to start from.",
    "cluster": "`moesim topology SCENARIO -o cluster.yaml` writes one to start from.",
}
_MAX_DIGITS: Final = 40
_INT: Final = re.compile(r"[-+]?[0-9]+", re.ASCII)
_BASED_INT: Final = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_NON_FINITE: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", re.ASCII)
_CONSTANTS: Final[Mapping[str, bool | None]] = {
    **dict.fromkeys(["", "~", "null", "Null", "NULL"]),
    **dict.fromkeys(["true", "True", "TRUE"], True),
    **dict.fromkeys(["false", "False", "FALSE"], False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class YamlDocument:
    """One YAML document as plain data, with the line each part starts on."""

    data: Any
    """Dicts, lists, texts, numbers, flags and None."""
    lines: Mapping[KeyPath, int]
    """Key path -> line, counted from 1, in the order of the file; `()` is the document itself."""


def read_yaml_file(path: Path | str) -> YamlDocument:
    """Return the document of a file whose top level is a mapping.

    Raises
    ------
    InvalidValueError
        The file cannot be read, or its text is refused; see the module.
    """
    file = str(path)
    try:
        content = read_bytes(Path(path), MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise _unreadable(file, error) from None
    if len(content) > MAX_BYTES:
        raise _whole(file, "be at most 256 KiB large", "more than that", _TOO_LARGE["scenario"])
    if b"\0" in content:
        hint = "Save it as UTF-8, if it is a text in another encoding such as UTF-16."
        raise _whole(file, "be UTF-8 text", "zero bytes, as in binary files", hint)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise _whole(file, "be UTF-8 text", f"byte 0x{content[error.start]:02x}", "Save it as UTF-8.", line) from None
    return parse_yaml(text, file=file)


def parse_yaml(text: str, *, file: str | None = None, what: str = "scenario") -> YamlDocument:
    r"""Return the document of a text whose top level is a mapping; errors name `file`, and hints know `what` it is.

    Raises
    ------
    InvalidValueError
        The text is refused; see the module.

    Examples
    --------
    >>> document = parse_yaml("model:\n  layers: 16\n")
    >>> document.data, document.lines["model", "layers"]
    ({'model': {'layers': 16}}, 2)
    """
    known = _parsed(text, file, what)
    return replace(known, data=copy.deepcopy(known.data), lines=dict(known.lines))


@lru_cache(maxsize=8)
def _parsed(text: str, file: str | None, what: str) -> YamlDocument:
    """Return the document of a text, which a study loads again and again: to parse it takes most of a load."""
    document = _Composer(text, file, _TOO_LARGE[what]).document()
    if document is None:
        raise _whole(file, f"hold a {what}", "an empty file", _STARTERS[what])
    if not isinstance(document.data, dict):
        hint = "Write keys with values, such as `model:` and `cluster:`."
        raise _whole(file, "be a mapping of keys at the top level", shown(document.data), hint, document.lines[()])
    return document


def parse_yaml_value(text: str) -> Any:  # noqa: ANN401 - a YAML value is of any type
    """Return one value in its YAML form, as `--set` takes it.

    Raises
    ------
    InvalidValueError
        The text is refused; see the module.

    Examples
    --------
    >>> parse_yaml_value("[1, 2e3, true]")
    [1, 2000.0, True]
    """
    document = _Composer(text, None, _TOO_LARGE["scenario"]).document()
    return None if document is None else document.data


class _Composer:
    """Builds plain data from the events of one text."""

    def __init__(self, text: str, file: str | None, too_large: str) -> None:
        self._text, self._file, self._too_large = text, file, too_large
        self._lines: dict[KeyPath, int] = {}
        self._num_values = 0
        self._events = self._guarded_events()

    def document(self) -> YamlDocument | None:
        """Return the only document of the text; None if there is none."""
        next(self._events)
        start = next(self._events)
        if isinstance(start, StreamEndEvent):
            return None
        self._refuse_directives(start)
        data = self._value(next(self._events), ())
        ended = next(self._events)
        after = next(self._events)
        if not isinstance(after, StreamEndEvent):
            written = [mark for mark, event in (("...", ended), ("---", after)) if getattr(event, "explicit", False)]
            hint = f"Keep one scenario per file; remove the line `{'` and the line `'.join(written)}`."
            raise self._error((), "be one YAML document", "several", hint, after)
        return YamlDocument(data=data, lines=self._lines)

    def _guarded_events(self) -> Iterator[Event]:
        """Yield the parser's events; its errors become ours."""
        try:
            yield from YAML(typ="safe", pure=True).parse(self._text)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = None if mark is None else mark.line + 1
            raise self._syntax_error(str(error.problem or error.context), line) from None
        except YAMLError as error:
            position = getattr(error, "position", None)
            line = None if position is None else self._text[:position].count("\n") + 1
            raise self._syntax_error(str(getattr(error, "reason", error)), line) from None
        except (ValueError, LookupError, TypeError, AttributeError, AssertionError, OverflowError):
            # ruamel's scanner lets these through for some malformed escapes and directives.
            raise self._syntax_error("a text that cannot be parsed", None) from None

    def _value(self, event: Event, path: KeyPath) -> Any:  # noqa: ANN401 - a YAML value is of any type
        """Return the value that starts with an event."""
        self._lines.setdefault(path, event.start_mark.line + 1)
        self._refuse_extras(event, path)
        self._num_values += 1
        if self._num_values > MAX_VALUES:
            rule = f"hold at most {MAX_VALUES} values"
            raise self._error((), rule, "more than that", self._too_large, event)
        if isinstance(event, ScalarEvent):
            return self._scalar(event, path)
        if len(path) >= MAX_DEPTH:
            hint = "A scenario needs four levels; check brackets and indentation."
            raise self._error(path, f"be nested at most {MAX_DEPTH} deep", "a deeper level", hint, event)
        return self._mapping(path) if isinstance(event, MappingStartEvent) else self._sequence(path)

    def _mapping(self, path: KeyPath) -> dict[str, Any]:
        """Return a mapping, whose start has been read."""
        mapping: dict[str, Any] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            if not isinstance(event, ScalarEvent):
                raise self._error(
                    path, "have texts as keys", "a list or mapping as a key", "Write `key: value`.", event
                )
            self._refuse_extras(event, path)
            key = _with_joined_pairs(str(event.value))
            if not _is_unicode(key):
                raise self._error(path, "have Unicode keys", shown(key), "Write the key without escapes.", event)
            if key in mapping:
                hint = f"It stands on line {self._lines[(*path, key)]} already; remove one of the two."
                raise self._error((*path, key), "be given once", "a second one", hint, event)
            self._lines[(*path, key)] = event.start_mark.line + 1
            mapping[key] = self._value(next(self._events), (*path, key))
        return mapping

    def _sequence(self, path: KeyPath) -> list[Any]:
        """Return a list, whose start has been read."""
        items: list[Any] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            items.append(self._value(event, (*path, len(items))))
        return items

    def _scalar(self, event: ScalarEvent, path: KeyPath) -> Any:  # noqa: ANN401 - a YAML value is of any type
        """Return a scalar by the rules of YAML 1.2; what is quoted is a text."""
        text = _with_joined_pairs(str(event.value))
        if not _is_unicode(text):
            hint = "Remove the escape of half a character, \\ud800 to \\udfff."
            raise self._error(path, "be Unicode text", shown(text), hint, event)
        if event.style is not None or not event.implicit[0]:
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        numeric = _INT.fullmatch(text) or _BASED_INT.fullmatch(text) or _FLOAT.fullmatch(text)
        if numeric is None and _NON_FINITE.fullmatch(text) is None:
            return text
        number = _number(text) if numeric is not None and len(text) <= _MAX_DIGITS else None
        if number is None or abs(number) == float("inf"):
            hint = f"Write a number of at most {_MAX_DIGITS} digits that is below 1e308."
            raise self._error(path, "be a finite number", shown(text), hint, event)
        return number

    def _refuse_directives(self, event: Event) -> None:
        """Refuse `%YAML` and `%TAG` lines, which change how the rest is read."""
        if isinstance(event, DocumentStartEvent) and (event.version or event.tags):
            raise self._error((), "have no directives", "a line that starts with %", "Remove that line.", event)

    def _refuse_extras(self, event: Event, path: KeyPath) -> None:
        """Refuse anchors, aliases and tags."""
        anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
        if isinstance(event, AliasEvent):
            raise self._error(path, "have no aliases", shown(f"*{anchor}"), "Write the value out.", event)
        if anchor is not None:
            raise self._error(path, "have no anchors", shown(f"&{anchor}"), "Remove it and write the value out.", event)
        if tag is not None:
            written = str(tag).replace("tag:yaml.org,2002:", "!!")
            raise self._error(
                path, "have no tags", shown(written), "Remove it; the type follows from the value.", event
            )

    def _error(
        self, path: "Sequence[str | int]", rule: str, value: object, hint: str, event: Event
    ) -> InvalidValueError:
        """Return the error of a part of the text."""
        line = event.start_mark.line + 1
        return InvalidValueError(
            field=dotted(tuple(path)) or "the file", rule=rule, value=value, hint=hint, file=self._file, line=line
        )

    def _syntax_error(self, problem: str, line: int | None) -> InvalidValueError:
        """Return the error of a text that is no YAML."""
        hint = "Check indentation, brackets, colons and quotes on this line and the one before it."
        if "'\\t'" in problem:
            hint = "Write spaces instead of the tab."
        return _whole(self._file, "be valid YAML", f"an error ({shown(problem)})", hint, line)


def _with_joined_pairs(text: str) -> str:
    r"""Return a text in which two escapes of half a character are one character, as JSON writes emoji.

    >>> _with_joined_pairs("\ud83d\ude00") == "\U0001f600"
    True
    """
    if _is_unicode(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _is_unicode(text: str) -> bool:
    """Return whether a text has no half characters, which escapes can make and no output can show."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _number(text: str) -> int | float:
    """Return the number a plain scalar of bounded length stands for."""
    if _INT.fullmatch(text):
        return int(text)
    return int(text, 0) if _BASED_INT.fullmatch(text) else float(text)


def _whole(file: str | None, rule: str, value: object, hint: str, line: int | None = None) -> InvalidValueError:
    """Return an error about a file as a whole."""
    return InvalidValueError(field="the file", rule=rule, value=value, hint=hint, file=file, line=line)


def _unreadable(file: str, error: OSError | ValueError) -> InvalidValueError:
    """Return the error of a file that cannot be opened or read."""
    if isinstance(error, FileNotFoundError):
        return _whole(file, "exist", "no such file", "Check the path, or `moesim list scenarios` for bundled names.")
    if isinstance(error, IsADirectoryError):
        return _whole(file, "be a file", "a directory", "Name a file in it.")
    if isinstance(error, PermissionError):
        return _whole(file, "be readable", "no permission to read it", "Change its permissions, or copy it.")
    if isinstance(error, TimeoutError):
        return _whole(file, "be readable", error.strerror, "Check the program that writes to it, or name a file.")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else "a path that cannot be opened"
    return _whole(file, "be readable", reason, "Check the path.")
