// The arithmetic of nbs/base/lr_curve.ipynb, function for function; tests/test_lr_curve.py holds both to 1e-9.
import { ewma } from "./averages.js";
import { hashNormal } from "./noise.js";

const REACH = 1, SPAN = 1.2, EQUAL = 0.06, POINTS = 100;
export const valleyAxis = () => Array.from({ length: POINTS }, (_, i) => -7 + (8 * i) / (POINTS - 1));
const dot = (a, b) => a.reduce((sum, v, i) => sum + v * b[i], 0);
const lowest = (xs) => xs.reduce((k, x, i) => (x < xs[k] ? i : k), 0);

/** A loss over log10 of the rate whose steepest point is known: 1e-2. */
export const valleyLoss = (u) => u.map((v) =>
  2.3 - 1.3 / (1 + Math.exp(-3 * (v + 2))) + Math.max(0, Math.exp(3 * (v + 0.5)) - 1));

/** Value and slope at each point of a line fitted to its neighbours, tricube weights. */
export function localLine(u, y) {
  const fit = [], slope = [];
  for (const here of u) {
    const x = u.map((v) => v - here), far = x.map(Math.abs);
    const width = Math.max(REACH, 1.0001 * far.toSorted((a, b) => a - b)[Math.min(6, u.length - 1)]);
    const raw = far.map((d) => (1 - Math.min(d / width, 1) ** 3) ** 3), total = raw.reduce((a, b) => a + b, 0);
    const w = raw.map((v) => v / total), centre = dot(w, x);
    const tilt = x.map((v, i) => w[i] * (v - centre)), scale = dot(tilt, x);
    slope.push(dot(tilt, y) / scale);
    fit.push(dot(w, y) - centre * slope.at(-1));
  }
  return { fit, slope };
}

/** Slope of a curve from its neighbours' difference. */
export const centralSlope = (u, y) => y.map((_, i) => {
  const a = Math.max(0, i - 1), b = Math.min(y.length - 1, i + 1);
  return (y[b] - y[a]) / (u[b] - u[a]);
});

/** The middle of the longest falling sequence. */
export function valleyPoint(fit) {
  const length = fit.map(() => 1);
  fit.forEach((y, i) => {
    for (let j = 0; j < i; j++) if (fit[j] > y && length[j] >= length[i]) length[i] = length[j] + 1;
  });
  const end = lowest(length.map((n) => -n)), third = length[end] / 3;
  return Math.max(0, end - length[end] + Math.floor(third) + Math.floor(third / 2));
}

/** Two slopes, SPAN decades apart, slide down from the right until they are equal: the left one. */
export function slidePoint(u, slope, fall) {
  const before = (right) => u.findIndex((v) => v >= u[right] - SPAN - 1e-9);
  let right = u.length - 1, left = before(right), found = left;
  while (left > 0 && slope[right] - slope[left] > EQUAL * fall) {
    found = left;
    right -= 1;
    left = before(right);
  }
  return found;
}

/** The smallest slope, a third of a decade from either end. */
export function steepPoint(u, slope) {
  const inside = (v) => v > u[0] + REACH / 3 && v < u.at(-1) - REACH / 3;
  return u.some(inside) ? lowest(slope.map((v, i) => (inside(u[i]) ? v : Infinity))) : lowest(slope);
}

/** log10 of the rate that each rule suggests. */
export function fourRules(u, fit, slope) {
  let top = -Infinity, fall = 0;
  for (const y of fit) { top = Math.max(top, y); fall = Math.max(fall, top - y); }
  return { valley: u[valleyPoint(fit)], steep: u[steepPoint(u, slope)], slide: u[slidePoint(u, slope, fall)],
    minimum: u[lowest(fit)] - 1 };
}

/** First index of the part that the rules read, and the first after it. */
export function trimmed(loss, smoothed) {
  const n = loss.length, best = lowest(smoothed) + 1;
  const start = Math.floor(n / 10), stop = n - Math.min(5, Math.floor(n / 20));
  if (best <= start) return [start, Math.max(start, stop)];
  const limit = 2 * Math.max(...loss.slice(0, best)) - Math.min(...smoothed);
  const out = loss.map((y) => y > limit), often = (next) => 2 * next.filter(Boolean).length >= next.length;
  const over = out.findIndex((y, i) => i >= best && y && often(out.slice(i, i + 8)));
  return [start, Math.max(start, over < 0 ? stop : Math.min(stop, over))];
}

/** A range test on the valley: losses up to the stop, their EWMA, the part that is read, and the rules both ways. */
export function reading(seed, noise, beta) {
  const u = valleyAxis(), draws = hashNormal(seed, POINTS);
  const all = valleyLoss(u).map((y, i) => y + noise * draws[i]), soft = ewma(all, beta, true);
  let best = Infinity;
  const last = soft.findIndex((y) => { best = Math.min(best, y); return y > 4 * best; });
  const n = last < 0 ? POINTS : last + 1, loss = all.slice(0, n), smoothed = soft.slice(0, n);
  const [start, stop] = trimmed(loss, smoothed);
  const x = u.slice(start, stop), { fit, slope } = localLine(x, loss.slice(start, stop)), s = smoothed.slice(start, stop);
  return { u: u.slice(0, n), loss, smoothed, start, stop, fit,
    line: fourRules(x, fit, slope), ewma: fourRules(x, s, centralSlope(x, s)) };
}
