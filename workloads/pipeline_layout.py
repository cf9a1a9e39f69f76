"""Which model chunk holds which layers, the embedding, the MTP layers and the loss.

Model
-----
A layout string of Megatron-LM (`--pipeline-model-parallel-layout`) lists what the model chunks hold, chunk by chunk in
the order in which a microbatch visits them; with v chunks on each of p stages it has v p chunks::

    layout   = item, item, ...                                  commas mean nothing
    item     = unit [*n] | (unit [*n] ...)*n                    n copies; parentheses do not nest
    unit     = E   embedding
             | t   transformer layer
             | m   MTP layer
             | L   last norm, output head and loss
             | '|' end of a chunk

`Et*3|(tt|)*29,m|L` has 1 + 29 + 1 + 1 = 32 chunks: embedding and 3 layers, 29 times 2 layers, an MTP layer, the loss.
A chunk may be empty. E comes first and L last, each once; MTP layers come after all transformer layers, in one chunk.

Assumptions
-----------
Megatron-LM also wants MTP layers in the last chunk of their stage. The schedules here have no such limit.

References
----------
Megatron-LM, `megatron/core/transformer/pipeline_parallel_layer_layout.py` (core 0.16), `parse_str_to_list` and
`validate_layer_layout`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from sim.errors import InvalidValueError

__all__ = ["PipelineLayout", "layout_text", "parse_layout"]

_FIELD: Final = "parallel.layout"
_UNITS: Final = "EtmL|"
_NAMES: Final = {"embedding": "E", "decoder": "t", "mtp": "m", "loss": "L"}
"""Name of a unit in Megatron's lists -> its letter in the string."""
_MAX_UNITS: Final = 20_000
"""No layout stands for more layers and chunks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineLayout:
    """What each model chunk holds.

    >>> PipelineLayout(layers=(2, 2, 0), embedding_chunk=0, head_chunk=2, num_mtp_layers=0, mtp_chunk=2).num_chunks
    3
    """

    layers: tuple[int, ...]
    """Transformer layers of each model chunk."""
    embedding_chunk: int
    """The model chunk with the embedding."""
    head_chunk: int
    """The model chunk with the last norm, the output head and the loss."""
    num_mtp_layers: int
    """MTP layers that the layout places."""
    mtp_chunk: int
    """The model chunk with the MTP layers; without any, the chunk of the loss."""

    @property
    def num_chunks(self) -> int:
        """Number of model chunks, over all stages."""
        return len(self.layers)


def parse_layout(text: str) -> PipelineLayout:
    """Return what a layout string says.

    Raises
    ------
    InvalidValueError
        The string is none of the grammar, or does not place embedding, layers, MTP and loss in this order.

    Examples
    --------
    >>> parse_layout("Et*2|t,t|mL")
    PipelineLayout(layers=(2, 2, 0), embedding_chunk=0, head_chunk=2, num_mtp_layers=1, mtp_chunk=2)
    """
    units = _unrolled(text)
    letters = "".join(unit for unit, _ in units if unit != "|")
    for letter, what in (("E", "the embedding"), ("L", "the loss")):
        if letters.count(letter) != 1:
            hint = "Begin the layout with E, and end it with L, as in Et*2|t*2|L."
            raise InvalidValueError(_FIELD, f"place {letter} ({what}) once", f"{letters.count(letter)} of them", hint)
    order = {letter: number for number, letter in enumerate("EtmL")}
    for (earlier, _), (later, position) in pairwise((unit, position) for unit, position in units if unit != "|"):
        if order[later] < order[earlier]:
            hint = "The order is E, all layers t, MTP layers m, L."
            raise _error("place E before t, t before m, and L last", later, position, hint)
    chunks = "".join(unit for unit, _ in units).split("|")
    with_mtp = [number for number, chunk in enumerate(chunks) if "m" in chunk]
    if len(with_mtp) > 1:
        rule, hint = "place all m in one stage", "Move the MTP layers together, as in m*2|L."
        raise InvalidValueError(_FIELD, rule, f"m in stages {', '.join(map(str, with_mtp))} of the string", hint)
    head_chunk = next(number for number, chunk in enumerate(chunks) if "L" in chunk)
    return PipelineLayout(
        layers=tuple(chunk.count("t") for chunk in chunks),
        embedding_chunk=next(number for number, chunk in enumerate(chunks) if "E" in chunk),
        head_chunk=head_chunk,
        num_mtp_layers=letters.count("m"),
        mtp_chunk=with_mtp[0] if with_mtp else head_chunk,
    )


def layout_text(stages: Sequence[object]) -> str:
    """Return the layout string of a list with what each chunk holds: a string, or a list of Megatron's names.

    Raises
    ------
    InvalidValueError
        An item is neither, or names what Megatron does not.

    Examples
    --------
    >>> layout_text(["Ett", ["decoder", "decoder"], ["mtp", "loss"]])
    'Ett|tt|mL'
    """
    texts = []
    for stage in stages:
        if isinstance(stage, str) and "|" not in stage:
            texts.append(stage)
        elif isinstance(stage, list) and all(isinstance(name, str) and name in _NAMES for name in stage):
            texts.append("".join(_NAMES[name] for name in stage))
        else:
            rule = f"list for each stage a string such as Et*3, or names among {', '.join(_NAMES)}"
            raise InvalidValueError(_FIELD, rule, stage, "Write for example [Et*2, t*2, mL].")
    return "|".join(texts)


# ---- private -----------------------------------------------------------------------------------------------------


def _unrolled(text: str) -> list[tuple[str, int]]:
    """Return the units of a string with repetitions written out, each with its place in the string."""
    written = [(letter, position) for position, letter in enumerate(text, start=1) if letter != ","]
    units: list[tuple[str, int]] = []
    opened: tuple[int, int] | None = None  # units before an open parenthesis, and its place
    i = 0
    while i < len(written):
        letter, position = written[i]
        i += 1
        if letter in _UNITS:
            count, i = _count(written, i)
            _check_length(len(units) + count)
            units += [(letter, position)] * count
        elif letter == "(" and opened is None:
            opened = len(units), position
        elif letter == ")" and opened is not None:
            if written[i : i + 1] == [] or written[i][0] != "*":
                raise _error("repeat what stands in parentheses", letter, position, "Write (...)*n, such as (tt|)*4.")
            count, i = _count(written, i)
            start, opened = opened[0], None
            _check_length(start + (len(units) - start) * count)
            units[start:] = units[start:] * count
        else:
            raise _unexpected(letter, position)
    if opened is not None:
        raise _error("close each parenthesis", "(", opened[1], "Write (...)*n, such as (tt|)*4.")
    return units


def _count(written: Sequence[tuple[str, int]], start: int) -> tuple[int, int]:
    """Return the number behind a `*` at `start`, 1 where there is no `*`, and where to read on."""
    if start >= len(written) or written[start][0] != "*":
        return 1, start
    end = start + 1
    while end < len(written) and written[end][0] in "0123456789":
        end += 1
    digits = "".join(letter for letter, _ in written[start + 1 : end])
    if not digits:
        raise _error("have a number behind each *", "*", written[start][1], "Write for example t*4.")
    _check_length(int(digits[:9]))
    return int(digits[:9]), end


def _check_length(num_units: int) -> None:
    if num_units > _MAX_UNITS:
        rule = f"stand for at most {_MAX_UNITS:,} layers and stages"
        raise InvalidValueError(_FIELD, rule, "more", "Write smaller numbers behind the *.")


def _unexpected(letter: str, position: int) -> InvalidValueError:
    """Return the error of a letter that cannot stand where it stands."""
    hints = {
        "(": "Parentheses do not nest: write out the inner repetition.",
        ")": "There is no ( before it.",
        "*": "A * stands behind a letter or a parenthesis, once.",
        " ": "Remove spaces.",
        "T": "A transformer layer is a small t.",
        "e": "The embedding is a large E.",
        "l": "The loss is a large L.",
        "M": "An MTP layer is a small m.",
    }
    hint = hints.get(letter, "E is the embedding, t a layer, m an MTP layer, L the loss, | ends a stage, *n repeats.")
    return _error("have only E, t, m, L, |, commas, and (...) with *n", letter, position, hint)


def _error(rule: str, letter: str, position: int, hint: str) -> InvalidValueError:
    return InvalidValueError(_FIELD, rule, f"`{letter}` at character {position}", hint)
