// The range of time that all pictures of the page show, and the range that the reader has selected.

export class View {
  /**
   * @param {number} startNs
   * @param {number} endNs
   */
  constructor(startNs, endNs) {
    this.startNs = startNs;
    this.endNs = Math.max(endNs, startNs + 1);
    this.from = this.startNs;
    this.to = this.endNs;
    /** @type {{from: number, to: number} | null} */
    this.selection = null;
    /** @type {(() => void)[]} */
    this.listeners = [];
    this.isWaiting = false;
  }

  /**
   * Call a function after each change, at most once a frame.
   * @param {() => void} listener
   */
  onChange(listener) {
    this.listeners.push(listener);
  }

  changed() {
    if (!this.isWaiting) {
      this.isWaiting = true;
      requestAnimationFrame(() => {
        this.isWaiting = false;
        for (const listener of this.listeners) {
          listener();
        }
      });
    }
  }

  /**
   * Show a range, cut to the run; at least 10 ns.
   * @param {number} from
   * @param {number} to
   */
  show(from, to) {
    const length = Math.min(Math.max(to - from, 10), this.endNs - this.startNs);
    this.from = Math.min(Math.max(from, this.startNs), this.endNs - length);
    this.to = this.from + length;
    this.changed();
  }

  /**
   * Zoom by a factor around a time; a factor above 1 shows less.
   * @param {number} factor
   * @param {number} [around]
   */
  zoom(factor, around = (this.from + this.to) / 2) {
    this.show(around - (around - this.from) / factor, around + (this.to - around) / factor);
  }

  /**
   * Move by a share of what is shown.
   * @param {number} share
   */
  pan(share) {
    const by = (this.to - this.from) * share;
    this.show(this.from + by, this.to + by);
  }

  /**
   * @param {number | null} from
   * @param {number} [to]
   */
  select(from, to = 0) {
    this.selection = from === null ? null : { from: Math.min(from, to), to: Math.max(from, to) };
    this.changed();
  }
}

/**
 * A canvas as wide as its element, with the sharpness of the screen.
 * @param {HTMLCanvasElement} canvas
 * @param {number} widthPx
 * @param {number} heightPx
 */
export function sizeCanvas(canvas, widthPx, heightPx) {
  const ratio = Math.min(window.devicePixelRatio || 1, 3);
  const [width, height] = [Math.round(widthPx * ratio), Math.round(heightPx * ratio)];
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
    canvas.style.height = `${heightPx}px`;
  }
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { alpha: false }));
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

/**
 * Return the colours of the page's style sheet by name, for what is drawn on a canvas.
 * @param {string[]} names
 * @returns {Record<string, string>}
 */
export function styleColours(names) {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}
