// Numbers for people: the unit that a person would choose, four digits.

/** @type {[number, string][]} */
const TIME_UNITS = [
  [1e9, "s"],
  [1e6, "ms"],
  [1e3, "µs"],
  [1, "ns"],
];
/** @type {[number, string][]} */
const PREFIXES = [
  [1e15, "P"],
  [1e12, "T"],
  [1e9, "G"],
  [1e6, "M"],
  [1e3, "k"],
  [1, ""],
];

/** @param {number} value */
export function formatNumber(value) {
  if (Math.abs(value) >= 1000) {
    return Math.round(value).toLocaleString("en");
  }
  return Number(value.toPrecision(4)).toString();
}

/**
 * Return a time in ns with the unit that suits it.
 * @param {number} ns
 */
export function formatTime(ns) {
  const [scale, unit] = TIME_UNITS.find(([size]) => Math.abs(ns) >= size) ?? [1, "ns"];
  return `${formatNumber(ns / scale)} ${unit}`;
}

/**
 * Return a quantity such as 1.2 GB.
 * @param {number} value
 * @param {string} unit
 */
export function formatQuantity(value, unit) {
  const [scale, prefix] = PREFIXES.find(([size]) => Math.abs(value) >= size) ?? [1, ""];
  return `${formatNumber(value / scale)} ${prefix}${unit}`;
}

/** @param {number} share */
export function formatShare(share) {
  const percent = 100 * share;
  return percent > 0 && percent < 0.005 ? "< 0.01 %" : `${Number(Number(percent.toPrecision(3)).toFixed(2))} %`;
}

/**
 * Return the distance of ticks on an axis: 1, 2 or 5 times a power of ten, so that ticks are `leastPx` apart.
 * @param {number} length
 * @param {number} widthPx
 * @param {number} leastPx
 */
export function tickDistance(length, widthPx, leastPx) {
  const least = (length / widthPx) * leastPx;
  const power = 10 ** Math.floor(Math.log10(least));
  return power * ([1, 2, 5].find((factor) => factor * power >= least) ?? 10);
}

/**
 * Return the texts of ticks, with as many decimals as tell them apart.
 * @param {number} from
 * @param {number} to
 * @param {number} distance
 * @returns {{at: number, text: string}[]}
 */
export function timeTicks(from, to, distance) {
  const [scale, unit] = TIME_UNITS.find(([size]) => Math.max(Math.abs(to), distance) >= size) ?? [1, "ns"];
  const decimals = Math.max(0, Math.ceil(-Math.log10(distance / scale) - 1e-9));
  const ticks = [];
  for (let at = Math.ceil(from / distance) * distance; at <= to; at += distance) {
    ticks.push({ at, text: `${(at / scale).toFixed(decimals)} ${unit}` });
  }
  return ticks;
}
