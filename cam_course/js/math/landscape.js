// The arithmetic of nbs/25_landscape.ipynb, function for function; tests/test_landscape.py holds both to 1e-9.

/** Whole numbers 0...65535 -> values from lo to hi. */
export const unpacked = (codes, lo, hi) => codes.map((c) => lo + (c / 65535) * (hi - lo));

/**
 * The value at (x, y) between the points of a grid (bilinear), clamped to its border.
 * `grid`: rows from y0 to y1, each of `columns` values from x0 to x1; `extent`: [x0, x1, y0, y1].
 */
export function bilinear(grid, columns, extent, x, y) {
  const rows = grid.length / columns, [x0, x1, y0, y1] = extent;
  const place = (v, a, b, n) => {
    const p = Math.max(0, Math.min(n - 1, ((v - a) / (b - a)) * (n - 1))), i = Math.min(n - 2, Math.floor(p));
    return [i, p - i];
  };
  const [i, s] = place(x, x0, x1, columns), [j, t] = place(y, y0, y1, rows), k = j * columns + i;
  const low = (1 - s) * grid[k] + s * grid[k + 1];
  return (1 - t) * low + t * ((1 - s) * grid[k + columns] + s * grid[k + columns + 1]);
}

/** Index of the stored step nearest to `step`; of two equally near ones the first. */
export function nearestStep(steps, step) {
  let best = 0;
  steps.forEach((s, i) => { if (Math.abs(s - step) < Math.abs(steps[best] - step)) best = i; });
  return best;
}
