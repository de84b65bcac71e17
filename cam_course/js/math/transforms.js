// The arithmetic of nbs/11_transforms.ipynb: where each pixel comes from. tests/test_transforms.py holds it to the Python.

/**
 * The number, row by row, of the pixel of a side x side image that stands at row i, column j after a crop, a flip and a
 * cutout with these dice; -1 where there is none. `hole`: side of the cutout, 0 for none.
 */
export function originOf(i, j, side, padding, hole, [top, left, flip, row, col]) {
  const up = row - (hole >> 1), before = col - (hole >> 1);
  if (i >= up && i < up + hole && j >= before && j < before + hole) return -1;
  const r = i + top - padding, c = (flip ? side - 1 - j : j) + left - padding;
  return r < 0 || r >= side || c < 0 || c >= side ? -1 : r * side + c;
}

/** How many different sets of dice there are. */
export const waysOf = (side, padding, crop, flip, cutout) =>
  (crop ? (2 * padding + 1) ** 2 : 1) * (flip ? 2 : 1) * (cutout ? side ** 2 : 1);
