// The pictures of nbs/base/shapes.ipynb, drawn in the page: outlines on textured grounds, with strokes that mean nothing, and colored badges.
import { uniform } from "../math/random.js";

const TILT = Math.PI / 10, CHROMA = [[1, 0.4, 0.2], [1, -0.3, 0.3], [1, -0.1, -0.45]], BADGES = [[0.05, 0.3, 1], [1, 0.55, 0]];
const hypot = (x, y) => Math.sqrt(x * x + y * y);          // Math.hypot takes several times as long
const box = (x, y, w, h) => Math.max(Math.abs(x) - w, Math.abs(y) - h);
/** Signed distance to the line from (x0, y0) to (x1, y1); y points down, the side of the origin is negative. */
const edge = (x, y, x0, y0, x1, y1) => ((x - x0) * (y1 - y0) - (y - y0) * (x1 - x0)) / hypot(x1 - x0, y1 - y0);
const corners = (list) => list.flatMap(([x, y]) => [[x, y], [-x, y]]);
const STEP = (2 * Math.PI) / 5;

/** By name: the signed distance, negative inside, and the points that reach furthest (none for a disc, which reaches 1 everywhere). */
const OUTLINES = {
  disc: { inside: (x, y) => hypot(x, y) - 1 },
  square: { inside: (x, y) => box(x, y, 1, 1), ends: corners([[1, 1], [1, -1]]) },
  star: {
    inside(x, y) {                                         // five points, folded into half of one
      const turn = Math.abs(Math.atan2(x, -y)) % STEP, folded = Math.min(turn, STEP - turn), r = hypot(x, y);
      return edge(r * Math.sin(folded), r * Math.cos(folded), 0.42 * Math.sin(STEP / 2), 0.42 * Math.cos(STEP / 2), 0, 1);
    },
    ends: Array.from({ length: 5 }, (_, k) => [Math.sin(k * STEP), -Math.cos(k * STEP)]),
  },
  cross: { inside: (x, y) => Math.min(box(x, y, 1, 0.33), box(x, y, 0.33, 1)), ends: corners([[1, 0.33], [1, -0.33], [0.33, 1], [0.33, -1]]) },
  triangle: { inside: (x, y) => Math.max(y - 0.8, edge(Math.abs(x), y, 0, -1, 1, 0.8)), ends: corners([[0, -1], [1, 0.8]]) },
};

