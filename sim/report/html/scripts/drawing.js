// The drawing of the timeline: bands of stages with strips of spans, on a canvas.

import { tickDistance, timeTicks } from "./format.js";
import { AXIS_PX, BAND_GAP_PX, HEAD_PX, Layout, PATH_PX } from "./layout.js";
import { STREAM_NAMES } from "./spans.js";
import { sizeCanvas, styleColours } from "./view.js";

/** @typedef {import("./timeline.js").Palette} Palette */
/** @typedef {import("./spans.js").Spans} Spans */
/** @typedef {import("./view.js").View} View */

const MOST_PATH_PIECES = 400;
const MOST_ARROWS = 300;
const INK_NAMES = ["ink", "subtle", "line", "page", "card", "idle", "open", "stalled", "accent", "path", "select"];

export class Drawing extends Layout {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {Spans} spans
   * @param {View} view
   * @param {{light: Palette, dark: Palette}} palettes
   */
  constructor(canvas, spans, view, palettes) {
    super(spans, view);
    this.canvas = canvas;
    this.palettes = palettes;
    this.colourBy = "microbatch";
    this.showsPath = true;
    this.showsArrows = true;
    /** @type {number} */
    this.focused = -1;
    this.context = sizeCanvas(canvas, this.widthPx, this.heightPx);
    this.ink = styleColours(INK_NAMES);
    this.palette = palettes.light;
    this.setSize(300, 300);
  }

  /** Take the colours of the theme that is on. */
  readTheme() {
    this.ink = styleColours(INK_NAMES);
    const isDark = getComputedStyle(document.documentElement).getPropertyValue("--is-dark").trim() === "1";
    this.palette = isDark ? this.palettes.dark : this.palettes.light;
  }

  /**
   * @param {number} widthPx
   * @param {number} heightPx
   */
  setSize(widthPx, heightPx) {
    super.setSize(widthPx, heightPx);
    this.context = sizeCanvas(this.canvas, widthPx, heightPx);
  }

  /** Draw everything. */
  draw() {
    const { context, ink } = this;
    context.fillStyle = ink.card;
    context.fillRect(0, 0, this.widthPx, this.heightPx);
    context.save();
    context.beginPath();
    context.rect(this.gutterPx, HEAD_PX, this.widthPx, this.heightPx - HEAD_PX);
    context.clip();
    this.drawGround();
    for (const track of this.spans.tracks) {
      const top = this.topOf(track.band);
      if (top < this.heightPx && top + this.bandPx > HEAD_PX) {
        this.drawTrack(track);
      }
    }
    if (this.showsPath) {
      this.drawPath();
    }
    if (this.showsArrows) {
      this.drawArrows();
    }
    this.drawFocus();
    context.restore();
    this.drawPathStrip();
    this.drawSelection();
    this.drawGutter();
    this.drawAxis();
  }

  /** Draw the kinds along the critical path in a strip of its own; of the pieces within a pixel, the longest. */
  drawPathStrip() {
    const { context, ink, spans, view, palette } = this;
    const { path_span: path, path_start_ns: starts, path_duration_ns: durations } = spans.columns;
    const gutter = this.gutterPx;
    context.fillStyle = ink.card;
    context.fillRect(gutter, AXIS_PX, this.widthPx - gutter, HEAD_PX - AXIS_PX);
    context.fillStyle = ink.stalled;
    context.fillRect(gutter, AXIS_PX, this.widthPx - gutter, PATH_PX);
    const scale = (this.widthPx - gutter) / (view.to - view.from);
    let reached = gutter;
    let longest = 0;
    for (let i = spans.pathPieceAt(view.from); i < path.length && starts[i] < view.to; i += 1) {
      const x = Math.max(gutter, gutter + (starts[i] - view.from) * scale);
      const end = gutter + (Math.min(starts[i] + durations[i], view.to) - view.from) * scale;
      longest = x < reached - 0.01 && durations[i] < longest ? longest : durations[i];
      if (end >= reached + 0.5 || durations[i] === longest) {
        context.fillStyle = palette.kinds[spans.kindOf(path[i])];
        context.fillRect(x, AXIS_PX, Math.max(end - x, 0.7), PATH_PX);
        [reached, longest] = [Math.floor(end) + 1, end - x < 1 ? longest : 0];
      }
    }
  }

