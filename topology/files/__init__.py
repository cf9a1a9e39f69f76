"""Clusters from files: one format per module, pure functions from text to graph and back.

- `graphml`: GraphML, both ways.
- `nccl_xml`: one node from the topology that NCCL or RCCL dumps (`NCCL_TOPO_DUMP_FILE`); `nccl_elements`,
  `nccl_links`: its elements and its links.
- `topo_matrix`: one node from what `nvidia-smi topo -m` prints; `rocm_smi`: from what `rocm-smi --showtopo` prints.
- `one_node`: the node that these three make, and many such nodes joined by rails; `nics`: which NICs are in use.
- `generations`: figures that the texts do not hold; `device_checks`: contradictions of a text and a named device.

Nothing here reads a file: the text is handed in. YAML is read by `sim.scenario.cluster_file`.
"""
