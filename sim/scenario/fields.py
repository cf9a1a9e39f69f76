"""The kinds of value a scenario's keys take, as pydantic types that say in plain words what they want.

Each check runs before pydantic's own, so that its rule, value and hint reach the message; pydantic's constraints stay
too, for the JSON Schema.
"""

import itertools
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

from sim.errors import InvalidValueError, did_you_mean
from sim.scenario.units import Dimension, parse_any_quantity, parse_quantity, quantity_pattern, respelt
from topology.limits import MAX_COUNT, MAX_GPUS

if TYPE_CHECKING:
    import ast

__all__ = [
    "MAX_REQUESTS",
    "MAX_SIZES",
    "AnyValue",
    "Bandwidth",
    "Bytes",
    "Count",
    "Efficiency",
    "Factor",
    "Flag",
    "FlopRate",
    "Ident",
    "Ratio",
    "Seconds",
    "Section",
    "SeedCount",
    "Share",
    "Text",
    "TokenCount",
    "Variation",
    "Whole",
    "count_of",
    "field_docstrings",
    "name_of",
]

MAX_SEEDS: Final = 100
"""No interval is taken over more seeds."""
MAX_TEXT: Final = 2000
"""No text in a scenario is longer."""
_MAX_SECONDS: Final = 10**6
_MAX_QUANTITY: Final = 10**24
"""No time, and no other quantity, is larger: a clock of whole nanoseconds holds what follows from them."""

_MAX_LAYERS: Final = 10_000
_MAX_EXPERTS: Final = 65_536

MAX_REQUESTS: Final = 1_000_000
"""No server is simulated with more requests: each of them is kept."""

MAX_SIZES: Final[Mapping[str, int]] = {
    "cluster.num_nodes": MAX_GPUS,
    "cluster.gpus_per_node_used": MAX_GPUS,
    "runtime.collective_sms": 1024,
    "model.layers": _MAX_LAYERS,
    "model.hidden": 1_000_000,
    "model.heads": 65_536,
    "model.kv_heads": 65_536,
    "model.head_dim": 65_536,
    "model.ffn": 10_000_000,
    "model.dense_ffn": 10_000_000,
    "model.experts": _MAX_EXPERTS,
    "model.shared_experts": 1024,
    "model.top_k": 128,
    "model.dense_layers": _MAX_LAYERS,
    "model.vocab": 100_000_000,
    "model.q_lora_rank": 1_000_000,
    "model.kv_lora_rank": 1_000_000,
    "model.qk_nope_head_dim": 65_536,
    "model.qk_rope_head_dim": 65_536,
    "model.v_head_dim": 65_536,
    "model.sliding_window": 100_000_000,
    "model.sliding_window_every": _MAX_LAYERS,
    "model.attention_chunk_size": 100_000_000,
    "model.layer_types": _MAX_LAYERS,
    "model.linear_num_key_heads": 65_536,
    "model.linear_num_value_heads": 65_536,
    "model.linear_key_head_dim": 65_536,
    "model.linear_value_head_dim": 65_536,
    "model.linear_conv_kernel_dim": 1024,
    "model.mamba_num_heads": 65_536,
    "model.mamba_head_dim": 65_536,
    "model.ssm_state_size": 65_536,
    "model.n_groups": 65_536,
    "model.conv_kernel": 1024,
    "model.chunk_size": 1_000_000,
    "model.moe_every": _MAX_LAYERS,
    "model.shared_expert_intermediate_size": 10_000_000,
    "model.moe_latent_size": 1_000_000,
    "model.num_nextn_predict_layers": 16,
    "model.n_positions": 100_000_000,
    "model.make_vocab_size_divisible_by": 1_000_000,
    "schedule.recompute_layers": _MAX_LAYERS,
    "schedule.offload_layers": _MAX_LAYERS,
    "parallel.tp": MAX_GPUS,
    "parallel.pp": _MAX_LAYERS,  # a stage has a layer at least
    "parallel.ep": MAX_GPUS,
    "parallel.etp": MAX_GPUS,
    "parallel.dp": MAX_GPUS,
    "parallel.cp": MAX_GPUS,
    "parallel.cp_sizes": MAX_GPUS,
    "parallel.vpp": _MAX_LAYERS,
    "parallel.fsdp_shards": MAX_GPUS,
    "parallel.stage_layers": _MAX_LAYERS,
    "workload.batches": 10_000_000,
    "workload.sequences": 10_000_000,
    "workload.sequence_length": 100_000_000,
    "workload.microbatches": 10_000_000,
    "workload.num_ranks": MAX_GPUS,
    "workload.requests.count": MAX_REQUESTS,
    "workload.requests.repeat": 1_000_000,
    "workload.requests.tokens": 100_000_000,
    "workload.server.block_size": 65_536,
    "workload.server.kv_blocks": 1_000_000_000,
    "workload.server.receive_interval": 100_000,
    "workload.server.routing_steps": 10_000_000,
    "workload.server.speculation.num_tokens": 1_000,
    "network.num_sms": 1024,
    "placement.every": 10_000_000,
    "placement.experts": _MAX_EXPERTS - 1,
    "placement.groups": _MAX_EXPERTS,
    "placement.replicas": _MAX_EXPERTS,
    "placement.stale": 10_000,
    "placement.window": 10_000,
    "routing.dead_experts": _MAX_EXPERTS,
    "routing.hot_experts": _MAX_EXPERTS,
    "routing.stride": _MAX_EXPERTS,
    "routing.max_nodes_per_token": MAX_GPUS,
}
"""The largest value of each count, by dotted key; for `parallel.stage_layers` the largest value of an item.

Each limit is ten to a thousand times what has been built or published, so that it refuses a slip of the keyboard and no
system. Products of tokens, experts of a token and bytes stay whole numbers of 64 bits. A scenario inside all limits can
still be too large to simulate: `sim.run.resources` refuses such a scenario.
"""


