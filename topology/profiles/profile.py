"""The measured profile of a device: the time of an operation of a shape.

Which points answer
-------------------
A profile has measured points by operation, format and kernel (which library or kernel was measured). The kernel that is
asked for answers; without one, a preferred kernel, and else the first of the operation and format. Where a profile has
no point of an operation or format, `falls_back_to` of `OPERATIONS` and `FORMATS` names the one whose points answer: the
slowdown against the roofline is that of the other one, the roofline its own.

A profile may borrow what it has not from another device with the same chip: again the slowdown, not the time.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.errors import InvalidValueError, did_you_mean
from topology.device import Device
from topology.profiles.operations import FORMATS, OPERATIONS, Format, Operation, roofline_s
from topology.profiles.profile_csv import MeasuredRows
from topology.profiles.table import MeasuredTable

__all__ = ["DeviceProfile", "Estimate"]

Floats = NDArray[np.float64]


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
        """Take the rows measured on `device`, those of others with the same chip, and kernels that answer first."""
        self.device = device
        self._preferred = tuple(preferred)
        self._sources: dict[tuple[str, str], dict[str, _Source]] = {}
        self._tables: dict[tuple[str, str, str], MeasuredTable] = {}
        for owner, measured in ((device, rows), *borrowed):
            for group in measured:
                kernels = self._sources.setdefault((group.operation, group.format), {})
                kernels.setdefault(group.kernel, _Source(rows=group, device=owner))

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
        for name in _chain(operation, OPERATIONS):
            for kind in _chain(fmt, FORMATS):
                known = self.kernels(name, kind)
                found = [k for k in known if kernel is None or kernel.lower() == k.lower()]
                found += [k for k in known if kernel is not None and kernel.lower() in k.lower()]
                if found:
                    return name, kind, found[0]
        return None

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
        found = self.find(operation, fmt, kernel)
        if found is None:
            return None
        complete = OPERATIONS[operation].complete(shape)
        slowdown, extrapolated = self._table(*found).slowdown(complete)
        if found[0] != operation:
            slowdown = slowdown * OPERATIONS[operation].fallback_slowdown
        time_s = slowdown * roofline_s(operation, fmt, complete, self.device)
        is_number = all(np.ndim(size) == 0 for size in shape.values())
        return Estimate(
            time_s=float(time_s[0]) if is_number else time_s,
            extrapolated=bool(extrapolated[0]) if is_number else extrapolated,
            operation=found[0],
            format=found[1],
            kernel=found[2],
        )

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


def _chain(name: str, table: Mapping[str, Operation] | Mapping[str, Format]) -> Iterator[str]:
    """Yield a name and those that it falls back to."""
    following: str | None = name
    while following is not None:
        yield following
        following = table[following].falls_back_to


def _refusal(field: str, rule: str, value: object, hint: str) -> InvalidValueError:
    return InvalidValueError(field=field, subject="kernel", rule=rule, value=value, hint=hint)
