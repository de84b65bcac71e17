// A function of two variables as shaded bands behind a plot.
import { attrs, svg } from "./dom.js";

const channels = (css) => {                                // "#abc", "#aabbcc" or "rgb(...)" -> [r, g, b]
  if (!css.startsWith("#")) return css.match(/[\d.]+/g).slice(0, 3).map(Number);
  const hex = css.length === 4 ? [...css.slice(1)].map((c) => c + c).join("") : css.slice(1);
  return [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16));
};

/**
 * Returns paint(f, { bands, transform }): shades f(x, y) over the plot's domain, from the theme's --low to its --high.
 * `transform` maps the values first (Math.log1p, Math.sqrt), so that a steep wall leaves bands for the valley.
 * Repeated calls with the same `key` and theme cost nothing.
 */
export function surface(plot, { width = 240, height = 160 } = {}) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const image = svg("image", { preserveAspectRatio: "none", "aria-hidden": "true" });
  plot.node.insertBefore(image, plot.grid);
  let painted = "";
  return (f, { bands = 18, transform = (v) => v, key } = {}) => {
    const [low, high] = ["low", "high"].map((name) => channels(plot.fig.color(name)));
    const name = JSON.stringify([key, bands, plot.x.domain, plot.y.domain, low, high]);
    attrs(image, { x: plot.left, y: plot.top, width: plot.right - plot.left, height: plot.bottom - plot.top });
    if (key != null && name === painted) return;
    painted = name;
    const [x0, x1] = plot.x.domain, [y0, y1] = plot.y.domain, values = new Float64Array(width * height);
    for (let j = 0, k = 0; j < height; j++)
      for (let i = 0; i < width; i++, k++)
        values[k] = transform(f(x0 + ((i + 0.5) / width) * (x1 - x0), y1 - ((j + 0.5) / height) * (y1 - y0)));
    let lo = Infinity, hi = -Infinity;
    for (const v of values) if (Number.isFinite(v)) { lo = Math.min(lo, v); hi = Math.max(hi, v); }
    const context = canvas.getContext("2d"), pixels = context.createImageData(width, height);
    values.forEach((v, k) => {
      const t = Math.min(bands - 1, Math.floor(((v - lo) / (hi - lo || 1)) * bands)) / (bands - 1);
      for (let c = 0; c < 3; c++) pixels.data[4 * k + c] = low[c] + (high[c] - low[c]) * t;
      pixels.data[4 * k + 3] = 255;
    });
    context.putImageData(pixels, 0, 0);
    image.setAttribute("href", canvas.toDataURL());
  };
}
