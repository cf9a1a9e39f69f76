"""Worker processes that end with the process that started them, however that process ends.

A process that is killed tells its workers nothing, and a worker that waits for work waits for ever. Each worker has the
read end of a pipe whose write end only its parent holds: the system closes the pipe when the parent ends.

Nothing is imported here that takes time: a worker watches before it imports what it runs.
"""

import multiprocessing
import os
import threading
from multiprocessing.connection import wait

__all__ = ["end_with_parent"]


def end_with_parent() -> None:
    """End this worker process as soon as its parent has ended; called once, when the worker starts."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_wait_and_end, args=(parent.sentinel,), daemon=True).start()


def _wait_and_end(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)  # whatever this process computes: nobody waits for it
