// The arithmetic of nbs/30_localisation.ipynb; a test holds both to 1e-9. Maps and masks are rows of rows.

/** Where pixel i of `out` samples a row of `length` cells: [first cell, second cell, weight of the second]. */
function sampleAt(i, length, out) {
  const at = Math.max(0, ((i + 0.5) * length) / out - 0.5), first = Math.min(Math.floor(at), length - 1);
  return [first, Math.min(first + 1, length - 1), at - first];
}

/** Positive evidence at size x size pixels: ReLU, then bilinear with aligned pixel centers. */
export function evidenceAt(map, size) {
  const rows = map.map((row) => row.map((v) => Math.max(0, v)));
  return Array.from({ length: size }, (_, i) => {
    const [a, b, down] = sampleAt(i, rows.length, size);
    return Array.from({ length: size }, (_, j) => {
      const [c, d, right] = sampleAt(j, rows[0].length, size);
      const upper = (1 - right) * rows[a][c] + right * rows[a][d];
      const lower = (1 - right) * rows[b][c] + right * rows[b][d];
      return (1 - down) * upper + down * lower;
    });
  });
}

/** The highest value of an evidence map. */
export const peakOf = (evidence) => evidence.reduce((top, row) => Math.max(top, ...row), 0);

/** Where the evidence reaches `threshold` times its peak; nowhere if there is none. */
export function regionOf(evidence, threshold) {
  const peak = peakOf(evidence), level = threshold * peak * (1 - 1e-6);
  return evidence.map((row) => row.map((v) => peak > 0 && v >= level));
}

/** Intersection over union of two masks. */
export function iouOf(region, mask) {
  let both = 0, either = 0;
  mask.forEach((row, i) => row.forEach((on, j) => {
    both += region[i][j] && on ? 1 : 0;
    either += region[i][j] || on ? 1 : 0;
  }));
  return both / either;
}

/** Share of the evidence on the mask. */
export function massInMask(evidence, mask) {
  let inside = 0, total = 0;
  evidence.forEach((row, i) => row.forEach((v, j) => {
    total += v;
    inside += mask[i][j] ? v : 0;
  }));
  return total > 0 ? inside / total : 0;
}

/** True if there is evidence and every highest pixel lies on the mask. */
export function pointingGame(evidence, mask) {
  const top = regionOf(evidence, 1);
  return top.some((row) => row.some(Boolean)) && top.every((row, i) => row.every((on, j) => !on || mask[i][j] > 0));
}

/** The borders of a mask's pixels as [[x, y], ...] with [NaN, NaN] between the pieces; y counts downwards. */
export function outlineOf(mask) {
  const at = (i, j) => Boolean(mask[i]?.[j]), points = [];
  for (let i = 0; i <= mask.length; i++)
    for (let j = 0; j <= mask[0].length; j++) {
      if (at(i, j) !== at(i - 1, j)) points.push([j, i], [j + 1, i], [NaN, NaN]);
      if (at(i, j) !== at(i, j - 1)) points.push([j, i], [j, i + 1], [NaN, NaN]);
    }
  return points;
}
