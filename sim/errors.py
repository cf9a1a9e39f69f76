"""What `sim` refuses, with the exit code each error ends a command with.

The tree::

    MoesimError
    |-- InputError        2  a scenario, argument or file that cannot be: file, line, field, rule, value, cure
    |-- SimulationError   3  a simulation that cannot go on: deadlock, no progress, over a given or default limit
    `-- OutputError       4  a result that could not be written

`topology` and `workloads` raise their own `ValueError` children, for they know nobody; the scenario reader turns
them into `InputError` and adds the place in the file.
"""

__all__ = ["InputError", "MoesimError", "OutputError", "SimulationError", "out_of_memory"]

_MAX_SHOWN = 80
"""No name or value that a message repeats is longer."""
_MAX_PATH = 400
"""No path that it repeats is longer."""
_MAX_TEXT = 1000
"""No rule or cure is longer, whatever it lists."""


class MoesimError(Exception):
    """Base of all errors that end a command with a message and not with a traceback."""

    exit_code: int = 1

    def as_dict(self) -> dict[str, object]:
        """Return the parts for `--json`: those of an `InputError`, None where nothing is known, and the message."""
        parts = dict.fromkeys(("file", "line", "field", "rule", "value", "cure"))
        return {**parts, "message": str(self)}


class InputError(MoesimError):
    """Input that is refused before anything runs.

    The message is one line: `file:line: field must rule, got value. cure`.
    """

    exit_code = 2

    def __init__(
        self, *, field: str, rule: str, value: object, cure: str, file: str | None = None, line: int | None = None
    ) -> None:
        self.file, self.line, self.field, self.value = file, line, _short(field), _shown(value)
        self.rule, self.cure = _short_words(rule), _short_words(cure)
        path = None if file is None else _short(file, _MAX_PATH)
        place = "" if path is None else f"{path}: " if line is None else f"{path}:{line}: "
        super().__init__(f"{place}{self.field} must {self.rule}, got {self.value}. {self.cure}")

    def as_dict(self) -> dict[str, object]:
        """Return the parts for `--json`: file, line, field, rule, value, cure."""
        return {
            "file": self.file,
            "line": self.line,
            "field": self.field,
            "rule": self.rule,
            "value": self.value if isinstance(self.value, (int, float, bool, type(None))) else str(self.value),
            "cure": self.cure,
        }


class SimulationError(MoesimError):
    """A simulation that cannot go on; the message names the cycle or the cause, after the scenario file if known."""

    exit_code = 3

    def __init__(self, message: str, *, file: str | None = None) -> None:
        self.file = file
        super().__init__(message if file is None else f"{_one_line(file)}: {message}")

    def as_dict(self) -> dict[str, object]:
        """Return the parts for `--json`."""
        return {**super().as_dict(), "file": self.file}


def out_of_memory() -> SimulationError:
    """Return what is said when a simulation finds no more memory."""
    rule = "the run must fit into the memory of this machine, and found no more of it"
    return SimulationError(f"{rule}. Use fewer microbatches, batches, layers, experts or GPUs, or a lower --jobs.")


class OutputError(MoesimError):
    """A file or folder that could not be written; the message is `file: reason. cure`."""

    exit_code = 4

    def __init__(self, *, file: str, reason: str, cure: str) -> None:
        self.file, self.reason, self.cure = file, reason, cure
        super().__init__(f"{_short(file, _MAX_PATH)}: {reason}. {cure}")

    def as_dict(self) -> dict[str, object]:
        """Return the parts for `--json`."""
        return {**super().as_dict(), "file": self.file, "cure": self.cure}


def _shown(value: object) -> object:
    """Return a value as a message shows it: a number of a sane length, or a short line."""
    if isinstance(value, int) and abs(value) >= 10**30:
        return "a number of more than 30 digits"
    return value if isinstance(value, (int, float, type(None))) else _short(str(value))


def _short(text: str, limit: int = _MAX_SHOWN) -> str:
    """Return a printable line of at most `limit` characters; what was cut off is `...`."""
    line = _one_line(text[: limit + 1])
    return line if len(line) <= limit else f"{line[:limit]}..."


def _short_words(text: str) -> str:
    """Return a text whose words, which may be names that it repeats, are cut as `_short` cuts them."""
    words = " ".join(_short(word) for word in text[: 2 * _MAX_TEXT].split(" "))
    return words if len(words) <= _MAX_TEXT else f"{words[:_MAX_TEXT]}..."


def _one_line(text: str) -> str:
    """Return a text with what cannot be printed escaped, so that a message stays one line."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
