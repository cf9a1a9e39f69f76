"""Where the simulations of a study run: processes of this machine, a Dask cluster, or a Ray cluster.

Contents
--------
- `sim.studies.executors.chunk`: a few points that are simulated together, the unit of work of every executor.
- `sim.studies.executors.executor`: what every executor does.
- `sim.studies.executors.local`, `dask_cluster`, `ray_cluster`: the executors.
- `sim.studies.executors.choose`: the executor that `--cluster` and `--jobs` name.
"""
