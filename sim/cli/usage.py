"""Arguments that cannot be parsed, told as all other input is: field, rule, value and hint.

typer raises such errors as classes of its parser, which is click or, in newer versions, a copy of it inside typer.
They are told apart by what they carry, so that either will do.
"""

import re
import sys
from collections.abc import Sequence
from typing import Any, Final, Literal

import typer

from sim.errors import InvalidValueError, did_you_mean

__all__ = ["USAGE_ERROR", "usage_error"]

USAGE_ERROR: Final[type[Exception]] = typer.BadParameter.__mro__[1]
"""The base of all errors of usage."""


def usage_error(error: Any, arguments: Sequence[str] | None = None) -> InvalidValueError:  # noqa: ANN401 - see the module
    """Return an error of usage in our own form; `arguments` are those of the command line, which hold the value."""
    given = sys.argv[1:] if arguments is None else arguments
    message = str(getattr(error, "message", "") or error)
    command = getattr(getattr(error, "ctx", None), "command_path", "moesim")
    for tell in (_missing, _bad_value, _unknown_option, _wrong_number, _unknown_command, _too_many):
        told = tell(error, message, given)
        if told is not None:
            field, rule, value, hint = told
            hint = hint or _example(error) or f"See {command} --help."
            return InvalidValueError(field=field, rule=rule, value=_one_line(value), hint=hint)
    return InvalidValueError(
        field="the command", rule="be understood", value=_one_line(message), hint=f"See {command} --help."
    )


_Told = tuple[str, str, str, str] | None
"""Field, rule, value, hint; an empty hint is filled in with the command's example."""


def _missing(error: Any, message: str, given: Sequence[str]) -> _Told:  # noqa: ANN401 - see the module
    """Tell of an argument or option that a command needs."""
    del message, given
    if not hasattr(error, "param_type"):
        return None
    return _name(error.param), "be given", "nothing", ""


def _bad_value(error: Any, message: str, given: Sequence[str]) -> _Told:  # noqa: ANN401 - see the module
    """Tell of a value of the wrong type or out of range."""
    param = getattr(error, "param", None)
    if param is None:
        return None
    minimum, maximum = _bound(param, "min"), _bound(param, "max")
    rule = "be a number" if minimum is None else f"be an integer of at least {minimum}"
    if maximum is not None:
        rule += f" and at most {maximum:,}"
    if param.nargs > 1:
        rule = f"be {param.nargs} numbers"
    example = {"--window": "For example: --window 0 50"}.get(_name(param), "")
    fallback = "For example: " + f"{_name(param)} {max(1, minimum or 0)}"
    value = _value(param, given)
    return _name(param), rule, message if value is None else value, example or fallback


def _unknown_option(error: Any, message: str, given: Sequence[str]) -> _Told:  # noqa: ANN401 - see the module
    """Tell of an option that a command does not have."""
    del given
    if not hasattr(error, "possibilities"):
        return None
    known = [name for param in error.ctx.command.params for name in getattr(param, "opts", ()) if name[0] == "-"]
    hint = did_you_mean(error.option_name, known, otherwise=f"See {error.ctx.command_path} --help.")
    return "an option", f"be one that {error.ctx.command_path} has", error.option_name, hint


def _wrong_number(error: Any, message: str, given: Sequence[str]) -> _Told:  # noqa: ANN401 - see the module
    """Tell of an option with too few values, or with one where it takes none."""
    name = getattr(error, "option_name", None)
    if name is None:
        return None
    if "not take" in message:
        value = next((word.partition("=")[2] for word in given if word.startswith(f"{name}=")), message)
        return name, "have no value", value, f"Write {name} alone."
    number = re.search(r"requires (\d+)", message)
    if number is None:
        return name, "be followed by a value", "nothing", ""
    return name, f"be followed by {number[1]} values", "fewer", ""


def _unknown_command(error: Any, message: str, given: Sequence[str]) -> _Told:  # noqa: ANN401 - see the module
    """Tell of a command that does not exist, or of none."""
    del given
    commands = list(getattr(getattr(getattr(error, "ctx", None), "command", None), "commands", ()))
    if not commands:
        return None
    found = re.search(r"'(.*?)'", message)
    word = found[1] if found else "nothing"
    return "the command", f"be one of {', '.join(commands)}", word, did_you_mean(word, commands, otherwise="")


def _too_many(error: Any, message: str, given: Sequence[str]) -> _Told:  # noqa: ANN401 - see the module
    """Tell of arguments that a command has no place for."""
    del given
    found = re.search(r"unexpected extra arguments?(?:\(s\))? \((.*)\)", message, re.DOTALL)
    if found is None:
        return None
    names = [_name(param) for param in error.ctx.command.params if getattr(param, "param_type_name", "") == "argument"]
    rule = f"be no more than {' and '.join(names)}" if names else "be options alone"
    return "the arguments", rule, found[1], ""


def _name(param: Any) -> str:  # noqa: ANN401 - see the module
    """Return an option's long name, or an argument's name as the help shows it."""
    if getattr(param, "param_type_name", "") == "argument":
        return str(getattr(param, "metavar", None) or param.name.upper())
    return str(max(param.opts, key=len))


def _bound(param: Any, end: Literal["min", "max"]) -> int | None:  # noqa: ANN401 - see the module
    """Return the least or the greatest value of a parameter that is an integer."""
    for owner in (param, getattr(param, "type", None)):
        bound = getattr(owner, end, None)
        if isinstance(bound, int):
            return bound
    return None


def _value(param: Any, given: Sequence[str]) -> str | None:  # noqa: ANN401 - see the module
    """Return what stands behind an option on the command line; None if it is not found."""
    values = None
    for i, word in enumerate(given):
        name, equals, value = word.partition("=")
        if name in param.opts:
            values = " ".join([value] if equals else given[i + 1 : i + 1 + param.nargs])
    return values


def _example(error: Any) -> str:  # noqa: ANN401 - see the module
    """Return the example at the end of a command's help."""
    epilog = getattr(getattr(getattr(error, "ctx", None), "command", None), "epilog", None) or ""
    return epilog.replace("Example:", "For example:", 1)


def _one_line(text: str) -> str:
    """Return a short printable line."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:60]) or "an empty text"
    return shown if len(text) <= 60 else f"{shown}..."
