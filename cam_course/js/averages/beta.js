// Noisy points, their average, and what each point weighs in one value of it. The handle picks that value.
import { Figure } from "../lib/figure.js";
import { slider, toggle } from "../lib/controls.js";
import { handle } from "../lib/handle.js";
import { Plot } from "../lib/plot.js";
import { extent } from "../math/scale.js";
import { ewma, ewmaWeights } from "../math/averages.js";

const percent = (v) => `${+(100 * v).toFixed(v < 0.0995 ? 1 : 0)} %`;

function render(context) {
  const fig = new Figure(context, "Exponentially weighted average with adjustable β");
  const margin = { left: 46, right: 66 };
  const plot = new Plot(fig, { label: "", height: (w) => Math.max(180, 0.32 * w), margin: { ...margin, bottom: 22 }, y: { label: "value" } });
  const weights = new Plot(fig, { label: "", margin, height: 112,
    x: { label: "step" }, y: { label: "weight", ticks: 2, format: percent } });
  const xs = () => fig.get("xs");
  const clampStep = (t) => Math.max(1, Math.min(xs().length, Math.round(t)));
  let ys = [];
  const place = handle(plot, { label: "Step whose weights are shown; left and right arrow keys move it", step: [1, 0],
    get: () => [fig.get("step"), ys[fig.get("step") - 1]], set: ([t]) => fig.set("step", clampStep(t)),
    format: ([t, y]) => `step ${t}, average ${y.toFixed(2)}` });
  fig.row(slider(fig, "beta", "β", { min: 0, max: 0.99, step: 0.01, format: (v) => v.toFixed(2) }));
  fig.row(toggle(fig, "debias", "divide by 1 − βᵗ (removes the bias of the start)"));

  return fig.draw(["xs", "beta", "debias", "step"], () => {
    const data = xs(), n = data.length, beta = fig.get("beta"), debias = fig.get("debias"), t = clampStep(fig.get("step"));
    const w = ewmaWeights(t, beta, debias), most = Math.max(...w), memory = 1 / (1 - beta);
    ys = ewma(data, beta, debias);
    plot.x.domain = weights.x.domain = [0, n + 1];
    plot.y.domain = extent([...data, 0], 0.05);
    weights.y.domain = [0, Math.max(most, 0.01) * 1.05];

    plot.dots("data", data.map((x, i) => [i + 1, x]), { radius: 2.2, opacity: 0.55 });
    for (const [k, share] of [0.02, 0.1, 1 / Math.E, 0.75].entries())   // the more a point weighs, the bigger its dot
      plot.dots(`heavy ${k}`, data.slice(0, t).flatMap((x, i) => (w[i] >= share * most ? [[i + 1, x]] : [])),
        { color: 0, radius: 2.4 + 0.7 * k });
    plot.line("average", ys.map((y, i) => [i + 1, y]), { color: 1, width: 3, name: "average" });
    place();

    weights.bars("weights", w.map((v, i) => [i + 1, v]), { color: 0, width: 0.8 });
    const old = t - memory;
    if (old >= 0) {
      weights.rule("memory", { x: old, color: 1 });
      const room = weights.sx(old) - weights.left > 120;
      weights.text("memory words", old, weights.y.domain[1], "memory 1/(1 − β)",
        { color: 1, anchor: room ? "end" : "start", dx: room ? -6 : 6, dy: 9 });
    }

    const inside = w.slice(Math.max(0, t - Math.round(memory))).reduce((a, b) => a + b, 0);
    const total = w.reduce((a, b) => a + b, 0);
    plot.describe(`${n} noisy points and their average; at step ${t} it is ${ys[t - 1].toFixed(2)}.`);
    weights.describe(`Weights in that average: ${percent(w[t - 1])} on the newest point, fading by the factor ${beta.toFixed(2)} a step.`);
    fig.say(`β = ${beta.toFixed(2)}: the newest point weighs ${percent(w[t - 1])}, the last ${Math.min(t, Math.round(memory))} points together `
      + `${percent(inside)}. At step ${t} the weights sum to ${total.toFixed(2)}${total < 0.995 ? ": the average is too small by that factor" : ""}.`);
  });
}

export default { render };
