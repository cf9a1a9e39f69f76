"""Held-out errors of the measured kernels: how well a profile says the time of a shape that it has not seen.

Model
-----
Each table of the bundled profiles (operation, format and kernel of a device) is split into quarters by groups of
shapes: a GEMM of one weight at all numbers of tokens is one group, so that no neighbour of a left-out point in its
series is left in. Each quarter is predicted from the three others ("left out"), and from the whole table ("fitted").
The errors of all devices together are summarised by operation and format, and compared with a limit of each class of
operations.
"""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sim.studies.figures import Figure
from topology.presets.devices import DEVICES
from topology.profiles.bundled import MEASURED_ON, measured_rows
from topology.profiles.operations import OPERATIONS, roofline_s
from topology.profiles.profile_csv import MeasuredRows
from topology.profiles.table import MeasuredTable

Errors = NDArray[np.float64]

__all__ = ["LIMITS", "SUITE", "KernelErrors", "judge_kernels"]

SUITE: Final = "kernels"
"""Name of the suite in `moesim validate`."""

NUM_PARTS: Final = 4
"""Parts into which the groups of a table are split, each left out once."""
_FEWEST_POINTS: Final = 8
"""Points from which others are predicted, at least."""
_FEWEST_GROUPS: Final = 3
"""Groups of a table that is split, at least: one width alone says nothing about the slope to another."""

