"""The host of a lane: it issues kernels and collectives one after another, ahead of the lane if it can."""

__all__ = ["Host"]


class Host:
    """When the host of a lane has done all that it was given.

    >>> host = Host()
    >>> host.work(5), host.work(5), host.work(5, not_before_ns=100)
    (5, 10, 105)
    """

    def __init__(self) -> None:
        self._free_ns = 0

    def work(self, work_ns: int, *, not_before_ns: int = 0) -> int:
        """Work for `work_ns` after all before, and not before a time; return the end."""
        self._free_ns = max(self._free_ns, not_before_ns) + work_ns
        return self._free_ns
