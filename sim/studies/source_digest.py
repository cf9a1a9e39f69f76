"""A digest of the program's own source files, which changes with every change of the code."""

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

    If results were labelled by the version of the program alone, results from before a change of the code would be
    taken for results from after the change. NumPy's version counts because streams of random numbers may change with
    it. The files are read once in a process.

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