_GEMM: Final = ("gemm", "gemm_input_gradient", "gemm_weight_gradient")
_ATTENTION: Final = ("attention_forward", "attention_backward", "attention_decode", "mla_prefill", "mla_decode")
_EXPERTS: Final = ("grouped_gemm", "grouped_gemm_input_gradient", "grouped_gemm_weight_gradient", "fused_moe")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How large the errors of a class of operations may be on shapes that were left out."""

    operations: tuple[str, ...]
    """Operations of the class."""
    is_bf16: bool | None
    """Whether the class is of bf16, or of all other formats; None: of all."""
    median_pct: float
    """Largest median of the absolute error."""
    p90_pct: float
    """Largest 90th percentile."""

    def covers(self, operation: str, fmt: str) -> bool:
        """Return whether an operation in a format belongs to the class."""
        return operation in self.operations and self.is_bf16 in {None, fmt == "bf16"}


LIMITS: Final[Mapping[str, Limit]] = {
    "GEMM, bf16": Limit(operations=_GEMM, is_bf16=True, median_pct=8, p90_pct=25),
    "GEMM, quantised": Limit(operations=_GEMM, is_bf16=False, median_pct=15, p90_pct=35),
    "attention": Limit(operations=_ATTENTION, is_bf16=None, median_pct=6, p90_pct=18),
    "experts": Limit(operations=_EXPERTS, is_bf16=None, median_pct=12, p90_pct=50),
    "memory-bound": Limit(
        operations=tuple(name for name in OPERATIONS if name not in (*_GEMM, *_ATTENTION, *_EXPERTS)),
        is_bf16=None,
        median_pct=8,
        p90_pct=25,
    ),
}
"""Classes of operations, with the limits that the project set itself."""


@dataclass(frozen=True, kw_only=True, eq=False)
class KernelErrors:
    """Errors of all bundled tables."""

    left_out: dict[tuple[str, str], Errors]
    """Operation and format -> errors of points that were left out [%]."""
    fitted: dict[tuple[str, str], Errors]
    """Operation and format -> errors of the same points, predicted from the whole table [%]."""
    not_split: tuple[str, ...]
    """Tables with too few groups to leave one out."""

    @cached_property
    def figures(self) -> list[Figure]:
        """The median and the 90th percentile of each class, as figures that are at most their limit."""
        return [figure for name, limit in LIMITS.items() for figure in self._figures(name, limit)]

    def to_dict(self) -> dict[str, Any]:
        """Return the suite's entry of the contract's JSON object."""
        systems = {f"{key[0]}, {key[1]}": _summary(*key, errors) for key, errors in self.left_out.items()}
        fitted = {f"{key[0]}, {key[1]}": _summary(*key, errors) for key, errors in self.fitted.items()}
        everything = np.concatenate(list(self.left_out.values()))
        return {
            "title": "measured kernels, predicted from tables without them",
            **_percentiles(everything),
            "num_rows": len(everything),
            "num_within": sum(summary["num_within"] for summary in systems.values()),
            "num_fitted_constants": sum(len(operation.coordinates) for operation in OPERATIONS.values()),
            "systems": systems,
            "left_out": {name: {**summary, "fitted": fitted[name]} for name, summary in systems.items()},
            "not_split": list(self.not_split),
            "skipped": [],
        }

    def _figures(self, name: str, limit: Limit) -> Iterator[Figure]:
        errors = np.concatenate([e for key, e in self.left_out.items() if limit.covers(*key)])
        summary = _percentiles(errors)
        for metric, at_most in (("median_pct", limit.median_pct), ("p90_pct", limit.p90_pct)):
            yield Figure(
                suite=SUITE,
                case=name,
                system=name,
                metric=metric,
                unit="%",
                published=at_most,
                at_most=True,
                modelled=summary[metric],
                source="limits of the project, over shapes that were left out",
                tolerance_pct=0.0,
                changes={},
                apart=None,
                note=f"{len(errors)} shapes",
                problem=None,
            )


def judge_kernels() -> KernelErrors:
    """Predict every quarter of every bundled table from the other three, and from the whole table."""
    left_out: dict[tuple[str, str], list[Errors]] = {}
    fitted: dict[tuple[str, str], list[Errors]] = {}
    not_split = []
    for name, device in MEASURED_ON.items():
        for rows in measured_rows(name):
            parts = _parts(rows)
            if not parts:
                not_split.append(f"{rows.operation}, {rows.format}, {rows.kernel} on {device}")
            for part in parts:
                everything = np.ones(len(part), dtype=bool)
                key = (rows.operation, rows.format)
                left_out.setdefault(key, []).append(_errors_pct(rows, device, known=~part, wanted=part))
                fitted.setdefault(key, []).append(_errors_pct(rows, device, known=everything, wanted=part))
    order = sorted(left_out, key=lambda key: (list(OPERATIONS).index(key[0]), key[1] != "bf16", key[1]))
    return KernelErrors(
        left_out={key: np.concatenate(left_out[key]) for key in order},
        fitted={key: np.concatenate(fitted[key]) for key in order},
        not_split=tuple(not_split),
    )


# ---- private -----------------------------------------------------------------------------------------------------


def _parts(rows: MeasuredRows) -> list[NDArray[np.bool_]]:
    """Return the points of each part of a table; a group of shapes is in one part."""
    fields = OPERATIONS[rows.operation].group
    groups = np.stack([rows.shapes[field] for field in fields], axis=-1).tolist()
    if len({tuple(group) for group in groups}) < _FEWEST_GROUPS:
        return []
    number = np.array([zlib.crc32(repr(group).encode()) % NUM_PARTS for group in groups])
    parts = [number == i for i in range(NUM_PARTS)]
    return [part for part in parts if part.any() and (~part).sum() >= _FEWEST_POINTS]


def _errors_pct(rows: MeasuredRows, device: str, *, known: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> Errors:
    """Return the absolute errors of the wanted points of a table, predicted from the known ones [%]."""
    table = MeasuredTable(rows.operation, rows.format, _chosen(rows, known), rows.time_s[known], DEVICES[device])
    shape = _chosen(rows, wanted)
    slowdown, _ = table.slowdown(shape)
    modelled_s = slowdown * roofline_s(rows.operation, rows.format, shape, DEVICES[device])
    return np.asarray(100 * np.abs(modelled_s / rows.time_s[wanted] - 1))


def _chosen(rows: MeasuredRows, which: NDArray[np.bool_]) -> dict[str, NDArray[np.float64]]:
    return {name: sizes[which] for name, sizes in rows.shapes.items()}


def _percentiles(errors: Errors) -> dict[str, float]:
    return {f"{name}_pct": float(np.percentile(errors, q)) for name, q in (("median", 50), ("p90", 90), ("worst", 100))}


def _summary(operation: str, fmt: str, errors: Errors) -> dict[str, Any]:
    """Return the errors of an operation in a format; within are those below the 90th percentile of its class."""
    limit = next(limit for limit in LIMITS.values() if limit.covers(operation, fmt))
    within = int((errors <= limit.p90_pct).sum())
    return {**_percentiles(errors), "num_rows": len(errors), "num_within": within}
