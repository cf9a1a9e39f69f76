// The page: what its controls do, and which picture gets which data.

import { inflate, unpackColumns } from "./columns.js";
import { Curves } from "./curves.js";
import { formatShare, formatTime } from "./format.js";
import { HeatMap } from "./heatmap.js";
import { Spans } from "./spans.js";
import { Timeline, ZOOM_STEP, fillDetails } from "./timeline.js";
import { View } from "./view.js";

/** @typedef {import("./curves.js").CurveData} CurveData */
/** @typedef {import("./heatmap.js").HeatData} HeatData */
/** @typedef {import("./timeline.js").Palette} Palette */
/** @typedef {import("./spans.js").SpanData} SpanData */

/**
 * @typedef {SpanData & {palettes: {light: Palette, dark: Palette}, curves: CurveData[], heat: HeatData[]}} PageData
 */

/** @param {string} id */
function byId(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

/**
 * Return a row of a table.
 * @param {string[]} texts
 * @param {string} [cell]
 */
function tableRow(texts, cell = "td") {
  const row = document.createElement("tr");
  texts.forEach((text, i) => {
    const element = document.createElement(i === 0 && cell === "td" ? "th" : cell);
    if (i === 0 && cell === "td") {
      element.setAttribute("scope", "row");
    }
    element.textContent = text;
    row.append(element);
  });
  return row;
}

const MOST_COLUMNS = 8;

/**
 * Write what the selected range, or else the range in view, is made of, for the bands in view.
 * @param {Timeline} timeline
 */
function fillBreakdown(timeline) {
  const { spans, view } = timeline;
  const { from, to } = view.selection ?? view;
  const length = Math.max(1, to - from);
  const what = view.selection ? "the selected range" : "the range in view";
  const first = timeline.drawing.firstBandInView;
  const inView = spans.data.bands.slice(first, first + MOST_COLUMNS);
  const which = spans.data.bands.length > MOST_COLUMNS ? ` Shown: ${inView.length} of ${spans.data.bands.length} bands, those in view.` : "";
  byId("breakdown-range").textContent =
    `${what}: ${formatTime(from)} to ${formatTime(to)}, ${formatTime(length)} long.${which}`;
  const path = new Map(spans.pathBetween(from, to).map((share) => [share.kind, share.ns]));
  const bands = inView.map((_, i) => spans.bandBetween(first + i, from, to));
  const kinds = [...spans.data.kinds, "stalled", "foreign", "idle"].filter(
    (kind) => path.get(kind) || bands.some((band) => (band.get(kind) ?? 0) > 0),
  );
  const head = ["share of the range", "critical path", ...inView.map((band) => band.label)];
  const rows = kinds.map((kind) =>
    tableRow([
      spans.data.kindNames[kind] ?? kind,
      ...[path, ...bands].map((sums) => (sums.get(kind) ? formatShare(/** @type {number} */ (sums.get(kind)) / length) : "–")),
    ]),
  );
  byId("breakdown-head").replaceChildren(tableRow(head, "th"));
  byId("breakdown-body").replaceChildren(...rows);
}

/**
 * @param {Timeline} timeline
 * @param {() => void} redrawAll
 */
function wireControls(timeline, redrawAll) {
  const { view, drawing } = timeline;
  /** @type {Record<string, (button: HTMLElement) => void>} */
  const actions = {
    in: () => view.zoom(ZOOM_STEP),
    out: () => view.zoom(1 / ZOOM_STEP),
    left: () => view.pan(-0.3),
    right: () => view.pan(0.3),
    whole: () => view.show(view.startNs, view.endNs),
    selection: () => view.selection && view.show(view.selection.from, view.selection.to),
    select: (button) => {
      timeline.isSelecting = toggle(button);
    },
    path: (button) => {
      drawing.showsPath = toggle(button);
    },
    arrows: (button) => {
      drawing.showsArrows = toggle(button);
    },
    kinds: (button) => {
      drawing.colourBy = toggle(button) ? "kind" : "microbatch";
    },
    compact: (button) => {
      drawing.isCompact = toggle(button);
      timeline.resize();
    },
    clear: () => view.select(null),
    back: () => timeline.follow(-1),
    forward: () => timeline.follow(1),
    span: () => timeline.zoomTo(drawing.focused),
    unpin: () => timeline.focus(-1),
  };
  for (const button of document.querySelectorAll("[data-action]")) {
    const element = /** @type {HTMLElement} */ (button);
    element.addEventListener("click", () => {
      actions[String(element.dataset.action)]?.(element);
      view.changed();
    });
  }
  const compact = document.querySelector('[data-action="compact"]');
  compact?.setAttribute("aria-pressed", String(drawing.isCompact));
  for (const link of document.querySelectorAll("[data-from-ns]")) {
    link.addEventListener("click", () => {
      const { fromNs, toNs, span } = /** @type {HTMLElement} */ (link).dataset;
      const [from, to] = [Number(fromNs), Number(toNs)];
      const margin = Math.max((to - from) * 0.6, 20);
      view.select(from, to);
      view.show(from - margin, to + margin);
      timeline.focus(span === undefined ? -1 : Number(span), true);
    });
  }
  window.addEventListener("resize", redrawAll);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
}

/**
 * Turn a toggle button; return whether it is on.
 * @param {HTMLElement} button
 */
function toggle(button) {
  const isOn = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(isOn));
  return isOn;
}

