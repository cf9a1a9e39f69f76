"""NVIDIA's tuned recipes of Megatron-Bridge as scenarios.

Modules, in the order of use: `recipe` (what a recipe says), `tables` (the two tables and their blank cells),
`scenarios` (a recipe becomes a scenario). `bases.yaml` is what blank cells mean.
"""