class Section(BaseModel):
    """Base of every section: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @classmethod
    def descriptions(cls) -> dict[str, str]:
        """Return the docstring of each key."""
        return field_docstrings(cls)


def field_docstrings(owner: type[Any]) -> dict[str, str]:
    """Return the docstring of each field of a class, read from the source: only the schema and hints need them."""
    import ast  # noqa: PLC0415 - see above
    import inspect  # noqa: PLC0415 - see above

    body = _classes_of(owner.__module__)[owner.__name__].body
    found = {}
    for field, after in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(after, ast.Expr):
            found[field.target.id] = inspect.cleandoc(ast.literal_eval(after.value))
    return found


@lru_cache
def _classes_of(module: str) -> "dict[str, ast.ClassDef]":
    """Return the classes of a module as its source has them, by name."""
    import ast  # noqa: PLC0415 - only the schema and hints need the source
    import inspect  # noqa: PLC0415 - see above

    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def _integer(minimum: int, maximum: int = MAX_COUNT) -> Callable[[object], object]:
    """Return the check of an integer from `minimum` to `maximum`; flags, `16.0` and `"16"` are none."""

    def check(value: object) -> object:
        """Return the integer, or refuse it."""
        rule = f"be an integer of at least {minimum}"
        if isinstance(value, int) and not isinstance(value, bool):
            if minimum <= value <= maximum:
                return value
            large = value > maximum
            rule = f"be an integer of at most {_in_words(maximum)}" if large else rule
            raise InvalidValueError(
                rule=rule, value=value, hint=f"Write {'a smaller' if large else 'a larger'} number."
            )
        written = f'"{value}"' if isinstance(value, str) else value
        raise InvalidValueError(rule=rule, value=written, hint=_integer_hint(value, minimum, maximum))

    return check


def _integer_hint(value: object, minimum: int, maximum: int) -> str:
    """Return how to write an integer that was written some other way."""
    if isinstance(value, float) and value > maximum:
        return f"Write a number of at most {_in_words(maximum)}, without point or exponent."
    if isinstance(value, float) and value.is_integer() and minimum <= value:
        return f"Write {int(value)}, without point or exponent."
    if isinstance(value, str) and value.isdecimal() and value.isascii():
        return f"Write {value[:20]}, without quotes."
    number = respelt(value, [], bare=True) if isinstance(value, str) else None
    if number is not None and minimum <= float(number) <= MAX_COUNT and float(number).is_integer():
        return f"Write {int(float(number))}."
    return f"Write a number without unit, such as {max(minimum, 1)}."


def _in_words(maximum: int) -> str:
    """Return a largest value as a message says it."""
    return "10^12" if maximum == MAX_COUNT else f"{maximum:,}"


def _number(minimum: float, maximum: float | None, words: str) -> Callable[[object], object]:
    """Return the check of a bare number or a percentage in a range."""

    def check(value: object) -> object:
        """Return the number, or refuse it."""
        number = parse_quantity(value, "ratio", allow_negative=True) if _is_percentage(value) else value
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise InvalidValueError(rule=f"be {words}", value=value, hint="Write it without quotes and without unit.")
        if number < minimum or (maximum is not None and number > maximum):
            raise InvalidValueError(rule=f"be {words}", value=value, hint="Write a number in that range.")
        return float(number)

    return check


def _is_percentage(value: object) -> bool:
    """Return whether a value is written as a percentage."""
    return isinstance(value, str) and value.rstrip().endswith("%")


def _quantity(dimension: Dimension, *, positive: bool) -> Callable[[object], object]:
    """Return the check of a quantity with a unit, which turns it into SI."""

    def check(value: object) -> object:
        """Return the number, or refuse it."""
        number = parse_quantity(value, dimension)
        if positive and number == 0:
            raise InvalidValueError(rule="be more than 0", value=value, hint="Leave the key out to use the preset's.")
        if positive and number < 1:
            raise InvalidValueError(
                rule=f"be at least 1 {dimension}", value=value, hint="Check the number and its unit."
            )
        if number > (_MAX_SECONDS if dimension == "s" else _MAX_QUANTITY):
            rule = f"be at most 10^{6 if dimension == 's' else 24} {dimension}"
            raise InvalidValueError(rule=rule, value=value, hint="Check the number and its unit.")
        return number

    return check


def _positive_share(value: object) -> object:
    """Return an efficiency: a share of a peak, more than nothing."""
    number = _number(0, 1, "a ratio of more than 0 and at most 1")(value)
    if number == 0:
        raise InvalidValueError(
            rule="be a ratio of more than 0 and at most 1", value=value, hint="Write for example 0.85."
        )
    return number


def _flag(value: object) -> object:
    """Return true or false."""
    if isinstance(value, bool):
        return value
    raise InvalidValueError(rule="be true or false", value=value, hint="Write true or false, without quotes.")


def _text(value: object) -> object:
    """Return a text that says something."""
    if not isinstance(value, str):
        raise InvalidValueError(rule="be a text", value=value, hint="Put it in quotes.")
    if not value.strip():
        raise InvalidValueError(rule="be a text", value=value, hint="Write something, or leave the key out.")
    if len(value) > MAX_TEXT:
        raise InvalidValueError(rule=f"be at most {MAX_TEXT} characters long", value=value, hint="Shorten it.")
    return value


def _ident(value: object) -> object:
    """Return a name without spaces."""
    text = _text(value)
    if isinstance(text, str) and not any(c.isspace() or not c.isprintable() for c in text):
        return text
    raise InvalidValueError(rule="be a name without spaces", value=value, hint="Use letters, digits, `_`, `-` and `.`.")


def _any_value(value: object) -> object:
    """Return a published figure in SI: a bare number, or a quantity."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    return parse_any_quantity(value, example="18.5 ms")[0]


