// The spans of the run: columns of numbers, what lies where, and what a range of time holds.

import { formatQuantity, formatTime } from "./format.js";

/** @typedef {import("./columns.js").ColumnEntry} ColumnEntry */

/**
 * @typedef {{stage: number, lane: number, label: string, alike: number, ranks: string}} Band
 * @typedef {{band: number[], strip: string[], first: number[]}} Tracks
 * @typedef {{name: string, kinds: string[], kindNames: Record<string, string>, streams: string[], bands: Band[],
 *   tracks: Tracks, index: ColumnEntry[], startNs: number, endNs: number, shapes: Record<string, string>}} SpanData
 * @typedef {{kind: string, ns: number}} Share
 */

const PASS_KIND_NAMES = ["F", "B", "W", "O"];

export class Spans {
  /**
   * @param {SpanData} data
   * @param {Record<string, ArrayLike<number>>} columns
   */
  constructor(data, columns) {
    this.data = data;
    this.columns = columns;
    this.count = columns.start_ns.length;
    this.start = columns.start_ns;
    this.kind = columns.kind;
    this.end = new Float64Array(this.count);
    this.band = new Uint16Array(this.count);
    this.track = new Uint32Array(this.count);
    this.onPath = new Uint8Array(this.count);
    for (let i = 0; i < this.count; i += 1) {
      this.end[i] = this.start[i] + columns.duration_ns[i];
    }
    const { tracks } = data;
    this.tracks = tracks.band.map((band, i) => ({
      band,
      strip: tracks.strip[i],
      first: tracks.first[i],
      last: tracks.first[i + 1],
    }));
    this.tracks.forEach((track, number) => {
      this.band.fill(track.band, track.first, track.last);
      this.track.fill(number, track.first, track.last);
    });
    for (let i = 0; i < columns.path_span.length; i += 1) {
      this.onPath[columns.path_span[i]] = 1;
    }
    this.fillReleases();
    const pp = data.kinds.indexOf("pp");
    /** Transfers between stages. */
    this.sends = Array.from({ length: this.count }, (_, i) => i).filter((i) => this.kind[i] === pp);
  }

  /** Note, for each span, the spans that it releases. */
  fillReleases() {
    const released = this.columns.released;
    const counts = new Uint32Array(this.count + 1);
    for (let i = 0; i < this.count; i += 1) {
      if (released[i]) {
        counts[i - released[i] + 1] += 1;
      }
    }
    for (let i = 0; i < this.count; i += 1) {
      counts[i + 1] += counts[i];
    }
    this.releasesFirst = counts;
    this.releases = new Uint32Array(counts[this.count]);
    const next = counts.slice();
    for (let i = 0; i < this.count; i += 1) {
      if (released[i]) {
        this.releases[next[i - released[i]]++] = i;
      }
    }
  }

  /**
   * Return the span that released a span, -1 for none.
   * @param {number} span
   */
  releaserOf(span) {
    return this.columns.released[span] ? span - this.columns.released[span] : -1;
  }

  /**
   * Return the spans that a span releases.
   * @param {number} span
   */
  releasedBy(span) {
    const first = /** @type {Uint32Array} */ (this.releasesFirst);
    return Array.from(/** @type {Uint32Array} */ (this.releases).subarray(first[span], first[span + 1]));
  }

