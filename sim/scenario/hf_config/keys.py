"""The keys of one `config.json`, read one after another into fields of the model.

What was read is remembered, so that a key that nobody has read can be refused, and an error about a field of the model
can name the key that it came from.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from sim.errors import InvalidValueError, did_you_mean
from sim.scenario.fields import MAX_SIZES
from sim.scenario.hf_config.immaterial import IMMATERIAL, NEUTRAL

__all__ = ["ConfigKeys"]

_MOST: Final = 10**9
"""No other count in a config is larger."""


class ConfigKeys:
    """The keys of a config, or of the part of it that describes the language model."""

    def __init__(self, data: Mapping[str, object], *, below: str = "") -> None:
        """Read `data`, the part of the file below the key `below`."""
        self._data, self._below = dict(data), below
        self._read: set[str] = set()
        self.fields: dict[str, object] = {}
        """Fields of the model that are known so far."""
        self.origins: dict[str, str] = {}
        """Field of the model -> the key that gives it."""

    @property
    def data(self) -> Mapping[str, object]:
        """All keys with their values, whether they were read or not."""
        return self._data

    # ---- fields of the model -------------------------------------------------------------------------------------

    def count(self, field: str, *keys: str, least: int = 1, optional: bool = False) -> int | None:
        """Take a field of the model from the first of some keys that is there."""
        key = next((key for key in keys if self.value(key) is not None), keys[0])
        most = MAX_SIZES.get(f"model.{field}", _MOST)
        number = self.number(key, least=least, most=most, optional=optional)
        if number is not None:
            self.set(field, number, key)
        for other in keys:
            if self.value(other) not in (None, number):
                raise self.error(other, f"agree with {key} = {number}", self.value(other), "Remove one of the two.")
        return number

    def set(self, field: str, value: object, key: str) -> None:
        """Give a field of the model the value that follows from a key."""
        self.fields[field] = value
        self.origins[field] = self.path(key)

    def flag_field(self, field: str, key: str, *, default: bool = False) -> None:
        """Take a field of the model that is true or false."""
        self.set(field, self.flag(key, default=default), key)

    # ---- values --------------------------------------------------------------------------------------------------

    def value(self, key: str) -> object:
        """Return the value of a key, None where it is missing or null."""
        self._read.add(key)
        return self._data.get(key)

    def number(self, key: str, *, least: int = 0, most: int = _MOST, optional: bool = False) -> int | None:
        """Return a whole number; None where the key may be missing and is."""
        value = self.value(key)
        if value is None and optional:
            return None
        if value is None:
            hint = "It is a key of every config of this model_type: copy the whole config.json of the model."
            raise self.error(key, "be given", "nothing", hint)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            shown, hint = _without_quotes(value, "Correct the number.")
            raise self.error(key, f"be an integer from {least} to {most:,}", shown, hint)
        return value

    def flag(self, key: str, *, default: bool = False) -> bool:
        """Return true or false."""
        value = self.value(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            shown, hint = _without_quotes(value, "Write true or false, without quotes.")
            raise self.error(key, "be true or false", shown, hint)
        return value

    def text(self, key: str) -> str | None:
        """Return a text; None where the key is missing."""
        value = self.value(key)
        if value is not None and not isinstance(value, str):
            raise self.error(key, "be a text", value, "Put it in quotes.")
        return value

    def rate(self, key: str) -> float:
        """Return a share, such as that of dropout; 0 where the key is missing."""
        value = self.value(key)
        if value is None:
            return 0.0
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
            shown, hint = _without_quotes(value, "Correct the number.")
            raise self.error(key, "be a number from 0 to below 1", shown, hint)
        return float(value)

    def numbers(self, key: str) -> list[int] | None:
        """Return a list of whole numbers; None where the key is missing."""
        value = self.value(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(n, int) and not isinstance(n, bool) for n in value):
            raise self.error(key, "be a list of integers", value, "Write for example [0, 1].")
        return value

    def names(self, key: str, known: Sequence[str], *, length: int) -> list[str] | None:
        """Return a list of `length` known names; None where the key is missing."""
        value = self.value(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(name, str) and name in known for name in value):
            other = next((v for v in value if v not in known), value) if isinstance(value, list) else value
            raise self.error(
                key, f"be a list of {', '.join(known)}", other, "Other kinds of layers cannot be said yet."
            )
        if len(value) != length:
            raise self.error(key, f"have one kind for each of {length} layers", f"{len(value)} kinds", "Correct it.")
        return value

    def must_be(self, key: str, allowed: Sequence[object], why: str) -> None:
        """Refuse a value of a key that the model cannot say."""
        value = self.value(key)
        if value is not None and not any(value == other and type(value) is type(other) for other in allowed):
            raise self.error(key, f"be {' or '.join(map(_shown, allowed))}", value, why)

    # ---- the rest ------------------------------------------------------------------------------------------------

    def part(self, key: str) -> "ConfigKeys":
        """Return the part of the file below a key."""
        value = self.value(key)
        if not isinstance(value, Mapping):
            value = "nothing" if value is None else value
            raise self.error(key, "be an object with the language model's keys", value, "Copy the whole config.json.")
        return ConfigKeys(value, below=self.path(key))

    def unfold(self, *parts: str) -> None:
        """Name the keys below each of some keys `part.key`, so that one reader reads them all."""
        for part in parts:
            value = self._data.pop(part, None)
            if value is not None and not isinstance(value, Mapping):
                raise self.error(part, "be an object", value, "Copy the whole config.json of the model.")
            self._data |= {f"{part}.{key}": inner for key, inner in (value or {}).items()}

    def unify(self, *keys: str) -> None:
        """Take one value for a list that has the same value for each layer."""
        for key in keys:
            value = self._data.get(key)
            if isinstance(value, list):
                if not value or any(other != value[0] for other in value):
                    hint = "Layers that differ cannot be said yet: write one number."
                    raise self.error(key, "be the same number for each layer", value, hint)
                self._data[key] = value[0]

    def refuse_unread(self) -> None:
        """Refuse the first key that was not read and that may change time or memory."""
        known = {key for keys in IMMATERIAL.values() for key in keys}
        for key, value in self._data.items():
            name = key.rpartition(".")[2]  # a key that was unfolded
            if key in self._read:
                continue
            if name in NEUTRAL:
                why = f"What {key} does at other values is not modelled: give the model's fields in the scenario."
                self.must_be(key, NEUTRAL[name], why)
            elif name not in known and value is not None:
                otherwise = "If it changes neither time nor memory, remove it from a copy of the file."
                hint = did_you_mean(key, [*sorted(self._read), *sorted(known)], otherwise=otherwise, cutoff=0.85)
                rule = "be a key that is understood for this model_type, for it may shape the model"
                raise self.error(key, rule, value, hint)

    def path(self, key: str) -> str:
        """Return a key as messages name it."""
        return f"{self._below}.{key}" if self._below else key

    def error(self, key: str, rule: str, value: object, hint: str) -> InvalidValueError:
        """Return the error of a key's value."""
        return InvalidValueError(self.path(key), rule, value, hint)


def _without_quotes(value: object, hint: str) -> tuple[object, str]:
    """Return a value as a message shows it where a number or a truth value is expected, and the hint.

    >>> _without_quotes("6144", "Correct the number."), _without_quotes(-1, "Correct the number.")
    (("the text '6144'", 'Remove the quotes: write 6144.'), (-1, 'Correct the number.'))
    """
    if not isinstance(value, str):
        return value, hint
    try:
        read = json.loads(value.strip().lower())
    except ValueError:
        read = None
    is_plain = isinstance(read, (bool, int, float))
    return f"the text {value!r}", f"Remove the quotes: write {value.strip().lower()}." if is_plain else hint


def _shown(value: object) -> str:
    return str(value) if value else json.dumps(value)
