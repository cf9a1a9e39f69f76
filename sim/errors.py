"""What the program refuses, with the exit code each error ends a command with.

The tree::

    MoesimError
    |-- InvalidValueError   2  a value that breaks a rule, in a scenario, an argument or a file; also a ValueError
    |-- SimulationError     3  a simulation that cannot go on: no progress, over a given or default limit
    |   `-- DeadlockError      lanes wait for each other, as the message says
    `-- OutputError         4  a result that could not be written

`topology` and `workloads`, which import nothing else of `sim`, raise `InvalidValueError` where the rule is known, with
the scenario's dotted key as the field. `Scenario.located_errors` adds the file and the line.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, Self

__all__ = [
    "DeadlockError",
    "InvalidValueError",
    "KeyPath",
    "MoesimError",
    "OutputError",
    "Remedy",
    "SimulationError",
    "did_you_mean",
    "dotted",
    "nearest_name",
    "out_of_memory",
    "shown",
]

KeyPath = tuple[str | int, ...]
"""Where a value stands in a file: keys and list positions, as in `("claims", 0, "expect")`."""

_MAX_SHOWN: Final = 60
"""The longest name or value that a message repeats."""
_MAX_FIELD: Final = 200
"""The longest field, which may be a key, a place in a file, or both."""
_MAX_PATH: Final = 400
"""The longest path that a message repeats."""
_MAX_TEXT: Final = 1000
"""The longest rule or hint, whatever it lists."""
_MIN_PART: Final = 3
"""So many letters are taken as the start or a part of a name, before names that are spelt alike."""


class MoesimError(Exception):
    """Base of all errors that end a command with a message and not with a traceback."""

    exit_code: int = 1

    def as_dict(self) -> dict[str, object]:
        """Return the parts for `--json`: those of an `InvalidValueError`, None where unknown, and the message."""
        parts = dict.fromkeys(("file", "line", "field", "rule", "value", "cure"))
        return {**parts, "message": str(self)}


class Remedy(NamedTuple):
    """A change of the scenario that may remove a refusal. `sim.build` tries it before a hint names it."""

    changes: Mapping[str, object]
    """Dotted key -> value."""
    words: str
    """The change as the hint says it."""


class InvalidValueError(MoesimError, ValueError):
    """A value that breaks a rule; the message is one line, `file:line: subject: field must rule, got value. hint`.

    Parameters
    ----------
    field
        What has the value: a scenario's dotted key such as `parallel.tp`, a key path, an option or a part of a file.
        A key path may be relative to the section that is checked; `below` puts the section's own path before it.
    rule
        What the value must do, without `must`.
    value
        The value as it was given.
    hint
        What to write instead, in one sentence or more.
    subject
        The object that has the field, where the field does not say it.
    file, line
        Where the value stands.

    Examples
    --------
    >>> print(InvalidValueError("parallel.tp", "divide heads = 16", 3, "Write 4."))
    parallel.tp must divide heads = 16, got 3. Write 4.
    """

    exit_code = 2
    remedies: tuple[Remedy, ...] = ()
    """Changes that are tried where the scenario is known; those that help make the hint."""
    remedies_lead: str = "Use"
    """The words before them."""

    def with_remedies(self, remedies: Iterable[Remedy], *, lead: str = "Use") -> Self:
        """Return the error with changes that are to be tried; `hint` is what remains where none of them helps."""
        self.remedies, self.remedies_lead = tuple(remedies), lead
        return self

    def __init__(  # noqa: PLR0917 - errors are made anew from their arguments, in order
        self,
        field: str | KeyPath = (),
        rule: str = "",
        value: object = None,
        hint: str = "",
        subject: str | None = None,
        file: str | None = None,
        line: int | None = None,
    ) -> None:
        super().__init__(field, rule, value, hint, subject, file, line)
        self.path: KeyPath | None = field if isinstance(field, tuple) else None
        self.field = _short(field if isinstance(field, str) else dotted(field) or "the value", _MAX_FIELD)
        self.rule, self.hint = _short_words(rule), _short_words(hint)
        self.value, self.subject, self.file, self.line = value, subject, file, line
        self.is_located = file is not None

    def __str__(self) -> str:
        file = None if self.file is None else _short(self.file, _MAX_PATH)
        place = "" if file is None else f"{file}: " if self.line is None else f"{file}:{self.line}: "
        if file is None and self.line is not None and not self.is_located:
            place = f"line {self.line}: "
        return f"{place}{self.problem}. {self.hint}"

    @property
    def problem(self) -> str:
        """The message without place and hint."""
        return f"{self._named_field} must {self.rule}, got {shown(self.value)}"

    def below(self, path: KeyPath) -> Self:
        """Return the error of a section's key as that of the whole file, the section being at `path`."""
        return type(self)((*path, *(self.path or ())), self.rule, self.value, self.hint, self.subject)

    def at(self, *, field: str | None = None, file: str | None = None, line: int | None = None) -> Self:
        """Return the error at its place, with another field if one is given; it is final there."""
        subject = self.subject if field is None else None
        located = type(self)(field or self.field, self.rule, self.value, self.hint, subject, file, line)
        located.is_located = True
        return located

    def as_dict(self) -> dict[str, object]:
        """Return the parts for `--json`: file, line, field, rule, value, cure (the hint)."""
        return {
            "file": self.file,
            "line": self.line,
            "field": self._named_field,
            "rule": self.rule,
            "value": shown(self.value),
            "cure": self.hint,
        }

    @property
    def _named_field(self) -> str:
        """The field with its subject."""
        return f"{self.subject}: {self.field}" if self.subject else self.field


