"""The picture of a cluster: which nodes and switches are shown, where they stand, and how links look."""
