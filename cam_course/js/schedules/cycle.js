// Chapter "Schedules": the shape of one-cycle, the momentum against it, and what both do to a noisy quadratic.
import { Figure } from "../lib/figure.js";
import { choice, slider, toggle } from "../lib/controls.js";
import { beside, Plot } from "../lib/plot.js";
import { fixed, shortNumber } from "../math/scale.js";
import { expectedLoss, oneCycle, oneCycleMomentum } from "../math/schedules.js";

const STEPS = 200, CURVATURES = [0.01, 0.1, 1], NOISE = 0.1, LOW = 1e-3, HIGH = 1e4;
const rate = (v) => (v >= 1e-3 ? String(+v.toPrecision(2)) : v.toExponential(1).replace("-", "−"));
const loss = (v) => (v < HIGH ? String(+v.toPrecision(3)) : "beyond 10,000");

function render(context) {
  const fig = new Figure(context, "The one-cycle schedule: learning rate, momentum, and the loss under them");
  const [left, right] = beside(fig, 2), x = { domain: [0, STEPS - 1], label: "step", ticks: [0, 50, 100, 150] };
  const rates = new Plot(fig, { parent: left, label: "", height: 190, x, y: { label: "learning rate" },
    margin: { left: 54 } });
  const momenta = new Plot(fig, { parent: right, label: "", height: 190, x,
    y: { domain: [0.8, 1], label: "momentum", ticks: [0.8, 0.85, 0.9, 0.95, 1] } });
  const chart = new Plot(fig, { label: "", height: (w) => Math.max(200, 0.3 * w), margin: { left: 54, right: 84 },
    x: { domain: [0, STEPS], label: "step" }, y: { domain: [LOW, 10], log: true, label: "expected loss" } });

  fig.row(slider(fig, "max_lr", "highest rate", { min: 0.01, max: 1, log: true, format: rate }),
    slider(fig, "pct_start", "rising part", { min: 0.05, max: 0.95, step: 0.05, format: (v) => `${fixed(100 * v, 0)} %` }));
  fig.row(slider(fig, "div_factor", "start: max ÷", { min: 1, max: 1000, log: true, format: (v) => shortNumber(+v.toPrecision(2)) }),
    slider(fig, "final_div_factor", "end: start ÷", { min: 1, max: 1e5, log: true, format: (v) => shortNumber(+v.toPrecision(2)) }));
  fig.row(choice(fig, "anneal_strategy", "Pieces", [["cos", "cosine"], ["linear", "linear"]]),
    toggle(fig, "three_phase", "three phases"), toggle(fig, "log_axis", "log axis"));

  const shape = ["pct_start", "anneal_strategy", "div_factor", "final_div_factor", "three_phase"];
  return fig.draw(["max_lr", ...shape, "log_axis"], () => {
    const top = fig.get("max_lr"), [pct, strategy, div, finalDiv, three] = shape.map((n) => fig.get(n));
    const steps = Array.from({ length: STEPS }, (_, k) => k), flat = steps.map(() => top);
    const lrs = steps.map((k) => oneCycle(k, top, STEPS, pct, strategy, div, finalDiv, three));
    const mus = steps.map((k) => oneCycleMomentum(k, STEPS, pct, strategy, 0.85, 0.95, three));
    rates.y.log = fig.get("log_axis");
    rates.y.domain = rates.y.log ? [Math.min(...lrs) / 2, top * 2] : [0, top * 1.05];
    rates.line("constant", flat.map((v, k) => [k, v]), { color: 1, dash: "5 4", width: 1.5 });
    rates.line("rate", lrs.map((v, k) => [k, v]), { color: 0 });
    momenta.line("constant", steps.map((k) => [k, 0.9]), { color: 1, dash: "5 4", width: 1.5 });
    momenta.line("momentum", mus.map((v, k) => [k, v]), { color: 0 });
    const cycled = expectedLoss(lrs, mus, CURVATURES, NOISE);
    const plain = expectedLoss(flat, steps.map(() => 0.9), CURVATURES, NOISE);
    const points = (values) => values.map((v, k) => [k, Number.isFinite(v) ? Math.min(v, HIGH) : HIGH]);
    chart.line("plain", points(plain), { color: 1, dash: "5 4", width: 2, name: "constant" });
    chart.line("cycled", points(cycled), { color: 0, name: "one-cycle" });
    const peak = lrs.indexOf(Math.max(...lrs));
    const text = `From ${rate(lrs[0])} up to ${rate(lrs[peak])} at step ${peak}, down to ${rate(lrs.at(-1))}. `
      + `Expected loss after ${STEPS} steps: one-cycle ${loss(cycled.at(-1))}, `
      + `constant rate ${rate(top)} with momentum 0.9: ${loss(plain.at(-1))}.`;
    rates.describe(`Learning rate against the step. ${text}`);
    momenta.describe(`Momentum against the step: ${fixed(mus[0], 2)}, at the peak ${fixed(mus[peak], 2)}, `
      + `at the end ${fixed(mus.at(-1), 2)}.`);
    chart.describe(`Expected loss against the step. ${text}`);
    fig.say(text);
  });
}

export default { render };
