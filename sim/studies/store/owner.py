"""Who works on a store: a process with a lease, which it renews while it runs.

A claim of a process that has ended is free at once where this can be seen, on the same machine, and elsewhere when its
lease has run out.
"""

import os
import platform
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["LEASE_S", "Owner", "end_owner", "is_at_work", "new_owner"]

LEASE_S: Final = 120.0
"""So long a claim lasts that is not renewed. A running study renews several times in that time."""
_OF_THIS_PROCESS: Final[set[str]] = set()
"""Owners of this process that have not ended: one whose store was lost could not say so there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A process that claims points."""

    id: str
    """Its name in the store."""
    machine: str
    """The machine, since its start, and the space of process numbers."""
    pid: int
    """Number of the process."""
    began: str
    """When the process began, in the system's own count: a number is given again."""
    expires: float
    """When its lease runs out, in seconds since 1970."""


def new_owner() -> Owner:
    """Return this process as an owner, until `end_owner`."""
    pid = os.getpid()
    owner = Owner(
        id=uuid.uuid4().hex, machine=_machine(), pid=pid, began=_began(pid) or "", expires=time.time() + LEASE_S
    )
    _OF_THIS_PROCESS.add(owner.id)
    return owner


def end_owner(owner: Owner) -> None:
    """Let an owner of this process work no more."""
    _OF_THIS_PROCESS.discard(owner.id)


def is_at_work(owner: Owner) -> bool:
    """Return whether an owner still holds its claims: it runs on this machine, or its lease has not run out."""
    if owner.machine == _machine() and owner.began:
        runs = _began(owner.pid) == owner.began
        return runs and (owner.pid != os.getpid() or owner.id in _OF_THIS_PROCESS)
    return owner.expires > time.time()


@cache
def _machine() -> str:
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def _began(pid: int) -> str | None:
    """Return when a process began; None where there is none, or the system does not say."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 and fields[0] not in {"Z", "X"} else None  # a zombie has ended
