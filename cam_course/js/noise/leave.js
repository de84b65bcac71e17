// Chapter "Saddles and plateaus", the opening figure: four optimizers start on flat ground; who leaves it, and when?
import { Figure } from "../lib/figure.js";
import { choice, slider } from "../lib/controls.js";
import { walking } from "../lib/play.js";
import { beside, Plot } from "../lib/plot.js";
import { surface } from "../lib/surface.js";
import { flatStart, leaveFlat } from "../math/flat.js";
import { ESCAPES } from "../math/noise.js";

const LEAVERS = [["sgd", "SGD"], ["momentum", "Momentum"], ["rmsprop", "RMSProp"], ["adam", "Adam"]];
const counted = (steps) => steps.toLocaleString("en");

function render(context) {
  const fig = new Figure(context, "Four optimizers on flat ground: a plateau or the ridge of a saddle");
  const [left, right] = beside(fig, 2), height = () => (fig.root.clientWidth < 500 ? 190 : 240);
  const map = new Plot(fig, { parent: left, label: "", height, margin: { left: 34, right: 10 }, x: { label: "w₁" }, y: { label: "w₂" } });
  const chart = new Plot(fig, { parent: right, label: "", height, margin: { left: 48, right: 84 },
    x: { label: "step", log: true }, y: { label: "loss" } });
  const shade = surface(map);

  const traits = ["place", "distance", "offset", "lr", "steps"];
  const walk = walking(fig, "▶ Walk", (k) => Math.floor(1.04 ** k), traits);
  fig.row(choice(fig, "place", "Flat ground", [["well", "plateau"], ["saddle", "saddle"]]), walk.button);
  const far = slider(fig, "distance", "distance to well", { min: 3, max: 5, step: 0.1, format: (v) => v.toFixed(1) });
  const beyond = slider(fig, "offset", "distance to ridge", { min: 1e-12, max: 0.1, log: true, steps: 110,
    format: (v) => v.toExponential(0).replace("-", "−") });
  fig.row(far, beyond, slider(fig, "lr", "learning rate", { min: 0.01, max: 1, log: true, steps: 40, format: String }));

  return fig.draw(traits, () => {
    const [place, distance, offset, lr, steps] = traits.map((trait) => fig.get(trait));
    const { f, limits, below } = ESCAPES[place], start = flatStart(place, distance, offset), last = Math.min(walk.shown(), steps) + 1;
    far.style.display = place === "well" ? "" : "none";
    beyond.style.display = place === "saddle" ? "" : "none";
    map.x.domain = limits.slice(0, 2);
    map.y.domain = limits.slice(2);
    shade(f, { key: place, bands: 14 });
    chart.x.domain = [1, steps];
    chart.y.domain = place === "saddle" ? [-0.28, 0.15] : [-1.05, 0.1];
    const runs = LEAVERS.map(([name]) => leaveFlat(place, name, start, lr, steps));
    runs.forEach(({ path, losses, off }, i) => {
      map.line(`path ${i}`, path.slice(0, last), { color: i, width: 2 });
      map.dots(`head ${i}`, path.slice(last - 1, last), { color: i, radius: 4.5 });
      const points = losses.slice(1, last).map((loss, k) => [k + 1, Math.min(loss, 0.15)]);
      chart.line(`loss ${i}`, points, { color: i, width: 2, name: LEAVERS[i][1] });
      chart.dots(`off ${i}`, off && off < last ? [[off, losses[off]]] : [], { color: i, radius: 4 });
    });
    map.dots("start", [start], { color: "--ink", radius: 4 });
    const told = runs.map(({ off }, i) => `${LEAVERS[i][1]} ${off === null ? `not in ${counted(steps)} steps` : counted(off)}`).join(", ");
    const text = `${place === "well" ? "Steps to the well" : "Steps off the ridge"} at the rate ${lr}: ${told}.`;
    map.describe(`${place === "well" ? "A well in a wide plain" : "A saddle"} with the paths of four optimizers. ${text}`);
    chart.describe(`Loss against the step, a dot where it falls below ${below}. ${text}`);
    fig.say(text);
  });
}

export default { render };
