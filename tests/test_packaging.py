"""What is shipped, and that it runs where nothing of the checkout is in reach. Works offline."""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import sim

ROOT = Path(__file__).parent.parent
PACKAGES = ("sim", "topology", "workloads")
SUFFIXES = {".css", ".csv", ".html", ".js", ".py"}  # of what packages ship; another kind of data must be entered here
NAME = f"moesim-{sim.__version__}"
KINDS = ("wheel", "wheel from sdist", "editable")

pytestmark = pytest.mark.slow


def run(*command: object, cwd: Path) -> str:
    """Run a command without what the caller's shell says to Python and pip; return what it prints."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PIP_"))}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(source: Path, target: str, folder: Path) -> Path:
    """Build the wheel or the sdist of a source tree with what is installed here."""
    run(sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", folder, cwd=source)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the source distribution."""
    return build(ROOT, "sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory, sdist: Path) -> dict[str, Path]:
    """Build the wheel of the checkout and that of the sdist."""
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        # Python 3.11.0 to 3.11.3 know no filters; from 3.12 on there must be one
        archive.extractall(unpacked, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return {
        "wheel": build(ROOT, "wheel", tmp_path_factory.mktemp("wheel")),
        "wheel from sdist": build(unpacked / NAME, "wheel", tmp_path_factory.mktemp("again")),
    }


def files_below(folder: str, suffixes: set[str]) -> set[str]:
    """Return the files of a folder of the checkout that are to be shipped."""
    paths = (path for path in (ROOT / folder).rglob("*") if path.suffix in suffixes)
    return {path.relative_to(ROOT).as_posix() for path in paths if "__pycache__" not in path.parts}


def package_files() -> set[str]:
    return set.union(*(files_below(package, SUFFIXES) for package in PACKAGES))


@pytest.mark.parametrize("kind", KINDS[:2])
def test_the_wheel_holds_the_packages_and_the_scenarios_and_nothing_else(wheels, kind):
    """No tests, no pictures, no notes; the same files whether built from the checkout or from the sdist."""
    with zipfile.ZipFile(wheels[kind]) as archive:
        names = set(archive.namelist())
    about = {f"{NAME}.dist-info/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")}
    scenarios = {f"sim/_{name}" for name in files_below("scenarios", {".yaml", ".csv", ".jsonl"})}
    assert len(scenarios) >= 4
    assert names == package_files() | scenarios | about


def test_the_sdist_holds_what_the_wheel_is_built_from_and_nothing_else(sdist):
    """Its own additions are hatchling's: metadata, and the list of ignored files that a build obeys."""
    with tarfile.open(sdist) as archive:
        names = {member.name.removeprefix(f"{NAME}/") for member in archive if member.isfile()}
    about = {"PKG-INFO", "README.md", "pyproject.toml", ".gitignore"}
    assert names == package_files() | files_below("scenarios", {".yaml", ".csv", ".jsonl"}) | about


def test_both_wheels_are_the_same_byte_for_byte(wheels):
    """What is built from the sdist is what was built from the checkout."""
    contents = []
    for wheel in wheels.values():
        with zipfile.ZipFile(wheel) as archive:
            contents.append({name: archive.read(name) for name in archive.namelist()})
    assert contents[0] == contents[1]


@pytest.fixture(scope="module", params=KINDS)
def installed(request, tmp_path_factory: pytest.TempPathFactory, wheels: dict[str, Path]) -> Path:
    """Install moesim alone; its dependencies (and hatchling) are read from where these tests run."""
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    places = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", scheme="venv", vars=places))
    # The .pth files of a folder that a .pth file names are not obeyed: no editable moesim comes along.
    shared = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (site / "dependencies.pth").write_text("\n".join(shared), encoding="utf-8")
    if request.param == "editable":
        pytest.importorskip("editables", reason="hatchling needs it for editable installs: install the extra dev")
    what = ["--no-build-isolation", "--editable", ROOT] if request.param == "editable" else [wheels[request.param]]
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps", *what, cwd=folder)
    return folder


def test_an_installed_moesim_runs_the_main_job_from_any_folder(installed, tmp_path):
    """`moesim run ep64_tp16_pp4` finds its scenario, answers and writes where it is wanted."""
    quick = ("alternatives=[]", "rivals=[]", "workload.batches=1", "workload.microbatches=2")
    options = [word for pair in quick for word in ("--set", pair)]
    said = run(installed / "bin" / "moesim", "run", "ep64_tp16_pp4", *options, "--json", "--out", "out", cwd=tmp_path)
    assert json.loads(said)["metrics"]["num_gpus"] == 64
    assert (tmp_path / "out" / "timeline.png").stat().st_size > 0


def test_an_installed_moesim_imports_its_own_files(installed, tmp_path):
    """The wheel's modules lie in the environment, the editable ones in the checkout."""
    program = f"import {', '.join(PACKAGES)}; print(*(p.__file__ for p in ({', '.join(PACKAGES)})), sep='\\n')"
    said = run(installed / "bin" / "python", "-c", program, cwd=tmp_path)
    is_editable = bool(list(installed.rglob("*moesim.pth")))
    home = ROOT if is_editable else installed
    assert all(Path(line).is_relative_to(home) for line in said.split("\n") if line)
