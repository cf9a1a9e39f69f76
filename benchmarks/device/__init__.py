"""Measure the kernels of a GPU, as a profile that moesim reads (docs/device_profiles.md).

- `benchmarks/device/measure.py`: the command.
- `benchmarks/device/kernels.py`: what each operation runs, in PyTorch.
- `benchmarks/device/shapes.py`: which shapes are measured.
"""
