"""A recording as arrays: token counts of experts, or the experts that each token chose, known by name and shape.

Model
-----
    counts      [steps, layers, experts] or [layers, experts]
    physical    counts of slots, [steps, layers, slots] or [layers, slots]; with a map [layers, slots] of the expert in
                each slot, an expert's tokens are the sum over its slots
    choices     ids of experts, [tokens, layers, top_k] or [tokens, top_k], and with steps [steps, tokens, layers,
                top_k]; -1 is no choice; they are counted, never summed
    by layer    arrays whose names end in numbers of layers, each with the dims above but that of layers

An array without a telling name is taken for choices where the model says so (its last dim is top_k), or where every row
of at least 32 has different small integers and rows of a step have different sums, as counts of one step would not.
What could be either is refused. Fractions are no ids.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.scenario.recordings.names import COUNTS, IDS, LOGICAL, MAP, NOT_ROUTING, PHYSICAL, canonical, source_of
from sim.scenario.recordings.recording import MAX_COUNTS, Recording, build_recording, refusal

__all__ = ["Shape", "arrays_to_recording", "choices_to_counts", "wanted_arrays"]

_MAX_ID: Final = 1 << 12
"""No model has more experts in a layer."""
_LARGEST_ID: Final = 1 << 10
"""Ids of a model that is not known are taken to be smaller."""
_MIN_EXPERTS: Final = 4
"""So many experts, or more, has a layer whose counts are known by their values."""
_MAX_LAYERS: Final = 512
"""No model has more layers."""
_MAX_TOP_K: Final = 64
_MANY_ROWS: Final = 32
_NAMES: Final = "tokens for counts [steps, layers, experts], topk_ids for chosen experts [tokens, layers, top_k]"

Array = NDArray[Any]


class Shape(NamedTuple):
    """What is known of the model that was recorded; None: unknown."""

    num_experts: int | None = None
    top_k: int | None = None
    num_layers: int | None = None


def wanted_arrays(names: Iterable[str]) -> list[str]:
    """Return the names of the arrays that make a recording, of all names of a file.

    >>> wanted_arrays(["rank", "logical_count", "last_physical_to_logical_map"])
    ['logical_count', 'last_physical_to_logical_map']
    """
    names = list(names)
    for kinds in (COUNTS, PHYSICAL, IDS):
        found = [name for name in names if canonical(name) in kinds]
        if found:
            maps = [name for name in names if canonical(name) in MAP] if kinds is not IDS else []
            return found + maps
    return _by_layer(names) or [name for name in names if canonical(name) not in NOT_ROUTING]


def arrays_to_recording(path: Path, arrays: Mapping[str, Array], shape: Shape) -> Recording:
    """Return the recording of arrays by name.

    Raises
    ------
    InvalidValueError
        No array is one of a recording, several are, or an array could be counts as well as choices.
    """
    maps = [name for name in arrays if canonical(name) in MAP]
    names = [name for name in arrays if name not in maps]
    layered = _by_layer(names)
    layers = None
    if len(names) > 1 and layered == names:
        layers = tuple(sorted(_layer_of(name) for name in names))
        by_number = {_layer_of(name): arrays[name] for name in names}
        name, array = re.sub(r"\d+", "", names[0]), _stacked(path, [by_number[number] for number in layers])
    elif len(names) == 1:
        name, array = names[0], np.asarray(arrays[names[0]])
        if layered == names and array.ndim in {1, 2}:
            layers, array = (_layer_of(name),), array[..., None, :]
    else:
        got = ", ".join(names)[:200] or "none"
        raise refusal(path, "have one array of routing", got, f"Name it: {_NAMES}.")
    if array.dtype.kind not in "iuf":
        raise refusal(path, f"have real numbers in {name}", f"dtype {array.dtype}"[:80], "Write them as integers.")
    if array.size == 0:
        raise refusal(path, f"have numbers in {name}", "an empty array", "Record while the model serves requests.")
    if _is_choices(path, name, array, shape):
        return _of_choices(path, name, array, shape, layers)
    return _of_counts(path, name, array, arrays[maps[0]] if maps else None, layers)


def choices_to_counts(path: Path, name: str, ids: Array) -> NDArray[np.float64]:
    """Return the tokens of each expert, [layers, experts], of chosen experts [layers, tokens, top_k]; -1 is no choice.

    Raises
    ------
    InvalidValueError
        The array has other dims, or other numbers than ids of experts.
    """
    _check_choices(path, name, ids, num_dims={3}, dims="[layers, tokens, top_k]")
    tokens = np.zeros((ids.shape[0], int(ids.max()) + 1))
    for layer, chosen in enumerate(np.asarray(ids, dtype=np.int64)):
        tokens[layer] = np.bincount(chosen[chosen >= 0], minlength=tokens.shape[1])
    return tokens


# ---- private -----------------------------------------------------------------------------------------------------


def _by_layer(names: list[str]) -> list[str]:
    """Return the names that are arrays of single layers: `layer_3`, `layers.3.topk_ids`."""
    found = [name for name in names if re.search(r"layers?[^0-9a-z]*\d+", name.lower())]
    stems = {re.sub(r"\d+", "", name, count=1) for name in found}
    numbers = {_layer_of(name) for name in found}
    return found if len(stems) == 1 and len(numbers) == len(found) else []


def _layer_of(name: str) -> int:
    found = re.search(r"layers?[^0-9a-z]*(\d{1,9})", name.lower())
    return int(found[1]) if found else 0


def _stacked(path: Path, arrays: list[Array]) -> Array:
    """Return arrays of layers as one, with the layers before the last dim."""
    if len({array.shape for array in arrays}) > 1 or arrays[0].ndim not in {1, 2}:
        got = ", ".join(str(list(array.shape)) for array in arrays[:4])
        raise refusal(path, "have layers of one shape, each with 1 or 2 dims", got, f"Stack them as {_NAMES}.")
    return np.stack(arrays, axis=-2)


def _is_choices(path: Path, name: str, array: Array, shape: Shape) -> bool:
    """Tell choices from counts, by name, then by the model, then by values."""
    word = canonical(name)
    if word in IDS or any(kind in word for kind in ("topkid", "topkidx", "expertid", "routedexpert")):
        return True
    looks = array.ndim in {2, 3, 4} and _looks_like_choices(array)
    if word in COUNTS or word in PHYSICAL:
        if looks is True and array.shape[-1] != shape.num_experts:
            value = f"{name} of different small integers in each of {array.size // array.shape[-1]:,} rows"
            raise refusal(path, "have counts, and no ids of experts, as tokens", value, f"Name it: {_NAMES}.")
        return False
    last = array.shape[-1]
    if shape.num_experts != shape.top_k and last in {shape.num_experts, shape.top_k}:
        return looks is not False and last == shape.top_k
    if looks is None:
        value = f"{name} {list(array.shape)}, which may be either"
        raise refusal(path, "tell counts from chosen experts by name", value, f"Name it: {_NAMES}.")
    return looks


def _looks_like_choices(array: Array) -> bool | None:
    """Return whether values look like ids of experts; None where they may be ids or counts."""
    last = array.shape[-1]
    if last > _MAX_TOP_K or not _is_whole(array) or array.max() >= _MAX_ID:
        return False
    array = array.astype(np.int64)
    if array.min() < 0:
        return bool(array.min() == -1)
    rows = np.sort(array.reshape(-1, last), axis=1)
    has_repeats = bool((rows[:, 1:] == rows[:, :-1]).any())
    sums = array.sum(axis=-1, dtype=np.int64)
    if sums.ndim and sums.shape[-1] > 1 and (sums == sums[..., :1]).all():
        return False
    if has_repeats:
        return False if last >= _MIN_EXPERTS and array.max() >= _LARGEST_ID else None
    return True if len(rows) >= _MANY_ROWS and array.max() >= last else None


def _is_whole(array: Array) -> bool:
    """Return whether an array has whole, finite numbers alone."""
    return array.dtype.kind in "iu" or bool(np.isfinite(array).all() and (array == np.floor(array)).all())


def _of_counts(path: Path, name: str, array: Array, slots: Array | None, layers: tuple[int, ...] | None) -> Recording:
    """Return the recording of token counts."""
    if array.ndim not in {2, 3}:
        rule = f"have {name} [layers, experts] or [steps, layers, experts]"
        raise refusal(path, rule, f"{array.ndim} dims", "Reshape or sum it.")
    if array.size > MAX_COUNTS:
        raise refusal(path, f"have at most {MAX_COUNTS:,} counts", f"{array.size:,}", "Record fewer steps.")
    tokens = np.asarray(array, dtype=float)
    tokens = tokens if tokens.ndim == 3 else tokens[None]
    notes: tuple[str, ...] = ()
    word = canonical(name)
    if slots is not None and word not in LOGICAL:
        notes = (f"{tokens.shape[2]} physical experts summed to logical experts by their map",)
        tokens = _by_expert(path, tokens, slots)
    elif word in PHYSICAL:
        notes = ("without a physical_to_logical_map, each physical expert is taken for an expert",)
    return build_recording(path, tokens, source=source_of(name), layers=layers, notes=notes)


def _by_expert(path: Path, tokens: NDArray[np.float64], slots: Array) -> NDArray[np.float64]:
    """Return tokens of experts [S, L, E] from those of slots [S, L, P] and the expert of each slot [L, P]."""
    if slots.ndim == 1:
        slots = np.broadcast_to(slots, tokens.shape[1:])
    if slots.dtype.kind not in "iu" or slots.shape != tokens.shape[1:] or slots.min() < 0 or slots.max() >= _MAX_ID:
        rule = f"have a physical_to_logical_map {list(tokens.shape[1:])} of experts"
        raise refusal(path, rule, f"{list(slots.shape)} of {slots.dtype}", "Record it with the counts.")
    by_expert = np.zeros((*tokens.shape[:2], int(slots.max()) + 1))
    for layer, experts in enumerate(slots):
        np.add.at(by_expert[:, layer].T, experts, tokens[:, layer].T)
    return by_expert


def _of_choices(path: Path, name: str, array: Array, shape: Shape, layers: tuple[int, ...] | None) -> Recording:
    """Return the recording of chosen experts: how many tokens chose each expert."""
    _check_choices(path, name, array, num_dims={2, 3, 4}, dims="[tokens, layers, top_k]")
    array = array[:, None, :] if array.ndim == 2 else array
    array = array[None] if array.ndim == 3 else array
    if _has_layers_first(name, array, shape):
        array = np.swapaxes(array, 1, 2)
    num_steps, num_tokens, num_layers, top_k = array.shape
    if num_layers > _MAX_LAYERS:
        rule = f"have {name} [tokens, layers, top_k]"
        raise refusal(path, rule, f"{num_layers:,} layers", "Put the dim of the tokens first.")
    num_experts = int(array.max()) + 1
    if num_steps * num_layers * num_experts > MAX_COUNTS:
        raise refusal(path, f"have at most {MAX_COUNTS:,} counts", "more", "Record fewer steps.")
    tokens = np.zeros((num_steps, num_layers, max(1, num_experts)))
    for step in range(num_steps):
        for layer in range(num_layers):
            ids = np.asarray(array[step, :, layer], dtype=np.int64).ravel()
            tokens[step, layer] = np.bincount(ids[ids >= 0], minlength=tokens.shape[2])
    notes: tuple[str, ...] = (f"{num_tokens:,} tokens of top-{top_k} counted",)
    num_left_out = int((array < 0).sum())
    notes += (f"{num_left_out:,} choices of -1 left out",) if num_left_out else ()
    if num_layers > num_tokens and shape.num_layers != num_layers:
        other = f"if these are {num_layers:,} tokens in {num_tokens:,} layers"
        notes += (
            f"taken as [tokens, layers, top_k], with more layers than tokens: {other}, name it topk_ids_of_layer",
        )
    return build_recording(
        path,
        tokens,
        source="chosen experts (top-k ids)",
        layers=layers,
        tells_experts=False,
        is_complete=bool((tokens > 0).all()),
        notes=notes,
    )


def _check_choices(path: Path, name: str, array: Array, *, num_dims: set[int], dims: str) -> None:
    """Refuse an array of other dims than those of chosen experts, or of other numbers than ids."""
    if array.ndim not in num_dims or array.shape[-1] > _MAX_TOP_K:
        rule = f"have {name} {dims} with top_k of at most {_MAX_TOP_K}"
        raise refusal(path, rule, str(list(array.shape)), "Reshape it.")
    if not _is_whole(array) or array.min() < -1 or array.max() >= _MAX_ID:
        rule, value = f"have experts from 0 to {_MAX_ID - 1} in {name}, or -1 for none", "other numbers"
        raise refusal(path, rule, value, "Record the ids of the experts of each token.")


def _has_layers_first(name: str, array: Array, shape: Shape) -> bool:
    """Tell [steps, layers, tokens, top_k] from [steps, tokens, layers, top_k]."""
    first, second = int(array.shape[1]), int(array.shape[2])
    if canonical(name).endswith("oflayer"):
        return True
    if shape.num_layers in {first, second} and first != second:
        return first == shape.num_layers
    return second > _MAX_LAYERS >= first
