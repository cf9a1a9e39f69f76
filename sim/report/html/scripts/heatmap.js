// A heat map: a row for each layer or microbatch, a column for each expert or rank, coloured by its share of the mean.

import { formatNumber } from "./format.js";
import { sizeCanvas, styleColours } from "./view.js";

/**
 * @typedef {{id: string, column: string, rows: number, columns: number, rowName: string, columnName: string,
 *   rowNumbers: number[], unit: string}} HeatData
 */

export class HeatMap {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {HeatData} data
   * @param {ArrayLike<number>} values
   */
  constructor(canvas, data, values) {
    this.canvas = canvas;
    this.data = data;
    this.values = values;
    this.readout = /** @type {HTMLElement} */ (document.getElementById(`${data.id}-readout`));
    let sum = 0;
    for (let i = 0; i < values.length; i += 1) {
      sum += values[i];
    }
    this.mean = sum / Math.max(1, values.length);
    this.at = { row: 0, column: 0 };
    canvas.addEventListener("pointermove", (event) => this.point(event.offsetX, event.offsetY));
    canvas.addEventListener("keydown", (event) => this.onKey(event));
    this.draw();
  }

  draw() {
    const { data, canvas } = this;
    const width = /** @type {HTMLElement} */ (canvas.parentElement).clientWidth;
    const ink = styleColours(["ink", "subtle", "card", "heat-cold", "heat-mean", "heat-hot"]);
    this.leftPx = 64;
    this.topPx = 20;
    this.cellWidth = (width - this.leftPx) / data.columns;
    this.cellHeight = Math.max(6, Math.min(20, 360 / data.rows));
    const context = sizeCanvas(canvas, width, this.topPx + this.cellHeight * data.rows + 2);
    context.fillStyle = ink.card;
    context.fillRect(0, 0, width, canvas.height);
    for (let row = 0; row < data.rows; row += 1) {
      for (let column = 0; column < data.columns; column += 1) {
        context.fillStyle = this.colour(this.values[row * data.columns + column] / (this.mean || 1), ink);
        context.fillRect(this.leftPx + column * this.cellWidth, this.topPx + row * this.cellHeight, this.cellWidth + 0.5, this.cellHeight - 0.5);
      }
    }
    this.drawNames(context, ink);
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {Record<string, string>} ink
   */
  drawNames(context, ink) {
    const { data } = this;
    const [left, top] = [/** @type {number} */ (this.leftPx), /** @type {number} */ (this.topPx)];
    const [width, height] = [/** @type {number} */ (this.cellWidth), /** @type {number} */ (this.cellHeight)];
    context.fillStyle = ink.subtle;
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.textAlign = "right";
    const everyRow = Math.ceil(14 / height);
    for (let row = 0; row < data.rows; row += everyRow) {
      context.fillText(String(data.rowNumbers[row]), left - 6, top + (row + 0.5) * height);
    }
    context.textAlign = "center";
    const everyColumn = Math.ceil(34 / width);
    for (let column = 0; column < data.columns; column += everyColumn) {
      context.fillText(String(column), left + (column + 0.5) * width, 10);
    }
    context.textAlign = "left";
    context.fillText(data.rowName, 0, 10);
  }

  /**
   * Return the colour of a share of the mean: 0 cold, 1 the mean, 2 and more hot.
   * @param {number} ratio
   * @param {Record<string, string>} ink
   */
  colour(ratio, ink) {
    const [from, to, share] =
      ratio < 1 ? [ink["heat-cold"], ink["heat-mean"], ratio] : [ink["heat-mean"], ink["heat-hot"], Math.min(ratio - 1, 1)];
    const mixed = [1, 3, 5].map((at) => {
      const [a, b] = [from, to].map((text) => Number.parseInt(text.slice(at, at + 2), 16));
      return Math.round(a + (b - a) * share);
    });
    return `rgb(${mixed.join(" ")})`;
  }

  /**
   * @param {number} x
   * @param {number} y
   */
  point(x, y) {
    const { data } = this;
    const column = Math.floor((x - /** @type {number} */ (this.leftPx)) / /** @type {number} */ (this.cellWidth));
    const row = Math.floor((y - /** @type {number} */ (this.topPx)) / /** @type {number} */ (this.cellHeight));
    if (row >= 0 && row < data.rows && column >= 0 && column < data.columns) {
      this.at = { row, column };
      this.say();
    }
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (step) {
      event.preventDefault();
      this.at.row = Math.min(Math.max(this.at.row + step[0], 0), this.data.rows - 1);
      this.at.column = Math.min(Math.max(this.at.column + step[1], 0), this.data.columns - 1);
      this.say();
    }
  }

  say() {
    const { data, at } = this;
    const value = this.values[at.row * data.columns + at.column];
    const times = this.mean ? `, ${formatNumber(value / this.mean)} times the mean` : "";
    this.readout.textContent =
      `${data.rowName} ${data.rowNumbers[at.row]}, ${data.columnName} ${at.column}: ${formatNumber(value)} ${data.unit}${times}.`;
  }
}
