// Chapter "Gradient descent": one learning rate for two directions. The path, each direction's error, and why.
import { Figure } from "../lib/figure.js";
import { button, slider } from "../lib/controls.js";
import { beside, Plot } from "../lib/plot.js";
import { handle } from "../lib/handle.js";
import { surface } from "../lib/surface.js";
import { bestRate, descendQuadratic, errorFactors, stepsNeeded } from "../math/descent.js";

const STEPS = 200, MAX_RATE = 2.2;
const WAYS = [{ name: "along", color: 0 }, { name: "across", color: 1 }];      // flat: μ = 1/κ, steep: L = 1
const within = (v, lo, hi) => Math.max(lo, Math.min(hi, v));
const number = (v) => (v >= 100 ? v.toFixed(0) : String(+v.toPrecision(3)));
const signed = (v) => v.toFixed(3).replace("-", "−");

function verdict(factor) {
  if (Math.abs(factor) > 1) return "explodes";
  if (Math.abs(factor) === 1) return "stands still";
  return factor < 0 ? "changes side at every step" : "creeps";
}

function render(context) {
  const fig = new Figure(context, "Gradient descent in a valley: learning rate, condition number, errors");
  const plane = new Plot(fig, { label: "Path of gradient descent in the valley", height: (w) => 0.26 * w + 80,
    x: { domain: [-5, 5], label: "w₁, along the valley" }, y: { domain: [-3, 3], label: "w₂, across" } });
  const shade = surface(plane), [left, right] = beside(fig, 2);
  const factorPlot = new Plot(fig, { parent: left, label: "Error factor per step against the learning rate",
    height: 200, margin: { right: 14 }, x: { domain: [0, MAX_RATE], label: "learning rate α  (units of 1/L)" },
    y: { domain: [0, 1.3], label: "|error factor| a step" } });
  const errorPlot = new Plot(fig, { parent: right, label: "Distance from the minimum in each direction", height: 200,
    margin: { left: 58, right: 58 }, x: { domain: [0, STEPS], label: "step" },
    y: { domain: [1e-4, 10], log: true, label: "distance" } });

  const setRate = (v) => fig.set("alpha", +within(v, 0, MAX_RATE).toFixed(4));
  const curvatures = () => [1 / fig.get("kappa"), 1];
  const worst = () => Math.max(...errorFactors(fig.get("alpha"), curvatures()).map(Math.abs));
  const placeStart = handle(plane, { label: "Start point", step: [0.1, 0.1], get: () => fig.get("start"),
    set: ([x, y]) => fig.set("start", [within(x, -5, 5), within(y, -3, 3)]) });
  const placeRate = handle(factorPlot, { label: "Learning rate", step: [0.01, 0], format: ([v]) => v.toFixed(2),
    get: () => [fig.get("alpha"), worst()], set: ([v]) => setRate(v) });
  fig.row(slider(fig, "alpha", "learning rate α", { min: 0, max: MAX_RATE, step: 0.01, format: (v) => v.toFixed(2) }));
  fig.row(slider(fig, "kappa", "condition κ", { min: 1, max: 1000, log: true, steps: 60, format: number }));
  fig.row(button("Best α", () => setRate(bestRate(...curvatures())[0])));

  return fig.draw(["alpha", "kappa", "start"], () => {
    const alpha = fig.get("alpha"), kappa = fig.get("kappa"), both = curvatures(), factors = errorFactors(alpha, both);
    shade((x, y) => both[0] * x * x + y * y, { key: kappa, transform: Math.sqrt, bands: 10 });
    const path = descendQuadratic(both, fig.get("start"), alpha, STEPS);
    const end = path.findIndex((p) => p.some((v) => Math.abs(v) > 1e3)), seen = end < 0 ? path : path.slice(0, end + 1);
    plane.line("path", seen, { color: 2, width: 2 });
    plane.dots("iterates", seen.slice(1), { color: 2, radius: 3 });
    plane.dots("minimum", [[0, 0]], { color: "--ink", radius: 4 });
    placeStart();

    factorPlot.band("explodes", [[0, 1, 1.3], [MAX_RATE, 1, 1.3]], { color: 1, opacity: 0.12 });
    factorPlot.text("edge", MAX_RATE / 2, 1, "explodes", { anchor: "middle", dy: -8, color: "--muted" });
    both.forEach((c, i) => {
      const corner = Math.min(1 / c, MAX_RATE), v = (a) => [a, Math.abs(1 - a * c)];
      factorPlot.line(`way ${i}`, [v(0), v(corner), v(MAX_RATE)], { color: WAYS[i].color });
      errorPlot.line(`way ${i}`, path.map((p, k) => [k, Math.abs(p[i])]).filter(([, v]) => v > 2e-4 && v < 1e6),
        { color: WAYS[i].color, name: WAYS[i].name });
    });
    factorPlot.rule("now", { x: alpha });
    placeRate();

    const [slowest, i] = Math.abs(factors[0]) >= Math.abs(factors[1]) ? [factors[0], 0] : [factors[1], 1];
    const steps = stepsNeeded(slowest, 1e-3), [best] = bestRate(...both);
    fig.say(`κ = ${number(kappa)}, α = ${alpha.toFixed(2)}: per step the error is multiplied by `
      + `${signed(factors[1])} across and ${signed(factors[0])} along. `
      + `The slower direction, ${WAYS[i].name}, ${verdict(slowest)}`
      + (steps < Infinity ? `: ${steps} step${steps > 1 ? "s" : ""} to 1/1000. ` : ". ")
      + `Best α here: ${best.toFixed(3)}.`);
  });
}

export default { render };