class SimulationError(MoesimError):
    """A simulation that cannot go on; the message names the cycle or the cause, after the scenario file if known."""

    exit_code = 3

    def __init__(self, message: str, *, file: str | None = None) -> None:
        self.file = file
        super().__init__(message if file is None else f"{_one_line(file)}: {message}")

    def as_dict(self) -> dict[str, object]:
        """Return the parts for `--json`."""
        return {**super().as_dict(), "file": self.file}


class DeadlockError(SimulationError):
    """Lanes that wait for each other when events run out; the message names the cycle."""


def out_of_memory() -> SimulationError:
    """Return the error of a simulation that finds no more memory."""
    rule = "the run must fit into the memory of this machine, and found no more of it"
    return SimulationError(f"{rule}. Use fewer microbatches, batches, layers, experts or GPUs, or a lower --jobs.")


class OutputError(MoesimError):
    """A file or folder that could not be written; the message is `file: reason. hint`."""

    exit_code = 4

    def __init__(self, *, file: str, reason: str, hint: str) -> None:
        self.file, self.reason, self.hint = file, reason, hint
        super().__init__(f"{_short(file, _MAX_PATH)}: {reason}. {hint}")

    def as_dict(self) -> dict[str, object]:
        """Return the parts for `--json`; the key of the hint is `cure`."""
        return {**super().as_dict(), "file": self.file, "cure": self.hint}


def dotted(path: KeyPath) -> str:
    """Return a key path as it is written on the command line.

    Examples
    --------
    >>> dotted(("claims", 0, "expect"))
    'claims.0.expect'
    """
    return ".".join(_short(str(part)) for part in path)


def shown(value: object) -> str | int | float:
    """Return a value as a message shows it: short, in one line, in the words of YAML.

    Examples
    --------
    >>> shown(None), shown(True), shown(""), shown({"a": 1}), shown(3)
    ('null', 'true', 'an empty text', 'a mapping', 3)
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, (list, tuple)):
        return _short(f"[{', '.join(str(shown(item)) for item in value[:20])}]") if value else "an empty list"
    if isinstance(value, int) and abs(value) >= 10**30:
        return "a number of more than 30 digits"
    if isinstance(value, (int, float)):
        return value
    return _short(str(value)) if str(value) else "an empty text"


def nearest_name(word: object, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the known name that a word was most likely meant for; None if there is none.

    Neither case nor punctuation counts. A name that starts with the word, or has it as a part, comes before names that
    are spelt alike.

    Parameters
    ----------
    word
        What was written.
    known
        The names that exist; of names that are equally near the first is returned.
    cutoff
        How alike a name must be spelt that is neither equal nor a part, from 0 to 1.

    Examples
    --------
    >>> clusters = ["dgx-a100", "dgx-h100", "gb200-nvl72"]
    >>> nearest_name("DGX H100", clusters), nearest_name("h100", clusters), nearest_name("none", clusters)
    ('dgx-h100', 'dgx-h100', None)
    """
    names, letters = list(known), _letters(str(word)[:100])
    by_letters = {_letters(name): name for name in reversed(names)}
    if letters in by_letters:
        return by_letters[letters]
    if len(letters) >= _MIN_PART:
        starts = [name for name in names if _letters(name).startswith(letters)]
        parts = [name for name in names if letters in _letters(name)]
        if starts or parts:
            return (starts or parts)[0]
    import difflib  # noqa: PLC0415 - it is needed only where a word is refused

    near = difflib.get_close_matches(letters, by_letters, n=1, cutoff=cutoff)
    return by_letters[near[0]] if near else None


def did_you_mean(word: object, known: Iterable[str], *, otherwise: str | None = None, cutoff: float = 0.6) -> str:
    """Return the hint for a word that is not known: the nearest known name, else `otherwise`, else all known names.

    Examples
    --------
    >>> did_you_mean("hiden", ["layers", "hidden"]), did_you_mean("x", ["layers", "hidden"])
    ('Did you mean `hidden`?', 'Known are layers, hidden.')
    """
    names = list(known)
    near = nearest_name(word, names, cutoff=cutoff)
    if near is not None:
        return f"Did you mean `{shown(near)}`?"
    return f"Known are {', '.join(names)}." if otherwise is None else otherwise


def _letters(name: str) -> str:
    """Return the letters and digits of a name in lower case."""
    return "".join(c for c in name.lower() if c.isalnum())


def _short(text: str, limit: int = _MAX_SHOWN) -> str:
    """Return one printable line of at most `limit` characters; what was cut off is `...`."""
    line = _one_line(text[: limit + 1])
    return line if len(line) <= limit else f"{line[:limit]}..."


def _short_words(text: str) -> str:
    """Return a text whose words, which may be names that it repeats, are cut as `_short` cuts them."""
    words = " ".join(_short(word, _MAX_SHOWN + 20) for word in text[: 2 * _MAX_TEXT].split(" "))
    return words if len(words) <= _MAX_TEXT else f"{words[:_MAX_TEXT]}..."


def _one_line(text: str) -> str:
    """Return a text with what cannot be printed escaped, so that a message stays one line."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
