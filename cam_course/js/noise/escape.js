// Walkers with noisy gradients at a saddle or on a plateau, beside one without noise: their paths, and their loss.
import { Figure } from "../lib/figure.js";
import { choice, slider } from "../lib/controls.js";
import { handle } from "../lib/handle.js";
import { walking } from "../lib/play.js";
import { Plot } from "../lib/plot.js";
import { surface } from "../lib/surface.js";
import { ESCAPES, hashNormal, noisyDescent } from "../math/noise.js";

const WALKERS = 12;
const rounded = (v) => (Math.round(1000 * v) / 1000 + 0).toFixed(3).replace("-", "−");   // + 0: no "−0.000"

function render(context) {
  const fig = new Figure(context, "Gradient noise at a saddle and on a plateau");
  const map = new Plot(fig, { label: "", height: (w) => Math.max(220, 0.45 * w),
    x: { label: "w₁" }, y: { label: "w₂" } });
  const chart = new Plot(fig, { label: "", height: (w) => Math.max(190, 0.3 * w), margin: { right: 86 },
    x: { label: "step" }, y: { label: "loss" } });
  const shade = surface(map);
  const place = handle(map, { label: "Start point; arrow keys move it", step: [0.05, 0.05], get: () => fig.get("start"),
    set: ([x, y]) => {
      const [x0, x1, y0, y1] = ESCAPES[fig.get("surface")].limits;
      fig.set("start", [Math.min(x1, Math.max(x0, x)), Math.min(y1, Math.max(y0, y))]);
    } });

  const traits = ["surface", "start", "lr", "std", "decay"];
  const walk = walking(fig, "Walk", (k) => 2 * k, traits);
  fig.row(choice(fig, "surface", "Surface", [["saddle", "saddle"], ["well", "plateau"]]), walk.button);
  fig.row(slider(fig, "std", "noise σ", { min: 1e-6, max: 10, log: true, steps: 140, format: String }),
    slider(fig, "lr", "learning rate", { min: 0.01, max: 1, log: true, format: String }));
  const decays = [["none", "constant"], ["power", "power law"], ["exponential", "0.99ᵗ"]];
  fig.row(choice(fig, "decay", "How the noise decays", decays));
  fig.on("surface", () => fig.set("start", ESCAPES[fig.get("surface")].start));

  const noises = new Map();                                // number of steps -> the walkers' noise, made once
  const noiseOf = (steps) => {
    const make = () => Array.from({ length: WALKERS }, (_, seed) => hashNormal(seed, 2 * steps));
    if (!noises.has(steps)) noises.set(steps, make());
    return noises.get(steps);
  };

  return fig.draw([...traits, "steps"], () => {
    const [name, start, lr, std, decay, steps] = [...traits, "steps"].map((trait) => fig.get(trait));
    const { f, below, limits } = ESCAPES[name], last = Math.min(walk.shown(), steps) + 1;
    map.x.domain = limits.slice(0, 2);
    map.y.domain = limits.slice(2);
    shade(f, { key: name, bands: 14 });
    const paths = [...noiseOf(steps), null].map((noise) => noisyDescent(name, start, lr, std, decay, steps, noise));
    const losses = paths.map((path) => path.map(([x, y]) => f(x, y)));
    chart.x.domain = [0, steps];
    chart.y.domain = name === "saddle" ? [-0.27, 0.12] : [-1.05, 0.08];
    paths.forEach((path, i) => {
      const quiet = i === WALKERS, look = quiet ? { color: 0, width: 4 } : { color: 1, width: 1.4, opacity: 0.75 };
      map.line(`path ${i}`, path.slice(0, last), look);
      const head = { color: look.color, radius: quiet ? 6 : 3.5 };
      if (last <= steps) map.dots(`head ${i}`, path.slice(last - 1, last), head);
      const label = quiet ? "no noise" : i === 0 ? "noise" : undefined;
      const points = losses[i].slice(0, last).map((loss, k) => [k, loss]);
      chart.line(`loss ${i}`, points, { ...look, width: quiet ? 3 : 1.2, name: label });
    });
    place();
    const firsts = losses.slice(0, WALKERS).map((loss) => loss.findIndex((v) => v < below)).filter((k) => k >= 0);
    firsts.sort((a, b) => a - b);
    const when = firsts.length ? `, the first at step ${firsts[0]}, the last at ${firsts.at(-1)}` : "";
    const text = `Noise ${std}: ${firsts.length} of ${WALKERS} walkers escape in ${steps} steps${when}. `
      + `Without noise the loss ends at ${rounded(losses[WALKERS].at(-1))}.`;
    map.describe(`${name === "saddle" ? "A saddle" : "A well in a plain"} with thirteen paths. ${text}`);
    chart.describe(`Loss against the step. ${text}`);
    fig.say(text);
  });
}

export default { render };
