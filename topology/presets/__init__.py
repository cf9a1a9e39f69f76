"""Named hardware, every figure with its source.

- `devices`: accelerators, `DEVICES` and `get_device`.
- `clusters`: fabrics around them, `CLUSTERS` and `FABRICS`.
- `near`: which of these names another one was meant for.
"""
