"""The measured kernels that a scenario's device is priced by: a file of the scenario, the bundled profile, or none."""

from typing import Final

from sim.scenario.file_bytes import read_input_text
from sim.scenario.scenario import Scenario
from topology.device import Device
from topology.profiles import PROFILES, DeviceProfile, bundled_profile, parse_profile
from topology.profiles.profile_csv import MAX_PROFILE_BYTES

__all__ = ["CLOSED_FORM", "profile_of", "why_profile"]

CLOSED_FORM: Final = "none"
"""Value of the key `profile` under which the closed form of the device prices all kernels."""

_SERVING_KERNELS: Final = ("pytorch",)
"""Kernels that answer first in forward passes: products as PyTorch calls them, which frameworks build on."""
_TRAINING_KERNELS: Final = ("te", *_SERVING_KERNELS)
"""Kernels that answer first in training: Transformer Engine's before PyTorch's."""
_BF16_GRADIENTS: Final = "te_bf16_grad"
"""Transformer Engine's gradients of weights where the sum of the microbatches is in 2 bytes and not in fp32."""


def profile_of(scenario: Scenario, device: Device) -> DeviceProfile | None:
    """Return the measured kernels of a scenario's device; None where the closed form prices all kernels.

    Raises
    ------
    InvalidValueError
        The scenario names a file that is no profile.
    """
    file, workload = scenario.spec.profile, scenario.spec.workload
    if file is None:
        kernels = _TRAINING_KERNELS if workload.trains else _SERVING_KERNELS
        has_small_sums = workload.precision.gradient_bytes == 2
        return bundled_profile(device, (_BF16_GRADIENTS, *kernels) if has_small_sums else kernels)
    if file == CLOSED_FORM:
        return None
    path = scenario.file_beside("profile", file)
    hint = "Write a CSV file of measured kernels (docs/device_profiles.md)."
    text = read_input_text(path, MAX_PROFILE_BYTES, field="profile", hint=hint, too_large="Thin the rows out.")
    return DeviceProfile(device, parse_profile(text, str(path)))


def why_profile(profile: DeviceProfile | None, device: Device) -> tuple[str, str]:
    """Return what a scenario without the key `profile` is priced by, and why."""
    if profile is not None:
        return f"{profile.num_rows:,} measured kernels", f"the bundled profile of {device.name} prices kernels"
    if device.name in PROFILES:
        return CLOSED_FORM, f"cluster.device has constants of its own for the closed form of {device.name}"
    return CLOSED_FORM, f"there is no bundled profile of {device.name}: its closed form prices kernels"
