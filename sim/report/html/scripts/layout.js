// Where things are in the timeline: bands of stages, their strips, spans and times, in pixels and back.

/** @typedef {import("./spans.js").Spans} Spans */
/** @typedef {import("./view.js").View} View */

/** @type {Record<string, {heightPx: number, compactPx: number}>} */
const STRIPS = {
  pass: { heightPx: 24, compactPx: 9 },
  compute: { heightPx: 14, compactPx: 5 },
  comm: { heightPx: 14, compactPx: 5 },
  async: { heightPx: 12, compactPx: 4 },
  p2p: { heightPx: 12, compactPx: 3 },
  foreign: { heightPx: 16, compactPx: 4 },
};
export const AXIS_PX = 26;
export const PATH_PX = 16;
export const HEAD_PX = AXIS_PX + PATH_PX + 4;
const STRIP_GAP_PX = 2;
export const BAND_GAP_PX = 10;

export class Layout {
  /**
   * @param {Spans} spans
   * @param {View} view
   */
  constructor(spans, view) {
    this.spans = spans;
    this.view = view;
    this.isCompact = spans.data.bands.length > 8;
    this.strips = Object.keys(STRIPS).filter((strip) => spans.data.tracks.strip.includes(strip));
    this.scrollPx = 0;
    this.widthPx = 300;
    this.heightPx = 300;
    this.gutterPx = 150;
    this.bandPx = 0;
    /** @type {Record<string, {top: number, height: number}>} */
    this.stripPlaces = {};
  }

  /**
   * @param {number} widthPx
   * @param {number} heightPx
   */
  setSize(widthPx, heightPx) {
    this.widthPx = widthPx;
    this.heightPx = heightPx;
    this.gutterPx = widthPx < 560 ? 56 : 150;
    this.stripPlaces = {};
    let top = 0;
    for (const strip of this.strips) {
      const height = this.isCompact ? STRIPS[strip].compactPx : STRIPS[strip].heightPx;
      this.stripPlaces[strip] = { top, height };
      top += height + (this.isCompact ? 1 : STRIP_GAP_PX);
    }
    this.bandPx = top + (this.isCompact ? 5 : BAND_GAP_PX);
  }

  /** The height of all bands with the axis. */
  get fullHeightPx() {
    return HEAD_PX + this.bandPx * this.spans.data.bands.length + 4;
  }

  /** The number of the first band that is in view. */
  get firstBandInView() {
    return Math.floor(this.scrollPx / this.bandPx);
  }

  /** @param {number} timeNs */
  xOf(timeNs) {
    const gutter = this.gutterPx;
    return gutter + ((timeNs - this.view.from) / (this.view.to - this.view.from)) * (this.widthPx - gutter);
  }

  /** @param {number} x */
  timeAt(x) {
    const gutter = this.gutterPx;
    return this.view.from + ((x - gutter) / (this.widthPx - gutter)) * (this.view.to - this.view.from);
  }

  /** @param {number} band */
  topOf(band) {
    return HEAD_PX + band * this.bandPx - this.scrollPx;
  }

  /**
   * Return upper edge and height of a span on the canvas.
   * @param {number} span
   */
  placeOf(span) {
    const { strip, band } = this.spans.tracks[this.spans.track[span]];
    const place = this.stripPlaces[strip];
    const { slot, slots } = this.spans.columns;
    const height = place.height / slots[span];
    return { top: this.topOf(band) + place.top + slot[span] * height, height };
  }

  /**
   * Return the span at a point, -1 for none.
   * @param {number} x
   * @param {number} y
   */
  spanAt(x, y) {
    const near = 2;
    if (y >= AXIS_PX && y < HEAD_PX) {
      const piece = this.spans.pathPieceAt(this.timeAt(x));
      return this.spans.columns.path_span[piece] ?? -1;
    }
    let [best, distance] = [-1, Infinity];
    for (const track of this.spans.tracks) {
      const top = this.topOf(track.band);
      if (y < top || y >= top + this.bandPx) {
        continue;
      }
      const first = this.spans.firstEndingAfter(track, this.timeAt(x - near));
      for (let i = first; i < track.last && this.xOf(this.spans.start[i]) <= x + near; i += 1) {
        const place = this.placeOf(i);
        const away = Math.max(this.xOf(this.spans.start[i]) - x, x - this.xOf(this.spans.end[i]), 0);
        if (y >= place.top && y < Math.max(place.top + place.height, place.top + 1) && away < distance) {
          [best, distance] = [i, away];
        }
      }
    }
    return best;
  }

  /**
   * Return the stall at a point, -1 for none.
   * @param {number} x
   * @param {number} y
   */
  stallAt(x, y) {
    const band = Math.floor((y - HEAD_PX + this.scrollPx) / this.bandPx);
    return y < HEAD_PX ? -1 : this.spans.stallAt(band, this.timeAt(x));
  }
}
