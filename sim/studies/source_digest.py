"""A digest of the program's own source files, by which results of other code are told apart."""

import hashlib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

import numpy as np

__all__ = ["source_digest"]

_PACKAGES: Final = ("sim", "topology", "workloads")


@cache
def source_digest() -> str:
    """Return a digest of the content of every Python file of the installed packages, and of NumPy's version.

    Where only the version of the program told results apart, those from before a change of its code would be taken for
    those after. NumPy's version counts because streams of random numbers may change with it. Read once in a process.

    Examples
    --------
    >>> len(source_digest())
    32
    """
    digest = hashlib.sha256(np.__version__.encode())
    for package in _PACKAGES:
        root = Path(str(files(package)))
        for file in sorted(root.rglob("*.py")):
            digest.update(f"\n{package}/{file.relative_to(root).as_posix()}\n".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:32]
