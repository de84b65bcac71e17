// Chapter "Averaging weights": a noisy walk in a valley, the running average of its points, and the loss of both.
import { Figure } from "../lib/figure.js";
import { button, legend, slider } from "../lib/controls.js";
import { walking } from "../lib/play.js";
import { beside, Plot } from "../lib/plot.js";
import { surface } from "../lib/surface.js";
import { hashNormal } from "../math/noise.js";
import { averagedPath, noisyWalk, valleyLoss } from "../math/weight_averaging.js";

const MOST = 1000;                                         // updates of memory: more than the walk is long, all weigh alike

function render(context) {
  const fig = new Figure(context, "A noisy walk in a valley, and the average of its points");
  const [left, right] = beside(fig, 2), height = () => (fig.root.clientWidth < 500 ? 172 : 212);
  const map = new Plot(fig, { parent: left, label: "", height, margin: { left: 34 },
    x: { domain: [-5, 5], label: "along the valley" }, y: { domain: [-2.2, 2.2], label: "across" } });
  const chart = new Plot(fig, { parent: right, label: "", height, margin: { left: 52 },
    x: { label: "step" }, y: { domain: [1e-4, 10], log: true, label: "loss" } });
  const shade = surface(map);

  const traits = ["lr", "memory", "start", "seed"];
  const film = walking(fig, "▶ Walk", (k) => 4 * k, traits);
  fig.row(legend([["--muted", "the walk"], [1, "the average of its points"]]),
    film.button, button("Other noise", () => fig.set("seed", fig.get("seed") + 1)));
  fig.row(slider(fig, "memory", "memory [steps]", { min: 1, max: MOST, log: true, steps: 60,
    format: (v) => (v >= MOST ? "all" : String(Math.round(v))) }),
    slider(fig, "start", "starts at step", { min: 0, max: Math.max(0, fig.get("steps") - 10), step: 10 }));
  fig.row(slider(fig, "lr", "learning rate", { min: 0.02, max: 1.9, log: true, steps: 60 }));

  let made = "", noise = [];                               // the noise of this seed, made once
  const noiseOf = (seed, steps) => {
    if (made !== `${seed} ${steps}`) { noise = hashNormal(seed, 2 * steps); made = `${seed} ${steps}`; }
    return noise;
  };

  return fig.draw([...traits, "steps"], () => {
    const [lr, memory, start, seed, steps] = [...traits, "steps"].map((trait) => fig.get(trait));
    const walk = noisyWalk(lr, noiseOf(seed, steps)), average = averagedPath(walk, 1 - 1 / memory, start);
    const last = Math.min(film.shown(), steps), losses = [walk, average].map((path) => path.map(valleyLoss));
    shade((x, y) => valleyLoss([x, y]), { key: "valley", transform: Math.sqrt, bands: 10 });
    chart.x.domain = [0, steps];
    map.line("walk", walk.slice(0, last + 1), { color: "--muted", width: 1.2, opacity: 0.8 });
    map.line("average", average.slice(start, last + 1), { color: 1, width: 2.5 });
    map.dots("minimum", [[0, 0]], { color: "--ink", radius: 3 });
    map.dots("walk's point", [walk[last]], { color: "--muted", radius: 6 });
    map.dots("average's point", [average[last]], { color: 1, radius: 6 });
    const line = (i, from) => losses[i].slice(from, last + 1).map((v, k) => [from + k, Math.max(v, 1e-4)]);
    chart.line("walk", line(0, 0), { color: "--muted", width: 1.2 });
    chart.line("average", line(1, start), { color: 1 });
    chart.rule("start", { x: start });

    const tail = Math.max(1, Math.floor(steps / 4));
    const [a, b] = losses.map((loss) => loss.slice(-tail).reduce((sum, v) => sum + v, 0) / tail);
    const ratio = a >= b ? `${(a / b).toPrecision(2)} times less` : `${(b / a).toPrecision(2)} times more`;
    const text = `Mean loss of the last ${tail} steps: the walk ${a.toPrecision(2)}, `
      + `the average ${b.toPrecision(2)}${memory > 1 ? `, ${ratio}` : ""}.`;
    map.describe(`A valley with a noisy walk and the average of its points from step ${start} on. ${text}`);
    chart.describe(`Loss of both against the step. ${text}`);
    fig.say(text);
  });
}

export default { render };
