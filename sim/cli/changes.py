"""The changes that a command's arguments ask for: a key is set once, for no argument is silently void."""

from collections.abc import Sequence

from sim.errors import InvalidValueError, KeyPath, dotted, shown
from sim.scenario.places import key_path

__all__ = ["check_changes"]


def check_changes(changes: Sequence[str], seed: int | None) -> None:
    """Refuse a key that two of the arguments `--set KEY=VALUE` and `--seed` set.

    Raises
    ------
    InvalidValueError
        Both arguments are named.

    Examples
    --------
    >>> check_changes(["model.top_k=1", "model.top_k=2"], None)
    Traceback (most recent call last):
    sim.errors.InvalidValueError: model.top_k must be set once, got a second value. Remove --set model.top_k=1 or --set ...
    """
    given = [(argument.partition("=")[0].strip(), f"--set {shown(argument)}") for argument in changes]
    given += [] if seed is None else [("seed", f"--seed {seed}")]
    first: dict[KeyPath, str] = {}
    for key, argument in given:
        path = key_path(key)
        if path in first:
            hint = f"Remove {first[path]} or {argument}."
            raise InvalidValueError(
                field=dotted(path) or "--set", rule="be set once", value="a second value", hint=hint
            )
        first[path] = argument
