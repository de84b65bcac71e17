// Chapter "Optimizers", the opening figure: one optimizer in a ravine, its path and the rate of each weight.
import { Figure } from "../lib/figure.js";
import { select, slider, toggle } from "../lib/controls.js";
import { walking } from "../lib/play.js";
import { beside, Plot } from "../lib/plot.js";
import { surface } from "../lib/surface.js";
import { RACE_SURFACES, arrival, lossGap, pathWithRates } from "../math/optimizers.js";

const PATH_NAMES = { sgd: "SGD (plain descent)", momentum: "Momentum", nesterov: "Nesterov", adagrad: "Adagrad", rmsprop: "RMSProp",
  adadelta: "Adadelta", adam: "Adam", lion: "Lion" };
const short = (v) => (v >= 1e4 || v < 1e-3 ? v.toExponential(0).replace("-", "−") : String(+v.toPrecision(2)));

function render(context) {
  const fig = new Figure(context, "One optimizer in a ravine, to choose with its learning rate");
  const [left, right] = beside(fig, 2), height = () => (fig.root.clientWidth < 500 ? 180 : 236);
  const map = new Plot(fig, { parent: left, label: "", height, margin: { left: 34, right: 10 },
    x: { domain: [-5, 5], label: "w₁" }, y: { domain: [-3, 3], label: "w₂", ticks: [-2, 0, 2] } });
  const chart = new Plot(fig, { parent: right, label: "", height, margin: { left: 52 },
    x: { domain: [0.4, 2.6], ticks: [1, 2], format: (v) => `w${"₀₁₂"[v]}` }, y: { label: "rate of each weight" } });
  const shade = surface(map);

  const traits = ["optimizer", "lr", "tilted", "steps"];
  const walk = walking(fig, "▶ Walk", (k) => Math.floor(k / 3), traits);
  fig.row(select(fig, "optimizer", "Optimizer", Object.entries(PATH_NAMES)), walk.button,
    toggle(fig, "tilted", "turn the ravine by 30°"));
  fig.row(slider(fig, "lr", "learning rate", { min: 0.001, max: 10, log: true, steps: 80, format: String }));

  return fig.draw(traits, () => {
    const [optimizer, lr, tilted, steps] = traits.map((trait) => fig.get(trait));
    const name = tilted ? "tilted ravine" : "ravine", { f, start } = RACE_SURFACES[name];
    const { path, rates } = pathWithRates(optimizer, name, start, lr, steps), gaps = lossGap(name, path);
    const last = Math.min(walk.shown(), steps), finite = (pair) => pair.every((v) => Number.isFinite(v) && v > 0);
    const now = rates.slice(0, Math.max(1, last)).findLast(finite) ?? [lr, lr];
    shade(f, { key: name, bands: 12, transform: (v) => Math.log(v + 0.05) });
    const seen = path.slice(0, last + 1);
    map.line("path", seen, { color: 1, width: 1.8 });
    map.dots("steps", seen.filter(([x]) => !Number.isNaN(x)), { color: 1, radius: 2.2 });
    map.text("minimum", 0, 0, "✕", { anchor: "middle", dy: 5, bold: true });
    map.dots("start", [start], { color: "--ink", radius: 5 });

    const most = Math.max(...now);
    chart.y.domain = [0, 1.15 * most];
    now.forEach((rate, i) => {
      chart.bars(`rate ${i}`, [[i + 1, rate]], { color: i ? 2 : 0, width: 0.7 });
      chart.text(`value ${i}`, i + 1, rate, short(rate), { anchor: "middle", dy: -5, bold: true });
    });

    const reached = arrival(gaps), at = optimizer === "sgd" ? "SGD" : PATH_NAMES[optimizer];
    const fate = Number.isNaN(gaps.at(-1)) ? "it is gone" : reached <= steps ? `${reached} steps to a thousandth of the loss`
      : `not at a thousandth of the loss after ${steps} steps`;
    const ratio = now[0] >= now[1] ? `w₁ has ${short(now[0] / now[1])} times the rate of w₂`
      : `w₂ has ${short(now[1] / now[0])} times the rate of w₁`;
    const equal = now[0] === now[1] ? "both weights have one rate" : ratio;
    const text = `${at} at rate ${lr}: ${fate}; ${equal}.`;
    map.describe(`${tilted ? "A tilted ravine" : "A ravine"} with the path of one optimizer. ${text}`);
    chart.describe(`Bars: the rate of each weight after ${last} steps, ${short(now[0])} and ${short(now[1])}.`);
    fig.say(text);
  });
}

export default { render };
