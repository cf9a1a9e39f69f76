"""What a command says, as the tests of commands see it."""

from typing import NamedTuple


class Said(NamedTuple):
    """What a command said."""

    code: int
    out: str
    err: str
