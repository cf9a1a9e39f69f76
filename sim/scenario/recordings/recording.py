"""The value of a recording: tokens by step, layer and expert, with the numbers that the file gives to steps and layers.

Model
-----
Layers and steps keep the numbers of the file, which need not begin at 0: the first layer with experts of DeepSeek-V3 is
layer 3. Layers without any token are dense layers, and steps without any token are empty buffers: both are left out.
An expert without tokens is idle. Where a file lists only the experts that have tokens, the number of experts is larger
than the largest expert of the file, by a number that the file does not tell: `with_experts` takes the model's number,
else the next power of two is assumed.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError

__all__ = ["MAX_COUNTS", "Recording", "build_recording", "refusal", "span_of"]

MAX_COUNTS: Final = 1 << 25
"""A recording has no more counts, so that numbers of layers and experts cannot ask for all memory."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recording:
    """The recorded tokens of each expert."""

    tokens: FloatArray
    """Token copies, or shares of them where the file has fractions. Shape [steps, layers, experts]."""
    layers: tuple[int, ...]
    """Number of each layer in the file, ascending."""
    steps: tuple[int, ...]
    """Number of each step (a forward pass or a microbatch) in the file, ascending."""
    source: str
    """What the file was taken for, as a phrase."""
    tells_experts: bool = True
    """Whether the file tells the number of experts; otherwise experts without tokens may follow the last expert."""
    assumes_experts: bool = False
    """Whether the number of experts was assumed."""
    notes: tuple[str, ...] = ()
    """What else was taken how, as phrases."""

    @property
    def described(self) -> str:
        """What was taken for what, as a phrase that follows "read as"."""
        num_layers, num_experts, num_steps = len(self.layers), self.tokens.shape[2], len(self.steps)
        experts = f"{num_experts:,} experts"
        if self.assumes_experts:
            largest = int(np.flatnonzero(self.tokens.any(axis=(0, 1)))[-1])
            experts += f" (assumed: the largest in the file is {largest}, and it lists only experts with tokens)"
        layers = f"{_count(num_layers, 'layer')} ({span_of(self.layers)})"
        steps = f"{_count(num_steps, 'step')}{f' ({span_of(self.steps)})' if self.steps[0] else ''}"
        return "; ".join([f"{self.source}: {layers}, {experts}, {steps}", *self.notes])

    def with_experts(self, num_experts: int) -> "Recording":
        """Return the recording with more experts, which are idle, where the file does not tell their number.

        The recording stays as it is where it tells another number of experts, where it has tokens of an expert beyond
        that number, and where that number is twice as many as it has experts, most of them with tokens: the recording
        is of another model.
        """
        experts = np.flatnonzero(self.tokens.any(axis=(0, 1)))
        used = int(experts[-1]) + 1
        is_of_another = num_experts >= 2 * used and 2 * experts.size > used
        if self.tells_experts or used > num_experts or is_of_another:
            return self
        tokens = np.zeros((*self.tokens.shape[:2], num_experts))
        tokens[..., :used] = self.tokens[..., :used]
        idle = f"experts {used} to {num_experts - 1}" if num_experts > used + 1 else f"expert {used}"
        notes = (f"{idle} {'have' if num_experts > used + 1 else 'has'} no rows: idle",) if num_experts > used else ()
        return replace(self, tokens=tokens, assumes_experts=False, notes=(*self.notes, *notes))


def build_recording(
    path: Path,
    tokens: FloatArray,
    *,
    source: str,
    layers: tuple[int, ...] | None = None,
    steps: tuple[int, ...] | None = None,
    tells_experts: bool = True,
    is_complete: bool = True,
    notes: tuple[str, ...] = (),
) -> Recording:
    """Return the recording of tokens [steps, layers, experts], without dense layers and empty steps.

    `is_complete` says whether every expert up to the last one has a row in every layer and step: then that number of
    experts is taken without the remark that it is assumed.

    Raises
    ------
    InvalidValueError
        Tokens are negative or not finite, there are none, or a layer of a step has none.
    """
    if tokens.size == 0 or not np.isfinite(tokens).all() or (tokens < 0).any():
        raise refusal(path, "have finite tokens of at least 0", "others, or none", "Correct them.")
    has_tokens = tokens.sum(axis=2) > 0
    used_layers, used_steps = has_tokens.any(axis=0), has_tokens.any(axis=1)
    if not used_steps.any():
        raise refusal(path, "have tokens", "only zeros", "Record while the model serves requests.")
    numbers_of_layers = np.arange(tokens.shape[1]) if layers is None else np.array(layers)
    numbers_of_steps = np.arange(tokens.shape[0]) if steps is None else np.array(steps)
    layers, steps = tuple(numbers_of_layers[used_layers].tolist()), tuple(numbers_of_steps[used_steps].tolist())
    empty = np.argwhere(~has_tokens[np.ix_(used_steps, used_layers)])
    if empty.size:
        step, layer = empty[0].tolist()
        value = f"none in layer {layers[layer]} of step {steps[step]}"
        raise refusal(path, "have tokens in every layer of every step", value, "Leave that step or layer out.")
    num_dense, num_empty = int((~used_layers).sum()), int((~used_steps).sum())
    notes += (f"{_count(num_dense, 'layer')} without tokens left out",) if num_dense else ()
    notes += (f"{_count(num_empty, 'step')} without tokens left out",) if num_empty else ()
    recording = Recording(
        tokens=np.asarray(tokens[np.ix_(used_steps, used_layers)], dtype=float),
        layers=layers,
        steps=steps,
        source=source if (tokens == np.floor(tokens)).all() else "shares, not counts",
        tells_experts=tells_experts,
        notes=notes,
    )
    if tells_experts or is_complete:
        return recording
    power_of_two = max(2, 1 << (tokens.shape[2] - 1).bit_length())
    if power_of_two == tokens.shape[2]:
        return recording
    assumed = np.zeros((*recording.tokens.shape[:2], power_of_two))
    assumed[..., : tokens.shape[2]] = recording.tokens
    return replace(recording, tokens=assumed, assumes_experts=True)


def refusal(path: Path, rule: str, value: object, hint: str) -> InvalidValueError:
    """Return the error of a file that is no recording."""
    return InvalidValueError(file=str(path), field="the file", rule=rule, value=value, hint=hint)


def span_of(numbers: tuple[int, ...]) -> str:
    """Return numbers as a range, with a word where the range has gaps.

    >>> span_of((3, 4, 5)), span_of((3, 7)), span_of((3,))
    ('3 to 5', '3 to 7, with gaps', '3')
    """
    if len(numbers) == 1:
        return str(numbers[0])
    gaps = "" if numbers[-1] - numbers[0] == len(numbers) - 1 else ", with gaps"
    return f"{numbers[0]} to {numbers[-1]}{gaps}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
