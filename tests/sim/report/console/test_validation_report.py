"""What `moesim validate` prints and draws."""

import io

import pytest

from sim.report.charts.validation import draw_validation
from sim.report.console.tables import make_console
from sim.report.console.validation import print_validation

ROW = {
    "suite": "wires", "case": "ring", "system": "h100", "set": {"workload.bytes": "1 MiB"},
    "metric": "step_time_s", "unit": "s", "published": 0.001, "modelled": 0.0011, "error_pct": 10.0,
    "source": "a paper, table 1", "tolerance_pct": 15.0, "within": True, "at_most": False, "note": "bytes are logical",
}  # fmt: skip
FAILED = ROW | {"case": "tree", "modelled": None, "error_pct": None, "within": False, "problem": "it never ends"}
APART = ROW | {"system": "a100", "modelled": 0.002, "error_pct": 100.0, "within": False, "reason": "unknown hardware"}
SUMMARY = {"median_pct": 10.0, "p90_pct": 10.0, "worst_pct": 10.0, "num_rows": 2, "num_within": 1}
SUITE = {
    "title": "Collectives", **SUMMARY, "num_fitted_constants": 3, "systems": {"h100": SUMMARY},
    "left_out": {"h100": {"median_pct": 21.0, "p90_pct": 32.0, "fitted": SUMMARY}}, "skipped": ["cluster.yaml"],
}  # fmt: skip
DATA = {"rows": [ROW, FAILED], "apart": [APART], "suites": {"wires": SUITE}, "over_all": SUMMARY}


def printed(data):
    """Return what is printed, with one space for several."""
    target = io.StringIO()
    print_validation(data, make_console(target), written={"picture": "out/validate.png"})
    return " ".join(target.getvalue().split())


@pytest.mark.parametrize(
    "words",
    [
        "WIRES Collectives · 1 of 2 within their tolerance",
        "ring, bytes 1 MiB step_time_s 1 ms 1.1 ms +10.0 % 15.0 % ✓",
        "tree, bytes 1 MiB step_time_s 1 ms no value – 15.0 % ✗",
        "✗ tree, bytes 1 MiB: it never ends",
        "WIRES: ERRORS of |error| · 3 fitted constants",
        "h100 10.0 % 10.0 % 10.0 % 2 1",
        "h100 21.0 % 10.0 % 32.0 % 10.0 %",
        "ring, bytes 1 MiB: unknown hardware",
        "ring, tree: a paper, table 1",
        "ring, tree: bytes are logical",
        "cluster.yaml",
        "out/validate.png",
    ],
)
def test_each_part_is_printed(words):
    """Figures, problems, errors per system, without a table, apart with their reason, sources, notes, files."""
    assert words in printed(DATA)


def test_several_suites_have_a_line_over_all():
    """One suite says it in its own table."""
    both = DATA | {"suites": {"wires": SUITE, "other": SUITE | {"systems": {}}}}
    assert "ALL SUITES" in printed(both)
    assert "ALL SUITES" not in printed(DATA)


@pytest.mark.parametrize("data", [DATA, DATA | {"rows": [], "apart": []}], ids=["figures", "none"])
def test_the_picture_is_drawn_whatever_there_is_to_show(tmp_path, data):
    """A figure without a modelled value is left out; the same bytes each time."""
    for name in ("a.png", "b.png"):
        draw_validation(data, tmp_path / name, title="Validation")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
