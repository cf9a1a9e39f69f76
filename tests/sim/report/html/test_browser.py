"""The page in a real browser: it works from a file, requests nothing, and does what its controls say."""

import re

import pytest
from pages import HOSTILE, many_spans

from sim.report.html.details import RunDetails, details_of, with_experts
from sim.report.html.page import write_page
from sim.report.html.stress import write_stress_page
from sim.studies.claims import simulate
from sim.studies.stress.report import stress_test

SMALL = [
    "workload.batches=1",
    "workload.sequences=8",
    "workload.microbatches=2",
    "workload.sequence_length=1024",
    "alternatives=[{model.top_k: 1}]",
    "rivals=[EP16_TP4_PP4_DP4]",
    "runtime.preset=megatron-core-2025",  # whose host lets stages stall
]


@pytest.fixture(scope="session")
def run_page(browser, tmp_path_factory):
    """Return the page of a small run whose names are hostile."""
    result = simulate("ep64_tp16_pp4", overrides=SMALL)
    data = result.to_dict()
    data["scenario"]["name"] = HOSTILE
    data["conclusion"] = [HOSTILE]
    for claim in data["claims"]:
        claim["says"] = claim["reason"] = claim["source"] = HOSTILE
    data["assumptions"][0]["why"] = HOSTILE
    path = tmp_path_factory.mktemp("page") / "report.html"
    details = with_experts(details_of(result.simulated, command=f"moesim run '{HOSTILE}'"), result.scenario)
    write_page(data, path, details=details)
    return path


def view(page):
    return page.evaluate("[moesim.view.from, moesim.view.to]")


def test_the_page_requests_nothing_and_complains_about_nothing(open_page, run_page):
    page = open_page(run_page)
    page.wait_for_timeout(200)
    assert page.requested == [run_page.as_uri()]
    assert page.said == []


def test_names_from_a_scenario_become_neither_markup_nor_script(open_page, run_page):
    """The text is shown as it is; no element and no script comes from it."""
    page = open_page(run_page)
    assert page.evaluate("window.hacked") is None
    assert page.locator("img:not(.picture)").count() == 0
    assert page.locator("h1").text_content() == HOSTILE
    assert HOSTILE in page.locator("#reproduce code").first.text_content()
    assert page.evaluate("document.querySelectorAll('script').length") == 3


def test_a_script_that_is_not_the_pages_does_not_run(open_page, run_page):
    """The policy holds against what a later mistake might let in."""
    page = open_page(run_page)
    refused = page.evaluate(
        """() => [
          () => document.body.setAttribute('onclick', 'window.hacked = 3'),
          () => { document.body.innerHTML += '<p>more</p>'; },
          () => { document.head.append(Object.assign(document.createElement('script'), {text: 'hacked = 4'})); },
        ].filter((attempt) => { try { attempt(); } catch { return true; } return false; }).length"""
    )
    page.evaluate("document.head.append(Object.assign(document.createElement('style'), {textContent: 'h1{top:9px}'}))")
    assert refused == 3
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("getComputedStyle(document.querySelector('h1')).top") != "9px"
    assert any("Content Security Policy" in text for text in page.said)


def test_zoom_and_pan_by_buttons_keys_and_wheel(open_page, run_page):
    page = open_page(run_page)
    whole = view(page)
    page.get_by_role("button", name="Zoom in").click()
    first = view(page)
    assert first[1] - first[0] < whole[1] - whole[0]
    page.locator("#timeline-canvas").focus()
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    second = view(page)
    assert second[1] - second[0] < first[1] - first[0]
    page.locator("#timeline-canvas").hover(position={"x": 600, "y": 60})
    page.keyboard.down("Control")
    page.mouse.wheel(0, -300)
    page.keyboard.up("Control")
    page.wait_for_timeout(60)
    third = view(page)
    assert third[1] - third[0] < second[1] - second[0]
    page.keyboard.press("Home")
    assert view(page) == whole


def test_a_span_under_the_pointer_is_described(open_page, run_page):
    """The strip of passes of the first stage begins with its first pass."""
    page = open_page(run_page)
    page.locator("#timeline-canvas").hover(position={"x": 200, "y": 56})
    said = page.locator(".tip").inner_text()
    assert re.search(r"F0", said)
    assert "stage 0, passes" in said
    assert "critical path" in said


def test_a_stall_under_the_pointer_says_what_ended_it(open_page, run_page):
    """The middle of the longest stall, zoomed in so that it is wide."""
    page = open_page(run_page)
    place = page.evaluate(
        """() => {
          const {timeline, view, spans} = moesim;
          const durations = Array.from(spans.columns.stall_duration_ns);
          const longest = durations.indexOf(Math.max(...durations));
          const start = spans.columns.stall_start_ns[longest];
          view.show(start - durations[longest], start + 2 * durations[longest]);
          const drawing = timeline.drawing;
          const top = drawing.topOf(spans.columns.stall_band[longest]) + drawing.stripPlaces.compute.top + 4;
          return {x: drawing.xOf(start + durations[longest] / 2), y: top};
        }"""
    )
    page.wait_for_timeout(60)
    page.locator("#timeline-canvas").hover(position=place)
    said = page.locator(".tip").inner_text()
    assert said.startswith("stalled")
    assert "until" in said


