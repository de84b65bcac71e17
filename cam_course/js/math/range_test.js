// How nbs/base/lr_curve.ipynb reads a range test: where a clear fall is, and which rate each rule takes. tests/test_page_training.py
// holds it to the Python; the line and the rules are those of lr_finder.js.
import { ewma } from "./averages.js";
import { fourRules, localLine, trimmed, valleyPoint } from "./lr_finder.js";

const inner = (a, b) => a.reduce((sum, v, i) => sum + v * b[i], 0);
const median = (xs) => {
  const s = Array.from(xs).sort((a, b) => a - b), half = s.length >> 1;
  return s.length % 2 ? s[half] : (s[half - 1] + s[half]) / 2;
};

/** `steps` rates from `low` to `high` in equal factors. */
export const growingRates = (low, high, steps) =>
  Array.from({ length: steps }, (_, k) => (k === steps - 1 ? high : low * (high / low) ** (k / (steps - 1))));

/** Row i: what each loss counts in the value at u[i] of the line that `localLine` fits. */
const lineShares = (u) => u.map((here) => {
  const x = u.map((v) => v - here), far = x.map(Math.abs);
  const width = Math.max(1, 1.0001 * far.toSorted((a, b) => a - b)[Math.min(6, u.length - 1)]);
  const raw = far.map((d) => (1 - Math.min(d / width, 1) ** 3) ** 3), total = raw.reduce((a, b) => a + b, 0), w = raw.map((v) => v / total);
  const center = inner(w, x), tilt = x.map((v, i) => w[i] * (v - center)), scale = inner(tilt, x);
  return w.map((v, i) => v - (center * tilt[i]) / scale);
});

/** Standard deviation of one loss, from the losses' distances to the lines between their neighbors. */
function scatter(u, y) {
  const off = [];
  for (let i = 1; i + 1 < u.length; i++) {
    const left = (u[i + 1] - u[i]) / (u[i + 1] - u[i - 1]);
    off.push(Math.abs(y[i] - left * y[i - 1] - (1 - left) * y[i + 1]) / Math.sqrt(1 + left ** 2 + (1 - left) ** 2));
  }
  return off.length ? 1.4826 * median(off) : 0;
}

/** errors[i][j]: how many standard errors the fitted line falls from point i to a later point j; 0 elsewhere. */
function clearFalls(u, y) {
  const n = u.length, s = lineShares(u), level = median(y), noise = scatter(u, y), off = y.map((v) => v - level);
  const fit = s.map((row) => inner(row, off)), own = s.map((row) => inner(row, row)), least = 1e-10 * Math.max(...y.map(Math.abs)) + 1e-300;
  return u.map((_, i) => Array.from({ length: n }, (_, j) => (j <= i ? 0 : (fit[i] - fit[j]) /
    Math.max(noise * Math.sqrt(Math.max(own[i] + own[j] - 2 * inner(s[i], s[j]), 0)), least))));
}

/** Which points lie clearly, by `enough` standard errors, above an earlier one. */
const raised = (errors, enough) => errors.map((_, j) => errors.some((row) => row[j] < -enough));

/** True from the first true on. */
const fromThere = (flags) => { let seen = false; return flags.map((flag) => (seen ||= flag)); };

/** Near the right end, behind a hump: there a line that leans on a recovery goes too low. */
const tooLow = (u, after) => u.map((v, i) => after[i] && v > u.at(-1) - 0.5);

/** The clearest fall, in standard errors; none that begins on a hump, or behind one. */
function largestFall(u, errors, hump) {
  const after = fromThere(raised(errors, hump)), edge = tooLow(u, after);
  let most = 0;
  errors.forEach((row, i) => row.forEach((v, j) => { if (!after[i] && !edge[j]) most = Math.max(most, v); }));
  return most;
}

/** First point that the rules read, and the first after them: from behind the last clear rise before the lowest point, and no recovery. */
function partRead(u, fit, errors, enough) {
  const up = raised(errors, enough), edge = tooLow(u, fromThere(up));
  let low = 0, top;
  fit.forEach((v, i) => { if ((edge[i] ? Infinity : v) < (edge[low] ? Infinity : fit[low])) low = i; });
  top = low;
  for (let i = low; i < fit.length; i++) if (fit[i] > fit[top]) top = i;
  return [up.slice(0, low).lastIndexOf(true) + 1, Math.max(...errors[top]) > enough ? top + 1 : u.length];
}

/**
 * What a range test says: { start, stop, fit: the line over lr[start ... stop], rules: the rate of each rule, or null, why: the reason
 * for none }. `loss`: all finite.
 */
export function readTest(lr, loss) {
  const smoothed = ewma(loss, 0.95, true), [start, stop] = trimmed(loss, smoothed);
  const u = lr.slice(start, stop).map(Math.log10), y = loss.slice(start, stop), none = (why) => ({ start, stop, fit: [], rules: null, why });
  if (u.length < 12) return none("too few steps before the end");
  const errors = clearFalls(u, y), enough = 6 * (1 + 20 / u.length), most = largestFall(u, errors, enough / 2);
  const { fit, slope } = localLine(u, y);
  if (most <= enough)
    return { ...none(`the loss falls by no more than ${most.toFixed(1)} standard errors, and ${enough.toFixed(1)} would count`), fit };
  const [from, to] = partRead(u, fit, errors, enough / 2), cut = (xs) => xs.slice(from, to);
  const found = fourRules(cut(u), cut(fit), cut(slope));
  found.valley = cut(u)[valleyPoint(cut(smoothed.slice(start, stop)))];            // it reads the average, whose lag is its margin
  return { start, stop, fit, why: "", rules: Object.fromEntries(Object.entries(found).map(([name, v]) => [name, 10 ** v])) };
}

/** Several tests with the same rates: { u, low, middle, high } of their lines, and each rule's median (or null), least and largest rate. */
export function spreadOfTests(lr, losses) {
  const read = losses.map((loss) => readTest(lr.slice(0, loss.length), loss)), usable = losses.filter((_, i) => read[i].rules);
  const rules = Object.fromEntries(["valley", "steep", "slide", "minimum"].map((name) => {
    const all = read.filter((r) => r.rules).map((r) => r.rules[name]);
    return [name, { rate: 2 * all.length > losses.length ? median(all) : null, least: Math.min(...all), most: Math.max(...all) }];
  }));
  if (!usable.length) return { u: [], low: [], middle: [], high: [], rules, why: read[0]?.why ?? "" };
  const stop = Math.min(...read.filter((r) => r.rules).map((r) => r.stop)), u = lr.slice(0, stop).map(Math.log10);
  const fits = usable.map((loss) => localLine(u, loss.slice(0, stop)).fit), at = (i) => fits.map((fit) => fit[i]);
  return { u, low: u.map((_, i) => Math.min(...at(i))), middle: u.map((_, i) => median(at(i))), high: u.map((_, i) => Math.max(...at(i))), rules, why: "" };
}