  /**
   * Return the first span of a track that ends after a time; the spans of a track do not overlap.
   * @param {{first: number, last: number}} track
   * @param {number} timeNs
   */
  firstEndingAfter(track, timeNs) {
    let low = track.first;
    let high = track.last;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.end[middle] > timeNs) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return low;
  }

  /**
   * Return the first piece of the critical path that ends after a time.
   * @param {number} timeNs
   */
  pathPieceAt(timeNs) {
    const { path_start_ns: starts, path_duration_ns: durations } = this.columns;
    let [low, high] = [0, starts.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (starts[middle] + durations[middle] > timeNs) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return low;
  }

  /** @param {number} span */
  kindOf(span) {
    return this.data.kinds[this.kind[span]];
  }

  /** @param {number} span */
  streamOf(span) {
    return this.data.streams[this.columns.stream[span]];
  }

  /**
   * Return a short name, such as "F3" or "tp, layer 2".
   * @param {number} span
   */
  nameOf(span) {
    const kind = this.kindOf(span);
    const { microbatch, layer } = this.columns;
    if (PASS_KIND_NAMES.includes(kind)) {
      return microbatch[span] >= 0 ? `${kind}${microbatch[span]}` : kind;
    }
    const name = this.data.kindNames[kind];
    return layer[span] >= 0 ? `${name}, layer ${layer[span]}` : name;
  }

  /**
   * Return where a span is: "stage 1, passes".
   * @param {number} span
   */
  placeOf(span) {
    return `${this.data.bands[this.band[span]].label}, ${STREAM_NAMES[this.streamOf(span)]}`;
  }

  /**
   * Return what is known of a span, as rows of a table.
   * @param {number} span
   * @returns {[string, string][]}
   */
  describe(span) {
    const c = this.columns;
    const kind = this.kindOf(span);
    const duration = this.end[span] - this.start[span];
    /** @type {[string, string][]} */
    const rows = [
      ["where", this.placeOf(span)],
      ["from", formatTime(this.start[span] - this.data.startNs)],
      ["lasts", formatTime(duration)],
    ];
    const { ranks } = this.data.bands[this.band[span]];
    rows.push(c.rank[span] >= 0 ? ["slowest rank", String(c.rank[span])] : ["on", ranks]);
    for (const [column, name] of /** @type {[string, string][]} */ ([
      ["microbatch", "microbatch"],
      ["chunk", "chunk"],
      ["layer", "layer"],
      ["group", "group"],
    ])) {
      if (c[column][span] >= 0) {
        rows.push([name, String(c[column][span])]);
      }
    }
    if (this.data.shapes[kind] && this.streamOf(span) !== "pass") {
      rows.push(["shape", this.data.shapes[kind]]);
    }
    if (c.bytes[span]) {
      rows.push(["bytes", `${formatQuantity(c.bytes[span], "B")} by all senders`]);
    }
    if (c.flops[span]) {
      const rate = duration ? `, ${formatQuantity((c.flops[span] / duration) * 1e9, "FLOP/s")}` : "";
      rows.push(["computes", formatQuantity(c.flops[span], "FLOP") + rate]);
    }
    return rows.concat(this.describeTime(span), this.describeRelease(span));
  }

  /**
   * Return what the time of a span is made of.
   * @param {number} span
   * @returns {[string, string][]}
   */
  describeTime(span) {
    const c = this.columns;
    const parts = /** @type {[string, string][]} */ ([
      ["base_ns", "alone"],
      ["imbalance_ns", "imbalance"],
      ["contention_ns", "contention"],
      ["latency_ns", "latency"],
    ])
      .filter(([column]) => c[column][span] > 0)
      .map(([column, name]) => `${name} ${formatTime(c[column][span])}`);
    return parts.length > 1 ? [["made of", parts.join(", ")]] : [];
  }

  /**
   * Return what a span waited for and what it releases.
   * @param {number} span
   * @returns {[string, string][]}
   */
  describeRelease(span) {
    /** @type {[string, string][]} */
    const rows = [];
    const by = this.releaserOf(span);
    if (by >= 0) {
      const gap = this.start[span] - this.end[by];
      const waited = gap > 0 ? `, then ${formatTime(gap)} passed` : "";
      rows.push(["waited for", `${this.nameOf(by)} (${this.placeOf(by)})${waited}`]);
    }
    const released = this.releasedBy(span);
    if (released.length) {
      const names = Array.from(new Set(released.map((next) => this.nameOf(next))));
      const shown = names.slice(0, 3).join("; ");
      rows.push(["releases", names.length > 3 ? `${shown} and ${names.length - 3} more` : shown]);
    }
    rows.push(["critical path", this.onPath[span] ? "yes" : "no"]);
    return rows;
  }

  /**
   * Return the stall of a band at a time, -1 for none.
   * @param {number} band
   * @param {number} timeNs
   */
  stallAt(band, timeNs) {
    const { stall_band: bands, stall_start_ns: starts, stall_duration_ns: durations } = this.columns;
    for (let i = 0; i < bands.length; i += 1) {
      if (bands[i] === band && starts[i] <= timeNs && timeNs < starts[i] + durations[i]) {
        return i;
      }
    }
    return -1;
  }

  /**
   * Return what is known of a stall: how long, and what ended it.
   * @param {number} stall
   * @returns {[string, string][]}
   */
  describeStall(stall) {
    const { stall_band: bands, stall_start_ns: starts, stall_duration_ns: durations } = this.columns;
    const end = starts[stall] + durations[stall];
    /** @type {[string, string][]} */
    const rows = [
      ["where", this.data.bands[bands[stall]].label],
      ["from", formatTime(starts[stall] - this.data.startNs)],
      ["lasts", formatTime(durations[stall])],
    ];
    for (const track of this.tracks.filter((one) => one.band === bands[stall] && one.strip !== "pass")) {
      const next = this.firstEndingAfter(track, end);
      if (next < track.last && this.start[next] === end && ["compute", "comm"].includes(track.strip)) {
        rows.push(["until", `${this.nameOf(next)} starts`]);
        const by = this.releaserOf(next);
        if (by >= 0) {
          rows.push(["which waited for", `${this.nameOf(by)} (${this.placeOf(by)})`]);
          const gap = this.start[next] - this.end[by];
          if (gap > 0) {
            rows.push(["and then for", `${formatTime(gap)}, in which it had not started`]);
          }
        }
        break;
      }
    }
    return rows;
  }

  /**
   * Return the critical path between two times by kind; with the waits in it, the shares sum to the range.
   * @param {number} fromNs
   * @param {number} toNs
   * @returns {Share[]}
   */
  pathBetween(fromNs, toNs) {
    const c = this.columns;
    const sums = new Map();
    let sum = 0;
    for (let i = this.pathPieceAt(fromNs); i < c.path_span.length && c.path_start_ns[i] < toNs; i += 1) {
      const ns = overlap(c.path_start_ns[i], c.path_start_ns[i] + c.path_duration_ns[i], fromNs, toNs);
      if (ns > 0) {
        const kind = this.kindOf(c.path_span[i]);
        sums.set(kind, (sums.get(kind) ?? 0) + ns);
        sum += ns;
      }
    }
    const rest = overlap(this.data.startNs, this.data.endNs, fromNs, toNs) - sum;
    return sharesOf(rest > 0 ? sums.set("stalled", rest) : sums);
  }

  /**
   * Return the time between two times in which each kind runs in a band, stalls and idle time with them.
   * @param {number} band
   * @param {number} fromNs
   * @param {number} toNs
   * @returns {Map<string, number>}
   */
  bandBetween(band, fromNs, toNs) {
    const c = this.columns;
    const intervals = new Map();
    for (const track of this.tracks.filter((one) => one.band === band)) {
      for (let i = this.firstEndingAfter(track, fromNs); i < track.last && this.start[i] < toNs; i += 1) {
        const key = track.strip === "pass" ? "pass" : track.strip === "foreign" ? "foreign" : this.kindOf(i);
        if (track.strip === "p2p" || track.strip === "async") {
          continue; // nobody waits for these
        }
        const list = intervals.get(key) ?? intervals.set(key, []).get(key);
        list.push([Math.max(fromNs, this.start[i]), Math.min(toNs, this.end[i])]);
      }
    }
    const sums = new Map();
    for (const [key, list] of intervals) {
      sums.set(key, unionLength(list));
    }
    const open = sums.get("pass") ?? 0;
    sums.delete("pass");
    let stalled = 0;
    for (let i = 0; i < c.stall_band.length; i += 1) {
      if (c.stall_band[i] === band) {
        stalled += Math.max(0, overlap(c.stall_start_ns[i], c.stall_start_ns[i] + c.stall_duration_ns[i], fromNs, toNs));
      }
    }
    return sums.set("stalled", stalled).set("idle", toNs - fromNs - open);
  }
}

/** @type {Record<string, string>} */
export const STREAM_NAMES = {
  pass: "passes",
  compute: "kernels",
  comm: "waits for",
  await: "waits for",
  async: "on streams",
  p2p: "sends",
  foreign: "for others",
};

/**
 * @param {number} a
 * @param {number} b
 * @param {number} from
 * @param {number} to
 */
function overlap(a, b, from, to) {
  return Math.min(b, to) - Math.max(a, from);
}

/**
 * Return the time that intervals cover together.
 * @param {[number, number][]} intervals
 */
function unionLength(intervals) {
  intervals.sort((a, b) => a[0] - b[0]);
  let sum = 0;
  let reached = -Infinity;
  for (const [from, to] of intervals) {
    sum += Math.max(0, to - Math.max(from, reached));
    reached = Math.max(reached, to);
  }
  return sum;
}

/**
 * @param {Map<string, number>} sums
 * @returns {Share[]}
 */
function sharesOf(sums) {
  return Array.from(sums, ([kind, ns]) => ({ kind, ns }))
    .filter((share) => share.ns > 0)
    .sort((a, b) => b.ns - a.ns);
}
