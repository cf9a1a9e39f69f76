"""Arguments that cannot be parsed: an error of typer's parser becomes an `InvalidValueError`.

The classes of the parser stand in click or, in newer versions of typer, within typer. They are recognised by their
attributes, so that both work.
"""

from typing import Any, Final

import typer

from sim.errors import InvalidValueError

__all__ = ["USAGE_ERROR", "usage_error"]

USAGE_ERROR: Final[type[Exception]] = typer.BadParameter.__mro__[1]
"""The base of all errors of usage."""


class UsageError(InvalidValueError):
    """Arguments that do not fit the command: the message is the parser's own, with a hint."""

    def __init__(self, message: str, *, field: str, rule: str, value: str, hint: str) -> None:
        super().__init__(field=field, rule=rule, value=value, hint=hint)
        self.message = message if message.endswith((".", "?")) else f"{message}."

    def __str__(self) -> str:
        return f"{self.message} {self.hint}"


def usage_error(error: Any) -> InvalidValueError:  # noqa: ANN401  # a class of click or of typer
    """Return an error of the parser as an `InvalidValueError`."""
    command, epilog = "moesim", ""
    if error.ctx is not None:
        command, epilog = error.ctx.command_path, getattr(error.ctx.command, "epilog", None) or ""
    hint = epilog.replace("Example:", "For example:", 1) or f"See {command} --help."
    parameter = getattr(error, "param", None)
    if parameter is None:
        message = error.format_message() or "A command is missing"
        field, value = getattr(error, "option_name", None) or "the command", message
        if hasattr(error, "possibilities"):  # the command has no such option
            field, value = "an option", error.option_name
        rule = f"be written as `{command} --help` shows"
        return UsageError(message, field=field, rule=rule, value=value, hint=hint)
    if hasattr(error, "param_type"):  # a missing argument or option
        return InvalidValueError(field=_name(parameter), rule="be given", value="nothing", hint=hint)
    rule, example = _rule(parameter)
    return InvalidValueError(field=_name(parameter), rule=rule, value=_value(error), hint=f"For example: {example}")


def _name(parameter: Any) -> str:  # noqa: ANN401  # a class of click or of typer
    """Return an option's long name, or an argument's name as the help shows it."""
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    return str(max(parameter.opts, key=len))


def _value(error: Any) -> str:  # noqa: ANN401  # a class of click or of typer
    """Return the value that an option refused."""
    if hasattr(error.__cause__, "errors"):  # pydantic, with which newer versions of typer check values
        value = str(error.__cause__.errors()[0]["input"])
    else:  # click's message begins with the value: "'two' is not a valid integer."
        value = error.message.partition(" is not ")[0].strip("'")
    return value or "an empty text"


def _rule(parameter: Any) -> tuple[str, str]:  # noqa: ANN401  # a class of click or of typer
    """Return the values that an option of numbers takes, and an example of its use."""
    name, owner = _name(parameter), getattr(parameter, "type", parameter)  # click keeps the bounds in the type
    minimum, maximum = getattr(owner, "min", None), getattr(owner, "max", None)
    if parameter.nargs > 1:
        return f"be {parameter.nargs} numbers", f"{name} {' '.join(str(50 * i) for i in range(parameter.nargs))}"
    rule = "be a number" if minimum is None else f"be an integer of at least {minimum}"
    return rule if maximum is None else f"{rule} and at most {maximum:,}", f"{name} {max(1, minimum or 0)}"
