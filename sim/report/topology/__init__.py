"""The picture of a cluster: which nodes and switches are shown, where they stand, and how links look.

Contents
--------
- `sim.report.topology.picture`: the picture.
- `sim.report.topology.groups`: which nodes and switches are shown; `layout`: where they stand; `links`: how links look.
"""