/** Open what is folded in a section to which a link leads. */
function wireLinks() {
  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element ? event.target.closest('a[href^="#"]') : null;
    const section = link && document.getElementById(String(link.getAttribute("href")).slice(1));
    if (section?.id === "facts") {
      section.querySelector("details")?.setAttribute("open", "");
    }
  });
}

/** @param {() => void} redrawAll */
function wireTheme(redrawAll) {
  byId("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const isDark = getComputedStyle(root).getPropertyValue("--is-dark").trim() === "1";
    root.dataset.theme = isDark ? "light" : "dark";
    redrawAll();
  });
}

async function start() {
  /** @type {(() => void)[]} */
  const redraws = [];
  const redrawAll = () => {
    for (const redraw of redraws) {
      redraw();
    }
  };
  wireTheme(redrawAll);
  wireLinks();
  const element = document.getElementById("moesim-data");
  if (!element) {
    return;
  }
  /** @type {PageData} */
  const data = JSON.parse(element.textContent ?? "{}");
  const columns = unpackColumns(data.index, await inflate("moesim-columns"));
  for (const heat of data.heat) {
    const canvas = /** @type {HTMLCanvasElement} */ (byId(heat.id));
    const map = new HeatMap(canvas, heat, columns[heat.column]);
    redraws.push(() => map.draw());
  }
  if (data.bands.length) {
    startTimeline(data, columns, redraws, redrawAll);
  }
  window.addEventListener("resize", redrawAll);
  document.documentElement.dataset.ready = "true";
}

/**
 * @param {PageData} data
 * @param {Record<string, ArrayLike<number>>} columns
 * @param {(() => void)[]} redraws
 * @param {() => void} redrawAll
 */
function startTimeline(data, columns, redraws, redrawAll) {
  const spans = new Spans(data, columns);
  const view = new View(data.startNs, data.endNs);
  const timeline = new Timeline(byId("timeline-root"), spans, view, data.palettes);
  const panel = byId("span-panel");
  timeline.onFocus = (span) => {
    panel.hidden = span < 0;
    if (span >= 0) {
      fillDetails(byId("span-details"), spans.nameOf(span), spans.describe(span));
    }
  };
  redraws.push(() => timeline.resize());
  const curveCanvas = document.getElementById("curves");
  if (curveCanvas instanceof HTMLCanvasElement && data.curves.length) {
    const curves = new Curves(curveCanvas, data.curves, columns, timeline);
    redraws.push(() => curves.draw());
  }
  let waiting = 0;
  view.onChange(() => {
    clearTimeout(waiting);
    waiting = window.setTimeout(() => fillBreakdown(timeline), 120);
  });
  fillBreakdown(timeline);
  wireControls(timeline, redrawAll);
  Object.assign(window, { moesim: { timeline, view, spans } });
}

start();
