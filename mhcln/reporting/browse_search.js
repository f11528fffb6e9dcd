"use strict";
// The archive of the page, and its search: the same rows in the same order as mhcln.hamming.index finds them.

function bytesOf(text) {
  const letters = atob(text), bytes = new Uint8Array(letters.length);
  for (let at = 0; at < bytes.length; at++) bytes[at] = letters.charCodeAt(at);
  return bytes;
}

function readArchive(data) {
  const paths = data.paths, n = paths.length;
  const words = new Uint32Array(bytesOf(data.codes).buffer);
  const known = new Uint8Array(n), partOf = new Uint16Array(n);
  data.parts.forEach((part, number) => {
    known.fill(part.known ? 1 : 0, part.first);
    partOf.fill(number, part.first);
  });
  const names = [], rows = new Map();  // what an image is called in the address: its path, marked if it is not the first
  paths.forEach((path, row) => {
    let name = path;
    while (rows.has(name)) name += "#";
    rows.set(name, row);
    names.push(name);
  });
  return {
    n, paths, names, rows, words, known, partOf,
    width: words.length / n,
    bits: data.bits,
    levels: bytesOf(data.levels),
    labels: new Int32Array(bytesOf(data.labels).buffer),
    places: data.places ? new Int32Array(bytesOf(data.places).buffer) : null,
    scores: new Map(data.scores),
  };
}

function bitsOf(word) {
  word -= (word >>> 1) & 0x55555555;
  word = (word & 0x33333333) + ((word >>> 2) & 0x33333333);
  return Math.imul((word + (word >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

function levelDistance(archive, left, right) {
  const {levels, bits} = archive;
  let sum = 0;
  for (let bit = 0; bit < bits; bit++) sum += Math.abs(levels[left * bits + bit] - levels[right * bits + bit]);
  return sum;
}

// The k nearest of a row: by Hamming distance, then by distance of levels (unknown ones last), then in storage order.
function search(archive, query, k) {
  const {n, words, width, known, bits} = archive;
  const distances = new Uint16Array(n), counts = new Uint32Array(32 * width + 1);
  for (let row = 0; row < n; row++) {
    let distance = 0;
    for (let word = 0; word < width; word++) distance += bitsOf(words[row * width + word] ^ words[query * width + word]);
    distances[row] = distance;
    counts[distance]++;
  }
  let last = 0, within = counts[0];
  while (within < Math.min(k, n)) within += counts[++last];
  const unknown = 255 * bits + 1, keys = new Float64Array(within);
  for (let row = 0, at = 0; row < n; row++) {
    if (distances[row] > last) continue;
    const apart = known[query] && known[row] ? levelDistance(archive, query, row) : unknown;
    keys[at++] = (distances[row] * (unknown + 1) + apart) * n + row;
  }
  const rows = Array.from(keys.sort().subarray(0, k), key => key % n);
  return {rows, distances: rows.map(row => distances[row]), last, tied: counts[last]};
}
