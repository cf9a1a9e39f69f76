// The timeline: pointer, touch and keyboard move the view, and a span under the pointer is described.

import { Drawing } from "./drawing.js";
import { AXIS_PX, HEAD_PX } from "./layout.js";

/** @typedef {import("./spans.js").Spans} Spans */
/** @typedef {import("./view.js").View} View */

/** @typedef {{kinds: Record<string, string>, passes: Record<string, string[]>, foreign: string}} Palette */

export const ZOOM_STEP = 1.6;

export class Timeline {
  /**
   * @param {HTMLElement} root
   * @param {Spans} spans
   * @param {View} view
   * @param {{light: Palette, dark: Palette}} palettes
   */
  constructor(root, spans, view, palettes) {
    this.root = root;
    this.spans = spans;
    this.view = view;
    this.canvas = /** @type {HTMLCanvasElement} */ (root.querySelector("canvas"));
    this.scroller = /** @type {HTMLElement} */ (root.querySelector(".timeline-scroll"));
    this.spacer = /** @type {HTMLElement} */ (root.querySelector(".timeline-spacer"));
    this.tip = /** @type {HTMLElement} */ (root.querySelector(".tip"));
    this.drawing = new Drawing(this.canvas, spans, view, palettes);
    /** @type {number[]} */
    this.drawTimesMs = [];
    /** @type {(span: number) => void} */
    this.onFocus = () => {};
    this.isSelecting = false;
    /** @type {Map<number, {x: number, y: number}>} */
    this.pointers = new Map();
    this.listen();
    view.onChange(() => this.redraw());
    this.resize();
  }

  /** Take the size of the page and draw. */
  resize() {
    const { drawing } = this;
    drawing.readTheme();
    const width = this.scroller.clientWidth;
    drawing.setSize(width, 100);
    const height = Math.min(drawing.fullHeightPx, Math.max(220, Math.round(window.innerHeight * 0.7)));
    this.scroller.style.height = `${height}px`;
    drawing.setSize(this.scroller.clientWidth, height);
    this.spacer.style.height = `${Math.max(0, drawing.fullHeightPx - height)}px`;
    drawing.scrollPx = this.scroller.scrollTop;
    this.redraw();
  }

  redraw() {
    const began = performance.now();
    this.drawing.draw();
    this.drawTimesMs.push(performance.now() - began);
    if (this.drawTimesMs.length > 1000) {
      this.drawTimesMs.shift();
    }
  }