def _token_count(value: object) -> object:
    """Return a number of tokens, bare or with its unit."""
    tokens = parse_quantity(value, "tokens") if isinstance(value, str) else value
    return _integer(1)(int(tokens) if isinstance(tokens, float) and tokens.is_integer() else tokens)


def _seed_count(value: object) -> object:
    """Return a number of seeds."""
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_SEEDS:
        return value
    hint = "Write how many seeds to simulate, such as 5."
    raise InvalidValueError(rule=f"be an integer from 1 to {MAX_SEEDS}", value=value, hint=hint)


def _written(dimension: Dimension) -> Any:  # noqa: ANN401 - pydantic's parameter is untyped
    """Return how a quantity is written, for the JSON Schema."""
    return Annotated[str, Field(pattern=quantity_pattern(dimension))]


def _checked(dimension: Dimension, *, positive: bool) -> BeforeValidator:
    """Return the pydantic check of a quantity."""
    return BeforeValidator(_quantity(dimension, positive=positive), json_schema_input_type=_written(dimension))


def count_of(key: str, *, least: int = 1) -> BeforeValidator:
    """Return the check of a count from `least` to the largest that `MAX_SIZES` has for the dotted key."""
    most = MAX_SIZES[key]
    return BeforeValidator(_integer(least, most), json_schema_input_type=Annotated[int, Field(ge=least, le=most)])


