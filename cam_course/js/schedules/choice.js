// Chapter "Schedules": a schedule to choose, its rate, and the loss of a noisy training under it.
import { Figure } from "../lib/figure.js";
import { choice, legend, slider } from "../lib/controls.js";
import { beside, Plot } from "../lib/plot.js";
import { fixed } from "../math/scale.js";
import { bestConstant, expectedLoss, oneCycleMomentum, scheduleShape } from "../math/schedules.js";

const STEPS = 300, CURVATURES = [0.03, 0.3, 1], LOW = 1e-4, HIGH = 1e4;
const KINDS = [["constant", "constant"], ["step", "step"], ["exponential", "exponential"], ["cosine", "cosine"],
  ["restarts", "restarts"], ["WSD", "WSD"], ["inverse root", "1/√step"], ["one-cycle", "one-cycle"]];
const two = (v) => (v >= 1e-4 ? String(+v.toPrecision(2)) : v.toExponential(1).replace("-", "−"));
const loss = (v) => (v < HIGH ? two(v) : "beyond 10,000");

function render(context) {
  const fig = new Figure(context, "A learning-rate schedule, and the loss of a noisy training under it");
  fig.row(choice(fig, "schedule", "Schedule", KINDS));
  const [left, right] = beside(fig, 2), height = () => (fig.root.clientWidth < 500 ? 160 : 205);
  const x = { domain: [0, STEPS], label: "step", ticks: [0, 100, 200, 300] };
  const rates = new Plot(fig, { parent: left, label: "", height, x, y: { label: "learning rate" }, margin: { left: 54 } });
  const chart = new Plot(fig, { parent: right, label: "", height, x, margin: { left: 56 },
    y: { domain: [LOW, 1], log: true, label: "expected loss" } });
  fig.add(legend([[0, "this schedule"], [1, "the best constant rate"]]));
  fig.row(slider(fig, "max_lr", "highest rate", { min: 0.003, max: 1, log: true, format: two }),
    slider(fig, "warmup", "warm-up", { min: 0, max: 0.5, step: 0.05, format: (v) => `${fixed(100 * v, 0)} %` }),
    slider(fig, "noise", "noise", { min: 0.02, max: 0.5, step: 0.02, format: (v) => v.toFixed(2) }));

  let made = NaN, flat = [];                               // the best constant rate of this noise, found once
  return fig.draw(["schedule", "max_lr", "warmup", "noise"], () => {
    const [kind, top, share, noise] = ["schedule", "max_lr", "warmup", "noise"].map((name) => fig.get(name));
    if (made !== noise) { flat = bestConstant(STEPS, CURVATURES, noise); made = noise; }
    const [rate, plain] = flat, steps = Array.from({ length: STEPS }, (_, k) => k);
    const lrs = steps.map((k) => top * scheduleShape(kind, k, STEPS, share));
    const momenta = steps.map((k) => (kind === "one-cycle" ? oneCycleMomentum(k, STEPS, share, "cos", 0.85, 0.95, false) : 0.9));
    const losses = expectedLoss(lrs, momenta, CURVATURES, noise), end = losses.at(-1);
    const points = (values) => values.map((v, k) => [k, Number.isFinite(v) ? Math.min(v, HIGH) : HIGH]);
    rates.y.domain = [0, 1.06 * Math.max(top, rate)];
    rates.line("constant", [[0, rate], [STEPS - 1, rate]], { color: 1, dash: "5 4", width: 2 });
    rates.line("rate", lrs.map((v, k) => [k, v]), { color: 0 });
    chart.y.domain = [LOW, end > 1 ? HIGH : 1];
    chart.line("constant", points(plain), { color: 1, dash: "5 4", width: 2 });
    chart.line("loss", points(losses), { color: 0 });
    const versus = end < plain.at(-1) ? "less than" : "more than";
    const text = `The rate begins at ${two(lrs[0])} and ends at ${two(lrs.at(-1))}. Loss after ${STEPS} steps: ${loss(end)}, `
      + `${versus} with the best constant rate (${two(rate)}: ${two(plain.at(-1))}).`;
    rates.describe(`Learning rate against the step, ${kind}. ${text}`);
    chart.describe(`Expected loss against the step. ${text}`);
    fig.say(text);
  });
}

export default { render };