def test_the_heat_map_is_read_by_keys(open_page, run_page):
    """Every expert of a balanced routing has as many tokens as the mean."""
    page = open_page(run_page)
    page.locator("#heat-expert-tokens").focus()
    for key in ("ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    said = page.locator("#heat-expert-tokens-readout").inner_text()
    assert said.startswith("layer 1, expert 1: ")
    assert said.endswith("1 times the mean.")


def test_the_page_of_a_stress_test_requests_nothing_and_shows_every_remedy(open_page, tmp_path):
    changes = ["workload.sequences=64", "workload.sequence_length=128", "workload.microbatches=1", "model.layers=2"]
    data = stress_test("zipf_sweep", overrides=changes, skews=[0.0, 1.0], num_seeds=1)
    data["remedies"][0]["name"] = HOSTILE
    for row in data["rows"]:
        row["remedy"] = HOSTILE if row["remedy"] == "nothing" else row["remedy"]
    write_stress_page(data, tmp_path / "stress.html")
    page = open_page(tmp_path / "stress.html", width=390)
    assert page.requested == [(tmp_path / "stress.html").as_uri()]
    assert page.said == []
    assert page.evaluate("window.hacked") is None
    names = page.locator("#grid table").first.locator("tbody th").all_inner_texts()
    assert len(names) == len(data["remedies"])
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_range_that_is_selected_gets_its_breakdown(open_page, run_page):
    """The shares along the critical path sum to the range."""
    page = open_page(run_page)
    canvas = page.locator("#timeline-canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.keyboard.down("Shift")
    page.mouse.move(box["x"] + 400, box["y"] + 80)
    page.mouse.down()
    page.mouse.move(box["x"] + 700, box["y"] + 80, steps=3)
    page.mouse.up()
    page.keyboard.up("Shift")
    page.wait_for_timeout(250)
    assert "the selected range" in page.locator("#breakdown-range").inner_text()
    cells = page.locator("#breakdown-body td:nth-child(2)").all_inner_texts()
    shares = [float(cell.removesuffix(" %")) for cell in cells if cell != "–"]
    assert sum(shares) == pytest.approx(100, abs=0.5)


def test_the_keyboard_alone_walks_along_what_released_what(open_page, run_page):
    page = open_page(run_page)
    page.locator("#timeline-canvas").focus()
    page.keyboard.press("n")
    page.keyboard.press("ArrowDown")
    first = page.evaluate("moesim.timeline.drawing.focused")
    page.keyboard.press("f")
    later = page.evaluate("moesim.timeline.drawing.focused")
    page.keyboard.press("b")
    assert first >= 0
    assert later != first
    assert page.evaluate("moesim.timeline.drawing.focused") == first
    assert page.locator("#span-details").is_visible()
    page.get_by_role("button", name="To what it releases").click()
    assert page.evaluate("moesim.timeline.drawing.focused") == later
    page.get_by_role("button", name="Zoom to it").click()
    shown = view(page)
    assert shown[1] - shown[0] < 1e6
    page.locator("#timeline-canvas").focus()
    page.keyboard.press("Escape")
    assert page.locator("#span-details").is_hidden()


def test_a_claim_leads_to_the_spans_that_decided_it(open_page, run_page):
    page = open_page(run_page)
    whole = view(page)
    link = page.locator("#claims a[data-span]").first
    link.click()
    shown = view(page)
    assert shown[1] - shown[0] < whole[1] - whole[0]
    span = page.evaluate("moesim.timeline.drawing.focused")
    assert span == int(link.get_attribute("data-span"))
    assert page.evaluate("moesim.spans.kindOf(moesim.timeline.drawing.focused)") in link.inner_text()
    assert page.evaluate("moesim.spans.onPath[moesim.timeline.drawing.focused]") == 1


def test_the_page_fits_a_phone_in_the_dark(open_page, run_page):
    """Nothing but tables and code scrolls to the side."""
    page = open_page(run_page, width=390, height=800, scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator("#theme").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark


def test_a_hundred_thousand_spans_are_small_and_drawn_as_fewer_rectangles(open_page, tmp_path):
    """Spans narrower than a pixel share rectangles, at each width of view; `make bench` has the times of drawing."""
    path = tmp_path / "many.html"
    write_page({"scenario": {"name": "many"}, "metrics": {}}, path, details=RunDetails(trace=many_spans(100_000)))
    assert path.stat().st_size < 8_000_000
    page = open_page(path)
    counts = page.evaluate(
        """() => {
          const {timeline, view} = moesim;
          let count = 0;
          const fill = CanvasRenderingContext2D.prototype.fillRect;
          CanvasRenderingContext2D.prototype.fillRect = function (...box) { count += 1; fill.apply(this, box); };
          return [1, 2, 4, 8, 16, 64].flatMap((factor) => [0.1, 0.5, 0.9].map((share) => {
            const length = (view.endNs - view.startNs) / factor;
            [view.from, view.to] = [share * (view.endNs - length), share * (view.endNs - length) + length];
            count = 0;
            timeline.drawing.draw();
            return count;
          }));
        }"""
    )
    assert min(counts) > 0
    assert max(counts) < 20_000  # about 1,200 pixels in 3 rows of 4 stages
