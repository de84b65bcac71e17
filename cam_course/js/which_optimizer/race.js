// Chapter "Which optimizer?": six optimizers, each at the best of its trials, for races of 150 to 2,000 steps.
// All is computed in Python (cam_course/which_optimizer.py); this draws it.
import { Figure } from "../lib/figure.js";
import { choice, select, slider } from "../lib/controls.js";
import { beside, Plot } from "../lib/plot.js";

const LOWEST = 1e-12, LATE = 2000;

function render(context) {
  const fig = new Figure(context, "Six optimizers, each tuned for a race of a length to choose");
  const [left, right] = beside(fig, 2), height = () => (fig.root.clientWidth < 500 ? 190 : 250);
  const chart = new Plot(fig, { parent: left, label: "", height, margin: { left: 50, right: 10 },
    x: { domain: [1, LATE], log: true, label: "step" },
    y: { domain: [LOWEST, 100], log: true, label: "loss (mean over starts)" } });
  const board = new Plot(fig, { parent: right, label: "", height, margin: { left: 34, right: 88 },
    x: { domain: [150, LATE], log: true, label: "length of the race", ticks: [150, 400, 1000], format: String },
    y: { domain: [-14, 0], label: "score: the lower, the better", ticks: [0, -4, -8, -12] } });
  fig.row(select(fig, "surface", "Surface", [["bowl", "bowl"], ["ravine", "ravine"], ["tilted ravine", "tilted ravine"]]),
    choice(fig, "knobs", "What is tuned", [["rate", "tune the rate"], ["both", "rate and memory"]]));
  fig.row(slider(fig, "horizon", "length of the race", { min: 150, max: LATE, log: true, steps: 8,
    format: (v) => v.toLocaleString("en") }));

  return fig.draw(["surface", "knobs", "horizon"], () => {
    const { horizons, steps, races } = fig.get("data"), horizon = fig.get("horizon");
    const racers = races[fig.get("surface")][fig.get("knobs")];
    const at = horizons.reduce((best, h, i) => (Math.abs(h - horizon) < Math.abs(horizons[best] - horizon) ? i : best), 0);
    const here = racers.map(({ name, scores, settings, best, curves }, i) => {
      const points = curves[best[at]].split(" ").map((v, k) => [steps[k], 10 ** Number(v)]);
      return { name, color: i, score: scores[at], setting: settings[best[at]],
        before: points.filter(([t]) => t <= horizon), after: points.filter(([t], k) => (steps[k + 1] ?? t + 1) > horizon) };
    });
    here.forEach(({ name, color, before, after }) => {
      chart.line(`after ${name}`, after, { color, width: 1.2, opacity: 0.55 });
      chart.line(name, before, { color, width: 2.2 });
    });
    chart.rule("end", { x: horizon, color: "--ink" });
    board.rule("end", { x: horizon, color: "--ink" });
    racers.forEach(({ name, scores }, i) => {
      board.line(name, scores.map((v, k) => [horizons[k], v]), { color: i, width: 2, name });
      board.dots(`dot ${name}`, [[horizons[at], scores[at]]], { color: i, radius: 4.5 });
    });

    const order = here.toSorted((a, b) => a.score - b.score);
    const ranking = order.map(({ name, score, setting }) => `${name} ${score.toFixed(1).replace("-", "−")} (${setting})`).join(", ");
    const risen = here.filter(({ before, after }) => after.at(-1)[1] > 100 * before.at(-1)[1]);
    const text = `Tuned for ${horizon.toLocaleString("en")} steps: ${ranking}.`
      + (risen.length ? ` Run on, ${risen.map(({ name, after }) =>
        `${name} comes back up to ${after.at(-1)[1].toExponential(0).replace("-", "−")}`).join(", ")}.` : "");
    chart.describe(`Loss against the step; after the end of the race the lines go on, thin. ${text}`);
    board.describe(`Score of each optimizer against the length of the race. ${text}`);
    fig.say(text);
  });
}

export default { render };
