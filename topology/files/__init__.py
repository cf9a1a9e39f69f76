"""Clusters from files: one format per module, pure functions from text to graph and back.

- `graphml`: GraphML, both ways.
- `describe`: plain nodes and links (what a YAML file holds), both ways.
- `nccl_xml`: one node from the topology that NCCL dumps (`NCCL_TOPO_DUMP_FILE`).
- `topo_matrix`: one node from what `nvidia-smi topo -m` prints.
- `one_node`: what the last two have in common, and `repeat`: many such nodes, joined by rails.
- `check`: what every graph must have.

Nothing here reads a file: the text is handed in.
"""
