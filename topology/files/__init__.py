"""Clusters from files: one format per module, pure functions from text to graph and back.

- `graphml`: GraphML, both ways.
- `nccl_xml`: one node from the topology that NCCL dumps (`NCCL_TOPO_DUMP_FILE`).
- `topo_matrix`: one node from what `nvidia-smi topo -m` prints.
- `one_node`: what those two make, and many of them joined by rails; `generations`: figures they do not hold.

Nothing here reads a file: the text is handed in. YAML is read by `sim.scenario.cluster_file`.
"""
