"""Sections of a scenario whose keys are the fields of a domain value, and the keys that sections have.

A dataclass of `workloads` declares a field once: name, type, default, docstring. `keys_from` makes each field a key of
a section, with its default, its entry in the JSON Schema and its line in the reference page, so that a new field is a
new key. The type of the field gives the check of the key::

    bool       a flag
    int        a count up to `MAX_SIZES["section.field"]`, from 0 where 0 is the default, else from 1
    float      a number of at least 0

Every other type, and every check that says more, is given to `keys_from` by the field's name.
"""

import types
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar, Union, cast, get_args, get_origin

from pydantic import ConfigDict, GetCoreSchemaHandler, create_model
from pydantic_core import core_schema

from sim.scenario.fields import MAX_SIZES, Flag, Ratio, Section, count_of, field_docstrings

__all__ = ["DerivedSection", "ParsedBy", "keys_from", "keys_of", "sections_at"]

S = TypeVar("S", bound="DerivedSection")
T = TypeVar("T")


class DerivedSection(Section):
    """A section with keys that are fields of a dataclass."""

    model_config = ConfigDict(defer_build=True)  # a section is built as a part of the scenario, and not before

    _sources: ClassVar[Mapping[str, type[Any]]] = {}
    """The dataclass that declares a key, by key."""
    _filled_in: ClassVar[Mapping[str, object]] = {}
    """The default of the dataclass for a key that is null where it is left out, by key."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the keys of dataclasses are added at run time
            """Return the value of a key."""

    def values_of(self, value: type[T]) -> dict[str, Any]:
        """Return the values of the keys that are fields of a dataclass."""
        return {key: getattr(self, key) for key in _shared_keys(type(self), value)}  # type: ignore[arg-type]  # a class has a hash

    @classmethod
    def descriptions(cls) -> dict[str, str]:
        """Return the docstring of each key, which the section or a dataclass declares, in words of YAML."""
        own: dict[str, str] = {}
        for section in cls.__mro__[: cls.__mro__.index(DerivedSection)]:
            own = own if "_sources" in section.__dict__ else field_docstrings(section) | own
        docstrings = {source: field_docstrings(source) for source in dict.fromkeys(cls._sources.values())}
        for key, source in cls._sources.items():
            own[key] = docstrings[source][key].replace("None", "null")
            default = cls._filled_in.get(key)
            if default is not None and "default:" not in own[key].lower():
                own[key] += f" Default: {str(default).lower()}."
        return {key: own[key] for key in cls.model_fields if key in own}


def keys_from(
    source: type[Any],
    *,
    section: str,
    leave_out: Collection[str] = (),
    all_optional: bool = False,
    defaults: Mapping[str, object] = types.MappingProxyType({}),
    **checks: Any,  # noqa: ANN401 - pydantic's annotations are of any type
) -> Callable[[type[S]], type[S]]:
    """Return a decorator that gives a section, after its own keys, the fields of a dataclass as keys.

    Parameters
    ----------
    source
        The dataclass.
    section
        Name of the section in a scenario, for the limits of counts.
    leave_out
        Fields that are no keys: the builder fills them in, or the section has a key of its own.
    all_optional
        Whether every key may be left out and is then null, because other keys can tell its value.
    defaults
        Defaults that differ from those of the dataclass.
    checks
        Field -> the annotation, or the check inside `Annotated`, of its key.

    Raises
    ------
    TypeError
        The type of a field gives no check, or a count has no limit in `MAX_SIZES`.

    Examples
    --------
    >>> @dataclass(kw_only=True)
    ... class Lamp:
    ...     is_on: bool = True
    >>> keys_from(Lamp, section="lamp")(DerivedSection)().values_of(Lamp)
    {'is_on': True}
    """

    def decorate(cls: type[S]) -> type[S]:
        made: dict[str, Any] = {}
        filled_in: dict[str, object] = {}
        for item in fields(source):
            if item.name in leave_out:
                continue
            default = defaults.get(item.name, None if all_optional else item.default)
            if default is None and item.name not in defaults and item.default is not MISSING:
                filled_in[item.name] = item.default
            annotation = _annotation(item.type, f"{section}.{item.name}", item.default, checks.get(item.name))
            made[item.name] = (annotation | None if default is None else annotation, default)
        made_class = create_model(cls.__name__, __base__=cls, __module__=cls.__module__, __doc__=cls.__doc__, **made)
        made_class._filled_in = {**cls._filled_in, **filled_in}
        made_class._sources = {**cls._sources, **dict.fromkeys(made, source)}
        return made_class

    return decorate


@dataclass(frozen=True, slots=True)
class ParsedBy:
    """In `Annotated[Value, ParsedBy(section)]`: a section is read and checked, and becomes the domain value."""

    section: type[DerivedSection]
    """The section, whose keys are the fields of the value."""

    def __get_pydantic_core_schema__(self, source: type[Any], handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        def build(section: DerivedSection) -> object:
            return source(**section.values_of(source))

        def dump(value: object) -> dict[str, Any]:
            return {key: getattr(value, key) for key in self.section.model_fields}

        return core_schema.no_info_after_validator_function(
            build,
            handler.generate_schema(self.section),
            serialization=core_schema.plain_serializer_function_ser_schema(dump),
        )


def sections_at(root: type[Section], path: Sequence[str | int]) -> list[type[Section]]:
    """Return the models that may stand at a path below `root`; positions in lists do not matter."""
    sections = [root]
    for part in path:
        if isinstance(part, str):
            sections = [child for section in sections for child in _sections_below(section, part)]
    return sections


def keys_of(sections: Sequence[type[Section]]) -> list[str]:
    """Return the keys that any of some models has, each once."""
    return list(_keys_of(tuple(sections)))


# ---- private -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _keys_of(sections: tuple[type[Section], ...]) -> tuple[str, ...]:
    found = [item for section in sections for item in section.model_fields.items()]
    return tuple(dict.fromkeys([entry.alias or key for key, entry in found]))


def _annotation(declared: Any, key: str, default: object, check: Any) -> Any:  # noqa: ANN401 - types of any kind
    """Return the annotation of a key, without null."""
    kind = next((part for part in get_args(declared) if part is not type(None)), declared)
    if get_origin(declared) not in {Union, types.UnionType}:
        kind = declared
    if check is not None:
        is_annotation = get_origin(check) is not None or isinstance(check, type)
        return check if is_annotation else Annotated[kind, check]
    if kind is bool:
        return Flag
    if kind is float:
        return Ratio
    if kind is int and key in MAX_SIZES:
        return Annotated[int, count_of(key, least=0 if default == 0 else 1)]
    raise TypeError(f"{key}: give `keys_from` the check of a field of type {declared}")


@lru_cache(maxsize=1024)
def _shared_keys(section: type[DerivedSection], value: Hashable) -> list[str]:
    """Return the fields of a dataclass that are keys of a section."""
    return [key for key in _field_names(cast("type[Any]", value)) if key in section.model_fields]


def _field_names(value: type[Any]) -> list[str]:
    return [item.name for item in fields(value)]


@lru_cache(maxsize=4096)
def _sections_below(section: type[Section], key: str) -> tuple[type[Section], ...]:
    """Return the models that a key of a section can hold; each key is looked up for every variant of a scenario."""
    entry = section.model_fields.get(key)
    if entry is None:
        return ()
    found: list[type[Section]] = [item.section for item in entry.metadata if isinstance(item, ParsedBy)]
    pending: list[Any] = [entry.annotation]
    while pending:
        annotation = pending.pop(0)
        if isinstance(annotation, type) and issubclass(annotation, Section):
            found.append(annotation)
        pending.extend(get_args(annotation))
    return tuple(found)
