"""What compiles the kernel, where it is kept, and what happens without a numba that can be imported."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from works import make_model, make_work

from sim.engine.compiled import compiler, loop
from sim.engine.compiled import run as compiled
from sim.engine.optional_numba import NoNumbaError
from sim.plan.pipeline import PipelinePlan

RUN_ALL_WAYS = """
import importlib.util, sys
sys.path.insert(0, sys.argv[1])
if sys.argv[2] == "absent":
    find = importlib.util.find_spec
    importlib.util.find_spec = lambda name, *more: None if name == "numba" else find(name, *more)
from sim.engine.network.flows import kernel
from sim.run import engines
from sim.run.simulate import simulate_scenario
from sim.scenario.load import load_scenario
print(engines.pays_to_compile(10**9))
engines.compiles = lambda *_: True
for change in ("engine=compiled", "engine=auto", "network.fidelity=flow"):
    found = simulate_scenario(load_scenario("ep16_tp16_pp4", overrides=[change, "workload.batches=1"]))
    print(change, found.run.stats.is_compiled, *(text for text in found.warnings if text.startswith("engine:")))
print(kernel.choose_run(10**6) is kernel.run)
"""


@pytest.mark.parametrize(
    ("numba", "why"),
    [
        ("absent", "numba is not installed: pip install 'moesim[fast]'"),
        ("raise ImportError('Numba needs\\nNumPy 2.0')", "(ImportError: Numba needs NumPy 2.0): pip install --upgrade"),
        ("raise SystemError('llvmlite')", "numba cannot be imported (SystemError: llvmlite)"),
        ("", "numba cannot be imported (AttributeError: module 'numba' has no attribute 'njit')"),
    ],
    ids=["absent", "other numpy", "broken library", "empty"],
)
def test_without_a_numba_that_imports_simpy_runs_and_the_output_says_why(numba: str, why: str, tmp_path: Path):
    """By whichever way a run comes to numba: by name, by default, flow by flow, and where flows pay to be compiled."""
    (tmp_path / "numba.py").write_text(numba)
    command = [sys.executable, "-c", RUN_ALL_WAYS, str(tmp_path), numba]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    _, compiled_line, *others = done.stdout.splitlines()
    assert compiled_line.startswith("engine=compiled False engine: SimPy's processes ran")
    assert why in compiled_line
    assert [line.split()[1] for line in others[:2]] == ["False", "False"]
    assert others[2] == "True"


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Make a package, a folder of `NUMBA_CACHE_DIR` and a user's folder in which numba could keep the kernel."""
    compiler.is_kept.cache_clear()
    compiler._folder.cache_clear()
    for name in ("package", "given", "user"):
        (tmp_path / name).mkdir()
    source = tmp_path / "package" / "loop.py"
    source.write_text("def run_arrays(m, f):\n    return 0\n")
    monkeypatch.setattr(compiler, "loop", ModuleType("loop"))
    compiler.loop.__file__ = str(source)
    monkeypatch.setattr(compiler, "is_loaded", lambda: False)
    monkeypatch.setattr(compiler, "_name", lambda: "run_0")
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(compiler, "_user_folder", lambda: tmp_path / "user")
    yield tmp_path
    compiler.is_kept.cache_clear()
    compiler._folder.cache_clear()


def test_a_kernel_that_is_nowhere_kept_takes_longest_to_begin(folders: Path):
    assert compiler.start_s() == compiler.START_S["compiled"]


@pytest.mark.parametrize("closed", [(), ("given",), ("package",), ("given", "package"), ("given", "package", "user")])
def test_the_kernel_is_looked_for_where_numba_keeps_it(closed, folders: Path, monkeypatch: pytest.MonkeyPatch):
    """The oracle is numba's own choice of a folder, with files in place of folders, which nobody can write into."""
    caching = pytest.importorskip("numba.core.caching")
    for name in closed:
        where = folders / name / "__pycache__" if name == "package" else folders / name
        where.rmdir() if where.is_dir() else None
        where.touch()
    monkeypatch.setattr(caching.config, "CACHE_DIR", str(folders / "given"))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(folders / "given"))
    monkeypatch.setattr(caching.AppDirs, "user_cache_dir", str(folders / "user"))
    space: dict = {}
    file = folders / "package" / "loop.py"
    exec(compile(file.read_text(), str(file), "exec"), space)
    if len(closed) == 3:
        assert compiler._folder() is None
        assert not compiler.is_kept()
        return
    folder = Path(caching.CompileResultCacheImpl(space["run_arrays"]).locator.get_cache_path())
    assert compiler._folder() == folder
    (folder / "loop.run_0-199.py311.nbi").touch()
    assert compiler.is_kept()
    assert compiler.start_s() == compiler.START_S["kept"]


def test_the_users_folder_is_that_of_numba(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    appdirs = pytest.importorskip("numba.misc.appdirs")
    for home in (None, str(tmp_path)):
        monkeypatch.setenv("XDG_CACHE_HOME", home) if home else monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        assert str(compiler._user_folder()) == appdirs.AppDirs(appname="numba", appauthor=False).user_cache_dir


@pytest.mark.parametrize(
    ("is_kept", "folder", "said"),
    [
        (False, Path("/x"), ["compiling the engine's kernel, about 25 s; it is kept for later runs"]),
        (
            False,
            None,
            [
                "compiling the engine's kernel, about 25 s; it cannot be kept: no folder for it can be written. "
                "Name a folder in the variable NUMBA_CACHE_DIR"
            ],
        ),
        (True, Path("/x"), []),
    ],
)
def test_a_compilation_is_announced(is_kept, folder, said, monkeypatch: pytest.MonkeyPatch, caplog):
    pytest.importorskip("numba")
    monkeypatch.setattr(compiler, "is_kept", lambda: is_kept)
    monkeypatch.setattr(compiler, "_folder", lambda: folder)
    monkeypatch.setattr(compiler, "_compiled", lambda *_, **__: loop.run)
    with caplog.at_level("INFO", logger="sim"):
        compiler.compiled_run.__wrapped__()
    assert [record.getMessage() for record in caplog.records] == said


def test_a_step_alone_is_simpys_without_numba(monkeypatch: pytest.MonkeyPatch):
    def refused():
        raise NoNumbaError("numba is not installed")

    monkeypatch.setattr(compiled, "compiled_run", refused)
    work = make_work("TP4_PP2_DP2", "megatron", model=make_model(experts=0))
    assert compiled.step_time_ns(PipelinePlan(work)) == compiled.step_time_ns(PipelinePlan(work), loop.run) > 0


def test_a_kernel_that_another_processor_has_kept_is_compiled_anew(monkeypatch: pytest.MonkeyPatch):
    numba = pytest.importorskip("numba")

    def compiled_where_typed(_: object, *, is_typed: bool):
        if not is_typed:
            raise numba.core.errors.TypingError("its parts have no types")
        return loop.run

    monkeypatch.setattr(compiler, "is_kept", lambda: True)
    monkeypatch.setattr(compiler, "_compiled", compiled_where_typed)
    assert compiler.compiled_run.__wrapped__() is loop.run


def test_a_debugger_sees_the_kernel_as_it_is_written(monkeypatch: pytest.MonkeyPatch):
    numba = pytest.importorskip("numba")
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert compiler.compiled_run.__wrapped__() is loop.run