  /** Draw the ground of each band, open passes and stalls. */
  drawGround() {
    const { context, ink, spans, view } = this;
    const gutter = this.gutterPx;
    const bandPx = this.bandPx - (this.isCompact ? 5 : BAND_GAP_PX);
    context.fillStyle = ink.idle;
    spans.data.bands.forEach((_, band) => {
      context.fillRect(gutter, this.topOf(band), this.widthPx - gutter, bandPx);
    });
    context.fillStyle = ink.open;
    for (const track of spans.tracks.filter((one) => one.strip === "pass")) {
      this.forBoxes(track, (x, width) => context.fillRect(x, this.topOf(track.band), width, bandPx));
    }
    const { stall_band: bands, stall_start_ns: starts, stall_duration_ns: durations } = spans.columns;
    const [first, last] = ["compute", "comm"].map((strip) => this.stripPlaces[strip]);
    if (!first || !last) {
      return;
    }
    context.fillStyle = ink.stalled;
    for (let i = 0; i < bands.length; i += 1) {
      if (starts[i] < view.to && starts[i] + durations[i] > view.from) {
        const x = this.xOf(starts[i]);
        const width = Math.max(this.xOf(starts[i] + durations[i]) - x, 0.4);
        const top = this.topOf(bands[i]) + first.top;
        context.fillRect(x, top, width, last.top + last.height - first.top);
      }
    }
  }

  /**
   * Call a function with left edge, width and span of what a track shows; spans within a pixel are merged into the
   * longest of them.
   * @param {{first: number, last: number}} track
   * @param {(x: number, width: number, span: number) => void} put
   */
  forBoxes(track, put) {
    const { start, end } = this.spans;
    const { from, to } = this.view;
    const gutter = this.gutterPx;
    const scale = (this.widthPx - gutter) / (to - from);
    for (let i = this.spans.firstEndingAfter(track, from); i < track.last && start[i] < to; ) {
      const x = gutter + (Math.max(start[i], from) - from) * scale;
      let reached = gutter + (Math.min(end[i], to) - from) * scale;
      let span = i;
      i += 1;
      if (reached - x < 1) {
        const pixelNs = from + (Math.floor(x) + 1 - gutter) / scale;
        let longest = end[span] - start[span];
        for (; i < track.last && end[i] <= pixelNs; i += 1) {
          if (end[i] - start[i] > longest) {
            span = i;
            longest = end[i] - start[i];
          }
          reached = gutter + (end[i] - from) * scale;
        }
      }
      put(x, Math.max(reached - x, 0.7), span);
    }
  }

  /**
   * Draw the spans of a track; neighbours of one colour become one rectangle.
   * @param {{first: number, last: number, strip: string, band: number}} track
   */
  drawTrack(track) {
    const { context } = this;
    const place = this.placeOf(track.first);
    const labels = track.strip === "pass" && !this.isCompact;
    let colour = "";
    let [left, right, top, height] = [0, -1, 0, 0];
    const flush = () => {
      if (right > left) {
        context.fillStyle = colour;
        context.fillRect(left, top, right - left, height);
      }
    };
    this.forBoxes(track, (x, width, span) => {
      const [next, at] = [this.colourOf(span), track.strip === "pass" || track.strip === "foreign" ? place : this.placeOf(span)];
      const gap = track.strip === "pass" && width > 6 ? 1 : 0;
      if (next !== colour || at.top !== top || at.height !== height || x > right + 0.3 || gap) {
        flush();
        [colour, left, top, height] = [next, x, at.top, Math.max(at.height, 0.5)];
      }
      right = x + width - gap;
      if (labels && width > 18) {
        flush();
        this.drawLabel(span, x, width, at.top, at.height);
        left = right;
      }
    });
    flush();
  }

