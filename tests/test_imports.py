"""Imports run one way: read off the source of every module, and off the interpreter for what `import sim` loads."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("topology", "workloads", "sim")
OWN = pytest.mark.parametrize("package", PACKAGES)
INITS = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("__init__.py"))

# The rooms of `sim`, from the ground up: a room imports only what stands before it, topology and workloads with them.
FLOORS = ("scenario", "build", "plan", "engine", "results", "run", "studies", "report", "cli")
GROUND = ("sim.errors", "sim.time")

# Who may not import what: (part of the house, exceptions to it) -> forbidden, exceptions to that.
RULES = [
    ("topology", (), ("workloads", "sim"), ("sim.errors",)),
    ("workloads", (), ("topology", "sim"), ("sim.errors",)),
    ("topology", (), ("simpy", "matplotlib"), ()),
    ("workloads", (), ("simpy", "matplotlib", "networkx"), ()),
    ("sim", ("sim.engine",), ("simpy",), ()),
    ("sim", ("sim.report",), ("matplotlib",), ()),
    *((f"sim.{room}", (), tuple(f"sim.{above}" for above in FLOORS[at + 1 :]), ()) for at, room in enumerate(FLOORS)),
    ("sim.plan", (), ("sim.scenario",), ()),
    ("sim.engine", (), ("sim",), ("sim.engine", "sim.plan", *GROUND)),
    ("sim.results", (), ("sim",), ("sim.results", "sim.engine.trace")),
    ("sim.results", (), ("simpy", "topology", "workloads", "networkx"), ()),
    *((ground, (), ("sim", "topology", "workloads"), GROUND) for ground in GROUND),
]


def modules_of(package):
    """Return path by dotted name of every module of a package."""
    paths = sorted((ROOT / package).rglob("*.py"))
    names = (path.relative_to(ROOT).with_suffix("").parts for path in paths)
    return {
        ".".join(name[:-1] if name[-1] == "__init__" else name): path for name, path in zip(names, paths, strict=True)
    }


def imports_of(source):
    """Return the dotted names that a module imports anywhere in it: of `from a import b`, both `a` and `a.b`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def is_within(name, parents):
    return any(name == parent or name.startswith(f"{parent}.") for parent in parents)


def offences(name, imported):
    """Return the imports of module `name` that a rule forbids."""
    found = []
    for part, spared, forbidden, allowed in RULES:
        if is_within(name, (part,)) and not is_within(name, spared):
            # `from sim.engine import trace` counts as sim.engine and as sim.engine.trace: the longer one decides.
            longest = {one for one in imported if not any(other.startswith(f"{one}.") for other in imported)}
            found += [one for one in sorted(longest) if is_within(one, forbidden) and not is_within(one, allowed)]
    return found


@OWN
def test_imports_run_one_way(package):
    found = {name: offences(name, imports_of(path.read_text("utf-8"))) for name, path in modules_of(package).items()}
    assert {name: bad for name, bad in found.items() if bad} == {}


def test_every_room_of_sim_has_its_place_in_the_order():
    """A room that the rules do not name is under no rule."""
    assert {name.split(".")[1] for name in modules_of("sim") if name != "sim"} == {*FLOORS, "errors", "time"}


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("topology.cluster", "from workloads.mesh import Mesh"),
        ("workloads.mesh", "import sim.engine"),
        ("sim.run.parallel_runs", "import simpy"),
        ("sim.cli.app", "from matplotlib import pyplot"),
        ("sim.results.path", "from sim.engine.network.fluid import FluidNetwork"),
        ("sim.results.path", "import topology.cluster"),
        ("sim.engine.lane", "def late():\n    from sim.results.path import path_ns"),
        ("sim.engine.lane", "from sim import studies"),
        ("sim.plan.layers", "from sim.engine.trace import Trace"),
        ("sim.plan.layers", "from sim.scenario.scenario import Scenario"),
        ("sim.build.work", "from sim.plan.costs import Costs"),
        ("sim.run.simulate", "from sim.studies.claims import judge_scenario"),
        ("sim.time", "from sim.plan import ops"),
    ],
)
def test_an_import_against_the_direction_is_found(name, source):
    assert offences(name, imports_of(source))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("sim.engine.clock", "import simpy"),
        ("sim.engine.lane", "from sim.errors import SimulationError"),
        ("sim.build.work", "from topology.cluster import Cluster\nfrom workloads.mesh import Mesh"),
        ("sim.results.path", "from sim.engine.trace import Trace"),
        ("sim.report.canvas", "import matplotlib"),
    ],
)
def test_an_import_in_the_direction_is_not_an_offence(name, source):
    assert offences(name, imports_of(source)) == []


def loaded_by(statement):
    """Return the modules that a fresh interpreter has loaded after a statement."""
    program = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT)
    return set(done.stdout.split())


def test_import_sim_loads_nothing_heavy():
    heavy = {"numpy", "simpy", "networkx", "pydantic", "matplotlib", "pandas", "ruamel.yaml", "typer", "rich"}
    assert loaded_by("import sim") & heavy == set()


def test_a_run_without_a_picture_does_not_load_matplotlib():
    assert not {"matplotlib", "pandas"} & loaded_by(
        "import sim.engine.simulation, sim.plan.pipeline, sim.studies.claims"
    )


@pytest.mark.parametrize("init", INITS, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_the_docstring_of_a_package_names_its_modules(init):
    """A package's docstring is its table of contents."""
    docstring = ast.get_docstring(ast.parse(init.read_text("utf-8"))) or ""
    named = {name.rpartition(".")[2] for name in re.findall(r"`([\w.]+)`", docstring)}
    modules = {path.stem for path in init.parent.glob("*.py")} - {"__init__"}
    packages = {path.parent.name for path in init.parent.glob("*/__init__.py")}
    assert sorted((modules | packages) - named) == []
