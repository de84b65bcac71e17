// Chapter "Adversarial images": one attack, step by step: image, change, two maps, probabilities.
import { Figure } from "../lib/figure.js";
import { slider } from "../lib/controls.js";
import { html } from "../lib/dom.js";
import { beside, Plot } from "../lib/plot.js";
import { amplified, fooledAt, overlaid, perturbed, stretchMap, unpackBytes } from "../math/adversarial.js";

const percentOf = (p) => `${(100 * p).toFixed(1)} %`;

/** A small picture with words above it; returns draw(bytes, words). */
function pictureBox(parent, label, [height, width]) {
  const words = html("p", { style: "font-weight:650;font-size:13px;line-height:1.3;margin-bottom:4px" });
  const canvas = html("canvas", { role: "img", "aria-label": label, width, height,
    style: "width:100%;max-width:230px;display:block;image-rendering:pixelated;border-radius:4px" });
  parent.append(words, canvas);
  const context = canvas.getContext("2d"), pixels = context.createImageData(width, height);
  return (bytes, text) => {
    for (let i = 0; i < width * height; i++) {
      for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = bytes[3 * i + c];
      pixels.data[4 * i + 3] = 255;
    }
    context.putImageData(pixels, 0, 0);
    words.textContent = text;
    canvas.setAttribute("aria-label", text);
  };
}

function render(context) {
  const fig = new Figure(context, "An attack step by step: image, change, maps of two classes and probabilities");
  const [size, side, names, label, goal, eps, probabilities] =
    ["size", "side", "names", "label", "goal", "eps", "probabilities"].map((n) => fig.get(n));
  const image = unpackBytes(fig.get("image")), noise = unpackBytes(fig.get("noise"), true);
  const maps = unpackBytes(fig.get("maps")), colors = unpackBytes(fig.get("colors")), steps = probabilities.length - 1;
  const pixels = size[0] * size[1], cells = side[0] * side[1];

  const places = beside(fig, 4);
  const grid = places[0].parentNode.style;
  grid.gridAutoFlow = "row";
  grid.gridTemplateColumns = "repeat(auto-fit, minmax(130px, 1fr))";
  const boxes = ["image", "change", "map of the label", "map of the other class"].map((name, i) =>
    pictureBox(places[i], name, size));
  fig.row(slider(fig, "step", "step", { min: 0, max: steps, step: 1 }));
  fig.row(slider(fig, "gain", "amplify", { min: 1, max: 40, step: 1, format: (v) => `${v}×` }));
  const plot = new Plot(fig, { label: "Probability of the two classes after each step", height: 172,
    margin: { right: 82 }, x: { domain: [-0.02 * steps, 1.02 * steps], label: "step" },
    y: { domain: [-0.04, 1.04], label: "probability", ticks: [0, 0.5, 1], format: (v) => `${100 * v} %` } });
  const fooled = fooledAt(probabilities, label);

  return fig.draw(["step", "gain"], () => {
    const [step, gain] = [fig.get("step"), fig.get("gain")], p = probabilities[step];
    const change = noise.slice(step * 3 * pixels, (step + 1) * 3 * pixels);
    const attacked = perturbed(image, change, eps);
    boxes[0](attacked, `after ${step} step${step === 1 ? "" : "s"}`);
    boxes[1](amplified(change, eps, gain), `change, ${gain} times`);
    [label, goal].forEach((c, i) => {
      const start = (2 * step + i) * cells, map = maps.slice(start, start + cells).map((v) => v / 255);
      boxes[2 + i](overlaid(attacked, stretchMap(map, side, size), 0.6, colors), `map of ${names[c]}`);
    });
    plot.rule("now", { x: step, color: "--ink" });
    [label, goal].forEach((c, i) => plot.line(`class ${i}`, probabilities.map((row, k) => [k, row[c]]),
      { color: i, name: names[c] }));
    plot.dots("points", [label, goal].map((c) => [step, p[c]]), { color: "--ink", radius: 5 });
    const most = change.reduce((top, v) => Math.max(top, Math.abs(v)), 0);
    fig.say(`Step ${step} of ${steps}: no value has moved by more than ${((255 * eps * most) / 127).toFixed(1)} of 255; `
      + `${names[label]} ${percentOf(p[label])}, ${names[goal]} ${percentOf(p[goal])}; `
      + (fooled < 0 ? "the network isn't fooled." : step < fooled ? "the network is right." : "the network is wrong."));
  });
}

export default { render };