  /**
   * @param {number} span
   * @param {number} x
   * @param {number} width
   * @param {number} top
   * @param {number} height
   */
  drawLabel(span, x, width, top, height) {
    const { context } = this;
    const number = this.spans.columns.microbatch[span];
    const text = width > 30 || number < 0 ? this.spans.nameOf(span) : String(number);
    context.font = "11px system-ui, sans-serif";
    const textPx = context.measureText(text).width;
    if (textPx + 4 < width && height >= 11) {
      context.fillStyle = this.spans.kindOf(span) === "O" ? "#ffffff" : "#111820";
      context.textBaseline = "middle";
      context.textAlign = "center";
      context.fillText(text, x + width / 2, top + height / 2 + 0.5);
    }
  }

  /**
   * @param {number} span
   * @returns {string}
   */
  colourOf(span) {
    const kind = this.spans.kindOf(span);
    const { palette } = this;
    const strip = this.spans.tracks[this.spans.track[span]].strip;
    if (strip === "foreign") {
      return palette.foreign;
    }
    const hues = this.colourBy === "microbatch" ? palette.passes[kind] : undefined;
    if (hues) {
      return hues[Math.max(this.spans.columns.microbatch[span], 0) % hues.length];
    }
    return palette.kinds[kind];
  }

  /** Draw a line along the critical path, in the strip of each of its spans and from span to span. */
  drawPath() {
    const { context, ink, spans, view } = this;
    const { path_span: path, path_start_ns: starts, path_duration_ns: durations } = spans.columns;
    const first = spans.pathPieceAt(view.from);
    if (spans.pathPieceAt(view.to) - first > MOST_PATH_PIECES) {
      return; // too many lines to tell apart: the strip at the top shows them
    }
    context.strokeStyle = ink.path;
    context.lineWidth = 2;
    context.beginPath();
    let lastY = 0;
    for (let i = first; i < path.length && starts[i] < view.to; i += 1) {
      const place = this.placeOf(path[i]);
      const y = place.top + place.height - 1;
      const x = this.xOf(starts[i]);
      if (i > first) {
        context.lineTo(x, lastY); // what lies between two pieces is a wait
      }
      context[i === first ? "moveTo" : "lineTo"](x, y);
      context.lineTo(this.xOf(starts[i] + durations[i]), y);
      lastY = y;
    }
    context.stroke();
  }

  /** Draw arrows from sends to what they release, and around the focused span. */
  drawArrows() {
    const { spans, view } = this;
    /** @type {[number, number][]} */
    const arrows = [];
    for (const send of spans.sends) {
      if (spans.end[send] > view.from && spans.start[send] < view.to && arrows.length <= MOST_ARROWS) {
        const by = spans.releaserOf(send);
        if (by >= 0) {
          arrows.push([by, send]);
        }
        for (const next of spans.releasedBy(send)) {
          arrows.push([send, next]);
        }
      }
    }
    if (arrows.length <= MOST_ARROWS) {
      this.context.globalAlpha = 0.75;
      for (const [from, to] of arrows) {
        this.drawArrow(from, to, this.ink.subtle);
      }
      this.context.globalAlpha = 1;
    }
  }

