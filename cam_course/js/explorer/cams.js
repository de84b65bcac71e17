// Class activation maps of a few images: image, layer, class and opacity to choose. All maps are in the figure.
import { Figure } from "../lib/figure.js";
import { choice, select, slider, toggle } from "../lib/controls.js";
import { html } from "../lib/dom.js";
import { blend, enlargeMap, sharedFactor } from "../math/cams.js";
import { fixed } from "../math/scale.js";

const SIDE = 320;                                          // pixels of the drawing, about
const bytesOf = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

function render(context) {
  const fig = new Figure(context, "Class activation maps by image, layer and class");
  const [layers, names, titles, sides] = ["layers", "names", "titles", "sides"].map((n) => fig.get(n));
  const [h, w] = fig.get("size"), [pixels, maps, colors] = ["pixels", "maps", "colors"].map((n) => bytesOf(fig.get(n)));
  const scale = Math.max(1, Math.floor(SIDE / Math.max(h, w))), H = h * scale, W = w * scale;
  const cells = sides.map(([a, b]) => a * b), perImage = names.length * cells.reduce((s, n) => s + n, 0);
  const canvas = Object.assign(html("canvas", { role: "img", class: "cc-plot", style: "width:min(100%,340px);margin:10px auto 4px" }),
    { width: W, height: H });
  const some = (trait, label, values) =>
    (values.join("").length < 44 ? choice : select)(fig, trait, label, values.map((text, i) => [i, text]));
  if (titles.length > 1) fig.row(some("image", "image", titles));
  if (layers.length > 1) fig.row(some("layer", "layer", layers));
  fig.row(select(fig, "target", "class", names.map((name, i) => [i, name])), toggle(fig, "shared", "one scale for all classes"));
  fig.row(slider(fig, "opacity", "opacity", { min: 0, max: 1, step: 0.05, format: (v) => v.toFixed(2) }));
  fig.add(canvas);

  return fig.draw(["image", "layer", "target", "opacity", "shared"], () => {
    const [n, k, c, opacity] = ["image", "layer", "target", "opacity"].map((name) => fig.get(name));
    const peaks = fig.get("peaks")[n][k], factor = sharedFactor(peaks, c, fig.get("shared")), [mh, mw] = sides[k];
    const start = n * perImage + names.length * cells.slice(0, k).reduce((s, v) => s + v, 0) + c * cells[k];
    const cam = Array.from(maps.subarray(start, start + cells[k]), (v) => (v / 255) * factor);
    const photo = pixels.subarray(3 * h * w * n, 3 * h * w * (n + 1));
    const mixed = blend(photo, w, scale, enlargeMap(cam, mh, mw, H, W), colors, opacity);
    const brush = canvas.getContext("2d"), data = brush.createImageData(W, H);
    for (let p = 0; p < H * W; p++) {
      for (let i = 0; i < 3; i++) data.data[4 * p + i] = Math.round(mixed[3 * p + i]);
      data.data[4 * p + 3] = 255;
    }
    brush.putImageData(data, 0, 0);
    const rank = peaks.filter((p) => p > peaks[c]).length + 1;
    const evidence = peaks[c] > 0 ? `highest evidence ${fixed(peaks[c])}, number ${rank} of ${names.length} classes`
      : "no positive evidence anywhere";
    const text = `${titles[n]}; ${layers[k]}, ${mh}x${mw}, for ${names[c]}: ${evidence}.`;
    canvas.setAttribute("aria-label", `The image under its map at opacity ${opacity.toFixed(2)}. ${text}`);
    fig.say(text);
  });
}

export default { render };
