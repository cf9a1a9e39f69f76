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
        self.file, self.line, self.field, self.rule, self.value, self.cure = file, line, field, rule, value, cure
        place = "" if file is None else f"{_one_line(file)}: " if line is None else f"{_one_line(file)}:{line}: "
        super().__init__(f"{place}{field} must {rule}, got {value}. {cure}")

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
        super().__init__(f"{_one_line(file)}: {reason}. {cure}")

    def as_dict(self) -> dict[str, object]:
        """Return the parts for `--json`."""
        return {**super().as_dict(), "file": self.file, "cure": self.cure}


def _one_line(text: str) -> str:
    """Return a text with what cannot be printed escaped, so that a message stays one line."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
