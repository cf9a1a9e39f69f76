"""The shipped scenarios, damaged at random: each mutant gets as far as its simulation, or is refused well."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim.errors import InvalidValueError, MoesimError
from sim.run.scenario_run import ScenarioRun
from sim.scenario.load import load_scenario_text
from sim.scenario.scenario_files import STARTER, bundled_folder, list_bundled
from sim.studies.claims import simulate

MUTANTS = 1000
"""How many are tried."""
MAX_CALLS = 3_000_000
"""Python calls that reading and building a mutant may take; the largest shipped scenario takes an eighth of that."""

TEXTS = [(bundled_folder() / f"{name}.yaml").read_text(encoding="utf-8") for name in list_bundled()]
SMALL = [line for line in STARTER.splitlines() if line.strip() and not line.lstrip().startswith("#")]
"""A scenario that takes a tenth of a second."""
VALUES = [
    *("", "null", "true", "0", "-1", "1.5", "1e30", "1e400", ".nan", "-.inf", "9" * 50, "999999999999", "x", "'16'"),
    *("16 GB", "3 us", "-400 Gb/s", "1e300 GB/s", "9**9 GB", "5 %", "[]", "{}", "[1]", "[x, 1]", "{a: 1}", "[[[[]]]]"),
    *("&a 1", "*a", "!!int 3", "!!python/name:os.system", "| ", "'", '"', "a: b", "EP3_TP5_PP7", "EP64_TP16_PP4_DP2"),
]
"""Values of every other type, and extremes."""


class Reached(Exception):  # noqa: N818 - no error: the mutant was accepted
    """The simulation would start here."""


def _drop(lines: list[str], at: int, _: str, __: int) -> list[str]:
    """Leave a line out."""
    return lines[:at] + lines[at + 1 :]


def _double(lines: list[str], at: int, _: str, other: int) -> list[str]:
    """Write a line once more, there or elsewhere."""
    return [*lines[:other], lines[at], *lines[other:]]


def _misspell(lines: list[str], at: int, _: str, other: int) -> list[str]:
    """Leave out, double or change one letter."""
    line = lines[at]
    i = other % max(len(line), 1)
    changed = (line[:i] + line[i + 1 :], line[:i] + line[i : i + 1] * 2 + line[i + 1 :], line[:i] + "z" + line[i + 1 :])
    return [*lines[:at], changed[other % 3], *lines[at + 1 :]]


def _replace(lines: list[str], at: int, value: str, other: int) -> list[str]:
    """Give a key another value."""
    start, colon, rest = lines[at].partition(": ")
    if other % 2 and "{" in rest:  # a key inside a flow mapping
        head, _, tail = rest.rpartition(": ")
        rest = f"{head}: {value}}}" if head and tail else value
    else:
        rest = value
    return [*lines[:at], f"{start}{colon or ': '}{rest}", *lines[at + 1 :]]


def _renumber(lines: list[str], at: int, _: str, other: int) -> list[str]:
    """Change a digit of the next line that has one."""
    at = next((i for i in (*range(at, len(lines)), *range(at)) if re.search("[0-9]", lines[i])), at)
    digits = [i for i, letter in enumerate(lines[at]) if letter.isdigit()] or [0]
    i = digits[other % len(digits)]
    return [*lines[:at], f"{lines[at][:i]}{other % 10}{lines[at][i + 1 :]}", *lines[at + 1 :]]


def _splice(lines: list[str], at: int, _: str, other: int) -> list[str]:
    """Join two lines, and leave out the lines between them."""
    low, high = sorted((at, other % len(lines)))
    return [*lines[:low], lines[low] + lines[high], *lines[high + 1 :]]


def _cut(lines: list[str], at: int, _: str, other: int) -> list[str]:
    """End in the middle of a line."""
    return [*lines[:at], lines[at][: other % (len(lines[at]) + 1)]]


def _indent(lines: list[str], at: int, _: str, other: int) -> list[str]:
    """Move a line to the right or left."""
    moved = " " * (other % 5) + lines[at].lstrip() if other % 2 else "\t" + lines[at]
    return [*lines[:at], moved, *lines[at + 1 :]]


def _insert(lines: list[str], at: int, value: str, other: int) -> list[str]:
    """Put a value into the middle of a line."""
    i = other % (len(lines[at]) + 1)
    return [*lines[:at], lines[at][:i] + value + lines[at][i:], *lines[at + 1 :]]


MUTATIONS: list[Callable[[list[str], int, str, int], list[str]]] = [
    *[_drop] * 3,
    *[_replace] * 3,
    *[_misspell] * 2,
    *[_renumber] * 3,
    _double,
    _splice,
    _cut,
    _indent,
    _insert,
]
"""Those that leave YAML come more often, so that most mutants are looked into."""


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    """Draw a shipped scenario with one to three mutations, and at times some bytes that are no text."""
    lines = draw(st.sampled_from(TEXTS)).splitlines()
    kept = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        mutate = draw(st.sampled_from(MUTATIONS))
        at, other = draw(st.integers(0, len(kept) - 1)), draw(st.integers(0, len(kept) - 1))
        kept = mutate(kept, at, draw(st.sampled_from(VALUES)), other) or ["name: x"]
    content = "\n".join(kept).encode()
    if draw(st.integers(0, 19)) == 0:
        i = draw(st.integers(0, len(content)))
        content = content[:i] + draw(st.binary(min_size=1, max_size=4)) + content[i:]
    return content


@contextmanager
def counted_calls() -> Iterator[list[int]]:
    """Count the calls of Python functions."""
    calls = [0]

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        calls[0] += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(before)


@pytest.fixture
def read(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[bytes], InvalidValueError | None]]:
    """Return a function that takes a mutant as far as its simulation; it returns the refusal, or None."""
    path = tmp_path_factory.mktemp("mutants") / "mutant.yaml"
    recorded = {file.name: file.read_bytes() for file in bundled_folder().rglob("*.jsonl")}  # which scenarios name
    for name, content in recorded.items():
        (path.parent / name).write_bytes(content)

    def stop(*_: object, **__: object) -> None:
        raise Reached

    def take(content: bytes) -> InvalidValueError | None:
        path.write_bytes(content)
        try:
            simulate(path, jobs=1)
        except InvalidValueError as refused:
            return refused
        except Reached:
            return None
        raise AssertionError("the simulation was not stopped")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScenarioRun, "simulate", stop)
        yield take
    assert {p.name for p in path.parent.iterdir()} == {"mutant.yaml", *recorded}


def test_the_shipped_scenarios_are_accepted(read: Callable[[bytes], InvalidValueError | None]) -> None:
    """What the mutants are made of is sound, and takes a fifth of the work that a mutant may take.

    Each is read once before, for the first reading imports what it needs, and fills caches.
    """
    for text in TEXTS:
        read(text.encode())
        with counted_calls() as calls:
            assert read(text.encode()) is None
        assert calls[0] < MAX_CALLS / 5


@pytest.mark.slow
def test_a_damaged_scenario_is_accepted_or_refused_with_all_parts(
    read: Callable[[bytes], InvalidValueError | None],
) -> None:
    """Never another error; one line with file, field, rule, value and hint; a bounded amount of work."""
    outcomes: list[bool] = []

    @settings(deadline=None, derandomize=True, max_examples=MUTANTS, suppress_health_check=list(HealthCheck))
    @given(mutants())
    def check(content: bytes) -> None:
        with counted_calls() if len(outcomes) % 5 == 0 else nullcontext([0]) as calls:  # counting doubles the time
            refused = read(content)
        assert calls[0] < MAX_CALLS
        outcomes.append(refused is None)
        if refused is None:
            return
        parts = refused.as_dict()
        assert refused.exit_code == 2
        assert str(parts["file"]).endswith("mutant.yaml")
        assert all(parts[key] not in (None, "") for key in ("field", "rule", "value", "cure"))
        assert "\n" not in str(refused)
        assert len(str(refused)) < 1200
        assert "be a value that the key can have" not in str(refused)

    check()
    assert len(outcomes) >= 0.9 * MUTANTS
    assert 0.05 < sum(outcomes) / len(outcomes) < 0.6  # both happen often


@settings(deadline=None, derandomize=True, max_examples=80, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from([_drop, _misspell, _renumber]),
    st.integers(0, len(SMALL) - 1),
    st.integers(0, 99),
)
def test_a_small_damaged_scenario_runs_to_its_end_or_is_refused(
    mutate: Callable[[list[str], int, str, int], list[str]], at: int, other: int
) -> None:
    """What is accepted is simulated too: a result, or an error with an exit code of its own."""
    try:
        result = simulate(load_scenario_text("\n".join(mutate(SMALL, at, "", other)), file="small.yaml"), jobs=1)
    except MoesimError as refused:
        assert refused.exit_code in (2, 3)
        assert "\n" not in str(refused)
    else:
        assert result.metrics["step_time_s"] > 0
