"""`constraints.txt` pins all that the project and its extras pull in, and no more.

Who needs whom is read off installed distributions; one that is not installed (an extra left out) has no needs to read.
"""

import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PYTHONS = ("3.11", "3.12", "3.13")
NEEDS_OF_RAY = {"attrs", "filelock", "jsonschema", "jsonschema-specifications", "referencing", "rpds-py"}
"""What Ray alone pulls in: it is large and not in `dev`, and other programs may have installed these."""
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def read_pins():
    """Return version by name."""
    rows = [line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").split()]
    return {canonicalize_name(name): version for name, version in rows}


def direct_needs() -> list[Requirement]:
    """Return what the project, each of its extras and its build ask for."""
    extras = PROJECT["project"]["optional-dependencies"].values()
    texts = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"], *(t for e in extras for t in e)]
    return [Requirement(text) for text in texts]


def needs_of(needed: Requirement, python: str) -> Iterator[Requirement]:
    """Yield what one distribution asks for on this platform under a version of Python."""
    for text in requires(needed.name) or ():
        need = Requirement(text)
        places = [{"extra": e, "python_version": python, "python_full_version": f"{python}.0"} for e in needed.extras]
        places.append({"extra": "", "python_version": python, "python_full_version": f"{python}.0"})
        if need.marker is None or any(need.marker.evaluate(place) for place in places):
            yield need


def all_needs(python: str) -> tuple[list[Requirement], set[str]]:
    """Return every requirement, direct or not, and the names that could not be looked into."""
    found, absent, waiting, seen = [], set(), direct_needs(), set()
    while waiting:
        need = waiting.pop()
        found.append(need)
        key = (canonicalize_name(need.name), frozenset(need.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            waiting += needs_of(need, python)
        except PackageNotFoundError:
            absent.add(need.name)
    return found, absent


@pytest.mark.parametrize("python", PYTHONS)
def test_all_that_the_project_pulls_in_is_pinned_to_a_version_that_suits(python):
    """A fresh installation next year gets the versions of today, whatever its extras."""
    pins = read_pins()
    needs, _ = all_needs(python)
    unpinned = {need.name for need in needs if canonicalize_name(need.name) not in pins}
    assert not unpinned, "add them to constraints.txt"
    unsuited = [str(need) for need in needs if not need.specifier.contains(pins[canonicalize_name(need.name)])]
    assert not unsuited, "the pins do not satisfy these"


def test_nothing_is_pinned_that_nobody_needs():
    """A pin that is left behind when a dependency goes is found.

    Where an extra is not installed, pins that are not installed either may be its needs: they are not judged.
    """
    found, absent = zip(*(all_needs(python) for python in PYTHONS), strict=True)
    needed = {canonicalize_name(need.name) for needs in found for need in needs}
    unneeded = set(read_pins()) - needed
    if any("ray" in one for one in absent):
        unneeded -= NEEDS_OF_RAY
    if any(absent):
        unneeded &= {canonicalize_name(one.name) for one in distributions()}
    assert unneeded == set()


def test_the_build_uses_the_pinned_backend():
    """Constraints do not reach isolated builds, so that the versions of what builds stand in two places."""
    for need in map(Requirement, PROJECT["build-system"]["requires"]):
        assert str(need.specifier) == f"=={read_pins()[need.name]}"


def test_the_named_versions_of_python_are_those_that_are_tested():
    """Classifiers and `requires-python` say the same."""
    prefix = "Programming Language :: Python :: 3."
    named = [text for text in PROJECT["project"]["classifiers"] if text.startswith(prefix)]
    assert named == [f"Programming Language :: Python :: {python}" for python in PYTHONS]
    assert PROJECT["project"]["requires-python"] == f">={PYTHONS[0]}"