@dataclass(frozen=True, slots=True)
class _NameOf:
    """The check of a name, whose values are those that a registry has when the name is checked."""

    names: Callable[[], Iterable[str | int]]
    """Returns the names, in the order of the registry."""

    def check(self, value: object) -> str | int:
        """Return the name, or refuse it with the nearest name."""
        names = [*self.names()]
        if isinstance(value, (str, int)) and not isinstance(value, bool) and value in names:
            return value
        written = [str(name) for name in names]
        rule = f"be one of {', '.join(written)}"
        word = value if isinstance(value, str) else ""
        hint = did_you_mean(word, written, otherwise="Write one of these.")
        raise InvalidValueError(rule=rule, value=value, hint=hint)

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        names = [*self.names()]
        return {"type": "string" if all(isinstance(name, str) for name in names) else "integer", "enum": names}


def name_of(names: Callable[[], Iterable[str | int]]) -> Any:  # noqa: ANN401 - pydantic reads it from an Annotated
    """Return the check of a name or a level that a registry has; the JSON Schema lists the names of the registry.

    Examples
    --------
    >>> from pydantic import TypeAdapter
    >>> TypeAdapter(Annotated[str, name_of(lambda: ["ring", "tree"])]).json_schema()
    {'enum': ['ring', 'tree'], 'type': 'string'}
    """
    return _NameOf(names)


Count = Annotated[int, Field(ge=1), BeforeValidator(_integer(1))]
"""An integer of at least 1."""
Whole = Annotated[int, Field(ge=0), BeforeValidator(_integer(0))]
"""An integer of at least 0."""
SeedCount = Annotated[int, Field(ge=1, le=MAX_SEEDS), BeforeValidator(_seed_count)]
"""A number of seeds."""
Flag = Annotated[bool, BeforeValidator(_flag)]
"""`true` or `false`."""
Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT), BeforeValidator(_text)]
"""A text, not empty."""
Ident = Annotated[str, Field(pattern=r"^\S+$", max_length=MAX_TEXT), BeforeValidator(_ident)]
"""A name without spaces."""
Bytes = Annotated[float, _checked("bytes", positive=True)]
"""A size, in bytes."""
Bandwidth = Annotated[float, _checked("bytes/s", positive=True)]
"""A bandwidth, in bytes/s, written in bits or bytes."""
FlopRate = Annotated[float, _checked("FLOP/s", positive=True)]
"""A rate of arithmetic, in FLOP/s."""
Seconds = Annotated[float, _checked("s", positive=False)]
"""A time, in seconds, 0 allowed."""
Ratio = Annotated[float, Field(ge=0), BeforeValidator(_number(0, None, "a number of at least 0"))]
"""A bare number of at least 0."""
Factor = Annotated[float, Field(ge=0.01, le=100), BeforeValidator(_number(0.01, 100, "a bare number from 0.01 to 100"))]
"""What a time is multiplied by."""
Share = Annotated[float, Field(ge=0, le=1), BeforeValidator(_number(0, 1, "a number from 0 to 1"))]
"""A part of a whole: from 0 to 1."""
Variation = Annotated[
    float,
    Field(ge=0, le=1),
    BeforeValidator(
        _number(0, 1, "a ratio from 0 to 1, such as 2 %"),
        json_schema_input_type=Annotated[float, Field(ge=0, le=1)] | _written("ratio"),
    ),
]
"""A coefficient of variation: 0.02 or `2 %`."""
Efficiency = Annotated[
    float,
    Field(gt=0, le=1),
    BeforeValidator(_positive_share, json_schema_input_type=Annotated[float, Field(gt=0, le=1)] | _written("ratio")),
]
"""A share of a peak: more than 0, at most 1, or a percentage."""
TokenCount = Annotated[int, BeforeValidator(_token_count, json_schema_input_type=Count | _written("tokens"))]
"""A number of tokens, bare or as `4096 tokens`."""
AnyValue = Annotated[float, BeforeValidator(_any_value, json_schema_input_type=float | str)]
"""A figure in SI: bare, or a quantity with its unit."""