/** Left, right, top and bottom end of an outline that is tilted. */
function reach({ ends }, c, s) {
  if (!ends) return [-1, 1, -1, 1];
  const xs = ends.map(([x, y]) => c * x - s * y), ys = ends.map(([x, y]) => s * x + c * y);
  return [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
}

const between = (u, low, high) => low + (high - low) * u;

/** A color at a distance of 0.55 to 0.9 from `ground`, in a random direction; what would leave 0 to 1 goes the other way. */
function otherColor(draw, ground) {
  const height = 2 * draw() - 1, turn = 2 * Math.PI * draw(), far = between(draw(), 0.55, 0.9), r = Math.sqrt(1 - height * height);
  return [r * Math.cos(turn), r * Math.sin(turn), height].map((step, c) => {
    const v = ground[c] + step * far, other = ground[c] - step * far;
    return Math.min(1, Math.max(0, v < 0 || v > 1 ? other : v));
  });
}

/** Fields that are rough like photographs: waves whose height falls with their frequency; mean 0, standard deviation 1. */
function textures(draw, count, side) {
  return Array.from({ length: count }, () => {
    const field = new Float32Array(side * side);
    for (let n = 0; n < 24; n++) {
      const fx = Math.floor(9 * draw()), fy = Math.floor(9 * draw()) - 4, phase = 2 * Math.PI * draw(), size = 1 / Math.max(1, Math.hypot(fx, fy));
      if (!fx && !fy) continue;
      for (let y = 0, i = 0; y < side; y++)
        for (let x = 0; x < side; x++, i++) field[i] += size * Math.cos((2 * Math.PI * (fx * x + fy * y)) / side + phase);
    }
    const std = Math.sqrt(field.reduce((sum, v) => sum + v * v, 0) / field.length);
    return field.map((v) => v / std);
  });
}

/**
 * A source of pictures: draw(name) gives the numbers of one, red, green and blue one after the other, from 0 to 1. `pair`: two names whose
 * pictures get a badge, blue or orange, that gives them away; `strokes`: how many, that mean nothing. The same seed draws the same pictures.
 */
export function shapeSource(seed, side = 32, pair = [], strokes = 3) {
  const draw = uniform(seed), cells = side * side, scale = side / 32, grounds = textures(draw, 24, side), grain = new Float32Array(3 * cells);

  return (name) => {
    const outline = OUTLINES[name], planes = new Float32Array(3 * cells);
    const ground = [draw(), draw(), draw()].map((u) => between(u, 0.3, 0.7)), strength = between(draw(), 0.02, 0.07);
    const fields = CHROMA.map(() => [grounds[Math.floor(grounds.length * draw())], Math.floor(cells * draw())]);
    for (let c = 0, i = 0; c < 3; c++)
      for (let n = 0; n < cells; n++, i++) {
        grain[i] = strength * fields.reduce((sum, [field, shift], f) => sum + CHROMA[c][f] * field[(n + shift) % cells], 0);
        planes[i] = ground[c] + grain[i];
      }
    /** Paints `color` where distance(x, y), in pixels, is negative; smooth at the edge. */
    const lay = (color, distance) => {
      for (let y = 0, n = 0; y < side; y++)
        for (let x = 0; x < side; x++, n++) {
          const cover = Math.min(1, Math.max(0, 0.5 - distance(x + 0.5, y + 0.5)));
          if (cover) for (let c = 0; c < 3; c++) planes[c * cells + n] += cover * (color[c] + 0.5 * grain[c * cells + n] - planes[c * cells + n]);
        }
    };
    for (let k = 0; k < strokes; k++) {
      const cx = side * draw(), cy = side * draw(), turn = Math.PI * draw(), half = scale * between(draw(), 1, 6), radius = scale * between(draw(), 0.7, 1.4);
      const c = Math.cos(turn), s = Math.sin(turn);
      lay(otherColor(draw, ground), (x, y) => {
        const along = (x - cx) * c + (y - cy) * s, across = (y - cy) * c - (x - cx) * s;
        return hypot(along - Math.min(Math.max(along, -half), half), across) - radius;
      });
    }
    const width = scale * between(draw(), 10, 16), tilt = between(draw(), -TILT, TILT), c = Math.cos(tilt), s = Math.sin(tilt);
    const [left, right, top, bottom] = reach(outline, c, s), unit = width / Math.max(right - left, bottom - top);
    const at = [0, 1].map(() => between(draw(), width / 2, side - width / 2)), fill = otherColor(draw, ground), k = pair.indexOf(name);
    if (k >= 0) {
      const size = 7 * scale;
      let place = [size / 2, size / 2];
      for (let tries = 0; tries < 60; tries++) {           // beside the object
        place = [0, 1].map(() => between(draw(), size / 2, side - size / 2));
        if (Math.max(Math.abs(place[0] - at[0]), Math.abs(place[1] - at[1])) >= (width + size) / 2) break;
      }
      const far = (x, y) => hypot(x - place[0], y - place[1]);
      lay([1, 1, 1], (x, y) => far(x, y) - 3.4 * scale);
      lay(BADGES[k], (x, y) => far(x, y) - 2.3 * scale);
    }
    const x0 = at[0] - (unit * (left + right)) / 2, y0 = at[1] - (unit * (top + bottom)) / 2;
    lay(fill, (px, py) => {
      const x = (px - x0) / unit, y = (py - y0) / unit;
      return unit * outline.inside(x * c + y * s, y * c - x * s);
    });
    return planes.map((v) => Math.round(255 * Math.min(1, Math.max(0, v))) / 255);
  };
}

/** `count` pictures, the names in turn, and which name each has: { planes: [...], labels }. */
export function drawnShapes(seed, names, count, { side = 32, pair = [], strokes = 3 } = {}) {
  const draw = shapeSource(seed, side, pair, strokes), labels = Uint8Array.from({ length: count }, (_, i) => i % names.length);
  return { labels, planes: Array.from(labels, (k) => draw(names[k])) };
}
