"""Measured kernels of devices: the time of an operation from its shape, between the shapes that were measured.

`kernel_time` answers for a device of a bundled profile::

    from topology.profiles import kernel_time
    kernel_time("h100-sxm", "gemm", "bf16", m=4096, n=8192, k=8192).time_s

Contents
--------
- `topology.profiles.bundled`: the bundled profiles, `kernel_time`.
- `topology.profiles.profile`: a profile, which operation, format and kernel answers.
- `topology.profiles.operations`: operations, their shapes, FLOPs, bytes and coordinates; the roofline; `operation`:
  what an operation is; `formats`: number types.
- `topology.profiles.table`: the interpolation.
- `topology.profiles.profile_csv`: a profile as a CSV file.
- `topology.profiles.busiest_rank`: the load of the busiest rank, as tables of fused experts draw it.
"""

from topology.profiles.bundled import PROFILES, bundled_profile, kernel_time
from topology.profiles.busiest_rank import RankLoad, busiest_rank
from topology.profiles.formats import FORMATS
from topology.profiles.operations import OPERATIONS
from topology.profiles.profile import DeviceProfile, Estimate
from topology.profiles.profile_csv import parse_profile

__all__ = [
    "FORMATS",
    "OPERATIONS",
    "PROFILES",
    "DeviceProfile",
    "Estimate",
    "RankLoad",
    "bundled_profile",
    "busiest_rank",
    "kernel_time",
    "parse_profile",
]
