"""Profiles that the package brings along, read when they are first used.

The files in `data/` restate public measurements; each names its sources and their licences in its first lines.
"""

from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Final

from numpy.typing import ArrayLike

from sim.errors import InvalidValueError, did_you_mean
from topology.device import Device
from topology.presets.devices import DEVICES, get_device
from topology.profiles.formats import FORMATS
from topology.profiles.profile import DeviceProfile, Estimate
from topology.profiles.profile_csv import MeasuredRows, parse_profile

__all__ = ["CLOCKS", "FORMAT_ALIASES", "MEASURED_ON", "PROFILES", "bundled_profile", "kernel_time", "measured_rows"]

MEASURED_ON: Final = {
    "a100_sxm": "a100-sxm-80gb",
    "a100_pcie": "a100-pcie-80gb",
    "h100_sxm": "h100-sxm",
    "h200_sxm": "h200-sxm",
    "h800_sxm": "h800-sxm",
    "h20_sxm": "h20-sxm",
    "b200_sxm": "b200-sxm",
    "rtx_pro_6000": "rtx-pro-6000",
}
"""File in `data/`, without suffix -> the device that it was measured on."""

PROFILES: Final = {
    "a100-sxm-80gb": ("a100_sxm", "a100_pcie"),
    "a100-sxm-40gb": ("a100_sxm", "a100_pcie"),
    "a100-pcie-80gb": ("a100_pcie", "a100_sxm"),
    "a100-pcie-40gb": ("a100_pcie", "a100_sxm"),
    "h100-sxm": ("h100_sxm", "h800_sxm"),
    "h200-sxm": ("h200_sxm", "h100_sxm", "h800_sxm"),
    "h800-sxm": ("h800_sxm", "h100_sxm"),
    "h20-sxm": ("h20_sxm",),
    "b200-sxm": ("b200_sxm",),
    "rtx-pro-6000": ("rtx_pro_6000",),
    "rtx-4090": ("rtx_pro_6000",),
}
"""Device -> its files: its own one first, then those of devices with the same chip, from which it borrows.

The RTX 4090 was not measured, and borrows from the next generation's card with the same kind of memory: its kernels are
as slow, over the roofline of the 4090, as those of the RTX PRO 6000.
"""

CLOCKS: Final = {"a100-pcie-80gb": 252.9 / 271.2, "a100-pcie-40gb": 252.9 / 271.2}
"""Clock under load of a device over that of its chip at full power, by the largest products of each (mamf)."""

FORMAT_ALIASES: Final = {"bfloat16": "bf16", "float16": "bf16", "fp16": "bf16", "sq": "int8"}
"""Other names of formats, as tables and frameworks write them."""


@cache
def bundled_profile(device: Device, preferred: tuple[str, ...] = ()) -> DeviceProfile | None:
    """Return the bundled profile of a device; None where there is none, or where the device has constants of its own.

    Another peak or bandwidth moves the roofline, over which kernels are as slow as on the device as sold.

    >>> from dataclasses import replace
    >>> h100 = get_device("h100-sxm")
    >>> bundled_profile(h100).num_rows > 1000
    True
    >>> bundled_profile(replace(h100, gemm_efficiency=0.5)) is None  # whoever states an efficiency means it
    True
    """
    if device.name not in PROFILES or _fitted(device) != _fitted(DEVICES[device.name]):
        return None
    measured = [(_under_load(DEVICES[MEASURED_ON[name]]), measured_rows(name)) for name in PROFILES[device.name]]
    return DeviceProfile(_under_load(device), [], borrowed=measured, preferred=preferred)


def kernel_time(
    device: str, operation: str, dtype: str = "bf16", *, kernel: str | None = None, **shape: ArrayLike
) -> Estimate:
    """Return the measured time of an operation of a shape on a device; between measured shapes, the interpolated time.

    Parameters
    ----------
    device
        A device with a bundled profile (`PROFILES`), in large or small letters.
    operation
        A name of `topology.profiles.operations.OPERATIONS`.
    dtype
        A name of `FORMATS` or `FORMAT_ALIASES`.
    kernel
        The library or kernel that was measured; without it, the first one of the profile.
    shape
        The sizes that the operation has; numbers, or arrays that broadcast.

    Raises
    ------
    InvalidValueError
        There is no such device, operation, format, kernel or size, or nothing was measured.

    Examples
    --------
    >>> kernel_time("h100-sxm", "gemm", "bf16", m=4096, n=8192, k=8192).extrapolated
    False
    """
    profile = bundled_profile(get_device(device.lower()))
    if profile is None:
        raise _refusal("device", "have a bundled profile", device, f"These have one: {', '.join(PROFILES)}.")
    fmt = FORMAT_ALIASES.get(dtype, dtype)
    estimate = profile.estimate(operation, fmt, kernel=kernel, **shape)
    if estimate is not None:
        return estimate
    kernels = profile.kernels(operation, fmt)
    if kernels:
        raise _refusal("kernel", "be measured", kernel, did_you_mean(str(kernel), kernels))
    formats = [name for name in FORMATS if profile.find(operation, name)]
    measured = f"Formats that were: {', '.join(formats) or 'none'}."
    raise _refusal("dtype", f"be measured for {operation} on {device}", dtype, measured)


@cache
def measured_rows(name: str) -> list[MeasuredRows]:
    """Return the rows of a bundled file, a key of `MEASURED_ON`."""
    file = files("topology.profiles").joinpath("data", f"{name}.csv")
    return parse_profile(file.read_text(encoding="utf-8"), f"{name}.csv")


# ---- private -----------------------------------------------------------------------------------------------------


def _under_load(device: Device) -> Device:
    """Return a device with the peak that its power allows, so that devices with another power borrow from it."""
    return replace(device, peak_bf16_flops_per_s=device.peak_bf16_flops_per_s * CLOCKS.get(device.name, 1.0))


def _fitted(device: Device) -> tuple[object, ...]:
    """Return the constants of a device by which its closed form was fitted to measured kernels."""
    return (
        device.num_sms,
        device.gemm_efficiency,
        device.fp8_efficiency_ratio,
        device.memory_efficiency,
        device.attention_efficiency,
        device.attention_backward_efficiency,
        device.kernel_overhead_s,
        device.tile_overhead_s,
    )


def _refusal(field: str, rule: str, value: object, hint: str) -> InvalidValueError:
    return InvalidValueError(field=field, subject="kernel", rule=rule, value=value, hint=hint)
