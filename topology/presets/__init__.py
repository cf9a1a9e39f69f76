"""Named hardware, every figure with its source.

- `devices`: accelerators, `DEVICES` and `get_device`.
- `clusters`: fabrics around them, `CLUSTERS` and `FABRICS`.
- `protocols`: what the algorithms of collectives cost on each technology.
- `technologies`: links inside nodes and between them, and what protocols reach on them.
- `fitted`: the constants of protocols that measurements gave.
- `nccl_tuner`: what NCCL expects of its algorithms within one node, by which it chooses.
- `near`: the preset that a misspelt name was meant for.
"""
