"""Fit the four GEMM constants of a device to measured kernel times, and print them with their errors.

    python benchmarks/fit_device.py PROFILE.csv

PROFILE.csv has the columns gpu, M_tokens, K, N, median_ms; lines that open with `#` are skipped. Times are fp16 linears
with their launch. Needs moesim on the path (installed, or `PYTHONPATH=.`).

The loss is the mean of |log(modelled / measured)| and half of its square: a robust median with some weight on the
worst rows. Every row weighs the same. The fit is repeated on each half of the (K, N) shapes and judged on the other.
"""

import csv
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from topology.device import Device
from topology.presets.devices import DEVICES

FITTED = ("gemm_efficiency", "memory_efficiency", "kernel_overhead_s", "tile_overhead_s")
PRESETS = {"a100": "a100-sxm-80gb", "h100": "h100-sxm"}
START = (0.8, 0.9, 4e-6, 1e-6)
SMALL_M = 512
LOG_ERROR_FLOOR = 0.02  # below 2 % errors weigh as their square: measured times are rounded

Rows = NDArray[np.float64]
"""Rows [R, 4]: m, n, k, measured_s."""


def load_rows(path: Path) -> dict[str, Rows]:
    """Read the profile and return its rows per GPU."""
    with path.open(newline="", encoding="utf-8") as file:
        records = list(csv.DictReader(line for line in file if not line.startswith("#")))
    return {
        gpu: np.array(
            [
                [float(r["M_tokens"]), float(r["N"]), float(r["K"]), float(r["median_ms"]) * 1e-3]
                for r in records
                if r["gpu"] == gpu
            ]
        )
        for gpu in sorted({r["gpu"] for r in records})
    }


def log_errors(device: Device, rows: Rows) -> NDArray[np.float64]:
    """Return log(modelled / measured) [R]."""
    m, n, k, measured_s = rows.T
    return np.log(device.gemm_time_s(m, n, k, dtype="fp16") / measured_s)


def fit(device: Device, rows: Rows) -> Device:
    """Return `device` with its four GEMM constants fitted to `rows`."""
    from scipy.optimize import minimize  # noqa: PLC0415 - slow to import, and tests import this script

    def candidate(exponents: NDArray[np.float64]) -> Device:
        values = dict(zip(FITTED, np.array(START) * np.exp(exponents), strict=True))
        return replace(device, **{f: min(v, 1.0) if f.endswith("efficiency") else v for f, v in values.items()})

    def loss(exponents: NDArray[np.float64]) -> float:
        errors = log_errors(candidate(exponents), rows)
        robust = np.sqrt(errors**2 + LOG_ERROR_FLOOR**2) - LOG_ERROR_FLOOR
        return float(np.mean(robust + errors**2 / 2))

    options = {"maxiter": 2000, "xatol": 1e-4, "fatol": 1e-8}
    starts = np.random.default_rng(0).normal(0.0, 0.1, (4, len(FITTED)))
    results = [minimize(loss, start, method="Nelder-Mead", options=options) for start in starts]
    return candidate(min(results, key=lambda result: result.fun).x)


def cross_errors(device: Device, rows: Rows) -> NDArray[np.float64]:
    """Return the log errors of each half of the (K, N) shapes under the fit to the other half."""
    shapes, index = np.unique(rows[:, 1:3], axis=0, return_inverse=True)
    half = np.random.default_rng(0).permutation(len(shapes))[index.ravel()] % 2 == 0
    return np.concatenate([log_errors(fit(device, rows[~part]), rows[part]) for part in (half, ~half)])


def summary(errors: NDArray[np.float64]) -> str:
    """Return median, 90th percentile and worst |error| in percent."""
    percent = 100 * np.abs(np.expm1(errors))
    if percent.size == 0:
        return "no rows"
    return f"median {np.median(percent):4.1f}  p90 {np.quantile(percent, 0.9):4.1f}  worst {percent.max():4.1f}"


def main() -> None:
    """Fit each device of the profile; print constants, errors of the fit, and errors of the preset as it stands."""
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/fit_device.py PROFILE.csv")
    for gpu, rows in load_rows(Path(sys.argv[1])).items():
        preset = DEVICES[PRESETS[gpu]]
        fitted = fit(preset, rows)
        small = rows[:, 0] < SMALL_M
        print(f"{preset.name}: {len(rows)} rows")
        for field in FITTED:
            value = getattr(fitted, field)
            digits = 3 - math.ceil(math.log10(value))
            print(f"  {field:22} {round(value, digits):<10.3g} preset {getattr(preset, field):.3g}")
        for title, errors in (("fit", log_errors(fitted, rows)), ("preset", log_errors(preset, rows))):
            print(f"  {title:7} all      {summary(errors)}")
            print(f"  {title:7} M >= {SMALL_M} {summary(errors[~small])}")
            print(f"  {title:7} M <  {SMALL_M} {summary(errors[small])}")
        print(f"  half of the shapes from the other half: {summary(cross_errors(preset, rows))}")


if __name__ == "__main__":
    main()
