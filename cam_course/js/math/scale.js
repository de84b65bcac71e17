// From data to pixels. Pure functions: tested in V8 without a page.

/** Maps the interval `domain` to `range`; `invert` goes back. With log = true equal ratios get equal lengths. */
export function makeScale([d0, d1], [r0, r1], log = false) {
  const f = log ? Math.log : (v) => v;
  const g = log ? Math.exp : (v) => v;
  const a = f(d0), span = f(d1) - a || 1;
  const scale = (v) => r0 + ((f(v) - a) / span) * (r1 - r0);
  scale.invert = (p) => g(a + ((p - r0) / (r1 - r0 || 1)) * span);
  return scale;
}

/** About `count` round numbers (1, 2 or 5 times a power of ten) inside [lo, hi]. */
export function niceTicks(lo, hi, count = 5) {
  if (!(hi > lo)) return [lo];
  const raw = (hi - lo) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((m) => m * power >= raw * 0.8);
  const first = Math.ceil(lo / step - 1e-9), last = Math.floor(hi / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => +((first + i) * step).toPrecision(12));
}

/** Powers of ten inside [lo, hi], thinned to about `count`. */
export function logTicks(lo, hi, count = 5) {
  const first = Math.ceil(Math.log10(lo) - 1e-9), last = Math.floor(Math.log10(hi) + 1e-9);
  const every = Math.max(1, Math.ceil((last - first + 1) / (count + 1)));
  const ticks = [];
  for (let e = first; e <= last; e += every) ticks.push(+`1e${e}`);
  return ticks;
}

/** A short label: 0.1, 250, 1e-4, 2e6, with a true minus sign. */
export function shortNumber(v) {
  if (v === 0) return "0";
  const size = Math.abs(v);
  const text = size >= 1e5 || size < 1e-3 ? v.toExponential(0).replace("e+", "e") : String(+v.toPrecision(6));
  return text.replaceAll("-", "−");
}

/** v with so many digits after the point, with a true minus sign and no "−0". */
export function fixed(v, digits = 2) {
  const text = v.toFixed(digits);
  return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−");
}

/** Smallest and largest finite value, widened by `pad` of the span. */
export function extent(values, pad = 0) {
  let lo = Infinity, hi = -Infinity;
  for (const v of values) if (Number.isFinite(v)) { lo = Math.min(lo, v); hi = Math.max(hi, v); }
  if (lo > hi) return [0, 1];
  const space = (hi - lo || Math.abs(hi) || 1) * pad;
  return [lo - space, hi + space];
}

/** `ys` moved as little as needed to lie `gap` apart, order kept (pool adjacent violators). */
export function spread(ys, gap) {
  const order = ys.map((_, i) => i).sort((a, b) => ys[a] - ys[b]);
  const groups = [];
  order.forEach((i, n) => {
    groups.push({ sum: ys[i] - n * gap, count: 1 });
    for (let k = groups.length - 1; k > 0; k--) {
      const a = groups[k - 1], b = groups[k];
      if (a.sum / a.count < b.sum / b.count) break;
      groups.splice(k - 1, 2, { sum: a.sum + b.sum, count: a.count + b.count });
    }
  });
  const starts = groups.flatMap((g) => Array(g.count).fill(g.sum / g.count));
  const out = [];
  order.forEach((i, n) => { out[i] = starts[n] + n * gap; });
  return out;
}
