"""What a reader of the page waits for, in a real browser; and the protobuf trace of a million spans."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser_start import find_browser, started_browser
from measuring import Row, note
from pages import many_spans
from pytest_benchmark.fixture import BenchmarkFixture

from sim.report.html.details import RunDetails
from sim.report.html.page import write_page
from sim.report.track_events import write_track_events

NUM_SPANS = 100_000
REDRAW = """() => {
  const {timeline, view} = moesim;
  const length = view.endNs - view.startNs;
  const times = [];
  for (const factor of [1, 1.5, 2, 3, 5, 8, 16, 32, 64, 128]) {
    for (const share of [0, 0.2, 0.4, 0.6, 0.8, 1]) {
      view.from = view.startNs + share * (length - length / factor);
      view.to = view.from + length / factor;
      const began = performance.now();
      timeline.drawing.draw();
      timeline.drawing.context.getImageData(0, 0, 1, 1);
      times.push(performance.now() - began);
    }
  }
  return times.sort((a, b) => a - b);
}"""
"""Draws 60 views, panned and zoomed; reading a pixel waits until each is there."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Start a browser; without one the page is not measured."""
    program = find_browser()
    if program is None:
        pytest.skip("needs a browser")
    with started_browser(program) as started:
        yield started


def test_page_of_100_000_spans(
    benchmark: BenchmarkFixture,
    browser: Any,  # noqa: ANN401  # of a client that may be absent
    tmp_path: Path,
) -> None:
    """Its size, how long a browser needs until it is there, and how long the timeline is drawn."""
    path = tmp_path / "page.html"
    details = RunDetails(trace=many_spans(NUM_SPANS))
    data = {"scenario": {"name": "many spans"}, "metrics": {}}
    benchmark.pedantic(lambda: write_page(data, path, details=details), rounds=3)
    paints, readies, redraws = [], [], []
    for _ in range(5):
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]")
        readies.append(page.evaluate("performance.now()") / 1e3)
        paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") / 1e3)
        times = page.evaluate(REDRAW)
        redraws.append(times[len(times) // 2] / 1e3)
        page.close()
    note(
        benchmark,
        Row(case=f"page of {NUM_SPANS:,} spans: size", figure=path.stat().st_size / 1e6, unit="MB", bar=8.0),
        Row(case="... first paint", figure=min(paints), unit="s", bar=2.0),
        Row(case="... ready", figure=min(readies), unit="s", bar=2.0),
        Row(case="... median redraw on pan and zoom", figure=min(redraws) * 1e3, unit="ms", bar=33.0),
    )


def test_protobuf_of_a_million_spans(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """Written once."""
    trace = many_spans(1_000_000)
    began = time.process_time()
    benchmark.pedantic(lambda: write_track_events(trace, tmp_path / "a.pftrace", name="many"), rounds=1)
    took_s = time.process_time() - began
    note(benchmark, Row(case="protobuf of 1,000,000 spans, of one core", figure=took_s, unit="s", bar=10.0))
