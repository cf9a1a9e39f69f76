"""The measured profile of a device: the time of an operation of a shape.

Which points answer
-------------------
A profile has measured points by operation, format and kernel (which library or kernel was measured). The kernel that
a caller names answers; without one, a preferred kernel, and else the first of the operation and format. Where a
profile has no point of a format, `falls_back_to` of `FORMATS` names the format whose points answer; where it has none
of an operation, the `fallbacks` of `OPERATIONS` name operations, of which that with the least slowdown answers: the
slowdown against the roofline is that of the other one, the roofline its own.

A profile may borrow what it has not from another device with the same chip: again the slowdown, not the time.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.errors import InvalidValueError, did_you_mean
from topology.device import Device
from topology.profiles.formats import FORMATS
from topology.profiles.operation import Shape
from topology.profiles.operations import OPERATIONS, roofline_s
from topology.profiles.profile_csv import MeasuredRows
from topology.profiles.table import MeasuredTable

__all__ = ["DeviceProfile", "Estimate", "Slowdown"]

Floats = NDArray[np.float64]
_MOST_KNOWN = 1 << 16
"""Slowdowns of single shapes that are kept."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Estimate:
    """Times of shapes, and where they come from. Numbers where numbers were given, arrays [N] where arrays were."""

    time_s: Floats | float
    """Time of each shape."""
    extrapolated: NDArray[np.bool_] | bool
    """Whether a shape lies outside of what was measured."""
    operation: str
    """The operation whose measured points answered."""
    format: str
    """The format whose measured points answered."""
    kernel: str
    """The kernel whose measured points answered."""


@dataclass(frozen=True, slots=True, eq=False)
class Slowdown:
    """Times of shapes over their rooflines."""

    slowdown: Floats
    """Shape [N]."""
    extrapolated: NDArray[np.bool_]
    """Whether a shape lies outside of what was measured. Shape [N]."""
    operation: str
    """The operation whose measured points answered."""
    format: str
    """The format whose measured points answered."""
    kernel: str
    """The kernel whose measured points answered."""

    def or_less(self, other: "Slowdown") -> "Slowdown":
        """Return the lesser slowdown of each shape; names are those of the one that is less more often."""
        is_less = other.slowdown < self.slowdown
        slowdown = np.where(is_less, other.slowdown, self.slowdown)
        extrapolated = np.where(is_less, other.extrapolated, self.extrapolated)
        return replace(other if is_less.mean() > 1 / 2 else self, slowdown=slowdown, extrapolated=extrapolated)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """Measured rows, and the device that they were measured on."""

    rows: MeasuredRows
    device: Device


