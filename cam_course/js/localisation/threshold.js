// Chapter "Localisation": a threshold cuts a region out of a map; how well does it fit the object?
import { Figure } from "../lib/figure.js";
import { choice, select, slider } from "../lib/controls.js";
import { attrs, svg } from "../lib/dom.js";
import { beside, Plot } from "../lib/plot.js";
import { evidenceAt, iouOf, massInMask, outlineOf, peakOf, pointingGame, regionOf } from "../math/localisation.js";

const LEVELS = Array.from({ length: 50 }, (_, i) => (i + 1) / 50);
const percent = (v) => `${(100 * v).toFixed(0)} %`;

/** The image behind a plot, grey outside of the region: returns paint(offset into the pixels, region). */
function picture(plot, size, pixels) {
  const canvas = Object.assign(document.createElement("canvas"), { width: size, height: size });
  const node = svg("image", { preserveAspectRatio: "none", "aria-hidden": "true", "image-rendering": "pixelated" });
  plot.node.insertBefore(node, plot.grid);
  return (start, region) => {
    const context = canvas.getContext("2d"), out = context.createImageData(size, size);
    for (let k = 0; k < size * size; k++) {
      const color = [0, 1, 2].map((c) => pixels.getUint8(start + 3 * k + c));
      const grey = (color[0] + color[1] + color[2]) / 3, lit = region[Math.floor(k / size)][k % size];
      color.forEach((v, c) => { out.data[4 * k + c] = lit ? v : 40 + 0.45 * grey; });
      out.data[4 * k + 3] = 255;
    }
    context.putImageData(out, 0, 0);
    attrs(node, { href: canvas.toDataURL(), x: plot.left, y: plot.top, width: plot.right - plot.left,
      height: plot.bottom - plot.top });
  };
}

function render(context) {
  const fig = new Figure(context, "A threshold on the maps of several images, and how well the region fits the object");
  const size = fig.get("size"), methods = fig.get("methods"), titles = fig.get("titles"), flags = fig.get("masks");
  const maps = fig.get("maps").map((of) => of.map((map) => evidenceAt(map, size)));
  const masks = titles.map((_, k) => Array.from({ length: size }, (_, i) =>
    Array.from({ length: size }, (_, j) => flags.getUint8((k * size + i) * size + j))));

  fig.row(select(fig, "image", "Image", titles.map((name, k) => [k, name])),
    choice(fig, "method", "Map", methods.map((name, k) => [k, name])));
  fig.row(slider(fig, "threshold", "threshold", { min: 0.02, max: 1, step: 0.02, format: percent }));
  const [left, right] = beside(fig, 2);
  const side = (w) => Math.min(w, 300) - 12;
  const view = new Plot(fig, { parent: left, label: "", height: (w) => side(w) + 24,
    margin: { left: 6, right: 6, top: 12, bottom: 12 },
    x: { domain: [0, size], hide: true }, y: { domain: [size, 0], hide: true } });
  const curves = new Plot(fig, { parent: right, label: "", height: 300, margin: { right: 14 },
    x: { domain: [0, 1], label: "threshold, part of the peak", ticks: [0, 0.25, 0.5, 0.75, 1] },
    y: { domain: [0, 0.8], label: "IoU" } });
  const paint = picture(view, size, fig.get("pixels"));

  return fig.draw(["image", "method", "threshold"], () => {
    const [k, m, threshold] = ["image", "method", "threshold"].map((name) => fig.get(name));
    const mask = masks[k], evidence = maps[m][k], region = regionOf(evidence, threshold);
    view.margin.right = Math.max(6, view.w - 6 - side(view.w));                    // square, however wide the column
    paint(3 * k * size * size, region);
    const outline = outlineOf(mask), peak = peakOf(evidence), i = evidence.findIndex((row) => row.includes(peak));
    const top = peak > 0 ? [[evidence[i].indexOf(peak) + 0.5, i + 0.5]] : [];
    for (const [name, color, more] of [["halo", "black", 2], ["line", "white", 0]]) {   // seen on any ground
      view.line(`object ${name}`, outline, { color, width: 2.5 + more });
      view.dots(`peak ${name}`, top, { color, radius: 3.5 + more });
    }

    const fits = maps.map((of) => LEVELS.map((t) => [t, iouOf(regionOf(of[k], t), mask)]));
    const heights = fits.map((points) => Math.max(...points.map(([, v]) => v))), tallest = Math.max(...heights);
    curves.y.domain = [0, Math.max(0.6, Math.ceil((tallest + 0.2) * 5) / 5)];      // room for the names
    fits.forEach((points, n) => curves.line(methods[n], points, { color: n, width: n === m ? 4 : 1.8 }));
    const iou = iouOf(region, mask), best = fits[m].reduce((a, b) => (b[1] > a[1] ? b : a));
    curves.rule("threshold", { x: threshold });
    curves.dots("now", [[threshold, iou]], { color: m, radius: 6 });
    heights.forEach((height, n) => {                                               // names in the corner, best first
      const above = heights.filter((h, o) => h > height || (h === height && o < n)).length;
      const place = { anchor: "end", bold: true, dy: 14 + 18 * above };
      curves.text(`name ${n}`, 1, curves.y.domain[1], methods[n], { color: n, ...place });
    });
    const hits = pointingGame(evidence, mask);
    view.describe(`${titles[k]}: the object, and where ${methods[m]} is above ${percent(threshold)} of its peak`);
    curves.describe(`Intersection over union against the threshold, for ${methods.join(", ")}`);
    fig.say(`${methods[m]}, ${titles[k]}: at ${percent(threshold)} of the peak the IoU is ${iou.toFixed(2)} `
      + `(best ${best[1].toFixed(2)} at ${percent(best[0])}). ${percent(massInMask(evidence, mask))} of the mass `
      + `lies on the object; the peak ${hits ? "hits" : "misses"} it.`);
  });
}

export default { render };