  /**
   * @param {number} from
   * @param {number} to
   * @param {string} colour
   */
  drawArrow(from, to, colour) {
    const { context, spans } = this;
    const [a, b] = [this.placeOf(from), this.placeOf(to)];
    const [x1, x2] = [this.xOf(spans.end[from]), this.xOf(spans.start[to])];
    const [y1, y2] = [a.top + a.height / 2, b.top + b.height / 2];
    if (Math.max(x1, x2) < 0 || Math.min(x1, x2) > this.widthPx) {
      return;
    }
    const bend = Math.max(8, Math.abs(x2 - x1) / 2);
    context.strokeStyle = colour;
    context.fillStyle = colour;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x1, y1);
    context.bezierCurveTo(x1 + bend, y1, x2 - bend, y2, x2, y2);
    context.stroke();
    context.beginPath();
    context.moveTo(x2, y2);
    context.lineTo(x2 - 5, y2 - 3);
    context.lineTo(x2 - 5, y2 + 3);
    context.fill();
  }

  /** Frame the focused span, with arrows from its releaser and to what it releases. */
  drawFocus() {
    const { context, ink, spans, focused } = this;
    if (focused < 0) {
      return;
    }
    const by = spans.releaserOf(focused);
    if (by >= 0) {
      this.drawArrow(by, focused, ink.accent);
    }
    for (const next of spans.releasedBy(focused).slice(0, 64)) {
      this.drawArrow(focused, next, ink.accent);
    }
    const place = this.placeOf(focused);
    const x = this.xOf(spans.start[focused]);
    context.strokeStyle = ink.accent;
    context.lineWidth = 2;
    context.strokeRect(x - 1, place.top - 1, Math.max(this.xOf(spans.end[focused]) - x, 1) + 2, place.height + 2);
  }

  drawSelection() {
    const { context, ink, view } = this;
    if (view.selection) {
      const [x, end] = [this.xOf(view.selection.from), this.xOf(view.selection.to)];
      context.fillStyle = ink.select;
      context.globalAlpha = 0.22;
      context.fillRect(x, AXIS_PX, end - x, this.heightPx);
      context.globalAlpha = 1;
      context.fillRect(x, AXIS_PX, 1, this.heightPx);
      context.fillRect(end - 1, AXIS_PX, 1, this.heightPx);
    }
  }

  /** Draw the names of bands and strips. */
  drawGutter() {
    const { context, ink, spans } = this;
    const gutter = this.gutterPx;
    context.fillStyle = ink.card;
    context.fillRect(0, 0, gutter, this.heightPx);
    context.textAlign = "right";
    context.textBaseline = "middle";
    context.save();
    context.beginPath();
    context.fillStyle = ink.subtle;
    context.font = "11px system-ui, sans-serif";
    context.fillText(gutter < 100 ? "path" : "critical path", gutter - 8, AXIS_PX + PATH_PX / 2);
    context.rect(0, HEAD_PX, gutter, this.heightPx);
    context.clip();
    spans.data.bands.forEach((band, number) => {
      const top = this.topOf(number);
      if (top > this.heightPx || top + this.bandPx < HEAD_PX) {
        return;
      }
      const alike = band.alike > 1 ? ` ×${band.alike}` : "";
      const name = gutter < 100 ? `S${band.stage}${spans.data.bands.length > band.stage + 1 && band.lane ? `.${band.lane}` : ""}` : band.label;
      context.fillStyle = ink.ink;
      context.font = `600 ${this.isCompact ? 11 : 12}px system-ui, sans-serif`;
      context.fillText(name + alike, gutter - 8, top + (this.isCompact ? 8 : 12));
      if (this.isCompact || gutter < 100) {
        return;
      }
      context.fillStyle = ink.subtle;
      context.font = "11px system-ui, sans-serif";
      for (const strip of this.strips.slice(1)) {
        const place = this.stripPlaces[strip];
        context.fillText(STREAM_NAMES[strip], gutter - 8, top + place.top + place.height / 2);
      }
    });
    context.restore();
  }

  /** Draw the axis of time at the top. */
  drawAxis() {
    const { context, ink, view } = this;
    const gutter = this.gutterPx;
    context.fillStyle = ink.card;
    context.fillRect(0, 0, this.widthPx, AXIS_PX);
    context.fillStyle = ink.subtle;
    context.strokeStyle = ink.line;
    context.lineWidth = 1;
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    const distance = tickDistance(view.to - view.from, this.widthPx - gutter, 90);
    context.beginPath();
    for (const tick of timeTicks(view.from, view.to, distance)) {
      const x = this.xOf(tick.at);
      const half = context.measureText(tick.text).width / 2;
      context.moveTo(x, AXIS_PX - 6);
      context.lineTo(x, AXIS_PX);
      context.fillText(tick.text, Math.min(Math.max(x, gutter + half), this.widthPx - half - 2), 10);
    }
    context.moveTo(gutter, AXIS_PX - 0.5);
    context.lineTo(this.widthPx, AXIS_PX - 0.5);
    context.stroke();
  }
}
