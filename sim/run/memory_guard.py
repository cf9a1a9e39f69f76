"""A bound on the memory of a run, so that the system does not kill what takes too much: it ends with a message instead.

Model
-----
While a run is on, its process may take the address space that it has, and what the machine or the container has left::

    bound = address space now + memory available now / processes that run at the same time

Linux hands out more memory than there is and kills a process that writes to it; beyond the bound it refuses, which
Python raises as `MemoryError`. Elsewhere, and where a lower bound is set already, nothing changes.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

__all__ = ["available_bytes", "bounded_memory", "share_memory"]

_MEMINFO: Final = Path("/proc/meminfo")
_STATM: Final = Path("/proc/self/statm")
_CONTAINERS: Final = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)
"""Limit and use of a container, of both versions of control groups."""
_num_processes = 1


def share_memory(num_processes: int) -> None:
    """Let runs of this process have one share in `num_processes` of the memory that is left."""
    global _num_processes  # noqa: PLW0603  # of the process, as its limit is
    _num_processes = num_processes


def available_bytes() -> int | None:
    """Return the memory that the machine and the container have left; None where the system does not say."""
    left = []
    with suppress(OSError, ValueError, KeyError):
        figures = dict(line.split(":", 1) for line in _MEMINFO.read_text(encoding="ascii").splitlines())
        left.append(int(figures["MemAvailable"].split()[0]) * 1024)
    for limit, used in _CONTAINERS:
        with suppress(OSError, ValueError):  # no container, or no limit: "max"
            left.append(int(limit.read_text(encoding="ascii")) - int(used.read_text(encoding="ascii")))
    return max(min(left), 0) if left else None


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Bound the memory of this process until the context is left."""
    available = available_bytes()
    try:
        import resource  # noqa: PLC0415  # not there on Windows

        pages = int(_STATM.read_text(encoding="ascii").split()[0])
    except (ImportError, OSError, ValueError):
        available = None
    if available is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    bound = pages * os.sysconf("SC_PAGE_SIZE") + available // _num_processes
    bound = bound if soft == resource.RLIM_INFINITY else min(bound, soft)
    resource.setrlimit(resource.RLIMIT_AS, (bound, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
