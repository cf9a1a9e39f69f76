"""The executor that `--cluster` and `--jobs` name."""

from sim.errors import InvalidValueError
from sim.studies.executors.executor import Executor
from sim.studies.executors.local import LocalProcesses

__all__ = ["choose_executor"]


def choose_executor(cluster: str | None, jobs: int) -> Executor:
    """Return processes of this machine, or the cluster that an argument names.

    Raises
    ------
    InvalidValueError
        There is no such kind of cluster, it cannot be reached, or its workers have another program.
    """
    if cluster is None:
        return LocalProcesses(jobs)
    kind, _, address = cluster.partition("://")
    if kind == "dask" and address:
        from sim.studies.executors.dask_cluster import DaskCluster  # noqa: PLC0415  # optional, and slow to import

        return DaskCluster(address)
    if cluster == "ray":
        from sim.studies.executors.ray_cluster import RayCluster  # noqa: PLC0415  # optional, and slow to import

        return RayCluster()
    hint = "Write dask://HOST:PORT of a scheduler, or ray for the Ray cluster of this machine or of RAY_ADDRESS."
    raise InvalidValueError("--cluster", "be a Dask or Ray cluster", cluster, hint)
