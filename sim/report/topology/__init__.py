"""The picture of a cluster: what is shown of it, where it stands, how links look."""
