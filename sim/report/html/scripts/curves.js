// Memory and link load under the timeline, on the same axis of time.

import { formatQuantity, formatShare, formatTime } from "./format.js";
import { sizeCanvas, styleColours } from "./view.js";

/** @typedef {import("./timeline.js").Timeline} Timeline */

/**
 * @typedef {{title: string, unit: string, shows: string, most: number, limit: number | null, limitName: string,
 *   lines: {name: string, time: string, value: string}[]}} CurveData
 */

const CURVE_TITLE_PX = 18;
const CURVE_PX = 84;
const CURVE_INK = ["ink", "subtle", "line", "card", "idle", "select", "stalled"];

export class Curves {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {CurveData[]} data
   * @param {Record<string, ArrayLike<number>>} columns
   * @param {Timeline} timeline
   */
  constructor(canvas, data, columns, timeline) {
    this.canvas = canvas;
    this.data = data;
    this.columns = columns;
    this.timeline = timeline;
    this.readout = /** @type {HTMLElement} */ (document.getElementById("curve-readout"));
    timeline.view.onChange(() => this.draw());
    canvas.addEventListener("pointermove", (event) => this.read(event.offsetX));
    canvas.addEventListener("keydown", (event) => timeline.onKey(event));
    this.draw();
  }

  /**
   * Return the position of the last change at or before a time.
   * @param {ArrayLike<number>} times
   * @param {number} at
   */
  lastBefore(times, at) {
    let [low, high] = [0, times.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (times[middle] <= at) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low - 1;
  }

  draw() {
    const { drawing } = this.timeline;
    const width = drawing.widthPx;
    this.ink = styleColours(CURVE_INK);
    this.colours = styleColours(["series-0", "series-1", "series-2", "series-3", "series-4", "series-5"]);
    const context = sizeCanvas(this.canvas, width, this.data.length * (CURVE_PX + CURVE_TITLE_PX) + 8);
    context.fillStyle = this.ink.card;
    context.fillRect(0, 0, width, this.canvas.height);
    for (let number = 0; number < this.data.length; number += 1) {
      this.drawCurve(context, this.data[number], number * (CURVE_PX + CURVE_TITLE_PX));
    }
    const selection = this.timeline.view.selection;
    if (selection) {
      const gutter = drawing.gutterPx;
      const [x, end] = [Math.max(gutter, drawing.xOf(selection.from)), Math.max(gutter, drawing.xOf(selection.to))];
      context.globalAlpha = 0.22;
      context.fillStyle = this.ink.select;
      context.fillRect(x, 0, end - x, this.canvas.height);
      context.globalAlpha = 1;
    }
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {CurveData} curve
   * @param {number} topPx
   */
  drawCurve(context, curve, topPx) {
    const { drawing } = this.timeline;
    const ink = /** @type {Record<string, string>} */ (this.ink);
    const gutter = drawing.gutterPx;
    const [top, bottom] = [topPx + CURVE_TITLE_PX, topPx + CURVE_TITLE_PX + CURVE_PX - 8];
    const y = (/** @type {number} */ value) => bottom - (value / curve.most) * (bottom - top);
    context.font = "600 12px system-ui, sans-serif";
    context.textAlign = "left";
    context.textBaseline = "middle";
    context.fillStyle = ink.ink;
    context.fillText(curve.title, gutter, topPx + 9);
    this.drawNames(context, curve, gutter + context.measureText(curve.title).width + 16, topPx + 9);
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "right";
    context.strokeStyle = ink.line;
    context.lineWidth = 1;
    for (const value of [0, curve.most / 2, curve.most]) {
      context.fillStyle = ink.subtle;
      const text = curve.unit === "%" ? formatShare(value) : formatQuantity(value, curve.unit);
      context.fillText(text, gutter - 6, Math.min(Math.max(y(value), top + 5), bottom - 5));
      context.beginPath();
      context.moveTo(gutter, y(value));
      context.lineTo(drawing.widthPx, y(value));
      context.stroke();
    }
    context.save();
    context.beginPath();
    context.rect(gutter, top - 2, drawing.widthPx - gutter, bottom - top + 4);
    context.clip();
    for (let number = 0; number < curve.lines.length; number += 1) {
      this.drawLine(context, curve, number, y);
    }
    if (curve.limit !== null && curve.limit <= curve.most) {
      context.strokeStyle = ink.stalled;
      context.setLineDash([6, 4]);
      context.beginPath();
      context.moveTo(gutter, y(curve.limit));
      context.lineTo(drawing.widthPx, y(curve.limit));
      context.stroke();
      context.setLineDash([]);
    }
    context.restore();
  }

  /**
   * Draw the names of several lines in their colours, as many as there is room for.
   * @param {CanvasRenderingContext2D} context
   * @param {CurveData} curve
   * @param {number} x
   * @param {number} y
   */
  drawNames(context, curve, x, y) {
    let left = x;
    for (let number = 0; number < curve.lines.length && curve.lines.length > 1; number += 1) {
      const { name } = curve.lines[number];
      const width = context.measureText(name).width + 14;
      if (left + width > this.timeline.drawing.widthPx) {
        return;
      }
      context.fillStyle = /** @type {Record<string, string>} */ (this.colours)[`series-${number % 6}`];
      context.fillRect(left, y - 4, 8, 8);
      context.fillText(name, left + 12, y);
      left += width + 8;
    }
  }

  /**
   * Draw a line of steps; where several steps share a pixel, their mean over time, or their most for a peak.
   * @param {CanvasRenderingContext2D} context
   * @param {CurveData} curve
   * @param {number} number
   * @param {(value: number) => number} y
   */
  drawLine(context, curve, number, y) {
    const { drawing, view } = this.timeline;
    const line = curve.lines[number];
    const [times, values] = [this.columns[line.time], this.columns[line.value]];
    const gutter = drawing.gutterPx;
    const pixelNs = (view.to - view.from) / (drawing.widthPx - gutter);
    let i = Math.max(0, this.lastBefore(times, view.from));
    let before = y(values[i]);
    context.beginPath();
    context.moveTo(gutter, before);
    for (let x = gutter, at = view.from; x < drawing.widthPx && times.length; x += 1, at += pixelNs) {
      let [sum, most, reached] = [0, values[i], at];
      for (; i + 1 < times.length && times[i + 1] < at + pixelNs; i += 1) {
        sum += values[i] * Math.max(0, times[i + 1] - reached);
        reached = Math.max(reached, times[i + 1]);
        most = Math.max(most, values[i + 1]);
      }
      sum += values[i] * (at + pixelNs - reached);
      const height = y(curve.shows === "mean" ? sum / pixelNs : most);
      if (height !== before) {
        context.lineTo(x, before);
        context.lineTo(x, height);
        before = height;
      }
    }
    context.lineTo(drawing.widthPx, before);
    const colour = /** @type {Record<string, string>} */ (this.colours)[`series-${number % 6}`];
    if (curve.shows === "mean") {
      context.lineTo(drawing.widthPx, y(0));
      context.lineTo(gutter, y(0));
      context.fillStyle = colour;
      context.fill();
    } else {
      context.strokeStyle = colour;
      context.lineWidth = 1.5;
      context.stroke();
    }
  }

  /**
   * Write the values at a point in time.
   * @param {number} x
   */
  read(x) {
    const { drawing, view } = this.timeline;
    const at = drawing.timeAt(x);
    if (at < view.from || at > view.to) {
      return;
    }
    const texts = this.data.map((curve) => {
      const values = curve.lines.map((line) => {
        const i = this.lastBefore(this.columns[line.time], at);
        const value = i < 0 ? 0 : this.columns[line.value][i];
        return `${line.name} ${curve.unit === "%" ? formatShare(value) : formatQuantity(value, curve.unit)}`;
      });
      return `${curve.title}: ${values.join(", ")}`;
    });
    this.readout.textContent = `At ${formatTime(at)}. ${texts.join(". ")}.`;
  }
}