class DeviceProfile:
    """Measured kernels of one device."""

    def __init__(
        self,
        device: Device,
        rows: Iterable[MeasuredRows],
        *,
        borrowed: Iterable[tuple[Device, Iterable[MeasuredRows]]] = (),
        preferred: Sequence[str] = (),
    ) -> None:
        """Take the rows measured on `device`, and kernels that answer first.

        Operations and formats that are not among the rows are borrowed from other devices, in their order.
        """
        self.device = device
        self._preferred = tuple(preferred)
        self._sources: dict[tuple[str, str], dict[str, _Source]] = {}
        self._tables: dict[tuple[str, str, str], MeasuredTable] = {}
        self.curves: dict[Hashable, tuple[Floats, NDArray[np.bool_]] | None] = {}
        """Slowdowns over numbers of tokens that runs have looked up, for all runs of a process (`sim.plan`)."""
        self._known: dict[Hashable, Slowdown | None] = {}
        for owner, measured in ((device, rows), *borrowed):
            known = set(self._sources)
            for group in measured:
                key = (group.operation, group.format)
                if key not in known:
                    self._sources.setdefault(key, {})[group.kernel] = _Source(rows=group, device=owner)

    @property
    def num_rows(self) -> int:
        """Measured points."""
        return sum(len(rows.time_s) for rows in self.measured())

    def measured(self) -> Iterator[MeasuredRows]:
        """Yield all measured rows."""
        yield from (source.rows for kernels in self._sources.values() for source in kernels.values())

    def kernels(self, operation: str, fmt: str = "bf16") -> tuple[str, ...]:
        """Return the kernels with measured points of an operation and format; the default is the first."""
        known = tuple(self._sources.get((operation, fmt), ()))
        first = [name for name in self._preferred if name in known]
        return (*first, *(name for name in known if name not in first))

    def find(self, operation: str, fmt: str = "bf16", kernel: str | None = None) -> tuple[str, str, str] | None:
        """Return operation, format and kernel whose points answer for an operation; None where there are none.

        A kernel may be written in other letters, or be a part of the name: `TRTLLM` finds `trtllm`.
        """
        for kind in _formats(fmt):
            known = self.kernels(operation, kind)
            found = [k for k in known if kernel is None or kernel.lower() == k.lower()]
            found += [k for k in known if kernel is not None and kernel.lower() in k.lower()]
            if found:
                return operation, kind, found[0]
        others = (self.find(other.operation, fmt, kernel) for other in OPERATIONS[operation].fallbacks)
        return next((found for found in others if found is not None), None)

    def estimate(
        self, operation: str, fmt: str = "bf16", *, kernel: str | None = None, **shape: ArrayLike
    ) -> Estimate | None:
        """Return the time of an operation of a shape, numbers or arrays that broadcast; None where nothing answers.

        Raises
        ------
        InvalidValueError
            The operation or format is unknown, or a size is missing, unknown or no number above 0.
        """
        check_shape(operation, fmt, shape)
        complete = OPERATIONS[operation].complete(shape)
        answer = self.slowdown(operation, fmt, complete, kernel=kernel)
        if answer is None:
            return None
        time_s = answer.slowdown * roofline_s(operation, fmt, complete, self.device)
        is_number = all(np.ndim(size) == 0 for size in shape.values())
        return Estimate(
            time_s=float(time_s[0]) if is_number else time_s,
            extrapolated=bool(answer.extrapolated[0]) if is_number else answer.extrapolated,
            operation=answer.operation,
            format=answer.format,
            kernel=answer.kernel,
        )

    def slowdown(self, operation: str, fmt: str, shape: Shape, *, kernel: str | None = None) -> Slowdown | None:
        """Return the time of complete shapes [N] over the roofline, unchecked; None where nothing answers.

        What one shape takes is looked up once: the runs of a process ask for the same kernels.
        """
        if any(size.size != 1 for size in shape.values()):
            return self._slowdown(operation, fmt, shape, kernel)
        key = (operation, fmt, kernel, *((name, size.item()) for name, size in shape.items()))
        if key not in self._known:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[key] = self._slowdown(operation, fmt, shape, kernel)
        return self._known[key]

    # ---- private -------------------------------------------------------------------------------------------------

    def _slowdown(self, operation: str, fmt: str, shape: Shape, kernel: str | None) -> Slowdown | None:
        found = self.find(operation, fmt, kernel)
        if found is None:
            return None
        if found[0] == operation:
            slowdown, extrapolated = self._table(*found).slowdown(shape)
            return Slowdown(slowdown, extrapolated, *found)
        least: Slowdown | None = None
        for other in OPERATIONS[operation].fallbacks:
            answer = self.slowdown(other.operation, fmt, other.shape(shape), kernel=kernel)
            if answer is not None:
                answer = replace(answer, slowdown=other.slowdown_in(fmt) * answer.slowdown)
                least = answer if least is None else least.or_less(answer)
        return least

    def _table(self, operation: str, fmt: str, kernel: str) -> MeasuredTable:
        key = (operation, fmt, kernel)
        if key not in self._tables:
            source = self._sources[operation, fmt][kernel]
            self._tables[key] = MeasuredTable(operation, fmt, source.rows.shapes, source.rows.time_s, source.device)
        return self._tables[key]


def check_shape(operation: str, fmt: str, shape: dict[str, ArrayLike]) -> None:
    """Refuse an unknown operation, format or size, a missing size, and a size that is no number above 0."""
    if operation not in OPERATIONS:
        raise _refusal("operation", "be known", operation, did_you_mean(operation, OPERATIONS))
    if fmt not in FORMATS:
        raise _refusal("format", "be known", fmt, did_you_mean(fmt, FORMATS))
    known = OPERATIONS[operation]
    hint = f"{operation} has {', '.join(known.fields)}."
    for name, size in shape.items():
        if name not in known.fields:
            raise _refusal(name, f"be a size of {operation}", size, hint)
        sizes = np.asarray(size, dtype=np.float64)
        if not ((sizes > 0) | ((sizes == 0) & (name == "causal"))).all() or not np.isfinite(sizes).all():
            raise _refusal(name, "be finite and above 0", size, hint)
    for name in known.fields:
        if name not in shape and name not in known.optional:
            raise _refusal(name, "be given", "nothing", hint)


def _formats(fmt: str) -> Iterator[str]:
    """Yield a format and those that it falls back to."""
    following: str | None = fmt
    while following is not None:
        yield following
        following = FORMATS[following].falls_back_to


def _refusal(field: str, rule: str, value: object, hint: str) -> InvalidValueError:
    return InvalidValueError(field=field, subject="kernel", rule=rule, value=value, hint=hint)
