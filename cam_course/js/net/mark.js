// A bias to plant: a colored mark in the corner of a picture.

export const MARK = { size: 12, color: [1, 0, 1] };        // a square in the upper left corner, in pixels

/** A copy of a picture with the mark in it. */
export function planted(planes, side) {
  const out = planes.slice(), { size, color } = MARK;
  for (let c = 0; c < 3; c++)
    for (let y = 0; y < size; y++) out.fill(color[c], (c * side + y) * side, (c * side + y) * side + size);
  return out;
}

/** Which share of what speaks for the class lies in the upper left quarter, where the mark is; 0 where nothing speaks for it. */
export function cornerShare({ map, h, w }) {
  let corner = 0, all = 0;
  map.forEach((v, i) => {
    const evidence = Math.max(0, v);
    all += evidence;
    if (i % w < w / 2 && Math.floor(i / w) < h / 2) corner += evidence;
  });
  return all > 0 ? corner / all : 0;
}
