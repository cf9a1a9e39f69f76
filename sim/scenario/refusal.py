"""What the scenario reader refuses, before the place in the file is known.

A `RefusalError` says which rule a value breaks and what to do about it. `sim.scenario.places` adds file and line and
turns it into the `sim.errors.InputError` that ends a command::

    ValueError
    `-- RefusalError     path, rule, value, cure: a quantity, key or value that cannot be
"""

from typing import Final

__all__ = ["KeyPath", "RefusalError", "dotted", "shown"]

KeyPath = tuple[str | int, ...]
"""Where a value stands in a scenario: keys and list positions, as in `("claims", 0, "expect")`."""

_MAX_SHOWN: Final = 60


class RefusalError(ValueError):
    """A value that breaks a rule of the contract; the message is `subject must rule, got value. cure`."""

    def __init__(self, *, rule: str, value: object, cure: str, path: KeyPath = (), subject: str = "") -> None:
        self.rule, self.value, self.cure, self.path = rule, value, cure, path
        super().__init__(f"{subject or dotted(path) or 'the value'} must {rule}, got {shown(value)}. {cure}")


def dotted(path: KeyPath) -> str:
    """Return a key path as it is written on the command line.

    Examples
    --------
    >>> dotted(("claims", 0, "expect"))
    'claims.0.expect'
    """
    return ".".join(_shortened(str(part)) for part in path)


def shown(value: object) -> str | int | float:
    """Return a value as a message shows it: short, one line, in YAML's words.

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
        return _shortened(f"[{', '.join(str(shown(item)) for item in value[:20])}]") if value else "an empty list"
    if isinstance(value, int) and abs(value) >= 10**30:
        return "a number of more than 30 digits"
    if isinstance(value, (int, float)):
        return value
    return _shortened(str(value)) if str(value) else "an empty text"


def _shortened(text: str) -> str:
    """Return one printable line of at most `_MAX_SHOWN` characters."""
    printable = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: _MAX_SHOWN + 1])
    return printable if len(text) <= _MAX_SHOWN else f"{printable[:_MAX_SHOWN]}..."