  listen() {
    const { canvas } = this;
    this.scroller.addEventListener("scroll", () => {
      this.drawing.scrollPx = this.scroller.scrollTop;
      this.view.changed();
    });
    canvas.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.onDown(event));
    canvas.addEventListener("pointermove", (event) => this.onMove(event));
    for (const name of /** @type {const} */ (["pointerup", "pointercancel"])) {
      canvas.addEventListener(name, (event) => this.onUp(event));
    }
    canvas.addEventListener("pointerleave", () => this.hideTip());
    canvas.addEventListener("dblclick", (event) => this.view.zoom(ZOOM_STEP * 2, this.drawing.timeAt(event.offsetX)));
    canvas.addEventListener("keydown", (event) => this.onKey(event));
  }

  /** @param {WheelEvent} event */
  onWheel(event) {
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      this.view.zoom(Math.exp(-event.deltaY / 300), this.drawing.timeAt(event.offsetX));
    } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      this.view.pan((event.deltaX || event.deltaY) / this.drawing.widthPx);
    }
  }

  /** @param {PointerEvent} event */
  onDown(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    this.downX = event.offsetX;
    this.hasMoved = false;
    this.marks = this.isSelecting || event.shiftKey || event.offsetY < AXIS_PX;
  }

  /** @param {PointerEvent} event */
  onMove(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      this.showTip(event.offsetX, event.offsetY);
      return;
    }
    const { drawing, view } = this;
    const now = { x: event.offsetX, y: event.offsetY };
    this.hasMoved = this.hasMoved || Math.abs(now.x - /** @type {number} */ (this.downX)) > 3;
    if (this.pointers.size === 2) {
      const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1] ?? now;
      const factor = Math.abs(now.x - other.x) / Math.max(1, Math.abs(before.x - other.x));
      view.zoom(Math.min(Math.max(factor, 0.5), 2), drawing.timeAt((now.x + other.x) / 2));
    } else if (this.marks && this.hasMoved) {
      view.select(drawing.timeAt(/** @type {number} */ (this.downX)), drawing.timeAt(now.x));
    } else if (this.hasMoved) {
      view.pan((before.x - now.x) / (drawing.widthPx - drawing.gutterPx));
      this.scroller.scrollTop += before.y - now.y;
    }
    this.pointers.set(event.pointerId, now);
    this.hideTip();
  }

  /** @param {PointerEvent} event */
  onUp(event) {
    this.pointers.delete(event.pointerId);
    if (!this.hasMoved && event.type === "pointerup") {
      this.focus(this.drawing.spanAt(event.offsetX, event.offsetY));
    }
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    const { view, spans, drawing } = this;
    const focused = drawing.focused;
    /** @type {Record<string, () => void>} */
    const actions = {
      ArrowLeft: () => view.pan(-0.15),
      ArrowRight: () => view.pan(0.15),
      ArrowUp: () => this.moveTrack(-1),
      ArrowDown: () => this.moveTrack(1),
      "+": () => view.zoom(ZOOM_STEP),
      "=": () => view.zoom(ZOOM_STEP),
      "-": () => view.zoom(1 / ZOOM_STEP),
      Home: () => view.show(view.startNs, view.endNs),
      n: () => this.moveAlong(1),
      p: () => this.moveAlong(-1),
      b: () => this.follow(-1),
      f: () => this.follow(1),
      Enter: () => this.zoomTo(focused),
      s: () => focused >= 0 && view.select(spans.start[focused], spans.end[focused]),
      Escape: () => {
        view.select(null);
        this.focus(-1);
      },
    };
    const action = event.ctrlKey || event.metaKey || event.altKey ? undefined : actions[event.key];
    if (action) {
      event.preventDefault();
      action();
    }
  }

  /**
   * Focus the span before or after the focused span in its track.
   * @param {number} step
   */
  moveAlong(step) {
    const { spans, drawing, view } = this;
    if (drawing.focused < 0) {
      const track = spans.tracks[0];
      this.focus(track ? Math.min(spans.firstEndingAfter(track, view.from), track.last - 1) : -1);
      return;
    }
    const track = spans.tracks[spans.track[drawing.focused]];
    this.focus(Math.min(Math.max(drawing.focused + step, track.first), track.last - 1), true);
  }

  /**
   * Focus the span at the same time in the next track.
   * @param {number} step
   */
  moveTrack(step) {
    const { spans, drawing } = this;
    if (drawing.focused < 0) {
      this.moveAlong(0);
      return;
    }
    const number = Math.min(Math.max(spans.track[drawing.focused] + step, 0), spans.tracks.length - 1);
    const track = spans.tracks[number];
    this.focus(Math.min(spans.firstEndingAfter(track, spans.start[drawing.focused]), track.last - 1), true);
  }

  /**
   * @param {number} span
   * @param {boolean} [bringIntoView]
   */
  focus(span, bringIntoView = false) {
    const { drawing, view, spans } = this;
    drawing.focused = span;
    this.onFocus(span);
    if (span >= 0 && bringIntoView) {
      if (spans.end[span] < view.from || spans.start[span] > view.to) {
        const half = (view.to - view.from) / 2;
        view.show(spans.start[span] - half, spans.start[span] + half);
      }
      const place = drawing.placeOf(span);
      if (place.top < HEAD_PX || place.top + place.height > drawing.heightPx) {
        this.scroller.scrollTop += place.top - drawing.heightPx / 2;
      }
    }
    view.changed();
  }

  /**
   * Focus what released the focused span (-1), or the first span that it releases (1); stay where there is none.
   * @param {number} direction
   */
  follow(direction) {
    const { spans, drawing } = this;
    if (drawing.focused >= 0) {
      const next = direction < 0 ? spans.releaserOf(drawing.focused) : (spans.releasedBy(drawing.focused)[0] ?? -1);
      this.focus(next >= 0 ? next : drawing.focused, true);
    }
  }

  /** @param {number} span */
  zoomTo(span) {
    if (span >= 0) {
      const length = Math.max(this.spans.end[span] - this.spans.start[span], 1);
      this.view.show(this.spans.start[span] - length * 0.5, this.spans.end[span] + length * 0.5);
    }
  }

  /**
   * @param {number} x
   * @param {number} y
   */
  showTip(x, y) {
    const span = this.drawing.spanAt(x, y);
    const stall = span < 0 ? this.drawing.stallAt(x, y) : -1;
    if (span < 0 && stall < 0) {
      this.hideTip();
      return;
    }
    if (span >= 0) {
      fillDetails(this.tip, this.spans.nameOf(span), this.spans.describe(span));
    } else {
      fillDetails(this.tip, "stalled", this.spans.describeStall(stall));
    }
    this.tip.hidden = false;
    const bounds = this.root.getBoundingClientRect();
    const at = this.canvas.getBoundingClientRect();
    const left = Math.min(x + at.left - bounds.left + 14, bounds.width - this.tip.offsetWidth - 4);
    const below = y + at.top - bounds.top + 14;
    const fits = at.top + y + 14 + this.tip.offsetHeight < window.innerHeight;
    this.tip.style.left = `${Math.max(4, left)}px`;
    this.tip.style.top = `${fits ? below : below - this.tip.offsetHeight - 28}px`;
  }

  hideTip() {
    this.tip.hidden = true;
  }
}

/**
 * Write a name and rows of what is known into an element.
 * @param {HTMLElement} element
 * @param {string} name
 * @param {[string, string][]} rows
 */
export function fillDetails(element, name, rows) {
  const title = document.createElement("strong");
  title.textContent = name;
  const list = document.createElement("dl");
  for (const [label, value] of rows) {
    const [term, text] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = label;
    text.textContent = value;
    list.append(term, text);
  }
  element.replaceChildren(title, list);
}
