"""The notebooks of examples/ run from top to bottom, and are stored without what they print."""

import os
from pathlib import Path

import pytest

import sim

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def read(path: Path):
    return nbformat.read(path, as_version=4)


def test_there_are_notebooks():
    assert {path.stem for path in NOTEBOOKS} == {"claims", "schedules", "routing_stress"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(path):
    assert not [
        cell for cell in read(path).cells if cell.cell_type == "code" and (cell.outputs or cell.execution_count)
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    """Its last cell that ends in a result shows it; its assertions hold."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = read(path)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert outputs
    assert not [output for output in outputs if output.output_type == "error"]


def test_a_result_shows_figures_parts_and_verdicts_and_escapes_texts():
    """A name of a scenario may hold anything."""
    changes = ["name=<b>&", "workload.batches=1", "workload.sequences=16", "workload.microbatches=4", "alternatives=[]"]
    result = sim.simulate("ep64_tp16_pp4", overrides=[*changes, "rivals=[]"])
    shown = result._repr_html_()
    assert "<b>&lt;b&gt;&amp;</b>" in shown
    assert shown.count("<tr>") == 2 + len(result.claims) + sum(
        ns >= 0.01 * sum(result.path_ns.values()) for ns in result.path_ns.values()
    )
    for tag in ("div", "table", "tr", "td", "p", "b"):
        assert shown.count(f"<{tag}>") + shown.count(f"<{tag} ") == shown.count(f"</{tag}>")
    assert len(shown) < 8000
