"""How much memory this machine has for a process: what is built in, or what a container or a limit leaves of it."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["machine_memory_bytes"]

_CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def machine_memory_bytes() -> int | None:
    """Return the memory that a process can have at most; None where the system does not say."""
    return min(_limits(), default=None)


def _limits() -> Iterator[int]:
    """Yield what bounds the memory of a process."""
    with suppress(AttributeError, ValueError, OSError):  # Windows has no sysconf
        yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in _CONTAINER_LIMITS:
        with suppress(OSError, ValueError):  # no such container, or no limit: "max"
            yield int(Path(name).read_text(encoding="ascii"))
    try:
        import resource  # noqa: PLC0415  # not there on Windows

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    except ImportError:
        return
    if limit != resource.RLIM_INFINITY:
        yield limit
