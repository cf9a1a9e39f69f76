// Columns of numbers: read from the page, inflated, and made typed arrays. sim/report/html/columns.py writes them.

/** @typedef {{name: string, count: number, type: string, encoding: string, values?: number[]}} ColumnEntry */

/** @type {Record<string, new (buffer: ArrayBuffer) => ArrayLike<number>>} */
const ARRAY_TYPES = {
  uint8: Uint8Array,
  int8: Int8Array,
  uint16: Uint16Array,
  int16: Int16Array,
  uint32: Uint32Array,
  int32: Int32Array,
  float64: Float64Array,
};

/**
 * Return the bytes of a gzip stream written in base64 in the element `id`.
 * @param {string} id
 * @returns {Promise<ArrayBuffer>}
 */
export async function inflate(id) {
  const text = atob((document.getElementById(id)?.textContent ?? "").trim());
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) {
    bytes[i] = text.charCodeAt(i);
  }
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/**
 * Return the columns of inflated bytes, each as an array of numbers.
 * @param {ColumnEntry[]} index
 * @param {ArrayBuffer} buffer
 * @returns {Record<string, ArrayLike<number>>}
 */
export function unpackColumns(index, buffer) {
  /** @type {Record<string, ArrayLike<number>>} */
  const columns = {};
  let at = 0;
  for (const entry of index) {
    const stored = unpackNumbers(entry, buffer, at);
    at += stored.byteLength;
    columns[entry.name] = decode(entry, stored.numbers);
  }
  return columns;
}

/**
 * Return the numbers of a column as they are stored: bytes are grouped by their place in the number.
 * @param {ColumnEntry} entry
 * @param {ArrayBuffer} buffer
 * @param {number} at
 */
function unpackNumbers(entry, buffer, at) {
  const Type = ARRAY_TYPES[entry.type];
  const width = Number(/\d+/.exec(entry.type)?.[0]) / 8;
  const planes = new Uint8Array(buffer, at, entry.count * width);
  const bytes = new Uint8Array(entry.count * width);
  for (let place = 0; place < width; place += 1) {
    for (let i = 0, j = place * entry.count; i < entry.count; i += 1, j += 1) {
      bytes[i * width + place] = planes[j];
    }
  }
  return { numbers: new Type(bytes.buffer), byteLength: bytes.byteLength };
}

/**
 * @param {ColumnEntry} entry
 * @param {ArrayLike<number>} stored
 * @returns {ArrayLike<number>}
 */
function decode(entry, stored) {
  if (entry.encoding === "plain") {
    return stored;
  }
  const values = new Float64Array(stored.length);
  const table = entry.values ?? [];
  let sum = 0;
  for (let i = 0; i < stored.length; i += 1) {
    sum += stored[i];
    values[i] = entry.encoding === "delta" ? sum : table[stored[i]];
  }
  return values;
}
